/**
 * The lines of the data cache of one coherent domain (the PEs and the masters that snoop them): 1024
 * sets of 8 ways of 64 bytes, replaced in turn. A line holds data of its own, apart from memory.
 *
 * Two masks of one bit a byte say where the newest value of a byte is: `dirty` bytes were stored through
 * the cache and memory does not have them; `overtaken` bytes were written to memory past the cache
 * afterwards. Hardware knows a dirty bit for the whole line and nothing of the second mask: it is the
 * observer's, who has to say which of two copies is the newer. No modelled step is decided by it.
 */
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import { BACK_CAPACITY, cacheFill, cacheWriteback, dirtyLineDropped, writeLost } from "./cacheevents.js";
import type { PhysicalMemory } from "./phys.js";
import type { Pa } from "./types.js";

export const LINE = 64;
export const LINE_WORDS = 16;
const SETS = 1024;
const WAYS = 8;
const ENTRIES = SETS * WAYS;

/** States of a line. */
export const INVALID = 0;
export const CLEAN = 1;
export const DIRTY = 2;

// ---- words of a line's record
export const M_STATE = 0;
/** Bytes 31:0 and 63:32 of the line. */
export const M_DIRTY = 1;
export const M_OVERTAKEN = 3;
/** Why it was filled. */
export const M_WHY = 5;
/** Agent + 1 that last stored through the cache; that last wrote memory past it. */
export const M_WRITER = 6;
export const M_OUTSIDE = 7;
export const META_SHIFT = 3;

export class CacheLines {
  /** PA of the line + 1, 0: empty. */
  private readonly tag: F64Pool;
  readonly meta: I32Pool;
  readonly data: I32Pool;
  /** What instruction fetches see of a line: its data when it was last cleaned to the PoU. Absent where they see the data (CTR_EL0.IDC). */
  readonly pou: I32Pool | undefined;
  /** Per set: the way that is replaced next. */
  private readonly victim: I32Pool;
  /** [0] changes with whatever a load of the data side could see: what was compared with it before need not be compared again. */
  readonly version: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    idc: boolean,
  ) {
    const s = sim.state;
    this.tag = s.f64("cache.tag", ENTRIES);
    this.meta = s.i32("cache.meta", ENTRIES << META_SHIFT);
    this.data = s.i32("cache.data", ENTRIES * LINE_WORDS);
    this.pou = idc ? undefined : s.i32("cache.pou", ENTRIES * LINE_WORDS);
    this.victim = s.i32("cache.victim", SETS);
    this.version = s.i32("cache.version", 1);
  }

  /** Something was written, to a line or to memory, or a dirty line was dropped. */
  changed(): void {
    this.version.set(0, this.version.a[0]! + 1);
  }

  get entries(): number {
    return ENTRIES;
  }
  /** PA of the line in an entry, -1: empty. */
  address(i: number): Pa {
    return this.tag.a[i]! - 1;
  }
  state(i: number): number {
    return this.meta.a[i << META_SHIFT]!;
  }

  /** The entry that holds the line of pa, or -1. @param line pa without its low six bits */
  find(line: Pa): number {
    const first = ((line >>> 6) & (SETS - 1)) * WAYS;
    const want = line + 1;
    const t = this.tag.a;
    for (let i = first; i < first + WAYS; i++) if (t[i] === want) return i;
    return -1;
  }

  /** Makes room for a line and names it, its data unwritten. @param why FILL_* */
  private take(line: Pa, why: number): number {
    const set = (line >>> 6) & (SETS - 1);
    const way = this.victim.a[set]!;
    this.victim.set(set, (way + 1) & (WAYS - 1));
    const i = set * WAYS + way;
    if (this.tag.a[i] !== 0) this.evict(i, BACK_CAPACITY);
    this.tag.set(i, line + 1);
    const m = this.meta;
    const at = i << META_SHIFT;
    m.set(at, CLEAN);
    for (let k = M_DIRTY; k < M_WHY; k++) m.set(at + k, 0);
    m.set(at + M_WHY, why);
    m.set(at + M_WRITER, 0);
    m.set(at + M_OUTSIDE, 0);
    this.sim.bus.emit(cacheFill, line, why);
    return i;
  }

  /** Reads a line from memory. @returns its entry */
  fill(line: Pa, why: number): number {
    const i = this.take(line, why);
    this.phys.readLine(line, this.data, i * LINE_WORDS);
    if (this.pou !== undefined) this.copy(this.pou, this.data, i);
    return i;
  }

  /** A line that is about to be written whole: memory need not be read. */
  claim(line: Pa, why: number): number {
    const found = this.find(line);
    return found >= 0 ? found : this.take(line, why);
  }

  private copy(to: I32Pool, from: I32Pool, i: number): void {
    for (let k = i * LINE_WORDS; k < (i + 1) * LINE_WORDS; k++) to.set(k, from.a[k]!);
  }

  /** DC CVAU: what was stored is what fetches see. */
  unify(i: number): void {
    if (this.pou !== undefined) this.copy(this.pou, this.data, i);
  }

  /** The bytes in `mask` of word-halves were stored through the cache by the running agent. */
  stored(i: number, lo: number, hi: number): void {
    this.changed();
    const m = this.meta;
    const at = i << META_SHIFT;
    m.set(at, DIRTY);
    m.set2(at + M_DIRTY, m.a[at + M_DIRTY]! | lo, m.a[at + M_DIRTY + 1]! | hi);
    m.set2(at + M_OVERTAKEN, m.a[at + M_OVERTAKEN]! & ~lo, m.a[at + M_OVERTAKEN + 1]! & ~hi);
    m.set(at + M_WRITER, this.sim.agents.current + 1);
  }
  /** These bytes of memory were written past the line. */
  overtaken(i: number, lo: number, hi: number): void {
    const m = this.meta;
    const at = i << META_SHIFT;
    m.set2(at + M_OVERTAKEN, m.a[at + M_OVERTAKEN]! | lo, m.a[at + M_OVERTAKEN + 1]! | hi);
    m.set(at + M_OUTSIDE, this.sim.agents.current + 1);
  }

  /** Writes a dirty line to memory, whole: also bytes that were newer there. It stays, clean. @param why BACK_* */
  clean(i: number, why: number): void {
    const m = this.meta;
    const at = i << META_SHIFT;
    if (m.a[at] === DIRTY) {
      const line = this.address(i);
      const lost = this.newerInMemory(i);
      if (lost > 0) this.sim.bus.emit(writeLost, line, lost, this.writerName(m.a[at + M_OUTSIDE]!), why);
      this.phys.writeLine(line, this.data.a, i * LINE_WORDS);
      this.sim.bus.emit(cacheWriteback, line, why);
      m.set2(at + M_OVERTAKEN, 0, 0);
    }
    m.set2(at + M_DIRTY, 0, 0);
    m.set(at, CLEAN);
    this.unify(i);
  }

  /** How many overtaken bytes differ from the line's. */
  private newerInMemory(i: number): number {
    const at = (i << META_SHIFT) + M_OVERTAKEN;
    const line = this.address(i);
    let count = 0;
    for (let b = 0; b < LINE; b++) {
      if (((this.meta.a[at + (b >> 5)]! >>> (b & 31)) & 1) === 0) continue;
      this.phys.readMemory(line + b, 1);
      if (this.phys.lo !== ((this.data.a[i * LINE_WORDS + (b >> 2)]! >>> ((b & 3) * 8)) & 0xff)) count++;
    }
    return count;
  }

  /** The line leaves the cache, written back if it is dirty. */
  evict(i: number, why: number): void {
    if (this.state(i) === DIRTY) this.clean(i, why);
    this.forget(i);
  }

  /** DC IVAC where it may discard: the line leaves, and what only it had is gone. */
  invalidate(i: number): void {
    this.changed();
    const m = this.meta.a;
    const at = i << META_SHIFT;
    if (m[at] === DIRTY) this.sim.bus.emit(dirtyLineDropped, this.address(i), this.writerName(m[at + M_WRITER]!));
    this.forget(i);
  }

  private forget(i: number): void {
    this.tag.set(i, 0);
    this.meta.set(i << META_SHIFT, INVALID);
  }

  /** An agent's name as a number for a field of kind "name". @param agent + 1, 0: nobody known */
  writerName(agent: number): number {
    return this.sim.bus.name(agent === 0 ? "memory" : this.sim.agents.name(agent - 1));
  }
}
