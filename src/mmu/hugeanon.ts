/** Anonymous transparent huge pages: mm/huge_memory.c do_huge_pmd_anonymous_page, and which VMAs may have them. */
import { FRAME_EXCLUSIVE, ORDER_PMD, type Frames } from "./frames.js";
import { PMD_SIZE, pmdStart, type HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import { HI_DIRTY, HI_WRITE, pfnHi, pfnLo, PTE_RDONLY } from "./pte.js";
import { THP_ALWAYS, THP_MADVISE, type ThpSettings } from "./thpsettings.js";
import { VM_FAULT_FALLBACK } from "./vmfault.js";
import { VM_HUGEPAGE, VM_NOHUGEPAGE, VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

export class HugeAnon {
  constructor(
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly prot: PageProtection,
    private readonly settings: ThpSettings,
  ) {}

  /** The policy half of thp_vma_allowable_order: sysfs setting and MADV_(NO)HUGEPAGE. */
  allowed(vmFlags: number): boolean {
    if ((vmFlags & VM_NOHUGEPAGE) !== 0) return false;
    const { enabled } = this.settings;
    return enabled === THP_ALWAYS || (enabled === THP_MADVISE && (vmFlags & VM_HUGEPAGE) !== 0);
  }

  /** MADV_COLLAPSE does not ask the sysfs setting, only MADV_NOHUGEPAGE (thp_vma_allowable_order without TVA_ENFORCE_SYSFS). */
  collapsible(vmFlags: number): boolean {
    return (vmFlags & VM_NOHUGEPAGE) === 0;
  }

  /** thp_vma_suitable_order: the whole aligned 2 MiB lie inside the VMA. */
  suitable(vma: number, addr: number): boolean {
    const block = pmdStart(addr);
    return block >= this.vmas.start(vma) && block + PMD_SIZE <= this.vmas.end(vma);
  }

  /** do_huge_pmd_anonymous_page on an empty PMD, where the last walk has stopped. @returns 0, or VM_FAULT_FALLBACK when no 2 MiB are to be had */
  fault(mm: number, vma: number, addr: number, write: boolean): number {
    const { frames, pt } = this;
    const block = pmdStart(addr);
    this.vmas.anonVmaPrepare(vma);
    let lo = this.prot.lo(vma) & ~2;
    let hi = this.prot.hi(vma);
    let pfn: number;
    if (!write) {
      pfn = frames.hugeZeroPfn();
      if (pfn < 0) return VM_FAULT_FALLBACK;
    } else {
      pfn = frames.alloc(ORDER_PMD);
      if (pfn < 0) return VM_FAULT_FALLBACK;
      frames.clear(pfn, ORDER_PMD);
      frames.newAnon(pfn);
      frames.lru?.lruCacheAdd(pfn);
      hi |= HI_DIRTY;
      if ((this.vmas.flags(vma) & VM_WRITE) !== 0) {
        hi |= HI_WRITE;
        lo &= ~PTE_RDONLY;
      }
    }
    if (pt.level === 2) pt.fillBlock(mm, block, pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    else pt.setEntry(mm, block, 2, pt.ensure(mm, block, 2), pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    return 0;
  }

  /** Puts a fresh 2 MiB page, dirty, where the PMD is empty now (map_anon_folio_pmd): writable where the VMA is (maybe_pmd_mkwrite). */
  map(mm: number, vma: number, block: number, pfn: number): void {
    this.frames.newAnon(pfn);
    this.frames.lru?.lruCacheAdd(pfn);
    this.frames.setFlags(pfn, FRAME_EXCLUSIVE);
    const writable = (this.vmas.flags(vma) & VM_WRITE) !== 0;
    const lo = this.prot.lo(vma) & ~2 & (writable ? ~PTE_RDONLY : -1);
    const hi = this.prot.hi(vma) | HI_DIRTY | (writable ? HI_WRITE : 0);
    this.pt.setEntry(mm, block, 2, this.pt.ensure(mm, block, 2), pfnLo(pfn) | lo, pfnHi(pfn) | hi);
  }
}
