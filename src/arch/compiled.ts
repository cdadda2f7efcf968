/**
 * Compiled loops: a loop of guest code that is taken often becomes one JavaScript function (compiledtext.ts), which keeps
 * the guest's registers in variables and loads from pages that the interpreter knows (cpu.ts). Everything else it leaves
 * to the interpreter: it gives the number of the instruction at which that goes on.
 *
 * A function is made from the decoded words of the loop's body and from nothing else; the same words give the same function wherever they stand.
 * Where the process forbids code from strings, nothing is compiled.
 */
import { addFlagsW, addFlagsX, flagsNz, holds, subFlagsW, subFlagsX } from "./a64alu.js";
import { FIELD_WORDS } from "./a64ops.js";
import { BOUND, loopText, type LoopCosts } from "./compiledtext.js";
import { decodeInto } from "./decode.js";
import type { CpuFeatures } from "./features.js";

/** Trips of a loop before it is compiled: about as much work as compiling it. */
export const LOOP_TRIPS = 2000;
/** Instructions of the longest loop that is compiled, a power of two. */
export const LOOP_SHIFT = 6;
export const LOOP_WORDS = 1 << LOOP_SHIFT;
/** Loops that are kept before all are forgotten. */
const LOOPS = 256;
const NEVER = 0x3fffffff;

/**
 * @param b where the vCPU's words of the register file begin
 * @param pcLo address of the loop's first instruction, which is PC in the register file too
 * @param code where the pool of full pages has the loop's words: are they still those that were compiled? Else it goes on at the first. -1: they are
 * @param left instructions of the budget @param charged those that were left when the clock was last charged @param ram cycles of RAM since then
 * @returns distance from there of the instruction at which the interpreter goes on, or the STEP_ code of an access that failed
 */
export type LoopFunction = (b: number, pcLo: number, pcHi: number, code: number, left: number, charged: number, ram: number) => number;

export class Loops {
  /** Loop n + 1 is at n. */
  private readonly made: LoopFunction[] = [];
  /** The words of loop n, from n << LOOP_SHIFT. */
  readonly words = new Int32Array((LOOPS + 1) << LOOP_SHIFT);
  private readonly numbers = new Map<string, number>();
  private forbidden = false;
  readonly trips: number;

  /** @param trips of a loop before it is compiled @param bound values of the first names of BOUND after the fields */
  constructor(
    trips: number,
    private readonly features: CpuFeatures,
    private readonly costs: LoopCosts,
    private readonly bound: readonly unknown[],
  ) {
    this.trips = Math.min(trips, NEVER);
  }

  /** How many have been compiled. */
  get count(): number {
    return this.made.length;
  }

  get full(): boolean {
    return this.numbers.size === LOOPS;
  }
  forget(): void {
    this.made.length = 0;
    this.numbers.clear();
  }

  get(n: number): LoopFunction {
    return this.made[n - 1]!;
  }

  /** Compiles a loop. @returns its number, from 1, or -1 */
  make(code: Int32Array, length: number): number {
    const words = code.slice(0, length);
    const key = words.join();
    const known = this.numbers.get(key);
    if (known !== undefined) return known;
    if (this.forbidden) return -1;
    const fields = new Int32Array(length * FIELD_WORDS);
    words.forEach((word, n) => decodeInto(word, this.features, fields, n * FIELD_WORDS));
    const text = loopText(words, fields, this.costs);
    let number = -1;
    if (text !== undefined) {
      const run = this.evaluate(text, fields);
      if (run === undefined) return -1;
      number = this.made.push(run);
      this.words.set(words, number << LOOP_SHIFT);
    }
    this.numbers.set(key, number);
    return number;
  }

  private evaluate(text: string, fields: Int32Array): LoopFunction | undefined {
    try {
      const make = new Function(...BOUND, text) as (...values: unknown[]) => LoopFunction;
      return make(fields, ...this.bound, addFlagsX, subFlagsX, addFlagsW, subFlagsW, flagsNz, holds);
    } catch (error) {
      if (!(error instanceof EvalError)) throw error;
      this.forbidden = true;
      return undefined;
    }
  }
}
