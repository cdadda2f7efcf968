/**
 * The page cache (mm/filemap.c, mm/shmem.c): which frame holds a page of a file.
 *
 * One open-addressing hash table for all files: key = file × 2^32 + page offset + 1, linear probing,
 * removal by shifting back, so that the table depends only on what was put in and in which order.
 */
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";

const PER_FILE = 4294967296;
const START_SIZE = 256;

export class PageCache {
  private readonly keys: F64Pool;
  private readonly pfns: F64Pool;
  /** [0] entries, [1] table size (a power of two). */
  private readonly info: I32Pool;

  constructor(sim: Sim) {
    this.keys = sim.state.f64("pagecache.keys", START_SIZE);
    this.pfns = sim.state.f64("pagecache.pfns", START_SIZE);
    this.info = sim.state.i32("pagecache.info", 2);
    this.info.set(1, START_SIZE);
  }

  private home(key: number): number {
    const h = Math.imul((key / PER_FILE) | 0, 0x85ebca6b) ^ Math.imul(key | 0, 0x9e3779b1);
    return (h ^ (h >>> 15)) & (this.info.a[1]! - 1);
  }

  /** The slot of a key, or the free slot where it belongs. */
  private slot(key: number): number {
    const mask = this.info.a[1]! - 1;
    let i = this.home(key);
    while (this.keys.a[i] !== 0 && this.keys.a[i] !== key) i = (i + 1) & mask;
    return i;
  }

  /** The frame of a page (filemap_get_folio), or -1. */
  find(file: number, pgoff: number): number {
    const i = this.slot(file * PER_FILE + pgoff + 1);
    return this.keys.a[i] === 0 ? -1 : this.pfns.a[i]!;
  }

  /** Puts a frame in, replacing what was there (filemap_add_folio). The reference on it passes to the cache. */
  put(file: number, pgoff: number, pfn: number): void {
    if (this.info.a[0]! * 2 >= this.info.a[1]!) this.grow();
    const key = file * PER_FILE + pgoff + 1;
    const i = this.slot(key);
    if (this.keys.a[i] === 0) {
      this.keys.set(i, key);
      this.info.set(0, this.info.a[0]! + 1);
    }
    this.pfns.set(i, pfn);
  }

  /** Takes a page out (filemap_remove_folio). @returns its frame, whose reference passes to the caller, or -1 */
  remove(file: number, pgoff: number): number {
    const mask = this.info.a[1]! - 1;
    let i = this.slot(file * PER_FILE + pgoff + 1);
    if (this.keys.a[i] === 0) return -1;
    const pfn = this.pfns.a[i]!;
    for (let j = (i + 1) & mask; this.keys.a[j] !== 0; j = (j + 1) & mask) {
      const home = this.home(this.keys.a[j]!);
      // j may move into the hole only if its home does not lie in (i, j].
      if (((j - home) & mask) < ((j - i) & mask)) continue;
      this.keys.set(i, this.keys.a[j]!);
      this.pfns.set(i, this.pfns.a[j]!);
      i = j;
    }
    this.keys.set(i, 0);
    this.pfns.set(i, 0);
    this.info.set(0, this.info.a[0]! - 1);
    return pfn;
  }

  /** Number of resident pages of all files. */
  get count(): number {
    return this.info.a[0]!;
  }

  /** Lowest resident page offset >= from of a file below `limit`, or -1: for truncation. Cost: the smaller of the span and the table. */
  next(file: number, from: number, limit: number): number {
    if (limit - from <= this.info.a[1]!) {
      for (let p = from; p < limit; p++) if (this.find(file, p) >= 0) return p;
      return -1;
    }
    let best = -1;
    const low = file * PER_FILE + from + 1;
    const high = file * PER_FILE + Math.min(limit, PER_FILE - 2) + 1;
    for (let i = 0; i < this.info.a[1]!; i++) {
      const key = this.keys.a[i]!;
      if (key >= low && key < high && (best < 0 || key < best)) best = key;
    }
    return best < 0 ? -1 : best - 1 - file * PER_FILE;
  }

  private grow(): void {
    const old = this.info.a[1]!;
    const keys = this.keys.a.slice(0, old);
    const pfns = this.pfns.a.slice(0, old);
    for (let i = 0; i < old; i++) {
      this.keys.set(i, 0);
      this.pfns.set(i, 0);
    }
    this.keys.ensure(old * 2);
    this.pfns.ensure(old * 2);
    this.info.set(1, old * 2);
    for (let i = 0; i < old; i++) {
      if (keys[i] === 0) continue;
      const j = this.slot(keys[i]!);
      this.keys.set(j, keys[i]!);
      this.pfns.set(j, pfns[i]!);
    }
  }
}
