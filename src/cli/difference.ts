/** Puts the steps of several runs of one script next to each other: what is the same, and what is not. */
import type { Step, VariantResult } from "../guest/result.js";
import { eventBody, moreText, type TextOptions } from "../trace/text.js";
import type { RenderOptions } from "./render.js";

/** A line in all runs (`which` is -1) or in one of them. */
export interface DiffLine {
  readonly which: number;
  readonly text: string;
}

/** One step of the script under all runs. */
export interface DiffStep {
  /** The step where it ran; undefined in runs that never came here. */
  readonly steps: readonly (Step | undefined)[];
  readonly lines: readonly DiffLine[];
  readonly same: boolean;
}

/** The lines of a step without sequence numbers, so that equal events are equal lines. */
function bodyLines(s: Step | undefined, options: RenderOptions): string[] {
  if (s === undefined) return [];
  const plain: TextOptions = { ...options, width: 0 };
  return s.told(options.detail).flatMap((l) => {
    const lines = l.events.map((e) => `${e.agent.padEnd(5)} ${eventBody(e, plain)}`);
    return l.rounds > 1 ? [...lines, `${l.last.agent.padEnd(5)} ${moreText(l)}`] : lines;
  });
}

/** Longest common subsequence of two lists of lines, as a merged list. */
export function merge(a: readonly string[], b: readonly string[]): DiffLine[] {
  const n = a.length;
  const m = b.length;
  const table = new Int32Array((n + 1) * (m + 1));
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      table[i * (m + 1) + j] =
        a[i] === b[j] ? table[(i + 1) * (m + 1) + j + 1]! + 1 : Math.max(table[(i + 1) * (m + 1) + j]!, table[i * (m + 1) + j + 1]!);
  const out: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && a[i] === b[j]) {
      out.push({ which: -1, text: a[i]! });
      i++;
      j++;
    } else if (i < n && (j >= m || table[(i + 1) * (m + 1) + j]! >= table[i * (m + 1) + j + 1]!)) out.push({ which: 0, text: a[i++]! });
    else out.push({ which: 1, text: b[j++]! });
  }
  return out;
}

/** Aligns the runs by step: the n-th step of a line in one is the n-th step of that line in the others. */
export function align(results: readonly VariantResult[], options: RenderOptions): DiffStep[] {
  const key = (s: Step, seen: Map<string, number>): string => {
    const base = `${s.line}:${s.agent}:${s.text}`;
    const n = seen.get(base) ?? 0;
    seen.set(base, n + 1);
    return `${base}#${n}`;
  };
  const keyed = results.map((r) => {
    const seen = new Map<string, number>();
    return new Map(r.steps.map((s) => [key(s, seen), s]));
  });
  // The order of the run that came furthest; steps that only others made follow where they stand.
  const order: string[] = [];
  for (const k of [...keyed].sort((x, y) => y.size - x.size)) for (const name of k.keys()) if (!order.includes(name)) order.push(name);
  return order.map((name) => {
    const steps = keyed.map((k) => k.get(name));
    const bodies = steps.map((s) => bodyLines(s, options));
    const results_ = steps.map((s) => s?.result);
    const same =
      steps.every((s) => s !== undefined) &&
      bodies.every((b) => b.join("\n") === bodies[0]!.join("\n")) &&
      results_.every((r) => r === results_[0]);
    let lines: DiffLine[];
    if (same) lines = bodies[0]!.map((text) => ({ which: -1, text }));
    else if (bodies.length === 2) lines = merge(bodies[0]!, bodies[1]!);
    else lines = bodies.flatMap((b, which) => b.map((text) => ({ which, text })));
    return { steps, lines, same };
  });
}
