/**
 * Faults of hugetlb mappings: mm/hugetlb.c hugetlb_fault, hugetlb_no_page, hugetlb_wp.
 * A page of 64 KiB or 32 MiB is a run of 16 entries with the contiguous bit.
 */
import type { Files } from "./files.js";
import { FRAME_ANON, type Frames } from "./frames.js";
import type { HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import { HI_CONT, HI_DIRTY, HI_UFFD_WP, HI_WRITE, namesPoison, noneMostly, pfnHi, pfnLo, PTE_AF, PTE_RDONLY, uffdWpHi } from "./pte.js";
import { DEFER_HUGETLB_COW, DEFER_UFFD_MINOR, DEFER_UFFD_MISSING, DEFER_UFFD_WP } from "./defer.js";
import { VM_FAULT_HWPOISON_LARGE, VM_FAULT_SIGBUS } from "./vmfault.js";
import { VM_MAYSHARE, VM_SHARED, VM_UFFD_MINOR, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

export class Hugetlb {
  constructor(
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly files: Files,
    private readonly prot: PageProtection,
  ) {}

  /** Bytes of the VMA's huge pages (huge_page_size(hstate_vma(vma))). */
  pageSize(vma: number): number {
    return this.files.hugetlbSize(this.vmas.file(vma));
  }
  /** log2 of the huge page in 4 KiB pages. */
  order(vma: number): number {
    return Math.log2(this.pageSize(vma)) - 12;
  }
  /** First address of the huge page that holds addr. */
  block(vma: number, addr: number): number {
    return addr - (addr % this.pageSize(vma));
  }

  /** hugetlb_fault. @returns VM_FAULT_*, or DEFER_HUGETLB_COW */
  fault(mm: number, vma: number, addr: number, write: boolean): number {
    const { pt } = this;
    if (!pt.walk(mm, addr)) {
      if (noneMostly(pt.lo, pt.hi)) return this.noPage(mm, vma, addr, write, !pt.none);
      return namesPoison(pt.lo, pt.hi) ? VM_FAULT_HWPOISON_LARGE | VM_FAULT_SIGBUS : 0;
    }
    if (write && !pt.writable) return this.wp(mm, vma, addr);
    this.touch(mm, vma, addr, write);
    return 0;
  }

  /** hugetlb_no_page: page cache or pool, then a first mapping. @param protectedPage the entry has the mark of a protected page */
  private noPage(mm: number, vma: number, addr: number, write: boolean, protectedPage: boolean): number {
    const { frames, files, vmas } = this;
    const size = this.pageSize(vma);
    const order = this.order(vma);
    const block = addr - (addr % size);
    const file = vmas.file(vma);
    const pgoff = vmas.pageIndex(vma, block);
    if (pgoff * 4096 >= files.size(file)) return VM_FAULT_SIGBUS;
    const flags = vmas.flags(vma);
    const mayShare = (flags & (VM_SHARED | VM_MAYSHARE)) !== 0;
    let pfn = files.cache.find(file, pgoff);
    const cached = pfn >= 0;
    if (!cached && (flags & VM_UFFD_MISSING) !== 0) return DEFER_UFFD_MISSING;
    if (cached && frames.isHwpoison(pfn)) return VM_FAULT_HWPOISON_LARGE;
    if (cached && (flags & VM_UFFD_MINOR) !== 0) return DEFER_UFFD_MINOR;
    if (!cached) {
      pfn = frames.hugetlbAlloc(order);
      if (pfn < 0) return VM_FAULT_SIGBUS;
      frames.clear(pfn, order);
      if (mayShare) {
        frames.setFile(pfn);
        files.cache.put(file, pgoff, pfn);
      }
    }
    let lo = this.prot.lo(vma);
    let hi = this.prot.hi(vma);
    if (!cached && !mayShare) {
      vmas.anonVmaPrepare(vma);
      frames.newAnon(pfn);
      // The write that follows finds the page exclusive and keeps it (hugetlb_wp): one entry is written for both.
      if (write) {
        hi |= HI_WRITE | HI_DIRTY;
        lo &= ~PTE_RDONLY;
      }
    } else {
      frames.addMapping(pfn);
      // make_huge_pte asks the VMA, not vm_page_prot.
      if ((flags & (VM_SHARED | VM_WRITE)) === (VM_SHARED | VM_WRITE)) hi |= HI_WRITE;
      if (write && (hi & HI_WRITE) !== 0) {
        hi |= HI_DIRTY;
        lo &= ~PTE_RDONLY;
      }
    }
    if (protectedPage) {
      lo |= PTE_RDONLY;
      hi = uffdWpHi(hi);
    }
    this.set(mm, block, order, pfn, lo, hi);
    // hugetlb_wp: a protected page is not copied; the access comes again.
    return write && !protectedPage && (hi & HI_WRITE) === 0 ? DEFER_HUGETLB_COW : 0;
  }

  /** hugetlb_wp, the part that needs no copy: a page that only this mapping has becomes writable in place. */
  private wp(mm: number, vma: number, addr: number): number {
    const { pt, frames } = this;
    if ((pt.hi & HI_UFFD_WP) !== 0 && (this.vmas.flags(vma) & VM_UFFD_WP) !== 0) return DEFER_UFFD_WP;
    const shared = (this.vmas.flags(vma) & VM_SHARED) !== 0;
    const own = (frames.flags(pt.leafPfn) & FRAME_ANON) !== 0 && frames.mapcount(pt.leafPfn) === 1;
    if (!shared && !own) return DEFER_HUGETLB_COW;
    this.rewrite(mm, vma, addr, pt.lo & ~PTE_RDONLY, pt.hi | HI_WRITE | HI_DIRTY);
    return 0;
  }

  /** huge_ptep_set_access_flags. */
  private touch(mm: number, vma: number, addr: number, write: boolean): void {
    const { pt } = this;
    let { lo, hi } = pt;
    lo |= PTE_AF;
    if (write) {
      lo &= ~PTE_RDONLY;
      hi |= HI_DIRTY;
    }
    if (lo !== pt.lo || hi !== pt.hi) this.rewrite(mm, vma, addr, lo, hi);
    else pt.tlb.flushPage(mm, addr);
  }

  /** Changes attributes of a present huge page; output addresses stay. */
  private rewrite(mm: number, vma: number, addr: number, lo: number, hi: number): void {
    const block = this.block(vma, addr);
    this.pt.walk(mm, block);
    const order = this.order(vma);
    const pfn = this.pt.leafPfn;
    // A contiguous run must be broken before any of it changes.
    if ((hi & HI_CONT) !== 0) this.clear(mm, block, order);
    this.set(mm, block, order, pfn, lo & 0xfff, hi & ~0xffff);
  }

  /** set_huge_pte_at: one entry, or a run of 16. */
  set(mm: number, block: number, order: number, pfn: number, lo: number, hi: number): void {
    const level = order >= 18 ? 1 : order >= 9 ? 2 : 3;
    const run = order === 4 || order === 13 ? 16 : 1;
    const step = run === 1 ? 0 : order === 4 ? 1 : 512;
    const type = level === 3 ? lo & 0xfff : lo & 0xffd;
    const attr = run === 1 ? hi & ~HI_CONT : hi | HI_CONT;
    let e = this.pt.ensure(mm, block, level);
    for (let i = 0; i < run; i++, e += 2) {
      const p = pfn + i * step;
      this.pt.setEntry(mm, block + i * step * 4096, level, e, pfnLo(p) | type, pfnHi(p) | attr);
    }
  }

  /** set_huge_pte_at of an entry that maps nothing: in every entry of the page. */
  setMarker(mm: number, block: number, order: number, lo: number, hi: number): void {
    const level = order >= 18 ? 1 : order >= 9 ? 2 : 3;
    const run = order === 4 || order === 13 ? 16 : 1;
    const step = order === 4 ? 4096 : 2097152;
    let e = this.pt.ensure(mm, block, level);
    for (let i = 0; i < run; i++, e += 2) this.pt.setEntry(mm, block + i * step, level, e, lo, hi);
  }

  /** huge_ptep_clear_flush. */
  clear(mm: number, block: number, order: number): void {
    this.setMarker(mm, block, order, 0, 0);
    this.pt.tlb.flushRange(mm, block, block + 2 ** order * 4096);
  }
}
