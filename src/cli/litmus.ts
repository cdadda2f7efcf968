/** `faultline litmus`: runs tests, prints each test's answer and the totals by row. */
import { existsSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { litmusFiles, readLitmus, rowOf, rowsOf } from "../litmus/catalogue.js";
import { runLitmus, type Answer, type LitmusOptions, type LitmusResult } from "../litmus/check.js";
import type { LitmusTest } from "../litmus/ast.js";
import { FaultlineError } from "../sim/errors.js";
import { packageFolder } from "./load.js";
import { BUDGET, FAILED, OK, unknownName, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";

export interface LitmusArguments {
  readonly format: "text" | "json";
  readonly tests: readonly string[];
  readonly outcomes: boolean;
  readonly quiet: boolean;
  readonly maxStates?: number;
}

const ANSWERS: readonly Answer[] = ["agrees", "unseen", "missing", "undecided", "differs"];
const SAYS: Readonly<Record<Answer, string>> = {
  agrees: "agrees with the architecture: forbidden and never seen in any interleaving, or allowed and seen",
  unseen: "allowed, but the model is stronger and never shows it",
  missing: "not run: the mechanism is not modelled",
  undecided: "a budget ended the search",
  differs: "forbidden and seen, or allowed as a central case and not seen",
};

export async function litmusCommand(paths: readonly string[], args: LitmusArguments): Promise<number> {
  const tests = chosen(load(paths), args.tests);
  const results: LitmusResult[] = [];
  const options = args.maxStates === undefined ? {} : { maxStates: args.maxStates };
  for (const t of tests) {
    if (process.stderr.isTTY) process.stderr.write(`\r${t.id.padEnd(24)}`);
    const r = run(t, options);
    results.push(r);
    if (process.stderr.isTTY) process.stderr.write(`\r${" ".repeat(24)}\r`);
    if (args.format === "text") await one(r, args);
  }
  const rows = rowsOf(results);
  if (args.format === "json") await print(JSON.stringify({ tests: results, rows }, undefined, 2));
  else {
    await print("");
    for (const a of ANSWERS) {
      const n = rows.filter((r) => r.answer === a).length;
      if (n > 0) await print(`${String(n).padStart(4)} ${n === 1 ? "row " : "rows"} ${a.padEnd(9)}  ${SAYS[a]}`);
    }
    await print(
      `${String(rows.length).padStart(4)} ${rows.length === 1 ? "row " : "rows"}, ${results.length} test${results.length === 1 ? "" : "s"}`,
    );
  }
  if (results.some((r) => r.answer === "differs")) return FAILED;
  return results.some((r) => r.answer === "undecided") ? BUDGET : OK;
}

/** @throws UsageError for a test that cannot be run: too many actors, a thread without an end */
function run(test: LitmusTest, options: LitmusOptions): LitmusResult {
  try {
    return runLitmus(test, options);
  } catch (e) {
    if (e instanceof FaultlineError) throw new UsageError(`${test.file}:${test.line}: ${e.message}`);
    throw e;
  }
}

function load(paths: readonly string[]): LitmusTest[] {
  if (paths.length === 0) {
    const root = packageFolder();
    return readLitmus(litmusFiles(join(root, "litmus")), (f) => relative(root, f));
  }
  for (const p of paths) {
    if (!existsSync(p)) throw new UsageError(`there is no file "${p}"`);
    if (statSync(p).size > 1024 * 1024) throw new UsageError(`${p} is larger than 1 MiB`);
  }
  return readLitmus(paths.flatMap((p) => (statSync(p).isDirectory() ? litmusFiles(p) : [p])));
}

function chosen(tests: readonly LitmusTest[], ids: readonly string[]): readonly LitmusTest[] {
  if (ids.length === 0) return tests;
  for (const id of ids)
    if (!tests.some((t) => t.id === id || rowOf(t.id) === id))
      throw unknownName("litmus test", id, [...tests.map((t) => t.id), ...tests.map((t) => rowOf(t.id))]);
  return tests.filter((t) => ids.includes(t.id) || ids.includes(rowOf(t.id)));
}

async function one(r: LitmusResult, args: LitmusArguments): Promise<void> {
  if (args.quiet && (r.answer === "agrees" || r.answer === "unseen" || r.answer === "missing")) return;
  const color = palette();
  const paint = r.answer === "agrees" ? color.green : r.answer === "differs" ? color.red : color.yellow;
  await print(`${paint(r.answer.padEnd(9))} ${r.id.padEnd(16)} ${r.name}`);
  if (r.missing !== undefined) {
    await print(`          ${r.missing}`);
    return;
  }
  if (r.answer !== "agrees" || args.outcomes)
    for (const q of r.questions)
      await print(`          ${q.verdict}: ${q.outcome}: ${q.seen === 0 ? "never seen" : `seen in ${q.seen} of ${r.finals} final states`}`);
  if (!args.outcomes) return;
  for (const [outcome, n] of Object.entries(r.outcomes)) await print(`          ${String(n).padStart(6)}  ${outcome}`);
  await print(`          ${r.states} states, ${r.finals} of them final`);
}
