/** Huge pages of memory files made by a page fault (mm/shmem.c shmem_get_folio_gfp; before v6.1 shmem_getpage_gfp). */
import type { MmRow } from "./decisions.js";
import type { Files } from "./files.js";
import { FILE_SHMEM } from "./files.js";
import { ORDER_PMD, type Frames } from "./frames.js";
import { PMD_SIZE } from "./pagetable.js";
import {
  SHMEM_HUGE_ADVISE,
  SHMEM_HUGE_ALWAYS,
  SHMEM_HUGE_DENY,
  SHMEM_HUGE_FORCE,
  SHMEM_HUGE_WITHIN_SIZE,
  type ThpSettings,
} from "./thpsettings.js";
import { VM_HUGEPAGE, VM_NOHUGEPAGE } from "./vmflags.js";

/** Pages of a block. */
const BLOCK = 512;

function roundUp(page: number, to: number): number {
  return Math.ceil(page / to) * to;
}

export class ShmemHuge {
  constructor(
    private readonly frames: Frames,
    private readonly files: Files,
    readonly settings: ThpSettings,
    private readonly d: MmRow,
  ) {}

  /**
   * A huge page for an absent page of a file that a fault needs, in the cache.
   * @param vmFlags of the fault's VMA @param suitable the VMA can map the block whole (thp_vma_suitable_order)
   * @returns the page's own frame, or -1: a small one must do
   */
  fault(file: number, pgoff: number, vmFlags: number, suitable: boolean): number {
    if (!this.isHuge(file, vmFlags, pgoff, this.files.size(file))) return -1;
    return this.d.shmemHugeSuitable && !suitable ? -1 : this.allocate(file, pgoff);
  }

  /** The same for fallocate, which has no VMA. @param end of what is allocated, in bytes */
  fallocate(file: number, pgoff: number, end: number): number {
    const { d, settings } = this;
    const how = d.fallocateHuge;
    const size = how === "as-fault" ? this.files.size(file) : Math.max(this.files.size(file), end);
    if (!this.isHuge(file, 0, pgoff, size)) return -1;
    if (how === "by-length" || how === "block") {
      const byMount = settings.shmemHuge !== SHMEM_HUGE_FORCE;
      if (byMount && how === "by-length" && (pgoff % BLOCK !== 0 || end - pgoff * 4096 < PMD_SIZE)) return -1;
      if (byMount && settings.shmMnt === SHMEM_HUGE_WITHIN_SIZE && size < roundUp(pgoff + 1, BLOCK) * 4096) return -1;
    }
    return this.allocate(file, pgoff);
  }

  /** shmem_is_huge, shmem_huge_global_enabled: what the setting says, the file's mount, and the VMA's advice. @param size of the file, in bytes */
  private isHuge(file: number, vmFlags: number, pgoff: number, size: number): boolean {
    if (this.files.kind(file) !== FILE_SHMEM) return false;
    const { settings } = this;
    const { shmemHuge } = settings;
    if (shmemHuge === SHMEM_HUGE_DENY || (vmFlags & VM_NOHUGEPAGE) !== 0) return false;
    if (shmemHuge === SHMEM_HUGE_FORCE) return true;
    const huge = settings.shmMnt;
    if (huge === SHMEM_HUGE_ALWAYS) return true;
    if (huge === SHMEM_HUGE_WITHIN_SIZE && this.withinSize(pgoff, Math.ceil(size / 4096))) return true;
    return (huge === SHMEM_HUGE_WITHIN_SIZE || huge === SHMEM_HUGE_ADVISE) && (vmFlags & VM_HUGEPAGE) !== 0;
  }

  /** Does a file of so many pages reach to the end of the block? */
  private withinSize(pgoff: number, pages: number): boolean {
    switch (this.d.shmemHugePages) {
      case "none":
        return false;
      case "block-before":
        // A block's first page asks for the block before it.
        return pages >= BLOCK && pages >= roundUp(pgoff, BLOCK);
      case "block":
        return pages >= roundUp(pgoff + 1, BLOCK);
      case "any-order":
        // One size that fits is enough for all (shmem_get_orders_within_size).
        for (let size = BLOCK; size > 1; size /= 2) if (pages >= roundUp(pgoff + 1, size)) return true;
        return false;
    }
  }

  /** shmem_alloc_and_add_folio: nothing of the page's block may be there. @returns the page's frame or -1 */
  private allocate(file: number, pgoff: number): number {
    const { frames, files } = this;
    const first = pgoff - (pgoff % BLOCK);
    if (files.cache.next(file, first, first + BLOCK) >= 0) return -1;
    const pfn = frames.alloc(ORDER_PMD);
    if (pfn < 0) return -1;
    frames.clear(pfn, ORDER_PMD);
    frames.setFile(pfn);
    frames.lru?.lruCacheAdd(pfn);
    for (let i = 0; i < BLOCK; i++) {
      files.cache.put(file, first + i, pfn + i);
      if (i > 0) frames.get(pfn);
    }
    files.setReach(file, files.reach(file, (first + BLOCK) * 4096));
    return pfn + (pgoff % BLOCK);
  }
}
