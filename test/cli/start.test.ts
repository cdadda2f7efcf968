/** The executable starts the command from one file, with the code that V8 compiled for it: src/faultline.ts, tools/onefile.mjs. */
import { spawnSync } from "node:child_process";
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { CLI, temporaryFolder } from "./command.js";

const SCRIPT = "guest { mov x0, 1 }\nexpect x0 == 1\n";
const run = (cli: string, args: readonly string[], flags: readonly string[] = []) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, cli, ...args], { input: SCRIPT, encoding: "utf8" });
  return { status, stdout, stderr };
};

/** A copy of the built command, with the packages that it asks for. */
function copy(): string {
  const folder = temporaryFolder();
  cpSync(dirname(CLI), join(folder, "dist"), { recursive: true });
  symlinkSync(join(process.cwd(), "node_modules"), join(folder, "node_modules"));
  return join(folder, "dist");
}

test("V8 takes the compiled code of the build, and it holds functions that a run needs", () => {
  const folder = copy();
  // The exported script says whether its compiled code was refused.
  const asked = `process.stdout.write = () => true; process.argv = [process.execPath, "", "--version"];
    const { script } = require(${JSON.stringify(join(folder, "faultline.cjs"))}); console.error(script.cachedDataRejected)`;
  expect(spawnSync(process.execPath, ["-e", asked], { encoding: "utf8" }).stderr).toBe("false\n");
  expect(readFileSync(join(folder, "command.cache")).length).toBeGreaterThan(500_000);
});

test("without compiled code, with damaged code, and with the code of other flags, a run says the same", () => {
  const folder = copy();
  const cli = join(folder, "faultline.cjs");
  const expected = run(CLI, ["run", "-"]);
  expect(expected).toMatchObject({ status: 0, stderr: "" });
  expect(run(cli, ["run", "-"], ["--no-lazy-feedback-allocation"])).toEqual(expected);
  writeFileSync(join(folder, "command.cache"), "no compiled code");
  expect(run(cli, ["run", "-"])).toEqual(expected);
  rmSync(join(folder, "command.cache"));
  expect(run(cli, ["run", "-"])).toEqual(expected);
});

test("it says what the bundled modules say, also of wrong input", () => {
  for (const args of [["run", "-", "--json"], ["run", "-", "--kernel", "v5.55"], ["kernels", "v5.5"], ["rnu"], ["attrs", "--s1", "0xff"]])
    expect(run(CLI, args)).toEqual(run(join(dirname(CLI), "cli.js"), args));
});

test("what cannot be in one file is loaded from beside it: charts and threads", () => {
  const drawn = run(CLI, ["measure", "2019-munmap-remap", "--kernels", "v5.5", "--format", "svg"]);
  expect(drawn.stdout).toMatch(/^<svg/);
  expect(drawn.status).toBe(0);
  expect(createRequire(CLI).resolve("tinypool")).toContain("node_modules");
  expect(run(CLI, ["fuzz", "--runs", "20", "--seed", "1", "--jobs", "2"])).toMatchObject({ status: 0 });
});
