/**
 * get_user_pages and its relatives: mm/gup.c, and the PFNMAP look-ups of mm/memory.c
 * (follow_pfn, follow_pte, follow_pfnmap_start).
 */
import { ARG, BLOCKED, PHASE, R0, type Activity } from "../sim/agents.js";
import { EFAULT, EHWPOISON, ENOMEM } from "../sim/errno.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import { DEFER_OPS_FAULT } from "./defer.js";
import type { HostFault } from "./fault.js";
import type { Frames } from "./frames.js";
import type { HostPageTables } from "./pagetable.js";
import { HI_SPECIAL, HI_WRITE, PTE_USER, PTE_VALID } from "./pte.js";
import {
  FAULT_FLAG_TRIED,
  FAULT_FLAG_WRITE,
  VM_FAULT_ERROR,
  VM_FAULT_HWPOISON,
  VM_FAULT_HWPOISON_LARGE,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
} from "./vmfault.js";
import { isCowMapping, VM_HUGETLB, VM_IO, VM_PFNMAP, VM_READ, VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

export const FOLL_WRITE = 0x1;
/** The fault has slept once and is taken again. */
export const FOLL_TRIED = 0x800;
/** copy_from_user: a read that is no get_user_pages, and breaks no copy-on-write. */
export const FOLL_USER_READ = 0x40000000;
/** A poisoned page answers -EHWPOISON and not -EFAULT. */
export const FOLL_HWPOISON = 0x100;

export const hostWalk = declareEvent("faultline", "host_walk", "the host's page tables were walked to find the page behind an address", [
  { name: "mm", kind: "dec" },
  { name: "addr", kind: "hex" },
  { name: "leaf_level", kind: "dec" },
  { name: "pfn", kind: "hex" },
  { name: "writable", kind: "bool" },
]);

/** Answers of `tryUnlocked` beside pfn and -errno: nothing happened yet, a writer holds the mmap_lock; */
export const GUP_CONTENDED = -1000;
/** it was taken, and the fault needs notifiers, a driver or a wait: go on with `getUserPagesFaulting`. */
export const GUP_FAULTING = -1001;

/** Where an address space's mmap_lock is. */
export interface MmapLocks {
  mmapLock(mm: number): number;
}

const MM = ARG;
const ADDR = ARG + 1;
const FLAGS = ARG + 2;
/** fixupUserFault: the lock was dropped. */
const UNLOCKED = ARG + 3;

export class Gup {
  /**
   * get_user_pages_unlocked of one page: (mm, addr, FOLL_*) -> R0 pfn | -errno (-EFAULT, -EHWPOISON, -ENOMEM).
   * Takes and drops the mmap_lock itself; the page carries a reference (frames.put gives it back).
   */
  readonly getUserPagesUnlocked: Activity;
  /** The same from where `tryUnlocked` answered GUP_FAULTING, with the mmap_lock held. */
  readonly getUserPagesFaulting: Activity;
  /** fixup_user_fault: (mm, addr, write 0|1) -> R0 0 | -errno, R1 1 if the mmap_lock was dropped meanwhile. The caller holds it for reading, before and after. */
  readonly fixupUserFault: Activity;
  /** The same from where `fixupNow` answered GUP_FAULTING. */
  readonly fixupRest: Activity;
  /** What that had found: the VMA, and the answer of the fault handler. Read at once. */
  private fixupVma = -1;
  private fixupAnswer = 0;
  /** Of the last followPfnmap: may the leaf be written, and its level (1..3, -1 none). */
  writable = false;
  leafLevel = -1;
  /** Of `lookup`: an argument above 2^31 would be allocated at each call. */
  private addr = 0;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly fault: HostFault,
    private readonly locks: MmapLocks,
    private readonly d: MmRow,
  ) {
    this.getUserPagesUnlocked = sim.agents.activity("getUserPagesUnlocked", "mm/gup.c get_user_pages_unlocked", 3, [
      ["mmapLock", (f) => this.lockAndLookup(f)],
      ["faultinPage", this.faultedIn],
      ["handleMmFault", (f) => this.faultIn(f)],
    ]);
    this.getUserPagesFaulting = sim.agents.from(this.getUserPagesUnlocked, 2);
    this.fixupUserFault = sim.agents.activity("fixupUserFault", "mm/gup.c fixup_user_fault", 4, [
      ["handle", this.fixup],
      ["done", this.fixedUp],
      ["relock", (f) => this.fixupRelock(f)],
    ]);
    this.fixupRest = sim.agents.from(this.fixupUserFault, 0, this.fixupFaulting);
  }

  /**
   * get_user_pages_fast of one page (gup_fast): only what the tables hold now, no lock.
   * @returns pfn with a reference, or -1: not present, not permitted, or special
   */
  gupFast(mm: number, addr: number, write: boolean): number {
    if (!this.fastWalk(mm, addr, write)) return -1;
    this.frames.get(this.pt.leafPfn);
    this.frames.accessed?.setPageReferenced(this.pt.leafPfn);
    return this.pt.leafPfn;
  }

  /** gup_fast_pte_range up to where it would take the reference. @returns false where gup_fast gives up; else the walk stands on the leaf */
  fastWalk(mm: number, addr: number, write: boolean): boolean {
    const { pt } = this;
    pt.walk(mm, addr);
    if (!this.sim.bus.unheard()) this.sim.bus.emit(hostWalk, mm, addr, pt.leafLevel, pt.leafPfn, pt.writable ? 1 : 0);
    if (pt.leafLevel < 0 || pt.special) return false;
    if ((pt.lo & (PTE_VALID | PTE_USER)) !== (PTE_VALID | PTE_USER)) return false;
    return !write || pt.writable;
  }

  /** try_grab_folio_fast, then the entry is looked at again. @returns pfn with a reference, or -1 where page or entry changed meanwhile */
  fastPin(mm: number, addr: number, lo: number, hi: number): number {
    const { pt, frames } = this;
    if (!pt.walk(mm, addr) || pt.lo !== lo || pt.hi !== hi || frames.refcount(pt.leafPfn) === 0) return -1;
    frames.get(pt.leafPfn);
    frames.accessed?.setPageReferenced(pt.leafPfn);
    return pt.leafPfn;
  }

  /**
   * get_user_pages_unlocked of one page in one step, where nothing in it has to wait: what nearly every
   * fault of a guest does. The caller comes from `gupFast`: its walk still stands. @returns pfn with a reference, -errno, GUP_CONTENDED or GUP_FAULTING
   */
  readonly tryUnlocked = (mm: number, addr: number, gupFlags: number): number => {
    const lock = this.locks.mmapLock(mm);
    if (this.sim.locks.heldByWriter(lock)) return GUP_CONTENDED;
    this.readLock(lock);
    this.addr = addr;
    const r = this.lookup(mm, gupFlags);
    if (r !== GUP_FAULTING) this.sim.locks.unlockRead(lock);
    return r;
  };

  /** mmap_read_lock of both forms. */
  private readLock(lock: number): boolean {
    return this.sim.locks.read(lock);
  }

  private lockAndLookup(f: number): number {
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    if (!this.readLock(this.locks.mmapLock(mm))) return BLOCKED;
    return this.lookedUp(f, this.lookupOf(f));
  }

  private lookupOf(f: number): number {
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    this.addr = s[f + ADDR]!;
    this.pt.walk(mm, this.addr);
    return this.lookup(mm, s[f + FLAGS]! | 0);
  }

  private lookedUp(f: number, r: number): number {
    return r === GUP_FAULTING ? this.faultIn(f) : this.unlock(f, r);
  }

  private unlock(f: number, r: number): number {
    this.sim.locks.unlockRead(this.locks.mmapLock(this.sim.agents.stack.a[f + MM]! | 0));
    return this.sim.agents.ret(f, r);
  }

  /** A forced COW break writes where the VMA may be written and only reads where it may not. */
  private writes(vmFlags: number, gupFlags: number): boolean {
    if ((gupFlags & FOLL_WRITE) !== 0) return true;
    return this.d.gupReadBreaksCow && (gupFlags & FOLL_USER_READ) === 0 && isCowMapping(vmFlags) && (vmFlags & VM_WRITE) !== 0;
  }

  /** __get_user_pages for one page: VMA, check_vma_flags, follow_page_mask, faultin_page until it is there. The tables have just been walked to the address. @returns pfn, -errno or GUP_FAULTING */
  private readonly lookup = (mm: number, gupFlags: number): number => {
    const addr = this.addr;
    const vma = this.vmas.covering(mm, addr);
    if (vma < 0) return -EFAULT;
    const vmFlags = this.vmas.flags(vma);
    if ((vmFlags & (VM_IO | VM_PFNMAP)) !== 0) return -EFAULT;
    if ((vmFlags & ((gupFlags & FOLL_WRITE) !== 0 ? VM_WRITE : VM_READ)) === 0) return -EFAULT;
    const write = this.writes(vmFlags, gupFlags);
    for (;;) {
      const pfn = this.followPage(write);
      if (pfn !== -1) return pfn;
      const r = this.faultWalked(mm, vma, vmFlags, addr, write);
      if (r < 0) return GUP_FAULTING;
      if ((r & VM_FAULT_ERROR) !== 0) return vmFaultToErrno(r, gupFlags);
      if (!this.pt.standsOn(mm, addr)) this.pt.walk(mm, addr);
    }
  };

  /**
   * handle_mm_fault as far as it goes at once. The tables have just been walked to the address; hugetlb has its own handler.
   * @returns VM_FAULT_* or DEFER_*
   */
  private faultWalked(mm: number, vma: number, vmFlags: number, addr: number, write: boolean): number {
    if ((vmFlags & VM_HUGETLB) !== 0) return this.fault.faultNow(mm, vma, addr, write ? FAULT_FLAG_WRITE : 0);
    return this.fault.faultWalked(mm, vma, vmFlags, addr, write);
  }

  /** The fault as an activity; the mmap_lock is held. */
  private faultIn(f: number): number {
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const addr = s[f + ADDR]!;
    const write = this.writes(this.vmas.flags(this.vmas.covering(mm, addr)), s[f + FLAGS]! | 0);
    const flags = (write ? FAULT_FLAG_WRITE : 0) | ((s[f + FLAGS]! & FOLL_TRIED) !== 0 ? FAULT_FLAG_TRIED : 0);
    return this.sim.agents.callStraight(f, this.getUserPagesUnlocked.first + 1, this.faultedIn, this.fault.handleMmFault, mm, addr, flags);
  }

  private readonly faultedIn = (f: number): number => {
    const s = this.sim.agents.stack.a;
    const r = s[f + R0]!;
    // The handler dropped the mmap_lock: all over again.
    if ((r & VM_FAULT_RETRY) !== 0) {
      this.sim.agents.stack.set(f + FLAGS, s[f + FLAGS]! | FOLL_TRIED);
      return this.getUserPagesUnlocked.first;
    }
    if ((r & VM_FAULT_ERROR) !== 0) return this.unlock(f, vmFaultToErrno(r, s[f + FLAGS]! | 0));
    return this.lookedUp(f, this.lookupOf(f));
  };

  /** follow_page_pte, follow_trans_huge_pmd on the entry of the last walk. @returns pfn with a reference, -1 to fault it in, -EFAULT where there is no page behind it */
  private followPage(write: boolean): number {
    const { pt, frames } = this;
    const { lo, hi } = pt;
    if ((lo & PTE_VALID) === 0 || (write && (hi & HI_WRITE) === 0)) return -1;
    const pfn = pt.leafPfn;
    if ((hi & HI_SPECIAL) !== 0 && !frames.isZeroPage(pfn)) return -EFAULT;
    frames.get(pfn);
    frames.accessed?.markPageAccessed(pfn); // FOLL_TOUCH
    return pfn;
  }

  // ---- PFNMAP ----------------------------------------------------------------------------------

  /**
   * follow_pfn, follow_pte, follow_pfnmap_start: what the tables hold for an address in a VM_IO or
   * VM_PFNMAP mapping. The caller holds the mmap_lock; no reference is taken. Sets `writable`, `leafLevel`.
   * @returns pfn, or -1: no such VMA, nothing there, or a leaf that this release does not understand
   */
  followPfnmap(mm: number, addr: number): number {
    const vma = this.vmas.findVma(mm, addr);
    if (vma < 0 || this.vmas.start(vma) > addr || (this.vmas.flags(vma) & (VM_IO | VM_PFNMAP)) === 0) return -1;
    return this.followPfnmapOf(mm, addr);
  }

  /** The same where the caller has the VMA, and knows that it is one. */
  followPfnmapOf(mm: number, addr: number): number {
    const { pt } = this;
    this.writable = false;
    this.leafLevel = -1;
    if (!pt.standsOn(mm, addr)) pt.walk(mm, addr);
    if (!this.sim.bus.unheard()) this.sim.bus.emit(hostWalk, mm, addr, pt.leafLevel, pt.leafPfn, pt.writable ? 1 : 0);
    if (pt.leafLevel < 0 || (pt.leafLevel < 3 && this.d.followPfn === "pageOnly")) return -1;
    this.writable = pt.writable;
    this.leafLevel = pt.leafLevel;
    return pt.leafPfn;
  }

  /** KVM's walk of the user's tables (get_user_mapping_size): bytes of the valid leaf at addr, 0 without one. */
  userMappingSize(mm: number, addr: number): number {
    const { pt } = this;
    if (!pt.standsOn(mm, addr)) pt.walk(mm, addr);
    return pt.valid ? pt.leafSize : 0;
  }

  private readonly fixup = (f: number): number => {
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    this.pt.walk(mm, s[f + ADDR]!);
    const r = this.fixupNow(mm, s[f + ADDR]!, (s[f + FLAGS]! | 0) !== 0);
    if (r === GUP_FAULTING) return this.fixupFaulting(f);
    return r < 0 ? this.sim.agents.ret(f, r) : this.fixupDone(f, r);
  };

  /**
   * fixup_user_fault as far as it goes in one step, for a caller who holds the mmap_lock and has just walked the tables to the
   * address. @returns VM_FAULT_* without RETRY; -EFAULT: no such VMA, or not permitted; GUP_FAULTING: go on with `fixupRest`
   */
  readonly fixupNow = (mm: number, addr: number, write: boolean): number => {
    const vma = this.vmas.covering(mm, addr);
    if (vma < 0) return -EFAULT;
    const vmFlags = this.vmas.flags(vma);
    if ((vmFlags & (write ? VM_WRITE : VM_READ)) === 0) return -EFAULT;
    let r = this.faultWalked(mm, vma, vmFlags, addr, write);
    if (r === DEFER_OPS_FAULT) r = this.fault.driverNow(mm, vma, addr);
    if (r >= 0 && (r & VM_FAULT_RETRY) === 0) return r;
    this.fixupVma = vma;
    this.fixupAnswer = r;
    return GUP_FAULTING;
  };

  private readonly fixupFaulting = (f: number): number => {
    const r = this.fixupAnswer;
    if (r >= 0) return this.fixupDone(f, r);
    const s = this.sim.agents.stack.a;
    const flags = (s[f + FLAGS]! | 0) !== 0 ? FAULT_FLAG_WRITE : 0;
    const act = this.fault.deferred(this.fixupVma, r);
    return this.sim.agents.callStraight(f, this.fixupUserFault.first + 1, this.fixedUp, act, s[f + MM]! | 0, s[f + ADDR]!, flags);
  };

  private readonly fixedUp = (f: number): number => this.fixupDone(f, this.sim.agents.stack.a[f + R0]!);

  private fixupDone(f: number, r: number): number {
    if ((r & VM_FAULT_RETRY) !== 0) return this.fixupRelock(f);
    return this.sim.agents.ret(f, fixupErrno(r), this.sim.agents.stack.a[f + UNLOCKED]!);
  }

  /** The handler dropped the mmap_lock: it is taken again, and the fault tried again. */
  private fixupRelock(f: number): number {
    const s = this.sim.agents.stack;
    if (!this.sim.locks.read(this.locks.mmapLock(s.a[f + MM]! | 0))) {
      s.set(f + PHASE, this.fixupUserFault.first + 2);
      return BLOCKED;
    }
    s.set(f + UNLOCKED, 1);
    return this.fixupUserFault.first;
  }
}

/** What fixup_user_fault answers for VM_FAULT_* without RETRY. */
export function fixupErrno(r: number): number {
  return (r & VM_FAULT_ERROR) !== 0 ? vmFaultToErrno(r, 0) : 0;
}

/** vm_fault_to_errno. */
export function vmFaultToErrno(r: number, gupFlags: number): number {
  if ((r & VM_FAULT_OOM) !== 0) return -ENOMEM;
  if ((r & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) !== 0) return (gupFlags & FOLL_HWPOISON) !== 0 ? -EHWPOISON : -EFAULT;
  return -EFAULT;
}

/** What other rooms call: the public face of Gup. */
export type GupShape = Gup;
