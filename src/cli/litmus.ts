/** `faultline litmus`: runs tests, prints each test's answer and the totals by row. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { carryOut, type Means } from "../campaign/campaigns.js";
import { litmusFiles, rowOf, rowsOf } from "../litmus/catalogue.js";
import type { Answer, LitmusResult } from "../litmus/check.js";
import { parseLitmus } from "../litmus/parser.js";
import { litmusWork, type LitmusFile, type LitmusSpec } from "../litmus/work.js";
import { packageFolder } from "./load.js";
import { readText } from "./readfile.js";
import { BUDGET, FAILED, INTERRUPTED, OK, unknownName, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";

export interface LitmusArguments {
  readonly format: "text" | "json";
  readonly tests: readonly string[];
  readonly outcomes: boolean;
  readonly quiet: boolean;
  readonly maxStates?: number;
  readonly means: Means;
}

/** MiB of a file of tests. */
const LARGEST = 1;

const ANSWERS: readonly Answer[] = ["agrees", "unseen", "missing", "undecided", "differs"];
const SAYS: Readonly<Record<Answer, string>> = {
  agrees: "agrees with the architecture: forbidden and never seen in any interleaving, or allowed and seen",
  unseen: "allowed, but the model is stronger and never shows it",
  missing: "not run: the mechanism is not modelled",
  undecided: "a budget ended the search",
  differs: "forbidden and seen, or allowed as a central case and not seen",
};

export async function litmusCommand(paths: readonly string[], args: LitmusArguments): Promise<number> {
  const files = load(paths);
  const spec: LitmusSpec = {
    tests: chosen(files, args.tests),
    options: args.maxStates === undefined ? {} : { maxStates: args.maxStates },
  };
  // Each answer is printed as soon as it and those before it are known.
  let printed = Promise.resolve();
  const told = (r: LitmusResult): void => void (printed = printed.then(() => one(r, args)));
  const work = litmusWork(files, args.format === "text" ? told : undefined);
  const { state: results, ended } = await carryOut(work, spec, args.means);
  await printed;
  const rows = rowsOf(results);
  if (args.format === "json") await print(JSON.stringify({ tests: results, rows }, undefined, 2));
  else {
    await print("");
    for (const a of ANSWERS) {
      const n = rows.filter((r) => r.answer === a).length;
      if (n > 0) await print(`${String(n).padStart(4)} ${(n === 1 ? "row" : "rows").padEnd(4)} ${a.padEnd(9)}  ${SAYS[a]}`);
    }
    await print(
      `${String(rows.length).padStart(4)} ${rows.length === 1 ? "row" : "rows"}, ${results.length} test${results.length === 1 ? "" : "s"}`,
    );
  }
  if (ended === "interrupted") return INTERRUPTED;
  if (results.some((r) => r.answer === "differs")) return FAILED;
  return results.some((r) => r.answer === "undecided") ? BUDGET : OK;
}

function load(paths: readonly string[]): LitmusFile[] {
  if (paths.length === 0) {
    const root = packageFolder();
    return litmusFiles(join(root, "litmus")).map((f) => ({ file: relative(root, f), text: readFileSync(f, "utf8") }));
  }
  for (const p of paths) if (!existsSync(p)) throw new UsageError(`there is no file "${p}"`, { file: p });
  const files = paths.flatMap((p) => (statSync(p).isDirectory() ? litmusFiles(p) : [p]));
  if (files.length === 0) throw new UsageError("no litmus test (*.litmus) under the paths given");
  return files.map((f) => ({ file: f, text: readText(f, LARGEST) }));
}

/** The tests that are asked for, by number; all of them if none is. @throws ScriptError for a file that cannot be read as tests */
function chosen(files: readonly LitmusFile[], ids: readonly string[]): LitmusSpec["tests"] {
  const all = files.flatMap((f, file) => parseLitmus(f.file, f.text).map(({ id }, test) => ({ id, file, test })));
  for (const id of ids)
    if (!all.some((t) => t.id === id || rowOf(t.id) === id))
      throw unknownName("litmus test", id, [...all.map((t) => t.id), ...all.map((t) => rowOf(t.id))]);
  const wanted = ids.length === 0 ? all : all.filter((t) => ids.includes(t.id) || ids.includes(rowOf(t.id)));
  return wanted.map(({ file, test }) => ({ file, test }));
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
