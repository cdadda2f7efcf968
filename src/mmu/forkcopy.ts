/** fork's copy of page tables: mm/memory.c copy_page_range, mm/huge_memory.c copy_huge_pmd, mm/hugetlb.c copy_hugetlb_page_range. */
import { ENOMEM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import { FRAME_ANON, FRAME_EXCLUSIVE, FRAME_HUGETLB, type Frames } from "./frames.js";
import { LEVEL_SIZE, nextBoundary, type HostPageTables } from "./pagetable.js";
import {
  descPfn,
  HI_CONT,
  HI_DIRTY,
  HI_PROT_NONE,
  HI_SPECIAL,
  HI_UFFD_WP,
  HI_WRITE,
  isUffdWpMarker,
  PTE_AF,
  PTE_RDONLY,
  PTE_VALID,
  SWP_SWAP,
  swapEntryPfn,
  swapEntryType,
} from "./pte.js";
import { isCowMapping, VM_PFNMAP, VM_SHARED } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

export class ForkCopy {
  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
  ) {}

  /**
   * Gives the child the parent's entries of one VMA. Where a write must make a copy, both lose the
   * write permission; the parent's TLB is flushed then. Pages get one reference more each.
   * @param vma the parent's VMA @returns 0 | -ENOMEM
   */
  copyPageRange(dstMm: number, srcMm: number, vma: number): number {
    const { pt, vmas } = this;
    const start = vmas.start(vma);
    const end = vmas.end(vma);
    const flags = vmas.flags(vma);
    const cow = isCowMapping(flags);
    const shared = (flags & VM_SHARED) !== 0;
    const anonymous = vmas.file(vma) < 0;
    const pfnmap = (flags & VM_PFNMAP) !== 0;
    let protectedAny = false;
    for (let a = start; a < end;) {
      pt.walk(srcMm, a);
      const level = pt.level;
      if (!pt.none) {
        if (level < 3 && !this.copiesBlock(anonymous)) {
          a = nextBoundary(a, level);
          continue;
        }
        protectedAny = this.copyOne(dstMm, srcMm, a - (a % LEVEL_SIZE[level as 1 | 2 | 3]), cow, shared, pfnmap) || protectedAny;
      }
      a = nextBoundary(a, level);
    }
    if (protectedAny) pt.tlb.flushMm(srcMm);
    return this.sim.crashed === undefined ? 0 : -ENOMEM;
  }

  /** copy_huge_pmd: THPs of file mappings are left out and fault in again; anonymous, hugetlb and PFN blocks are copied. */
  private copiesBlock(anonymous: boolean): boolean {
    const pfn = descPfn(this.pt.lo, this.pt.hi);
    return anonymous || (this.pt.hi & HI_SPECIAL) !== 0 || (this.frames.flags(pfn) & FRAME_HUGETLB) !== 0;
  }

  /** copy_present_pte on the entry of the last walk. @returns whether the parent's entry was write-protected */
  private copyOne(dstMm: number, srcMm: number, addr: number, cow: boolean, shared: boolean, pfnmap: boolean): boolean {
    const { pt, frames } = this;
    const { level, entry } = pt;
    let { lo, hi } = pt;
    const present = (lo & PTE_VALID) !== 0 || (hi & HI_PROT_NONE) !== 0;
    // copy_pte_marker: the child is registered with no userfaultfd.
    if (isUffdWpMarker(lo, hi)) return false;
    if (!present && swapEntryType(lo) === SWP_SWAP) {
      const swapped = swapEntryPfn(lo, hi);
      frames.get(swapped);
      frames.clearFlags(swapped, FRAME_EXCLUSIVE);
    }
    const wasWritable = present && cow && (hi & HI_WRITE) !== 0;
    if (wasWritable) {
      if ((lo & PTE_RDONLY) === 0) hi |= HI_DIRTY;
      hi &= ~HI_WRITE;
      lo |= PTE_RDONLY;
      pt.setEntry(srcMm, addr, level, entry, lo, hi);
    }
    if (present && (hi & HI_SPECIAL) === 0 && ((hi & HI_CONT) === 0 || ((entry >> 1) & 15) === 0)) {
      const pfn = descPfn(lo, hi);
      frames.addMapping(pfn);
      if ((frames.flags(pfn) & FRAME_ANON) !== 0) frames.setExclusive(pfn, false, level < 3);
    }
    if (present) {
      lo &= ~PTE_AF; // pte_mkold: the child has not touched it
      if (shared) {
        hi &= ~HI_DIRTY; // pte_mkclean
        lo |= PTE_RDONLY;
      }
    }
    if (!pfnmap) hi &= ~HI_UFFD_WP; // pte_clear_uffd_wp
    const e = pt.ensure(dstMm, addr, level);
    pt.setEntry(dstMm, addr, level, e, lo, hi);
    return wasWritable;
  }
}
