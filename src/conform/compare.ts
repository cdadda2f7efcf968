/**
 * Compares what the emulator observed in a step with what was recorded: lines in order, by longest
 * common subsequence, so that one extra or missing event costs itself and not the rest.
 */
import type { Observation, Step } from "./recording.js";

/** One step's score and what did not match. */
export interface StepScore {
  readonly matched: number;
  readonly total: number;
  readonly expected: readonly string[];
  readonly got: readonly string[];
  /** Index of the first line that differs, or -1. */
  readonly firstDifference: number;
}

/** True if an observed line has the recorded form; `*` matches any value up to the next blank or `+`. */
export function lineMatches(recorded: string, got: string): boolean {
  if (recorded === got) return true;
  if (!recorded.includes("*")) return false;
  const a = recorded.split(" ");
  const b = got.split(" ");
  if (a.length !== b.length) return false;
  return a.every((word, i) => wordMatches(word, b[i]!));
}

function wordMatches(recorded: string, got: string): boolean {
  if (recorded === got || recorded === "*") return true;
  const star = recorded.indexOf("*");
  if (star < 0) return false;
  const head = recorded.slice(0, star);
  const tail = recorded.slice(star + 1);
  return got.length >= head.length + tail.length && got.startsWith(head) && got.endsWith(tail);
}

/** Lengths of the longest common subsequence; row i, column j of suffixes. */
function lcs(expected: readonly string[], got: readonly string[]): number {
  const width = got.length + 1;
  let row = new Int32Array(width);
  for (let i = expected.length - 1; i >= 0; i--) {
    const next = new Int32Array(width);
    for (let j = got.length - 1; j >= 0; j--) {
      next[j] = lineMatches(expected[i]!, got[j]!) ? row[j + 1]! + 1 : Math.max(row[j]!, next[j + 1]!);
    }
    row = next;
  }
  return row[0]!;
}

const written = (o: Observation): string => `${o.kind} ${o.text}`;

/** More lines than this are compared head against head: an endless loop gives as many as one likes. */
const MOST_LINES = 4000;

/**
 * Scores one step.
 * @param events whether `~` lines were recorded at all
 */
export function scoreStep(step: Step, observed: readonly Observation[], events: boolean): StepScore {
  const keep = (o: Observation) => events || o.kind === "=";
  const expected = step.observed.filter(keep).map(written);
  let got = observed.filter(keep).map(written);
  if (step.cut) {
    const cutAt = expected.filter((l) => l.startsWith("~")).length;
    let seen = 0;
    got = got.filter((l) => !l.startsWith("~") || seen++ < cutAt);
  }
  got = got.slice(0, MOST_LINES);
  let head = 0;
  while (head < expected.length && head < got.length && lineMatches(expected[head]!, got[head]!)) head++;
  const same = head === expected.length && head === got.length;
  const common = same ? head : head + lcs(expected.slice(head), got.slice(head));
  return {
    matched: Math.max(0, common - (got.length - common)),
    total: expected.length,
    expected,
    got,
    firstDifference: same ? -1 : head,
  };
}
