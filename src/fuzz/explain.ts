/**
 * Why two kernels differ on a program: the decision that makes the difference, found by switching the decisions that
 * differ between two eras one at a time. What no decision explains is a defect of the model.
 */
import { answer, decisionNames, ERAS, findDecision, findEra, type Answer } from "../eras.js";
import type { Program } from "./program.js";
import { Laboratory, type Purpose, type Target, type Trial } from "./trial.js";

export interface Explanation {
  readonly decision: string;
  readonly from: string;
  readonly to: string;
  /** Where the second value comes from. */
  readonly source: string;
  /** The era whose value was put in. */
  readonly era: string;
}

export interface Differing {
  readonly name: string;
  readonly from: string;
  readonly to: Answer;
}

/** Decisions whose values differ between two eras; those of `fixed` are the user's and stay. */
export function differing(a: string, b: string, fixed: Readonly<Record<string, string>> = {}): Differing[] {
  return decisionNames().flatMap((name) => {
    if (name in fixed) return [];
    const to = answer(findDecision(name)!, b);
    const from = answer(findDecision(name)!, a)?.value ?? findDecision(name)!.values[0]!;
    return to === undefined || to.value === from ? [] : [{ name, from: String(from), to }];
  });
}

/**
 * The decisions of era `to` that, put into `target`, make a run come out as `wanted` says: a single one if there is one, else as few
 * as can be had by taking them out of all that differ, one after the other.
 * @returns empty if even all of them do not
 */
export function decisive(
  program: Program,
  target: Target,
  to: string,
  wanted: (t: Trial) => boolean,
  purpose: Purpose = "judge",
): Explanation[] {
  const all = differing(target.kernel, to, target.set);
  const works = (some: readonly Differing[]): boolean => {
    const set = { ...target.set, ...Object.fromEntries(some.map((d) => [d.name, String(d.to.value)])) };
    return wanted(new Laboratory().run(program, { ...target, set }, purpose));
  };
  const said = (some: readonly Differing[]): Explanation[] =>
    some.map((d) => ({ decision: d.name, from: d.from, to: String(d.to.value), source: d.to.source, era: to }));
  const single = all.find((d) => works([d]));
  if (single !== undefined) return said([single]);
  if (!works(all)) return [];
  let rest = all;
  for (const d of all) {
    const without = rest.filter((r) => r !== d);
    if (works(without)) rest = without;
  }
  return said(rest);
}

/**
 * A failure that a later kernel does not have, and that goes away when one decision takes its value there, is a bug of the
 * modelled kernel, fixed since: the model shows it because the kernel had it.
 */
export function fixedLater(program: Program, target: Target, kind: string): Explanation[] {
  const here = findEra(target.kernel);
  if (here === undefined) return [];
  const gone = (t: Trial): boolean => t.failure?.kind !== kind;
  for (const era of ERAS.slice(ERAS.indexOf(here) + 1)) {
    const later = new Laboratory().run(program, { ...target, kernel: era.name });
    if (!gone(later)) continue;
    // Not any way out of the failure: the one that the later kernel takes.
    return decisive(program, target, era.name, (t) => gone(t) && sameEnd(t, later));
  }
  return [];
}

/** The last step came to the same. */
function sameEnd(a: Trial, b: Trial): boolean {
  const [x, y] = [a.outcomes.at(-1), b.outcomes.at(-1)];
  return a.outcomes.length === b.outcomes.length && x !== undefined && y !== undefined && x.how === y.how && x.value === y.value;
}
