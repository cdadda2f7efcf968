/**
 * The machine's RAM: what each of its pages holds, said in few words. The data themselves are phys.ts's.
 *
 * top  [page >> 18]   group number, 0: no page of this GiB was ever touched
 * mid  [group << 12 | page >> 6 & 4095]   chunk, 0: no page of these 256 KiB was ever touched
 *        c > 0 wide, c < 0 narrow and at ~c
 * dir  a wide chunk, 64 words: [c + (page & 63)] is the reference of a page
 *        0 all zero · r < 0 full page ~r · r > 0 in lines: r odd, r >> 1 is the entry of the only one; r even, record r >> 1
 *      a narrow chunk, 20 words: [~c + (page >> 2 & 15)] has a byte for each of four pages, page & 3 = 0 in the lowest
 *        0 all zero · t + 1 only line number t has data
 *        [~c + 16 + (page >> 4 & 3)] is the first of 16 lines, one for each page of a run, 0: none of them has had data
 *
 * A chunk is narrow until one of its pages holds more than that, then wide for good. The narrow one stays behind, marked.
 *
 * A page's "slot" is what a TLB entry keeps of it: in a wide chunk the index of its reference, valid for ever; in a narrow
 * one ~ of the index of its four pages' bytes, below -1: these words are 0 while all four are zero, and WIDENED afterwards.
 */
import type { I32Pool, StateRegistry } from "../sim/state.js";

const CHUNK_SHIFT = 6;
export const CHUNK_PAGES = 1 << CHUNK_SHIFT;
const CHUNK_MASK = CHUNK_PAGES - 1;
const GROUP_SHIFT = 18;
const MID_SHIFT = GROUP_SHIFT - CHUNK_SHIFT;
const MID_MASK = (1 << MID_SHIFT) - 1;

/** In a narrow chunk: where the runs' words begin, and how many pages are a run. */
const RUNS = 16;
const NARROW_WORDS = 20;
export const RUN_PAGES = 16;
const RUN_MASK = RUN_PAGES - 1;
/** What `tagAt` says of a page of zeros. */
export const NO_LINE = -1;
/** The bytes of a narrow chunk that is no longer in use. */
export const WIDENED = -1;

// An entry of a page in lines: line << TAG_BITS | number of the line in its page.
export const TAG_BITS = 7;
/** Lines from this number on do not fit into a reference beside its odd bit. */
export const REF_LINES = 2 ** (30 - TAG_BITS);

/** counts: groups, and words of `dir`, that were ever taken. */
const GROUPS = 0;
const WORDS = 1;

export class PageIndex {
  readonly dir: I32Pool;
  private readonly top: I32Pool;
  readonly mid: I32Pool;
  private readonly counts: I32Pool;

  constructor(state: StateRegistry, pages: number) {
    this.top = state.i32("phys.top", Math.ceil(pages / (1 << GROUP_SHIFT)));
    this.mid = state.i32("phys.mid", 2 << MID_SHIFT);
    this.dir = state.i32("phys.dir", 1024);
    this.counts = state.i32("phys.index", 2);
  }

  /** The chunk of a page, 0 without. */
  chunkOf(page: number): number {
    return this.mid.a[this.midAt(page)]!;
  }
  /** Its word of `mid`; that of the next chunk follows, within a GiB. Group 0 is empty: without a group that reads 0. */
  midAt(page: number): number {
    return (this.top.a[page >>> GROUP_SHIFT]! << MID_SHIFT) | ((page >>> CHUNK_SHIFT) & MID_MASK);
  }

  /** The chunk of a page, made if needed. */
  chunk(page: number): number {
    const chunk = this.chunkOf(page);
    return chunk !== 0 ? chunk : this.make(page) | 0;
  }

  private make(page: number): number {
    if (this.top.a[page >>> GROUP_SHIFT] === 0) {
      const group = this.counts.a[GROUPS]! + 1;
      this.mid.ensure((group + 1) << MID_SHIFT);
      this.counts.set(GROUPS, group);
      this.top.set(page >>> GROUP_SHIFT, group);
    }
    return this.place(page, ~this.take(NARROW_WORDS));
  }
  private place(page: number, chunk: number): number {
    this.mid.set(this.midAt(page), chunk);
    return chunk;
  }
  /** Takes words of `dir`, all zero. */
  private take(words: number): number {
    const taken = this.counts.a[WORDS]!;
    // A wide chunk of zeros stands first, for the pages that have none.
    const at = CHUNK_PAGES + taken;
    this.dir.ensure(at + words);
    this.counts.set(WORDS, taken + words);
    return at;
  }

  /** The slot of a page, made if needed. */
  slot(page: number): number {
    const chunk = this.chunk(page);
    return (chunk > 0 ? chunk + (page & CHUNK_MASK) : chunk - ((page & CHUNK_MASK) >> 2)) | 0;
  }

  /** The reference of a page by its slot in a narrow chunk that is still in use. @param page of its number the low six bits count */
  refAt(slot: number, page: number): number {
    return this.narrowRef(slot + ((page & CHUNK_MASK) >> 2), page);
  }
  /** The reference of a page, whichever its chunk is. */
  ref(page: number): number {
    const chunk = this.chunkOf(page);
    return chunk >= 0 ? this.dir.a[chunk + (page & CHUNK_MASK)]! : this.narrowRef(chunk, page);
  }
  private narrowRef(chunk: number, page: number): number {
    const byte = this.byte(chunk, page);
    return byte === 0 ? 0 : (((this.line(chunk, page) << TAG_BITS) | (byte - 1)) << 1) | 1;
  }

  // ---- narrow chunks

  /** The line that is kept for a page, 0: its run has none. */
  line(chunk: number, page: number): number {
    const first = this.dir.a[runAt(chunk, page)]!;
    return first === 0 ? 0 : (first + (page & RUN_MASK)) | 0;
  }
  /** Gives a run its 16 lines, from `first` on. */
  setLines(chunk: number, page: number, first: number): void {
    this.dir.set(runAt(chunk, page), first);
  }

  /** The line with number `tag` of a page, 0: it has no data. */
  lineOf(chunk: number, page: number, tag: number): number {
    return this.byte(chunk, page) === tag + 1 ? this.line(chunk, page) : 0;
  }

  /** A page of zeros gets its line, as line number `tag`. @returns false when it is not of zeros */
  setTag(chunk: number, page: number, tag: number): boolean {
    if (this.byte(chunk, page) !== 0) return false;
    const at = bytesAt(chunk, page);
    this.dir.set(at, this.dir.a[at]! | ((tag + 1) << byteShift(page)));
    return true;
  }
  private byte(chunk: number, page: number): number {
    return (this.dir.a[bytesAt(chunk, page)]! >>> byteShift(page)) & 0xff;
  }

  // By a page's slot in one. Of the page's number the low six bits count.

  /** Number of the line of a page that has data; NO_LINE, or something above all numbers when the chunk is no longer in use. */
  tagAt(slot: number, page: number): number {
    return ((this.dir.a[~slot]! >>> byteShift(page)) & 0xff) - 1;
  }
  /** A page of zeros gets its line. */
  setTagAt(slot: number, page: number, tag: number): void {
    this.dir.set(~slot, this.dir.a[~slot]! | ((tag + 1) << byteShift(page)));
  }
  /** As `line`. */
  lineAt(slot: number, page: number): number {
    return this.line((slot + ((page & CHUNK_MASK) >> 2)) | 0, page) | 0;
  }

  /** All pages of a narrow chunk become zero. A run without lines has never had data: its words are not looked at. */
  clearAll(chunk: number): void {
    const dir = this.dir.a;
    const at = ~chunk;
    if (dir[at + RUNS] !== 0) this.clearRun(at);
    if (dir[at + RUNS + 1] !== 0) this.clearRun(at + 4);
    if (dir[at + RUNS + 2] !== 0) this.clearRun(at + 8);
    if (dir[at + RUNS + 3] !== 0) this.clearRun(at + 12);
  }
  private clearRun(at: number): void {
    const dir = this.dir.a;
    if (dir[at] !== 0) this.dir.set(at, 0);
    if (dir[at + 1] !== 0) this.dir.set(at + 1, 0);
    if (dir[at + 2] !== 0) this.dir.set(at + 2, 0);
    if (dir[at + 3] !== 0) this.dir.set(at + 3, 0);
  }
  /** A page of a narrow chunk becomes zero. */
  clearPage(chunk: number, page: number): void {
    const at = bytesAt(chunk, page);
    this.dir.set(at, this.dir.a[at]! & ~(0xff << byteShift(page)));
  }
  /** Pages [page, end) of a narrow chunk become zero. */
  clear(chunk: number, page: number, end: number): void {
    const dir = this.dir.a;
    const first = bytesAt(chunk, page);
    const last = bytesAt(chunk, end - 1);
    for (let at = first; at <= last; at++) {
      const word = dir[at]!;
      if (word === 0) continue;
      let gone = -1;
      if (at === first) gone <<= byteShift(page);
      if (at === last) gone &= -1 >>> (24 - byteShift(end - 1));
      this.dir.set(at, word & ~gone);
    }
  }

  /**
   * Makes the chunk of a page wide.
   * @param unused is called with every line that was kept for a page and had no data
   * @returns the page's slot
   */
  widen(page: number, unused: (line: number) => void): number {
    const narrow = this.chunk(page);
    if (narrow > 0) return narrow + (page & CHUNK_MASK);
    const wide = this.take(CHUNK_PAGES);
    const first = page & ~CHUNK_MASK;
    for (let i = 0; i < CHUNK_PAGES; i++) {
      const ref = this.narrowRef(narrow, first + i);
      const line = this.line(narrow, first + i);
      if (ref !== 0) this.dir.set(wide + i, ref);
      else if (line !== 0) unused(line);
    }
    for (let i = 0; i < NARROW_WORDS; i++) this.dir.set(~narrow + i, i < RUNS ? WIDENED : 0);
    return this.place(page, wide) + (page & CHUNK_MASK);
  }
}

const byteShift = (page: number): number => (page & 3) << 3;
const bytesAt = (chunk: number, page: number): number => (~chunk + ((page & CHUNK_MASK) >> 2)) | 0;
const runAt = (chunk: number, page: number): number => (~chunk + RUNS + ((page & CHUNK_MASK) >> 4)) | 0;
