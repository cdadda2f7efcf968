/** mm/memory.c unmap_page_range and the insert primitives. STUB with the final signatures; the body follows. */

export interface ZapShape {
  /**
   * Clears every leaf in [start, end), flushes the host TLB, drops the frames. Plain: no notifier, no page table freed.
   * A THP that the range covers only partly must have been split before (splitHugePmd); plain splitting is done silently otherwise.
   */
  zapRange(mm: number, start: number, end: number): void;
  /** free_pgtables for a removed [start, end): frees tables that lie wholly inside [floor, ceiling) (previous VMA's end, next VMA's start). */
  freePgtables(mm: number, start: number, end: number, floor: number, ceiling: number): void;
  /** remap_pfn_range without its VMA flag changes (caller sets them): pages only, PTEs must be empty. 0 | -errno. */
  remapPfnRange(mm: number, vma: number, addr: number, pfn: number, size: number): number;
  /** One page, present entry left as is. VM_FAULT_NOPAGE (or OOM). */
  vmfInsertPfn(mm: number, vma: number, addr: number, pfn: number): number;
  /** One 2 MiB block (addr and pfn aligned down by the caller). VM_FAULT_NOPAGE, or FALLBACK if the entry is a table. */
  vmfInsertPfnPmd(mm: number, vma: number, addr: number, pfn: number): number;
  /** mprotect's change_protection over the present leaves, with the VMA's *new* flags. No notifier. @returns number of pages changed. */
  changeProtection(mm: number, vma: number, start: number, end: number): number;
  /** copy_page_range of one VMA: child gets the parent's leaves; write-protects the parent's where the mapping is COW. 0 | -ENOMEM. */
  copyPageRange(dstMm: number, srcMm: number, vma: number): number;
  /** move_page_tables: moves the leaves of [from, from+len) to `to`. */
  movePageTables(mm: number, from: number, to: number, len: number): number;
  /** First address >= start and < end whose PMD (level 2) or PUD (level 1) entry is not none, or -1. For mprotect's lazy range_start. */
  firstPopulated(mm: number, start: number, end: number, level: 1 | 2): number;
  /** True if the PMD that covers addr is a 2 MiB leaf (THP or huge zero page or PFN block). */
  isHugePmd(mm: number, addr: number): boolean;
  /** True if a PUD entry exists for addr (condition of the VMA split event). */
  hasPud(mm: number, addr: number): boolean;
  /** __split_huge_pmd_locked: the plain half, without the notifier. */
  splitHugePmdPlain(mm: number, addr: number): void;
}
/** splitHugePmd: activity (mm, addr): S(PMD range, CLEAR), split if huge, E. In src/mmu/hugepages.ts. */
