/**
 * gfn to pfn (virt/kvm/kvm_main.c hva_to_pfn and below): the page behind a host address, faulted in
 * through GUP, or looked up in the host page table where GUP refuses (PFNMAP and IO VMAs).
 *
 * KVM learns nothing here that the kernel could not know: the VMA's flags, the host entry, whether
 * the pfn has a struct page.
 */
import { ARG, BLOCKED, R0, R1, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EFAULT, EHWPOISON } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { HostMm } from "../mmu/mm.js";
import { FOLL_HWPOISON, FOLL_WRITE, GUP_CONTENDED, GUP_FAULTING } from "../mmu/gup.js";
import { VM_IO, VM_PFNMAP } from "../mmu/vmflags.js";
import type { faultPathDecisions } from "./decisions.js";
import { branchTaken, internNames, decisionTaken, pfnLookup, type Names } from "./trace.js";

/** R1 of the lookup. */
export const PFN_WRITABLE = 1;
/** The lookup holds a reference on the page: release it. */
export const PFN_REFERENCED = 2;

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
  /** (mm, hva, write 0|1) -> as \`slow\`: the whole lookup, for agents that take turns. */
  readonly lookup: Activity;
  /** Of the last slowNow that answered -1; read at once. */
  private gupAnswer = 0;
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
   * hva_to_pfn_slow for a write fault, as far as it goes without waiting: the phases slowGup and upgrade in
   * one step. Emits the lookup when it succeeds. @returns pfn (referenced, writable), or -1: call `rest`
   */
  slowNow(mm: number, hva: number): number {
    const pfn = this.mm.gup.tryUnlocked(mm, hva, FOLL_HWPOISON | FOLL_WRITE);
    if (pfn >= 0) {
      this.sim.bus.emit(pfnLookup, pfn, 0, 0, PFN_WRITABLE, SLOW_GUP);
      return pfn;
    }
    this.gupAnswer = pfn;
    return -1;
  }
  /** What is left of the lookup after `slowNow` answered -1; for a read all of it. */
  rest(write: boolean): Activity {
    if (!write || this.gupAnswer === GUP_CONTENDED) return this.slow;
    if (this.gupAnswer === GUP_FAULTING) return this.slowFaulting;
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

  /** Under mmap_lock: the VMA again, and the host entry of a PFNMAP page (hva_to_pfn_remapped). */
  private readonly remapped = (f: number): number => {
    const { agents, locks } = this.sim;
    const s = agents.stack.a;
    const mm = s[f + MM]! | 0;
    const lock = this.mm.mmapLock(mm);
    if (!locks.read(lock)) return BLOCKED;
    const vma = this.mm.vmas.covering(mm, s[f + HVA]!);
    const wanted = this.d.remappedVma === "pfnmap" ? VM_PFNMAP : VM_PFNMAP | VM_IO;
    if (vma < 0 || (this.mm.vmas.flags(vma) & wanted) === 0) {
      locks.unlockRead(lock);
      return this.refused(f, vma < 0 ? this.names["no VMA at the address"] : this.names["GUP failed and the VMA is no PFN mapping"]);
    }
    if (this.d.pfnmapLookup === "arithmetic") return this.arithmetic(f, vma, lock);
    agents.stack.set(f + VMA, vma);
    return this.follow(f, lock, FOLLOW);
  };

  /** v4.0: vm_pgoff plus the offset; the host page table is not consulted, the fault handler never called. */
  private arithmetic(f: number, vma: number, lock: number): number {
    const s = this.sim.agents.stack.a;
    const pfn = this.mm.vmas.pageIndex(vma, s[f + HVA]!);
    this.sim.bus.emit(decisionTaken, this.names.pfnmapLookup, this.names.arithmetic);
    this.sim.locks.unlockRead(lock);
    if (!this.mm.frames.isReserved(pfn)) return this.sim.crash("hva_to_pfn", "BUG: the computed PFN is ordinary memory");
    return this.found(f, pfn, s[f + WRITE] !== 0 ? PFN_WRITABLE : 0, ARITHMETIC);
  }

  /** Reads the host entry; absent: calls the VMA's fault handler, once. mmap_lock is held. */
  private follow(f: number, lock: number, source: number): number {
    const { agents, locks, bus } = this.sim;
    const { gup, frames } = this.mm;
    const s = agents.stack.a;
    const mm = s[f + MM]! | 0;
    const hva = s[f + HVA]!;
    const write = s[f + WRITE] !== 0;
    const pfn = gup.followPfnmapOf(mm, hva);
    if (pfn < 0) {
      if (s[f + FIXUPS] !== 0) return this.failed(f, lock, this.names["no host entry after the fault handler"]);
      return this.fixup(f, mm, hva, write);
    }
    let writable = true;
    if (this.d.pfnmapWritable === "host-entry") {
      writable = gup.writable;
      if (write && !writable) {
        bus.emit(decisionTaken, this.names.pfnmapWritable, this.names["host-entry"]);
        bus.emit(decisionTaken, this.names.pfnmapWriteRetry, this.d.pfnmapWriteRetry ? this.names.true : this.names.false);
        // One call for an absent entry, one more for a read-only one.
        if (this.d.pfnmapWriteRetry && s[f + FIXUPS]! < 2) return this.fixup(f, mm, hva, write);
        return this.failed(f, lock, this.names["write fault on a read-only PFNMAP entry"]);
      }
    }
    let flags = writable ? PFN_WRITABLE : 0;
    if (this.d.pfnmapReference !== "none" && frames.pfnValid(pfn)) {
      if (this.d.pfnmapReference === "unless-zero" && frames.refcount(pfn) === 0) {
        bus.emit(decisionTaken, this.names.pfnmapReference, this.names["unless-zero"]);
        return this.failed(f, lock, this.names["page with reference count zero"]);
      }
      frames.get(pfn);
      flags |= PFN_REFERENCED;
    }
    locks.unlockRead(lock);
    return this.found(f, pfn, flags, source);
  }

  private fixup(f: number, mm: number, hva: number, write: boolean): number {
    const { agents } = this.sim;
    agents.stack.set(f + FIXUPS, (agents.stack.a[f + FIXUPS]! | 0) + 1);
    return agents.callStraight(f, this.slow.first + 3, this.fixedUp, this.mm.gup.fixupUserFault, mm, hva, write ? 1 : 0);
  }

  /** fixup_user_fault returned; mmap_lock is still held. */
  private readonly fixedUp = (f: number): number => {
    const s = this.sim.agents.stack.a;
    const lock = this.mm.mmapLock(s[f + MM]! | 0);
    if (s[f + R0]! < 0) return this.failed(f, lock, this.names["the VMA's fault handler failed"]);
    if (s[f + R1] !== 0) {
      // The handler dropped mmap_lock: everything again from the VMA search.
      this.sim.locks.unlockRead(lock);
      this.sim.agents.stack.set(f + FIXUPS, 0);
      return this.slow.first + 2;
    }
    return this.follow(f, lock, FIXUP_FOLLOW);
  };

  /** Gives up under mmap_lock. @param why interned branch */
  private failed(f: number, lock: number, why: number): number {
    this.sim.locks.unlockRead(lock);
    return this.refused(f, why);
  }
  private refused(f: number, why: number): number {
    this.sim.bus.emit(branchTaken, this.names.hva_to_pfn, why);
    return this.error(f, EFAULT);
  }

  private error(f: number, errno: number): number {
    this.sim.bus.emit(pfnLookup, 0, 1, errno, 0, NONE);
    return this.sim.agents.ret(f, -errno);
  }

  private found(f: number, pfn: number, flags: number, source: number): number {
    this.sim.bus.emit(pfnLookup, pfn, 0, 0, flags & PFN_WRITABLE, source);
    return this.sim.agents.ret(f, pfn, flags);
  }

  /** kvm_release_pfn_clean / kvm_release_faultin_page. */
  release(pfn: number, flags: number): void {
    if ((flags & PFN_REFERENCED) !== 0) this.mm.frames.put(pfn);
  }
}
