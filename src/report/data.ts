/**
 * What a report's page shows, as the compact JSON that lies in it. Both sides import this file: the command,
 * which fills it, and the page. Everything that repeats is a number: an index into a table beside it.
 */

import type { Numbers } from "./columns.js";

/** Numbers of one event are at the same place of each column. Event n has the sequence number `first + n`. */
export interface EventColumns {
  readonly first: number;
  /** Nanoseconds since the event before it, on the one time line of all agents. */
  readonly wait: Numbers;
  readonly agent: Numbers;
  /** Index into `kinds`. */
  readonly kind: Numbers;
  /** Index into `texts`: fields and remark. */
  readonly text: Numbers;
  /** Numbers of the events that tell the story: these are compared between two runs. */
  readonly story: Numbers;
}

/** Slices by agent, its locks apart, and beginning. Depth 0 is the outermost. */
export interface SliceColumns {
  readonly agent: Numbers;
  /** 1: of the agent's locks. */
  readonly lock: Numbers;
  readonly depth: Numbers;
  /** Sequence numbers of the events that it begins and ends at. */
  readonly from: Numbers;
  readonly to: Numbers;
  /** Index into `names`. */
  readonly name: Numbers;
}

/** From an event to the event that it caused. */
export interface Arrow {
  readonly from: number;
  readonly to: number;
  readonly what: "invalidation, retry" | "unmapped, faults again" | "unmapped, still cached" | "TLBI, complete";
}

export interface StepRow {
  readonly line: number;
  /** Index into `agents`; -1 of a name that is no agent. */
  readonly agent: number;
  readonly text: string;
  readonly result: string;
  /** Sequence number of the first event after it. */
  readonly to: number;
}

export interface ExplanationRow {
  readonly agent: number;
  readonly from: number;
  readonly to: number;
  readonly outcome: string;
  /** False: a fault that was simply served. */
  readonly notable: boolean;
  /** The page reads it after the first paint; until then it is empty. */
  told: ExplanationWords;
}

export interface ExplanationWords {
  readonly prose: readonly string[];
  /** Sequence number or -1, what, answer, source. */
  readonly chain: readonly (readonly [number, string, string, string])[];
  readonly hints: readonly string[];
}

export interface VmaState {
  readonly mm: number;
  readonly start: number;
  readonly end: number;
  readonly perms: string;
  readonly what: string;
  readonly flags: string;
}
export interface SlotState {
  readonly vm: number;
  readonly slot: number;
  readonly gpa: number;
  readonly size: number;
  readonly hva: number;
  readonly type: string;
  readonly flags: string;
}
export interface Stage2State {
  readonly vm: number;
  readonly ipa: number;
  readonly end: number;
  readonly level: number;
  readonly pa: number;
  readonly valid: boolean;
  readonly type: string;
  /** rwx, as the stage permits. */
  readonly perms: string;
  readonly cont: boolean;
  readonly descriptor: string;
}
export interface TlbState {
  readonly cpu: number;
  readonly kind: string;
  readonly context: string;
  readonly va: string;
  readonly ipa: number;
  readonly pa: number;
  readonly size: number;
  readonly what: string;
  readonly now: string;
  readonly stale: boolean;
}

/** One table of the machine through the run: `states[s]` lists rows; a moment names a state. */
export interface Track<R> {
  readonly rows: readonly R[];
  readonly states: readonly Numbers[];
  /** Per moment: its state. */
  readonly at: Numbers;
}

export interface Moments {
  /** Sequence numbers: the machine right after this event. */
  readonly seq: Numbers;
  /** Places that could have been shown too and were left out. */
  readonly skipped: number;
  readonly vmas: Track<VmaState>;
  readonly slots: Track<SlotState>;
  readonly stage2: Track<Stage2State>;
  readonly tlb: Track<TlbState>;
}

export interface RunData {
  readonly name: string;
  readonly kernel: string;
  readonly cpu: string;
  readonly set: string;
  readonly passed: boolean;
  readonly verdict: string;
  readonly agents: readonly string[];
  readonly events: EventColumns;
  readonly slices: SliceColumns;
  readonly arrows: readonly Arrow[];
  readonly steps: readonly StepRow[];
  readonly explanations: readonly ExplanationRow[];
  /** Accesses that were not explained for want of room. */
  readonly unexplained: number;
  readonly moments: Moments;
}

export interface ReportData {
  readonly file: string;
  readonly title: string;
  readonly sources: readonly string[];
  readonly version: string;
  readonly kinds: readonly { readonly name: string; readonly doc: string }[];
  readonly names: readonly string[];
  /** The page reads them after the first paint; until then there are none. */
  texts: readonly string[];
  readonly runs: readonly RunData[];
}
