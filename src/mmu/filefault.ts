/** Faults of file mappings without a driver: memfd and regular files (mm/memory.c do_fault, mm/shmem.c, mm/filemap.c). */
import type { PhysicalMemory } from "../arch/phys.js";
import type { MmRow } from "./decisions.js";
import { DEFER_PAGE_LOCK, DEFER_UFFD_MINOR, DEFER_UFFD_MISSING } from "./defer.js";
import { FILE_GUEST_MEMFD, FILE_REGULAR, type Files } from "./files.js";
import { FRAME_HWPOISON, FRAME_THP, ORDER_PAGE, type Frames } from "./frames.js";
import { gmemFaultUserMapping } from "./guestmemfd.js";
import type { PageLocks } from "./pagelock.js";
import { PMD_SIZE, pmdStart, type HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import { HI_DIRTY, HI_UFFD_WP, HI_WRITE, pfnHi, pfnLo, PTE_AF, PTE_RDONLY, uffdWpHi } from "./pte.js";
import type { ShmemHuge } from "./shmemhuge.js";
import { VM_FAULT_HWPOISON, VM_FAULT_OOM, VM_FAULT_SIGBUS } from "./vmfault.js";
import { VM_NOHUGEPAGE, VM_SHARED, VM_UFFD_MINOR, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

/** fault_around_bytes: its default, which debugfs could change. */
const FAULT_AROUND = 65536;

export class FileFault {
  /** What stays of the low word of a new entry: all, or all but AF. Of the page of the fault, and of those around it. */
  private readonly atFault: number;
  private readonly around: number;
  /** Pages of the huge page that the fault is in count as the page of the fault (set_pte_range). */
  private readonly byFolio: boolean;
  /** The page is mapped write-protected: a marker of its userfaultfd stood in its entry (vmf_orig_pte_uffd_wp). */
  private protectedPage = false;

  /** @param hardwareAf the CPU sets the access flag (cpu_has_hw_af) */
  constructor(
    private readonly frames: Frames,
    private readonly phys: PhysicalMemory,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly files: Files,
    private readonly prot: PageProtection,
    private readonly pages: PageLocks,
    readonly shmemHuge: ShmemHuge,
    private readonly d: MmRow,
    hardwareAf: boolean,
  ) {
    const old = d.prefaultedEntries;
    this.atFault = hardwareAf && old === "faulted-folio-old" ? ~PTE_AF : ~0;
    this.around = hardwareAf && (old === "others-old" || old === "other-folios-old") ? ~PTE_AF : ~0;
    this.byFolio = old === "faulted-folio-old" || old === "other-folios-old";
  }

  /** The same for the entry of a page that a userfaultfd has write-protected while it was not mapped. */
  faultProtected(mm: number, vma: number, addr: number, write: boolean): number {
    this.protectedPage = true;
    const r = this.fault(mm, vma, addr, write);
    this.protectedPage = false;
    return r;
  }

  /** do_fault on an empty entry: do_read_fault, do_cow_fault or do_shared_fault. @returns VM_FAULT_*, or DEFER_* */
  fault(mm: number, vma: number, addr: number, write: boolean): number {
    const { frames, vmas } = this;
    const page = addr - (addr % 4096);
    const pgoff = vmas.pageIndex(vma, page);
    const file = vmas.file(vma);
    // kvm_gmem_vm_ops has no map_pages.
    if (!write && this.files.kind(file) !== FILE_GUEST_MEMFD && this.mapAround(mm, vma, page)) return 0;
    const uffd = vmas.flags(vma) & (VM_UFFD_MISSING | VM_UFFD_MINOR);
    if (uffd !== 0 && pgoff * 4096 < this.files.size(file)) {
      const cached = this.files.cache.find(file, pgoff) >= 0;
      if (!cached && (uffd & VM_UFFD_MISSING) !== 0) return DEFER_UFFD_MISSING;
      if (cached && (uffd & VM_UFFD_MINOR) !== 0) return DEFER_UFFD_MINOR;
    }
    if (this.pages.blockLockedByOther(file, pgoff)) return DEFER_PAGE_LOCK;
    const pfn = this.cachedPage(file, pgoff, vma, page);
    if (pfn < 0) return -pfn;
    const of = frames.flags(pfn);
    if ((of & FRAME_HWPOISON) !== 0) return VM_FAULT_HWPOISON;
    const shared = (vmas.flags(vma) & VM_SHARED) !== 0;
    if (write && !shared) return this.cowFault(mm, vma, page, pfn);
    if ((of & FRAME_THP) !== 0 && this.pt.level < 3 && this.mapsWhole(pfn) && this.doSetPmd(mm, vma, page, frames.head(pfn), write))
      return 0;
    this.map(mm, vma, page, 3, pfn, write, this.atFault);
    return 0;
  }

  /** The page of the cache gets an entry: set_pte_range, or do_set_pmd's. @param keep what stays of the low word's attributes */
  private map(mm: number, vma: number, at: number, level: number, pfn: number, write: boolean, keep: number): void {
    this.frames.addMapping(pfn);
    let lo = this.prot.lo(vma) & keep;
    let hi = this.prot.hi(vma);
    if (write) {
      lo &= ~PTE_RDONLY;
      hi |= HI_WRITE | HI_DIRTY;
      this.frames.setDirty(pfn);
    }
    if (this.protectedPage) {
      lo |= PTE_RDONLY;
      hi = uffdWpHi(hi);
    }
    this.pt.setEntry(mm, at, level, this.pt.ensure(mm, at, level), pfnLo(pfn) | lo, pfnHi(pfn) | hi);
  }

  /**
   * do_fault_around, filemap_map_pages: a read fault maps what the cache has of the 16 pages around it, where nothing is mapped yet.
   * @returns whether the page itself is among them
   */
  private mapAround(mm: number, vma: number, page: number): boolean {
    const { vmas, files, frames, pt } = this;
    if ((vmas.flags(vma) & (VM_UFFD_WP | VM_UFFD_MINOR)) !== 0) return false; // uffd_disable_fault_around
    const file = vmas.file(vma);
    const start = Math.max(page - (page % FAULT_AROUND), vmas.start(vma));
    const end = Math.min(
      start + FAULT_AROUND,
      vmas.end(vma),
      pmdStart(page) + PMD_SIZE,
      vmas.addressOf(vma, Math.ceil(files.size(file) / 4096)),
    );
    const target = files.cache.find(file, vmas.pageIndex(vma, page));
    const folio = this.byFolio && target >= 0 && (frames.flags(target) & FRAME_THP) !== 0 ? frames.head(target) : -1;
    let mapped = false;
    for (let at = start; at < end; at += 4096) {
      const pgoff = vmas.pageIndex(vma, at);
      const pfn = files.cache.find(file, pgoff);
      if (pfn < 0 || (frames.flags(pfn) & FRAME_HWPOISON) !== 0 || this.pages.blockLockedByOther(file, pgoff)) continue;
      pt.walk(mm, at);
      // filemap_map_pmd
      if (pt.level < 3 && (frames.flags(pfn) & FRAME_THP) !== 0 && this.mapsWhole(pfn))
        if (this.doSetPmd(mm, vma, page, frames.head(pfn), false)) return true;
      if (pt.level === 3 && !pt.none) continue;
      const faulted = at === page || (folio >= 0 && frames.head(pfn) === folio);
      this.map(mm, vma, at, 3, pfn, false, faulted ? this.atFault : this.around);
      if (at === page) mapped = true;
    }
    // The walk stands where the fault is: GUP looks at that entry next.
    pt.walk(mm, page);
    return mapped;
  }

  /** May a fault on this page of a huge page map it whole? */
  private mapsWhole(pfn: number): boolean {
    return this.d.filePmdHead === "any" || pfn === this.frames.head(pfn);
  }

  /**
   * do_set_pmd: one entry for the cache's huge page, where the PMD is empty and the whole block lies in the VMA, aligned in both.
   * @param head its first frame @returns false where pages must do
   */
  doSetPmd(mm: number, vma: number, addr: number, head: number, write: boolean): boolean {
    const block = pmdStart(addr);
    if (!this.suitable(vma, block)) return false;
    if ((this.vmas.flags(vma) & VM_NOHUGEPAGE) !== 0 && this.d.filePmdNohugepage === "pages") return false;
    this.map(mm, vma, block, 2, head, write, ~2); // a block, not a table
    return true;
  }

  /** transhuge_vma_suitable, thp_vma_suitable_order: an aligned 2 MiB of a file inside a VMA that is aligned to it. */
  suitable(vma: number, block: number): boolean {
    const { vmas } = this;
    const start = vmas.start(vma);
    return block >= start && block + PMD_SIZE <= vmas.end(vma) && (start / 4096 - vmas.pgoff(vma)) % 512 === 0;
  }

  /** do_cow_fault: a private mapping gets its own copy at once; nothing was mapped, so nobody is told. */
  private cowFault(mm: number, vma: number, page: number, from: number): number {
    const { frames, vmas } = this;
    vmas.anonVmaPrepare(vma);
    const pfn = frames.alloc(ORDER_PAGE);
    if (pfn < 0) return VM_FAULT_OOM;
    frames.copy(pfn, from, ORDER_PAGE);
    frames.newAnon(pfn);
    frames.lru?.lruCacheAdd(pfn);
    const writable = (vmas.flags(vma) & VM_WRITE) !== 0 && !this.protectedPage;
    const lo = this.prot.lo(vma) & ~(writable ? PTE_RDONLY : 0) & this.atFault;
    const hi = this.prot.hi(vma) | (writable ? HI_WRITE : 0) | HI_DIRTY | (this.protectedPage ? HI_UFFD_WP : 0);
    this.pt.setEntry(mm, page, 3, this.pt.ensure(mm, page, 3), pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    return 0;
  }

  /** The page of a file at a page offset, read in or made if it was not resident. @returns pfn, or minus VM_FAULT_SIGBUS or VM_FAULT_OOM */
  private cachedPage(file: number, pgoff: number, vma: number, addr: number): number {
    const { files } = this;
    if (pgoff * 4096 >= files.size(file)) return -VM_FAULT_SIGBUS;
    if (files.kind(file) === FILE_GUEST_MEMFD) return gmemFaultUserMapping(files, file, pgoff);
    const found = files.cache.find(file, pgoff);
    if (found >= 0) return found;
    const huge = this.shmemHuge.fault(file, pgoff, this.vmas.flags(vma), this.suitable(vma, pmdStart(addr)));
    if (huge >= 0) return huge;
    const pfn = files.addFolio(file, pgoff);
    if (pfn < 0) return -VM_FAULT_OOM;
    if (files.kind(file) === FILE_REGULAR) this.readPage(file, pgoff, pfn);
    return pfn;
  }

  /** read_folio of a regular file. */
  private readPage(file: number, pgoff: number, pfn: number): void {
    for (let o = 0; o < 4096; o += 8) {
      const at = pgoff * 4096 + o;
      this.phys.write(pfn * 4096 + o, 8, this.files.contentWord(file, at), this.files.contentWord(file, at + 4));
    }
  }
}
