/**
 * How entries for page frames without a page of their own get into the tables:
 * mm/memory.c remap_pfn_range, vmf_insert_pfn, mm/huge_memory.c vmf_insert_pfn_pmd.
 * The first mapping of a page tells no notifier.
 */
import { EBUSY } from "../sim/errno.js";
import { VM_FAULT_FALLBACK, VM_FAULT_NOPAGE } from "./vmfault.js";
import type { Frames } from "./frames.js";
import type { HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import { HI_DIRTY, HI_SPECIAL, HI_WRITE, pfnHi, pfnLo, PTE_RDONLY } from "./pte.js";
import type { Vmas } from "./vmas.js";

export class PfnInsert {
  constructor(
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly prot: PageProtection,
  ) {}

  /**
   * remap_pfn_range without its changes to the VMA: maps a whole range at once, pages only.
   * @param size bytes, a multiple of 4096
   * @returns 0, or -EBUSY where an entry is not empty: the kernel's BUG_ON(!pte_none), the caller crashes the host
   */
  remapPfnRange(mm: number, vma: number, addr: number, pfn: number, size: number): number {
    const lo = this.prot.lo(vma);
    const hi = this.prot.hi(vma) | HI_SPECIAL;
    const { pt } = this;
    const end = addr + size;
    for (let a = addr; a < end;) {
      let e = pt.ensure(mm, a, 3);
      for (let i = (e & 1023) >>> 1; i < 512 && a < end; i++, e += 2, a += 4096, pfn++) {
        if ((pt.tables.words.a[e]! | pt.tables.words.a[e + 1]!) !== 0) return -EBUSY;
        pt.setEntry(mm, a, 3, e, pfnLo(pfn) | lo, pfnHi(pfn) | hi);
      }
    }
    return 0;
  }

  /** vmf_insert_pfn: one page; an entry that is there already is left as it is. @returns VM_FAULT_NOPAGE */
  vmfInsertPfn(mm: number, vma: number, addr: number, pfn: number): number {
    const { pt } = this;
    if (!pt.standsOn(mm, addr)) pt.walk(mm, addr);
    if (pt.level < 3) {
      if (pt.leafLevel >= 0) return VM_FAULT_NOPAGE;
      pt.pteAlloc(mm, addr);
    }
    if (!pt.none) return VM_FAULT_NOPAGE;
    pt.fill(mm, addr, pfnLo(pfn) | this.prot.lo(vma), pfnHi(pfn) | this.prot.hi(vma) | HI_SPECIAL);
    return VM_FAULT_NOPAGE;
  }

  /**
   * vmf_insert_pfn_pmd: one 2 MiB leaf; addr and pfn are multiples of it.
   * @param write the fault was a write: the leaf is writable and dirty whatever vm_page_prot says
   * @returns VM_FAULT_NOPAGE; FALLBACK where a table of pages is in the way
   */
  vmfInsertPfnPmd(mm: number, vma: number, addr: number, pfn: number, write = false): number {
    const { pt } = this;
    pt.walk(mm, addr);
    if (pt.level === 3) return VM_FAULT_FALLBACK;
    const e = pt.ensure(mm, addr, 2);
    if ((pt.tables.words.a[e]! | pt.tables.words.a[e + 1]!) !== 0) return VM_FAULT_NOPAGE;
    let lo = this.prot.lo(vma) & ~2;
    let hi = this.prot.hi(vma) | HI_SPECIAL;
    if (write) {
      lo &= ~PTE_RDONLY;
      hi |= HI_WRITE | HI_DIRTY;
    }
    pt.setEntry(mm, addr, 2, e, pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    return VM_FAULT_NOPAGE;
  }

  /** vm_insert_page into a VM_MIXEDMAP VMA: a page with a struct page; its reference is counted. */
  vmInsertPage(mm: number, vma: number, addr: number, pfn: number): number {
    const { pt } = this;
    const e = pt.ensure(mm, addr, 3);
    if ((pt.tables.words.a[e]! | pt.tables.words.a[e + 1]!) !== 0) return -EBUSY;
    this.frames.addMapping(pfn);
    pt.setEntry(this.vmas.mm(vma), addr, 3, e, pfnLo(pfn) | this.prot.lo(vma), pfnHi(pfn) | this.prot.hi(vma));
    return 0;
  }
}
