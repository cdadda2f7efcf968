/**
 * What is explored: some state in pools, and actors that change it step by step. A step is deterministic:
 * what can come out in several ways is several actors (a store buffer that drains is an actor of its own).
 */
import type { StateRegistry } from "../sim/state.js";

/** Word of no actor's own: any actor may touch it. */
export const SHARED = -1;
/** Word that nothing asks while actors run: clocks, counters, what the observer keeps. */
export const IGNORED = -2;

export interface System {
  /** Made with `watchReads` if reduction is wanted, and recording. */
  readonly state: StateRegistry;
  /** At most 30. */
  readonly actors: number;
  /** Actors, as bits, whose steps preempt nobody: what hardware does of its own accord. */
  readonly passive?: number;
  /** Runs the next step of an actor that has not finished. @returns false if it has to wait for another */
  step(actor: number): boolean;
  finished(actor: number): boolean;
  /** How far an actor has come: it never decreases. What an actor has left to do is learnt by this. */
  position(actor: number): number;
  /** Pools whose words have owners, by number. Others are shared. */
  ownedPool(pool: number): boolean;
  /** Whether an actor may look at words of such a pool that it does not own. */
  looksAround(pool: number, actor: number): boolean;
  /** The actor that owns a word of such a pool, or SHARED, or IGNORED. */
  owner(pool: number, word: number): number;
  /** Pools of which nothing depends. */
  ignoredPool(pool: number): boolean;
  /** Pools that the observer looks at: the order in which they change matters. */
  watchedPool(pool: number): boolean;
  /** Computes the digest of the present state into `digestLow` and `digestHigh`: states that differ in what matters differ in it. */
  digest(): void;
  digestLow: number;
  digestHigh: number;
  /** What the digest is of, as a text: for tests. */
  content(): string;
}

/** What somebody wants to know of every state. What it keeps for itself lies in pools too, or does not depend on the order of visits. */
export interface Observer {
  /** After every step. @returns what is wrong with it, or undefined */
  step?(actor: number): string | undefined | void;
  /** A step has found that it must wait, and was taken back. */
  waited?(): void;
  /** Every actor has finished: a terminal state, visited once if states are hashed. @returns what is wrong */
  end?(): string | undefined | void;
  /** Nobody can go on, but somebody has not finished. @returns what is wrong; "deadlock" if this is absent */
  stuck?(): string | undefined | void;
  /** Agents that all go on have come back to a state that they were in: for ever, if nobody else interferes. @returns what is wrong */
  loop?(): string | undefined | void;
  /** The search begins again at its first state: what was collected is void. */
  again?(): void;
}
