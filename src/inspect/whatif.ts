/**
 * What would have answered otherwise: the script is run again under every release, and with single decisions
 * changed, and the same access is looked up in each run. Nothing is claimed that was not run.
 */
import type { VariantConfig } from "../guest/compile.js";
import { BudgetError, ScriptError } from "../guest/diagnostics.js";
import { answer, decisionNames, ERAS, eraRow, findDecision } from "../eras.js";
import { accesses, type Access } from "./accesses.js";
import { record, type Recorded } from "./recorded.js";

export interface EraAnswer {
  /** Releases in a row that answer alike. */
  readonly kernels: readonly string[];
  readonly outcome: string;
  /** The run's own answer. */
  readonly same: boolean;
}
export interface DecisionAnswer {
  readonly name: string;
  readonly value: string;
  readonly doc: string;
  readonly outcome: string;
}

export interface WhatIf {
  readonly kernels: readonly EraAnswer[];
  /** Single decisions that change the answer. */
  readonly decisions: readonly DecisionAnswer[];
  /** Decisions and values that were tried, those without effect included. */
  readonly tried: number;
  /** Runs that were not made because the time would not have been worth it. */
  readonly skipped: number;
}

/** Phases of kernel operations and guest instructions that all runs together may take. */
const PHASES = 50_000_000;

/** Runs a variant again and gives the outcome of the access that has the key of `a`: its last one. */
function outcomeIn(run: Recorded, a: Access, variant: VariantConfig): { outcome: string; phases: number } {
  let again: Recorded;
  try {
    again = record(run.program, variant, { steps: Math.max(1_000_000, run.result.phases * 20) });
  } catch (e) {
    if (e instanceof BudgetError) return { outcome: "the run does not come to its end", phases: run.result.phases * 20 };
    if (e instanceof ScriptError) return { outcome: "the script does not run", phases: 0 };
    throw e;
  }
  const all = accesses(again);
  const same = all.filter((x) => x.key === a.key).at(-1);
  const crash = all.find((x) => x.kind === "crash");
  const outcome =
    same !== undefined ? same.outcome : crash !== undefined ? `not reached: line ${crash.line}, ${crash.outcome}` : without(again, a);
  return { outcome, phases: again.result.phases };
}

/** The access did not fault: did its statement come to its end, or did it end before it? */
function without(run: Recorded, a: Access): string {
  const steps = run.result.steps.filter((s) => s.agent === a.agent && s.line === a.line);
  const other = steps.find((s) => s.result !== "");
  if (other !== undefined) return `no such fault: the statement ends with "${other.result.replace(/^-> /, "")}"`;
  return steps.length === 0 ? "not reached" : "no fault: the tables serve the access";
}

/**
 * @param asked names of the decisions that the chain shows
 * @param tick called before each run, with how many there will be at most
 */
export function whatIf(
  run: Recorded,
  a: Access,
  asked: readonly string[],
  tick: (done: number, total: number) => void = () => undefined,
): WhatIf {
  // The last outcome of this access in the run itself: what a run without any change gives.
  const own = accesses(run)
    .filter((x) => x.key === a.key)
    .at(-1)!.outcome;
  let spent = 0;
  let skipped = 0;
  let done = 0;
  const answers = new Map<string, string>();
  const tryIt = (variant: VariantConfig, total: number): string | undefined => {
    tick(done++, total);
    if (spent > PHASES) {
      skipped++;
      return undefined;
    }
    const { outcome, phases } = outcomeIn(run, a, variant);
    spent += phases;
    return outcome;
  };
  for (const e of ERAS) {
    const outcome = e.name === run.machine.era.era ? own : tryIt({ ...run.variant, kernel: e.name }, ERAS.length);
    if (outcome !== undefined) answers.set(e.name, outcome);
  }
  const trials = candidates(run, asked, answers, own);
  const decisions: DecisionAnswer[] = [];
  let tried = 0;
  for (const { name, value } of trials) {
    const outcome = tryIt({ ...run.variant, set: { ...run.variant.set, [name]: value } }, ERAS.length + trials.length);
    if (outcome === undefined) continue;
    tried++;
    if (outcome !== own) decisions.push({ name, value, doc: findDecision(name)!.doc, outcome });
  }
  return { kernels: inRows(answers, own), decisions, tried, skipped };
}

/** A decision's value in an era, the one that an era without a source takes included. */
function valueIn(era: string, name: string): string | number | boolean {
  const row = eraRow(era);
  const all: Readonly<Record<string, string | number | boolean>> = { ...row.mm, ...row.vfio, ...row.kvm };
  return all[name]!;
}

/**
 * Every other value of the decisions of the chain; and, where the answer changes from one release to the next, the
 * values that the other release has of the decisions in which the two differ.
 */
function candidates(
  run: Recorded,
  asked: readonly string[],
  answers: ReadonlyMap<string, string>,
  own: string,
): { name: string; value: string }[] {
  const era = run.machine.era.era;
  const out = new Map<string, { name: string; value: string }>();
  const now = (name: string) => run.variant.set[name] ?? String(valueIn(era, name));
  const add = (name: string, value: string): void => {
    if (value !== now(name)) out.set(`${name}=${value}`, { name, value });
  };
  for (const name of asked) for (const value of findDecision(name)?.values ?? []) add(name, String(value));
  const at = ERAS.findIndex((e) => e.name === era);
  for (const way of [-1, 1]) {
    let n = at + way;
    while (n >= 0 && n < ERAS.length && (!answers.has(ERAS[n]!.name) || answers.get(ERAS[n]!.name) === own)) n += way;
    const other = ERAS[n];
    if (other === undefined) continue;
    const near = ERAS[n - way]!;
    for (const name of decisionNames()) {
      const theirs = answer(findDecision(name)!, other.name);
      if (theirs !== undefined && theirs.value !== answer(findDecision(name)!, near.name)?.value) add(name, String(theirs.value));
    }
  }
  return [...out.values()];
}

/** Neighbouring releases with one answer become one row; stable releases stand where the list of releases has them. */
function inRows(answers: ReadonlyMap<string, string>, own: string): EraAnswer[] {
  const out: EraAnswer[] = [];
  for (const [kernel, outcome] of answers) {
    const last = out[out.length - 1];
    if (last?.outcome === outcome) out[out.length - 1] = { ...last, kernels: [...last.kernels, kernel] };
    else out.push({ kernels: [kernel], outcome, same: outcome === own });
  }
  return out;
}
