/**
 * kvm_handle_guest_abort (arch/arm64/kvm/mmu.c): what a stage-2 abort is, in the kernel's order.
 *
 * Results: 1 enter the guest again, 0 exit to userspace, negative: KVM_RUN fails with that errno.
 */
import { ESR_EL2, FAR_EL2, HPFAR_EL2, PC, type RegisterFile } from "../arch/registers.js";
import { gfnOfHpfar, ipaOfHpfar, isExternalAbort, ISS_CM, ISS_EA, ISS_FNV, ISS_FSC, ISS_S1PTW, ISS_WNR } from "../arch/syndrome.js";
import { ARG, BLOCKED, FRAME, R0, R2, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EFAULT, ENOEXEC } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { Caps } from "./caps.js";
import type { kvmDecisions } from "./decisions.js";
import type { Ghes } from "../mmu/ghes.js";
import type { Injector } from "./inject.js";
import type { Memslots } from "./memslots.js";
import type { Mmio } from "./mmio.js";
import type { GmemAbort } from "./gmemabort.js";
import { KVM_MEM_GUEST_MEMFD, KVM_MEM_READONLY } from "./ports.js";
import type { Stage2 } from "./stage2.js";
import {
  branchTaken,
  decisionTaken,
  guestAbort,
  hostSignal,
  internNames,
  kvmAccessFault,
  kvmGuestFault,
  memslotLookup,
  type Names,
} from "./trace.js";
import { FAULT_EXCLUSIVE, FAULT_EXEC, FAULT_PERMISSION, FAULT_WRITE, INJECT_EXCLUSIVE, type UserMemAbort } from "./usermemabort.js";
import { KVM_EXIT_ARM_SEA, KVM_EXIT_MMIO, V_BUGGED, type Vcpus } from "./vcpus.js";
import type { Vms } from "./vm.js";

const EC_IABT_LOW = 0x20;
const SIGBUS = 7;
/** FSC & 0x3c. */
const TYPE_TRANSLATION = 0x04;
const TYPE_ACCESS = 0x08;
const TYPE_PERMISSION = 0x0c;
const FSC_EXCLUSIVE = 0x35;
/** ISS_WNR. */
const WNR_BIT = 6;
/** Bit 63 (NS) of the saved HPFAR_EL2: the value is valid (v6.15+). */
const HPFAR_NS_HI = 1 << 31;
/** Bits of an SEA that capability 245 shows: EC, IL, FnV, EA, CM, WnR, FSC, and SET of a guest with FEAT_RAS. */
const SEA_ESR = (0x3f << 26) | (1 << 25) | (3 << 11) | ISS_FNV | ISS_EA | ISS_CM | ISS_WNR | ISS_FSC;

const V = ARG;
/** Host address of a page that is given up (memory_failure). */
const POISONED = ARG + 1;
/** Srcu index of the memslot lookup. */
const SRCU = ARG + 2;
const WORDS = 3;

const NAMES = [
  "kvm_handle_guest_abort",
  "external abort claimed",
  "external abort claimed or SError",
  "external abort to userspace",
  "invalid HPFAR",
  "IPA beyond the host",
  "IPA beyond the VM",
  "unsupported fault status",
  "fetch without memslot",
  "fetch whose walk writes a read-only memslot",
  "stage-1 walk without memslot",
  "stage-1 walk writes a read-only memslot",
  "cache maintenance without memslot",
  "MMIO: no memslot",
  "MMIO: write to a read-only memslot",
  "access flag",
  "memslot",
  "read permission fault",
  "refused fetch: prefetch abort",
  "refused fetch: exit to userspace",
  "unsupported exclusive: data abort",
  "ipaRangeCheck",
  "translation",
  "permission",
  "externalAbort",
  "mmio-decode",
  "before-trace-ea-bit",
  "before-trace-data-only",
  "before-trace",
  "after-ipa-check",
  "first",
  "execNoSlot",
  "execNoSlotPath",
  "direct",
  "enoexec",
  "sea",
  "ipaLimit",
  "phys-shift",
  "vtcr-t0sz",
  "execOnDevice",
  "inject-pabt",
  "exit-to-user",
  "s1ptwNoSlot",
  "own-step",
  "cacheOpNoSlot",
  "mmio",
  "skip-also-readonly",
  "skip",
  "permissionReadFault",
  "silent",
  "warn",
  "writeFault",
  "wnr",
  "wnr-or-data-s1ptw",
  "any-s1ptw",
  "permission-s1ptw",
  "accessFlagFaults",
  "false",
] as const;

export class GuestAbort {
  /** (v) -> R0 1, 0 or -errno. */
  readonly activity: Activity;
  private readonly first: number;
  private readonly n: Names<(typeof NAMES)[number]>;
  /** Bytes of the host's IPA limit. */
  private readonly hostIpaSize: number;

  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly vms: Vms,
    private readonly vcpus: Vcpus,
    private readonly memslots: Memslots,
    private readonly stage2: Stage2,
    private readonly injector: Injector,
    private readonly mmio: Mmio,
    private readonly userMemAbort: UserMemAbort,
    private readonly gmemAbort: GmemAbort,
    private readonly caps: Caps,
    private readonly ghes: Ghes,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    this.n = internNames(sim.bus, NAMES);
    this.hostIpaSize = 2 ** vms.ipaLimit;
    this.activity = sim.agents.activity("kvmHandleGuestAbort", "arch/arm64/kvm/mmu.c kvm_handle_guest_abort", WORDS, [
      ["classify", this.classify],
      ["accessFault", (f) => this.accessFault(f)],
      ["finish", this.finish],
      ["claimed", (f) => this.claimed(f)],
    ]);
    this.first = this.activity.first;
  }

  private branch(name: number): void {
    this.sim.bus.emit(branchTaken, this.n.kvm_handle_guest_abort, name);
  }
  private chose(name: number, value: number): void {
    this.sim.bus.emit(decisionTaken, name, value);
  }

  /** Everything up to user_mem_abort. Nothing in it sleeps. */
  private readonly classify = (f: number): number => {
    f &= FRAME;
    const { regs, d, vms, vcpus } = this;
    const stack = this.sim.agents.stack;
    const v = stack.a[f + V]! | 0;
    const vm = vcpus.vm(v);
    const esr = regs.lo(v, ESR_EL2);
    const fsc = esr & ISS_FSC;
    const type = fsc & 0x3c;
    const iabt = esr >>> 26 === EC_IABT_LOW;
    const hpfarHi = regs.hi(v, HPFAR_EL2);
    const gfn = gfnOfHpfar(hpfarHi, regs.lo(v, HPFAR_EL2));
    const ipa = gfn * 4096;
    const ipaSize = vms.ipaSize(vm);
    const external = isExternalAbort(fsc);
    if (external && d.externalAbort === "first") return this.handleGuestSea(f, v, ipa);
    if (d.hpfarValidity === "checked" && (hpfarHi & HPFAR_NS_HI) === 0) {
      this.branch(this.n["invalid HPFAR"]);
      vcpus.raise(v, V_BUGGED);
      return this.done(f, -EFAULT);
    }
    if (
      d.ipaRangeCheck !== "none" &&
      type === (d.ipaRangeCheck === "translation" ? TYPE_TRANSLATION : TYPE_PERMISSION) &&
      (ipa >= ipaSize || ipa >= this.hostIpaSize)
    ) {
      return this.outOfRange(f, v, ipa, iabt);
    }
    // v4.10 asks no fault status: without EA an external abort is one of the unsupported below.
    if (d.externalAbort === "before-trace-ea-bit" && !iabt && (esr & ISS_EA) !== 0) return this.unclaimedSea(f, v);
    if (external) {
      const pfn = this.ghes.claim();
      if (pfn >= 0) return this.claim(f, vm, ipa, pfn);
      if (d.externalAbort === "before-trace" || d.externalAbort === "after-ipa-check") return this.unclaimedSea(f, v);
      if (d.externalAbort === "before-trace-data-only" && !iabt) return this.unclaimedSea(f, v);
      if (d.externalAbort === "before-trace-data-only") this.chose(this.n.externalAbort, this.n["before-trace-data-only"]);
    }
    if (!this.sim.bus.unheard()) this.traceFault(v, esr, ipa);
    const exclusive = fsc === FSC_EXCLUSIVE && d.exclusiveFaults;
    if (type !== TYPE_TRANSLATION && type !== TYPE_PERMISSION && !(type === TYPE_ACCESS && d.accessFlagFaults) && !exclusive) {
      if (type === TYPE_ACCESS) this.chose(this.n.accessFlagFaults, this.n.false);
      this.branch(this.n["unsupported fault status"]);
      return this.done(f, -EFAULT);
    }

    stack.set(f + SRCU, vms.srcuReadLock(vm));
    this.sim.agents.charge(this.sim.costs.memslotLookup);
    const slot = this.memslots.find(vm, gfn);
    if (!this.memslots.valid(slot)) {
      this.sim.bus.emit(memslotLookup, gfn, slot < 0 ? -1 : this.memslots.id(slot), 0, 0);
      // Asked before the slot is looked at: what it chose is an event.
      this.isWriteFault(esr, iabt, type);
      return this.offMemslot(f, v, vm, ipa, esr, iabt, false);
    }
    const slotFlags = this.memslots.flags(slot);
    const hva = this.memslots.userspaceAddr(slot) + (gfn - this.memslots.baseGfn(slot)) * 4096;
    const readonly = slotFlags & KVM_MEM_READONLY;
    if (!this.sim.bus.unheard()) this.sim.bus.emit(memslotLookup, gfn, this.memslots.id(slot), hva, readonly === 0 ? 1 : 0);
    const write = this.isWriteFault(esr, iabt, type);
    if (write !== 0 && readonly !== 0) return this.offMemslot(f, v, vm, ipa, esr, iabt, true);
    if (ipa >= ipaSize) throw new Error(`a memslot lies beyond the VM's IPA space: 0x${ipa.toString(16)}`);
    if (type === TYPE_ACCESS) return this.first + 1;
    this.branch(this.n.memslot);
    const kind = write | (this.isExecFault(esr, iabt) ? FAULT_EXEC : 0) | (type === TYPE_PERMISSION ? FAULT_PERMISSION : 0);
    if (type === TYPE_PERMISSION && (kind & (FAULT_WRITE | FAULT_EXEC)) === 0 && d.permissionReadFault !== "efault") {
      this.chose(this.n.permissionReadFault, this.n[d.permissionReadFault]);
      this.branch(this.n["read permission fault"]);
    }
    if ((slotFlags & KVM_MEM_GUEST_MEMFD) !== 0)
      return this.sim.agents.call(f, this.first + 2, this.gmemAbort.activity, v, ipa, slot, kind);
    return this.sim.agents.callStraight(
      f,
      this.first + 2,
      this.finish,
      this.userMemAbort.activity,
      v,
      ipa,
      slot,
      hva,
      exclusive ? kind | FAULT_EXCLUSIVE : kind,
    );
  };

  private traceFault(v: number, esr: number, ipa: number): void {
    const { regs } = this;
    const pc = regs.base(v) + PC;
    const a = regs.pool.a;
    this.sim.bus.emit(kvmGuestFault, a[pc + 1], a[pc], regs.hi(v, ESR_EL2), esr, regs.hi(v, FAR_EL2), regs.lo(v, FAR_EL2), ipa);
  }

  /** Beyond the host's IPA limit: size fault; beyond the VM's: external abort with the IPA in FAR. No kvm_guest_fault. */
  private outOfRange(f: number, v: number, ipa: number, iabt: boolean): number {
    const beyondHost = ipa >= this.hostIpaSize;
    const address = ipa + (this.regs.lo(v, FAR_EL2) & 0xfff);
    const hi = (address / 4294967296) | 0;
    this.chose(this.n.ipaRangeCheck, this.n[this.d.ipaRangeCheck === "translation" ? "translation" : "permission"]);
    this.chose(this.n.ipaLimit, this.n[this.d.ipaLimit]);
    if (beyondHost) {
      this.branch(this.n["IPA beyond the host"]);
      this.injector.sizeFault(v, iabt, hi, address | 0);
    } else {
      this.branch(this.n["IPA beyond the VM"]);
      if (iabt) this.injector.prefetchAbort(v, hi, address | 0);
      else this.injector.dataAbort(v, hi, address | 0);
    }
    return this.done(f, 1);
  }

  /** kvm_handle_guest_sea (v6.17+). An abort of the host's own stage-2 tables is not the guest's: S1PTW with the code of a walk. */
  private handleGuestSea(f: number, v: number, ipa: number): number {
    const { regs, vcpus } = this;
    const vm = vcpus.vm(v);
    const pfn = this.ghes.claim();
    if (pfn >= 0) return this.claim(f, vm, ipa, pfn);
    const esr = regs.lo(v, ESR_EL2);
    const ofHost = (esr & ISS_S1PTW) !== 0 && isWalkAbort(esr & ISS_FSC);
    if (!this.d.seaToUser || ofHost || !this.caps.seaToUser(vm)) return this.unclaimedSea(f, v);
    this.branch(this.n["external abort to userspace"]);
    vcpus.setExitReason(v, KVM_EXIT_ARM_SEA);
    const valid = (regs.hi(v, HPFAR_EL2) & HPFAR_NS_HI) !== 0;
    const far = (esr & ISS_FNV) === 0;
    vcpus.setSea(v, esr & SEA_ESR, far ? regs.hi(v, FAR_EL2) : 0, far ? regs.lo(v, FAR_EL2) : 0, valid ? ipa : -1);
    return this.done(f, 0);
  }

  /** apei_claim_sea: the page is given up before the guest goes on. */
  private claim(f: number, vm: number, ipa: number, pfn: number): number {
    this.branch(this.n["external abort claimed"]);
    const gfn = ipa / 4096;
    const slot = this.memslots.find(vm, gfn);
    if (slot < 0) return this.done(f, 1);
    const hva = this.memslots.userspaceAddr(slot) + (gfn - this.memslots.baseGfn(slot)) * 4096;
    this.sim.agents.stack.set(f + POISONED, hva);
    return this.sim.agents.call(f, this.first + 3, this.ghes.memoryFailure, this.vms.mm(vm), hva, pfn);
  }

  /** memory_failure returned. */
  private claimed(f: number): number {
    const s = this.sim.agents.stack.a;
    const code = this.ghes.signal(f);
    if (code !== 0) {
      // si_addr is the page's, in a huge page too.
      const lsb = s[f + R2]!;
      const addr = lsb === 0 ? 0 : s[f + POISONED]!;
      this.vcpus.setSignal(s[f + V]! | 0, SIGBUS, code, addr, lsb);
      this.sim.bus.emit(hostSignal, SIGBUS, code, addr, lsb);
    }
    return this.done(f, 1);
  }

  private unclaimedSea(f: number, v: number): number {
    this.chose(this.n.externalAbort, this.n[this.d.externalAbort]);
    this.branch(this.n["external abort claimed or SError"]);
    this.injector.serror(v);
    return this.done(f, 1);
  }

  /** kvm_is_write_fault by the era's rule. @returns FAULT_WRITE or 0 */
  private isWriteFault(esr: number, iabt: boolean, type: number): number {
    const { d, n } = this;
    const wnr = iabt ? 0 : (esr >>> WNR_BIT) & FAULT_WRITE;
    if ((esr & ISS_S1PTW) === 0) return wnr;
    this.chose(n.writeFault, n[d.writeFault]);
    switch (d.writeFault) {
      case "wnr":
        return wnr;
      case "wnr-or-data-s1ptw":
        return iabt ? 0 : FAULT_WRITE;
      case "any-s1ptw":
        return FAULT_WRITE;
      case "permission-s1ptw":
        return type === TYPE_PERMISSION ? FAULT_WRITE : 0;
    }
  }

  private isExecFault(esr: number, iabt: boolean): boolean {
    switch (this.d.execFault) {
      case "never":
        return false;
      case "iabt":
        return iabt;
      case "iabt-not-s1ptw":
        return iabt && (esr & ISS_S1PTW) === 0;
    }
  }

  /** Step 8: no memslot, or a write to a read-only one. @param page its IPA; the address in it is FAR[11:0] */
  private offMemslot(f: number, v: number, vm: number, page: number, esr: number, iabt: boolean, valid: boolean): number {
    const { d, n } = this;
    const ipa = page + (this.regs.lo(v, FAR_EL2) & 0xfff);
    const stack = this.sim.agents.stack;
    this.vms.srcuReadUnlock(vm, stack.a[f + SRCU]! | 0);
    if (iabt) {
      this.branch(valid ? n["fetch whose walk writes a read-only memslot"] : n["fetch without memslot"]);
      this.chose(n.execNoSlotPath, n[d.execNoSlotPath]);
      return this.refusedFetch(f, v, ipa, esr, n.execNoSlot, d.execNoSlot);
    }
    const s1ptw = (esr & ISS_S1PTW) !== 0;
    const cm = (esr & ISS_CM) !== 0;
    if (s1ptw && d.s1ptwNoSlot === "own-step") {
      this.chose(n.s1ptwNoSlot, n["own-step"]);
      this.branch(valid ? n["stage-1 walk writes a read-only memslot"] : n["stage-1 walk without memslot"]);
      this.injector.abortAtFar(v, false);
      return this.done(f, 1);
    }
    if (cm) {
      this.chose(n.cacheOpNoSlot, n[d.cacheOpNoSlot]);
      if (d.cacheOpNoSlot === "skip-also-readonly" || (d.cacheOpNoSlot === "skip" && !valid)) {
        this.branch(n["cache maintenance without memslot"]);
        this.injector.incrementPc(v);
        return this.done(f, 1);
      }
    }
    this.branch(valid ? n["MMIO: write to a read-only memslot"] : n["MMIO: no memslot"]);
    return this.done(f, this.mmio.ioMemAbort(v, ipa));
  }

  /** A fetch that must not succeed: a prefetch abort, or the exit that the thread of Dec 2019 discusses. */
  private refusedFetch(
    f: number,
    v: number,
    ipa: number,
    esr: number,
    decision: number,
    value: "inject-pabt" | "exit-to-user" | "map-executable",
  ): number {
    const { n } = this;
    if (value === "exit-to-user") {
      this.chose(decision, n["exit-to-user"]);
      this.branch(n["refused fetch: exit to userspace"]);
      this.mmio.exitNisv(v, ipa, esr);
      return this.done(f, 0);
    }
    this.chose(decision, n["inject-pabt"]);
    this.branch(n["refused fetch: prefetch abort"]);
    this.injector.abortAtFar(v, true);
    return this.done(f, 1);
  }

  /** handle_access_fault: AF is set in the leaf; no TLBI. */
  private accessFault(f: number): number {
    const { sim, d, vms, regs } = this;
    const v = sim.agents.stack.a[f + V]! | 0;
    const vm = this.vcpus.vm(v);
    const lock = vms.mmuLock(vm);
    const ipa = ipaOfHpfar(regs.hi(v, HPFAR_EL2), regs.lo(v, HPFAR_EL2));
    if (!(d.accessFlagLock === "read" ? sim.locks.read(lock) : sim.locks.write(lock))) return BLOCKED;
    sim.bus.emit(kvmAccessFault, ipa);
    this.branch(this.n["access flag"]);
    this.stage2.mkyoung(vm, ipa);
    if (d.accessFlagLock === "read") sim.locks.unlockRead(lock);
    else sim.locks.unlockWrite(lock);
    vms.srcuReadUnlock(vm, sim.agents.stack.a[f + SRCU]! | 0);
    return this.done(f, 1);
  }

  /** user_mem_abort returned: 0 becomes 1, -ENOEXEC an injected prefetch abort. */
  private readonly finish = (f: number): number => {
    f &= FRAME;
    const { d, n } = this;
    const s = this.sim.agents.stack.a;
    const v = s[f + V]! | 0;
    const r = s[f + R0]!;
    this.vms.srcuReadUnlock(this.vcpus.vm(v), s[f + SRCU]! | 0);
    if (r === 0) return this.done(f, 1);
    if (r === -ENOEXEC) {
      const { regs } = this;
      const ipa = ipaOfHpfar(regs.hi(v, HPFAR_EL2), regs.lo(v, HPFAR_EL2)) + (regs.lo(v, FAR_EL2) & 0xfff);
      return this.refusedFetch(f, v, ipa, regs.lo(v, ESR_EL2), n.execOnDevice, d.execOnDevice);
    }
    if (r === INJECT_EXCLUSIVE) {
      this.branch(n["unsupported exclusive: data abort"]);
      this.injector.exclusiveAbort(v, this.regs.hi(v, FAR_EL2), this.regs.lo(v, FAR_EL2));
      return this.done(f, 1);
    }
    return this.done(f, r);
  };

  private done(f: number, ret: number): number {
    const mmio = ret === 0 && this.vcpus.exitReason(this.sim.agents.stack.a[f + V]! | 0) === KVM_EXIT_MMIO;
    this.sim.bus.emit(guestAbort, ret, mmio ? 1 : 0);
    return this.sim.agents.ret(f, ret);
  }
}

/** esr_fsc_is_sea_ttw. */
function isWalkAbort(fsc: number): boolean {
  return fsc >= 0x13 && fsc <= 0x17;
}
