/**
 * The states that a search has visited: an open hash table of their 64-bit hashes, each with one word.
 *
 * bits 29:0 of the word: the actors that were followed from there (or the fewest preemptions it was reached with)
 * bit 30: the state lies on the way from the first state to the present one
 */
import type { System } from "./system.js";

const ON_WAY = 1 << 30;
const VALUE = ON_WAY - 1;

export class VisitedStates {
  /** Number of a state + 1, by hash; 0: free. */
  private slots = new Int32Array(1 << 13);
  /** By number: hash, low and high; word. */
  private keys = new Int32Array(1 << 13);
  private words = new Int32Array(1 << 12);
  private used = 0;
  /** The last `enter` found no such state. */
  isNew = false;
  /** What the states hold, by hash. */
  private readonly contents: Map<string, string> | undefined;

  /** @param verify keep what states hold, and compare at every hit */
  constructor(
    private readonly system: System,
    verify: boolean,
  ) {
    this.contents = verify ? new Map() : undefined;
  }

  get count(): number {
    return this.used;
  }

  clear(): void {
    this.slots.fill(0);
    this.words.fill(0);
    this.used = 0;
    this.contents?.clear();
  }

  /** The number of the state of the system's last digest; it gets one if it has none. @param variant tells states apart beyond it, from 0 */
  enter(variant: number): number {
    const lo = this.system.digestLow ^ Math.imul(variant, 0x9e3779b1);
    const hi = this.system.digestHigh;
    if (this.contents !== undefined) this.verify(`${lo},${hi},${variant}`);
    const { slots, keys } = this;
    const mask = slots.length - 1;
    let at = spread(lo, hi) & mask;
    for (; slots[at] !== 0; at = (at + 1) & mask) {
      const n = slots[at]! - 1;
      if (keys[2 * n] !== lo || keys[2 * n + 1] !== hi) continue;
      this.isNew = false;
      return n;
    }
    this.isNew = true;
    const n = this.used++;
    slots[at] = n + 1;
    keys[2 * n] = lo;
    keys[2 * n + 1] = hi;
    if (2 * this.used > mask || n + 1 >= this.words.length) this.grow();
    return n;
  }

  value(n: number): number {
    return this.words[n]! & VALUE;
  }
  setValue(n: number, value: number): void {
    this.words[n] = (this.words[n]! & ~VALUE) | value;
  }
  add(n: number, bits: number): void {
    this.words[n]! |= bits & VALUE;
  }
  onWay(n: number): boolean {
    return (this.words[n]! & ON_WAY) !== 0;
  }
  setOnWay(n: number, on: boolean): void {
    this.words[n] = on ? this.words[n]! | ON_WAY : this.words[n]! & ~ON_WAY;
  }

  private grow(): void {
    const { keys } = this;
    this.keys = new Int32Array(2 * keys.length);
    this.keys.set(keys);
    const words = new Int32Array(2 * this.words.length);
    words.set(this.words);
    this.words = words;
    const slots = (this.slots = new Int32Array(2 * this.slots.length));
    const mask = slots.length - 1;
    for (let n = 0; n < this.used; n++) {
      let at = spread(keys[2 * n]!, keys[2 * n + 1]!) & mask;
      while (slots[at] !== 0) at = (at + 1) & mask;
      slots[at] = n + 1;
    }
  }

  /** @throws Error if another state has the same hash */
  private verify(key: string): void {
    const now = this.system.content();
    const then = this.contents!.get(key);
    if (then === undefined) this.contents!.set(key, now);
    else if (then !== now) throw new Error(`two different states have the hash ${key}`);
  }
}

function spread(lo: number, hi: number): number {
  const h = Math.imul(lo ^ Math.imul(hi, 0x85ebca6b), 0x2c1b3c6d);
  return h ^ (h >>> 15);
}
