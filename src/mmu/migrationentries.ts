/**
 * Migration entries, which stand in the tables for a page that is moved or split, and which faults wait for: mm/rmap.c
 * try_to_migrate_one (try_to_unmap_one with TTU_MIGRATION before v5.14) puts them, mm/migrate.c remove_migration_pte takes them out again.
 */
import type { PhysicalMemory } from "../arch/phys.js";
import type { MmRow } from "./decisions.js";
import type { Frames } from "./frames.js";
import { pagesIdentical } from "./pagesidentical.js";
import type { HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import {
  descPfn,
  HI_ADDR,
  HI_SPECIAL,
  HI_UFFD_WP,
  HI_WRITE,
  isMigrationEntry,
  pfnHi,
  pfnLo,
  SWP_HWPOISON,
  SWP_MIGRATION_READ,
  SWP_MIGRATION_WRITE,
  swapEntryHi,
  swapEntryLo,
  swapEntryPfn,
  swapEntryType,
} from "./pte.js";
import type { Rmap } from "./rmap.js";
import { VM_LOCKED } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

export class MigrationEntries {
  constructor(
    private readonly phys: PhysicalMemory,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly prot: PageProtection,
    private readonly rmap: Rmap,
    private readonly d: MmRow,
  ) {}

  /** In place of the leaf at addr, which the last walk found. */
  put(mm: number, addr: number): void {
    const { pt, frames } = this;
    const pfn = descPfn(pt.lo, pt.hi);
    const type = pt.writable ? SWP_MIGRATION_WRITE : SWP_MIGRATION_READ;
    if (pt.hwDirty) frames.setDirty(pfn);
    const uffdWp = pt.hi & HI_UFFD_WP; // pte_swp_mkuffd_wp
    this.replace(mm, addr, pfn, swapEntryLo(type, pfn), swapEntryHi(pfn) | uffdWp);
  }
  /** Likewise of a broken page: the entry names it as such at once. */
  putPoison(mm: number, addr: number): void {
    const pfn = this.pt.leafPfn;
    this.replace(mm, addr, pfn, swapEntryLo(SWP_HWPOISON, pfn), swapEntryHi(pfn));
  }
  /** The leaf of `pfn` at addr, which the last walk found, becomes another entry. */
  private replace(mm: number, addr: number, pfn: number, lo: number, hi: number): void {
    const { pt, frames } = this;
    const { leafLevel, entry } = pt;
    pt.clearFlush(mm, addr, leafLevel, entry);
    pt.setEntry(mm, addr, leafLevel, entry, lo, hi);
    frames.dropMapping(pfn);
  }

  /** The page whose migration entry the last walk found, or -1. */
  private standsFor(): number {
    const { pt } = this;
    return pt.leafLevel < 0 && !pt.none && isMigrationEntry(pt.lo) ? swapEntryPfn(pt.lo, pt.hi) : -1;
  }

  /** A migration entry of `pfn` at addr, if the last walk found one, becomes a leaf of `goal`; nobody is told. */
  remove(mm: number, addr: number, pfn: number, goal: number): void {
    const { pt, frames, vmas, prot } = this;
    if (this.standsFor() !== pfn) return;
    const vma = vmas.findVma(mm, addr);
    const { level, entry } = pt;
    const lo = prot.lo(vma) & (level === 2 ? ~2 : ~0);
    const writable = swapEntryType(pt.lo) === SWP_MIGRATION_WRITE;
    const hi = (prot.hi(vma) & ~HI_SPECIAL & ~HI_ADDR & ~HI_WRITE) | (writable ? HI_WRITE : pt.hi & HI_UFFD_WP);
    pt.setEntry(mm, addr, level, entry, pfnLo(goal) | lo, pfnHi(goal) | hi);
    frames.addMapping(goal);
  }

  /** In place of the small entries of a huge page in [start, end). */
  putPart(mm: number, start: number, end: number, head: number): void {
    const { pt } = this;
    for (let at = start; at < end; at += 4096) {
      if (pt.walk(mm, at) && pt.leafLevel === 3 && pt.leafPfn >= head && pt.leafPfn < head + 512) this.put(mm, at);
    }
  }

  /** remove_migration_ptes of a huge page whose pages are numbered from `index` on, wherever they are: it stays where it is. */
  removeParts(index: number, head: number): void {
    const { rmap, pt } = this;
    for (let c = rmap.nextPart(index, 512, 0); c !== 0; c = rmap.nextPart(index, 512, c)) {
      const { mm, end } = rmap;
      for (let at = rmap.addr; at < end; at += 4096) {
        pt.walk(mm, at);
        const pfn = this.standsFor();
        if (pfn >= head && pfn < head + 512) this.remove(mm, at, pfn, pfn);
      }
    }
  }

  /**
   * try_to_map_unused_to_zeropage, of each page of a huge page that has been split, where it is mapped: a page of zeroes gives
   * way to the shared one, and is freed if nobody else has a reference. Nobody is told beyond the split's own announcement.
   */
  mapUnusedToZeropage(index: number, head: number): void {
    const { splitZeroPages } = this.d;
    if (splitZeroPages === "none") return;
    for (let i = 0; i < 512; i++) {
      if (splitZeroPages === "intact" && this.frames.isHwpoison(head + i)) continue;
      if (pagesIdentical(this.phys, head + i, this.frames.zeroPfn)) this.zeroEntriesOf(head + i, index + i);
    }
  }
  private zeroEntriesOf(pfn: number, index: number): void {
    const { rmap, pt, vmas } = this;
    for (let c = rmap.next(pfn, -1, index, 0); c !== 0; c = rmap.next(pfn, -1, index, c)) {
      const { mm, addr } = rmap;
      if (!pt.walk(mm, addr) || pt.leafPfn !== pfn) continue;
      const vma = vmas.findVma(mm, addr);
      if ((vmas.flags(vma) & VM_LOCKED) === 0) this.toZeropage(mm, addr, vma);
    }
  }
  private toZeropage(mm: number, addr: number, vma: number): void {
    const { pt, frames, prot } = this;
    const zero = frames.zeroPfn;
    const marks = this.d.splitZeroPages === "intact" ? pt.hi & HI_UFFD_WP : 0;
    this.replace(mm, addr, pt.leafPfn, pfnLo(zero) | prot.lo(vma), pfnHi(zero) | prot.hi(vma) | HI_SPECIAL | marks);
  }
}
