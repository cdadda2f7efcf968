/** Two runs beside each other: the n-th time of a statement in one is the n-th time of it in the other. */
import type { StepRow } from "../data.js";
import { firstOver, type Run } from "./model.js";

/** A place of the slider: a statement, and a moment of each run shown. */
export interface Position {
  /** Index into the aligned statements. */
  readonly step: number;
  /** Per run: its moment. */
  readonly moments: readonly number[];
}

export interface AlignedStep {
  readonly line: number;
  readonly text: string;
  /** Per run: the statement, where the run came to it. */
  readonly rows: readonly (StepRow | undefined)[];
  /** Per run: its first event, and the first after it. */
  readonly from: readonly number[];
  readonly to: readonly number[];
}

export interface Difference {
  readonly step: number;
  /** Per run: the event that the other does not have, or the last before the end of the statement. */
  readonly seqs: readonly number[];
  /** Per run: what it has there; "" for nothing. */
  readonly what: readonly string[];
}

export function alignedSteps(runs: readonly Run[]): AlignedStep[] {
  const keyed = runs.map((run) => {
    const seen = new Map<string, number>();
    const out = new Map<string, { row: StepRow; from: number }>();
    let from = run.first;
    for (const row of run.data.steps) {
      const base = `${row.line}:${row.agent}:${row.text}`;
      const n = seen.get(base) ?? 0;
      seen.set(base, n + 1);
      out.set(`${base}#${n}`, { row, from: Math.min(from, row.to) });
      from = Math.max(from, row.to);
    }
    return out;
  });
  const order = new Set<string>();
  for (const k of [...keyed].sort((a, b) => b.size - a.size)) for (const name of k.keys()) order.add(name);
  return [...order].map((name) => {
    const rows = keyed.map((k) => k.get(name));
    const { row } = rows.find((r) => r !== undefined)!;
    return {
      line: row.line,
      text: row.text,
      rows: rows.map((r) => r?.row),
      from: rows.map((r) => r?.from ?? -1),
      to: rows.map((r) => r?.row.to ?? -1),
    };
  });
}

export function positions(runs: readonly Run[], steps: readonly AlignedStep[]): Position[] {
  const out: Position[] = [];
  const last = runs.map(() => 0);
  for (const [step, s] of steps.entries()) {
    const own = runs.map((run, r) => (s.rows[r] === undefined ? [] : momentsBetween(run, s.from[r]!, Math.max(s.to[r]!, s.from[r]! + 1))));
    const most = Math.max(...own.map((o) => o.length));
    for (let n = 0; n < most; n++) {
      for (const [r, o] of own.entries()) if (o.length > 0) last[r] = o[Math.min(n, o.length - 1)]!;
      out.push({ step, moments: [...last] });
    }
  }
  return out.length === 0 ? [{ step: 0, moments: runs.map(() => 0) }] : out;
}

/** Moments from an event to the one before another. */
function momentsBetween({ data }: Run, from: number, to: number): number[] {
  const { seq } = data.moments;
  const first = firstOver(seq, (s) => s, from - 1);
  const end = firstOver(seq, (s) => s, to - 1);
  return Array.from({ length: end - first }, (_, n) => first + n);
}

/** What an event says: who did what with which values, not when. */
const said = (run: Run, seq: number): string => `${run.data.agents[run.agent(seq)]!}  ${run.kind(seq).name}  ${run.text(seq)}`.trim();

/** By the numbers of their words, which both runs have from one list. */
function same(a: Run, p: number, b: Run, q: number): boolean {
  const [x, y] = [a.data.events, b.data.events];
  const [i, j] = [p - a.first, q - b.first];
  return x.kind[i] === y.kind[j] && x.text[i] === y.text[j] && a.data.agents[x.agent[i]!] === b.data.agents[y.agent[j]!];
}

export function firstDifference(runs: readonly Run[], steps: readonly AlignedStep[]): Difference | undefined {
  const [a, b] = runs;
  if (a === undefined || b === undefined) return undefined;
  for (const [step, s] of steps.entries()) {
    const lists = runs.map(({ data: { events } }, r) =>
      events.story.slice(
        firstOver(events.story, (x) => x, s.from[r]! - 1),
        firstOver(events.story, (x) => x, s.to[r]! - 1),
      ),
    );
    const length = Math.max(lists[0]!.length, lists[1]!.length);
    for (let n = 0; n < length; n++) {
      const seqs = lists.map((l) => l[n]);
      const [p, q] = seqs;
      if (p !== undefined && q !== undefined && same(a, p, b, q)) continue;
      const what = seqs.map((seq, r) => (seq === undefined ? "" : said(runs[r]!, seq)));
      return { step, what, seqs: seqs.map((seq, r) => seq ?? Math.max(s.to[r]! - 1, runs[r]!.first)) };
    }
    if (s.rows[0]?.result !== s.rows[1]?.result)
      return {
        step,
        what: s.rows.map((r) => (r === undefined ? "" : r.result)),
        seqs: s.to.map((to, r) => (to < 0 ? runs[r]!.last : Math.max(to - 1, runs[r]!.first))),
      };
  }
  return undefined;
}
