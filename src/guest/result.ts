/** What a run of one variant gives: steps with their events, expectations with their outcomes, a verdict. */
import type { EventRecord } from "../sim/events.js";
import type { StepEvents } from "../trace/stepevents.js";
import type { Detail } from "../trace/story.js";
import type { Folded } from "../trace/text.js";
import type { Stage2Leaf } from "../api/nouns.js";
import type { Cell } from "./tally.js";
import type { VariantConfig } from "./compile.js";

/** One thing the script did. */
export class Step {
  /** What is kept of them, an object each, made when somebody asks. */
  declare readonly events: readonly EventRecord[];
  readonly #kept: StepEvents;

  constructor(
    readonly line: number,
    /** The statement, as written. */
    readonly text: string,
    /** Who did it: vmm, vcpu0, … */
    readonly agent: string,
    /** What came back: "= 0x7f…", "-> EFAULT"; "" if nothing worth saying. */
    readonly result: string,
    /** Number of the first event after it. */
    readonly to: number,
    kept: StepEvents,
    /** Events that were not kept. */
    readonly dropped: number,
  ) {
    this.#kept = kept;
    // A property of its own: steps are compared, copied and written as JSON.
    Object.defineProperty(this, "events", { enumerable: true, get: () => kept.records });
  }

  /** The events that tell the story, repetitions folded. */
  told(detail: Detail): Folded[] {
    return this.#kept.told(detail);
  }
}

export type Status = "met" | "failed" | "skipped";

export interface Outcome {
  readonly status: Status;
  readonly line: number;
  readonly column: number;
  /** The expectation as written, or what nobody expected. */
  readonly text: string;
  /** Of a failed one. */
  readonly expected: string;
  readonly actual: string;
  /** The events that led to it, oldest first. */
  readonly events: readonly EventRecord[];
}

export interface VariantResult {
  readonly variant: VariantConfig;
  readonly passed: boolean;
  /** One line: `v5.4: host crash in transparent_hugepage_adjust: PFN without struct page`. */
  readonly verdict: string;
  readonly steps: readonly Step[];
  readonly outcomes: readonly Outcome[];
  readonly crash: { readonly function: string; readonly reason: string } | undefined;
  /** Stage 2 at the end, in the order of addresses; empty after a crash. */
  readonly leaves: readonly Stage2Leaf[];
  /** Number of the script's first event: before it the machine was set up. */
  readonly begins: number;
  /** The run's row of the table (`faultline run --table`). */
  readonly row: readonly Cell[];
  /** Events of the whole run. */
  readonly seq: number;
  /** Phases that ran. */
  readonly phases: number;
  /** Decisions of the era that the run asked and that have no source. */
  readonly unknown: readonly string[];
}
