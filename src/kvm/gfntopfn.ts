/**
 * gfn to pfn (virt/kvm/kvm_main.c hva_to_pfn and below): the page behind a host address, faulted in
 * through GUP, or looked up in the host page table where GUP refuses (PFNMAP and IO VMAs).
 *
 * KVM learns nothing here that the kernel could not know: the VMA's flags, the host entry, whether
 * the pfn has a struct page.
 */
import { ARG, BLOCKED, R0, R1, RETURN, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EFAULT, EHWPOISON } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { HostMm } from "../mmu/mm.js";
import { fixupErrno, FOLL_HWPOISON, FOLL_WRITE, GUP_CONTENDED, GUP_FAULTING } from "../mmu/gup.js";
import { VM_IO, VM_PFNMAP } from "../mmu/vmflags.js";
import type { faultPathDecisions } from "./decisions.js";
import { branchTaken, internNames, decisionTaken, pfnLookup, type Names } from "./trace.js";

/** R1 of the lookup. */
export const PFN_WRITABLE = 1;
/** The lookup holds a reference on the page: release it. */
export const PFN_REFERENCED = 2;

/** slowNow: the lookup is not done, call `rest`. */
export const REST = -2000;
/** The VMA's fault handler must be called first. */
const FIXUP = -2001;

const FAST_GUP = 0;
const SLOW_GUP = 1;
const FOLLOW = 2;
const FIXUP_FOLLOW = 3;
const ARITHMETIC = 4;
const NONE = 5;

const MM = ARG;
const HVA = ARG + 1;
const WRITE = ARG + 2;
/** Number of times the VMA's fault handler was called. */
const FIXUPS = ARG + 3;
const VMA = ARG + 4;
/** Lockless GUP: the entry as it was read. */
const PTE_LO = ARG + 5;
const PTE_HI = ARG + 6;
const WORDS = 7;

const NAMES = [
  "hva_to_pfn",
  "no VMA at the address",
  "GUP failed and the VMA is no PFN mapping",
  "no host entry after the fault handler",
  "write fault on a read-only PFNMAP entry",
  "page with reference count zero",
  "the VMA's fault handler failed",
  "pfnmapLookup",
  "arithmetic",
  "follow",
  "pfnmapWriteRetry",
  "true",
  "false",
  "pfnmapWritable",
  "write-fault",
  "always",
  "host-entry",
  "pfnmapReference",
  "unless-zero",
] as const;

export class GfnToPfn {
  /** (mm, hva, write 0|1) -> R0 pfn | -EFAULT | -EHWPOISON, R1 PFN_*. For what fast GUP could not answer. */
  readonly slow: Activity;
  /** The same from where GUP has to wait in the host's fault handler, and from the remapped path on. */
  private readonly slowFaulting: Activity;
  private readonly slowRemapped: Activity;
  private readonly slowPoisoned: Activity;
  private readonly slowFixup: Activity;
  /** (mm, hva, write 0|1) -> as \`slow\`: the whole lookup, for agents that take turns. */
  readonly lookup: Activity;
  /** PFN_* of the page that was found last; read at once. */
  flags = 0;
  /** Of the last slowNow that answered REST; read at once. With FIXUP: the VMA, and how often its handler was called. */
  private gupAnswer = 0;
  private fixupVma = -1;
  private fixups = 0;
  private readonly names: Names<(typeof NAMES)[number]>;

  constructor(
    private readonly sim: Sim,
    private readonly mm: HostMm,
    private readonly d: Row<typeof faultPathDecisions>,
  ) {
    this.names = internNames(sim.bus, NAMES);
    this.slow = sim.agents.activity("hvaToPfn", "virt/kvm/kvm_main.c hva_to_pfn", WORDS, [
      ["slowGup", (f) => this.slowGup(f)],
      ["upgrade", this.upgrade],
      ["remapped", this.remapped],
      ["fixedUp", this.fixedUp],
      ["faultin", (f) => this.faultIn(f)],
      ["poisoned", (f) => this.error(f, EHWPOISON)],
      ["gupFastWalk", (f) => this.fastWalk(f)],
      ["gupFastPin", (f) => this.fastPin(f)],
    ]);
    this.lookup = sim.agents.from(this.slow, 6);
    this.slowPoisoned = sim.agents.from(this.slow, 5);
    this.slowRemapped = sim.agents.from(this.slow, 2);
    this.slowFaulting = sim.agents.from(this.slow, 4);
    this.slowFixup = sim.agents.from(this.slow, 2, (f) => this.fixupFirst(f));
  }

  /**
   * hva_to_pfn_fast: a page that is already there and writable. Emits the lookup when it succeeds.
   * @returns pfn (referenced, writable), or -1
   */
  fast(mm: number, hva: number): number {
    const pfn = this.mm.gup.gupFast(mm, hva, true);
    if (pfn >= 0) this.sim.bus.emit(pfnLookup, pfn, 0, 0, 1, FAST_GUP);
    return pfn;
  }

  /** gup_fast_pte_range without a lock: the entry may change, and its page be freed, before the reference is taken. */
  private fastWalk(f: number): number {
    const { gup } = this.mm;
    const s = this.sim.agents.stack;
    if (!gup.fastWalk(s.a[f + MM]! | 0, s.a[f + HVA]!, true)) return this.slowGup(f);
    s.set(f + PTE_LO, this.mm.pt.lo);
    s.set(f + PTE_HI, this.mm.pt.hi);
    return this.slow.first + 7;
  }
  private fastPin(f: number): number {
    const s = this.sim.agents.stack.a;
    const pfn = this.mm.gup.fastPin(s[f + MM]! | 0, s[f + HVA]!, s[f + PTE_LO]!, s[f + PTE_HI]!);
    return pfn < 0 ? this.slowGup(f) : this.found(f, pfn, PFN_WRITABLE | PFN_REFERENCED, FAST_GUP);
  }

  /**
   * hva_to_pfn_slow for a write fault, as far as it goes without waiting: the phases slowGup and upgrade in one step, and
   * where a run goes straight on the remapped path too. @returns pfn with `flags`, -EFAULT, REST: call `rest`, or RETURN: the host has crashed
   */
  readonly slowNow = (mm: number, hva: number): number => {
    // V8 takes it out of its object once, and not at each use.
    hva = +hva;
    const pfn = this.mm.gup.tryUnlocked(mm, hva, FOLL_HWPOISON | FOLL_WRITE);
    if (pfn >= 0) return this.told(pfn, PFN_WRITABLE | PFN_REFERENCED, SLOW_GUP);
    this.gupAnswer = pfn;
    return pfn === -EFAULT && this.sim.agents.straight === true ? this.remappedNow(mm, hva, true) : REST;
  };
  /** What is left of the lookup after `slowNow` answered REST; for a read all of it. */
  rest(write: boolean): Activity {
    if (!write || this.gupAnswer === GUP_CONTENDED) return this.slow;
    if (this.gupAnswer === GUP_FAULTING) return this.slowFaulting;
    if (this.gupAnswer === FIXUP) return this.slowFixup;
    return this.gupAnswer === -EHWPOISON ? this.slowPoisoned : this.slowRemapped;
  }

  private gupFlags(f: number): number {
    return FOLL_HWPOISON | (this.sim.agents.stack.a[f + WRITE] !== 0 ? FOLL_WRITE : 0);
  }
  /** hva_to_pfn_slow: get_user_pages, with the write flag only for write faults. */
  private slowGup(f: number): number {
    const s = this.sim.agents.stack.a;
    const { getUserPagesUnlocked } = this.mm.gup;
    const next = this.slow.first + 1;
    return this.sim.agents.callStraight(f, next, this.upgrade, getUserPagesUnlocked, s[f + MM]! | 0, s[f + HVA]!, this.gupFlags(f));
  }
  private faultIn(f: number): number {
    const s = this.sim.agents.stack.a;
    const { getUserPagesFaulting } = this.mm.gup;
    const next = this.slow.first + 1;
    return this.sim.agents.callStraight(f, next, this.upgrade, getUserPagesFaulting, s[f + MM]! | 0, s[f + HVA]!, this.gupFlags(f));
  }

  /** A read fault tries once more for a writable page; a failed GUP goes on to the remapped path. */
  private readonly upgrade = (f: number): number => {
    const s = this.sim.agents.stack.a;
    const pfn = s[f + R0]!;
    if (pfn === -EHWPOISON) return this.error(f, EHWPOISON);
    if (pfn < 0) return this.sim.agents.go(f, this.slow.first + 2, this.remapped);
    if (s[f + WRITE] !== 0) return this.found(f, pfn, PFN_WRITABLE | PFN_REFERENCED, SLOW_GUP);
    const writable = this.mm.gup.gupFast(s[f + MM]! | 0, s[f + HVA]!, true);
    if (writable < 0) return this.found(f, pfn, PFN_REFERENCED, SLOW_GUP);
    this.mm.frames.put(pfn);
    return this.found(f, writable, PFN_WRITABLE | PFN_REFERENCED, SLOW_GUP);
  };

  /** hva_to_pfn_remapped: under mmap_lock the VMA again, and the host entry of a PFNMAP page. */
  private readonly remapped = (f: number): number => {
    const { agents, locks } = this.sim;
    const s = agents.stack.a;
    const mm = s[f + MM]! | 0;
    if (!locks.read(this.mm.mmapLock(mm))) return BLOCKED;
    const vma = this.remappedVma(mm, s[f + HVA]!);
    agents.stack.set(f + VMA, vma);
    return vma < 0 ? this.answer(f, -EFAULT) : this.follow(f, vma, FOLLOW);
  };
  private follow(f: number, vma: number, source: number): number {
    const s = this.sim.agents.stack.a;
    const r = this.followVma(s[f + MM]! | 0, s[f + HVA]!, s[f + WRITE] !== 0, vma, s[f + FIXUPS]! | 0, source);
    return r === FIXUP ? this.fixup(f, this.mm.gup.fixupUserFault) : this.answer(f, r);
  }

  /** The same in one step, for a straight run: it needs an activity only where it waits. @returns pfn with `flags`, -EFAULT, or REST */
  private readonly remappedNow = (mm: number, hva: number, write: boolean): number => {
    const { locks } = this.sim;
    const lock = this.mm.mmapLock(mm);
    if (locks.heldByWriter(lock)) return REST;
    locks.read(lock);
    const vma = this.remappedVma(mm, hva);
    if (vma < 0) return -EFAULT;
    for (let fixups = 0; ; fixups++) {
      const r = this.followVma(mm, hva, write, vma, fixups, fixups === 0 ? FOLLOW : FIXUP_FOLLOW);
      if (r !== FIXUP) return r;
      const error = this.mm.gup.fixupNow(mm, hva, write);
      if (error === GUP_FAULTING) {
        this.fixupVma = vma;
        this.fixups = fixups;
        this.gupAnswer = FIXUP;
        return REST;
      }
      if (error < 0 || fixupErrno(error) < 0) return this.failed(lock, this.names["the VMA's fault handler failed"]);
    }
  };

  /** Under mmap_lock: the VMA, -1 where it has no page that GUP does not find; then the lock is dropped. */
  private remappedVma(mm: number, hva: number): number {
    const vma = this.mm.vmas.covering(mm, hva);
    const wanted = this.d.remappedVma === "pfnmap" ? VM_PFNMAP : VM_PFNMAP | VM_IO;
    if (vma >= 0 && (this.mm.vmas.flags(vma) & wanted) !== 0) return vma;
    const why = vma < 0 ? this.names["no VMA at the address"] : this.names["GUP failed and the VMA is no PFN mapping"];
    this.failed(this.mm.mmapLock(mm), why);
    return -1;
  }

  /** v4.0: vm_pgoff plus the offset; the host page table is not consulted, the fault handler never called. */
  private arithmetic(hva: number, write: boolean, vma: number, lock: number): number {
    const pfn = this.mm.vmas.pageIndex(vma, hva);
    this.sim.bus.emit(decisionTaken, this.names.pfnmapLookup, this.names.arithmetic);
    this.sim.locks.unlockRead(lock);
    if (!this.mm.frames.isReserved(pfn)) return this.sim.crash("hva_to_pfn", "BUG: the computed PFN is ordinary memory");
    return this.told(pfn, write ? PFN_WRITABLE : 0, ARITHMETIC);
  }

  /** Reads the host entry, under mmap_lock. @returns pfn with `flags` or -EFAULT, the lock dropped; FIXUP: call the VMA's fault handler first */
  private followVma(mm: number, hva: number, write: boolean, vma: number, fixups: number, source: number): number {
    const { locks, bus } = this.sim;
    const { gup, frames } = this.mm;
    const lock = this.mm.mmapLock(mm);
    if (this.d.pfnmapLookup === "arithmetic") return this.arithmetic(hva, write, vma, lock);
    const pfn = gup.followPfnmapOf(mm, hva);
    if (pfn < 0) return fixups === 0 ? FIXUP : this.failed(lock, this.names["no host entry after the fault handler"]);
    let writable = true;
    if (this.d.pfnmapWritable === "host-entry") {
      writable = gup.writable === true;
      if (write && !writable) {
        bus.emit(decisionTaken, this.names.pfnmapWritable, this.names["host-entry"]);
        bus.emit(decisionTaken, this.names.pfnmapWriteRetry, this.d.pfnmapWriteRetry ? this.names.true : this.names.false);
        // One call for an absent entry, one more for a read-only one.
        if (this.d.pfnmapWriteRetry && fixups < 2) return FIXUP;
        return this.failed(lock, this.names["write fault on a read-only PFNMAP entry"]);
      }
    }
    let flags = writable ? PFN_WRITABLE : 0;
    if (this.d.pfnmapReference !== "none" && frames.pfnValid(pfn)) {
      if (this.d.pfnmapReference === "unless-zero" && frames.refcount(pfn) === 0) {
        bus.emit(decisionTaken, this.names.pfnmapReference, this.names["unless-zero"]);
        return this.failed(lock, this.names["page with reference count zero"]);
      }
      frames.get(pfn);
      flags |= PFN_REFERENCED;
    }
    locks.unlockRead(lock);
    return this.told(pfn, flags, source);
  }

  /** The begin of `slowFixup`. */
  private fixupFirst(f: number): number {
    const { stack } = this.sim.agents;
    stack.set(f + VMA, this.fixupVma);
    stack.set(f + FIXUPS, this.fixups);
    return this.fixup(f, this.mm.gup.fixupRest);
  }
  private fixup(f: number, handler: Activity): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    agents.stack.set(f + FIXUPS, (s[f + FIXUPS]! | 0) + 1);
    const write = s[f + WRITE] !== 0 ? 1 : 0;
    return agents.callStraight(f, this.slow.first + 3, this.fixedUp, handler, s[f + MM]! | 0, s[f + HVA]!, write);
  }

  /** fixup_user_fault returned; mmap_lock is still held. */
  private readonly fixedUp = (f: number): number => {
    const s = this.sim.agents.stack.a;
    const lock = this.mm.mmapLock(s[f + MM]! | 0);
    if (s[f + R0]! < 0) return this.answer(f, this.failed(lock, this.names["the VMA's fault handler failed"]));
    if (s[f + R1] !== 0) {
      // The handler dropped mmap_lock: everything again from the VMA search.
      this.sim.locks.unlockRead(lock);
      this.sim.agents.stack.set(f + FIXUPS, 0);
      return this.slow.first + 2;
    }
    return this.follow(f, s[f + VMA]! | 0, FIXUP_FOLLOW);
  };

  /** Gives up under mmap_lock. @param why interned branch */
  private failed(lock: number, why: number): number {
    this.sim.locks.unlockRead(lock);
    this.sim.bus.emit(branchTaken, this.names.hva_to_pfn, why);
    this.sim.bus.emit(pfnLookup, 0, 1, EFAULT, 0, NONE);
    return -EFAULT;
  }

  private error(f: number, errno: number): number {
    this.sim.bus.emit(pfnLookup, 0, 1, errno, 0, NONE);
    return this.sim.agents.ret(f, -errno);
  }

  private found(f: number, pfn: number, flags: number, source: number): number {
    return this.answer(f, this.told(pfn, flags, source));
  }
  /** The lookup has succeeded. @returns the pfn, with `flags` beside it */
  private told(pfn: number, flags: number, source: number): number {
    this.sim.bus.emit(pfnLookup, pfn, 0, 0, flags & PFN_WRITABLE, source);
    this.flags = flags;
    return pfn;
  }
  /** Ends the activity with a pfn and its `flags`, or -EFAULT. A crash has no answer. */
  private answer(f: number, r: number): number {
    return r === RETURN ? RETURN : this.sim.agents.ret(f, r, r < 0 ? 0 : this.flags);
  }

  /** kvm_release_pfn_clean / kvm_release_faultin_page. */
  release(pfn: number, flags: number): void {
    if ((flags & PFN_REFERENCED) !== 0) this.mm.frames.put(pfn);
  }
}
