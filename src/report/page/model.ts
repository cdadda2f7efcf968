/** A run as the page asks it: times, lanes with rows of slices, which statement and which explanation an event belongs to. */
import type { ExplanationRow, ReportData, RunData, StepRow, Track } from "../data.js";

/** Slices of one row of a lane: sorted, never two at once. */
export interface Row {
  readonly lock: boolean;
  readonly from: number[];
  readonly to: number[];
  readonly name: string[];
}

export interface Lane {
  readonly agent: number;
  readonly name: string;
  readonly rows: Row[];
  /** Sequence numbers of the agent's events. */
  readonly events: number[];
}

export class Run {
  readonly first: number;
  /** Sequence number of the last event; `first - 1` of a run without events. */
  readonly last: number;
  /** Nanoseconds, by event. */
  readonly time: Float64Array;
  readonly lanes: Lane[];
  readonly story: ReadonlySet<number>;
  private readonly steps: readonly StepRow[];

  constructor(
    readonly report: ReportData,
    readonly data: RunData,
  ) {
    const { events, slices } = data;
    this.first = events.first;
    this.last = events.first + events.kind.length - 1;
    this.time = new Float64Array(events.wait.length);
    let now = 0;
    for (let i = 0; i < events.wait.length; i++) this.time[i] = now += events.wait[i]!;
    this.story = new Set(events.story);
    this.steps = [...data.steps].sort((a, b) => a.to - b.to);
    const lanes: Lane[] = data.agents.map((name, agent) => ({ agent, name, rows: [], events: [] }));
    for (let i = 0; i < events.agent.length; i++) lanes[events.agent[i]!]?.events.push(this.first + i);
    // By agent, its locks apart, and depth.
    const rows: Row[][] = [];
    for (let i = 0; i < slices.from.length; i++) {
      const own = (rows[2 * slices.agent[i]! + slices.lock[i]!] ??= []);
      let row = own[slices.depth[i]!];
      if (row === undefined) {
        own[slices.depth[i]!] = row = { lock: slices.lock[i] === 1, from: [], to: [], name: [] };
        lanes[slices.agent[i]!]?.rows.push(row);
      }
      row.from.push(slices.from[i]!);
      row.to.push(slices.to[i]!);
      row.name.push(report.names[slices.name[i]!]!);
    }
    for (const l of lanes) l.rows.sort((a, b) => Number(a.lock) - Number(b.lock));
    this.lanes = lanes.filter((l) => l.events.length > 0);
  }

  has(seq: number): boolean {
    return seq >= this.first && seq <= this.last;
  }
  kind(seq: number): { readonly name: string; readonly doc: string } {
    return this.report.kinds[this.data.events.kind[seq - this.first]!]!;
  }
  /** "" as long as the page has not read the words of the events. */
  text(seq: number): string {
    return this.report.texts[this.data.events.text[seq - this.first]!] ?? "";
  }
  agent(seq: number): number {
    return this.data.events.agent[seq - this.first]!;
  }
  timeOf(seq: number): number {
    return this.time[Math.min(Math.max(seq - this.first, 0), this.time.length - 1)] ?? 0;
  }
  /** The statement that ran when the event was emitted: of its agent if it can be. */
  stepOf(seq: number): StepRow | undefined {
    const agent = this.agent(seq);
    const at = firstOver(this.steps, (s) => s.to, seq);
    for (let i = at; i < Math.min(at + 16, this.steps.length); i++) if (this.steps[i]!.agent === agent) return this.steps[i];
    return this.steps[at];
  }
  /** The narrowest explained access that the event lies in. */
  explanationOf(seq: number): ExplanationRow | undefined {
    const agent = this.agent(seq);
    return this.data.explanations.findLast((e) => e.agent === agent && e.from <= seq && seq <= e.to);
  }
  /** The last moment at or before an event; 0 if there is none. */
  momentAt(seq: number): number {
    const { seq: all } = this.data.moments;
    return Math.max(firstOver(all, (s) => s, seq) - 1, 0);
  }
}

export function rowsAt<R>(track: Track<R>, moment: number): R[] {
  const state = track.at[moment];
  return state === undefined ? [] : Array.from(track.states[state]!, (r) => track.rows[r]!);
}

/** Index of the first whose key is greater than `value`, of a sorted list. */
export function firstOver<T>(list: ArrayLike<T>, key: (item: T) => number, value: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (key(list[mid]!) > value) high = mid;
    else low = mid + 1;
  }
  return low;
}

export const hex = (n: number): string => `0x${n.toString(16)}`;
/** 4K, 2M, 1.5G: exact up to three digits. */
export function sizeText(bytes: number): string {
  const unit = bytes >= 2 ** 30 ? 30 : bytes >= 2 ** 20 ? 20 : 10;
  const n = bytes / 2 ** unit;
  return `${Number.isInteger(n) ? n : n.toFixed(2)}${unit === 30 ? "G" : unit === 20 ? "M" : "K"}`;
}
