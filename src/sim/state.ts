/**
 * The state registry: every word that a run can change lives in a pool registered here.
 *
 * A pool is one typed array with one writer method, `set`. While recording is on, `set` journals
 * (pool, index, old value) and keeps an incremental hash, so that `mark`/`rollback` undo and two
 * equal states have equal hashes. Exploration, debugging and time travel stand on this.
 * Zero words contribute nothing to the hash: growing a pool does not change it.
 */

/** Mixes a pool number, an index and a 32-bit value into 32 bits; never called for value 0. */
function mix(salt: number, index: number, value: number): number {
  let h = Math.imul(value ^ salt, 0x9e3779b1) ^ Math.imul(index + 0x7f4a7c15, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
  return h ^ (h >>> 15);
}

const F64_VIEW = new Float64Array(1);
const I32_VIEW = new Int32Array(F64_VIEW.buffer);

/** Parts of the hash: whoever compares states may give pools to different ones. */
export const GROUPS = 8;
/** The group of pools that count for no hash. */
export const UNHASHED = -1;

/** A place in the journal to roll back to. */
export type Mark = number;

/** A full copy of every pool, made by `StateRegistry.checkpoint`. */
export interface Checkpoint {
  readonly words: readonly (Int32Array | Float64Array)[];
}

/**
 * A count that changes too often to be written to its pool each time (events, cycles): its owner keeps
 * it in a field, and brings it into the pool before anybody looks at the state.
 */
export interface Tally {
  /** Writes the field to the pool. */
  store(): void;
  /** Reads the field from the pool: the state was put back. */
  load(): void;
}

/** The ground of undo and hashing. One registry per machine. */
export class StateRegistry {
  readonly pools: Pool[] = [];
  private readonly names = new Set<string>();
  private readonly tallies: Tally[] = [];
  /** True while `set` journals and hashes. */
  recording = false;
  /** With `watchReads`: one bit for every pool that was looked at since somebody cleared it. */
  readonly reads = new Int32Array(32);
  private journalPool = new Int32Array(0);
  private journalIndex = new Int32Array(0);
  private journalOld = new Float64Array(0);
  private journalLength = 0;
  /** Marks that may be rolled back to, by rising place in the journal, and the hash at each: to undo needs no hashing. */
  private marks = 0;
  private markedAt = new Float64Array(16);
  private markedHash = new Int32Array(16 * 2 * GROUPS);
  /** The two halves of the incremental hash, by the pools' groups; meaningful only while recording. */
  readonly hashHi = new Int32Array(GROUPS);
  readonly hashLo = new Int32Array(GROUPS);

  /** @param watchReads pools note in `reads` that they are looked at: for an explorer that asks what a step depends on */
  constructor(readonly watchReads = false) {}

  /** A pool of 32-bit signed words. @param length initial words; `ensure` grows it */
  i32(name: string, length: number): I32Pool {
    const pool = new (this.watchReads ? WatchedI32Pool : i32Class(name))(this, this.pools.length, name, length);
    this.register(pool);
    return pool;
  }

  /** A pool of doubles: addresses and counts exact below 2^53. */
  f64(name: string, length: number): F64Pool {
    const pool = new (this.watchReads ? WatchedF64Pool : f64Class(name))(this, this.pools.length, name, length);
    this.register(pool);
    return pool;
  }

  tally(tally: Tally): void {
    this.tallies.push(tally);
  }
  private storeTallies(): void {
    for (const t of this.tallies) t.store();
  }
  private loadTallies(): void {
    for (const t of this.tallies) t.load();
  }

  private register(pool: Pool): void {
    if (this.names.has(pool.name)) throw new Error(`two pools named ${pool.name}`);
    if (pool.id >= 32 * this.reads.length) throw new Error("too many pools");
    this.names.add(pool.name);
    this.pools.push(pool);
  }

  /** Starts journalling and hashing; the hash of the state as it stands is computed once. */
  startRecording(): void {
    if (this.recording) return;
    this.storeTallies();
    this.recording = true;
    this.journalLength = this.marks = 0;
    this.hashHi.fill(0);
    this.hashLo.fill(0);
    for (const pool of this.pools) {
      const words = pool.a;
      for (let i = 0; i < pool.needed; i++) if (words[i] !== 0) this.hashWord(pool, i, words[i]!);
    }
  }

  stopRecording(): void {
    this.recording = false;
    this.journalLength = this.marks = 0;
  }

  /** Xors one word in or out of the hash. */
  hashWord(pool: Pool, index: number, value: number): void {
    const g = pool.group;
    if (value === 0 || g < 0) return;
    if (pool.wide) {
      F64_VIEW[0] = value;
      const lo = I32_VIEW[0]!;
      const hi = I32_VIEW[1]!;
      this.hashLo[g]! ^= mix(pool.salt, index, lo ^ Math.imul(hi, 0x27d4eb2f));
      this.hashHi[g]! ^= mix(~pool.salt, index, hi ^ Math.imul(lo, 0x165667b1));
    } else {
      this.hashLo[g]! ^= mix(pool.salt, index, value);
      this.hashHi[g]! ^= mix(~pool.salt, index, value);
    }
  }

  /** Called by a pool's `set` while recording. */
  record(pool: Pool, index: number, old: number, value: number): void {
    const n = this.journalLength;
    if (n === this.journalPool.length) this.growJournal();
    this.journalPool[n] = pool.id;
    this.journalIndex[n] = index;
    this.journalOld[n] = old;
    this.journalLength = n + 1;
    this.hashWord(pool, index, old);
    this.hashWord(pool, index, value);
  }

  private growJournal(): void {
    const n = Math.max(1024, this.journalPool.length * 2);
    const grow = <T extends Int32Array | Float64Array>(from: T, to: T): T => (to.set(from), to);
    this.journalPool = grow(this.journalPool, new Int32Array(n));
    this.journalIndex = grow(this.journalIndex, new Int32Array(n));
    this.journalOld = grow(this.journalOld, new Float64Array(n));
  }

  /** Entries of the journal. */
  get journalled(): number {
    return this.journalLength;
  }
  /** Number of the pool, and of the word in it, that an entry of the journal changed. */
  journalledPool(n: number): number {
    return this.journalPool[n]!;
  }
  journalledWord(n: number): number {
    return this.journalIndex[n]!;
  }

  /** The present place in the journal. Only while recording. */
  mark(): Mark {
    if (!this.recording) throw new Error("mark() needs recording");
    this.storeTallies();
    this.keepHash();
    return this.journalLength;
  }

  /** Notes the hash at the present place in the journal. */
  private keepHash(): void {
    const at = this.journalLength;
    if (this.marks > 0 && this.markedAt[this.marks - 1] === at) return;
    const n = this.marks++;
    if (n === this.markedAt.length) {
      const grow = <T extends Int32Array | Float64Array>(from: T, to: T): T => (to.set(from), to);
      this.markedAt = grow(this.markedAt, new Float64Array(2 * n));
      this.markedHash = grow(this.markedHash, new Int32Array(2 * n * 2 * GROUPS));
    }
    this.markedAt[n] = at;
    for (let g = 0; g < GROUPS; g++) {
      this.markedHash[n * 2 * GROUPS + g] = this.hashLo[g]!;
      this.markedHash[n * 2 * GROUPS + GROUPS + g] = this.hashHi[g]!;
    }
  }

  /** Marks work from here to `endUndo` although nobody records. @returns false while somebody does: nothing was begun */
  beginUndo(): boolean {
    if (this.recording) return false;
    this.recording = true;
    this.journalLength = this.marks = 0;
    return true;
  }
  /** @param began what `beginUndo` said */
  endUndo(began: boolean): void {
    if (began) this.stopRecording();
  }

  /** Undoes every write since `mark`, newest first. */
  rollback(mark: Mark): void {
    while (this.marks > 0 && this.markedAt[this.marks - 1]! > mark) this.marks--;
    const kept = this.marks > 0 && this.markedAt[this.marks - 1] === mark;
    for (let n = this.journalLength - 1; n >= mark; n--) {
      const pool = this.pools[this.journalPool[n]!]!;
      const i = this.journalIndex[n]!;
      const old = this.journalOld[n]!;
      if (!kept) {
        this.hashWord(pool, i, pool.a[i]!);
        this.hashWord(pool, i, old);
      }
      pool.a[i] = old;
    }
    if (kept) {
      const at = (this.marks - 1) * 2 * GROUPS;
      for (let g = 0; g < GROUPS; g++) {
        this.hashLo[g] = this.markedHash[at + g]!;
        this.hashHi[g] = this.markedHash[at + GROUPS + g]!;
      }
    }
    this.journalLength = mark;
    this.loadTallies();
  }

  /** The state's hash as 16 hex digits; computed from scratch when not recording. */
  hash(): string {
    if (!this.recording) {
      this.startRecording();
      const h = this.hash();
      this.stopRecording();
      return h;
    }
    this.storeTallies();
    const hex = (v: number) => (v >>> 0).toString(16).padStart(8, "0");
    return hex(this.hashHi.reduce((a, b) => a ^ b)) + hex(this.hashLo.reduce((a, b) => a ^ b));
  }

  /** Copies all pools. */
  checkpoint(): Checkpoint {
    this.storeTallies();
    return { words: this.pools.map((p) => p.a.slice(0, p.needed)) };
  }

  /** Puts a checkpoint back; the journal ends there. */
  restore(from: Checkpoint): void {
    for (let n = 0; n < this.pools.length; n++) {
      const pool = this.pools[n]!;
      const words = from.words[n];
      const length = words === undefined ? 0 : words.length;
      pool.ensure(length);
      pool.a.fill(0, length, pool.needed);
      if (words !== undefined) pool.a.set(words);
      if (pool.counted) pool.needed = length;
    }
    this.loadTallies();
    if (this.recording) {
      this.recording = false;
      this.startRecording();
    }
  }

  /** Bytes of all pools, without the room that nobody has asked for yet. */
  bytes(): number {
    return this.pools.reduce((sum, p) => sum + p.bytes, 0);
  }
}

/** Bytes of the smallest array: one of up to 64 lies in V8's own heap, where it may move, and each access looks for its place. */
const SMALLEST = 128;

/** Up to so many words a pool doubles; beyond, four times as much: memory that nobody has touched yet costs no memory, copying does. */
const LARGE = 1 << 20;

/** Words of a pool that must hold n. */
function grownSize(length: number, n: number): number {
  let size = Math.max(16, length);
  while (size < n) size *= size < LARGE ? 2 : 4;
  return size;
}

/** 32-bit signed words. Read `pool.a[i]`; write only through `set`. `a` changes when the pool grows. */
export class I32Pool {
  // Declared only: an assignment must find the accessor of the watched pools.
  declare a: Int32Array;
  /** The part of the hash that its words count for, below GROUPS, or UNHASHED: set before recording starts. */
  group = 0;
  readonly wide = false;
  readonly salt: number;
  /** Words that somebody asked for; what `a` has beyond them was never written. */
  needed: number;
  /**
   * Its owner counts in the state what it has taken, and calls `ensure` for each that it takes anew: what a checkpoint
   * does not have is given back when it is restored, and need not be cleared again by the next.
   */
  counted = false;
  constructor(
    protected readonly registry: StateRegistry,
    readonly id: number,
    readonly name: string,
    length: number,
  ) {
    this.a = new Int32Array(Math.max(length, SMALLEST / 4));
    this.needed = length;
    this.salt = Math.imul(id + 1, 0x3c6ef372) | 1;
  }

  /** Short, as V8 puts only so much code into the one that calls. */
  set(i: number, v: number): void {
    if (this.registry.recording === true) this.record(i, v);
    else this.a[i] = v;
  }
  private record(i: number, v: number): void {
    const old = this.a[i]!;
    const now = v | 0;
    if (old === now) return;
    this.registry.record(this, i, old, now);
    this.a[i] = now;
  }

  /** Writes two adjacent words, low and high half of a register or descriptor: one test for both. */
  set2(i: number, v0: number, v1: number): void {
    if (this.registry.recording === true) this.record2(i, v0, v1);
    else {
      const a = this.a;
      a[i] = v0;
      a[i + 1] = v1;
    }
  }
  private record2(i: number, v0: number, v1: number): void {
    this.record(i, v0);
    this.record(i + 1, v1);
  }

  /** Moves n words from index `from` to index `to`; the two may overlap where `to` is the lower. */
  move(to: number, from: number, n: number): void {
    if (this.registry.recording === true) for (let i = 0; i < n; i++) this.set(to + i, this.a[from + i]!);
    else this.a.copyWithin(to, from, from + n);
  }

  /** Zeroes n words. */
  clear(from: number, n: number): void {
    if (this.registry.recording === true) for (let i = from; i < from + n; i++) this.set(i, 0);
    else if (n > 64) this.a.fill(0, from, from + n);
    else {
      const a = this.a;
      const end = (from + n) | 0;
      let i = from | 0;
      // V8 looks at the array anew in each turn: four words a turn.
      for (; ((i + 4) | 0) <= end; i = (i + 4) | 0) a[i] = a[(i + 1) | 0] = a[(i + 2) | 0] = a[(i + 3) | 0] = 0;
      for (; i < end; i = (i + 1) | 0) a[i] = 0;
    }
  }

  /** Bytes of the words that somebody asked for. */
  get bytes(): number {
    return this.needed * this.a.BYTES_PER_ELEMENT;
  }

  /** Makes room for at least n words. */
  ensure(n: number): void {
    if (n <= this.needed) return;
    this.needed = n;
    if (n <= this.a.length) return;
    const grown = new Int32Array(grownSize(this.a.length, n));
    grown.set(this.a);
    this.a = grown;
  }
}

/** Doubles: addresses, page numbers, times. Read `pool.a[i]`; write only through `set`. */
export class F64Pool {
  // Declared only: an assignment must find the accessor of the watched pools.
  declare a: Float64Array;
  /** The part of the hash that its words count for, below GROUPS, or UNHASHED: set before recording starts. */
  group = 0;
  readonly wide = true;
  readonly salt: number;
  /** Words that somebody asked for; what `a` has beyond them was never written. */
  needed: number;
  /**
   * Its owner counts in the state what it has taken, and calls `ensure` for each that it takes anew: what a checkpoint
   * does not have is given back when it is restored, and need not be cleared again by the next.
   */
  counted = false;
  constructor(
    protected readonly registry: StateRegistry,
    readonly id: number,
    readonly name: string,
    length: number,
  ) {
    this.a = new Float64Array(Math.max(length, SMALLEST / 8));
    this.needed = length;
    this.salt = Math.imul(id + 1, 0x3c6ef372) | 1;
  }

  /** Short, as V8 puts only so much code into the one that calls. */
  set(i: number, v: number): void {
    if (this.registry.recording === true) this.record(i, v);
    else this.a[i] = v;
  }
  private record(i: number, v: number): void {
    const old = this.a[i]!;
    if (old === v) return;
    this.registry.record(this, i, old, v);
    this.a[i] = v;
  }

  /** Writes three adjacent words. */
  set3(i: number, v0: number, v1: number, v2: number): void {
    if (this.registry.recording === true) this.record3(i, v0, v1, v2);
    else {
      const a = this.a;
      a[i] = v0;
      a[i + 1] = v1;
      a[i + 2] = v2;
    }
  }
  private record3(i: number, v0: number, v1: number, v2: number): void {
    this.record(i, v0);
    this.record(i + 1, v1);
    this.record(i + 2, v2);
  }

  /** Bytes of the words that somebody asked for. */
  get bytes(): number {
    return this.needed * this.a.BYTES_PER_ELEMENT;
  }

  /** Makes room for at least n words. */
  ensure(n: number): void {
    if (n <= this.needed) return;
    this.needed = n;
    if (n <= this.a.length) return;
    const grown = new Float64Array(grownSize(this.a.length, n));
    grown.set(this.a);
    this.a = grown;
  }
}

export type Pool = I32Pool | F64Pool;

/**
 * Each pool name has a class of its own: V8 then sees that the array of a pool that never grew never changed, and
 * compiles its address into the code; with one class for all, the first pool that grows would end that for all.
 */
const I32_CLASSES = new Map<string, typeof I32Pool>();
const F64_CLASSES = new Map<string, typeof F64Pool>();
function i32Class(name: string): typeof I32Pool {
  let c = I32_CLASSES.get(name);
  if (c === undefined) I32_CLASSES.set(name, (c = class extends I32Pool {}));
  return c;
}
function f64Class(name: string): typeof F64Pool {
  let c = F64_CLASSES.get(name);
  if (c === undefined) F64_CLASSES.set(name, (c = class extends F64Pool {}));
  return c;
}

/** Pools that note in the registry that somebody looked at them. */
class WatchedI32Pool extends I32Pool {}
class WatchedF64Pool extends F64Pool {}
interface Watched<T> {
  words: T;
  /** The registry's `reads`, and this pool's place in it. */
  reads: Int32Array;
  readWord: number;
  readBit: number;
  readonly id: number;
  readonly registry: StateRegistry;
}
function keepWords<T>(this: Watched<T>, words: T): void {
  this.words = words;
  this.reads = this.registry.reads;
  this.readWord = this.id >> 5;
  this.readBit = 1 << (this.id & 31);
}
// A getter for each class: what V8 knows of one says nothing of the other.
Object.defineProperty(WatchedI32Pool.prototype, "a", {
  get(this: Watched<Int32Array>) {
    this.reads[this.readWord]! |= this.readBit;
    return this.words;
  },
  set: keepWords<Int32Array>,
});
Object.defineProperty(WatchedF64Pool.prototype, "a", {
  get(this: Watched<Float64Array>) {
    this.reads[this.readWord]! |= this.readBit;
    return this.words;
  },
  set: keepWords<Float64Array>,
});
