/**
 * npm run bench [-- NAME… --quick --json --baseline]: runs the suites, prints their table, saves
 * bench/results/latest.json and says what got slower than bench/baseline.json allows (status 1).
 */
import { spawn } from "node:child_process";
import { bulkUnmap } from "./bulk-unmap.js";
import { cachedAccesses } from "./cached-accesses.js";
import { demandFault2m } from "./demand-fault-2m.js";
import { demandFault4k } from "./demand-fault-4k.js";
import { demandFaultBar } from "./demand-fault-bar.js";
import { dirtyLogRound } from "./dirty-log-round.js";
import { exploreInvariants, exploreSteps } from "./explore.js";
import { garbage } from "./garbage.js";
import { mergeReports, regressions, runWorkload, save, saveBaseline, table, type BenchReport, type WorkloadFactory } from "./harness.js";
import { mmioExit } from "./mmio-exit.js";
import { scale } from "./scale.js";
import { RSS_OF, rssOf, sparseGuest } from "./sparse-guest.js";
import { startUp } from "./start-up.js";
import { tlbHitLoads } from "./tlb-hit-loads.js";
import { tlbMissLoads } from "./tlb-miss-loads.js";
import { demandFault4kJsonl, traceChrome, traceDat, traceFtrace, tracePerfetto } from "./traces.js";
import { unmapRefault } from "./unmap-refault.js";
import { errorJson, errorText } from "../src/cli/failure.js";
import { INTERRUPTED, unknownName, type UsageError, WRONG_INPUT } from "../src/cli/status.js";
import { inlineMore } from "../src/cli/v8flags.js";
import { FilesBeside } from "../src/cli/writefile.js";
import { nearest } from "../src/guest/diagnostics.js";

const SUITES: Readonly<Record<string, WorkloadFactory>> = {
  "demand-fault-4k": demandFault4k,
  "demand-fault-4k-jsonl": demandFault4kJsonl,
  "trace-dat": traceDat,
  "trace-ftrace": traceFtrace,
  "trace-chrome": traceChrome,
  "trace-perfetto": tracePerfetto,
  "demand-fault-2m": demandFault2m,
  "demand-fault-bar": demandFaultBar,
  "unmap-refault": unmapRefault,
  "mmio-exit": mmioExit,
  "tlb-hit-loads": tlbHitLoads,
  "tlb-miss-loads": tlbMissLoads,
  "bulk-unmap": bulkUnmap,
  "dirty-log-round": dirtyLogRound,
  explore: exploreSteps,
  "explore-invariants": exploreInvariants,
  scale,
  garbage,
  "sparse-guest": sparseGuest,
  "cached-accesses": cachedAccesses,
  "start-up": startUp,
};

/** Runs one suite in this process and prints its report as JSON. */
const ALONE = "--alone";
const FLAGS = ["--quick", "--json", "--baseline", ALONE];

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Each suite has a process of its own: what V8 learned from one would make the next slower, in an order that means nothing.
 * Its group, with the processes that it starts, ends when a signal ends this one.
 */
function alone(name: string, quick: boolean): Promise<BenchReport> {
  const args = [process.argv[1]!, name, ALONE, ...(quick ? ["--quick"] : [])];
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      if (suite.pid !== undefined && suite.exitCode === null && suite.signalCode === null) process.kill(-suite.pid, "SIGKILL");
      process.exit(INTERRUPTED);
    };
    // First: a signal while the suite starts would leave it. A handler runs after this function only.
    for (const s of SIGNALS) process.on(s, stop);
    const suite = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"], detached: true });
    let out = "";
    suite.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    suite.on("error", reject);
    suite.on("close", (status, signal) => {
      for (const s of SIGNALS) process.off(s, stop);
      if (status === 0) resolve(JSON.parse(out) as BenchReport);
      else reject(new Error(`the suite ${name} ended with ${signal ?? `status ${status}`}`));
    });
  });
}

async function main(args: readonly string[]): Promise<number> {
  if (args[0] === RSS_OF) {
    process.stdout.write(`${rssOf(args[1]!)}\n`);
    return 0;
  }
  const flags = new Set(args.filter((a) => a.startsWith("-")));
  const names = args.filter((a) => !a.startsWith("-"));
  const suites = Object.keys(SUITES);
  const options = FLAGS.filter((f) => f !== ALONE);
  const unknown = (what: string, name: string, known: readonly string[]): UsageError => {
    const all = nearest(name, known) === undefined ? `one of: ${known.join(", ")}` : "";
    return unknownName(what, name, known, all);
  };
  const wrong = [
    ...[...flags].filter((f) => !FLAGS.includes(f)).map((f) => unknown("option", f, options)),
    ...names.filter((n) => !Object.hasOwn(SUITES, n)).map((n) => unknown("suite", n, suites)),
  ];
  const json = flags.has("--json");
  if (wrong.length > 0) {
    process.stderr.write(wrong.map((e) => `${errorText(e)}\n`).join(""));
    if (json) process.stdout.write(`${JSON.stringify({ error: errorJson(wrong[0]) })}\n`);
    return WRONG_INPUT;
  }
  const quick = flags.has("--quick");
  const chosen = names.length === 0 ? suites : names;
  if (flags.has(ALONE)) {
    process.stdout.write(JSON.stringify(await runWorkload(SUITES[chosen[0]!]!, quick)));
    return 0;
  }
  const reports: BenchReport[] = [];
  for (const name of chosen) {
    const one = await alone(name, quick);
    reports.push(one);
    if (json) continue;
    for (const r of one.results) process.stdout.write([`${r.name}: ${r.compares}`, ...r.notes.map((n) => `  ${n}`), ""].join("\n"));
  }
  const report = mergeReports(reports);
  const beside = new FilesBeside();
  const file = beside.attempt(() => save(report));
  const slower = regressions(report);
  if (flags.has("--baseline")) beside.attempt(() => saveBaseline(report));
  if (json) process.stdout.write(`${JSON.stringify({ ...report, ...beside.error }, undefined, 2)}\n`);
  else {
    process.stdout.write(`\n${table(report).join("\n")}\n`);
    if (typeof file === "string") process.stdout.write(`saved in ${file}\n`);
    for (const line of slower) process.stdout.write(`slower: ${line}\n`);
    for (const line of report.failed) process.stdout.write(`failed: ${line}\n`);
  }
  try {
    beside.throwIfAny();
  } catch (e) {
    process.stderr.write(`${errorText(e)}\n`);
    return WRONG_INPUT;
  }
  return slower.length + report.failed.length > 0 ? 1 : 0;
}

inlineMore();
process.exitCode = await main(process.argv.slice(2));
