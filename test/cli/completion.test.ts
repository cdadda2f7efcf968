import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { CPU_PROFILES } from "../../src/arch/features.js";
import { decisionNames, DECISIONS } from "../../src/eras.js";
import { eraNames } from "../../src/guest/machineworld.js";
import { scenarioNames } from "../../src/cli/load.js";
import { faultline, temporaryFolder } from "./command.js";

/** The script as a file, as users have it: an argument of a command may not be so long. */
async function scriptFile(shell: string): Promise<string> {
  const file = join(temporaryFolder(), shell);
  writeFileSync(file, (await faultline(["completion", shell])).out);
  return file;
}

let script = "";
beforeAll(async () => {
  script = await scriptFile("bash");
}, 120_000);

/** What bash offers for the last of these words, which is the one under the cursor. */
function offered(...line: string[]): string[] {
  const words = ["faultline", ...line];
  const r = spawnSync(
    "bash",
    [
      "--norc",
      "-c",
      `source ${script}\nCOMP_WORDS=("$@"); COMP_CWORD=${words.length - 1}; _faultline; printf '%s\\n' "\${COMPREPLY[@]}"`,
      "bash",
      ...words,
    ],
    {
      encoding: "utf8",
      cwd: "/",
    },
  );
  expect(r.stderr).toBe("");
  return r.stdout.split("\n").filter((w) => w !== "");
}

test("the first word is a command, by its beginning", () => {
  expect(offered("com")).toEqual(["compare", "completion"]);
  expect(offered("")).toEqual(expect.arrayContaining(["run", "dump", "kernels", "help"]));
});

test("--kernel takes each era, with a space or with =", () => {
  expect(offered("run", "x.guest", "--kernel", "")).toEqual(eraNames());
  expect(offered("run", "--kernel", "=", "v5")).toEqual(eraNames().filter((e) => e.startsWith("v5")));
});

test("--kernels takes eras separated by commas, and what stands before the comma stays", () => {
  expect(offered("compare", "x.guest", "--kernels", "v5.4,v5.5")).toEqual(["v5.4,v5.5"]);
});

test("--set takes each decision with each of its values, and after the = bash replaces the value alone", () => {
  const [name, decision] = Object.entries(DECISIONS.kvm)[0] as [string, { readonly values: readonly unknown[] }];
  const values = decision.values.map(String);
  expect(offered("run", "x.guest", "--set", name).filter((w) => w.startsWith(`${name}=`))).toEqual(values.map((v) => `${name}=${v}`));
  expect(offered("run", "x.guest", "--set", name, "=")).toEqual(values);
});

test("an argument that may be a scenario is offered the scenarios, and files", () => {
  expect(offered("run", "2019-munmap")).toEqual(["2019-munmap-remap"]);
  expect(offered("scenarios", "")).toEqual(scenarioNames());
  expect(offered("run", "/et")).toEqual(["/etc"]);
});

test("--cpu takes the CPU profiles and --feature the decisions, no files", () => {
  expect(offered("run", "x.guest", "--cpu", "")).toEqual(Object.keys(CPU_PROFILES));
  expect(offered("kernels", "--feature", "exec")).toEqual(decisionNames().filter((d) => d.startsWith("exec")));
});

test("a list that many options take stands once in each script", async () => {
  const decision = decisionNames()[0]!;
  for (const shell of ["bash", "zsh", "fish"]) {
    const text = (await faultline(["completion", shell])).out;
    const times = (word: string): number => text.split(word).length - 1;
    expect([shell, times(`${decision}=`), times("2019-munmap-remap"), times(" v5.14 ")]).toEqual([
      shell,
      DECISIONS.mm.hostTlbiRange.values.length,
      1,
      1,
    ]);
  }
});

test("an option with choices is offered them, and a dash the options", () => {
  expect(offered("dump", "x.guest", "--what", "st")).toEqual(["stage2"]);
  expect(offered("completion", "--f")).toEqual(["--format"]);
  expect(offered("completion", "")).toEqual(["bash", "zsh", "fish"]);
});

const has = (shell: string): boolean => spawnSync(shell, ["--version"]).status === 0;
test.runIf(has("zsh"))("the zsh script is one that zsh reads, and its table answers the same", async () => {
  const file = await scriptFile("zsh");
  const code = `compdef() { : }\nsource ${file}\n_faultline_find "$@"; print -r -- "$offer"`;
  const r = spawnSync("zsh", ["-f", "-c", code, "zsh", "v5", "run", "x.guest", "--kernel"], { encoding: "utf8" });
  expect([r.stderr, r.stdout]).toEqual(["", `${eraNames().join(" ")}\n`]);
});
test.runIf(has("fish"))("fish offers the eras for --kernel and the commands by their beginning", async () => {
  const file = await scriptFile("fish");
  const ask = (line: string): string[] => {
    const r = spawnSync("fish", ["--no-config", "-c", `source ${file}\ncomplete -C ${JSON.stringify(line)}`], {
      encoding: "utf8",
      env: { ...process.env, HOME: "/tmp" },
    });
    expect(r.stderr).toBe("");
    return r.stdout
      .split("\n")
      .map((l) => l.split("\t")[0]!)
      .filter((w) => w !== "");
  };
  expect(ask("faultline run x.guest --kernel v5.4")).toEqual(eraNames().filter((e) => e.startsWith("v5.4")));
  expect(ask("faultline com")).toEqual(["compare", "completion"]);
});

test("another shell is wrong input", async () => {
  const r = await faultline(["completion", "tcsh"]);
  expect(r.status).toBe(2);
  expect(r.err).toMatch(/Allowed choices are bash, zsh, fish/);
});
