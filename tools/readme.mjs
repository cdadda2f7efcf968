// Runs every `$ npx faultline …` and `$ npm start` of the documentation and compares, or with --write
// replaces, the output below it. A block's last line `…` stands for the rest of a longer output.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { writeWhole } from "./writewhole.mjs";

const CLI = resolve("dist/faultline.cjs");

/** Where a text's commands run: here, or in a folder with the files that it gives, ```guest race.guest. */
export function folderOf(text) {
  const files = [...text.matchAll(/```guest (\S+)\n([\s\S]*?)```/g)];
  if (files.length === 0) return process.cwd();
  const folder = mkdtempSync(join(tmpdir(), "faultline-docs-"));
  for (const [, name, body] of files) writeFileSync(join(folder, name), body);
  return folder;
}

/** The output of one documented command, as a reader without a terminal sees it. */
export function run(command, cwd = process.cwd()) {
  if (!isOurs(command)) {
    const { stdout, stderr } = spawnSync("bash", ["-c", command], { encoding: "utf8", cwd });
    return (stdout + stderr).trimEnd();
  }
  // printf 'a\nb\n' | npx faultline …: what is printed is the standard input.
  const piped = /^printf '([^']*)' \| (npx faultline .*)$/.exec(command);
  const words = (piped === null ? command : piped[2])
    .replace(/^npm start$/, "npx faultline demo")
    .match(/'[^']*'|\S+/g)
    .map((w) => w.replace(/^'|'$/g, ""));
  const { stdout, stderr } = spawnSync(process.execPath, [CLI, ...words.slice(2)], {
    encoding: "utf8",
    cwd,
    env: { ...process.env, NO_COLOR: "1" },
    ...(piped === null ? {} : { input: piped[1].replaceAll("\\n", "\n") }),
  });
  return (stdout + stderr).trimEnd();
}

/** The console blocks of a text: where they stand, their commands and what is written below each. */
export function blocks(text) {
  const out = [];
  for (const m of text.matchAll(/```console\n([\s\S]*?)```/g)) {
    const body = m[1];
    const parts = body.split(/^(?=\$ )/m).filter((p) => p.trim() !== "");
    out.push({
      index: m.index,
      whole: m[0],
      parts: parts.map((p) => ({ command: p.split("\n")[0].slice(2).trim(), output: p.slice(p.indexOf("\n") + 1).trimEnd() })),
    });
  }
  return out;
}

/** Other programs whose output the documentation shows: run where they are installed. */
const OTHERS = ["ls", "trace-cmd"];
const canRun = (command) => {
  const program = command.split(" ")[0];
  return OTHERS.includes(program) && spawnSync(program, ["--version"]).error === undefined;
};
/** Whether the tests run a command of a console block at all. */
export const isKnown = (command) => isOurs(command) || OTHERS.includes(command.split(" ")[0]);

const isOurs = (command) => /^(printf '[^']*' \| )?npx faultline /.test(command) || command === "npm start";

/** What should stand below the command, given what stands there now. */
export function expectedOutput({ command, output }, cwd = process.cwd()) {
  if (!isOurs(command) && !canRun(command)) return output;
  const real = run(command, cwd);
  if (!output.endsWith("\n…") && output !== "…") return real;
  const lines = output.split("\n").length - 1;
  return [...real.split("\n").slice(0, Math.max(lines, 1)), "…"].join("\n");
}

if (process.argv[1]?.endsWith("readme.mjs")) {
  const write = process.argv.includes("--write");
  for (const file of process.argv.slice(2).filter((a) => !a.startsWith("--"))) {
    let text = readFileSync(file, "utf8");
    let stale = 0;
    const cwd = folderOf(text);
    for (const block of blocks(text)) {
      const fresh = "```console\n" + block.parts.map((p) => `$ ${p.command}\n${expectedOutput(p, cwd)}`.trimEnd() + "\n").join("") + "```";
      if (fresh === block.whole) continue;
      stale++;
      text = text.replace(block.whole, () => fresh);
    }
    if (write && stale > 0) writeWhole(file, text);
    console.log(`${file}: ${stale} block(s) ${write ? "rewritten" : "differ"}`);
    if (!write && stale > 0) process.exitCode = 1;
  }
}
