/** Every fenced block of the documentation is of a kind that a test runs, or is listed below with the reason why none can. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { build } from "esbuild";
import ts from "typescript";
import { expect, test } from "vitest";
import { program } from "../../src/cli/program.js";
import { conformRecording } from "../../src/conform/conform.js";
import { parseRecording } from "../../src/conform/recording.js";
import { parseLitmus } from "../../src/litmus/parser.js";
import { failures, runAll } from "../guest/run.js";
// @ts-expect-error a tool without types
import { isKnown } from "../../tools/readme.mjs";

interface Block {
  readonly file: string;
  readonly line: number;
  /** Behind the fence: the language, then perhaps a file's name. */
  readonly kind: string;
  readonly body: string;
}

const files = ["README.md", "CONTRIBUTING.md", ...readdirSync("docs").filter((f) => f.endsWith(".md")).map((f) => `docs/${f}`)]; // prettier-ignore
const blocks = files.flatMap((file) => {
  const text = readFileSync(file, "utf8");
  return [...text.matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)].map((m): Block => ({
    file,
    line: text.slice(0, m.index).split("\n").length,
    kind: m[1]!.split(" ")[0]!,
    body: m[2]!,
  }));
});
const of = (kind: string): [string, Block][] => blocks.filter((b) => b.kind === kind).map((b) => [`${b.file}:${b.line}`, b]);

/** What cannot be run: [file, how the block begins, why]. */
const DRAWN: readonly (readonly [string, string, string])[] = [
  ["README.md", "  guest instruction", "a drawing"],
  ["docs/architecture.md", " guest script", "a drawing"],
  ["docs/memory-model.md", " str x1", "a drawing"],
  ["docs/memory-model.md", " str w2", "a drawing"],
  ["docs/ordering.md", " str x1", "a drawing"],
];
/** Settings of editors that are not here; test/editor starts the server with the same words. */
const EDITORS = ["lua", "vim", "elisp"];
/** Programs in shell blocks beside faultline, and why the tests do not start them. */
const NOT_STARTED: Readonly<Record<string, string>> = {
  npm: "what CI itself runs: npm ci, npm test, npm start; npm run build:vscode is built by test/editor/extension.test.ts",
  code: "an editor that is not here",
  strace: "wants a virtual machine under KVM",
  "recorder/record.sh": "wants an arm64 host's /dev/kvm, or a kernel to boot; test/recorder runs it",
  mapfile: "bash's own: what recorder/kernel.sh has fetched",
  "trace-cmd": "wants the recording of a real host",
  "redis-server": "a service; test/campaign/queue.test.ts starts one",
};

test("every block has a kind that is tested", () => {
  const known = ["console", "guest", "litmus", "ts", "sh", "text", "rec", ...EDITORS];
  expect(blocks.filter((b) => !known.includes(b.kind)).map((b) => `${b.file}:${b.line}: ${b.kind}`)).toEqual([]);
  expect(blocks.length).toBeGreaterThan(50);
});

test("a text block is a drawing that is listed here", () => {
  const texts = blocks.filter((b) => b.kind === "text").map((b) => [b.file, b.body.split("\n")[0]!] as const);
  const listed = (file: string, line: string): boolean => DRAWN.some(([f, begins]) => f === file && line.startsWith(begins));
  expect(texts.filter(([file, line]) => !listed(file, line))).toEqual([]);
  expect(DRAWN.filter(([file, begins]) => !texts.some(([f, line]) => f === file && line.startsWith(begins)))).toEqual([]);
});

test("every command of a console block is one that test/docs/outputs.test.ts runs", () => {
  const commands = of("console").flatMap(([at, b]) => [...b.body.matchAll(/^\$ (.*)$/gm)].map((m) => [at, m[1]!] as const));
  expect(commands.filter(([, c]) => !(isKnown as (command: string) => boolean)(c))).toEqual([]);
  expect(of("console").filter(([, b]) => !b.body.startsWith("$ ")).map(([at]) => at)).toEqual([]); // prettier-ignore
});

test.each(of("guest"))("the script at %s runs and meets its expectations", (at, { body }) => {
  expect(failures(runAll(body, { file: at }))).toEqual([]);
});

test.each(of("litmus"))("the litmus test at %s is one", (at, { body }) => {
  expect(parseLitmus(at, body)).toHaveLength(1);
});

test.each(EDITORS.flatMap(of))("the editor's settings at %s start the server as the tests do", (_, { body }) => {
  expect(body.replace(/["',\s]+/g, " ")).toContain("faultline lsp --stdio");
});

/** The commands with their words and options, but doing nothing. */
function parserOnly(): Command {
  const root = program(() => undefined);
  const quiet = (c: Command): void => {
    c.exitOverride().configureOutput({ writeErr: () => undefined });
    if (c.commands.length === 0) c.action(() => undefined);
    c.commands.forEach(quiet);
  };
  quiet(root);
  return root;
}
test.each(of("rec"))("the commands at %s are of the recorded language: each is carried out", (at, { body }) => {
  const recording = parseRecording(at, `# kernel v6.12.117, cpu max\nscenario documented\n${body}`);
  expect(recording.steps.length).toBe(body.trim().split("\n").length);
  // Throws for a command that is none; that nothing was recorded of them is not asked here.
  conformRecording(recording);
});

test.each(of("sh"))("the commands at %s exist with these options, or are listed with the reason why they are not started", async (_, b) => {
  const commands = b.body
    .split("\n")
    .map((l) => l.replace(/(^|\s)#.*$/, "").trim())
    .filter((l) => l !== "")
    .flatMap((l) => l.split(/\s*(?:&&|\|)\s*/));
  for (const command of commands) {
    const [first, ...rest] = command.replace(/^npx /, "").split(/\s+/);
    if (first === "faultline") await parserOnly().parseAsync(rest, { from: "user" });
    else expect(Object.keys(NOT_STARTED)).toContain(first);
  }
});

test("the programs in TypeScript compile against the library's types, and run against the built library", async () => {
  const folder = "dist/docs-test";
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const names = of("ts").map(([at, b]) => {
    const name = join(folder, `${at.replace(/[^\w]/g, "-")}.mts`);
    writeFileSync(name, b.body);
    return name;
  });
  expect(names.length).toBeGreaterThan(1);
  // npm ci writes the declarations; a plain npm run build does not.
  const types = existsSync("dist/types/index.d.ts") ? "./dist/types/index.d.ts" : "./src/index.ts";
  const compiled = ts.createProgram(names, {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: ["node"],
    paths: { faultline: [types] },
  });
  const wrong = names.flatMap((n) => compiled.getSemanticDiagnostics(compiled.getSourceFile(n)));
  expect(wrong.map((d) => `${d.file?.fileName ?? ""}: ${ts.flattenDiagnosticMessageText(d.messageText, "\n")}`)).toEqual([]);
  for (const name of names) {
    const outfile = name.replace(/\.mts$/, ".mjs");
    await build({ entryPoints: [name], outfile, format: "esm", logLevel: "error" });
    // Throws with what it printed if it fails. "faultline" is this package by its own name.
    execFileSync(process.execPath, [outfile], { encoding: "utf8" });
  }
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

const TASKS = ["why-efault.md", "which-kernel-maps-my-bar.md", "show-me-the-race.md", "what-dirty-logging-costs.md"];
test("the index names every page, and each page of a task begins with a command and its output", () => {
  const index = readFileSync("docs/README.md", "utf8");
  expect(files.filter((f) => f.startsWith("docs/") && f !== "docs/README.md" && !index.includes(`(${f.slice(5)})`))).toEqual([]);
  expect(TASKS.filter((t) => blocks.find((b) => b.file === `docs/${t}`)?.kind !== "console" || !index.includes(`(${t})`))).toEqual([]);
  // Not behind a lecture: within its first lines.
  expect(TASKS.filter((t) => blocks.find((b) => b.file === `docs/${t}`)!.line > 8)).toEqual([]);
});
