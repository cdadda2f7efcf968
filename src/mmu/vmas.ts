/**
 * Virtual memory areas (mm/mmap.c, mm/vma.c): what each range of an address space stands for.
 *
 * All VMAs of all address spaces lie in two pools, one record each. The VMAs of one mm form a treap
 * ordered by address (the priority is a hash of the record's number, so the shape depends only on
 * the contents) and a doubly linked list; what was found last in each mm is kept. VMAs of one file form a
 * list too (the address_space's i_mmap).
 *
 * word pool | meaning                        double pool | meaning
 * 0 FLAGS   | VM_* (vmflags.ts)              0 START       | first address
 * 1 FILE    | file + 1, 0 anonymous          1 END         | first address after it
 * 2 PAGE_PROT | memory type of its PTEs      2 PGOFF       | vm_pgoff, pages
 * 3 MM      | address space + 1, 0 free      3 LEFT, RIGHT | the tree: VMA + 1, 0 none
 * 4.. PREV, NEXT, FILE_PREV, FILE_NEXT       5 LINK        | the double of another VMA that it hangs at, ROOT
 *           | VMA + 1, 0 none
 *
 * A free record is zero but for the free list: the next free record + 1 stands where its flags were.
 *
 * What a look-up reads lies in one cache line of the double pool. The anon_vma (0 none yet) has a pool of its own: it is
 * the one thing of a VMA that changes under mmap_lock for reading.
 */
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import { VM_ACCESS_FLAGS, VM_SPECIAL, VM_UFFD_FLAGS } from "./vmflags.js";

export const vmaLookup = declareEvent("faultline", "vma_lookup", "the VMA that covers an address was looked up", [
  { name: "mm", kind: "dec" },
  { name: "addr", kind: "hex" },
  { name: "found", kind: "bool" },
  { name: "start", kind: "hex" },
  { name: "end", kind: "hex" },
]);

const FLAGS = 0;
const FILE = 1;
const PAGE_PROT = 2;
const MM = 3;
const PREV = 4;
const NEXT = 5;
const FILE_PREV = 6;
const FILE_NEXT = 7;
const WORDS = 8;

const START = 0;
const END = 1;
const PGOFF = 2;
const LEFT = 3;
const RIGHT = 4;
const LINK = 5;
const DOUBLES = 8;
const DOUBLES_SHIFT = 3;
/** No VMA's side: the root of a tree. */
const ROOT = -1;

/** Per mm: root, first, last, cached VMA (each VMA + 1), number of VMAs. */
const MM_ROOT = 0;
const MM_FIRST = 1;
const MM_LAST = 2;
const MM_CACHE = 3;
const MM_COUNT = 4;
const MM_WORDS = 8;

/** [0] records ever used, [1] first free record + 1, [2] last anon_vma given out. */
const RECORDS = 0;
const FREE = 1;
const ANON_SEQ = 2;

/** sysctl vm.max_map_count. */
export const MAX_MAP_COUNT = 65530;

/** Treap priority: a mixed record number. */
function priority(v: number): number {
  const h = Math.imul(v ^ 0x5bd1e995, 0x9e3779b1);
  return Math.imul(h ^ (h >>> 15), 0x85ebca6b) >>> 0;
}

export class Vmas {
  /** Read by the getters; the layout is above. */
  private readonly w: I32Pool;
  private readonly d: F64Pool;
  private readonly anon: I32Pool;
  /** vm_userfaultfd_ctx: the userfaultfd that a VMA is registered with, plus 1; 0 without. */
  private readonly uffds: I32Pool;
  private readonly mms: I32Pool;
  private readonly globals: I32Pool;
  /** Per mm: from here up to the place where top-down look-ups begin no page is free; 0 before the first look-up. */
  private readonly fullFrom: F64Pool;
  /** Per file: its first mapping + 1. */
  private readonly fileFirst: I32Pool;

  constructor(private readonly sim: Sim) {
    this.w = sim.state.i32("vmas.words", 64 * WORDS);
    this.d = sim.state.f64("vmas.addresses", 64 * DOUBLES);
    this.anon = sim.state.i32("vmas.anon", 64);
    this.uffds = sim.state.i32("vmas.uffds", 64);
    this.mms = sim.state.i32("vmas.mms", 4 * MM_WORDS);
    this.fullFrom = sim.state.f64("vmas.fullFrom", 4);
    this.globals = sim.state.i32("vmas.globals", 4);
    this.fileFirst = sim.state.i32("vmas.files", 16);
  }

  start(v: number): number {
    return this.d.a[Math.imul(v, DOUBLES) + START]!;
  }
  end(v: number): number {
    return this.d.a[Math.imul(v, DOUBLES) + END]!;
  }
  /** vm_pgoff: pages into the file; anonymous: address / 4096 when it was mapped; PFNMAP in some eras: the first pfn. */
  pgoff(v: number): number {
    return this.d.a[Math.imul(v, DOUBLES) + PGOFF]!;
  }
  flags(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + FLAGS]!;
  }
  /** The mapped file, or -1 (private anonymous memory). */
  file(v: number): number {
    return (this.w.a[Math.imul(v, WORDS) + FILE]! - 1) | 0;
  }
  /** PAGE_PROT_*: the memory type that its PTEs get. */
  pageProt(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + PAGE_PROT]!;
  }
  mm(v: number): number {
    return (this.w.a[Math.imul(v, WORDS) + MM]! - 1) | 0;
  }
  /** The anon_vma, 0 before the first anonymous page. */
  anonVma(v: number): number {
    return this.anon.a[v]!;
  }
  /** The userfaultfd that the VMA is registered with, or -1. */
  uffd(v: number): number {
    return this.uffds.a[v]! - 1;
  }
  /** VM_READ, VM_WRITE, VM_EXEC of the VMA. */
  prot(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + FLAGS]! & VM_ACCESS_FLAGS;
  }
  /** The VMA before it in its mm, or -1. */
  prev(v: number): number {
    return (this.w.a[Math.imul(v, WORDS) + PREV]! - 1) | 0;
  }
  /** The VMA after it in its mm, or -1. */
  next(v: number): number {
    return (this.w.a[Math.imul(v, WORDS) + NEXT]! - 1) | 0;
  }
  /** The lowest VMA of an mm, or -1. */
  first(mm: number): number {
    return this.mms.a[Math.imul(mm, MM_WORDS) + MM_FIRST]! - 1;
  }
  /** The highest VMA of an mm, or -1. */
  last(mm: number): number {
    return this.mms.a[Math.imul(mm, MM_WORDS) + MM_LAST]! - 1;
  }
  /** Number of VMAs of an mm (map_count). */
  count(mm: number): number {
    return this.mms.a[Math.imul(mm, MM_WORDS) + MM_COUNT]!;
  }
  /** The first mapping of a file, or -1; go on with `nextOfFile`. */
  firstOfFile(file: number): number {
    return file < this.fileFirst.a.length ? this.fileFirst.a[file]! - 1 : -1;
  }
  nextOfFile(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + FILE_NEXT]! - 1;
  }

  setFlags(v: number, flags: number): void {
    this.w.set(Math.imul(v, WORDS) + FLAGS, flags);
  }
  setUffd(v: number, uffd: number): void {
    this.uffds.set(v, uffd + 1);
  }
  setPgoff(v: number, pgoff: number): void {
    this.d.set(Math.imul(v, DOUBLES) + PGOFF, pgoff);
  }
  setPageProt(v: number, pageProt: number): void {
    this.w.set(Math.imul(v, WORDS) + PAGE_PROT, pageProt);
  }

  /** Makes room for an address space. */
  ensureMm(mm: number): void {
    this.mms.ensure((mm + 1) * MM_WORDS);
    this.fullFrom.ensure(mm + 1);
    this.fullFrom.set(mm, 0);
  }

  /**
   * The VMA that contains the address, or -1 (vma_lookup). Charges the lookup and emits `vma_lookup`.
   */
  covering(mm: number, addr: number): number {
    const d = this.d.a;
    // Mostly the last one: said here once more, that its bounds are read once.
    let v = (this.mms.a[Math.imul(mm, MM_WORDS) + MM_CACHE]! - 1) | 0;
    if (v < 0 || addr < d[Math.imul(v, DOUBLES) + START]! || addr >= d[Math.imul(v, DOUBLES) + END]!) v = this.lookup(mm, addr) | 0;
    this.sim.agents.charge(this.sim.costs.vmaLookup);
    if (!this.sim.bus.unheard()) {
      if (v < 0) this.sim.bus.emit(vmaLookup, mm, addr, 0);
      else this.sim.bus.emit(vmaLookup, mm, addr, 1, this.start(v), this.end(v));
    }
    return v;
  }

  /** `covering` without event and cost. */
  lookup(mm: number, addr: number): number {
    const v = this.findVma(mm, addr);
    return v >= 0 && this.start(v) <= addr ? v : -1;
  }

  /** The first VMA that ends after the address, or -1 (find_vma). No event, no cost. */
  findVma(mm: number, addr: number): number {
    const d = this.d.a;
    const cache = (this.mms.a[Math.imul(mm, MM_WORDS) + MM_CACHE]! - 1) | 0;
    if (cache >= 0) {
      // The last one, the gap below it (what was just unmapped is mapped anew), the one below it (what was mapped there is
      // touched), the one above it (a range ends there) or the next (every other page is asked for).
      if (addr < d[Math.imul(cache, DOUBLES) + END]!) {
        if (d[Math.imul(cache, DOUBLES)]! <= addr) return cache;
        const below = this.prev(cache);
        if (below < 0 || d[Math.imul(below, DOUBLES) + END]! <= addr) return cache;
        if (d[Math.imul(below, DOUBLES)]! <= addr) return this.keep(mm, below);
      } else {
        const above = this.next(cache);
        if (above < 0 || addr < d[Math.imul(above, DOUBLES) + END]!) return above;
        const second = this.next(above);
        if (second >= 0 && addr < d[Math.imul(second, DOUBLES) + END]!) return this.keep(mm, second);
      }
    }
    let t = this.mms.a[Math.imul(mm, MM_WORDS) + MM_ROOT]!;
    let best = -1;
    while (t !== 0) {
      const v = t - 1;
      const at = Math.imul(v, DOUBLES);
      if (addr < d[at + END]!) {
        best = v;
        if (d[at + START]! <= addr) break;
        t = d[at + LEFT]! | 0;
      } else t = d[at + RIGHT]! | 0;
    }
    return best < 0 ? best : this.keep(mm, best);
  }

  /** What was found is kept, for the next look-up. */
  private keep(mm: number, v: number): number {
    this.mms.set(Math.imul(mm, MM_WORDS) + MM_CACHE, v + 1);
    return v;
  }

  /** A place below which a page may be free, and above which (up to `top`) none is: where a top-down look-up can begin. */
  fullAbove(mm: number, top: number): number {
    const full = this.fullFrom.a[mm]!;
    return full === 0 ? top : Math.min(full, top);
  }
  /** A look-up has found that no page is free from `from` up to where it began. */
  setFullAbove(mm: number, from: number): void {
    this.fullFrom.set(mm, from);
  }
  private noteHole(mm: number, end: number): void {
    const full = this.fullFrom.a[mm]!;
    if (full !== 0 && end > full) this.fullFrom.set(mm, end);
  }

  /** True if some VMA has a byte of [start, end). */
  overlaps(mm: number, start: number, end: number): boolean {
    const v = this.findVma(mm, start);
    return v >= 0 && this.d.a[Math.imul(v, DOUBLES)]! < end;
  }

  /** A new VMA that is in no tree yet (vm_area_alloc). */
  alloc(mm: number, start: number, end: number, flags: number, file: number, pgoff: number, pageProt: number): number {
    let v = (this.globals.a[FREE]! - 1) | 0;
    if (v >= 0) this.globals.set(FREE, this.w.a[Math.imul(v, WORDS) + FLAGS]!);
    else v = this.fresh();
    const w = Math.imul(v, WORDS);
    // The rest is zero: the record is fresh, or as `free` left it.
    this.w.set2(w + FLAGS, flags, (file + 1) | 0);
    this.w.set2(w + PAGE_PROT, pageProt, (mm + 1) | 0);
    this.d.set3(Math.imul(v, DOUBLES) + START, start, end, pgoff);
    return v;
  }
  private fresh(): number {
    const v = this.globals.a[RECORDS]!;
    this.globals.set(RECORDS, v + 1);
    this.w.ensure((v + 1) * WORDS);
    this.d.ensure((v + 1) * DOUBLES);
    this.anon.ensure(v + 1);
    this.uffds.ensure(v + 1);
    return v;
  }

  /** linear_page_index: the page of its file that a VMA shows at an address. */
  pageIndex(v: number, addr: number): number {
    return this.pgoff(v) + Math.floor((addr - this.start(v)) / 4096);
  }
  /** vma_address: where a VMA shows a page of its file; outside its bounds if it does not. */
  addressOf(v: number, pgoff: number): number {
    return this.start(v) + (pgoff - this.pgoff(v)) * 4096;
  }

  /** A copy of a VMA that is in no tree yet (vm_area_dup), for another range of it. */
  dup(v: number, start: number, end: number): number {
    const n = this.alloc(this.mm(v), start, end, this.flags(v), this.file(v), this.pageIndex(v, start), this.pageProt(v));
    this.anon.set(n, this.anonVma(v));
    if (this.uffds.a[v] !== 0) this.uffds.set(n, this.uffds.a[v]!);
    return n;
  }

  /** Gives a VMA's record back; it must be in no tree, nor in its file's list (vm_area_free). */
  free(v: number): void {
    const w = Math.imul(v, WORDS);
    this.w.set2(w + FLAGS, this.globals.a[FREE]!, 0);
    this.w.set2(w + PAGE_PROT, 0, 0);
    this.w.set2(w + PREV, 0, 0);
    this.anon.set(v, 0);
    if (this.uffds.a[v] !== 0) this.uffds.set(v, 0);
    this.d.set3(Math.imul(v, DOUBLES) + START, 0, 0, 0);
    this.globals.set(FREE, (v + 1) | 0);
  }

  /** Puts a VMA into its mm's tree and its file's list (vma_link). */
  insert(v: number): void {
    const mm = this.mm(v);
    const next = this.findVma(mm, this.start(v));
    this.insertBetween(mm, v, this.before(mm, next), next);
  }
  /** The VMA before another one, or before the end of an mm. @param next or -1 @returns -1: none */
  before(mm: number, next: number): number {
    return next >= 0 ? this.prev(next) : this.last(mm);
  }
  /** As `insert` where its neighbours are known. @param prev or -1 @param next or -1 */
  insertBetween(mm: number, v: number, prev: number, next: number): void {
    const m = Math.imul(mm, MM_WORDS);
    const node = (v + 1) | 0;
    this.w.set2(Math.imul(v, WORDS) + PREV, (prev + 1) | 0, (next + 1) | 0);
    if (prev >= 0) this.w.set(Math.imul(prev, WORDS) + NEXT, node);
    else this.mms.set(m + MM_FIRST, node);
    if (next >= 0) this.w.set(Math.imul(next, WORDS) + PREV, node);
    else this.mms.set(m + MM_LAST, node);
    this.treeInsert(m, v, prev, next);
    this.mms.set(m + MM_COUNT, (this.mms.a[m + MM_COUNT]! + 1) | 0);
    this.fileLink(v);
  }

  /**
   * Takes a VMA out of its mm's tree (detach_vmas_to_be_unmapped); it stays in its file's list. Its `prev` stays too: what
   * now lies below the hole.
   */
  detach(mm: number, v: number): void {
    const w = Math.imul(v, WORDS);
    const m = Math.imul(mm, MM_WORDS);
    this.noteHole(mm, this.end(v));
    const prev = this.prev(v);
    const next = this.next(v);
    const below = (prev + 1) | 0;
    const above = (next + 1) | 0;
    if (prev >= 0) this.w.set(Math.imul(prev, WORDS) + NEXT, above);
    else this.mms.set(m + MM_FIRST, above);
    if (next >= 0) this.w.set(Math.imul(next, WORDS) + PREV, below);
    else this.mms.set(m + MM_LAST, below);
    this.treeRemove(m, v);
    this.mms.set(m + MM_COUNT, (this.mms.a[m + MM_COUNT]! - 1) | 0);
    // What follows is asked for next: by who maps the range anew, or goes on above it.
    this.mms.set(m + MM_CACHE, above !== 0 ? above : below);
    this.w.set(w + NEXT, 0);
  }

  /** detach, fileUnlink and free in one (vma_expand and vma_merge drop the swallowed VMA like this). */
  remove(v: number): void {
    this.detach(this.mm(v), v);
    this.fileUnlink(v);
    this.free(v);
  }

  /** Links a detached VMA for the walk of a munmap: the detached ones form a list through NEXT. */
  setDetachedNext(v: number, next: number): void {
    this.w.set(Math.imul(v, WORDS) + NEXT, next + 1);
  }

  /**
   * Moves the bounds of a VMA that is in the tree; its order among its neighbours must not change.
   * pgoff follows the start.
   */
  adjust(v: number, start: number, end: number): void {
    const old = this.start(v);
    if (start > old) this.noteHole(this.mm(v), start);
    if (end < this.end(v)) this.noteHole(this.mm(v), this.end(v));
    if (start !== old) {
      this.d.set(Math.imul(v, DOUBLES) + PGOFF, this.pgoff(v) + (start - old) / 4096);
      this.d.set(Math.imul(v, DOUBLES) + START, start);
    }
    this.d.set(Math.imul(v, DOUBLES) + END, end);
  }

  /**
   * __anon_vma_prepare: gives the VMA an anon_vma before its first anonymous page, its neighbour's
   * where the two could merge but for their access flags.
   */
  anonVmaPrepare(v: number): void {
    if (this.anon.a[v] !== 0) return;
    let anon = this.reusableAnon(v, this.next(v));
    if (anon === 0) anon = this.reusableAnon(v, this.prev(v));
    if (anon === 0) {
      anon = this.globals.a[ANON_SEQ]! + 1;
      this.globals.set(ANON_SEQ, anon);
    }
    this.anon.set(v, anon);
  }

  private reusableAnon(v: number, n: number): number {
    if (n < 0) return 0;
    if (((this.flags(v) ^ this.flags(n)) & ~VM_ACCESS_FLAGS) !== 0 || this.file(v) !== this.file(n)) return 0;
    const adjacent = this.end(v) === this.start(n) || this.end(n) === this.start(v);
    const contiguous = this.pgoff(n) - this.pgoff(v) === (this.start(n) - this.start(v)) / 4096;
    return adjacent && contiguous ? this.anonVma(n) : 0;
  }

  /** A new anon_vma for a VMA of a forked child, or of a moved one. */
  setAnonVma(v: number, anon: number): void {
    this.anon.set(v, anon);
  }

  /**
   * can_vma_merge_after / _before: may the VMA `low` and a range right above it with these properties be one VMA?
   * @param anon the anon_vma of the range, 0 for none @param uffd the userfaultfd that it is registered with, if its flags say so
   */
  canMerge(low: number, flags: number, file: number, pgoff: number, pageProt: number, anon: number, uffd = -1): boolean {
    return this.compatible(low, flags, file, pageProt, anon, uffd) && this.pageIndex(low, this.end(low)) === pgoff;
  }

  /** As canMerge, for a range of `pages` right below the VMA `high`. */
  canMergeBelow(
    high: number,
    pages: number,
    flags: number,
    file: number,
    pgoff: number,
    pageProt: number,
    anon: number,
    uffd = -1,
  ): boolean {
    return this.compatible(high, flags, file, pageProt, anon, uffd) && pgoff + pages === this.pgoff(high);
  }

  private compatible(v: number, flags: number, file: number, pageProt: number, anon: number, uffd: number): boolean {
    if ((flags & VM_SPECIAL) !== 0 || this.flags(v) !== flags || this.file(v) !== file || this.pageProt(v) !== pageProt) return false;
    // is_mergeable_vm_userfaultfd_ctx
    if ((flags & VM_UFFD_FLAGS) !== 0 && this.uffd(v) !== uffd) return false;
    const mine = this.anonVma(v);
    return mine === 0 || anon === 0 || mine === anon;
  }

  /** Two VMAs that are to become one: their anon_vmas are the same, or one has none. */
  anonCompatible(a: number, b: number): boolean {
    const x = this.anonVma(a);
    const y = this.anonVma(b);
    return x === 0 || y === 0 || x === y;
  }

  /** Height of an mm's tree: for tests and figures. */
  depth(mm: number): number {
    const below = (t: number): number =>
      t === 0 ? 0 : 1 + Math.max(below(this.d.a[(t - 1) * DOUBLES + LEFT]!), below(this.d.a[(t - 1) * DOUBLES + RIGHT]!));
    return below(this.mms.a[Math.imul(mm, MM_WORDS) + MM_ROOT]!);
  }

  // The treap. A node is VMA + 1, 0 is the empty tree.

  /** Between its neighbours one side is free; from there up, past what has less priority, is the place where a VMA belongs. */
  private treeInsert(m: number, v: number, prev: number, next: number): void {
    const own = priority(v);
    const d = this.d.a;
    const w = Math.imul(v, DOUBLES);
    let link = prev >= 0 ? Math.imul(prev, DOUBLES) + RIGHT : ROOT;
    if (next >= 0 && (prev < 0 || d[link] !== 0)) link = Math.imul(next, DOUBLES) + LEFT;
    while (link !== ROOT && priority(link >> DOUBLES_SHIFT) < own) link = d[(link & -DOUBLES) + LINK]! | 0;
    const t = link === ROOT ? this.mms.a[m + MM_ROOT]! : d[link]! | 0;
    this.hang(m, link, v + 1);
    this.split(m, t, d[w + START]!, w);
  }

  /** Splits a tree at an address: the left side of the VMA whose doubles begin at `w` gets what starts below it, the right side the others. */
  private split(m: number, tree: number, start: number, w: number): void {
    const d = this.d.a;
    let low = w + LEFT;
    let high = w + RIGHT;
    for (let t = tree; t !== 0;) {
      const at = Math.imul(t - 1, DOUBLES);
      if (d[at + START]! < start) {
        this.hang(m, low, t);
        low = at + RIGHT;
        t = d[low]! | 0;
      } else {
        this.hang(m, high, t);
        high = at + LEFT;
        t = d[high]! | 0;
      }
    }
    this.d.set(low, 0);
    this.d.set(high, 0);
  }

  /** Hangs a tree at a VMA's side, or as the root of the mm whose words begin at m. */
  private hang(m: number, link: number, t: number): void {
    if (link === ROOT) this.mms.set(m + MM_ROOT, t);
    else this.d.set(link, t);
    if (t !== 0) this.d.set(Math.imul(t - 1, DOUBLES) + LINK, link);
  }

  private treeRemove(m: number, v: number): void {
    const d = this.d.a;
    const w = Math.imul(v, DOUBLES);
    const link = d[w + LINK]! | 0;
    if (link === 0) throw new Error("a VMA that is not in its tree is removed");
    this.merge(m, link, d[w + LEFT]! | 0, d[w + RIGHT]! | 0);
    this.d.set3(w + LEFT, 0, 0, 0);
  }

  /** Hangs two trees, the one below the other, as one. */
  private merge(m: number, at: number, low: number, high: number): void {
    let link = at;
    while (low !== 0 && high !== 0) {
      const above = priority(low - 1) > priority(high - 1) ? low : high;
      this.hang(m, link, above);
      if (above === low) {
        link = Math.imul(low - 1, DOUBLES) + RIGHT;
        low = this.d.a[link]! | 0;
      } else {
        link = Math.imul(high - 1, DOUBLES) + LEFT;
        high = this.d.a[link]! | 0;
      }
    }
    this.hang(m, link, low === 0 ? high : low);
  }

  // The file's list of mappings.

  /** vma_interval_tree_insert into the file's i_mmap. */
  private fileLink(v: number): void {
    const file = this.file(v);
    if (file < 0) return;
    this.fileFirst.ensure(file + 1);
    const first = this.fileFirst.a[file]!;
    this.w.set(Math.imul(v, WORDS) + FILE_NEXT, first);
    this.w.set(Math.imul(v, WORDS) + FILE_PREV, 0);
    if (first !== 0) this.w.set((first - 1) * WORDS + FILE_PREV, v + 1);
    this.fileFirst.set(file, v + 1);
  }

  /** unlink_file_vma: no later unmap_mapping_range finds it. */
  fileUnlink(v: number): void {
    const file = this.file(v);
    if (file < 0) return;
    const w = Math.imul(v, WORDS);
    const prev = this.w.a[w + FILE_PREV]!;
    const next = this.w.a[w + FILE_NEXT]!;
    if (prev !== 0) this.w.set((prev - 1) * WORDS + FILE_NEXT, next);
    else if (this.fileFirst.a[file] === v + 1) this.fileFirst.set(file, next);
    if (next !== 0) this.w.set((next - 1) * WORDS + FILE_PREV, prev);
    this.w.set(w + FILE_PREV, 0);
    this.w.set(w + FILE_NEXT, 0);
  }
}
