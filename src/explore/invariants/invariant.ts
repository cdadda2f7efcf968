/**
 * What an invariant is: something that holds at every step of every interleaving, said in one line, with its source.
 *
 * It is asked in two ways. `on` looks at events as they come; `holds` looks at the state, and is asked again only
 * when the pools that it names hold something that it has not seen.
 */
import type { Machine } from "../../machine.js";
import type { F64Pool } from "../../sim/state.js";

/** What an invariant keeps of the run, in a pool: undone with the state, and part of it. */
export interface Watch {
  readonly machine: Machine;
  /** Doubles of this invariant's own. */
  readonly memory: F64Pool;
  /** The first of them. */
  readonly at: number;
}

/** An event as it lies in the ring: its words begin at `at`. */
export type OnEvent = (w: Watch, agent: number, ring: Float64Array, at: number) => string | undefined;

/** Parts of the state that change together; an invariant names those that it looks at. */
export type Part = "tables" | "tlb" | "dirty";

export interface Invariant {
  readonly name: string;
  readonly statement: string;
  readonly source: string;
  /** Asked only where it is named. */
  readonly onRequest?: true;
  /** Doubles that it keeps. */
  readonly words?: number;
  readonly on?: Readonly<Record<string, OnEvent>>;
  /** After every step of an agent. */
  readonly after?: (w: Watch, agent: number) => string | undefined;
  readonly looksAt?: readonly Part[];
  readonly holds?: (w: Watch) => string | undefined;
  /** For a state in which `holds` finds this wrong: whether it is only on the way to a right one. */
  readonly excused?: (w: Watch, what: string) => boolean;
  /** When every agent has ended. */
  readonly end?: (w: Watch) => string | undefined;
}

export const hex = (n: number): string => `0x${n.toString(16)}`;
