/**
 * The host's own page tables: four levels of 4 KiB pages, 48-bit user addresses
 * (arch/arm64/include/asm/pgtable.h, mm/pgtable-generic.c), in the window of table pages.
 *
 * level | Linux | bits  | one entry maps
 * 0     | pgd   | 47:39 | 512 GiB
 * 1     | pud   | 38:30 | 1 GiB
 * 2     | pmd   | 29:21 | 2 MiB
 * 3     | pte   | 20:12 | 4 KiB
 *
 * `entry` is the index of a descriptor's low word in `tables.words`; the high word follows it.
 * `setEntry` is the only writer; `fill` is the same for an empty entry, `freeTable` for one whose table goes.
 */
import { breakBeforeMakeViolation } from "../arch/events.js";
import type { TablePages } from "../arch/tables.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import { PageTableLocks } from "./ptlock.js";
import {
  HI_ADDR,
  HI_CONT,
  HI_PROT_NONE,
  HI_SPECIAL,
  HI_WRITE,
  PTE_AF,
  PTE_RDONLY,
  PTE_VALID,
  TYPE_BLOCK,
  TYPE_MASK,
  TYPE_TABLE,
} from "./pte.js";

export const hostEntry = declareEvent("faultline", "host_entry", "an entry of the host's page tables was written", [
  { name: "mm", kind: "dec" },
  { name: "addr", kind: "hex" },
  { name: "level", kind: "dec" },
  { name: "table", kind: "hex" },
  { name: "old", kind: "hex64" },
  { name: "new", kind: "hex64" },
]);

/** Maintenance of the TLBs for the host's own regime; ASID = mm. Each call completes (DSB included). */
export interface HostTlb {
  /** Drops what is cached for one page (flush_tlb_page). */
  flushPage(mm: number, addr: number): void;
  /** Drops what is cached for [start, end), table entries too (flush_tlb_range). */
  flushRange(mm: number, start: number, end: number): void;
  /** Drops everything of an address space (flush_tlb_mm). */
  flushMm(mm: number): void;
}

/** Bytes that an entry of each level maps. */
export const LEVEL_SIZE = [549755813888, 1073741824, 2097152, 4096] as const;
export const PMD_SIZE = 2097152;
export const PUD_SIZE = 1073741824;
/** One past the highest user address. */
export const TASK_SIZE = 281474976710656;

const WORD = 4294967296;
/** No address. */
const NOWHERE = 0.5;
const PROT_NONE_SHIFT = 31 - Math.clz32(HI_PROT_NONE);

/** addr rounded down to 2 MiB. */
export function pmdStart(addr: number): number {
  return addr - (addr & 0x1fffff);
}

/** The next multiple above addr of what an entry of `level` maps. */
export function nextBoundary(addr: number, level: number): number {
  switch (level) {
    case 3:
      return addr - (addr & 0xfff) + 4096;
    case 2:
      return addr - (addr & 0x1fffff) + PMD_SIZE;
    case 1:
      return addr - (addr & 0x3fffffff) + PUD_SIZE;
    default:
      return (Math.floor(addr / 549755813888) + 1) * 549755813888;
  }
}

export class HostPageTables {
  /** Of the last walk: level at which it ended (0..3), */
  level = 0;
  /** the word index of the entry there, its words, */
  entry = 0;
  lo = 0;
  hi = 0;
  /** and the level of the present leaf, -1 if there is none (none, or a swap-like entry). */
  leafLevel = -1;
  /** Bytes between the start of an upper-level leaf and the address. */
  private offset = 0;
  /** The address of the last walk if it came to an entry of the last two levels, and no other was written since; else NOWHERE: see `standsOn`. */
  private walked = NOWHERE;
  /** The last-level table that the last walk to one came to: of which mm, from which address on, its first word; and `reshaped` then. */
  private tableMm = -1;
  private tableStart = 0;
  private table = 0;
  private tableShape = 0;
  /** The same of the last-but-one table. */
  private pmdMm = -1;
  private pmdStart = 0;
  private pmdTable = 0;
  private pmdShape = 0;
  /** Argument of `walkDown`: as an argument it would be a new object for each walk. */
  private address = 0;

  readonly locks: PageTableLocks;
  /** Per mm: physical address of the pgd, 0 without. */
  private readonly roots: F64Pool;
  /** Per mm: word index of the pgd. */
  private readonly rootWord: I32Pool;
  private readonly base: number;

  constructor(
    private readonly sim: Sim,
    readonly tables: TablePages,
    readonly tlb: HostTlb,
  ) {
    this.roots = sim.state.f64("hostpt.roots", 4);
    this.rootWord = sim.state.i32("hostpt.rootWords", 4);
    this.locks = new PageTableLocks(sim, tables);
    this.base = tables.base;
  }

  /** pgd_alloc. */
  create(mm: number): void {
    this.roots.ensure(mm + 1);
    this.rootWord.ensure(mm + 1);
    const pa = this.tables.alloc();
    this.roots.set(mm, pa);
    this.rootWord.set(mm, this.tables.word(pa));
  }

  /** pgd_free: the tree must be empty (freePgtables). */
  destroy(mm: number): void {
    this.tlb.flushMm(mm);
    this.tables.free(this.roots.a[mm]!);
    this.roots.set(mm, 0);
  }

  /** No address space has this number or a higher one. */
  get limit(): number {
    return this.roots.needed;
  }

  /** Physical address of the pgd: what TTBR0 holds; 0 where no address space has the number. */
  root(mm: number): number {
    return this.roots.a[mm]!;
  }

  /** Frees a table that was taken out of the tree before. */
  freeDetached(lo: number, hi: number): void {
    this.tables.free((hi & HI_ADDR) * WORD + ((lo & 0xfffff000) >>> 0));
  }

  /**
   * Walks to the leaf of an address and fills the fields above. Reads only.
   * @returns true if a present leaf maps the address (a PROT_NONE one too)
   */
  walk(mm: number, addr: number): boolean {
    const { tables } = this;
    const within = addr - this.tableStart;
    this.walked = addr;
    if (within >= 0 && within < PMD_SIZE && this.tableMm === mm && this.tableShape === tables.reshaped) {
      this.readPte((this.table + ((within >>> 12) << 1)) | 0);
    } else {
      this.address = addr;
      this.walkDown(mm);
    }
    return this.leafLevel >= 0;
  }

  /**
   * Does the last walk stand on the entry of this address, and has that only changed by what the hardware sets (PTE_AF,
   * PTE_RDONLY), or by `fill` or `fillBlock`? Then to walk again would tell nothing new.
   */
  standsOn(mm: number, addr: number): boolean {
    if (this.walked !== addr) return false;
    if (this.level !== 3) return this.pmdMm === mm && this.pmdShape === this.tables.reshaped;
    return this.tableMm === mm && this.tableShape === this.tables.reshaped;
  }

  private walkDown(mm: number): void {
    const { tables } = this;
    const addr = this.address;
    const w = tables.words.a;
    const ahi = (addr / WORD) | 0;
    const alo = addr | 0;
    const within = addr - this.pmdStart;
    let e: number;
    let lo: number;
    if (within >= 0 && within < PUD_SIZE && this.pmdMm === mm && this.pmdShape === tables.reshaped) e = this.pmdTable;
    else {
      e = this.rootWord.a[mm]! + ((ahi >>> 7) << 1);
      lo = w[e]!;
      if ((lo & TYPE_MASK) !== TYPE_TABLE) return this.upper(0, e, 0);
      e = tables.tableWord(w[e + 1]!, lo) + ((((ahi & 0x7f) << 2) | (alo >>> 30)) << 1);
      lo = w[e]!;
      if ((lo & TYPE_MASK) !== TYPE_TABLE) return this.upper(1, e, alo & 0x3fffffff);
      e = tables.tableWord(w[e + 1]!, lo);
      this.pmdTable = e;
      this.pmdMm = mm;
      this.pmdStart = addr - (alo & 0x3fffffff);
      this.pmdShape = tables.reshaped;
    }
    e += ((alo >>> 21) & 511) << 1;
    lo = w[e]!;
    if ((lo & TYPE_MASK) !== TYPE_TABLE) return this.upper(2, e, alo & 0x1fffff);
    this.table = tables.tableWord(w[e + 1]!, lo);
    this.tableMm = mm;
    this.tableStart = pmdStart(addr);
    this.tableShape = tables.reshaped;
    this.readPte(this.table + (((alo >>> 12) & 511) << 1));
  }

  private readPte(e: number): void {
    const w = this.tables.words.a;
    this.level = 3;
    this.entry = e;
    this.holds(w[e]!, w[(e + 1) | 0]!);
  }
  /** Of the last-level entry on which the walk stands: its words. */
  private holds(lo: number, hi: number): void {
    this.lo = lo;
    this.hi = hi;
    // Present: 3, else -1. (V8 would branch twice.)
    this.leafLevel = (((lo & PTE_VALID) | ((hi & HI_PROT_NONE) >>> PROT_NONE_SHIFT)) - 1) | 3;
  }

  /** Bytes that a last-level entry maps if it is valid, else 0: for a walk that came to it before, whatever became of its table. */
  leafSizeAt(e: number): number {
    this.readPte(e);
    this.walked = NOWHERE;
    return this.valid ? this.leafSize : 0;
  }

  /** A level-0..2 entry that is no table: a block, or nothing present. */
  private upper(level: number, e: number, offset: number): void {
    const lo = this.tables.words.a[e]!;
    const hi = this.tables.words.a[e + 1]!;
    this.level = level;
    this.entry = e;
    this.offset = offset;
    if (level < 2) this.walked = NOWHERE;
    this.holdsUpper(level, lo, hi);
  }
  /** As `holds`, above the last level. */
  private holdsUpper(level: number, lo: number, hi: number): void {
    this.lo = lo;
    this.hi = hi;
    this.leafLevel = level > 0 && ((lo & TYPE_MASK) === TYPE_BLOCK || (hi & HI_PROT_NONE) !== 0) ? level : -1;
  }

  /** Of the last walk: the pfn of the page that holds the address, -1 without a leaf. */
  get leafPfn(): number {
    if (this.leafLevel < 0) return -1;
    const pfn = (this.hi & HI_ADDR) * 1048576 + (this.lo >>> 12);
    return this.leafLevel === 3 ? pfn : pfn + (this.offset >>> 12);
  }
  /** Whether the leaf may be written (PTE_WRITE: dirty or not). */
  get writable(): boolean {
    return this.leafLevel >= 0 && (this.hi & HI_WRITE) !== 0;
  }
  /** Whether the leaf is special: no page to take a reference on. */
  get special(): boolean {
    return this.leafLevel >= 0 && (this.hi & HI_SPECIAL) !== 0;
  }
  /** True if the entry of the last walk is empty (pte_none, pmd_none). */
  get none(): boolean {
    return (this.lo | this.hi) === 0;
  }
  /** True if the leaf of the last walk can be used by hardware (not PROT_NONE). */
  get valid(): boolean {
    return (this.lo & PTE_VALID) !== 0;
  }
  /** pte_dirty of the last walk, without the software bit: writable and not RDONLY. */
  get hwDirty(): boolean {
    return this.writable && (this.lo & PTE_RDONLY) === 0;
  }
  /** pte_young of the last walk. */
  get young(): boolean {
    return this.leafLevel >= 0 && (this.lo & PTE_AF) !== 0;
  }
  /** Bytes that the leaf of the last walk maps, contiguous runs counted as the hugetlb page they form. */
  get leafSize(): number {
    return this.leafLevel === 3 && (this.hi & HI_CONT) === 0 ? 4096 : this.largeLeafSize();
  }
  private largeLeafSize(): number {
    if (this.leafLevel < 0) return 0;
    const size = LEVEL_SIZE[this.leafLevel as 1 | 2 | 3];
    return (this.hi & HI_CONT) !== 0 ? size * 16 : size;
  }

  /**
   * The entry of an address at a level (1..3), with the tables above it allocated
   * (p4d_alloc, pud_alloc, pmd_alloc, pte_alloc). A leaf above that level is the caller's mistake.
   * @returns the word index of the entry
   */
  ensure(mm: number, addr: number, level: number): number {
    const ahi = (addr / WORD) | 0;
    const alo = addr | 0;
    const tables = this.tables;
    let e = this.rootWord.a[mm]! + ((ahi >>> 7) << 1);
    if ((tables.words.a[e]! & TYPE_MASK) !== TYPE_TABLE) this.addTable(mm, addr, 0, e);
    e = tables.tableWord(tables.words.a[e + 1]!, tables.words.a[e]!) + ((((ahi & 0x7f) << 2) | (alo >>> 30)) << 1);
    if (level === 1) return e;
    if ((tables.words.a[e]! & TYPE_MASK) !== TYPE_TABLE) this.addTable(mm, addr, 1, e);
    e = tables.tableWord(tables.words.a[e + 1]!, tables.words.a[e]!) + (((alo >>> 21) & 511) << 1);
    if (level === 2) return e;
    if ((tables.words.a[e]! & TYPE_MASK) !== TYPE_TABLE) this.addTable(mm, addr, 2, e);
    return tables.tableWord(tables.words.a[e + 1]!, tables.words.a[e]!) + (((alo >>> 12) & 511) << 1);
  }

  /** pte_alloc below the entry of a level above 3 on which the last walk stands: now it stands on the last-level entry, which is empty. */
  pteAlloc(mm: number, addr: number): void {
    this.ensure(mm, addr - (addr & 0xfff), 3);
    this.walk(mm, addr);
  }

  private addTable(mm: number, addr: number, level: number, e: number): void {
    const lo = this.tables.words.a[e]!;
    if ((lo | this.tables.words.a[e + 1]!) !== 0)
      throw new Error(`a table is to be put over the level-${level} leaf at 0x${addr.toString(16)}`);
    const pa = this.tables.alloc();
    this.sim.agents.charge(this.sim.costs.tableAlloc);
    this.setEntry(mm, addr, level, e, pa | 0 | TYPE_TABLE, (pa / WORD) | 0);
  }

  /**
   * The single writer of a host entry (set_pte, set_pmd, set_pud, pte_clear). Emits `host_entry` and
   * tells when a live entry is changed in a way that needs break-before-make (Arm ARM D8.16.1:
   * output address, table against block, memory type or shareability).
   */
  setEntry(mm: number, addr: number, level: number, e: number, lo: number, hi: number): void {
    const w = this.tables.words.a;
    const oldLo = w[e]!;
    const oldHi = w[e + 1]!;
    if ((oldLo & lo & PTE_VALID) !== 0 && this.needsBreak(level, oldLo, oldHi, lo, hi)) {
      this.sim.bus.emit(breakBeforeMakeViolation, this.tableAddress(e), (e & 1023) >>> 1, oldHi, oldLo, hi, lo);
    }
    if (this.sim.locks.tracking) this.locks.assertMine(e);
    this.store(mm, addr, level, e, oldLo, oldHi, lo, hi);
  }

  /**
   * `setEntry` of the empty last-level entry on which the last walk stands, for an address in its page: a page is mapped for the first time.
   * No valid entry is replaced, and the walk stands on what was written.
   */
  fill(mm: number, addr: number, lo: number, hi: number): void {
    this.holds(lo, hi);
    this.fillEntry(mm, addr - (addr & 0xfff), 3);
  }

  /** The same of the empty level-2 entry on which the last walk stands: 2 MiB from `block` on are mapped for the first time. */
  fillBlock(mm: number, block: number, lo: number, hi: number): void {
    this.holdsUpper(2, lo, hi);
    this.fillEntry(mm, block, 2);
  }
  /** The entry on which the walk stands gets the words that it is said to hold. */
  private fillEntry(mm: number, addr: number, level: number): void {
    const { entry: e, lo, hi } = this;
    if (this.sim.locks.tracking) this.locks.assertMine(e);
    this.tables.words.set2(e, lo, hi);
    this.written(mm, addr, level, e, 0, 0, lo, hi);
  }

  private store(mm: number, addr: number, level: number, e: number, oldLo: number, oldHi: number, lo: number, hi: number): void {
    this.walked = NOWHERE;
    this.tables.write(e, level, hi, lo);
    this.written(mm, addr, level, e, oldLo, oldHi, lo, hi);
  }
  private written(mm: number, addr: number, level: number, e: number, oldLo: number, oldHi: number, lo: number, hi: number): void {
    this.sim.agents.charge(this.sim.costs.tableWrite);
    if (this.sim.bus.unheard()) return;
    this.sim.bus.emit(hostEntry, mm, addr, level, this.tableAddress(e), oldHi, oldLo, hi, lo);
  }

  /** Nobody looks at single entries: neither a listener nor lock checking. Then `clearPages` does for many what `setEntry` does for one. */
  get unobserved(): boolean {
    return !this.sim.bus.listening && !this.sim.locks.tracking;
  }
  /**
   * `setEntry` of zeros to the page entries at the words [from, to) of one table, where they are `unobserved`.
   * @param filled how many of them are not zero @param valid how many are valid
   */
  clearPages(from: number, to: number, filled: number, valid: number): void {
    this.walked = NOWHERE;
    this.tables.clearCounted(from, to, filled, valid);
    this.sim.agents.charge(filled * this.sim.costs.tableWrite);
    this.sim.bus.passOver(filled);
  }

  /** Physical address of the table that holds an entry. */
  private tableAddress(e: number): number {
    return (e >>> 10) * 4096 + this.base;
  }

  private needsBreak(level: number, oldLo: number, oldHi: number, lo: number, hi: number): boolean {
    if (level < 3 && ((oldLo ^ lo) & 2) !== 0) return true;
    if (((oldLo ^ lo) & 0xfffff000) !== 0 || ((oldHi ^ hi) & (HI_ADDR | HI_CONT)) !== 0) return true;
    // AttrIndx and SH count for leaves only.
    return (level === 3 || (lo & TYPE_MASK) === TYPE_BLOCK) && ((oldLo ^ lo) & 0x31c) !== 0;
  }

  /** ptep_clear_flush, pmdp_huge_clear_flush: breaks an entry and drops its translations. */
  clearFlush(mm: number, addr: number, level: number, e: number): void {
    this.setEntry(mm, addr, level, e, 0, 0);
    if (level === 3) this.tlb.flushPage(mm, addr);
    else
      this.tlb.flushRange(
        mm,
        addr - (addr % LEVEL_SIZE[level as 1 | 2]),
        addr - (addr % LEVEL_SIZE[level as 1 | 2]) + LEVEL_SIZE[level as 1 | 2],
      );
  }

  /** ptep_test_and_clear_young on the leaf of the last walk. No flush. @returns whether it was young */
  testAndClearYoung(mm: number, addr: number): boolean {
    if (this.leafLevel < 0 || (this.lo & PTE_AF) === 0) return false;
    this.setEntry(mm, addr, this.leafLevel, this.entry, this.lo & ~PTE_AF, this.hi);
    return true;
  }

  /** Must an operation of one step on [start, end) wait for the lock of a table? Then its phase returns BLOCKED, before it has changed anything. */
  contended(mm: number, start: number, end: number): boolean {
    return this.locks.any && this.contendedWithin(mm, start, end);
  }
  private contendedWithin(mm: number, start: number, end: number): boolean {
    for (let a = start; a < end; a = nextBoundary(a, this.level)) {
      this.walk(mm, a);
      if (this.locks.taken(this.entry)) return true;
    }
    return false;
  }

  /** Frees the table that an entry points to; the entry is cleared first (pte_free_tlb and relatives). */
  freeTable(mm: number, addr: number, level: number, e: number): void {
    const w = this.tables.words.a;
    const oldLo = w[e]!;
    const oldHi = w[e + 1]!;
    // pmd_clear of free_pte_range: nobody else can come here any more, so it takes no lock.
    this.store(mm, addr, level, e, oldLo, oldHi, 0, 0);
    this.tables.free((oldHi & HI_ADDR) * WORD + ((oldLo & 0xfffff000) >>> 0));
  }

  /** The entry of an address at a level whose upper tables exist. @returns its word index */
  entryAt(mm: number, addr: number, level: number): number {
    const ahi = (addr / WORD) | 0;
    const alo = addr | 0;
    let e = this.rootWord.a[mm]! + ((ahi >>> 7) << 1);
    if (level === 0) return e;
    e = this.tableWord(e) + ((((ahi & 0x7f) << 2) | (alo >>> 30)) << 1);
    if (level === 1) return e;
    e = this.tableWord(e) + (((alo >>> 21) & 511) << 1);
    return level === 2 ? e : this.tableWord(e) + (((alo >>> 12) & 511) << 1);
  }

  /** First word of the table that the entry of a level-0..2 table descriptor points to. */
  tableWord(e: number): number {
    return this.tables.tableWord(this.tables.words.a[e + 1]!, this.tables.words.a[e]!);
  }
}
