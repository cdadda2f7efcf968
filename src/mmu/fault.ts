/**
 * The host's fault handler: mm/memory.c handle_mm_fault and below.
 *
 * `faultNow` is everything that needs neither the notifiers nor a driver, in one straight line; GUP and
 * the exception path call it directly. What it cannot finish it answers with a DEFER_* code, and the
 * activity `handleMmFault` does that. Results are VM_FAULT_*. The caller holds the mmap_lock for
 * reading (or the VMA's lock) and has checked the VMA's permissions. VM_FAULT_RETRY means that the
 * mmap_lock was dropped.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { Sim } from "../sim/sim.js";
import { vmaKernelPageSize } from "./context.js";
import type { MmRow } from "./decisions.js";
import {
  DEFER_HUGE_COPY,
  DEFER_HUGETLB_COW,
  DEFER_MIGRATION,
  DEFER_OPS_FAULT,
  DEFER_OPS_HUGE,
  DEFER_PAGE_LOCK,
  DEFER_PTL,
  DEFER_SPLIT,
  DEFER_UFFD_MINOR,
  DEFER_UFFD_MISSING,
  DEFER_UFFD_WP,
  DEFER_WP_COPY,
} from "./defer.js";
import { FileFault } from "./filefault.js";
import type { Files } from "./files.js";
import { FRAME_ANON, FRAME_EXCLUSIVE, FRAME_KSM, FRAME_SWAPCACHE, ORDER_PAGE, ORDER_PMD, type Frames } from "./frames.js";
import { HugeAnon } from "./hugeanon.js";
import { Hugetlb } from "./hugetlb.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import { PMD_SIZE, pmdStart, type HostPageTables } from "./pagetable.js";
import {
  HI_DIRTY,
  HI_SPECIAL,
  HI_UFFD_WP,
  HI_WRITE,
  namesPoison,
  pfnHi,
  pfnLo,
  protLo,
  PTE_AF,
  PTE_RDONLY,
  SWP_MARKER,
  SWP_SWAP,
  swapEntryPfn,
  swapEntryType,
} from "./pte.js";
import type { PageLocks } from "./pagelock.js";
import type { SplitHugePmd } from "./splithuge.js";
import { ShmemHuge } from "./shmemhuge.js";
import { ThpSettings, type ShmemPolicy, type ThpPolicy } from "./thpsettings.js";
import {
  FAULT_FLAG_TRIED,
  FAULT_FLAG_UNSHARE,
  FAULT_FLAG_USER,
  FAULT_FLAG_VMA_LOCK,
  FAULT_FLAG_WRITE,
  VM_FAULT_FALLBACK,
  VM_FAULT_HWPOISON,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
  VM_FAULT_SIGSEGV,
} from "./vmfault.js";
import { PAGE_PROT_WRITECOMBINE, VM_HUGETLB, VM_SHARED, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE } from "./vmflags.js";
import { mappedOnlyHere } from "./rmap.js";
import type { UserfaultContexts } from "./uffdcontexts.js";
import type { Vmas } from "./vmas.js";
import type { Zap } from "./zap.js";

export * from "./vmfault.js";

const MM = ARG;
const ADDR = ARG + 1;
const FLAGS = ARG + 2;
const VMA = ARG + 3;
/** wp copies: the new page, and the entry as it was when the copy was made. */
const NEW = ARG + 4;
const OLD_LO = ARG + 5;
const OLD_HI = ARG + 6;
const WORDS = 7;

/** Phases of handleMmFault, as offsets. */
const WP_COPY_LOCKED = 1;
const WP_SET_PTE = 2;
const HUGE_COPY_LOCKED = 3;
const AFTER_SPLIT = 4;
const AFTER_OPS_HUGE = 5;
const AFTER_OPS_FAULT = 6;
const HUGETLB_COW_LOCKED = 7;
const DONE = 8;
const USERFAULT_WAIT = 9;

export interface FaultOptions {
  /** /sys/kernel/mm/transparent_hugepage/enabled; default "always". */
  readonly thp?: ThpPolicy;
  /** /sys/kernel/mm/transparent_hugepage/shmem_enabled; default "never". */
  readonly shmem?: ShmemPolicy;
  /** The CPU sets the access flag (FEAT_HAFDBS); false if absent. */
  readonly hardwareAf?: boolean;
}

export class HostFault {
  /** (mm, addr, FAULT_FLAG_*) -> R0 VM_FAULT_* (0: mapped). The caller holds the mmap_lock for reading. */
  readonly handleMmFault: Activity;
  /** The same begun with what `faultNow` has just answered: a straight run does not ask it twice. */
  private readonly handleDeferred: Activity;
  /** Of `deferred`, read at once. */
  private deferredVma = -1;
  private deferredFor = 0;
  readonly thp: ThpSettings;
  readonly huge: HugeAnon;
  readonly hugetlb: Hugetlb;
  readonly fileFault: FileFault;
  /** Takes the faults of registered ranges; it puts itself here when the machine is built. */
  userfaults: UserfaultContexts | undefined;
  /** vm_fault.address of the straight line: as an argument above 2^31 it would be allocated at each call. */
  private address = 0;

  constructor(
    private readonly sim: Sim,
    phys: PhysicalMemory,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly files: Files,
    private readonly notifiers: MmuNotifiers,
    private readonly zap: Zap,
    private readonly split: SplitHugePmd,
    private readonly pages: PageLocks,
    private readonly d: MmRow,
    options: FaultOptions = {},
  ) {
    this.thp = new ThpSettings(sim, options.thp ?? "always", options.shmem ?? "never", d);
    this.huge = new HugeAnon(frames, pt, vmas, zap.prot, this.thp);
    this.hugetlb = new Hugetlb(frames, pt, vmas, files, zap.prot);
    this.fileFault = new FileFault(
      frames,
      phys,
      pt,
      vmas,
      files,
      zap.prot,
      pages,
      new ShmemHuge(frames, files, this.thp, d),
      d,
      options.hardwareAf ?? false,
    );
    this.handleMmFault = sim.agents.activity("handleMmFault", "mm/memory.c handle_mm_fault", WORDS, [
      ["handleMmFault", (f) => this.handle(f)],
      ["wpPageCopy", (f) => this.wpCopyLocked(f)],
      ["setPteAtNotify", (f) => this.wpSetPte(f)],
      ["doHugePmdWpPage", (f) => this.hugeCopyLocked(f)],
      ["afterSplit", (f) => this.handle(f)],
      ["afterHugeFault", this.afterOpsHuge],
      ["afterFault", this.afterOpsFault],
      ["hugetlbWp", (f) => this.hugetlbCowLocked(f)],
      ["done", (f) => sim.agents.ret(f, 0)],
      ["handleUserfault", (f) => this.userfaultWait(f)],
    ]);
    this.handleDeferred = sim.agents.from(this.handleMmFault, 0, (f) => this.handleAnswered(f));
  }

  // ---- the straight line -----------------------------------------------------------------------

  /**
   * __handle_mm_fault up to where it would call out. @param flags FAULT_FLAG_*
   * @returns VM_FAULT_* (0: mapped), or DEFER_* (negative): call `handleMmFault`
   */
  faultNow(mm: number, vma: number, addr: number, flags: number): number {
    const write = (flags & FAULT_FLAG_WRITE) !== 0;
    const vmFlags = this.vmas.flags(vma);
    if ((vmFlags & VM_HUGETLB) !== 0) return this.pt.contended(mm, addr, addr + 1) ? DEFER_PTL : this.hugetlb.fault(mm, vma, addr, write);
    this.pt.walk(mm, addr);
    return this.faultWalked(mm, vma, vmFlags, addr, write);
  }

  /** The same for a VMA without hugetlb whose tables the caller has just walked at addr. */
  readonly faultWalked = (mm: number, vma: number, vmFlags: number, addr: number, write: boolean): number => {
    if (this.pt.locks.any && this.pt.locks.taken(this.pt.entry)) return DEFER_PTL;
    this.address = addr;
    if (this.pt.level < 3) {
      const r = this.pmdFault(mm, vma, vmFlags, write);
      if (r !== VM_FAULT_FALLBACK) return r;
    }
    return this.pteFault(mm, vma, vmFlags, write);
  };

  /** The PMD step: create_huge_pmd or wp_huge_pmd. @returns FALLBACK: go on with a page */
  private pmdFault(mm: number, vma: number, vmFlags: number, write: boolean): number {
    const { pt, address: addr } = this;
    if (pt.none) {
      const file = this.vmas.file(vma);
      if (file < 0) {
        if (!this.huge.allowed(vmFlags) || !this.huge.suitable(vma, addr)) return VM_FAULT_FALLBACK;
        if ((vmFlags & VM_UFFD_MISSING) !== 0) return DEFER_UFFD_MISSING;
        return this.huge.fault(mm, vma, addr, write);
      }
      if (this.d.hugePfnmap && this.huge.allowed(vmFlags) && this.files.vmOps(file)?.hugeFault !== undefined) return DEFER_OPS_HUGE;
      return VM_FAULT_FALLBACK;
    }
    if (pt.leafLevel < 0) return DEFER_MIGRATION;
    if (write && !pt.writable) return this.wpHugePmd(mm, vma, vmFlags, addr);
    this.setAccessFlags(mm, addr, write);
    return 0;
  }

  /** wp_huge_pmd, do_huge_pmd_wp_page. */
  private wpHugePmd(mm: number, vma: number, vmFlags: number, addr: number): number {
    const { pt, frames } = this;
    if (this.vmas.file(vma) >= 0) {
      if ((vmFlags & VM_SHARED) === 0) return DEFER_SPLIT;
      this.makeWritable(mm, pmdStart(addr));
      return 0;
    }
    if ((pt.hi & HI_UFFD_WP) !== 0 && (vmFlags & VM_UFFD_WP) !== 0) return DEFER_UFFD_WP;
    if (frames.isHugeZeroPage(pt.leafPfn)) return this.d.hugeZeroPageWrite === "replace" ? DEFER_HUGE_COPY : DEFER_SPLIT;
    if (this.canReuse(mm, addr, true)) {
      frames.setExclusive(pt.leafPfn, true, true);
      this.makeWritable(mm, pmdStart(addr));
      return 0;
    }
    return this.d.thpCow === "copyHuge" ? DEFER_HUGE_COPY : DEFER_SPLIT;
  }

  /** handle_pte_fault. The last walk stopped at the PMD or at the entry of addr. */
  private readonly pteFault = (mm: number, vma: number, vmFlags: number, write: boolean): number => {
    const { pt, address: addr } = this;
    if (pt.level < 3 || pt.none) {
      const file = this.vmas.file(vma);
      if (file < 0) return this.doAnonymousPage(mm, vma, vmFlags, write);
      return this.files.isDevice(file) ? DEFER_OPS_FAULT : this.fileFault.fault(mm, vma, addr, write);
    }
    if (pt.leafLevel < 0) return this.doSwapPage(mm, vma, vmFlags, addr, write);
    if (write && !pt.writable) return this.doWpPage(mm, vmFlags, addr);
    this.setAccessFlags(mm, addr, write);
    return 0;
  };

  /** do_anonymous_page: a read maps the zero page, a write a fresh page. */
  private readonly doAnonymousPage = (mm: number, vma: number, vmFlags: number, write: boolean): number => {
    if ((vmFlags & VM_UFFD_MISSING) !== 0) return DEFER_UFFD_MISSING;
    const { frames, pt, address } = this;
    const pageProt = this.vmas.pageProt(vma);
    let lo = protLo(vmFlags, pageProt);
    let hi = this.zap.prot.hiOf(vma, vmFlags, pageProt);
    let pfn = frames.zeroPfn;
    if (!write) hi |= HI_SPECIAL;
    else {
      this.vmas.anonVmaPrepare(vma);
      pfn = frames.allocAnon();
      if (pfn < 0) return VM_FAULT_OOM;
      // Cleared through the linear map: a page of a non-cacheable mapping must leave the cache first.
      if (this.d.madviseDontcache && pageProt === PAGE_PROT_WRITECOMBINE) frames.flushDcache(pfn);
      hi |= HI_DIRTY;
      if ((vmFlags & VM_WRITE) !== 0) {
        hi |= HI_WRITE;
        lo &= ~PTE_RDONLY;
      }
    }
    if (pt.level < 3) pt.pteAlloc(mm, address);
    pt.fill(mm, address, pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    return 0;
  };

  /** do_swap_page: what a non-present entry stands for. */
  private doSwapPage(mm: number, vma: number, vmFlags: number, addr: number, write: boolean): number {
    const { pt, frames } = this;
    const type = swapEntryType(pt.lo);
    if (namesPoison(pt.lo, pt.hi)) return VM_FAULT_HWPOISON;
    if (type === SWP_MARKER) return this.handleMarker(mm, vma, vmFlags, addr, write);
    if (type !== SWP_SWAP) return DEFER_MIGRATION;
    const pfn = swapEntryPfn(pt.lo, pt.hi);
    if (frames.isHwpoison(pfn)) return VM_FAULT_HWPOISON;
    // reuse_swap_page, and what followed it: never a page of KSM.
    const mine = frames.refcount(pfn) === 1 && !frames.isKsm(pfn);
    frames.addRmap(pfn); // the entry's reference is the mapping's now
    let lo = this.zap.prot.lo(vma);
    // pte_swp_uffd_wp: protected before it was swapped out, protected now.
    const protectedPage = (pt.hi & HI_UFFD_WP) !== 0 && (vmFlags & VM_UFFD_WP) !== 0;
    let hi = this.zap.prot.hi(vma) | (pt.hi & HI_UFFD_WP);
    if (mine) frames.setFlags(pfn, FRAME_EXCLUSIVE);
    if (mine && write && !protectedPage && (vmFlags & VM_WRITE) !== 0) {
      hi |= HI_WRITE | HI_DIRTY;
      lo &= ~PTE_RDONLY;
    }
    pt.setEntry(mm, addr - (addr % 4096), 3, pt.entry, pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    pt.walk(mm, addr);
    return write && (!mine || protectedPage) ? this.doWpPage(mm, vmFlags, addr) : 0;
  }

  /** handle_pte_marker of a protected page of a file: it is mapped protected, or the mark has lost its meaning (pte_marker_clear). */
  private handleMarker(mm: number, vma: number, vmFlags: number, addr: number, write: boolean): number {
    const { pt } = this;
    if ((vmFlags & VM_UFFD_WP) !== 0) return this.fileFault.faultProtected(mm, vma, addr, write);
    pt.setEntry(mm, addr, 3, pt.entry, 0, 0);
    return 0;
  }

  /** do_wp_page: reuse in place (no event), or a copy. */
  private doWpPage(mm: number, vmFlags: number, addr: number): number {
    const { pt, frames } = this;
    if ((pt.hi & HI_UFFD_WP) !== 0 && (vmFlags & VM_UFFD_WP) !== 0) return DEFER_UFFD_WP;
    if ((vmFlags & (VM_SHARED | VM_WRITE)) === (VM_SHARED | VM_WRITE)) {
      // wp_pfn_shared (pfn_mkwrite) and wp_page_shared
      if (!pt.special) frames.setDirty(pt.leafPfn);
      this.makeWritable(mm, addr);
      return 0;
    }
    if (pt.special || (frames.flags(pt.leafPfn) & FRAME_ANON) === 0) return DEFER_WP_COPY;
    if (this.d.cowReuse === "mapcount" && this.lockedElsewhere(pt.leafPfn)) return DEFER_PAGE_LOCK;
    if (!this.canReuse(mm, addr, false)) return DEFER_WP_COPY;
    frames.clearFlags(pt.leafPfn, FRAME_KSM);
    frames.setExclusive(pt.leafPfn, true, false);
    frames.setFolded(pt.leafPfn, false);
    this.makeWritable(mm, addr);
    return 0;
  }

  /** do_wp_page waits for the page's lock (lock_page) before it counts mappings; since references count, it copies what is locked. */
  private lockedElsewhere(pfn: number): boolean {
    return !this.frames.isKsm(pfn) && this.pages.lockedByOther(this.frames.head(pfn));
  }

  /** reuse_swap_page, page_count == 1, or PageAnonExclusive, for the leaf of the last walk. @param huge it maps the whole compound page */
  private canReuse(mm: number, addr: number, huge: boolean): boolean {
    const { frames } = this;
    const pfn = this.pt.leafPfn;
    const partOfThp = !huge && frames.isCompound(pfn);
    if (frames.isKsm(pfn)) return this.d.ksmReuse && this.reuseKsm(pfn);
    switch (this.d.cowReuse) {
      case "mapcount":
        if (partOfThp) return mappedOnlyHere(this.pt, frames, mm, addr);
        return frames.mapcount(pfn) === 1 && ((frames.flags(pfn) & FRAME_SWAPCACHE) === 0 || frames.refcount(pfn) === 1);
      case "refcount":
        return this.pageCount(pfn) === 1;
      default:
        if (frames.isExclusive(pfn)) return true;
        if (partOfThp && this.d.cowReuseLarge !== "lone") return this.d.cowReuseLarge === "whole" && this.reuseLarge(mm, addr);
        return huge ? frames.refcount(pfn) === 1 : this.reuseAnon(pfn);
    }
  }

  /** wp_can_reuse_anon_folio: with little hope nothing is tried; else a batch of this CPU may have the reference too many of a page on no list. */
  private reuseAnon(pfn: number): boolean {
    const { frames } = this;
    const offLru = frames.lru?.onLru(pfn) === false;
    if (this.pageCount(pfn) > (this.d.cowReuseHope === "two" ? 3 : offLru ? 2 : 1)) return false;
    if (offLru) frames.lru!.lruAddDrain();
    return this.pageCount(pfn) === 1;
  }

  /** page_count, the references of the batches for the LRU lists too. */
  private pageCount(pfn: number): number {
    const { frames } = this;
    return frames.refcount(pfn) + (frames.lru === undefined ? 0 : frames.lru.references(pfn));
  }

  /** reuse_ksm_page: nobody else maps or holds it, and it has not been swapped out. */
  private reuseKsm(pfn: number): boolean {
    return this.pageCount(pfn) === 1 && (this.frames.flags(pfn) & FRAME_SWAPCACHE) === 0;
  }

  /** __wp_can_reuse_large_anon_folio: more than one page of it is mapped, all by this address space, and each reference is a mapping's. */
  private reuseLarge(mm: number, addr: number): boolean {
    const { frames } = this;
    const head = frames.head(this.pt.leafPfn);
    const mapped = frames.mapcount(head);
    return mapped > 1 && frames.refcount(head) === mapped && mappedOnlyHere(this.pt, frames, mm, addr);
  }

  /** wp_page_reuse: the leaf of the last walk becomes writable and dirty. */
  private makeWritable(mm: number, addr: number): void {
    const { pt } = this;
    pt.setEntry(mm, addr, pt.leafLevel, pt.entry, (pt.lo & ~PTE_RDONLY) | PTE_AF, pt.hi | HI_WRITE | HI_DIRTY);
  }

  /** ptep_set_access_flags: young, and dirty on a write. Nothing to do: a spurious fault, the TLB is behind. */
  private setAccessFlags(mm: number, addr: number, write: boolean): void {
    const { pt } = this;
    let { lo, hi } = pt;
    lo |= PTE_AF;
    if (write) {
      lo &= ~PTE_RDONLY;
      hi |= HI_DIRTY;
    }
    if (lo !== pt.lo || hi !== pt.hi) pt.setEntry(mm, addr, pt.leafLevel, pt.entry, lo, hi);
    else if (write) pt.tlb.flushPage(mm, addr);
  }

  // ---- the activity ----------------------------------------------------------------------------

  private handle(f: number): number {
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]! | 0;
    const addr = s.a[f + ADDR]!;
    const vma = this.vmas.lookup(mm, addr);
    if (vma < 0) return this.sim.agents.ret(f, VM_FAULT_SIGSEGV);
    s.set(f + VMA, vma);
    if ((s.a[f + FLAGS]! & FAULT_FLAG_UNSHARE) !== 0) return this.unshare(f, mm, addr);
    return this.goOn(f, this.faultNow(mm, vma, addr, s.a[f + FLAGS]! | 0));
  }

  /** `handleMmFault` for a caller to whom `faultNow` has just answered r, a DEFER_* code. */
  deferred(vma: number, r: number): Activity {
    this.deferredVma = vma;
    this.deferredFor = r;
    return this.handleDeferred;
  }

  /**
   * Goes on where `faultNow` has just answered DEFER_OPS_FAULT, if the driver's page fault, which is all that is left, does not
   * wait. For straight runs: one that goes phase by phase finds the driver's activity.
   * @returns VM_FAULT_*, or DEFER_OPS_FAULT: call `deferred`
   */
  readonly driverNow = (mm: number, vma: number, addr: number): number => {
    const now = this.sim.agents.straight === true ? this.files.vmOps(this.vmas.file(vma))?.faultNow : undefined;
    const done = now === undefined ? -1 : now(mm, vma, addr);
    return done < 0 ? DEFER_OPS_FAULT : done;
  };

  /** do_wp_page with FAULT_FLAG_UNSHARE, of a page of KSM: never kept (wp_can_reuse_anon_folio). */
  private unshare(f: number, mm: number, addr: number): number {
    const { pt, frames } = this;
    const merged = pt.walk(mm, addr) && pt.leafLevel === 3 && !pt.special && frames.isKsm(pt.leafPfn);
    if (!merged) return this.sim.agents.ret(f, 0);
    return pt.locks.taken(pt.entry) ? BLOCKED : this.wpPageCopy(f);
  }

  private handleAnswered(f: number): number {
    this.sim.agents.stack.set(f + VMA, this.deferredVma);
    return this.goOn(f, this.deferredFor);
  }

  private goOn(f: number, r: number): number {
    switch (r) {
      case DEFER_WP_COPY:
        return this.wpPageCopy(f);
      case DEFER_HUGE_COPY:
        return this.hugeCopy(f);
      case DEFER_SPLIT:
        return this.call2(f, AFTER_SPLIT, this.split.activity);
      case DEFER_OPS_HUGE:
        return this.opsHuge(f);
      case DEFER_OPS_FAULT:
        return this.opsFault(f);
      case DEFER_HUGETLB_COW:
        return this.hugetlbCow(f);
      case DEFER_MIGRATION:
      case DEFER_PTL:
      case DEFER_PAGE_LOCK:
        return BLOCKED;
      case DEFER_UFFD_MISSING:
        return this.userfault(f, 0);
      case DEFER_UFFD_WP:
        return this.userfault(f, 2);
      case DEFER_UFFD_MINOR:
        return this.userfault(f, 4);
      default:
        return this.sim.agents.ret(f, r);
    }
  }

  private call2(f: number, resume: number, act: Activity): number {
    const s = this.sim.agents.stack.a;
    return this.sim.agents.call(f, this.handleMmFault.first + resume, act, s[f + MM]! | 0, s[f + ADDR]!);
  }

  private rangeStart(f: number, resume: number, start: number, size: number): number {
    const mm = this.sim.agents.stack.a[f + MM]! | 0;
    return this.sim.agents.call(
      f,
      this.handleMmFault.first + resume,
      this.notifiers.invalidateRangeStart,
      mm,
      start,
      start + size,
      MMU_NOTIFY_CLEAR,
      1,
    );
  }

  private rangeEnd(f: number, start: number, size: number): number {
    const mm = this.sim.agents.stack.a[f + MM]! | 0;
    return this.sim.agents.call(
      f,
      this.handleMmFault.first + DONE,
      this.notifiers.invalidateRangeEnd,
      mm,
      start,
      start + size,
      MMU_NOTIFY_CLEAR,
      1,
    );
  }

  // wp_page_copy

  /** The copy is made before anybody is told. */
  private wpPageCopy(f: number): number {
    const { frames, pt } = this;
    const s = this.sim.agents.stack;
    const page = s.a[f + ADDR]! - (s.a[f + ADDR]! & 0xfff);
    this.vmas.anonVmaPrepare(s.a[f + VMA]! | 0);
    const pfn = frames.alloc(ORDER_PAGE);
    if (pfn < 0) return this.sim.agents.ret(f, VM_FAULT_OOM);
    if (frames.isZeroPage(pt.leafPfn)) frames.clear(pfn, ORDER_PAGE);
    else frames.copy(pfn, pt.leafPfn, ORDER_PAGE);
    s.set(f + NEW, pfn);
    s.set(f + OLD_LO, pt.lo);
    s.set(f + OLD_HI, pt.hi);
    return this.rangeStart(f, WP_COPY_LOCKED, page, 4096);
  }

  /** Under the page-table lock: is the entry what was copied? Then break it. */
  private wpCopyLocked(f: number): number {
    const { pt } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const page = s[f + ADDR]! - (s[f + ADDR]! & 0xfff);
    pt.walk(mm, page);
    if (!pt.locks.lock(pt.entry)) return BLOCKED;
    if (pt.level !== 3 || pt.lo !== s[f + OLD_LO] || pt.hi !== s[f + OLD_HI]) {
      pt.locks.unlock();
      this.frames.put(s[f + NEW]!);
      return this.rangeEnd(f, page, 4096);
    }
    pt.clearFlush(mm, page, 3, pt.entry);
    if (!this.d.notifierChangePte) return this.wpSetPte(f);
    this.sim.agents.enter();
    return this.sim.agents.call(f, this.handleMmFault.first + WP_SET_PTE, this.notifiers.changePte, mm, page, s[f + NEW]!);
  }

  /** set_pte_at_notify: the subscribers know already; the entry is made, the old page let go. */
  private wpSetPte(f: number): number {
    const { pt, frames } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const vma = s[f + VMA]! | 0;
    const page = s[f + ADDR]! - (s[f + ADDR]! & 0xfff);
    const pfn = s[f + NEW]!;
    const prot = this.zap.prot;
    frames.newAnon(pfn);
    frames.lru?.lruCacheAddSmall(pfn);
    const unshare = (s[f + FLAGS]! & FAULT_FLAG_UNSHARE) !== 0;
    const writable = (this.vmas.flags(vma) & VM_WRITE) !== 0 && !unshare;
    const lo = writable ? prot.lo(vma) & ~PTE_RDONLY : prot.lo(vma);
    const hi = prot.hi(vma) | (unshare ? s[f + OLD_HI]! & HI_UFFD_WP : HI_DIRTY) | (writable ? HI_WRITE : 0);
    pt.setEntry(mm, page, 3, pt.ensure(mm, page, 3), pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    pt.locks.unlock();
    this.sim.agents.leave();
    const oldHi = s[f + OLD_HI]!;
    if ((oldHi & HI_SPECIAL) === 0) frames.dropMapping((oldHi & 0xffff) * 1048576 + (s[f + OLD_LO]! >>> 12));
    return this.rangeEnd(f, page, 4096);
  }

  // do_huge_pmd_wp_page, do_huge_zero_wp_pmd

  private hugeCopy(f: number): number {
    const { frames, pt } = this;
    const s = this.sim.agents.stack;
    const block = pmdStart(s.a[f + ADDR]!);
    this.vmas.anonVmaPrepare(s.a[f + VMA]! | 0);
    const pfn = frames.alloc(ORDER_PMD);
    if (pfn < 0) return this.call2(f, AFTER_SPLIT, this.split.activity);
    pt.walk(s.a[f + MM]! | 0, block);
    if (frames.isHugeZeroPage(pt.leafPfn)) frames.clear(pfn, ORDER_PMD);
    else frames.copy(pfn, pt.leafPfn, ORDER_PMD);
    s.set(f + NEW, pfn);
    s.set(f + OLD_LO, pt.lo);
    s.set(f + OLD_HI, pt.hi);
    return this.rangeStart(f, HUGE_COPY_LOCKED, block, PMD_SIZE);
  }

  private hugeCopyLocked(f: number): number {
    const { pt, frames } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const block = pmdStart(s[f + ADDR]!);
    const pfn = s[f + NEW]!;
    pt.walk(mm, block);
    if (pt.level !== 2 || pt.lo !== s[f + OLD_LO] || pt.hi !== s[f + OLD_HI]) frames.put(pfn);
    else {
      const old = pt.leafPfn;
      pt.clearFlush(mm, block, 2, pt.entry);
      this.huge.map(mm, s[f + VMA]! | 0, block, pfn);
      frames.dropMapping(old);
    }
    return this.rangeEnd(f, block, PMD_SIZE);
  }

  // vm_ops

  /** create_huge_pmd for a device mapping: vm_ops->huge_fault(vmf, PMD_ORDER). */
  private opsHuge(f: number): number {
    const s = this.sim.agents.stack.a;
    const act = this.files.vmOps(this.vmas.file(s[f + VMA]! | 0))!.hugeFault!;
    return this.sim.agents.callStraight(
      f,
      this.handleMmFault.first + AFTER_OPS_HUGE,
      this.afterOpsHuge,
      act,
      s[f + MM]! | 0,
      s[f + VMA]! | 0,
      s[f + ADDR]!,
      ORDER_PMD,
    );
  }

  private readonly afterOpsHuge = (f: number): number => {
    const s = this.sim.agents.stack.a;
    const r = s[f + R0]!;
    if ((r & VM_FAULT_FALLBACK) === 0) return this.sim.agents.ret(f, r);
    const mm = s[f + MM]! | 0;
    const vma = s[f + VMA]! | 0;
    this.address = s[f + ADDR]!;
    this.pt.walk(mm, this.address);
    return this.goOn(f, this.pteFault(mm, vma, this.vmas.flags(vma), ((s[f + FLAGS]! | 0) & FAULT_FLAG_WRITE) !== 0));
  };

  /** __do_fault: the driver's plain handler, refused under the VMA's lock. */
  private opsFault(f: number): number {
    const s = this.sim.agents.stack.a;
    const flags = s[f + FLAGS]! | 0;
    if ((flags & FAULT_FLAG_VMA_LOCK) !== 0) return this.sim.agents.ret(f, VM_FAULT_RETRY);
    const ops = this.files.vmOps(this.vmas.file(s[f + VMA]! | 0));
    if (ops === undefined) return this.sim.agents.ret(f, VM_FAULT_SIGBUS);
    return this.sim.agents.callStraight(
      f,
      this.handleMmFault.first + AFTER_OPS_FAULT,
      this.afterOpsFault,
      ops.fault,
      s[f + MM]! | 0,
      s[f + VMA]! | 0,
      s[f + ADDR]!,
      flags & FAULT_FLAG_WRITE,
    );
  }

  private readonly afterOpsFault = (f: number): number => this.sim.agents.ret(f, this.sim.agents.stack.a[f + R0]!);

  // handle_userfault

  /**
   * The fault becomes a message and sleeps with the mmap_lock dropped; woken, it answers VM_FAULT_RETRY.
   * @param reason UFFD_PAGEFAULT_FLAG_WP, _MINOR, or 0: missing
   */
  private userfault(f: number, reason: number): number {
    const { agents } = this.sim;
    const s = agents.stack;
    const mm = s.a[f + MM]! | 0;
    const flags = s.a[f + FLAGS]! | 0;
    if ((flags & FAULT_FLAG_VMA_LOCK) !== 0) return agents.ret(f, VM_FAULT_RETRY);
    const uffd = this.userfaults;
    const vma = s.a[f + VMA]! | 0;
    const ctx = this.vmas.uffd(vma);
    if (uffd === undefined || ctx < 0) return agents.ret(f, VM_FAULT_SIGBUS);
    if (uffd.userModeOnly(ctx) && (flags & FAULT_FLAG_USER) === 0) return agents.ret(f, VM_FAULT_SIGBUS);
    // It has slept once, and must not answer VM_FAULT_RETRY again.
    if ((flags & FAULT_FLAG_TRIED) !== 0 && this.d.userfaultfdRetries === "once") return agents.ret(f, VM_FAULT_SIGBUS);
    const size = vmaKernelPageSize(this.vmas, this.files, vma);
    const addr = s.a[f + ADDR]! - (s.a[f + ADDR]! % size);
    s.set(f + NEW, uffd.queue(ctx, addr, reason | (flags & FAULT_FLAG_WRITE)));
    uffd.dropLock(mm);
    return this.handleMmFault.first + USERFAULT_WAIT;
  }

  private userfaultWait(f: number): number {
    if (!this.userfaults!.woken(this.sim.agents.stack.a[f + NEW]!)) return BLOCKED;
    return this.sim.agents.ret(f, VM_FAULT_RETRY);
  }

  // hugetlb_wp

  private hugetlbCow(f: number): number {
    const { frames, pt, hugetlb } = this;
    const s = this.sim.agents.stack;
    const vma = s.a[f + VMA]! | 0;
    const block = hugetlb.block(vma, s.a[f + ADDR]!);
    const order = hugetlb.order(vma);
    this.vmas.anonVmaPrepare(vma);
    const pfn = frames.hugetlbAlloc(order);
    if (pfn < 0) return this.sim.agents.ret(f, VM_FAULT_SIGBUS);
    pt.walk(s.a[f + MM]! | 0, block);
    frames.copy(pfn, pt.leafPfn, order);
    s.set(f + NEW, pfn);
    s.set(f + OLD_LO, pt.lo);
    s.set(f + OLD_HI, pt.hi);
    return this.rangeStart(f, HUGETLB_COW_LOCKED, block, hugetlb.pageSize(vma));
  }

  private hugetlbCowLocked(f: number): number {
    const { frames, pt, hugetlb } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const vma = s[f + VMA]! | 0;
    const block = hugetlb.block(vma, s[f + ADDR]!);
    const order = hugetlb.order(vma);
    const pfn = s[f + NEW]!;
    pt.walk(mm, block);
    if (pt.lo !== s[f + OLD_LO] || pt.hi !== s[f + OLD_HI]) frames.put(pfn);
    else {
      const old = pt.leafPfn;
      hugetlb.clear(mm, block, order);
      frames.newAnon(pfn);
      hugetlb.set(mm, block, order, pfn, this.zap.prot.lo(vma) & ~PTE_RDONLY, this.zap.prot.hi(vma) | HI_WRITE | HI_DIRTY);
      frames.dropMapping(old);
    }
    return this.rangeEnd(f, block, hugetlb.pageSize(vma));
  }
}
