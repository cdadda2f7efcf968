/**
 * Physical page frames: struct page, the page allocator and the hugetlb pools
 * (mm/page_alloc.c, include/linux/mm_types.h, mm/hugetlb.c dequeue_huge_page).
 *
 * RAM is divided into 2 MiB blocks. A block is free, broken into 4 KiB pages, or one compound page
 * (a THP, a hugetlb page, a part of a larger hugetlb page). Metadata exists for what is in use; untouched
 * RAM costs nothing. It lies in one pool:
 *
 * a broken block's run | 512 state words, one a page
 * a compound page's record | state word, reference count, map count
 *
 * state word | bits
 * small page | flags 11:0, reference count 21:12, map count 31:22
 * free small page | 0 in 21:0, the next free page of the block + 1 in 31:22
 * compound page | flags 11:0, 12, 13: PageAnonExclusive is each page's own, some small entries are not folded (subpagemarks.ts)
 * a frame of a 64 KiB hugetlb page, whose block is broken | FRAME_HUGETLB in 3:0, the place of its record 31:4
 *
 * A free run has the next one + 1 in its second word, a free record in its reference count. page->index is not kept: the
 * reverse mapping goes from the file or the anon_vma to the VMAs, and their tables are looked at (rmap.ts).
 *
 * Tail pages have no record of their own: counts and flags are the head's, as in the kernel, save two that each page of a THP
 * has for itself (subpagemarks.ts; the head's FRAME_HWPOISON says that one of them is broken, PG_has_hwpoisoned). A small
 * page's count that reaches 1023 stays there, and the page is never freed (as REFCOUNT_SATURATED).
 */
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { LruBatches } from "./lrubatch.js";
import { MARK_EXCLUSIVE, MARK_HWPOISON, MARK_UNFOLDED, SubpageMarks } from "./subpagemarks.js";

/** Flags of a frame. */
export const FRAME_DIRTY = 1 << 0;
export const FRAME_ANON = 1 << 1;
export const FRAME_FILE = 1 << 2;
export const FRAME_HUGETLB = 1 << 3;
export const FRAME_THP = 1 << 4;
export const FRAME_HWPOISON = 1 << 5;
/** Never freed, not counted: the zero pages. */
export const FRAME_RESERVED = 1 << 6;
/** Not PageSwapBacked: MADV_FREE has made it a page that is thrown away, not swapped out. */
export const FRAME_LAZYFREE = 1 << 7;
/** PageSwapCache: was swapped out once; some references may be swap entries. */
export const FRAME_SWAPCACHE = 1 << 8;
/** PageAnonExclusive: only this process maps it, so a write may reuse it. */
export const FRAME_EXCLUSIVE = 1 << 9;
export const FRAME_MTE_TAGGED = 1 << 10;
export const FRAME_KSM = 1 << 11;
const FLAGS_MASK = 0xfff;
/** Of a THP without FRAME_EXCLUSIVE: some of its pages are exclusive. */
const SOME_EXCLUSIVE = 1 << 12;
/** Of a THP: some of its small entries are not folded. */
const SOME_UNFOLDED = 1 << 13;
const REF_SHIFT = 12;
const MAP_SHIFT = 22;
const COUNT_MASK = 0x3ff;
const ONE_REF = 1 << REF_SHIFT;
const ONE_MAP = 1 << MAP_SHIFT;
/** Counts of these are words of their own. */
const COMPOUND = FRAME_HUGETLB | FRAME_THP;

/** Page orders: 4 KiB, contiguous 64 KiB, 2 MiB, contiguous 32 MiB, 1 GiB. */
export const ORDER_PAGE = 0;
export const ORDER_CONT_PTE = 4;
export const ORDER_PMD = 9;
export const ORDER_CONT_PMD = 13;
export const ORDER_PUD = 18;
/** The orders that hugetlb pools exist for. */
export const HUGETLB_ORDERS = [ORDER_CONT_PTE, ORDER_PMD, ORDER_CONT_PMD, ORDER_PUD] as const;

export const pageAlloc = declareEvent("faultline", "page_alloc", "the host took a page from the page allocator or a hugetlb pool", [
  { name: "pfn", kind: "hex" },
  { name: "order", kind: "dec", unit: "log2 of 4 KiB pages" },
]);
export const pageFree = declareEvent("faultline", "page_free", "the last reference to a page was dropped", [
  { name: "pfn", kind: "hex" },
  { name: "order", kind: "dec", unit: "log2 of 4 KiB pages" },
]);
export const pageReference = declareEvent("faultline", "page_reference", "references of a page outside RAM that has a struct page", [
  { name: "pfn", kind: "hex" },
  { name: "count", kind: "dec", unit: "references" },
]);
export const pageClear = declareEvent("faultline", "page_clear", "a fresh page was zeroed", [
  { name: "pfn", kind: "hex" },
  { name: "order", kind: "dec", unit: "log2 of 4 KiB pages" },
]);
export const pageCopy = declareEvent("faultline", "page_copy", "a page was copied (copy-on-write, collapse, migration)", [
  { name: "from", kind: "hex" },
  { name: "to", kind: "hex" },
  { name: "order", kind: "dec", unit: "log2 of 4 KiB pages" },
]);

/** What frames asks of the physical memory. */
export interface PageData {
  clearPage(pfn: number): void;
  /** The same for the pages of an aligned 2 MiB. */
  clearPages?(pfn: number, count: number): void;
  copyPage(dstPfn: number, srcPfn: number): void;
  /** The data cache in front of the pages, where caches are modelled. */
  readonly cache?: { flush(pa: number, size: number): void } | undefined;
}

export interface FrameOptions {
  /** First page frame of RAM; a multiple of 512. */
  readonly basePfn: number;
  /** Number of 4 KiB frames; rounded down to 2 MiB. */
  readonly frames: number;
  /** Persistent hugetlb pages per order. */
  readonly hugetlb?: Readonly<Partial<Record<4 | 9 | 13 | 18, number>>>;
}

/** A range of page frames outside RAM that the kernel knows of. */
export interface SpecialRange {
  readonly pfn: number;
  readonly frames: number;
  /** Has struct page (pfn_valid). */
  readonly structPage: boolean;
  /** Is in the kernel's linear map (pfn_is_map_memory). */
  readonly linear: boolean;
}

/** Words of a compound page's record, after the state word. */
const REFS = 1;
const MAPS = 2;
const RECORD_WORDS = 3;
const RUN_WORDS = 512;
/** Word of a free run or record that leads to the next one: none that answers for a page of a free block. */
const NEXT_PLACE = 1;
/** Where the state word of a 64 KiB hugetlb page's frames has the place of their record. */
const RECORD_SHIFT = 4;
/** Block words. */
const B = 8;
const KIND = 0;
/** The place of its run or record. */
const RECORD = 1;
const USED = 2;
/** Its first free page + 1. */
const FREE = 3;
/** Pages from here on were never used. */
const BUMP = 4;
const NEXT = 5;
const PREV = 6;
const BORDER = 7;

const KIND_FREE = 0;
const KIND_PAGES = 1;
const KIND_COMPOUND = 2;

/** Words of the heads pool. */
const H_NEXT_BLOCK = 0;
const H_FREE_BLOCK = 1;
const H_PARTIAL = 2;
const H_RECORDS = 3;
const H_FREE_RUN = 4;
const H_FREE_SINGLE = 5;
const H_HUGE_ZERO = 6;
/** Per hugetlb order, two words: free pages, unused. */
const H_POOL = 7;

export class Frames {
  /** pfn of the shared zero page. */
  readonly zeroPfn: number;
  readonly basePfn: number;
  readonly frames: number;
  private readonly blocks: I32Pool;
  private readonly recs: I32Pool;
  private readonly heads: I32Pool;
  /** Free pages of each hugetlb order: stacks of relative frame numbers. */
  private readonly pools: I32Pool[] = [];
  private readonly blockLimit: number;
  private readonly special: SpecialRange[] = [];
  /** All special ranges lie in [specialFrom, specialTo). */
  private specialFrom = Infinity;
  private specialTo = 0;
  /** References of the pages of all special ranges, beyond the one that each starts with. */
  private readonly specialRefs: I32Pool;
  private readonly marks: SubpageMarks;
  /**
   * The page whose state word was looked for last, and where it lies, or -1, -1: of one page count and flags are asked for again
   * and again. Only what a block is made of moves it: whatever changes that, or puts state back, forgets it.
   */
  private placePfn = -1;
  private placeAt = -1;
  /** In releases with a batch that the model follows. */
  lru: LruBatches | undefined;
  /** The same in those where it is followed which pages were accessed. */
  accessed: LruBatches | undefined;

  constructor(
    private readonly sim: Sim,
    private readonly data: PageData,
    options: FrameOptions,
  ) {
    if (options.basePfn % 512 !== 0) throw new Error("RAM must start at a multiple of 2 MiB");
    this.basePfn = options.basePfn;
    this.frames = options.frames - (options.frames % 512);
    this.blockLimit = this.frames / 512;
    this.blocks = sim.state.i32("frames.blocks", 64 * B);
    this.recs = sim.state.i32("frames.records", 2048);
    this.specialRefs = sim.state.i32("frames.specialRefs", 1);
    this.heads = sim.state.i32("frames.heads", H_POOL + 2 * HUGETLB_ORDERS.length);
    this.marks = new SubpageMarks(sim);
    sim.state.tally({ store: () => undefined, load: () => this.forgetPlace() });
    this.zeroPfn = this.take(ORDER_PAGE);
    this.setFlags(this.zeroPfn, FRAME_RESERVED);
    for (const [n, order] of HUGETLB_ORDERS.entries()) {
      const pool = sim.state.i32(`frames.hugetlb${order}`, 16);
      this.pools.push(pool);
      this.fillPool(n, order, options.hugetlb?.[order] ?? 0);
    }
  }

  /** Reserves the persistent hugetlb pages of one order while RAM is fresh (hugetlb_hstate_alloc_pages). */
  private fillPool(n: number, order: number, wanted: number): void {
    for (let i = 0; i < wanted; i++) {
      const pfn = this.reserveHuge(order);
      if (pfn < 0) return;
      this.pushHuge(n, pfn);
    }
  }

  /** nr_hugepages of sysfs: the pool of this order grows. @returns its free pages */
  growPool(order: number, pages: number): number {
    this.fillPool(this.poolIndex(order), order, pages);
    return this.hugetlbFree(order);
  }

  private reserveHuge(order: number): number {
    if (order < ORDER_PMD) return this.reserveContPte();
    const count = 1 << (order - ORDER_PMD);
    const blocks = this.heads.a[H_NEXT_BLOCK]!;
    // Natural alignment of the physical address, not of the offset in RAM.
    const base = this.basePfn / 512;
    const first = Math.ceil((base + blocks) / count) * count - base;
    if (first + count > this.blockLimit) return -1;
    this.blocks.ensure((first + count) * B);
    for (let b = blocks; b < first; b++) this.pushFreeBlock(b);
    this.heads.set(H_NEXT_BLOCK, first + count);
    const record = this.newRecord();
    for (let b = first; b < first + count; b++) this.makeCompound(b, record, order);
    return this.basePfn + first * 512;
  }

  /** 64 KiB pages come sixteen adjacent 4 KiB frames at a time, from the front of a fresh block. */
  private reserveContPte(): number {
    let b = this.heads.a[H_PARTIAL]! - 1;
    while (b >= 0 && (this.blocks.a[Math.imul(b, B) + BUMP]! + 31) >>> 4 > 31) b = this.blocks.a[Math.imul(b, B) + NEXT]! - 1;
    if (b < 0) b = this.newPageBlock();
    if (b < 0) return -1;
    const at = Math.imul(b, B);
    const from = this.blocks.a[at + BUMP]!;
    const first = (from + 15) & ~15;
    const run = this.blocks.a[at + RECORD]!;
    for (let i = from; i < first; i++) this.giveBack(at, run, i);
    this.blocks.set(at + BUMP, first + 16);
    this.blocks.set(at + USED, this.blocks.a[at + USED]! + 16);
    if (this.blocks.a[at + USED] === 512) this.unlink(b);
    const record = this.newRecord();
    this.forgetPlace();
    this.recs.set(record, FRAME_HUGETLB);
    for (let i = first; i < first + 16; i++) this.recs.set(run + i, (record << RECORD_SHIFT) | FRAME_HUGETLB);
    return this.basePfn + b * 512 + first;
  }

  /** Declares frames outside RAM: device memory with struct pages, carve-outs. At construction of the machine only. */
  addRange(range: SpecialRange): void {
    this.special.push(range);
    this.specialFrom = Math.min(this.specialFrom, range.pfn);
    this.specialTo = Math.max(this.specialTo, range.pfn + range.frames);
    this.specialRefs.ensure(this.special.reduce((n, r) => n + r.frames, 0));
  }

  // ---- what the kernel knows about a pfn -------------------------------------------------------

  /** True for a frame of RAM that these pools manage. */
  isRam(pfn: number): boolean {
    return pfn >= this.basePfn && pfn < this.basePfn + this.frames;
  }
  /** pfn_valid: has a struct page. */
  pfnValid(pfn: number): boolean {
    if (this.isRam(pfn)) return true;
    return this.rangeOf(pfn)?.structPage === true;
  }
  /** pfn_is_map_memory: is in the kernel's linear map. */
  isMapMemory(pfn: number): boolean {
    if (this.isRam(pfn)) return true;
    return this.rangeOf(pfn)?.linear === true;
  }
  private rangeOf(pfn: number): SpecialRange | undefined {
    if (pfn < this.specialFrom || pfn >= this.specialTo) return undefined;
    for (const range of this.special) if (pfn >= range.pfn && pfn < range.pfn + range.frames) return range;
    return undefined;
  }

  // ---- allocation ------------------------------------------------------------------------------

  /**
   * alloc_pages: a page of order 0 or 9 with one reference. Contents are undefined: clear or copy.
   * @returns pfn, or -1 when no memory is left
   */
  alloc(order: number): number {
    const pfn = this.take(order);
    if (pfn >= 0) {
      this.sim.agents.charge(this.sim.costs.pageAlloc);
      this.sim.bus.emit(pageAlloc, pfn, order);
    }
    return pfn;
  }

  private take(order: number): number {
    if (order === ORDER_PAGE) return this.takePage();
    const b = this.takeBlock();
    if (b < 0) return -1;
    const record = this.newRecord();
    this.makeCompound(b, record, ORDER_PMD);
    this.initRecord(record, FRAME_THP);
    this.placePfn = this.basePfn + b * 512;
    this.placeAt = record;
    return this.placePfn;
  }

  private takePage(): number {
    const pfn = this.takeRaw();
    if (pfn >= 0) this.recs.set(this.placeAt, ONE_REF);
    return pfn;
  }

  /** A 4 KiB page whose state word, at `placeAt`, is not written yet. */
  private takeRaw(): number {
    let b = (this.heads.a[H_PARTIAL]! - 1) | 0;
    if (b < 0) {
      b = this.newPageBlock() | 0;
      if (b < 0) return -1;
    }
    const blocks = this.blocks;
    const at = Math.imul(b, B);
    const run = blocks.a[at + RECORD]!;
    let i = (blocks.a[at + FREE]! - 1) | 0;
    let next = 0;
    if (i >= 0) next = this.recs.a[run + i]! >>> MAP_SHIFT;
    else {
      i = blocks.a[at + BUMP]!;
      blocks.set(at + BUMP, i + 1);
    }
    const counts = (at + USED) | 0;
    const used = (blocks.a[counts]! + 1) | 0;
    blocks.set2(counts, used, next);
    if (used === 512) this.unlink(b);
    const pfn = this.basePfn + ((b << 9) | i);
    this.placePfn = pfn;
    this.placeAt = (run + i) | 0;
    return pfn;
  }

  /**
   * alloc_zeroed_user_highpage with page_add_new_anon_rmap: a cleared page for one anonymous mapping,
   * with one reference and one mapping. @returns pfn or -1
   */
  allocAnon(): number {
    const pfn = this.takeRaw();
    if (pfn < 0) return -1;
    const at = this.placeAt;
    const { bus, agents, costs } = this.sim;
    bus.emit(pageAlloc, pfn, ORDER_PAGE);
    this.data.clearPage(pfn);
    agents.charge(costs.pageAlloc + costs.pageClear);
    bus.emit(pageClear, pfn, ORDER_PAGE);
    this.recs.set(at, FRAME_ANON | FRAME_EXCLUSIVE | ONE_REF | ONE_MAP);
    this.lru?.lruCacheAddSmall(pfn);
    return pfn;
  }

  private initRecord(record: number, flags: number): void {
    this.recs.set2(record, flags, 1); // REFS
    this.recs.set(record + MAPS, 0);
  }

  /** A free block, or -1. Freed ones first. */
  private takeBlock(): number {
    const heads = this.heads;
    const free = heads.a[H_FREE_BLOCK]! - 1;
    if (free >= 0) {
      heads.set(H_FREE_BLOCK, this.blocks.a[Math.imul(free, B) + NEXT]!);
      this.blocks.set(Math.imul(free, B) + NEXT, 0);
      return free;
    }
    const next = heads.a[H_NEXT_BLOCK]!;
    if (next >= this.blockLimit) return -1;
    this.blocks.ensure((next + 1) * B);
    heads.set(H_NEXT_BLOCK, next + 1);
    return next;
  }

  private pushFreeBlock(b: number): void {
    this.forgetPlace();
    const at = Math.imul(b, B);
    this.blocks.set(at + KIND, KIND_FREE);
    this.blocks.set(at + NEXT, this.heads.a[H_FREE_BLOCK]!);
    this.heads.set(H_FREE_BLOCK, b + 1);
  }

  /** Breaks a free block into 4 KiB pages and makes it the one to allocate from. */
  private newPageBlock(): number {
    const b = this.takeBlock();
    if (b < 0) return -1;
    this.breakBlock(b);
    this.link(b);
    return b;
  }

  private breakBlock(b: number): void {
    this.forgetPlace();
    const at = Math.imul(b, B);
    const heads = this.heads;
    let run = heads.a[H_FREE_RUN]! - 1;
    if (run >= 0) heads.set(H_FREE_RUN, this.recs.a[run + NEXT_PLACE]!);
    else run = this.newWords(RUN_WORDS);
    const blocks = this.blocks;
    blocks.set(at + KIND, KIND_PAGES);
    blocks.set(at + RECORD, run);
    blocks.set(at + USED, 0);
    blocks.set(at + FREE, 0);
    blocks.set(at + BUMP, 0);
    blocks.set(at + BORDER, 0);
  }

  /** A record for a compound page. */
  private newRecord(): number {
    const free = this.heads.a[H_FREE_SINGLE]! - 1;
    if (free < 0) return this.newWords(RECORD_WORDS);
    this.heads.set(H_FREE_SINGLE, this.recs.a[free + NEXT_PLACE]!);
    return free;
  }

  private newWords(n: number): number {
    const place = this.heads.a[H_RECORDS]!;
    this.heads.set(H_RECORDS, place + n);
    this.recs.ensure(place + n);
    return place;
  }

  private makeCompound(b: number, record: number, order: number): void {
    this.forgetPlace();
    const at = Math.imul(b, B);
    this.blocks.set(at + KIND, KIND_COMPOUND);
    this.blocks.set(at + RECORD, record);
    this.blocks.set(at + BORDER, order);
  }

  /** Puts a block at the front of the list of blocks with free pages. */
  private link(b: number): void {
    const head = this.heads.a[H_PARTIAL]!;
    this.blocks.set(Math.imul(b, B) + NEXT, head);
    this.blocks.set(Math.imul(b, B) + PREV, 0);
    if (head !== 0) this.blocks.set((head - 1) * B + PREV, b + 1);
    this.heads.set(H_PARTIAL, b + 1);
  }

  private unlink(b: number): void {
    const at = Math.imul(b, B);
    const next = this.blocks.a[at + NEXT]!;
    const prev = this.blocks.a[at + PREV]!;
    if (prev !== 0) this.blocks.set((prev - 1) * B + NEXT, next);
    else this.heads.set(H_PARTIAL, next);
    if (next !== 0) this.blocks.set((next - 1) * B + PREV, prev);
    this.blocks.set(at + NEXT, 0);
    this.blocks.set(at + PREV, 0);
  }

  // ---- counts ----------------------------------------------------------------------------------

  /** Where a page's state word lies: its own, or its compound page's. Only for RAM in use. @returns -1 outside RAM */
  private place(pfn: number): number {
    return pfn === this.placePfn ? this.placeAt : this.findPlace(pfn);
  }
  private findPlace(pfn: number): number {
    if (!this.isRam(pfn)) return -1;
    const rel = pfn - this.basePfn;
    const at = (rel >>> 9) * B;
    let place = this.blocks.a[at + RECORD]!;
    if (this.blocks.a[at + KIND] === KIND_PAGES) {
      place += rel & 511;
      const word = this.recs.a[place]!;
      if ((word & FRAME_HUGETLB) !== 0) place = word >>> RECORD_SHIFT;
    }
    this.placePfn = pfn;
    this.placeAt = place;
    return place;
  }
  private forgetPlace(): void {
    this.placePfn = this.placeAt = -1;
  }

  /** Adds to both counts of a page; a saturated count stays. @param word its state word @returns the references that are left */
  private count(r: number, word: number, refs: number, maps: number): number {
    const recs = this.recs;
    if ((word & COMPOUND) !== 0) {
      const left = recs.a[r + REFS]! + refs;
      recs.set(r + REFS, left);
      if (maps !== 0) recs.set(r + MAPS, recs.a[r + MAPS]! + maps);
      return left;
    }
    const oldRefs = (word >>> REF_SHIFT) & COUNT_MASK;
    const addRefs = oldRefs === COUNT_MASK ? 0 : refs;
    const addMaps = word >>> MAP_SHIFT === COUNT_MASK ? 0 : maps;
    recs.set(r, (word + (addRefs << REF_SHIFT) + (addMaps << MAP_SHIFT)) | 0);
    return oldRefs + addRefs;
  }

  /** References of a page outside RAM that has a struct page; it starts with one. @returns what is left; 0 without a struct page */
  private countSpecial(pfn: number, refs: number): number {
    for (let i = 0, first = 0; i < this.special.length; first += this.special[i++]!.frames) {
      const r = this.special[i]!;
      if (!r.structPage || pfn < r.pfn || pfn >= r.pfn + r.frames) continue;
      const at = first + pfn - r.pfn;
      if (refs !== 0) {
        this.specialRefs.set(at, this.specialRefs.a[at]! + refs);
        this.sim.bus.emit(pageReference, pfn, 1 + this.specialRefs.a[at]!);
      }
      return 1 + this.specialRefs.a[at]!;
    }
    return 0;
  }

  /** get_page: one more reference. The zero pages, and frames without struct page, are not counted. */
  get(pfn: number): void {
    const r = this.place(pfn);
    if (r < 0) return void this.countSpecial(pfn, 1);
    const word = this.recs.a[r]!;
    if ((word & FRAME_RESERVED) === 0) this.count(r, word, 1, 0);
  }

  /** put_page: one reference less; the last one frees the page. */
  put(pfn: number): void {
    this.drop(pfn, 0);
  }

  private drop(pfn: number, maps: number): void {
    const r = this.place(pfn);
    if (r < 0) return void this.countSpecial(pfn, -1);
    const word = this.recs.a[r]!;
    if ((word & FRAME_RESERVED) !== 0) return;
    const left = this.count(r, word, -1, maps);
    if (left <= 0) this.dropped(pfn, r, left);
  }

  /** No reference is left. @param left negative: there was none */
  private dropped(pfn: number, r: number, left: number): void {
    if (left < 0) throw new Error(`frame 0x${pfn.toString(16)} is put once too often`);
    this.free(pfn, r);
  }

  /** get_page and page_add_rmap: the frame is mapped once more. */
  addMapping(pfn: number): void {
    const r = this.place(pfn);
    if (r < 0) return void this.countSpecial(pfn, 1);
    const word = this.recs.a[r]!;
    if ((word & FRAME_RESERVED) === 0) this.count(r, word, 1, 1);
  }

  /** page_remove_rmap and put_page: a mapping went away. */
  dropMapping(pfn: number): void {
    this.drop(pfn, -1);
  }

  /** page_add_rmap without a reference: the caller's becomes the mapping's (a swap entry turns into a mapping). */
  addRmap(pfn: number): void {
    const r = this.place(pfn);
    this.count(r, this.recs.a[r]!, 0, 1);
  }
  /** page_remove_rmap: the mapping's reference stays with the caller (a mapping turns into a swap entry). */
  removeRmap(pfn: number): void {
    const r = this.place(pfn);
    this.count(r, this.recs.a[r]!, 0, -1);
  }

  /** page_add_new_anon_rmap: a fresh page, with the reference it was allocated with, got its first mapping. */
  newAnon(pfn: number): void {
    const r = this.place(pfn);
    const word = this.recs.a[r]! | FRAME_ANON | FRAME_EXCLUSIVE;
    this.recs.set(r, word);
    this.count(r, word, 0, 1);
  }

  /** The frame belongs to a file's page cache. */
  setFile(pfn: number): void {
    this.setFlags(pfn, FRAME_FILE);
  }

  refcount(pfn: number): number {
    const r = this.place(pfn);
    if (r < 0) return this.countSpecial(pfn, 0);
    const word = this.recs.a[r]!;
    return (word & COMPOUND) !== 0 ? this.recs.a[r + REFS]! : (word >>> REF_SHIFT) & COUNT_MASK;
  }
  /** 0 for a free page, whose word has the next free one there. */
  mapcount(pfn: number): number {
    const r = this.place(pfn);
    if (r < 0) return 0;
    const word = this.recs.a[r]!;
    if ((word & COMPOUND) !== 0) return this.recs.a[r + MAPS]!;
    return (word & (COUNT_MASK << REF_SHIFT)) === 0 ? 0 : word >>> MAP_SHIFT;
  }
  /** FRAME_* of a frame in use; 0 outside RAM. */
  flags(pfn: number): number {
    const r = this.place(pfn);
    return r < 0 ? 0 : this.recs.a[r]! & FLAGS_MASK;
  }
  setFlags(pfn: number, flags: number): void {
    const r = this.place(pfn);
    if (r < 0) return;
    const word = this.recs.a[r]!;
    if ((word & flags) !== flags) this.recs.set(r, word | flags);
  }
  clearFlags(pfn: number, flags: number): void {
    const r = this.place(pfn);
    if (r >= 0) this.recs.set(r, this.recs.a[r]! & ~flags);
  }
  /** set_page_dirty (kvm_set_pfn_dirty). */
  setDirty(pfn: number): void {
    this.setFlags(pfn, FRAME_DIRTY);
  }
  isDirty(pfn: number): boolean {
    return (this.flags(pfn) & FRAME_DIRTY) !== 0;
  }
  /** PageHWPoison: of a huge page, this page of it. */
  isHwpoison(pfn: number): boolean {
    const of = this.flags(pfn);
    return (of & FRAME_HWPOISON) !== 0 && ((of & FRAME_THP) === 0 || this.marks.has(MARK_HWPOISON, pfn - this.basePfn));
  }
  /** SetPageHWPoison. */
  setHwpoison(pfn: number): void {
    if (this.isThp(pfn)) this.marks.set(MARK_HWPOISON, pfn - this.basePfn, true);
    this.setFlags(pfn, FRAME_HWPOISON);
  }
  /** PageAnonExclusive of the page of RAM that an entry maps; where it maps a whole huge page, the first. */
  isExclusive(pfn: number): boolean {
    const word = this.recs.a[this.place(pfn)]!;
    if ((word & FRAME_EXCLUSIVE) !== 0) return true;
    return (word & (FRAME_THP | SOME_EXCLUSIVE)) === (FRAME_THP | SOME_EXCLUSIVE) && this.marks.has(MARK_EXCLUSIVE, pfn - this.basePfn);
  }
  /** SetPageAnonExclusive, or ClearPageAnonExclusive. @param whole the entry maps the whole huge page: its small ones will all have its mark (__split_huge_pmd_locked) */
  setExclusive(pfn: number, on: boolean, whole: boolean): void {
    const r = this.place(pfn);
    if (!whole && (this.recs.a[r]! & FRAME_THP) !== 0) return this.setSubpageExclusive(r, pfn - this.basePfn, on);
    const word = this.recs.a[r]!;
    if ((word & FRAME_THP) !== 0) this.dropExclusiveMarks(r, pfn - this.basePfn);
    this.recs.set(r, on ? this.recs.a[r]! | FRAME_EXCLUSIVE : this.recs.a[r]! & ~FRAME_EXCLUSIVE);
  }
  private setSubpageExclusive(r: number, rel: number, on: boolean): void {
    const { marks, recs } = this;
    const word = recs.a[r]!;
    if ((word & SOME_EXCLUSIVE) === 0) {
      if (on === ((word & FRAME_EXCLUSIVE) !== 0)) return;
      marks.fill(MARK_EXCLUSIVE, rel, !on);
      recs.set(r, (word & ~FRAME_EXCLUSIVE) | SOME_EXCLUSIVE);
    }
    marks.set(MARK_EXCLUSIVE, rel, on);
    if (!marks.all(MARK_EXCLUSIVE, rel, on)) return;
    this.dropExclusiveMarks(r, rel);
    if (on) recs.set(r, recs.a[r]! | FRAME_EXCLUSIVE);
  }
  /** A small entry of a THP was changed by itself (contpte_try_unfold), or the last of sixteen that are the same now (contpte_try_fold). */
  setFolded(pfn: number, on: boolean): void {
    const r = this.place(pfn);
    const word = this.recs.a[r]!;
    if ((word & FRAME_THP) === 0 || (on && (word & SOME_UNFOLDED) === 0)) return;
    this.marks.set(MARK_UNFOLDED, (pfn - this.basePfn) & ~15, !on);
    this.recs.set(r, word | SOME_UNFOLDED);
  }
  /** Has the small entry of this page of a THP the contiguous bit? */
  isFolded(pfn: number): boolean {
    return (this.recs.a[this.place(pfn)]! & SOME_UNFOLDED) === 0 || !this.marks.has(MARK_UNFOLDED, (pfn - this.basePfn) & ~15);
  }
  private dropExclusiveMarks(r: number, rel: number): void {
    const word = this.recs.a[r]!;
    if ((word & SOME_EXCLUSIVE) === 0) return;
    this.marks.fill(MARK_EXCLUSIVE, rel, false);
    this.recs.set(r, word & ~SOME_EXCLUSIVE);
  }
  isKsm(pfn: number): boolean {
    return (this.flags(pfn) & FRAME_KSM) !== 0;
  }
  /** PageReserved as KVM asks it: outside RAM, or a zero page. */
  isReserved(pfn: number): boolean {
    return !this.isRam(pfn) || (this.flags(pfn) & FRAME_RESERVED) !== 0;
  }
  /** PageTransCompound without hugetlb: part of a THP (the huge zero page too). */
  isThp(pfn: number): boolean {
    return (this.flags(pfn) & FRAME_THP) !== 0;
  }
  /** Not PageAnon: in the page cache of a file. */
  isFile(pfn: number): boolean {
    return (this.flags(pfn) & FRAME_FILE) !== 0;
  }
  /** PageCompound: part of any compound page. */
  isCompound(pfn: number): boolean {
    return (
      this.isRam(pfn) &&
      (this.blocks.a[((pfn - this.basePfn) >>> 9) * B + KIND] === KIND_COMPOUND || (this.flags(pfn) & FRAME_HUGETLB) !== 0)
    );
  }
  /** log2 of the compound page's size in pages; 0 for an ordinary page. */
  orderOf(pfn: number): number {
    if (!this.isRam(pfn)) return 0;
    const at = ((pfn - this.basePfn) >>> 9) * B;
    if (this.blocks.a[at + KIND] === KIND_COMPOUND) return this.blocks.a[at + BORDER]!;
    return (this.flags(pfn) & FRAME_HUGETLB) !== 0 ? ORDER_CONT_PTE : 0;
  }
  /** The first frame of the compound page (compound_head), or pfn itself. */
  head(pfn: number): number {
    const order = this.orderOf(pfn);
    return order === 0 ? pfn : Math.floor(pfn / 2 ** order) * 2 ** order;
  }
  isZeroPage(pfn: number): boolean {
    return pfn === this.zeroPfn;
  }
  isHugeZeroPage(pfn: number): boolean {
    const h = this.heads.a[H_HUGE_ZERO]! - 1;
    return h >= 0 && pfn - this.basePfn >= h && pfn - this.basePfn < h + 512;
  }
  /** mm_get_huge_zero_page: allocated and cleared on first use. @returns pfn or -1 */
  hugeZeroPfn(): number {
    const h = this.heads.a[H_HUGE_ZERO]! - 1;
    if (h >= 0) return this.basePfn + h;
    const pfn = this.alloc(ORDER_PMD);
    if (pfn < 0) return -1;
    this.clear(pfn, ORDER_PMD);
    this.setFlags(pfn, FRAME_RESERVED);
    this.heads.set(H_HUGE_ZERO, pfn - this.basePfn + 1);
    return pfn;
  }
  /** Frames in use, free pages of hugetlb pools excluded. Counts: for people and tests. */
  get allocated(): number {
    let n = 0;
    for (let b = 0; b < this.heads.a[H_NEXT_BLOCK]!; b++) {
      const kind = this.blocks.a[Math.imul(b, B) + KIND];
      if (kind === KIND_PAGES) n += this.blocks.a[Math.imul(b, B) + USED]!;
      else if (kind === KIND_COMPOUND) n += 512;
    }
    for (const [i, order] of HUGETLB_ORDERS.entries()) n -= this.heads.a[H_POOL + 2 * i]! * 2 ** order;
    return n;
  }

  // ---- contents --------------------------------------------------------------------------------

  /** clear_page / clear_huge_page. */
  clear(pfn: number, order: number): void {
    const n = 1 << order;
    if (order === ORDER_PMD && this.data.clearPages !== undefined) this.data.clearPages(pfn, n);
    else for (let i = 0; i < n; i++) this.data.clearPage(pfn + i);
    this.sim.agents.charge(this.sim.costs.pageClear * n);
    this.sim.bus.emit(pageClear, pfn, order);
  }
  /** dcache_clean_inval_poc of a page. */
  flushDcache(pfn: number): void {
    this.data.cache?.flush(pfn * 4096, 4096);
  }
  /** copy_user_highpage / copy_user_huge_page. */
  copy(to: number, from: number, order: number): void {
    const n = 1 << order;
    for (let i = 0; i < n; i++) this.data.copyPage(to + i, from + i);
    this.sim.agents.charge(this.sim.costs.pageCopy * n);
    this.sim.bus.emit(pageCopy, from, to, order);
  }

  // ---- freeing and splitting -------------------------------------------------------------------

  private free(pfn: number, record: number): void {
    const rel = pfn - this.basePfn;
    const b = rel >>> 9;
    const at = Math.imul(b, B);
    const flags = this.recs.a[record]!;
    if ((flags & FRAME_HUGETLB) !== 0) {
      this.freeHuge(pfn, record);
      return;
    }
    if ((flags & FRAME_HWPOISON) !== 0) return; // never handed out again: of a huge page, all of it
    if ((flags & FRAME_THP) !== 0 && (flags & (SOME_EXCLUSIVE | SOME_UNFOLDED)) !== 0) this.dropMarks(rel);
    if (this.blocks.a[at + KIND] === KIND_COMPOUND) {
      this.sim.bus.emit(pageFree, this.basePfn + b * 512, ORDER_PMD);
      this.lru?.freed(this.basePfn + b * 512);
      this.freeRecord(record);
      this.pushFreeBlock(b);
      return;
    }
    this.sim.bus.emit(pageFree, pfn, ORDER_PAGE);
    this.lru?.freed(pfn);
    this.freePage(b, rel & 511, record);
  }

  private freeRecord(record: number): void {
    this.recs.set2(record, 0, this.heads.a[H_FREE_SINGLE]!); // NEXT_PLACE
    this.heads.set(H_FREE_SINGLE, record + 1);
  }

  /** Page i of the block at `at` is the first free one. */
  private giveBack(at: number, run: number, i: number): void {
    this.recs.set(run + i, this.blocks.a[at + FREE]! << MAP_SHIFT);
    this.blocks.set(at + FREE, i + 1);
  }

  private freePage(b: number, i: number, record: number): void {
    const blocks = this.blocks;
    const at = Math.imul(b, B);
    const used = blocks.a[at + USED]!;
    this.giveBack(at, record - i, i);
    blocks.set(at + USED, used - 1);
    if (used === 512) this.link(b);
    if (used === 1) this.dissolve(b);
  }

  /** All pages of a broken block are free: it is one block again (the buddies merge). */
  private dissolve(b: number): void {
    this.unlink(b);
    const run = this.blocks.a[Math.imul(b, B) + RECORD]!;
    this.recs.set(run + NEXT_PLACE, this.heads.a[H_FREE_RUN]!);
    this.heads.set(H_FREE_RUN, run + 1);
    this.pushFreeBlock(b);
  }

  /**
   * __split_huge_page: a THP becomes 512 ordinary pages, which keep its flags. Their counts are zero:
   * the caller gives each its own with `setCounts`.
   */
  splitCompound(head: number): void {
    const b = (head - this.basePfn) >>> 9;
    const old = this.blocks.a[Math.imul(b, B) + RECORD]!;
    const word = this.recs.a[old]!;
    const flags = word & FLAGS_MASK & ~FRAME_THP & ~FRAME_HWPOISON;
    this.freeRecord(old);
    this.breakBlock(b);
    const run = this.blocks.a[Math.imul(b, B) + RECORD]!;
    for (let i = 0; i < 512; i++) this.recs.set(run + i, flags);
    if ((word & (SOME_EXCLUSIVE | SOME_UNFOLDED | FRAME_HWPOISON)) !== 0) this.giveMarks(b << 9, run, word);
    this.blocks.set(Math.imul(b, B) + USED, 512);
    this.blocks.set(Math.imul(b, B) + BUMP, 512);
  }

  /** What each page of a split THP had for itself becomes a flag. */
  private giveMarks(rel: number, run: number, word: number): void {
    const { marks, recs } = this;
    for (let i = 0; i < 512; i++) {
      const exclusive = (word & SOME_EXCLUSIVE) !== 0 && marks.has(MARK_EXCLUSIVE, rel + i) ? FRAME_EXCLUSIVE : 0;
      const broken = (word & FRAME_HWPOISON) !== 0 && marks.has(MARK_HWPOISON, rel + i) ? FRAME_HWPOISON : 0;
      if ((exclusive | broken) !== 0) recs.set(run + i, recs.a[run + i]! | exclusive | broken);
    }
    this.dropMarks(rel);
  }
  private dropMarks(rel: number): void {
    this.marks.fill(MARK_EXCLUSIVE, rel, false);
    this.marks.fill(MARK_HWPOISON, rel, false);
    this.marks.fill(MARK_UNFOLDED, rel, false);
  }

  /** Counts of a page after `splitCompound`; one without references is freed. */
  setCounts(pfn: number, references: number, mappings: number): void {
    const r = this.place(pfn);
    this.count(r, this.recs.a[r]!, references, mappings);
    if (references === 0) this.free(pfn, r);
  }

  // ---- hugetlb ---------------------------------------------------------------------------------

  private poolIndex(order: number): number {
    const n = (HUGETLB_ORDERS as readonly number[]).indexOf(order);
    if (n < 0) throw new Error(`no hugetlb page size of order ${order}`);
    return n;
  }

  private pushHuge(n: number, pfn: number): void {
    const free = this.heads.a[H_POOL + 2 * n]!;
    this.pools[n]!.ensure(free + 1);
    this.pools[n]!.set(free, pfn - this.basePfn);
    this.heads.set(H_POOL + 2 * n, free + 1);
  }

  /** Takes a page from the pool of this order, with one reference. @returns pfn or -1 when the pool is empty */
  hugetlbAlloc(order: number): number {
    const n = this.poolIndex(order);
    const free = this.heads.a[H_POOL + 2 * n]!;
    if (free === 0) return -1;
    this.heads.set(H_POOL + 2 * n, free - 1);
    const pfn = this.basePfn + this.pools[n]!.a[free - 1]!;
    this.initRecord(this.place(pfn), FRAME_HUGETLB);
    this.sim.agents.charge(this.sim.costs.pageAlloc);
    this.sim.bus.emit(pageAlloc, pfn, order);
    return pfn;
  }

  private freeHuge(pfn: number, record: number): void {
    const order = this.orderOf(pfn);
    const head = Math.floor(pfn / 2 ** order) * 2 ** order;
    this.sim.bus.emit(pageFree, head, order);
    if ((this.recs.a[record]! & FRAME_HWPOISON) !== 0) return;
    this.recs.set(record, FRAME_HUGETLB);
    this.pushHuge(this.poolIndex(order), head);
  }

  /** Free pages in the pool of this order, reserved ones included. */
  hugetlbFree(order: number): number {
    return this.heads.a[H_POOL + 2 * this.poolIndex(order)]!;
  }
}
