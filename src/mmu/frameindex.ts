/**
 * page->index of the small pages of a broken 2 MiB block (include/linux/mm_types.h), and which of them are
 * free. An index has 32 bits, of which the pages of a block nearly always share the upper half.
 *
 * word of a block's run | meaning
 * 0–511 | the pages' state words, of which nothing is known here
 * 512–767 | 16 bits for each page, the even one's in bits 15:0: the lower half of its index (0 while wide); of a free page the next free one + 1
 * 768 FREE | the first free page + 1
 * 769 INDEXED | pages whose index is not 0
 * 770 BASE | the upper half of all of them; while wide the sum of their keys
 * 771 WIDE | 0, or where in the pool of wide indexes the block's 512 words lie
 *
 * A lower half of 0 says index 0, whatever BASE is. So an index like 0x50000 does not fit a block, nor
 * does one with another upper half than the others': the block is then wide. It is narrow again as soon as
 * all that it has do fit: the words tell which indexes there are, not in which order they came, because
 * exploration compares states by their words.
 *
 * Wide indexes: word 0 counts the wide blocks; 513 words for each follow, without gaps: the place of the
 * block's run, and the indexes.
 */
import type { I32Pool, StateRegistry } from "../sim/state.js";

/** Pages of a block, and their state words. */
const PAGES = 512;
const HALVES = PAGES;
const FREE = HALVES + PAGES / 2;
const INDEXED = FREE + 1;
const BASE = INDEXED + 1;
const WIDE = BASE + 1;
/** Of a run that is free: the next free one + 1, which the run's owner writes. */
export const NEXT_RUN = FREE;
/** Words of a run. */
export const RUN_WORDS = WIDE + 1;

const WIDE_COUNT = 0;
const WIDE_FIRST = 1;
const WIDE_WORDS = 1 + PAGES;

/** Equal and even for all indexes that fit one narrow block. */
function key(index: number): number {
  return (index >>> 16) * 2 + ((index & 0xffff) === 0 ? 1 : 0);
}

export class FrameIndex {
  private readonly wide: I32Pool;

  /** @param runs the pool in which the runs lie: of their words this writes those from HALVES on */
  constructor(
    state: StateRegistry,
    private readonly runs: I32Pool,
  ) {
    this.wide = state.i32("frames.wideIndex", WIDE_FIRST);
  }

  /** A block's first use, or its next: no page is free, none has an index. */
  begin(run: number): void {
    this.runs.clear(run + HALVES, RUN_WORDS - HALVES);
  }

  private half(run: number, i: number): number {
    return (this.runs.a[run + HALVES + (i >>> 1)]! >>> ((i & 1) << 4)) & 0xffff;
  }

  private setHalf(run: number, i: number, half: number): void {
    const word = run + HALVES + (i >>> 1);
    const shift = (i & 1) << 4;
    this.runs.set(word, (this.runs.a[word]! & ~(0xffff << shift)) | (half << shift));
  }

  /** Takes the page that was freed last; its index is 0. @returns -1 if none is free */
  take(run: number): number {
    const i = this.runs.a[run + FREE]! - 1;
    if (i < 0) return -1;
    this.runs.set(run + FREE, this.half(run, i));
    this.setHalf(run, i, 0);
    return i;
  }

  give(run: number, i: number): void {
    const old = this.get(run, i);
    if (old !== 0) this.forget(run, i, old);
    this.setHalf(run, i, this.runs.a[run + FREE]!);
    this.runs.set(run + FREE, i + 1);
  }

  /** The index of page i, which is in use, as 32 signed bits. */
  get(run: number, i: number): number {
    const a = this.runs.a;
    const wide = a[run + WIDE]!;
    if (wide !== 0) return this.wide.a[wide + i]!;
    const half = this.half(run, i);
    return half === 0 ? 0 : (a[run + BASE]! << 16) | half;
  }

  set(run: number, i: number, index: number): void {
    const old = this.get(run, i);
    if (old === (index | 0)) return;
    if (old !== 0) {
      this.forget(run, i, old);
      this.setHalf(run, i, 0);
    }
    if (index !== 0) this.add(run, i, index);
  }

  /** The index of a page that has 0. */
  add(run: number, i: number, index: number): void {
    const { runs } = this;
    const n = runs.a[run + INDEXED]!;
    const high = index >>> 16;
    if (runs.a[run + WIDE] === 0) {
      if ((index & 0xffff) !== 0 && (n === 0 || runs.a[run + BASE] === high)) {
        runs.set2(run + INDEXED, n + 1, high);
        this.setHalf(run, i, index & 0xffff);
        return;
      }
      this.widen(run);
    }
    this.wide.set(runs.a[run + WIDE]! + i, index);
    runs.set2(run + INDEXED, n + 1, runs.a[run + BASE]! + key(index));
  }

  /** The page's index counts no more; while narrow its half is still there. */
  private forget(run: number, i: number, old: number): void {
    const { runs } = this;
    const left = runs.a[run + INDEXED]! - 1;
    const base = runs.a[run + BASE]!;
    const wide = runs.a[run + WIDE]!;
    if (wide === 0) {
      runs.set2(run + INDEXED, left, left === 0 ? 0 : base);
      return;
    }
    const sum = base - key(old);
    this.wide.set(wide + i, 0);
    runs.set2(run + INDEXED, left, sum);
    // Keys that are all the same are each their mean: a sum that has no even mean needs no look at them.
    if (left === 0) this.narrow(run, 0);
    else if (sum % (2 * left) === 0 && this.allHave(wide, i, sum / left)) this.narrow(run, sum / left / 2);
  }

  /** @param from where to begin: pages go in turn, so that the next one is likely to be there and to say no at once */
  private allHave(wide: number, from: number, k: number): boolean {
    const a = this.wide.a;
    for (let n = 0; n < PAGES; n++) {
      const index = a[wide + ((from + n) & (PAGES - 1))]!;
      if (index !== 0 && key(index) !== k) return false;
    }
    return true;
  }

  private widen(run: number): void {
    const { runs, wide } = this;
    const count = wide.a[WIDE_COUNT]!;
    const at = WIDE_FIRST + count * WIDE_WORDS;
    wide.ensure(at + WIDE_WORDS);
    wide.set(WIDE_COUNT, count + 1);
    wide.set(at, run);
    const high = runs.a[run + BASE]! << 16;
    for (let i = 0; i < PAGES; i += 2) {
      const word = runs.a[run + HALVES + i / 2]!;
      const even = word & 0xffff;
      const odd = word >>> 16;
      wide.set2(at + 1 + i, even === 0 ? 0 : high | even, odd === 0 ? 0 : high | odd);
    }
    runs.clear(run + HALVES, PAGES / 2);
    // What came from free pages were links, which belong where they were.
    for (let free = runs.a[run + FREE]!, next; free !== 0; free = next) {
      next = wide.a[at + free]! & 0xffff;
      wide.set(at + free, 0);
      this.setHalf(run, free - 1, next);
    }
    // All that were narrow have the same key.
    runs.set(run + BASE, runs.a[run + INDEXED]! * runs.a[run + BASE]! * 2);
    runs.set(run + WIDE, at + 1);
  }

  private narrow(run: number, base: number): void {
    const { runs, wide } = this;
    const at = runs.a[run + WIDE]!;
    for (let i = 0; i < PAGES; i += 2) {
      const word = run + HALVES + i / 2;
      runs.set(word, runs.a[word]! | (wide.a[at + i]! & 0xffff) | (wide.a[at + i + 1]! << 16));
    }
    runs.set(run + BASE, base);
    runs.set(run + WIDE, 0);
    this.releaseWide(at - 1);
  }

  /** The last wide block's words move into the gap. */
  private releaseWide(gap: number): void {
    const { runs, wide } = this;
    const count = wide.a[WIDE_COUNT]! - 1;
    const last = WIDE_FIRST + count * WIDE_WORDS;
    if (gap !== last) {
      wide.move(gap, last, WIDE_WORDS);
      runs.set(wide.a[gap]! + WIDE, gap + 1);
    }
    wide.clear(last, WIDE_WORDS);
    wide.set(WIDE_COUNT, count);
  }
}
