/** The bench of garbage as a test: V8 compiles at once where it decides to, so that two runs decide alike. */
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import type { BenchReport } from "../../bench/harness.js";

function garbage(...flags: string[]): BenchReport {
  const args = ["--no-concurrent-recompilation", ...flags, "dist/bench.js", "garbage", "--quick", "--alone"];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as BenchReport;
}

test("a steady loop of faults leaves nothing to the garbage collector", () => {
  expect(garbage().failed).toEqual([]);
});

test("where V8 boxes addresses, because it inlines nothing, the bench says how much a fault leaves", () => {
  expect(garbage("--no-turbo-inlining").failed).toEqual([
    expect.stringMatching(/^garbage: a fault leaves \d+\.\d bytes of garbage, not at most 8$/),
  ]);
});
