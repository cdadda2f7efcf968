/** Operations on huge pages that start from a system call: MADV_COLLAPSE (mm/khugepaged.c) and MADV_POPULATE_* (mm/gup.c). */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EFAULT, EHWPOISON, EINVAL, ENOMEM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import type { HostFault } from "./fault.js";
import { ORDER_PAGE, ORDER_PMD, type Frames } from "./frames.js";
import type { MmapLocks } from "./gup.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import { nextBoundary, PMD_SIZE, type HostPageTables } from "./pagetable.js";
import { descPfn, HI_PROT_NONE, HI_SPECIAL, HI_UFFD_WP, PTE_VALID } from "./pte.js";
import type { PageLocks } from "./pagelock.js";
import type { SplitHugePmd } from "./splithuge.js";
import { FAULT_FLAG_WRITE, VM_FAULT_ERROR, VM_FAULT_HWPOISON, VM_FAULT_HWPOISON_LARGE, VM_FAULT_OOM, VM_FAULT_RETRY } from "./vmfault.js";
import { VM_IO, VM_PFNMAP, VM_READ, VM_UFFD_FLAGS, VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

const MM = ARG;
// collapse
const ADDR = ARG + 1;
const NEW = ARG + 2;
const OLD_LO = ARG + 3;
const OLD_HI = ARG + 4;
// populate
const AT = ARG + 1;
const END = ARG + 2;
const WRITE = ARG + 3;

/** madvise_collapse_errno of SCAN_PAGE_COUNT: somebody holds a reference to a page of the block. */
export function scanPageCount(d: MmRow): number {
  return d.collapsePageCount === "EAGAIN" ? -EAGAIN : -EINVAL;
}

export class HugePages {
  /** __split_huge_pmd: (mm, addr). See SplitHugePmd. */
  readonly splitHugePmd: Activity;
  /** split_huge_page: (mm, addr) -> R0 0 | -EBUSY. See SplitHugePmd. */
  readonly splitHugePage: Activity;
  /** MADV_COLLAPSE of one aligned 2 MiB block: (mm, addr) -> R0 0 | -errno. Takes the mmap_lock for writing itself. */
  readonly collapse: Activity;
  /** MADV_POPULATE_WRITE (write 1) or _READ (0): (mm, start, end, write) -> R0 0 | -errno. Takes the mmap_lock for reading itself. */
  readonly populate: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly notifiers: MmuNotifiers,
    private readonly fault: HostFault,
    split: SplitHugePmd,
    private readonly locks: MmapLocks,
    private readonly pages: PageLocks,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.splitHugePmd = split.activity;
    this.splitHugePage = split.splitHugePage;
    this.collapse = agents.activity("collapseHugePage", "mm/khugepaged.c collapse_huge_page", 5, [
      ["scan", (f) => this.scan(f)],
      ["isolate", (f) => this.detachTable(f)],
      ["copy", (f) => this.copyPages(f)],
      ["rmapLock", (f) => this.lockRmap(f)],
    ]);
    this.populate = agents.activity("madvisePopulate", "mm/gup.c faultin_page_range", 4, [
      ["lock", (f) => this.populateLock(f)],
      ["faultedIn", (f) => this.populateFaulted(f, agents.stack.a[f + R0]!)],
    ]);
  }

  // ---- collapse --------------------------------------------------------------------------------

  private unlockCollapse(f: number, r: number): number {
    this.sim.locks.unlockWrite(this.locks.mmapLock(this.sim.agents.stack.a[f + MM]!));
    return this.sim.agents.ret(f, r);
  }

  /** hpage_collapse_scan_pmd and the allocation, then range_start under the mmap_lock for writing. */
  private scan(f: number): number {
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    if (!this.sim.locks.write(this.locks.mmapLock(mm))) return BLOCKED;
    return this.scanLocked(f, mm, addr);
  }

  private scanLocked(f: number, mm: number, addr: number): number {
    const { frames, pt, vmas } = this;
    const s = this.sim.agents.stack;
    const vma = vmas.covering(mm, addr);
    if (vma < 0) return this.unlockCollapse(f, -EINVAL);
    if (vmas.file(vma) >= 0 || !this.fault.huge.collapsible(vmas.flags(vma)) || !this.fault.huge.suitable(vma, addr))
      return this.unlockCollapse(f, -EINVAL);
    pt.walk(mm, addr);
    if (pt.leafLevel === 2) return this.unlockCollapse(f, 0); // SCAN_PMD_MAPPED, the huge zero page too
    if (pt.level < 3) return this.unlockCollapse(f, -EINVAL);
    const scan = this.scanPtes(mm, addr, (vmas.flags(vma) & VM_UFFD_FLAGS) !== 0);
    if (scan < 0) return this.unlockCollapse(f, scan);
    const pfn = frames.alloc(ORDER_PMD);
    if (pfn < 0) return this.unlockCollapse(f, -ENOMEM);
    s.set(f + NEW, pfn);
    vmas.anonVmaPrepare(vma);
    return this.lockRmap(f);
  }

  /** anon_vma_lock_write: walks of the reverse mapping stay out until the table is back or replaced. */
  private lockRmap(f: number): number {
    const s = this.sim.agents.stack;
    if (!this.sim.locks.write(this.pages.rmapLock)) return s.a[f] === this.collapse.first + 3 ? BLOCKED : this.collapse.first + 3;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    return this.sim.agents.call(
      f,
      this.collapse.first + 1,
      this.notifiers.invalidateRangeStart,
      mm,
      addr,
      addr + PMD_SIZE,
      MMU_NOTIFY_CLEAR,
      1,
    );
  }

  /**
   * The entries of the table: every page is present or absent, nobody but mappings and the page cache holds
   * it, and (SCAN_PAGE_RO) one entry is writable at least. A userfaultfd's range is not filled (SCAN_EXCEED_NONE_PTE), a page that it has
   * protected not joined with others (SCAN_PTE_UFFD_WP). @returns 0, -EAGAIN or -EINVAL
   */
  private scanPtes(mm: number, addr: number, armed: boolean): number {
    const { pt, frames } = this;
    let writable = !this.d.collapseNeedsWritable;
    for (let a = addr; a < addr + PMD_SIZE; a += 4096) {
      if (!pt.walk(mm, a)) {
        if (!pt.none || armed) return -EINVAL; // SCAN_PTE_NON_PRESENT: swapped out, poisoned, on its way
        continue;
      }
      if ((pt.hi & HI_UFFD_WP) !== 0 || (armed && pt.special)) return -EINVAL;
      if (pt.special) continue;
      if (frames.refcount(pt.leafPfn) !== frames.mapcount(pt.leafPfn)) return scanPageCount(this.d);
      writable ||= pt.writable;
    }
    return writable ? 0 : -EINVAL;
  }

  /** pmdp_collapse_flush: the table goes out of the tree; then range_end, before anything is copied. */
  private detachTable(f: number): number {
    const { pt } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const e = pt.entryAt(mm, addr, 2);
    // Walks of the reverse mapping must not find the table while it goes.
    this.sim.locks.assertHeld(this.pages.rmapLock);
    if (pt.contended(mm, addr, addr + 1) || pt.locks.taken(e)) return BLOCKED;
    s.set(f + OLD_LO, pt.tables.words.a[e]!);
    s.set(f + OLD_HI, pt.tables.words.a[e + 1]!);
    pt.clearFlush(mm, addr, 2, e);
    return this.sim.agents.call(
      f,
      this.collapse.first + 2,
      this.notifiers.invalidateRangeEnd,
      mm,
      addr,
      addr + PMD_SIZE,
      MMU_NOTIFY_CLEAR,
      1,
    );
  }

  /** __collapse_huge_page_isolate: has lockless GUP taken a page meanwhile? The table is out of its reach by now. */
  private isolated(table: number): boolean {
    const { pt, frames } = this;
    for (let e = table; e < table + 1024; e += 2) {
      const lo = pt.tables.words.a[e]!;
      const hi = pt.tables.words.a[e + 1]!;
      if ((lo | hi) === 0) continue;
      if ((lo & PTE_VALID) === 0 && (hi & HI_PROT_NONE) === 0) return false; // swapped out or on its way meanwhile
      if ((hi & HI_SPECIAL) !== 0) continue;
      const pfn = descPfn(lo, hi);
      if (frames.refcount(pfn) !== frames.mapcount(pfn) || this.pages.lockedByOther(pfn)) return false;
    }
    return true;
  }

  /** __collapse_huge_page_copy, then the huge PMD is installed: after range_end. A page that is held: the table comes back. */
  private copyPages(f: number): number {
    const { pt, frames } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]!;
    const addr = s[f + ADDR]!;
    const to = s[f + NEW]!;
    const table = pt.tables.tableWord(s[f + OLD_HI]!, s[f + OLD_LO]!);
    if (pt.locks.taken(pt.entryAt(mm, addr, 2))) return BLOCKED;
    this.sim.locks.unlockWrite(this.pages.rmapLock);
    if (!this.isolated(table)) {
      pt.setEntry(mm, addr, 2, pt.ensure(mm, addr, 2), s[f + OLD_LO]!, s[f + OLD_HI]!);
      frames.put(to);
      return this.unlockCollapse(f, -EAGAIN);
    }
    for (let i = 0; i < 512; i++) {
      const e = table + 2 * i;
      const lo = pt.tables.words.a[e]!;
      const hi = pt.tables.words.a[e + 1]!;
      const present = (lo & PTE_VALID) !== 0 || (hi & HI_PROT_NONE) !== 0;
      if (present && (hi & HI_SPECIAL) === 0) {
        const from = descPfn(lo, hi);
        frames.copy(to + i, from, ORDER_PAGE);
        pt.setEntry(mm, addr + i * 4096, 3, e, 0, 0);
        frames.dropMapping(from);
      } else {
        frames.clear(to + i, ORDER_PAGE);
        if ((lo | hi) !== 0) pt.setEntry(mm, addr + i * 4096, 3, e, 0, 0);
      }
    }
    pt.freeDetached(s[f + OLD_LO]!, s[f + OLD_HI]!);
    this.fault.huge.map(mm, this.vmas.findVma(mm, addr), addr, to);
    return this.unlockCollapse(f, 0);
  }

  // ---- populate --------------------------------------------------------------------------------

  private unlockPopulate(f: number, r: number): number {
    if (this.d.lruDrains !== "unmap") this.frames.lru?.lruAddDrain();
    this.sim.locks.unlockRead(this.locks.mmapLock(this.sim.agents.stack.a[f + MM]!));
    return this.sim.agents.ret(f, r);
  }

  private populateLock(f: number): number {
    if (!this.sim.locks.read(this.locks.mmapLock(this.sim.agents.stack.a[f + MM]!))) return BLOCKED;
    return this.populateNext(f, 0);
  }

  /** A handler that dropped the mmap_lock: it is taken again. */
  private populateFaulted(f: number, r: number): number {
    return (r & VM_FAULT_RETRY) !== 0 ? this.populate.first : this.populateNext(f, r);
  }

  /** Goes on from the first address not populated yet. @param r what the last fault gave */
  private populateNext(f: number, r: number): number {
    const { pt, vmas } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]!;
    const end = s.a[f + END]!;
    const write = s.a[f + WRITE] !== 0;
    const flags = write ? FAULT_FLAG_WRITE : 0;
    for (;;) {
      if ((r & VM_FAULT_ERROR) !== 0) return this.unlockPopulate(f, populateErrno(r));
      const at = s.a[f + AT]!;
      if (at >= end) return this.unlockPopulate(f, 0);
      const vma = vmas.lookup(mm, at);
      if (vma < 0) return this.unlockPopulate(f, -ENOMEM);
      // check_vma_flags, also where the page is there already
      const vmFlags = vmas.flags(vma);
      const bad = (vmFlags & (VM_IO | VM_PFNMAP)) !== 0 || (vmFlags & (write ? VM_WRITE : VM_READ)) === 0;
      if (bad) return this.unlockPopulate(f, -EINVAL);
      if (pt.walk(mm, at) && pt.valid && (!write || pt.writable)) {
        if (!pt.special) this.frames.accessed?.markPageAccessed(pt.leafPfn); // FOLL_TOUCH
        s.set(f + AT, nextBoundary(at, pt.leafLevel));
        continue;
      }
      r = this.fault.faultNow(mm, vma, at, flags);
      if (r < 0) return this.sim.agents.call(f, this.populate.first + 1, this.fault.handleMmFault, mm, at, flags);
    }
  }
}

/** madvise_populate: -EHWPOISON, -EFAULT (SIGBUS, SIGSEGV), -ENOMEM. */
function populateErrno(r: number): number {
  if ((r & VM_FAULT_OOM) !== 0) return -ENOMEM;
  return (r & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) !== 0 ? -EHWPOISON : -EFAULT;
}

/** What other rooms call: the public face of HugePages. */
export type HugePagesShape = HugePages;
