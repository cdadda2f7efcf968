/**
 * vCPUs (struct kvm_vcpu, struct kvm_run): which VM and agent a vCPU belongs to, what is pending for
 * it, and what KVM_RUN left for userspace. A vCPU's number is also its slice of the register file.
 *
 * word          | meaning
 * 0 VM          | the VM
 * 1 INDEX       | vcpu_idx in its VM
 * 2 AGENT       | its thread
 * 3 FLAGS       | V_* below
 * 4 EXIT_REASON | kvm_run.exit_reason
 * 5..9 MMIO_*   | kvm_run.mmio: len, is_write, data low and high; and the destination that the old code saves
 * 10 NISV_ISS   | kvm_run.arm_nisv.esr_iss
 * 11.. SIGNAL   | signal of the thread, its si_code and si_addr_lsb; 0 none
 * 14 LOADED_ON   | the physical CPU it ran on last + 1; 0 never ran
 * 15 PENDING    | exception class that is pended: 0 none, 1 + vector offset
 * 16            | unused
 * 17 EVENT_TYPE | kvm_run.system_event.type
 * 18 MEMCACHE   | its cache of table pages
 */
import type { CpuFeatures } from "../arch/features.js";
import {
  AFSR0_EL1,
  AFSR1_EL1,
  CTR_EL0,
  ESR_EL1,
  FAR_EL1,
  MAIR_EL1,
  PAR_EL1,
  TPIDR_EL0,
  TPIDR_EL1,
  TPIDRRO_EL0,
  TTBR0_EL1,
  TTBR1_EL1,
  type RegisterFile,
} from "../arch/registers.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";

const VM = 0;
const INDEX = 1;
const AGENT = 2;
const FLAGS = 3;
const EXIT_REASON = 4;
const MMIO_LEN = 5;
const MMIO_WRITE = 6;
const MMIO_LO = 7;
const MMIO_HI = 8;
const MMIO_ESR = 9;
const NISV_ISS = 10;
const SIGNAL = 11;
const SIGNAL_CODE = 12;
const SIGNAL_LSB = 13;
const LOADED_ON = 14;
const PENDING = 15;
const EVENT_TYPE = 17;
const MEMCACHE = 18;
const WORDS = 20;

const MMIO_ADDRESS = 0;
const NISV_IPA = 1;
const SIGNAL_ADDRESS = 2;
const DOUBLES = 4;

/** vcpu->mmio_needed: an MMIO exit waits for its completion. */
export const V_MMIO_NEEDED = 1;
/** The PC steps over the trapped instruction before the next guest entry (v5.11+). */
export const V_INCREMENT_PC = 2;
/** A vCPU that PSCI switched off. */
export const V_POWER_OFF = 4;
/** The VM found itself inconsistent (KVM_BUG_ON): every ioctl answers -EIO. */
export const V_BUGGED = 16;

/** kvm_run.exit_reason. */
export const KVM_EXIT_UNKNOWN = 0;
export const KVM_EXIT_DEBUG = 4;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_INTR = 10;
export const KVM_EXIT_INTERNAL_ERROR = 17;
export const KVM_EXIT_SYSTEM_EVENT = 24;
export const KVM_EXIT_ARM_NISV = 28;
export const KVM_EXIT_DIRTY_RING_FULL = 31;
export const KVM_EXIT_MEMORY_FAULT = 39;
export const KVM_EXIT_ARM_SEA = 41;
/** Ours: the run ended for a reason that no kernel has. */
export const EXIT_BUDGET = 1000;
/** The PC stays on a branch to itself. */
export const EXIT_SELF_BRANCH = 1001;
/** The guest waits for an interrupt, and nothing can send one. */
export const EXIT_WFI = 1002;

const EXIT_NAMES: Readonly<Record<number, string>> = {
  [KVM_EXIT_UNKNOWN]: "UNKNOWN",
  [KVM_EXIT_DEBUG]: "DEBUG",
  [KVM_EXIT_MMIO]: "MMIO",
  [KVM_EXIT_INTR]: "INTR",
  [KVM_EXIT_INTERNAL_ERROR]: "INTERNAL_ERROR",
  [KVM_EXIT_SYSTEM_EVENT]: "SYSTEM_EVENT",
  [KVM_EXIT_ARM_NISV]: "ARM_NISV",
  [KVM_EXIT_DIRTY_RING_FULL]: "DIRTY_RING_FULL",
  [KVM_EXIT_MEMORY_FAULT]: "MEMORY_FAULT",
  [KVM_EXIT_ARM_SEA]: "ARM_SEA",
  [EXIT_BUDGET]: "BUDGET",
  [EXIT_SELF_BRANCH]: "SELF_BRANCH",
  [EXIT_WFI]: "WFI",
};
/** The name of an exit reason without KVM_EXIT_. */
export function exitName(reason: number): string {
  return EXIT_NAMES[reason] ?? String(reason);
}

/** Registers that KVM resets with reset_unknown (arch/arm64/kvm/sys_regs.c). */
const RESET_UNKNOWN = [
  TTBR0_EL1,
  TTBR1_EL1,
  AFSR0_EL1,
  AFSR1_EL1,
  ESR_EL1,
  FAR_EL1,
  PAR_EL1,
  MAIR_EL1,
  TPIDR_EL0,
  TPIDRRO_EL0,
  TPIDR_EL1,
] as const;

export class Vcpus {
  private readonly w: I32Pool;
  private readonly f: F64Pool;
  /** Per vCPU: exits since creation (the kernel's own count of stat "exits"). A statistic: nothing asks it. */
  private readonly exitCounts: I32Pool;
  /** 1: an interrupt is on its way that takes the vCPU out of its guest. A pool of its own, which running guests look at and hardly anybody writes. */
  private readonly kicks: I32Pool;

  constructor(
    sim: Sim,
    private readonly regs: RegisterFile,
    private readonly features: CpuFeatures,
  ) {
    this.w = sim.state.i32("kvm.vcpus", WORDS);
    this.f = sim.state.f64("kvm.vcpus.wide", DOUBLES);
    this.exitCounts = sim.state.i32("kvm.vcpus.exits", 1);
    this.kicks = sim.state.i32("kvm.vcpus.kicks", 1);
  }

  /**
   * KVM_CREATE_VCPU and KVM_ARM_VCPU_INIT.
   * @param index vcpu_idx in its VM @param agent the thread that will call KVM_RUN
   * @returns the vCPU's number, the same as in the register file
   */
  add(vm: number, index: number, agent: number, memcache: number, sanitisedCtr: boolean): number {
    const v = this.regs.add(this.features);
    this.w.ensure((v + 1) * WORDS);
    this.f.ensure((v + 1) * DOUBLES);
    this.exitCounts.ensure(v + 1);
    this.kicks.ensure(v + 1);
    this.w.set(Math.imul(v, WORDS) + VM, vm);
    this.w.set(Math.imul(v, WORDS) + INDEX, index);
    this.w.set(Math.imul(v, WORDS) + AGENT, agent);
    this.w.set(Math.imul(v, WORDS) + MEMCACHE, memcache);
    // reset_unknown() of the kernel: what no guest should read before it wrote it.
    for (const off of RESET_UNKNOWN) this.regs.set64(v, off, 0x1de7ec7e, 0xdbadc0de);
    const ctr = sanitisedCtr ? this.features.id.CTR_EL0 : this.features.ctrRaw;
    this.regs.set64(v, CTR_EL0, ctr[0], ctr[1]);
    return v;
  }

  get count(): number {
    return this.regs.count;
  }
  vm(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + VM]!;
  }
  /** Number of its cache of table pages (vcpu->arch.mmu_page_cache). */
  memcache(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + MEMCACHE]!;
  }
  index(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + INDEX]!;
  }
  agent(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + AGENT]!;
  }

  has(v: number, flag: number): boolean {
    return (this.w.a[Math.imul(v, WORDS) + FLAGS]! & flag) !== 0;
  }
  raise(v: number, flag: number): void {
    this.w.set(Math.imul(v, WORDS) + FLAGS, this.w.a[Math.imul(v, WORDS) + FLAGS]! | flag);
  }
  drop(v: number, flag: number): void {
    this.w.set(Math.imul(v, WORDS) + FLAGS, this.w.a[Math.imul(v, WORDS) + FLAGS]! & ~flag);
  }

  /** 0, or 1 + vector offset (0 sync, 0x180 SError) of the exception that waits for the next entry. */
  pending(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + PENDING]!;
  }
  setPending(v: number, kind: number): void {
    this.w.set(Math.imul(v, WORDS) + PENDING, kind);
  }
  /** Something changes PC or PSTATE before the guest goes on. */
  needsAdjust(v: number): boolean {
    return this.w.a[Math.imul(v, WORDS) + PENDING] !== 0 || (this.w.a[Math.imul(v, WORDS) + FLAGS]! & V_INCREMENT_PC) !== 0;
  }

  exitReason(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + EXIT_REASON]!;
  }
  setExitReason(v: number, reason: number): void {
    this.w.set(Math.imul(v, WORDS) + EXIT_REASON, reason);
  }

  // kvm_run.mmio

  setMmio(v: number, ipa: number, len: number, write: boolean, hi: number, lo: number, esr: number): void {
    this.f.set(Math.imul(v, DOUBLES) + MMIO_ADDRESS, ipa);
    this.w.set(Math.imul(v, WORDS) + MMIO_LEN, len);
    this.w.set(Math.imul(v, WORDS) + MMIO_WRITE, write ? 1 : 0);
    this.w.set(Math.imul(v, WORDS) + MMIO_ESR, esr);
    this.setMmioData(v, hi, lo);
  }
  /** kvm_run.mmio.data, little endian, as two words. */
  setMmioData(v: number, hi: number, lo: number): void {
    this.w.set2(Math.imul(v, WORDS) + MMIO_LO, lo, hi);
  }
  mmioAddress(v: number): number {
    return this.f.a[Math.imul(v, DOUBLES) + MMIO_ADDRESS]!;
  }
  mmioLen(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + MMIO_LEN]!;
  }
  mmioIsWrite(v: number): boolean {
    return this.w.a[Math.imul(v, WORDS) + MMIO_WRITE] !== 0;
  }
  mmioLo(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + MMIO_LO]!;
  }
  mmioHi(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + MMIO_HI]!;
  }
  /** Size, sign and register of the access as the old code saved them: the low word of the syndrome. */
  mmioEsr(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + MMIO_ESR]!;
  }

  // kvm_run.arm_nisv

  setNisv(v: number, iss: number, ipa: number): void {
    this.w.set(Math.imul(v, WORDS) + NISV_ISS, iss);
    this.f.set(Math.imul(v, DOUBLES) + NISV_IPA, ipa);
  }
  nisvIss(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + NISV_ISS]!;
  }
  nisvIpa(v: number): number {
    return this.f.a[Math.imul(v, DOUBLES) + NISV_IPA]!;
  }

  // kvm_run.arm_sea, which shares kvm_run's union with mmio and arm_nisv

  /** @param gpa -1: not known */
  setSea(v: number, esr: number, gvaHi: number, gvaLo: number, gpa: number): void {
    this.setNisv(v, esr, gpa);
    this.setMmioData(v, gvaHi, gvaLo);
  }

  // kvm_run.memory_fault: its gpa lies where nothing else of an exit does; size is always a page, flags 0

  setMemoryFault(v: number, gpa: number): void {
    this.setExitReason(v, KVM_EXIT_MEMORY_FAULT);
    this.setNisv(v, 0, gpa);
  }
  memoryFaultGpa(v: number): number {
    return this.nisvIpa(v);
  }

  /** kvm_run.system_event.type. */
  systemEvent(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + EVENT_TYPE]!;
  }
  setSystemEvent(v: number, type: number): void {
    this.w.set(Math.imul(v, WORDS) + EVENT_TYPE, type);
  }

  // signals of the vCPU thread

  /** A signal is pending for the thread: KVM_RUN returns -EINTR. */
  setSignal(v: number, signal: number, code: number, address: number, lsb: number): void {
    this.w.set(Math.imul(v, WORDS) + SIGNAL, signal);
    this.w.set(Math.imul(v, WORDS) + SIGNAL_CODE, code);
    this.w.set(Math.imul(v, WORDS) + SIGNAL_LSB, lsb);
    this.f.set(Math.imul(v, DOUBLES) + SIGNAL_ADDRESS, address);
  }
  signal(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + SIGNAL]!;
  }
  signalCode(v: number): number {
    return this.w.a[Math.imul(v, WORDS) + SIGNAL_CODE]!;
  }
  signalAddress(v: number): number {
    return this.f.a[Math.imul(v, DOUBLES) + SIGNAL_ADDRESS]!;
  }

  /** The physical CPU that the vCPU is loaded on (between vcpu_load and vcpu_put), or -1. */
  loadedOn(v: number): number {
    return (this.w.a[Math.imul(v, WORDS) + LOADED_ON]! - 1) | 0;
  }
  setLoadedOn(v: number, cpu: number): void {
    this.w.set(Math.imul(v, WORDS) + LOADED_ON, cpu + 1);
  }
  /** kvm_sched_out: another thread runs on this CPU now, and whoever was loaded there has left its guest. */
  schedOut(cpu: number): void {
    for (let v = 0; v < this.count; v++) {
      if (this.loadedOn(v) !== cpu) continue;
      this.setLoadedOn(v, -1);
      this.kicks.set(v, 1);
    }
  }

  /** An interrupt takes every vCPU out of its guest. */
  kickAll(): void {
    for (let v = 0; v < this.count; v++) this.kicks.set(v, 1);
  }
  kicked(v: number): boolean {
    return this.kicks.a[v] !== 0;
  }
  /** It has left. */
  unkick(v: number): void {
    if (this.kicks.a[v] !== 0) this.kicks.set(v, 0);
  }

  exits(v: number): number {
    return this.exitCounts.a[v]!;
  }
  countExit(v: number): void {
    this.exitCounts.set(v, (this.exitCounts.a[v]! + 1) | 0);
  }
}
