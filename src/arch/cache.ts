/**
 * Data accesses through the modelled data cache (arch rules: Arm ARM B2.8, D7.5; the mismatched-alias
 * rules B2.10). An access is decided by the marks of its translation:
 *
 * write-back      load: hit, or fill. Store: into the line, filled first; it becomes dirty
 * write-through   load likewise. Store: to memory, and into the line if there is one
 * non-cacheable   memory. The cache is not looked up (the worst case that the architecture permits), or,
 *                 on a host whose interconnect makes such accesses coherent, it is: `coherent`
 *
 * What reads a copy that another one has overtaken reads it really, and says so: stale_read.
 */
import { FaultlineError } from "../sim/errors.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import {
  BACK_CLEAN,
  BACK_SEED,
  BACK_SNOOP,
  FILL_KERNEL,
  FILL_LOAD,
  FILL_SPECULATION,
  FILL_STORE,
  STALE_LINE,
  STALE_MEMORY,
  staleRead,
} from "./cacheevents.js";
import {
  CacheLines,
  CLEAN,
  DIRTY,
  INVALID,
  LINE,
  LINE_WORDS,
  M_DIRTY,
  M_OUTSIDE,
  M_OVERTAKEN,
  M_WHY,
  M_WRITER,
  META_SHIFT,
} from "./cachelines.js";
import { dcacheClean } from "./events.js";
import type { MemoryCache, PhysicalMemory } from "./phys.js";
import { F_CACHED, F_WRITE_THROUGH } from "./tlb.js";
import type { Pa, Pfn } from "./types.js";

/** How non-cacheable accesses and the cache meet. */
export const CACHE_MODELS = ["modelled", "coherent"] as const;
export type CacheModel = (typeof CACHE_MODELS)[number];

/** One of so many accesses evicts a line and speculates, where a seed is given. */
const SEED_MASK = 63;

/** Bits first to first + size - 1 of a 64-bit mask; low and high word. */
function maskLo(first: number, size: number): number {
  if (first >= 32) return 0;
  const n = Math.min(32 - first, size);
  return n === 32 ? -1 : ((1 << n) - 1) << first;
}
function maskHi(first: number, size: number): number {
  const start = Math.max(first, 32);
  const n = first + size - start;
  if (n <= 0) return 0;
  return n === 32 ? -1 : ((1 << n) - 1) << (start - 32);
}

export class DataCache implements MemoryCache {
  readonly lines: CacheLines;
  /** [0] random state, 0: lines leave only when they must. [1] 1: non-cacheable accesses look the cache up. */
  private readonly config: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    model: CacheModel,
    seed: number,
    idc: boolean,
  ) {
    if (!CACHE_MODELS.includes(model)) throw new FaultlineError(`no cache model ${String(model)}; expected ${CACHE_MODELS.join(" or ")}`);
    this.lines = new CacheLines(sim, phys, idc);
    this.config = sim.state.i32("cache.config", 2);
    this.config.set(0, seed | 0);
    this.setCoherent(model === "coherent");
  }

  /** Do non-cacheable accesses look the cache up (a property of the host's interconnect)? */
  get coherent(): boolean {
    return this.config.a[1] !== 0;
  }
  setCoherent(on: boolean): void {
    this.config.set(1, on ? 1 : 0);
  }

  /** State of the line of pa: INVALID, CLEAN, DIRTY. */
  stateAt(pa: Pa): number {
    const i = this.lines.find(pa - (pa % LINE));
    return i < 0 ? INVALID : this.lines.state(i);
  }

  // ---- accesses by type. Results of reads in phys.lo, hi, lo2, hi2.

  /** @param marks C_FLAGS of the translation */
  load(pa: Pa, size: number, marks: number): void {
    if ((pa & 63) + size > LINE) this.loadBytes(pa, size, marks);
    else if ((marks & F_CACHED) !== 0) this.cachedRead(pa, size, FILL_LOAD);
    else this.uncachedRead(pa, size);
  }
  store(pa: Pa, size: number, marks: number, lo: number, hi: number, lo2: number, hi2: number): void {
    if ((pa & 63) + size > LINE) {
      for (let n = 0; n < size; n++) {
        const w = n < 4 ? lo : n < 8 ? hi : n < 12 ? lo2 : hi2;
        this.store(pa + n, 1, marks, (w >>> ((n & 3) * 8)) & 0xff, 0, 0, 0);
      }
    } else if ((marks & F_CACHED) === 0) this.uncachedWrite(pa, size, lo, hi, lo2, hi2);
    else if ((marks & F_WRITE_THROUGH) !== 0) this.writeThrough(pa, size, lo, hi, lo2, hi2);
    else this.cachedWrite(pa, size, lo, hi, lo2, hi2, FILL_STORE);
  }
  /** DC ZVA: one line of zeros, by type. */
  zero(pa: Pa, marks: number): void {
    const line = pa - (pa % LINE);
    for (let n = 0; n < LINE; n += 16) this.store(line + n, 16, marks, 0, 0, 0, 0);
  }

  private loadBytes(pa: Pa, size: number, marks: number): void {
    const d = [0, 0, 0, 0];
    for (let n = 0; n < size; n++) {
      this.load(pa + n, 1, marks);
      d[n >> 2]! |= this.phys.lo << ((n & 3) * 8);
    }
    this.answer(d[0]!, d[1]!, d[2]!, d[3]!);
  }
  private answer(lo: number, hi: number, lo2: number, hi2: number): void {
    const p = this.phys;
    p.lo = lo;
    p.hi = hi;
    p.lo2 = lo2;
    p.hi2 = hi2;
  }

  /** The line of an access that goes through the cache. */
  private lineFor(pa: Pa, why: number): number {
    if (this.config.a[0] !== 0) this.disturb(pa);
    const line = pa - (pa & 63);
    const i = this.lines.find(line);
    if (i >= 0) {
      this.sim.agents.charge(this.sim.costs.ramAccess);
      return i;
    }
    this.sim.agents.charge(this.sim.costs.memoryAccess);
    return this.lines.fill(line, why);
  }

  private cachedRead(pa: Pa, size: number, why: number): void {
    const i = this.lineFor(pa, why);
    const m = this.lines.meta.a;
    const at = i << META_SHIFT;
    this.fromLine(i, pa & 63, size);
    if ((m[at + M_OVERTAKEN]! | m[at + M_OVERTAKEN + 1]!) !== 0) this.compareWithMemory(i, pa, size);
  }

  private fromLine(i: number, o: number, size: number): void {
    const d = this.lines.data.a;
    const w = i * LINE_WORDS + (o >> 2);
    const shift = (o & 3) * 8;
    if (shift === 0 && size >= 4) {
      this.answer(d[w]!, size >= 8 ? d[w + 1]! : 0, size === 16 ? d[w + 2]! : 0, size === 16 ? d[w + 3]! : 0);
    } else if (shift + size * 8 <= 32) {
      this.answer((d[w]! >>> shift) & (size === 1 ? 0xff : size === 2 ? 0xffff : -1), 0, 0, 0);
    } else {
      const up = 32 - shift;
      const word = (n: number): number =>
        shift === 0 ? d[w + n]! : (d[w + n]! >>> shift) | ((o >> 2) + n + 1 < LINE_WORDS ? d[w + n + 1]! << up : 0);
      const lo = word(0);
      this.answer(size === 2 ? lo & 0xffff : lo, size >= 8 ? word(1) : 0, size === 16 ? word(2) : 0, size === 16 ? word(3) : 0);
    }
  }
  private intoLine(i: number, o: number, size: number, lo: number, hi: number, lo2: number, hi2: number): void {
    const p = this.lines.data;
    const w = i * LINE_WORDS + (o >> 2);
    if ((o & 3) === 0 && size >= 4) {
      if (size === 4) p.set(w, lo);
      else p.set2(w, lo, hi);
      if (size === 16) p.set2(w + 2, lo2, hi2);
      return;
    }
    for (let n = 0; n < size; n++) {
      const word = n < 4 ? lo : n < 8 ? hi : n < 12 ? lo2 : hi2;
      const at = i * LINE_WORDS + ((o + n) >> 2);
      const s = ((o + n) & 3) * 8;
      p.set(at, (p.a[at]! & ~(0xff << s)) | (((word >>> ((n & 3) * 8)) & 0xff) << s));
    }
  }

  private cachedWrite(pa: Pa, size: number, lo: number, hi: number, lo2: number, hi2: number, why: number): void {
    const i = this.lineFor(pa, why);
    const o = pa & 63;
    this.intoLine(i, o, size, lo, hi, lo2, hi2);
    this.lines.stored(i, maskLo(o, size), maskHi(o, size));
  }

  private writeThrough(pa: Pa, size: number, lo: number, hi: number, lo2: number, hi2: number): void {
    this.sim.agents.charge(this.sim.costs.memoryAccess);
    this.lines.changed();
    this.phys.writeMemory(pa, size, lo, hi, lo2, hi2);
    const i = this.lines.find(pa - (pa & 63));
    if (i < 0) return;
    const o = pa & 63;
    this.intoLine(i, o, size, lo, hi, lo2, hi2);
    const m = this.lines.meta;
    const at = (i << META_SHIFT) + M_OVERTAKEN;
    m.set2(at, m.a[at]! & ~maskLo(o, size), m.a[at + 1]! & ~maskHi(o, size));
  }

  private uncachedRead(pa: Pa, size: number): void {
    const i = this.lines.find(pa - (pa & 63));
    if (i >= 0 && this.coherent) {
      this.sim.agents.charge(this.sim.costs.ramAccess);
      this.fromLine(i, pa & 63, size);
      return;
    }
    this.chargeMemory(pa);
    this.phys.readMemory(pa, size);
    if (i >= 0 && this.lines.state(i) === DIRTY) this.compareWithLine(i, pa, size);
  }

  private uncachedWrite(pa: Pa, size: number, lo: number, hi: number, lo2: number, hi2: number): void {
    const i = this.lines.find(pa - (pa & 63));
    const o = pa & 63;
    if (i >= 0 && this.coherent) {
      this.sim.agents.charge(this.sim.costs.ramAccess);
      this.intoLine(i, o, size, lo, hi, lo2, hi2);
      this.lines.stored(i, maskLo(o, size), maskHi(o, size));
      return;
    }
    this.chargeMemory(pa);
    this.lines.changed();
    this.phys.writeMemory(pa, size, lo, hi, lo2, hi2);
    if (i >= 0) this.lines.overtaken(i, maskLo(o, size), maskHi(o, size));
  }

  /** RAM's latency; a device window charges its own. */
  private chargeMemory(pa: Pa): void {
    if (this.phys.isRam(pa)) this.sim.agents.charge(this.sim.costs.memoryAccess);
  }

  // ---- the observer: who has the newer copy

  /** A hit on a line some of whose bytes were written past it. */
  private compareWithMemory(i: number, pa: Pa, size: number): void {
    const at = i << META_SHIFT;
    const m = this.lines.meta.a;
    const o = pa & 63;
    if (((m[at + M_OVERTAKEN]! & maskLo(o, size)) | (m[at + M_OVERTAKEN + 1]! & maskHi(o, size))) === 0) return;
    this.compare(i, pa, size, STALE_LINE, m[at + M_OUTSIDE]!);
  }
  /** A read of memory behind a dirty line. */
  private compareWithLine(i: number, pa: Pa, size: number): void {
    const at = i << META_SHIFT;
    const m = this.lines.meta.a;
    const o = pa & 63;
    const lo = m[at + M_DIRTY]! & ~m[at + M_OVERTAKEN]! & maskLo(o, size);
    const hi = m[at + M_DIRTY + 1]! & ~m[at + M_OVERTAKEN + 1]! & maskHi(o, size);
    if ((lo | hi) !== 0) this.compare(i, pa, size, STALE_MEMORY, m[at + M_WRITER]!);
  }

  /** Says stale_read if the newest value of the bytes is not what was read (in phys.lo, hi, …, which stay). */
  private compare(i: number, pa: Pa, size: number, from: number, writer: number): void {
    const p = this.phys;
    const { lo, hi, lo2, hi2 } = p;
    const o = pa & 63;
    const at = (i << META_SHIFT) + M_OVERTAKEN;
    const m = this.lines.meta.a;
    let newLo = 0;
    let newHi = 0;
    let differs = false;
    for (let n = 0; n < size; n++) {
      const b = o + n;
      const inMemory = ((m[at + (b >> 5)]! >>> (b & 31)) & 1) !== 0;
      let byte: number;
      if (inMemory) {
        p.readMemory(pa + n, 1);
        byte = p.lo;
      } else byte = (this.lines.data.a[i * LINE_WORDS + (b >> 2)]! >>> ((b & 3) * 8)) & 0xff;
      const w = n < 4 ? lo : n < 8 ? hi : n < 12 ? lo2 : hi2;
      if (byte !== ((w >>> ((n & 3) * 8)) & 0xff)) differs = true;
      if (n < 4) newLo |= byte << (n * 8);
      else if (n < 8) newHi |= byte << ((n - 4) * 8);
    }
    this.answer(lo, hi, lo2, hi2);
    if (!differs) return;
    this.sim.bus.emit(staleRead, pa, size, hi, lo, newHi, newLo, from, this.lines.writerName(writer), m[(i << META_SHIFT) + M_WHY]!);
  }

  // ---- the kernel through its linear map

  read(pa: Pa, size: number): void {
    if ((pa & 63) + size > LINE) this.loadBytes(pa, size, F_CACHED);
    else this.cachedRead(pa, size, FILL_KERNEL);
  }
  write(pa: Pa, size: number, lo: number, hi: number, lo2: number, hi2: number): void {
    if ((pa & 63) + size > LINE) this.store(pa, size, F_CACHED, lo, hi, lo2, hi2);
    else this.cachedWrite(pa, size, lo, hi, lo2, hi2, FILL_KERNEL);
  }
  clearPages(pfn: Pfn, count: number): void {
    const { lines } = this;
    for (let line = pfn * 4096; line < (pfn + count) * 4096; line += LINE) {
      const i = lines.claim(line, FILL_KERNEL);
      for (let k = i * LINE_WORDS; k < (i + 1) * LINE_WORDS; k++) lines.data.set(k, 0);
      lines.stored(i, -1, -1);
    }
  }
  copyPage(dst: Pfn, src: Pfn): void {
    const p = this.phys;
    for (let o = 0; o < 4096; o += 16) {
      this.cachedRead(src * 4096 + o, 16, FILL_KERNEL);
      this.cachedWrite(dst * 4096 + o, 16, p.lo, p.hi, p.lo2, p.hi2, FILL_KERNEL);
    }
  }

  flush(pa: Pa, size: number): void {
    this.sim.bus.emit(dcacheClean, pa, size, 1, 3);
    this.sim.agents.charge(this.sim.costs.cacheLine * (size / LINE));
    for (let line = pa; line < pa + size; line += LINE) {
      const i = this.lines.find(line);
      if (i >= 0) this.lines.evict(i, BACK_CLEAN);
    }
  }

  // ---- bus masters other than the PEs

  /** A read by a device's DMA. @param snoops it is in the coherent domain (no-snoop attribute clear) */
  dmaRead(pa: Pa, size: number, snoops: boolean): void {
    const i = this.lines.find(pa - (pa & 63));
    if (i >= 0 && snoops) this.fromLine(i, pa & 63, size);
    else this.uncachedReadPast(i, pa, size);
  }
  private uncachedReadPast(i: number, pa: Pa, size: number): void {
    this.phys.readMemory(pa, size);
    if (i >= 0 && this.lines.state(i) === DIRTY) this.compareWithLine(i, pa, size);
  }
  /** A write by a device's DMA: a snooping one takes the line out of the cache, its other bytes written back first. */
  dmaWrite(pa: Pa, size: number, snoops: boolean, lo: number, hi: number): void {
    const i = this.lines.find(pa - (pa & 63));
    if (i >= 0 && snoops) this.lines.evict(i, BACK_SNOOP);
    this.lines.changed();
    this.phys.writeMemory(pa, size, lo, hi);
    if (i >= 0 && !snoops) this.lines.overtaken(i, maskLo(pa & 63, size), maskHi(pa & 63, size));
  }

  // ---- what hardware may do at any moment

  /** A speculative read through a cacheable alias (the kernel's linear map covers all RAM): the line is filled, clean. */
  speculate(pa: Pa): void {
    const line = pa - (pa & 63);
    if (this.phys.isRam(pa) && this.lines.find(line) < 0) this.lines.fill(line, FILL_SPECULATION);
  }
  /** The line leaves the cache. @param why BACK_* */
  evictAt(pa: Pa, why: number): void {
    const i = this.lines.find(pa - (pa & 63));
    if (i >= 0) this.lines.evict(i, why);
  }

  /** With a seed: now and then a line is evicted, and the line beside the access speculated. */
  private disturb(pa: Pa): void {
    let x = this.config.a[0]!;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.config.set(0, x);
    if (((x >>> 8) & SEED_MASK) !== 0) return;
    if ((x & 1) !== 0) this.speculate((pa & LINE) !== 0 ? pa - LINE : pa + LINE);
    const victim = (x >>> 16) & (this.lines.entries - 1);
    if (this.lines.address(victim) >= 0) this.lines.evict(victim, BACK_SEED);
    else this.evictAt(pa, BACK_SEED);
  }
}

export { CLEAN, DIRTY, INVALID };
