/** Where commands write to: whole files in the place that was named, never in place of something that is no file; and what a refusal says. */
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CLI, faultline, temporaryFolder } from "./command.js";
import { wrong } from "./jsonschema.js";

const FLAT = "  0000000040000000-0000000047ffffff (prio 0, ram): mach-virt.ram KVM\n";
const WRITERS: readonly [name: string, args: string[], input?: string][] = [
  ["run --trace", ["run", "2012-demand-fault", "--kernel", "v6.12", "--quiet", "--trace-format", "jsonl", "--trace"]],
  ["report -o", ["report", "2012-demand-fault", "-o"]],
  ["explore --output", ["explore", "2023-vma-lookup-race", "--kernel", "v6.1", "--output"]],
  ["import -o", ["import", "mtree", "-", "-o"], `FlatView #0\n AS "memory", root: system\n Root memory region: system\n${FLAT}`],
];

describe.each(WRITERS)("%s", (_, args, input) => {
  const write = (file: string) => faultline([...args, file], input === undefined ? {} : { input });
  test("leaves a device or a pipe as it is: status 2", async () => {
    const dir = temporaryFolder();
    const pipe = join(dir, "pipe");
    expect(spawnSync("mkfifo", [pipe]).status).toBe(0);
    const r = await write(pipe);
    expect(r.err).toMatch(/pipe cannot be written: it is a device, a pipe or a socket; name a file\n$/);
    expect(r.status).toBe(2);
    expect(lstatSync(pipe).isFIFO()).toBe(true);
    expect(readdirSync(dir)).toEqual(["pipe"]);
  });
  test("writes to the file behind a symbolic link", async () => {
    const dir = temporaryFolder();
    const [file, link] = [join(dir, "file"), join(dir, "link")];
    writeFileSync(file, "old");
    symlinkSync("file", link);
    expect((await write(link)).status).toBeLessThan(2);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readFileSync(file, "utf8")).not.toBe("old");
    expect(readdirSync(dir).sort()).toEqual(["file", "link"]);
  });
});

test.skipIf(!existsSync("/dev/full"))("a full disk under the standard output: one error, status 2", () => {
  for (const args of ["kernels", "--help", "run 2012-demand-fault --json"]) {
    const { status, stderr } = spawnSync("bash", ["-c", `"${process.execPath}" "${CLI}" ${args} > /dev/full`], { encoding: "utf8" });
    expect(stderr, args).toBe("error: standard output: no space left on device (write)\n");
    expect(status).toBe(2);
  }
});

test("a folder that cannot be made is wrong input, not a defect", async () => {
  const file = join(temporaryFolder(), "file");
  writeFileSync(file, "");
  for (const kind of [[], ["--hostile"], ["--compare", "v6.8,v6.9"]]) {
    const r = await faultline(["fuzz", "--runs", "1", "--corpus", file, ...kind]);
    expect(r.err).toBe(`error: ${file}: file already exists (mkdir)\n`);
    expect(r.status).toBe(2);
  }
});

test("import -o FILE --json: the script goes into the file, the JSON to standard output", async () => {
  const file = join(temporaryFolder(), "vmm.guest");
  const args = ["import", "mtree", "-", "--json"];
  const input = WRITERS.find(([name]) => name === "import -o")![2]!;
  const without = await faultline(args, { input });
  const { out, status } = await faultline([...args, "-o", file], { input });
  expect(status).toBe(0);
  expect(out).toBe(without.out);
  expect(readFileSync(file, "utf8")).toBe((JSON.parse(out) as { script: string }).script);
});

test("what a hostile campaign has found is told also where it cannot be written, with the input: status 2", async () => {
  const cwd = temporaryFolder();
  const args = ["fuzz", "--hostile", "--runs", "1", "--corpus", "c", "--json"];
  expect((await faultline(args, { cwd })).status).toBe(0);
  // The campaign's one unit, as if it had found something.
  const found = { kind: "an exception", door: "run", from: "x.guest", unit: 0, number: 0, input: "Zm9v" };
  const unit = { runs: 1, answers: { accepted: 0, refused: 0, budget: 0 }, found: [found], counts: { [found.kind]: 1 } };
  writeFileSync(join(cwd, "c/results.jsonl"), `0 ${JSON.stringify(unit)}\n`);
  writeFileSync(join(cwd, "c/hostile"), "");
  const r = await faultline([...args, "--resume"], { cwd });
  const report = JSON.parse(r.out) as object;
  expect(wrong("fuzz-hostile", report)).toBe("");
  expect(report).toMatchObject({ failures: [{ kind: "an exception", file: null, input: "Zm9v" }], error: { file: "c/hostile" } });
  expect([r.status, r.err]).toEqual([2, "error: c/hostile: file already exists (mkdir)\n"]);
});

test("what a comparison has found is told also where it cannot be written: status 2", async () => {
  const cwd = temporaryFolder();
  mkdirSync(join(cwd, "c"));
  writeFileSync(join(cwd, "c/differences"), "");
  const r = await faultline(["fuzz", "--compare", "v6.8,v6.9", "--runs", "1", "--seed", "10", "--corpus", "c", "--json"], { cwd });
  const report = JSON.parse(r.out) as object;
  expect(wrong("fuzz-compare", report)).toBe("");
  expect(report).toMatchObject({ classes: [{ file: null }], error: { file: "c/differences" } });
  expect([r.status, r.err]).toEqual([2, "error: c/differences: file already exists (mkdir)\n"]);
});
