/**
 * Exceptions that KVM gives to the guest's EL1 (arch/arm64/kvm/inject_fault.c, hyp/exception.c),
 * exactly as each era writes the registers. ESR_EL1 and FAR_EL1 are written at injection; PC, ELR,
 * SPSR and PSTATE at once or before the next guest entry, by the era.
 */
import {
  EC_DABT_CUR,
  EC_DABT_LOW,
  EC_IABT_CUR,
  EC_IABT_LOW,
  EC_SERROR,
  pstateAtEntry,
  vectorOffset,
  VECTOR_SERROR,
  VECTOR_SYNC,
} from "../arch/exception.js";
import type { CpuFeatures } from "../arch/features.js";
import {
  ELR_EL1,
  ESR_EL1,
  ESR_EL2,
  FAR_EL1,
  FAR_EL2,
  HCR_EL2,
  HCR_VSE,
  PC,
  PSTATE,
  PSTATE_A,
  PSTATE_BTYPE,
  PSTATE_M,
  PSTATE_SS,
  PSTATE_TCO,
  SCTLR_EL1,
  SPSR_EL1,
  VBAR_EL1,
  VSESR_EL2,
  type RegisterFile,
} from "../arch/registers.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { faultPathDecisions } from "./decisions.js";
import type { S1Walk } from "./s1walk.js";
import { exceptionInjected, injectDabt, injectPabt, injectSea, injectSize, injectUndef, injectVabt } from "./trace.js";
import { V_INCREMENT_PC, type Vcpus } from "./vcpus.js";
import type { Vms } from "./vm.js";

const FSC_EXTABT = 0x10;
const IL = 1 << 25;
const S1PTW = 1 << 7;
/** PSTATE_FAULT_BITS_64: EL1h, DAIF masked. */
const PSTATE_FAULT_BITS = 0x3c5;

export class Injector {
  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly features: CpuFeatures,
    private readonly vcpus: Vcpus,
    private readonly vms: Vms,
    private readonly s1walk: S1Walk,
    private readonly d: Row<typeof faultPathDecisions>,
  ) {}

  /** kvm_inject_pabt / kvm_inject_sea_iabt: a prefetch abort with this FAR. */
  prefetchAbort(v: number, farHi: number, farLo: number): void {
    if (this.d.injectEntry === "sea") this.sim.bus.emit(injectSea, 1, farHi, farLo);
    else this.sim.bus.emit(injectPabt, farHi, farLo);
    this.abort64(v, true, farHi, farLo);
  }

  /** kvm_inject_dabt / kvm_inject_sea_dabt: a data abort with this FAR. */
  dataAbort(v: number, farHi: number, farLo: number): void {
    if (this.d.injectEntry === "sea") this.sim.bus.emit(injectSea, 0, farHi, farLo);
    else this.sim.bus.emit(injectDabt, farHi, farLo);
    this.abort64(v, false, farHi, farLo);
  }

  /** inject_abt64 with the trapped fault's own FAR_EL2. */
  abortAtFar(v: number, iabt: boolean): void {
    const hi = this.regs.hi(v, FAR_EL2);
    const lo = this.regs.lo(v, FAR_EL2);
    if (iabt) this.prefetchAbort(v, hi, lo);
    else this.dataAbort(v, hi, lo);
  }

  /** kvm_inject_size_fault: an abort for an IPA beyond the host's limit, made to look like an address size fault of level 0. */
  sizeFault(v: number, iabt: boolean, farHi: number, farLo: number): void {
    this.sim.bus.emit(injectSize, farHi, farLo);
    // Up to v6.16 it calls kvm_inject_pabt or kvm_inject_dabt; later the common inner function.
    if (this.d.injectEntry === "sea") this.abort64(v, iabt, farHi, farLo);
    else if (iabt) this.prefetchAbort(v, farHi, farLo);
    else this.dataAbort(v, farHi, farLo);
    const at = this.regs.base(v) + ESR_EL1;
    this.regs.pool.set(at, this.regs.pool.a[at]! & ~0x3f);
  }

  /** kvm_handle_guest_abort, FSC 0x35 of v7.0: a data abort with the same fault status. */
  exclusiveAbort(v: number, farHi: number, farLo: number): void {
    this.dataAbort(v, farHi, farLo);
    const at = this.regs.base(v) + ESR_EL1;
    this.regs.pool.set(at, (this.regs.pool.a[at]! & ~0x3f) | 0x35);
  }

  /** inject_abt64. */
  private abort64(v: number, iabt: boolean, farHi: number, farLo: number): void {
    const { regs, d } = this;
    const trapped = regs.lo(v, ESR_EL2);
    let fsc = FSC_EXTABT;
    if (d.injectS1ptwFsc === "walk-level" && (trapped & S1PTW) !== 0) {
      const level = this.s1walk.levelOfFault(v);
      // The walk no longer meets that descriptor: nothing is injected, the guest simply goes on.
      if (level < -1) return;
      fsc = level < 0 ? 0x13 : 0x14 + level;
    }
    const fromEl0 = (regs.lo(v, PSTATE) & PSTATE_M) === 0 || (regs.lo(v, PSTATE) & 0x10) !== 0;
    const il = d.injectIl === "one" ? IL : trapped & IL;
    let esr: number;
    if (iabt) esr = ((fromEl0 ? EC_IABT_LOW : EC_IABT_CUR) << 26) | il | fsc;
    else if (d.injectDabtClass === "unshifted") {
      // v4.0: the data abort class is ORed in without its shift, over the instruction abort class.
      esr = ((fromEl0 ? EC_IABT_LOW : EC_IABT_CUR) << 26) | il | EC_DABT_LOW | fsc;
    } else esr = ((fromEl0 ? EC_DABT_LOW : EC_DABT_CUR) << 26) | il | fsc;
    regs.set64(v, FAR_EL1, farHi, farLo);
    regs.set64(v, ESR_EL1, d.injectEsrUpper === "ones" ? -1 : 0, esr);
    this.pend(v, VECTOR_SYNC);
  }

  /** kvm_inject_undefined: class Unknown, FAR untouched. */
  undefined(v: number): void {
    this.sim.bus.emit(injectUndef, this.regs.hi(v, FAR_EL1), this.regs.lo(v, FAR_EL1));
    const il = this.d.injectIl === "one" ? IL : this.regs.lo(v, ESR_EL2) & IL;
    this.regs.set64(v, ESR_EL1, 0, il);
    this.pend(v, VECTOR_SYNC);
  }

  /** kvm_inject_vabt / kvm_inject_serror: a virtual SError, by the era's mechanism. */
  serror(v: number): void {
    const { regs, d } = this;
    this.sim.bus.emit(injectVabt, regs.hi(v, FAR_EL2), regs.lo(v, FAR_EL2));
    if (d.serror === "none") return;
    if (d.serror === "immediate-if-unmasked" && (regs.lo(v, PSTATE) & PSTATE_A) === 0) {
      regs.set64(v, ESR_EL1, 0, (EC_SERROR << 26) | IL | (1 << 24));
      this.pend(v, VECTOR_SERROR);
      return;
    }
    if (d.serror !== "vse") regs.set64(v, VSESR_EL2, 0, 1 << 24);
    regs.set64(v, HCR_EL2, regs.hi(v, HCR_EL2), regs.lo(v, HCR_EL2) | HCR_VSE);
  }

  /** The exception is entered now, or marked for the next guest entry; a second one replaces the first. */
  private pend(v: number, kind: number): void {
    if (this.d.injectWhen === "at-once") this.enterException64(v, kind);
    else {
      this.vcpus.drop(v, V_INCREMENT_PC);
      this.vcpus.setPending(v, 1 + kind);
    }
  }

  /** __kvm_adjust_pc: what was pended becomes PC and PSTATE. */
  adjustPc(v: number): void {
    const pending = this.vcpus.pending(v);
    if (pending !== 0) {
      this.vcpus.setPending(v, 0);
      // The two flags share bits: a step over the instruction that comes after the exception was pended
      // makes it one that kvm_inject_exception ignores, and is itself forgotten (kvm_host.h EXCEPT_MASK).
      if (this.vcpus.has(v, V_INCREMENT_PC)) this.vcpus.drop(v, V_INCREMENT_PC);
      else this.enterException64(v, pending - 1);
    } else if (this.vcpus.has(v, V_INCREMENT_PC)) {
      this.vcpus.drop(v, V_INCREMENT_PC);
      this.skipInstruction(v);
    }
  }

  /** kvm_incr_pc / kvm_skip_instr: over the trapped instruction, at once or before the next entry. */
  incrementPc(v: number): void {
    if (this.d.injectWhen === "at-once") this.skipInstruction(v);
    else this.vcpus.raise(v, V_INCREMENT_PC);
  }

  /** kvm_skip_instr: PC += 4, BTYPE and single-step state cleared. */
  private skipInstruction(v: number): void {
    const { pool } = this.regs;
    const b = this.regs.base(v);
    const lo = pool.a[b + PC]! + 4;
    pool.set(b + PC, lo | 0);
    if (pool.a[b + PC]! >>> 0 < 4) pool.set(b + PC + 1, (pool.a[b + PC + 1]! + 1) | 0);
    pool.set(b + PSTATE, pool.a[b + PSTATE]! & ~(PSTATE_BTYPE | PSTATE_SS));
  }

  /** enter_exception64: ELR, SPSR, PSTATE and PC; ESR and FAR are in place already. */
  private enterException64(v: number, kind: number): void {
    const { regs, d } = this;
    const pool = regs.pool;
    const b = regs.base(v);
    const pstate = pool.a[b + PSTATE]!;
    pool.set(b + ELR_EL1, pool.a[b + PC]!);
    pool.set(b + ELR_EL1 + 1, pool.a[b + PC + 1]!);
    pool.set(b + SPSR_EL1, pstate);
    pool.set(b + SPSR_EL1 + 1, 0);
    pool.set(b + PSTATE, d.injectPstate === "fixed" ? PSTATE_FAULT_BITS : this.computedPstate(v, pstate));
    const offset = d.injectVector === "el1-sp1" ? 0x200 + kind : vectorOffset(pstate, kind);
    pool.set(b + PC, (pool.a[b + VBAR_EL1]! & ~0x7ff) | offset);
    pool.set(b + PC + 1, pool.a[b + VBAR_EL1 + 1]!);
    const a = pool.a;
    this.sim.bus.emit(
      exceptionInjected,
      a[b + ESR_EL1 + 1],
      a[b + ESR_EL1],
      a[b + FAR_EL1 + 1],
      a[b + FAR_EL1],
      a[b + ELR_EL1 + 1],
      a[b + ELR_EL1],
      pstate >>> 0,
      a[b + PC + 1],
      a[b + PC],
    );
  }

  /** get_except64_pstate: like the CPU's own entry, but TCO only if the VM has MTE. */
  private computedPstate(v: number, pstate: number): number {
    const a = this.regs.pool.a;
    const b = this.regs.base(v);
    const p = pstateAtEntry(this.features, pstate, a[b + SCTLR_EL1 + 1]!, a[b + SCTLR_EL1]!);
    return this.vms.mte(this.vcpus.vm(v)) ? p : p & ~PSTATE_TCO;
  }
}
