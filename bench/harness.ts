/**
 * Runs workloads under benny, and compares: ops per second as ratios against a calibration loop of the same process,
 * so that a slower machine fails nothing, with those that this processor had (bench/baseline.json), under the
 * tolerances of bench/tolerance.json.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { writeWhole } from "../src/cli/writefile.js";
import { loadBenny, start, stop } from "./clock.js";

/** One thing that is measured. */
export interface Workload {
  readonly name: string;
  /** What it compares, and why it matters: printed before the table. */
  readonly compares: string;
  /** What one operation is. */
  readonly unit: string;
  /** Operations of one run. */
  readonly ops: number;
  /** Operations per second that this project promises; not a test's limit. */
  readonly floor?: number;
  /** A quick bench need not warm it up: making it has run it, or each run is a process of its own. */
  readonly warm?: boolean;
  /** Before every run, not timed. */
  prepare(): void;
  /** What is timed. */
  run(): void;
  /** After every run, not timed. @throws Error if the run did not do what it claims */
  check(): void;
  /** Lines to print under the table: memory per page, a curve. */
  notes?(): string[];
}

/** Makes a workload. @param quick about a tenth of the work */
export type WorkloadFactory = (quick: boolean) => Workload;

export interface BenchResult {
  readonly name: string;
  readonly unit: string;
  /** Operations per second, mean. */
  readonly ops: number;
  /** Nanoseconds per operation: median and 99th percentile of the samples. */
  readonly median: number;
  readonly p99: number;
  /** Half width of the 95 % confidence interval, per cent of the mean. */
  readonly relativeError: number;
  readonly samples: number;
  /** Operations per second by the median, in a quick run by the best sample, divided by the calibration loop's iterations per second. */
  readonly ratio: number;
  readonly floor?: number;
  /** What it compares, and what else it found. */
  readonly compares: string;
  readonly notes: readonly string[];
}

export interface BenchReport {
  readonly commit: string;
  readonly node: string;
  readonly cpu: string;
  readonly quick: boolean;
  /** Iterations per second of the calibration loop. */
  readonly calibration: number;
  readonly results: readonly BenchResult[];
  /** Workloads that did not do what they claim, with the reason. */
  readonly failed: readonly string[];
}

/** Per name: the share of the baseline's ratio that may be lost; "default" for the others, "quick" at least in a quick run: two samples of code that is half compiled. */
type Tolerance = Readonly<Record<string, number>>;
type Ratios = Readonly<Record<string, number>>;
/** Which of a baseline's ratios a report is compared with. */
const kindOf = ({ quick }: BenchReport): "quick" | "ratios" => (quick ? "quick" : "ratios");
/** What one processor did. The ratio to the calibration loop still differs between processors, and a quick run is not compiled to the end. */
interface Baseline {
  readonly commit: string;
  readonly node: string;
  readonly ratios: Ratios;
  readonly quick: Ratios;
}
/** bench/baseline.json: by the processor's name. */
type Baselines = Readonly<Record<string, Baseline>>;

const WALK_WORDS = 1 << 16;
const WALK_STEPS = 1 << 20;

/** The calibration loop: dependent loads through a 256 KiB table, integer arithmetic; what an emulator's inner loop is made of. */
export function calibrationLoop(): number {
  const table = new Int32Array(WALK_WORDS);
  for (let i = 0; i < WALK_WORDS; i++) table[i] = (Math.imul(i, 40503) + 12345) & (WALK_WORDS - 1);
  let at = 1;
  let sum = 0;
  for (let n = 0; n < WALK_STEPS; n++) {
    at = table[at]! ^ (n & 1);
    sum = (sum + at) | 0;
  }
  return sum;
}

/** Iterations per second: the best of several, so that a busy machine does not flatter the ratios. */
export function calibrate(rounds: number): number {
  let best = 0;
  for (let i = 0; i < rounds; i++) {
    const before = process.hrtime.bigint();
    calibrationLoop();
    best = Math.max(best, (WALK_STEPS * 1e9) / Number(process.hrtime.bigint() - before));
  }
  return best;
}

/** Runs one workload in this process; benny's own chatter is dropped. */
export async function runWorkload(factory: WorkloadFactory, quick: boolean): Promise<BenchReport> {
  const benny = await loadBenny();
  const calibration = calibrate(quick ? 4 : 12);
  const results: BenchResult[] = [];
  const failed: string[] = [];
  const w = factory(quick);
  try {
    results.push(await measure(benny, w, calibration, quick));
  } catch (e) {
    failed.push(`${w.name}: ${firstLine(e)}`);
  }
  return { commit: commit(), node: process.version, cpu: cpus()[0]?.model.trim() ?? "unknown", quick, calibration, results, failed };
}

/** One report of several; the calibration is the best of theirs. */
export function mergeReports(reports: readonly BenchReport[]): BenchReport {
  return {
    ...reports[0]!,
    calibration: Math.max(...reports.map((r) => r.calibration)),
    results: reports.flatMap((r) => r.results),
    failed: reports.flatMap((r) => r.failed),
  };
}

function firstLine(e: unknown): string {
  return (e instanceof Error ? e.message : String(e)).split("\n", 1)[0]!;
}

async function measure(benny: typeof import("benny"), w: Workload, calibration: number, quick: boolean): Promise<BenchResult> {
  // A run of ten milliseconds is compiled to its end after a hundred of them: by count and by time.
  const [runs, time] = quick ? [w.warm === true ? 0 : 1, 0] : [3, 2000];
  const began = performance.now();
  for (let i = 0; i < runs || performance.now() - began < time; i++) {
    w.prepare();
    w.run();
    w.check();
  }
  let pending = false;
  const timed = () => {
    stop();
    if (pending) w.check();
    w.prepare();
    pending = true;
    start();
    w.run();
  };
  const said = console.log;
  console.log = () => {};
  try {
    const options = quick ? { minSamples: 2, maxTime: 0.3, minTime: 0.01 } : { minSamples: 10, maxTime: 5, minTime: 0.05 };
    const summary = await benny.suite(w.name, benny.add(w.name, timed, options));
    if (pending) w.check();
    const result = summary.results[0]!;
    if (!result.completed) throw new Error(`benchmark ${w.name} did not complete`);
    const { details } = result;
    const sorted = [...details.sampleResults].sort((a, b) => a - b);
    // One sample that something else disturbed moves the mean of two by half, and the best not at all.
    const typical = quick ? sorted[0]! : details.median;
    return {
      name: w.name,
      unit: w.unit,
      ops: w.ops / details.mean,
      median: (details.median * 1e9) / w.ops,
      p99: (sorted[Math.ceil(sorted.length * 0.99) - 1]! * 1e9) / w.ops,
      relativeError: details.relativeMarginOfError,
      samples: result.samples,
      ratio: w.ops / typical / calibration,
      ...(w.floor === undefined ? {} : { floor: w.floor }),
      compares: w.compares,
      notes: w.notes?.() ?? [],
    };
  } finally {
    console.log = said;
  }
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}

/** 1234567 -> "1.23 M". */
export function scaled(n: number): string {
  for (const [unit, size] of [
    ["G", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ] as const) {
    if (n >= size) return `${(n / size).toPrecision(3)} ${unit}`;
  }
  return n.toPrecision(3);
}

/** The results as aligned plain text. */
export function table(report: BenchReport): string[] {
  const rows = report.results.map((r) => [
    r.name,
    `${scaled(r.ops)} ${r.unit}/s`,
    `${r.median.toPrecision(3)} ns`,
    `${r.p99.toPrecision(3)} ns`,
    `±${r.relativeError.toFixed(1)} %`,
    String(r.samples),
    r.floor === undefined ? "" : `${scaled(r.floor)}${r.ops < r.floor ? "  BELOW" : ""}`,
  ]);
  const all = [["workload", "rate", "median", "p99", "error", "samples", "at least"], ...rows];
  const widths = all[0]!.map((_, c) => Math.max(...all.map((row) => row[c]!.length)));
  const lines = all.map((row) =>
    row
      .map((cell, c) => (c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)))
      .join("  ")
      .trimEnd(),
  );
  return [
    ...lines,
    `Node ${report.node}, ${report.cpu}, commit ${report.commit}; calibration loop ${scaled(report.calibration)} iterations/s`,
  ];
}

/** Writes bench/results/latest.json, where there is a bench folder. */
export function save(report: BenchReport, folder = "bench"): string | undefined {
  if (!existsSync(folder)) return undefined;
  mkdirSync(`${folder}/results`, { recursive: true });
  const file = `${folder}/results/latest.json`;
  writeWhole(file, `${JSON.stringify(report, undefined, 2)}\n`);
  return file;
}

/** What a file of the bench folder holds. */
function read<T>(file: string): T | undefined {
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as T) : undefined;
}

/** The ratio that a workload had on this processor; where nobody has measured that the lowest of the known. */
function ratioBefore(baselines: Baselines, report: BenchReport, name: string): number | undefined {
  const kind = kindOf(report);
  const known = Object.values(baselines).flatMap((b) => b[kind][name] ?? []);
  return baselines[report.cpu]?.[kind][name] ?? (known.length === 0 ? undefined : Math.min(...known));
}

/** Names whose ratio fell below what the baseline and its tolerance allow, as sentences. */
export function regressions(report: BenchReport, folder = "bench"): string[] {
  const baselines = read<Baselines>(`${folder}/baseline.json`) ?? {};
  const tolerance = read<Tolerance>(`${folder}/tolerance.json`) ?? {};
  return report.results.flatMap((r) => {
    const before = ratioBefore(baselines, report, r.name);
    if (before === undefined) return [];
    const may = Math.max(tolerance[r.name] ?? tolerance["default"] ?? 0.4, report.quick ? (tolerance["quick"] ?? 0) : 0);
    if (r.ratio >= before * (1 - may)) return [];
    return [
      `${r.name}: ${r.ratio.toPrecision(3)} of the calibration loop, ${before.toPrecision(3)} before; ${Math.round(may * 100)} % may be lost`,
    ];
  });
}

/** Puts a report into bench/baseline.json: its workloads, for its processor. */
export function saveBaseline(report: BenchReport, folder = "bench"): void {
  const file = `${folder}/baseline.json`;
  const baselines = read<Baselines>(file) ?? {};
  const was = baselines[report.cpu] ?? { ratios: {}, quick: {} };
  const now = Object.fromEntries(report.results.map((r) => [r.name, Number(r.ratio.toPrecision(4))]));
  const kind = kindOf(report);
  const mine: Baseline = { ...was, commit: report.commit, node: report.node, [kind]: { ...was[kind], ...now } };
  writeWhole(file, `${JSON.stringify({ ...baselines, [report.cpu]: mine }, undefined, 2)}\n`);
}
