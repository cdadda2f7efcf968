/**
 * KVM's answers to MMU-notifier events (virt/kvm/kvm_main.c kvm_mmu_notifier_*; arch/arm64/kvm/mmu.c
 * kvm_unmap_gfn_range; v5.4 virt/kvm/arm/mmu.c).
 *
 * range_start removes what lies in the range from stage 2, whatever the reason, before the host's own
 * entries change; the counts it and range_end move make a fault that looked before retry.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { MmuNotifiers, MmuSubscriber, SubscriberNow } from "../mmu/notifiers.js";
import type { kvmDecisions } from "./decisions.js";
import type { Memslots } from "./memslots.js";
import { NO_CACHE, type Stage2 } from "./stage2.js";
import { kvmAgeHva, kvmSetSpteHva, kvmTestAgeHva, kvmUnmapHvaRange, PROT_R, PROT_X } from "./trace.js";
import type { Vms } from "./vm.js";
import { BY_KERNEL, CLEAN_INVALIDATE } from "../arch/cachemaintenance.js";
import type { CpuFeatures } from "../arch/features.js";

// Arguments come as the notifiers give them: (mm, start, end, …, token); the token is the VM.
const START = ARG + 1;
const END = ARG + 2;
/** change_pte: the new page. */
const PFN = ARG + 2;
/** The token of a range, of change_pte and aging, and of release. */
const RANGE_VM = ARG + 5;
const PAGE_VM = ARG + 3;
const RELEASE_VM = ARG + 1;
/** range_start, between the walk and what is left of it: the guest addresses. */
const FLUSH_FROM = ARG + 6;
const FLUSH_TO = ARG + 7;

export class KvmNotifier {
  readonly rangeStart: Activity;
  readonly rangeEnd: Activity;
  readonly changePte: Activity;
  readonly release: Activity;
  readonly clearFlushYoung: Activity;
  readonly clearYoung: Activity;
  readonly testYoung: Activity;
  private readonly subscriber: MmuSubscriber;
  /** First phase of the two activities that continue in a second one. */
  private readonly startFirst: number;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    private readonly memslots: Memslots,
    private readonly stage2: Stage2,
    private readonly features: CpuFeatures,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    const { agents } = sim;
    const src = "virt/kvm/kvm_main.c";
    this.rangeStart = agents.activity("kvmInvalidateRangeStart", `${src} kvm_mmu_notifier_invalidate_range_start`, 8, [
      ["announce", (f) => this.announce(f)],
      ["unmap", (f) => this.unmap(f)],
      ["rest", (f) => this.rest(f)],
    ]);
    this.startFirst = this.rangeStart.first;
    this.rangeEnd = agents.activity("kvmInvalidateRangeEnd", `${src} kvm_mmu_notifier_invalidate_range_end`, 6, [
      ["end", (f) => this.end(f)],
    ]);
    this.changePte = agents.activity("kvmChangePte", `${src} kvm_mmu_notifier_change_pte`, 4, [
      ["announce", (f) => this.announcePte(f)],
      ["set", (f) => this.setSpte(f)],
    ]);
    this.release = agents.activity("kvmNotifierRelease", `${src} kvm_mmu_notifier_release`, 2, [["free", (f) => this.freeAll(f)]]);
    this.clearFlushYoung = agents.activity("kvmClearFlushYoung", `${src} kvm_mmu_notifier_clear_flush_young`, 4, [
      ["age", (f) => this.age(f, true)],
    ]);
    this.clearYoung = agents.activity("kvmClearYoung", `${src} kvm_mmu_notifier_clear_young`, 4, [["age", (f) => this.age(f, false)]]);
    this.testYoung = agents.activity("kvmTestYoung", `${src} kvm_mmu_notifier_test_young`, 4, [["test", (f) => this.testAge(f)]]);
    const { rangeStart, rangeEnd, release } = this;
    const now: SubscriberNow = {
      ready: (vm) => !sim.locks.isHeld(vms.mmuLock(vm)),
      rangeStart: (vm, start, end) => this.startNow(vm, start, end),
      rangeEnd: (vm, start, end) => this.endNow(vm, start, end),
    };
    this.subscriber = Object.freeze({
      rangeStart,
      rangeEnd,
      release,
      clearFlushYoung: this.clearFlushYoung,
      testYoung: this.testYoung,
      now,
      ...(d.changePte ? { changePte: this.changePte } : {}),
      ...(d.ageHandlers === "both" ? { clearYoung: this.clearYoung } : {}),
    });
  }

  /** kvm_init_mmu_notifier. */
  register(notifiers: MmuNotifiers, vm: number): void {
    notifiers.register(this.vms.mm(vm), this.subscriber, vm);
  }
  /** A VM's subscription, -1 when its address space is gone. */
  subscription(notifiers: MmuNotifiers, vm: number): number {
    return notifiers.find(this.vms.mm(vm), this.subscriber, vm);
  }

  // ----------------------------------------------------------------------- range_start, range_end

  /** From v5.14: the trace point first of all, without any lock; the count of active invalidations. */
  private announce(f: number): number {
    const s = this.sim.agents.stack.a;
    this.announceRange(s[f + RANGE_VM]! | 0, s[f + START]!, s[f + END]!);
    return this.unmap(f);
  }
  private announceRange(vm: number, start: number, end: number): void {
    if (this.d.invalidateTrace !== "first") return;
    this.sim.bus.emit(kvmUnmapHvaRange, start, end);
    this.vms.addMnActive(vm, 1);
  }

  /** `announce` and `unmap` where mmu_lock is free and agents do not take turns. */
  private startNow(vm: number, start: number, end: number): void {
    this.announceRange(vm, start, end);
    const at = this.memslots.nextInHvaRange(vm, -1, start, end);
    if (at < 0 && this.d.invalidateCounts === "overlap") return;
    const lock = this.vms.mmuLock(vm);
    this.sim.locks.write(lock);
    this.counted(vm, start, end);
    this.unmapSlots(vm, at, start, end);
    this.sim.locks.unlockWrite(lock);
  }

  /** Under mmu_lock, for writing: in progress + 1, and stage 2 of every slot in the range emptied. */
  private unmap(f: number): number {
    const { sim, vms, memslots, d } = this;
    const s = sim.agents.stack.a;
    const vm = s[f + RANGE_VM]! | 0;
    const start = s[f + START]!;
    const end = s[f + END]!;
    const at = memslots.nextInHvaRange(vm, -1, start, end);
    const lock = vms.mmuLock(vm);
    // From v5.15 nothing is locked or counted when no slot overlaps.
    if (at < 0 && d.invalidateCounts === "overlap") return sim.agents.ret(f);
    if (!sim.locks.write(lock)) return this.wait(f);
    this.counted(vm, start, end);
    if (sim.agents.interleaving && at >= 0 && this.oneWalk(vm, at, start, end))
      return this.walkOnly(f, vm, memslots.at(vm, at), start, end);
    this.unmapSlots(vm, at, start, end);
    return this.unmapped(f, vm);
  }
  private counted(vm: number, start: number, end: number): void {
    this.vms.addInProgress(vm, 1);
    if (this.d.invalidateTrace === "arch-code" && this.vms.root(vm) !== 0) this.sim.bus.emit(kvmUnmapHvaRange, start, end);
  }
  /** @param first place of the first slot in the range, or -1 */
  private unmapSlots(vm: number, first: number, start: number, end: number): void {
    const { memslots } = this;
    for (let at = first; at >= 0; at = memslots.nextInHvaRange(vm, at, start, end)) this.unmapSlot(vm, memslots.at(vm, at), start, end);
  }

  /** Whether one slot and one walk cover a range. @param at place of the first slot in it */
  private oneWalk(vm: number, at: number, start: number, end: number): boolean {
    const { memslots } = this;
    if (this.d.invalidateUnit !== "slot" || this.vms.root(vm) === 0 || memslots.nextInHvaRange(vm, at, start, end) >= 0) return false;
    const slot = memslots.at(vm, at);
    const to = this.endIpa(slot, end);
    return this.stage2.unmapper.chunkEnd(vm, this.firstIpa(slot, start), to) === to;
  }

  /**
   * Guests run on in the middle of an unmap, on what their TLBs hold: between a walk and the flush that it puts off to its
   * end, and before a table that it has emptied is taken out. What is left then is a phase of its own.
   */
  private walkOnly(f: number, vm: number, slot: number, start: number, end: number): number {
    const { unmapper } = this.stage2;
    const [ipa, to] = [this.firstIpa(slot, start), this.endIpa(slot, end)];
    unmapper.announce(ipa, to - ipa);
    const emptied = unmapper.walkChunk(vm, ipa, to, unmapper.defers);
    const s = this.sim.agents.stack;
    s.set(f + FLUSH_FROM, ipa);
    s.set(f + FLUSH_TO, to);
    return unmapper.defers || emptied ? this.startFirst + 2 : this.unmapped(f, vm);
  }

  private rest(f: number): number {
    const { unmapper } = this.stage2;
    const s = this.sim.agents.stack.a;
    const vm = s[f + RANGE_VM]! | 0;
    if (unmapper.defers) unmapper.flushChunk(vm, s[f + FLUSH_FROM]!, s[f + FLUSH_TO]!);
    else unmapper.walkChunk(vm, s[f + FLUSH_FROM]!, s[f + FLUSH_TO]!);
    return this.unmapped(f, vm);
  }

  private unmapped(f: number, vm: number): number {
    this.sim.locks.unlockWrite(this.vms.mmuLock(vm));
    return this.sim.agents.ret(f);
  }

  /** mmu_lock is taken: go on in the phase behind the announcement. */
  private wait(f: number): number {
    const stack = this.sim.agents.stack;
    if (stack.a[f] === this.startFirst) return this.startFirst + 1;
    return BLOCKED;
  }

  /** The part of a slot in [start, end), widened to whole pages. */
  private unmapSlot(vm: number, slot: number, start: number, end: number): void {
    if (this.vms.root(vm) === 0) return;
    const ipa = this.firstIpa(slot, start);
    const size = this.endIpa(slot, end) - ipa;
    if (this.d.invalidateUnit === "slot") this.stage2.unmapRange(vm, ipa, size);
    else for (let off = 0; off < size; off += 4096) this.stage2.unmapRange(vm, ipa + off, 4096);
  }

  private firstIpa(slot: number, start: number): number {
    return this.memslots.hvaToGfn(slot, Math.max(start, this.memslots.userspaceAddr(slot))) * 4096;
  }
  private endIpa(slot: number, end: number): number {
    const to = Math.min(end, this.memslots.userspaceEnd(slot));
    return this.memslots.hvaToGfn(slot, to + 4095) * 4096;
  }

  /** Sequence + 1, a write barrier, in progress - 1: no unmap, no TLBI. */
  private end(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    return this.endNow(s[f + RANGE_VM]! | 0, s[f + START]!, s[f + END]!) ? agents.ret(f) : BLOCKED;
  }
  /** @returns false if mmu_lock is taken: nothing was done */
  private endNow(vm: number, start: number, end: number): boolean {
    const { sim, vms, d } = this;
    const overlap = d.invalidateCounts === "always" || this.memslots.meetsHvaRange(vm, start, end);
    if (overlap) {
      const lock = vms.mmuLock(vm);
      if (!sim.locks.write(lock)) return false;
      sim.locks.assertHeld(lock); // as kvm_mmu_invalidate_end does since v6.8
      vms.bumpSeq(vm);
      vms.addInProgress(vm, -1);
      sim.locks.unlockWrite(lock);
    }
    if (d.invalidateTrace === "first") vms.addMnActive(vm, -1);
    return true;
  }

  // ----------------------------------------------------------------------------------- change_pte

  /** From v5.14 the trace point stands in generic code, before any lock. */
  private announcePte(f: number): number {
    const { sim, vms, d } = this;
    const s = sim.agents.stack.a;
    if (d.changePteCount === "increments") return this.setSpte(f);
    sim.bus.emit(kvmSetSpteHva, s[f + START]!);
    if (d.changePteCount === "skipped-when-idle" && vms.inProgress(s[f + PAGE_VM]! | 0) === 0) return sim.agents.ret(f);
    return this.setSpte(f);
  }

  /** kvm_set_spte_hva: the new page at once, read-only, without a table cache. The caller holds the page-table lock meanwhile. */
  private setSpte(f: number): number {
    const { sim, vms, memslots, d } = this;
    const s = sim.agents.stack.a;
    const vm = s[f + PAGE_VM]! | 0;
    const hva = s[f + START]!;
    const pfn = s[f + PFN]!;
    const lock = vms.mmuLock(vm);
    const waits = this.changePte.first + 1;
    if (!sim.locks.write(lock)) return s[f] === waits ? BLOCKED : waits;
    if (d.changePteCount === "increments") {
      vms.bumpSeq(vm);
      if (vms.root(vm) !== 0) sim.bus.emit(kvmSetSpteHva, hva);
    }
    for (let at = memslots.nextInHvaRange(vm, -1, hva, hva + 4096); at >= 0; at = memslots.nextInHvaRange(vm, at, hva, hva + 4096)) {
      const slot = memslots.at(vm, at);
      if (d.changePteInvalidSlots || memslots.valid(slot)) this.setSlot(vm, memslots.hvaToGfn(slot, hva) * 4096, pfn);
    }
    sim.locks.unlockWrite(lock);
    return sim.agents.ret(f);
  }

  private setSlot(vm: number, ipa: number, pfn: number): void {
    if (this.vms.root(vm) === 0) return;
    const { d, features } = this;
    if (d.mapCode === "set" && !(d.dcacheS2fwb && features.s2fwb))
      this.stage2.cacheOps.dcache(pfn * 4096, 4096, CLEAN_INVALIDATE, BY_KERNEL);
    const prot = d.executeNever && !(d.mapCode === "set" && features.dic) ? PROT_R : PROT_R | PROT_X;
    this.stage2.install(vm, NO_CACHE, ipa / 4096, 4096, pfn, prot);
  }

  // ------------------------------------------------------------------------------- aging, release

  /** kvm_age_hva: AF cleared; where it was set and a flush is asked for, the VMID is flushed. */
  private age(f: number, flush: boolean): number {
    const { sim, vms, d } = this;
    const s = sim.agents.stack.a;
    const vm = s[f + PAGE_VM]! | 0;
    const start = s[f + START]!;
    const end = s[f + END]!;
    if (d.ageHandlers === "stub") return sim.agents.ret(f, 0);
    const lock = vms.mmuLock(vm);
    if (!sim.locks.write(lock)) return BLOCKED;
    sim.bus.emit(kvmAgeHva, start, end);
    const young = this.ageSlots(vm, start, end, true);
    if (young && flush) this.stage2.flushRemoteTlbs(vm);
    sim.locks.unlockWrite(lock);
    return sim.agents.ret(f, young ? 1 : 0);
  }

  private ageSlots(vm: number, start: number, end: number, makeOld: boolean): boolean {
    const { memslots } = this;
    let young = false;
    if (this.vms.root(vm) === 0) return false;
    this.sim.locks.assertHeld(this.vms.mmuLock(vm));
    for (let at = memslots.nextInHvaRange(vm, -1, start, end); at >= 0; at = memslots.nextInHvaRange(vm, at, start, end)) {
      const slot = memslots.at(vm, at);
      const from = Math.max(start, memslots.userspaceAddr(slot));
      const to = Math.min(end, memslots.userspaceEnd(slot));
      const gfn = memslots.hvaToGfn(slot, from);
      if (this.stage2.age(vm, gfn * 4096, (memslots.hvaToGfn(slot, to + 4095) - gfn) * 4096, makeOld)) young = true;
    }
    return young;
  }

  /** kvm_test_age_hva: reads AF only. Up to v5.5 it asks an empty range. */
  private testAge(f: number): number {
    const { sim, vms, d } = this;
    const s = sim.agents.stack.a;
    const vm = s[f + PAGE_VM]! | 0;
    const hva = s[f + START]!;
    if (d.ageHandlers === "stub") return sim.agents.ret(f, 0);
    const lock = vms.mmuLock(vm);
    if (!sim.locks.write(lock)) return BLOCKED;
    sim.bus.emit(kvmTestAgeHva, hva);
    const young = d.testYoung === "page" && this.ageSlots(vm, hva, Math.max(s[f + END]!, hva + 4096), false);
    sim.locks.unlockWrite(lock);
    return sim.agents.ret(f, young ? 1 : 0);
  }

  /** kvm_arch_flush_shadow_all: the whole stage 2 goes. */
  private freeAll(f: number): number {
    const { sim, vms, d } = this;
    const vm = sim.agents.stack.a[f + RELEASE_VM]!;
    if (d.notifierRelease === "empty" || vms.root(vm) === 0) return sim.agents.ret(f);
    const lock = vms.mmuLock(vm);
    const locks = d.stage2FreeLock === "held";
    if (locks && !sim.locks.write(lock)) return BLOCKED;
    this.stage2.teardown(vm);
    if (locks) sim.locks.unlockWrite(lock);
    return sim.agents.ret(f);
  }
}
