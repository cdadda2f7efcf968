/**
 * What a step touches, seen while it runs: the pools that it looked at and those that it wrote, as bits.
 *
 * One bit for every pool and one for every actor: words that an actor owns count for its bit, whatever pool
 * they lie in. Two steps are independent when neither writes what the other reads or writes: then both orders
 * give the same state, and neither makes the other wait. A step that waits counts too: it looked at the lock.
 *
 * What an actor will ever touch from a position on is what it has been seen to touch there or later. A search
 * during which that grew is run again (`grew`); one during which it did not is its own proof, because a step
 * that no run has shown would have been reached by a run that this search took.
 */
import type { System } from "./system.js";
import { IGNORED, SHARED } from "./system.js";

/** Positions that are told apart for each actor; later ones count as the last. */
const POSITIONS = 64;

export class Footprints {
  /** Words of a set: reads and writes of one step are two sets, one behind the other. */
  private readonly words: number;
  /** Footprint of each actor's step at each depth, or where an earlier one that still holds lies. */
  private prints = new Int32Array(0);
  private where = new Int32Array(0);
  /** Per actor and position: the union of all that was seen there or later. */
  private readonly future: Int32Array;
  private readonly watched: Int32Array;
  private readonly ignored: Int32Array;
  private readonly owned: Int32Array;
  /** Pools that are neither. */
  private readonly shared: Int32Array;
  /** Per actor: owned pools of which it may look at any word. */
  private readonly around: readonly Int32Array[];
  private readonly pools: number;
  private readonly actors: number;
  /** What actors touch was found to be more than what was known. */
  grew = false;

  constructor(private readonly system: System) {
    const { state, actors } = system;
    this.pools = state.pools.length;
    this.actors = actors;
    this.words = (this.pools + actors + 31) >> 5;
    this.future = new Int32Array(actors * POSITIONS * 2 * this.words);
    const set = (has: (pool: number) => boolean): Int32Array => {
      const bits = new Int32Array(this.words);
      for (let p = 0; p < this.pools; p++) if (has(p)) bits[p >> 5]! |= 1 << (p & 31);
      return bits;
    };
    this.watched = set((p) => system.watchedPool(p));
    this.ignored = set((p) => system.ignoredPool(p));
    this.owned = set((p) => system.ownedPool(p));
    this.shared = set((p) => !system.ignoredPool(p) && !system.ownedPool(p));
    const around: Int32Array[] = [];
    for (let a = 0; a < actors; a++) around.push(set((p) => system.ownedPool(p) && system.looksAround(p, a)));
    this.around = around;
  }

  /** A step begins. */
  begin(): void {
    const { reads } = this.system.state;
    for (let i = 0; i < this.words; i++) reads[i] = 0;
  }

  /**
   * A step has ended, or has found that it must wait.
   * @param at position of the actor before it @param mark of the state before it
   */
  end(depth: number, actor: number, at: number, mark: number): void {
    const { words, pools, shared } = this;
    const { reads } = this.system.state;
    const slot = depth * this.actors + actor;
    if ((slot + 1) * 2 * words > this.prints.length) this.grow();
    const r = slot * 2 * words;
    const w = r + words;
    const p = this.prints;
    this.where[slot] = r;
    const anywhere = this.around[actor]!;
    let around = 0;
    for (let i = 0; i < words; i++) {
      const read = reads[i]!;
      p[r + i] = read & shared[i]!;
      p[w + i] = 0;
      around |= read & anywhere[i]!;
    }
    // An actor looks at what it owns; where it may look at more it looks at what all own.
    for (let a = 0; a < this.actors; a++) if (a === actor || around !== 0) p[r + ((pools + a) >> 5)]! |= 1 << ((pools + a) & 31);
    this.writes(actor, mark, w);
    this.learn(actor, at, r);
  }

  /** The pools, and the owners of words, that the journal says were written since a mark. */
  private writes(actor: number, mark: number, w: number): void {
    const { system, pools, owned, ignored } = this;
    const { state } = system;
    const p = this.prints;
    const own = pools + actor;
    for (let n = mark; n < state.journalled; n++) {
      const pool = state.journalledPool(n);
      const word = pool >> 5;
      const bit = 1 << (pool & 31);
      if ((owned[word]! & bit) !== 0) {
        const owner = system.owner(pool, state.journalledWord(n));
        if (owner === actor) {
          p[w + (own >> 5)]! |= 1 << (own & 31);
          continue;
        }
        if (owner >= 0) {
          p[w + ((pools + owner) >> 5)]! |= 1 << ((pools + owner) & 31);
          continue;
        }
        if (owner === IGNORED) continue;
        if (owner !== SHARED) throw new Error("a word has no such owner");
      }
      if ((ignored[word]! & bit) === 0) p[w + word]! |= bit;
    }
  }

  /** Notes what an actor touched at a position. */
  private learn(actor: number, at: number, r: number): void {
    const size = 2 * this.words;
    const { future, prints } = this;
    for (let n = Math.min(at, POSITIONS - 1); n >= 0; n--) {
      const to = (actor * POSITIONS + n) * size;
      let more = 0;
      for (let i = 0; i < size; i++) more |= prints[r + i]! & ~future[to + i]!;
      if (more === 0) return;
      for (let i = 0; i < size; i++) future[to + i]! |= prints[r + i]!;
      this.grew = true;
    }
  }

  /** Whether the step that an actor ran at this depth touches nothing that the others ever will, nor what is watched. */
  isLocal(depth: number, actor: number): boolean {
    const { words, future, prints, system } = this;
    const r = this.where[depth * this.actors + actor]!;
    const w = r + words;
    for (let i = 0; i < words; i++) if ((prints[w + i]! & this.watched[i]!) !== 0) return false;
    for (let other = 0; other < this.actors; other++) {
      if (other === actor || system.finished(other)) continue;
      const f = (other * POSITIONS + Math.min(system.position(other), POSITIONS - 1)) * 2 * words;
      for (let i = 0; i < words; i++) {
        if ((prints[w + i]! & (future[f + i]! | future[f + words + i]!)) !== 0) return false;
        if ((prints[r + i]! & future[f + words + i]!) !== 0) return false;
      }
    }
    return true;
  }

  /**
   * The actors of `asleep` whose step at this depth is independent of the one that `actor` runs there: they
   * sleep on in the state that it leads to, with the footprints that they have.
   */
  stillAsleep(depth: number, actor: number, asleep: number): number {
    if (asleep === 0) return 0;
    const { words, prints } = this;
    const here = depth * this.actors;
    if ((here + 2 * this.actors) * 2 * words > prints.length) this.grow();
    const p = this.prints;
    const r = this.where[here + actor]!;
    let still = 0;
    for (let x = 0; x < this.actors; x++) {
      if ((asleep & (1 << x)) === 0) continue;
      const o = this.where[here + x]!;
      let meet = 0;
      for (let i = 0; i < words; i++) {
        const wa = p[r + words + i]!;
        const wx = p[o + words + i]!;
        meet |= (wa & (p[o + i]! | wx)) | (wx & p[r + i]!);
      }
      if (meet !== 0) continue;
      still |= 1 << x;
      this.where[here + this.actors + x] = o;
    }
    return still;
  }

  private grow(): void {
    const depths = Math.max(128, (2 * this.where.length) / this.actors);
    const prints = new Int32Array(depths * this.actors * 2 * this.words);
    prints.set(this.prints);
    this.prints = prints;
    const where = new Int32Array(depths * this.actors);
    where.set(this.where);
    this.where = where;
  }
}
