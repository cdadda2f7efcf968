/**
 * Taking entries out of the host's page tables, and the walks over ranges that go with it:
 * mm/memory.c unmap_page_range, free_pgtables, mm/mprotect.c, copy_page_range, mm/mremap.c
 * move_page_tables. None of them tells a notifier: the caller does.
 */
import type { Sim } from "../sim/sim.js";
import { ForkCopy } from "./forkcopy.js";
import { FRAME_FILE, FRAME_THP, type Frames } from "./frames.js";
import type { Files } from "./files.js";
import { MoveTables } from "./movetables.js";
import { HostPageTables, LEVEL_SIZE, nextBoundary, PMD_SIZE, TASK_SIZE } from "./pagetable.js";
import { PageProtection } from "./pageprot.js";
import { PfnInsert } from "./pfninsert.js";
import { Protect } from "./protect.js";
import {
  descPfn,
  HI_ADDR,
  HI_CONT,
  HI_DIRTY,
  HI_PROT_NONE,
  HI_SPECIAL,
  HI_UFFD_WP,
  HI_WRITE,
  MARKER_UFFD_WP,
  namesPoison,
  pfnHi,
  pfnLo,
  pteDirty,
  PTE_RDONLY,
  PTE_VALID,
  SWP_SWAP,
  swapEntryPfn,
  swapEntryType,
} from "./pte.js";
import type { MmRow } from "./decisions.js";
import { VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

/** Pages gathered before the TLB is flushed and they are freed (mmu_gather). */
const GATHER = 512;

/** zapRange keeps the marks of write-protected pages (without ZAP_FLAG_DROP_MARKER); */
export const ZAP_KEEP_MARKERS = 1;
/** entries of broken pages, UFFDIO_POISON's too (zap_details.even_cows 0; before v5.18 whatever details there are); */
export const ZAP_KEEP_POISON = 2;
/** and those of the swap, likewise. */
export const ZAP_KEEP_SWAPPED = 4;

export class Zap {
  readonly insert: PfnInsert;
  readonly protect: Protect;
  readonly forkCopy: ForkCopy;
  readonly moveTables: MoveTables;
  readonly prot: PageProtection;
  /** Pages whose entries are gone and whose TLB flush is not; empty between calls. */
  private readonly gathered = new Float64Array(GATHER);
  private pending = 0;
  /** ZAP_KEEP_* of the running zapRange. */
  private keep = 0;
  /** The range of the running zapRange: doubles that V8 hands to a function become objects on its heap. */
  private start = 0;
  private end = 0;
  /** The addresses between which entries went since the last flush. */
  private lowest = 0;
  private highest = 0;

  constructor(
    sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    files: Files,
    private readonly d: MmRow,
  ) {
    this.prot = new PageProtection(vmas, files);
    this.insert = new PfnInsert(frames, pt, vmas, this.prot);
    this.protect = new Protect(frames, pt, vmas, this.prot, d);
    this.forkCopy = new ForkCopy(sim, frames, pt, vmas);
    this.moveTables = new MoveTables(pt);
  }

  /**
   * zap_page_range: clears every entry in [start, end), flushes the TLB, then drops the pages.
   * A 2 MiB leaf that the range covers only in part is split first, without an event of its own.
   * @param reclaimPt zap_details.reclaim_pt: PTE tables that the range covers and leaves empty go too
   * @param keep ZAP_KEEP_*: what stays
   */
  zapRange(mm: number, start: number, end: number, reclaimPt = false, keep = 0): void {
    this.start = start;
    this.end = end;
    this.keep = keep;
    this.zap(mm, reclaimPt);
  }
  private readonly zap = (mm: number, reclaimPt: boolean): void => {
    if (this.d.lruDrains !== "populate") this.frames.lru?.lruAddDrain(); // unmap_region, zap_page_range, exit_mmap
    const { pt, start, end } = this;
    let a = start;
    while (a < end) {
      pt.walk(mm, a);
      if (pt.level === 3) {
        a = this.zapPtes(mm, a, end);
        if (reclaimPt && a % PMD_SIZE === 0 && a - PMD_SIZE >= start) this.freeEmptyTable(mm, a - PMD_SIZE);
      } else if (pt.none) a = nextBoundary(a, pt.level);
      else {
        const size = LEVEL_SIZE[pt.level as 1 | 2];
        const block = a - (a & (size - 1));
        if (pt.level === 2 && (block < start || block + size > end)) {
          this.splitHugePmdPlain(mm, a);
          continue;
        }
        this.zapBlock(mm, block);
        a = block + size;
      }
      if (this.pending >= GATHER - 1) this.flush(mm);
    }
    if (this.pending > 0) this.flush(mm);
  };

  /** mm/memory.c zap_pte_table_if_empty, v7.0: the table of one PMD goes with the gathered pages. */
  private freeEmptyTable(mm: number, block: number): void {
    const { pt } = this;
    pt.walk(mm, block);
    const w = pt.tables.words.a;
    for (let e = pt.entry; e < pt.entry + 1024; e++) if (w[e] !== 0) return;
    pt.freeTable(mm, block, 2, pt.entryAt(mm, block, 2));
    this.gather(block, PMD_SIZE, -1, 0, 0);
  }

  private zapBlock(mm: number, block: number): void {
    const { pt } = this;
    const { level, lo, hi, entry } = pt;
    const present = pt.leafLevel >= 0;
    this.clear(mm, block, level, entry, hi);
    if (!present) return;
    // Of a contiguous run only the first entry carries the reference.
    const counted = (hi & HI_SPECIAL) === 0 && ((hi & HI_CONT) === 0 || ((entry >> 1) & 15) === 0);
    this.gather(block, LEVEL_SIZE[level as 1 | 2], counted ? descPfn(lo, hi) : -1, lo, hi);
  }

  /** Clears entries of one PTE table from the walked address on. @returns the first address not looked at */
  private zapPtes(mm: number, a: number, end: number): number {
    const pt = this.pt;
    const w = pt.tables.words.a;
    const first = (pt.entry & 1023) >>> 1;
    const table = a - first * 4096;
    const stop = Math.min(512, first + Math.ceil((end - a) / 4096)) | 0;
    const from = pt.entry;
    const atOnce = this.keep === 0 && pt.unobserved;
    let filled = 0;
    let valid = 0;
    let e = from;
    // Counts pages: an address that goes from turn to turn would be allocated in each.
    for (let i = first; i < stop && this.pending < GATHER - 1; i++, e += 2) {
      const lo = w[e]!;
      const hi = w[e + 1]!;
      if ((lo | hi) === 0) continue;
      filled++;
      valid += lo & PTE_VALID;
      const addr = table + i * 4096;
      const absent = (lo & PTE_VALID) === 0 && (hi & HI_PROT_NONE) === 0;
      const swapped = absent && swapEntryType(lo) === SWP_SWAP;
      if (swapped && (this.keep & ZAP_KEEP_SWAPPED) !== 0) continue;
      if ((this.keep & ZAP_KEEP_POISON) !== 0 && namesPoison(lo, hi)) continue;
      if (!atOnce) this.clear(mm, addr, 3, e, hi);
      if (absent) {
        if (swapped) this.frames.put(swapEntryPfn(lo, hi));
        continue;
      }
      const counted = (hi & HI_SPECIAL) === 0 && ((hi & HI_CONT) === 0 || (i & 15) === 0);
      this.gather(addr, 4096, counted ? (hi & 0xffff) * 1048576 + (lo >>> 12) : -1, lo, hi);
    }
    if (atOnce) pt.clearPages(from, e, filled, valid);
    return a + ((e - from) >> 1) * 4096;
  }

  /** ptep_get_and_clear, and what zap_install_uffd_wp_if_needed leaves of a protected page. */
  private clear(mm: number, addr: number, level: number, e: number, hi: number): void {
    const marks = (hi & HI_UFFD_WP) !== 0 && (this.keep & ZAP_KEEP_MARKERS) !== 0;
    this.pt.setEntry(mm, addr, level, e, marks ? MARKER_UFFD_WP : 0, marks ? HI_UFFD_WP : 0);
  }

  private gather(addr: number, size: number, pfn: number, lo: number, hi: number): void {
    if (this.pending === 0) this.lowest = addr;
    this.highest = addr + size;
    this.gathered[this.pending++] = pfn;
    if (pteDirty(lo, hi) && pfn >= 0 && (this.frames.flags(pfn) & FRAME_FILE) !== 0) this.frames.setDirty(pfn);
  }

  /** tlb_finish_mmu: first the TLB, then the pages. */
  private flush(mm: number): void {
    this.pt.tlb.flushRange(mm, this.lowest, this.highest);
    for (let i = 0; i < this.pending; i++) if (this.gathered[i]! >= 0) this.frames.dropMapping(this.gathered[i]!);
    this.pending = 0;
  }

  /**
   * __split_huge_pmd_locked, without the notifier: the 2 MiB leaf at addr becomes a table of 512
   * entries (the huge zero page: of the small one). A leaf of a device or file is simply taken out
   * and faults again. Nothing happens where no 2 MiB leaf is.
   */
  splitHugePmdPlain(mm: number, addr: number): void {
    const { pt, frames } = this;
    if (!pt.walk(mm, addr) || pt.leafLevel !== 2) return;
    const block = addr - (addr % PMD_SIZE);
    let { lo, hi } = pt;
    const first = descPfn(lo, hi);
    pt.clearFlush(mm, block, 2, pt.entry);
    const of = frames.flags(first);
    if ((of & FRAME_THP) === 0 || (of & FRAME_FILE) !== 0) {
      if ((hi & HI_SPECIAL) !== 0) return;
      if ((of & FRAME_FILE) !== 0 && pteDirty(lo, hi)) frames.setDirty(first);
      frames.dropMapping(first);
      return;
    }
    const zero = frames.isHugeZeroPage(first);
    const table = pt.ensure(mm, block, 3);
    const entries = this.d.thpSplitDirty;
    if (!zero && entries !== "carried" && !(entries === "carried-or-writable" && pteDirty(lo, hi))) {
      // What mk_pte and maybe_mkwrite leave: clean, unless pte_mkwrite alone made it dirty.
      const v = entries !== "clean" ? this.vmas.findVma(mm, addr) : -1;
      const dirty = v >= 0 && (this.vmas.flags(v) & VM_WRITE) !== 0;
      const writable = (hi & HI_WRITE) !== 0;
      lo = dirty && writable ? lo & ~PTE_RDONLY : lo | PTE_RDONLY;
      hi = dirty && !writable ? hi | HI_DIRTY : hi & ~HI_DIRTY;
    }
    for (let i = 0; i < 512; i++) {
      const pfn = zero ? frames.zeroPfn : first + i;
      // A page descriptor has bit 1 set where the block had it clear; VALID stays as it was (PROT_NONE).
      pt.setEntry(
        mm,
        block + i * 4096,
        3,
        table + 2 * i,
        pfnLo(pfn) | (lo & 0xffd) | 2,
        pfnHi(pfn) | (hi & ~HI_ADDR) | (zero ? HI_SPECIAL : 0),
      );
    }
    if (!zero) {
      for (let i = 1; i < 512; i++) {
        frames.addMapping(first);
      }
    }
  }

  // ---- page tables -----------------------------------------------------------------------------

  /**
   * free_pgtables: frees the tables of a removed [start, end) that lie wholly between floor (end of
   * the VMA before) and ceiling (start of the VMA after). Entries must be gone.
   * @param above the VMA after, or -1
   */
  freePgtables(mm: number, start: number, end: number, floor: number, above: number): void {
    let a = start - (start & (PMD_SIZE - 1));
    if (a < floor) a += PMD_SIZE;
    // Mostly the VMA before reaches into the one table that there is.
    if (a >= end) return;
    const top = above >= 0 ? this.vmas.start(above) : TASK_SIZE;
    const limit = top - (top & (PMD_SIZE - 1));
    let last = end;
    if (last > limit) last -= PMD_SIZE;
    if (a >= last) return;
    for (let pud = a; pud < last;) {
      const next = Math.min(nextBoundary(pud, 1), last);
      this.pt.walk(mm, pud);
      if (this.pt.level === 0) {
        pud = Math.min(nextBoundary(pud, 0), last);
        continue;
      }
      if (this.pt.level > 1) this.freePteTables(mm, pud, next);
      pud = next;
    }
    this.freeUpper(mm, a, last, floor, top, 1);
    this.freeUpper(mm, a, last, floor, top, 0);
    this.pt.tlb.flushRange(mm, start, end);
  }

  private freePteTables(mm: number, start: number, end: number): void {
    for (let a = start; a < end; a = nextBoundary(a, 2)) {
      this.pt.walk(mm, a);
      if (this.pt.level !== 3) continue;
      const pmd = this.pt.ensure(mm, a, 2);
      this.pt.freeTable(mm, a - (a & (PMD_SIZE - 1)), 2, pmd);
    }
  }

  /** free_pmd_range's and free_pud_range's end: the tables that entries of `level` point to. */
  private freeUpper(mm: number, start: number, end: number, floor: number, ceiling: number, level: 0 | 1): void {
    const size = LEVEL_SIZE[level];
    for (let block = Math.floor(start / size) * size; block < end; block += size) {
      if (block < floor || block + size > ceiling) continue;
      this.pt.walk(mm, block < start ? start : block);
      if (this.pt.level <= level) continue;
      this.pt.freeTable(mm, block, level, this.pt.entryAt(mm, block, level));
    }
  }

  /** First address in [start, end) whose PMD (level 2) or PUD (level 1) entry is not none, or -1. */
  firstPopulated(mm: number, start: number, end: number, level: 1 | 2): number {
    for (let a = start; a < end;) {
      this.pt.walk(mm, a);
      if (this.pt.level > level || (this.pt.level === level && !this.pt.none)) return a;
      // A 1 GiB leaf above the PMD level is populated too.
      if (this.pt.leafLevel >= 0) return a;
      a = nextBoundary(a, this.pt.level);
    }
    return -1;
  }
  /** Who maps pages into [start, end) must wait for the lock of a table: its phase returns BLOCKED. */
  contended(mm: number, start: number, end: number): boolean {
    return this.pt.contended(mm, start, end);
  }
  /** True if the PMD that covers addr is a 2 MiB leaf. */
  isHugePmd(mm: number, addr: number): boolean {
    this.pt.walk(mm, addr);
    return this.pt.leafLevel === 2;
  }
  /** True if a PUD entry exists for addr: the condition of the event of a VMA split. */
  hasPud(mm: number, addr: number): boolean {
    this.pt.walk(mm, addr);
    return this.pt.level > 1 || (this.pt.level === 1 && !this.pt.none);
  }

  // ---- the others, under one name --------------------------------------------------------------

  /** See PfnInsert.remapPfnRange. */
  remapPfnRange(mm: number, vma: number, addr: number, pfn: number, size: number): number {
    return this.insert.remapPfnRange(mm, vma, addr, pfn, size);
  }
  /** See PfnInsert.vmfInsertPfn. */
  vmfInsertPfn(mm: number, vma: number, addr: number, pfn: number): number {
    return this.insert.vmfInsertPfn(mm, vma, addr, pfn);
  }
  /** See PfnInsert.vmfInsertPfnPmd. */
  vmfInsertPfnPmd(mm: number, vma: number, addr: number, pfn: number, write = false): number {
    return this.insert.vmfInsertPfnPmd(mm, vma, addr, pfn, write);
  }
  /** See Protect.changeProtection. */
  changeProtection(mm: number, vma: number, start: number, end: number): number {
    return this.protect.changeProtection(mm, vma, start, end);
  }
  /** See ForkCopy.copyPageRange. */
  copyPageRange(dstMm: number, srcMm: number, vma: number): number {
    return this.forkCopy.copyPageRange(dstMm, srcMm, vma);
  }
  /** See MoveTables.movePageTables. */
  movePageTables(mm: number, from: number, to: number, len: number, clearUffdWp = false): number {
    return this.moveTables.movePageTables(mm, from, to, len, clearUffdWp);
  }
  /** See MoveTables.needsSplit. */
  moveNeedsSplit(mm: number, from: number, to: number, len: number): number {
    return this.moveTables.needsSplit(mm, from, to, len);
  }
}

/** What other rooms call: the public face of Zap. */
export type ZapShape = Zap;
