/**
 * What a campaign is: one notion of work for `conform`, `explore`, `fuzz`, `litmus` and `measure`.
 *
 * A campaign is cut into units, numbered from 0. A unit's result is a pure function of (spec, input): no clock, no
 * random numbers but those of a seed in them, nothing kept from the unit before. So a unit can be done by any thread or machine,
 * and done again when its worker died. Results are merged in the order of the numbers, whoever finished first:
 * the report is the same, byte for byte, for any number of jobs.
 *
 * A unit's input may depend on results before it, but only in a way that does not depend on speed: the input of unit n is
 * asked for when exactly the units below n - window have been merged. So at most `window` units are under way at once, and the
 * window, not the number of jobs, is part of what decides the report.
 *
 * Spec, input and result are JSON values: they go to threads, over a queue and into a journal.
 */
export interface Work<Spec, State, Input, Result> {
  /** The name in kinds.ts under which a worker finds this work. */
  readonly kind: string;
  /** True: a unit waits for processes of its own. Any number of them is done in one thread, and no worker elsewhere could. */
  readonly waits?: true;
  /** True: interrupted it tells nothing, so a signal ends the process at once, also in the middle of a long unit. */
  readonly wholeOnly?: true;
  /** Units that may be under way at once, at least 1. */
  window(spec: Spec): number;
  /** What the results are merged into. Kept in the submitting process alone; it may hold anything. */
  start(spec: Spec): State;
  /**
   * The input of unit `unit`; it may take it out of the state. undefined: no such unit now. It is asked again after the next
   * merge; when no unit is under way any more, the campaign is complete.
   */
  next(spec: Spec, state: State, unit: number): Input | undefined;
  /** Does one unit: in a worker, with `pause` between its parts if it can take long. Wrong input that it throws is a result too (unit.ts); anything else thrown is a defect and ends the campaign. */
  run(spec: Spec, input: Input, pause: Pause): Result | Promise<Result>;
  /** Takes up one result: in the order of the units. What it throws, wrong input that a unit found, reaches the caller as it is. */
  merge(spec: Spec, state: State, unit: number, result: Result): void;
  /** True: what is known is enough, no further units. Asked after each merge. */
  enough?(spec: Spec, state: State): boolean;
  /** What a terminal shows while it goes on: "1200 of 4000 runs, 3 failures". */
  progress?(spec: Spec, state: State, merged: number): string;
  /** What the terminal's rate counts; units if absent. */
  counted?(state: State): number;
}

/** Lets signals and timers have their turn where the unit shares its thread with who waits for them. Given up, it never comes back. */
export type Pause = () => Promise<void>;

/** A work whose types do not matter to who carries it out. */
export type AnyWork = Work<unknown, unknown, unknown, unknown>;

/** Carries out units somewhere. The result is JSON text: what comes back is the same from everywhere. */
export interface Executor {
  /** Units that it can have at once. */
  readonly capacity: number;
  run(unit: number, input: unknown): Promise<string>;
  /** Gives up what is under way. */
  close(): Promise<void>;
}

/** How a campaign ended. */
export type Ended = "complete" | "time" | "interrupted";

export interface Campaigned<State> {
  readonly state: State;
  /** Units that were merged. */
  readonly units: number;
  readonly ended: Ended;
}
