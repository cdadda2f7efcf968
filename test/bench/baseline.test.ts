import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { regressions, saveBaseline, type BenchReport } from "../../bench/harness.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "faultline-baseline-"));
  writeFileSync(join(folder, "tolerance.json"), `{ "default": 0.4, "b": 0.6 }`);
});
afterEach(() => rmSync(folder, { recursive: true }));

function report(cpu: string, quick: boolean, ratios: Readonly<Record<string, number>>): BenchReport {
  const results = Object.entries(ratios).map(([name, ratio]) => ({
    name,
    unit: "ops",
    ops: 1,
    median: 1,
    p99: 1,
    relativeError: 0,
    samples: 1,
    ratio,
    compares: "",
    notes: [],
  }));
  return { commit: "c", node: "v20", cpu, quick, calibration: 1, results, failed: [] };
}
const slower = (cpu: string, quick: boolean, ratios: Readonly<Record<string, number>>): string[] =>
  regressions(report(cpu, quick, ratios), folder).map((line) => line.split(":", 1)[0]!);

test("a processor is compared with itself, under the tolerance of each workload", () => {
  saveBaseline(report("fast", false, { a: 10, b: 10 }), folder);
  saveBaseline(report("slow", false, { a: 2, b: 2 }), folder);
  expect(slower("fast", false, { a: 6, b: 4 })).toEqual([]);
  expect(slower("fast", false, { a: 5.9, b: 3.9 })).toEqual(["a", "b"]);
  expect(slower("slow", false, { a: 1.2, b: 0.7 })).toEqual(["b"]);
});

test("a processor that nobody measured is compared with the slowest of the known", () => {
  saveBaseline(report("fast", false, { a: 10 }), folder);
  saveBaseline(report("slow", false, { a: 2 }), folder);
  expect(slower("new", false, { a: 1.2 })).toEqual([]);
  expect(slower("new", false, { a: 1.1 })).toEqual(["a"]);
  saveBaseline(report("new", true, { a: 1 }), folder);
  expect(slower("new", false, { a: 1.1 })).toEqual(["a"]);
});

test("a quick run is compared with quick runs, and with nothing where there is none", () => {
  saveBaseline(report("fast", false, { a: 10 }), folder);
  expect(slower("fast", true, { a: 1 })).toEqual([]);
  saveBaseline(report("fast", true, { a: 4 }), folder);
  expect(slower("fast", true, { a: 1 })).toEqual(["a"]);
  expect(slower("fast", false, { a: 6 })).toEqual([]);
});

test("a quick run may lose what the tolerance gives quick runs, where that is more", () => {
  writeFileSync(join(folder, "tolerance.json"), `{ "default": 0.4, "quick": 0.6, "b": 0.7 }`);
  saveBaseline(report("fast", true, { a: 10, b: 10 }), folder);
  saveBaseline(report("fast", false, { a: 10 }), folder);
  expect(slower("fast", true, { a: 4.1, b: 3.1 })).toEqual([]);
  expect(slower("fast", true, { a: 3.9, b: 2.9 })).toEqual(["a", "b"]);
  expect(slower("fast", false, { a: 5.9 })).toEqual(["a"]);
});

test("a baseline of some workloads leaves the others and the other processors as they were", () => {
  saveBaseline(report("fast", false, { a: 10, b: 10 }), folder);
  saveBaseline(report("slow", false, { a: 2 }), folder);
  saveBaseline(report("fast", false, { b: 5 }), folder);
  const saved = JSON.parse(readFileSync(join(folder, "baseline.json"), "utf8")) as unknown;
  const of = (ratios: object): object => ({ commit: "c", node: "v20", ratios, quick: {} });
  expect(saved).toEqual({ fast: of({ a: 10, b: 5 }), slow: of({ a: 2 }) });
});
