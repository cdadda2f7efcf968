/**
 * Migration entries of the small pages of an anonymous huge page, while it is split: mm/rmap.c try_to_migrate_one (try_to_unmap_one
 * with TTU_MIGRATION before v5.14) puts them, mm/migrate.c remove_migration_pte takes them out again. Faults on them wait.
 */
import type { Frames } from "./frames.js";
import type { HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import {
  HI_ADDR,
  HI_SPECIAL,
  HI_UFFD_WP,
  HI_WRITE,
  pfnHi,
  pfnLo,
  SWP_MIGRATION_READ,
  SWP_MIGRATION_WRITE,
  swapEntryHi,
  swapEntryLo,
  swapEntryPfn,
  swapEntryType,
} from "./pte.js";
import type { Rmap } from "./rmap.js";
import type { Vmas } from "./vmas.js";

export class MigrationEntries {
  constructor(
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly prot: PageProtection,
    private readonly rmap: Rmap,
  ) {}

  /** In place of each small entry of the huge page in [start, end). */
  put(mm: number, start: number, end: number, head: number): void {
    const { pt, frames } = this;
    for (let at = start; at < end; at += 4096) {
      if (!pt.walk(mm, at) || pt.leafLevel !== 3 || pt.leafPfn < head || pt.leafPfn >= head + 512) continue;
      const { entry, leafPfn } = pt;
      const type = pt.writable ? SWP_MIGRATION_WRITE : SWP_MIGRATION_READ;
      if (pt.hwDirty) frames.setDirty(leafPfn);
      const uffdWp = pt.hi & HI_UFFD_WP; // pte_swp_mkuffd_wp
      pt.clearFlush(mm, at, 3, entry);
      pt.setEntry(mm, at, 3, entry, swapEntryLo(type, leafPfn), swapEntryHi(leafPfn) | uffdWp);
      frames.dropMapping(leafPfn);
    }
  }

  /** remove_migration_ptes: the entries of the pages that are numbered from `index` on, wherever they are; they tell nobody. */
  remove(index: number, pages: number, head: number): void {
    const { rmap } = this;
    for (let c = rmap.nextPart(index, pages, 0); c !== 0; c = rmap.nextPart(index, pages, c))
      for (let at = rmap.addr; at < rmap.end; at += 4096) this.removeOne(rmap.mm, at, head, pages);
  }

  private removeOne(mm: number, addr: number, head: number, pages: number): void {
    const { pt, frames, vmas, prot } = this;
    if (pt.walk(mm, addr) || pt.none) return;
    const type = swapEntryType(pt.lo);
    if (type !== SWP_MIGRATION_READ && type !== SWP_MIGRATION_WRITE) return;
    const pfn = swapEntryPfn(pt.lo, pt.hi);
    if (pfn < head || pfn >= head + pages) return;
    const vma = vmas.findVma(mm, addr);
    const hi = (prot.hi(vma) & ~HI_SPECIAL & ~HI_ADDR & ~HI_WRITE) | (type === SWP_MIGRATION_WRITE ? HI_WRITE : pt.hi & HI_UFFD_WP);
    pt.setEntry(mm, addr, 3, pt.entry, pfnLo(pfn) | prot.lo(vma), pfnHi(pfn) | hi);
    frames.addMapping(pfn);
  }
}
