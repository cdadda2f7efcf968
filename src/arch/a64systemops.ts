/**
 * System instructions: MRS and MSR with their traps, exception-generating instructions, barriers, cache,
 * translation and TLB maintenance (Arm ARM C5, D1.3; HCR_EL2 trap bits D24.2.46).
 */
import { PE_EL1, PE_EL2, STEP_EL2, STEP_NEXT, STEP_RELOAD, STEP_WFI, type PeAccess } from "./a64access.js";
import { F_HI, F_LO, F_OP, F_RD, Op } from "./a64ops.js";
import { DcOp, IcOp, type AtOp } from "./a64system.js";
import {
  EC_BRK64,
  EC_HVC64,
  EC_ILLEGAL,
  EC_SERROR,
  EC_SMC64,
  EC_SVC64,
  EC_SYS64,
  EC_UNKNOWN,
  EC_WFX,
  syndromeOf,
  VECTOR_SERROR,
  VECTOR_SYNC,
  type Exceptions,
} from "./exception.js";
import type { CpuFeatures } from "./features.js";
import { DSB_NXS } from "./tlbi.js";
import {
  ESR_EL2,
  HCR_AMO,
  HCR_EL2,
  HCR_HCD,
  HCR_TDZ,
  HCR_TPCP,
  HCR_TPU,
  HCR_TRVM,
  HCR_TSC,
  HCR_TSW,
  HCR_TTLB,
  HCR_TVM,
  HCR_VSE,
  PC,
  PSTATE,
  PSTATE_A,
  PSTATE_C,
  PSTATE_DAIF,
  PSTATE_DIT,
  PSTATE_IL,
  PSTATE_N,
  PSTATE_PAN,
  PSTATE_SSBS,
  PSTATE_TCO,
  PSTATE_UAO,
  PSTATE_V,
  PSTATE_Z,
  SCTLR_DZE,
  SCTLR_EL1,
  SCTLR_NTWE,
  SCTLR_NTWI,
  SCTLR_UCI,
  SCTLR_UCT,
  SCTLR_UMA,
  VBAR_EL1,
  VSESR_EL2,
  CTR_EL0,
  ZR,
} from "./registers.js";
import { SYSREGS, SysregKind, type Sysreg } from "./sysregs.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

const NZCV = PSTATE_N | PSTATE_Z | PSTATE_C | PSTATE_V;
/** Cycles per tick of the generic timer: 62.5 MHz under a core of 2 GHz. */
const CYCLES_PER_TICK = 32;

/** ISS of a trapped MSR, MRS or SYS (EC 0x18), from the instruction. */
function sysIss(word: number): number {
  const field = (at: number, width: number): number => (word >>> at) & ((1 << width) - 1);
  const op0 = field(19, 2);
  return (
    (op0 << 20) | (field(5, 3) << 17) | (field(16, 3) << 14) | (field(12, 4) << 10) | (field(0, 5) << 5) | (field(8, 4) << 1) | field(21, 1)
  );
}

export class SystemOps {
  /** The instruction word being executed, for trap syndromes. */
  word = 0;
  private valueLo = 0;
  private valueHi = 0;

  constructor(
    private readonly sim: Sim,
    private readonly pool: I32Pool,
    private readonly pe: PeAccess,
    private readonly exceptions: Exceptions,
    private readonly features: CpuFeatures,
  ) {}

  // ---- ways out

  /** UNDEFINED: EC 0 to EL1. */
  undefinedInstruction(v: number): number {
    this.exceptions.takeWithoutFar(v, syndromeOf(EC_UNKNOWN, 0), VECTOR_SYNC);
    return STEP_RELOAD;
  }
  private toEl1(v: number, ec: number, iss: number): number {
    this.exceptions.takeWithoutFar(v, syndromeOf(ec, iss), VECTOR_SYNC);
    return STEP_RELOAD;
  }
  private toEl2(b: number, ec: number, iss: number): number {
    this.pool.set(b + ESR_EL2, syndromeOf(ec, iss));
    this.pool.set(b + ESR_EL2 + 1, 0);
    return STEP_EL2;
  }
  private advance(b: number): void {
    const r = this.pool.a;
    const lo = (r[b + PC]! + 4) | 0;
    this.pool.set(b + PC, lo);
    if (lo === 0) this.pool.set(b + PC + 1, r[b + PC + 1]! + 1);
  }
  private outcome(result: number): number {
    return result === PE_EL2 ? STEP_EL2 : result === PE_EL1 ? STEP_RELOAD : STEP_NEXT;
  }

  /**
   * Takes a virtual SError if one is pending and not masked (HCR_EL2.VSE with AMO, PSTATE.A = 0): the
   * syndrome comes from VSESR_EL2 with FEAT_RAS, and HCR_EL2.VSE is cleared.
   */
  takePendingSerror(v: number, b: number): boolean {
    const r = this.pool.a;
    const hcr = r[b + HCR_EL2]!;
    if ((hcr & (HCR_VSE | HCR_AMO)) !== (HCR_VSE | HCR_AMO) || (r[b + PSTATE]! & PSTATE_A) !== 0) return false;
    this.pool.set(b + HCR_EL2, hcr & ~HCR_VSE);
    const iss = this.features.ras ? r[b + VSESR_EL2]! & 0x1ffffff : 0;
    this.exceptions.takeWithoutFar(v, syndromeOf(EC_SERROR, iss), VECTOR_SERROR);
    return true;
  }

  /** ERET, and what follows at once: an illegal execution state, a pending SError. */
  private eret(v: number, b: number): number {
    this.exceptions.eret(v);
    if ((this.pool.a[b + PSTATE]! & PSTATE_IL) !== 0) return this.toEl1(v, EC_ILLEGAL, 0);
    this.takePendingSerror(v, b);
    return STEP_RELOAD;
  }

  /** Executes one decoded instruction of this group; PC in the register file is at it. @returns a STEP_ code */
  execute(dec: Int32Array, d: number, v: number, b: number): number {
    const op = dec[d + F_OP]!;
    const r = this.pool.a;
    const el0 = (r[b + PSTATE]! & 0xc) === 0;
    const lo = dec[d + F_LO]!;
    switch (op) {
      case Op.Nop:
        return STEP_NEXT;
      case Op.Wfe:
        if (el0 && (r[b + SCTLR_EL1]! & SCTLR_NTWE) === 0) return this.toEl1(v, EC_WFX, (1 << 24) | (0xe << 20) | 1);
        return STEP_NEXT;
      case Op.Wfi:
        if (el0 && (r[b + SCTLR_EL1]! & SCTLR_NTWI) === 0) return this.toEl1(v, EC_WFX, (1 << 24) | (0xe << 20));
        this.toEl2(b, EC_WFX, (1 << 24) | (0xe << 20));
        this.advance(b);
        return STEP_WFI;
      case Op.Svc:
        this.advance(b);
        return this.toEl1(v, EC_SVC64, lo);
      case Op.Hvc:
        if (el0 || (r[b + HCR_EL2]! & HCR_HCD) !== 0) return this.undefinedInstruction(v);
        this.advance(b);
        return this.toEl2(b, EC_HVC64, lo);
      case Op.Smc:
        if (el0 || (r[b + HCR_EL2]! & HCR_TSC) === 0) return this.undefinedInstruction(v);
        return this.toEl2(b, EC_SMC64, lo);
      case Op.Brk:
        return this.toEl1(v, EC_BRK64, lo);
      case Op.Eret:
        return el0 ? this.undefinedInstruction(v) : this.eret(v, b);
      case Op.Dsb:
        this.pe.dsb(v, lo);
        return STEP_NEXT;
      case Op.DsbNxs:
        this.pe.dsb(v, lo | DSB_NXS);
        return STEP_NEXT;
      case Op.Dmb:
        this.pe.dmb(v, lo);
        return STEP_NEXT;
      case Op.Isb:
        this.pe.isb(v);
        return STEP_NEXT;
      case Op.Mrs:
        return this.mrs(dec, d, v, b, el0);
      case Op.Msr:
        return this.msr(dec, d, v, b, el0);
      case Op.MsrImm:
        return this.msrImmediate(v, b, lo, dec[d + F_HI]!, el0);
      case Op.Dc:
        return this.dc(lo, dec[d + F_HI]! !== 0, b + dec[d + F_RD]!, v, b, el0);
      case Op.Ic:
        return this.ic(lo, dec[d + F_HI]! !== 0, b + dec[d + F_RD]!, v, b, el0);
      case Op.At: {
        if (el0) return this.undefinedInstruction(v);
        const t = b + dec[d + F_RD]!;
        return this.outcome(this.pe.at(v, lo as AtOp, r[t + 1]!, r[t]!));
      }
      case Op.Tlbi: {
        if (el0) return this.undefinedInstruction(v);
        if ((r[b + HCR_EL2]! & HCR_TTLB) !== 0) return this.toEl2(b, EC_SYS64, sysIss(this.word));
        const t = b + dec[d + F_RD]!;
        this.pe.tlbi(v, lo, r[t + 1]!, r[t]!);
        return STEP_NEXT;
      }
      default:
        return this.undefinedInstruction(v);
    }
  }

  // ---- maintenance

  private dc(op: DcOp, el0Allowed: boolean, t: number, v: number, b: number, el0: boolean): number {
    const r = this.pool.a;
    const hcr = r[b + HCR_EL2]!;
    if (el0) {
      if (!el0Allowed) return this.undefinedInstruction(v);
      const enable = op === DcOp.Zva ? SCTLR_DZE : SCTLR_UCI;
      if ((r[b + SCTLR_EL1]! & enable) === 0) return this.toEl1(v, EC_SYS64, sysIss(this.word));
    }
    const trap =
      op === DcOp.Zva ? HCR_TDZ : op === DcOp.Isw || op === DcOp.Csw || op === DcOp.Cisw ? HCR_TSW : op === DcOp.Cvau ? HCR_TPU : HCR_TPCP;
    if ((hcr & trap) !== 0) return this.toEl2(b, EC_SYS64, sysIss(this.word));
    return this.outcome(this.pe.dc(v, op, r[t + 1]!, r[t]!));
  }
  private ic(op: IcOp, el0Allowed: boolean, t: number, v: number, b: number, el0: boolean): number {
    const r = this.pool.a;
    if (el0) {
      if (!el0Allowed) return this.undefinedInstruction(v);
      if ((r[b + SCTLR_EL1]! & SCTLR_UCI) === 0) return this.toEl1(v, EC_SYS64, sysIss(this.word));
    }
    if ((r[b + HCR_EL2]! & HCR_TPU) !== 0) return this.toEl2(b, EC_SYS64, sysIss(this.word));
    const address = op === IcOp.Ivau;
    return this.outcome(this.pe.ic(v, op, address ? r[t + 1]! : 0, address ? r[t]! : 0));
  }

  // ---- system registers

  /** Who may: 0, or the STEP_ code of the trap taken. */
  private allowed(s: Sysreg, write: boolean, v: number, b: number, el0: boolean): number {
    const r = this.pool.a;
    if (write ? !s.write : !s.read) return this.undefinedInstruction(v);
    if (s.feature !== undefined && !this.features[s.feature]) return this.undefinedInstruction(v);
    if (el0) {
      if (write ? !s.el0Write : !s.el0Read) {
        if (s.kind === SysregKind.Daif && (r[b + SCTLR_EL1]! & SCTLR_UMA) !== 0) return STEP_NEXT;
        return s.kind === SysregKind.Daif ? this.toEl1(v, EC_SYS64, sysIss(this.word)) : this.undefinedInstruction(v);
      }
      if (s.slot === CTR_EL0 && (r[b + SCTLR_EL1]! & SCTLR_UCT) === 0) return this.toEl1(v, EC_SYS64, sysIss(this.word));
    }
    if (s.kind === SysregKind.SpEl0 && (r[b + PSTATE]! & 1) === 0) return this.undefinedInstruction(v);
    if (s.vm && (r[b + HCR_EL2]! & (write ? HCR_TVM : HCR_TRVM)) !== 0) return this.toEl2(b, EC_SYS64, sysIss(this.word));
    return STEP_NEXT;
  }

  private mrs(dec: Int32Array, d: number, v: number, b: number, el0: boolean): number {
    const n = dec[d + F_LO]!;
    const rd = dec[d + F_RD]!;
    if (n < 0) {
      // An identification register that does not exist reads as zero.
      if (dec[d + F_HI] !== 1 || el0) return this.undefinedInstruction(v);
      this.putX(b, rd, 0, 0);
      return STEP_NEXT;
    }
    const s = SYSREGS[n]!;
    const trapped = this.allowed(s, false, v, b, el0);
    if (trapped !== STEP_NEXT) return trapped;
    this.readSysreg(s, b);
    this.putX(b, rd, this.valueLo, this.valueHi);
    return STEP_NEXT;
  }
  private putX(b: number, rd: number, lo: number, hi: number): void {
    if (rd === ZR) return;
    this.pool.set(b + rd, lo);
    this.pool.set(b + rd + 1, hi);
  }

  private readSysreg(s: Sysreg, b: number): void {
    const r = this.pool.a;
    const pstate = r[b + PSTATE]!;
    this.valueHi = 0;
    switch (s.kind) {
      case SysregKind.Slot:
      case SysregKind.SpEl0:
        this.valueLo = r[b + s.slot]!;
        this.valueHi = r[b + s.slot + 1]!;
        return;
      case SysregKind.Nzcv:
        this.valueLo = pstate & NZCV;
        return;
      case SysregKind.Daif:
        this.valueLo = pstate & PSTATE_DAIF;
        return;
      case SysregKind.CurrentEl:
        this.valueLo = pstate & 0xc;
        return;
      case SysregKind.SpSel:
        this.valueLo = pstate & 1;
        return;
      case SysregKind.Pan:
        this.valueLo = pstate & PSTATE_PAN;
        return;
      case SysregKind.Uao:
        this.valueLo = pstate & PSTATE_UAO;
        return;
      case SysregKind.Dit:
        this.valueLo = pstate & PSTATE_DIT;
        return;
      case SysregKind.Ssbs:
        this.valueLo = pstate & PSTATE_SSBS;
        return;
      case SysregKind.Tco:
        this.valueLo = pstate & PSTATE_TCO;
        return;
      case SysregKind.Counter: {
        const agents = this.sim.agents;
        const ticks = Math.floor(agents.now / CYCLES_PER_TICK);
        this.valueLo = ticks | 0;
        this.valueHi = (ticks / 4294967296) | 0;
        return;
      }
      case SysregKind.Zero:
        this.valueLo = 0;
    }
  }

  private msr(dec: Int32Array, d: number, v: number, b: number, el0: boolean): number {
    const n = dec[d + F_LO]!;
    if (n < 0) return this.undefinedInstruction(v);
    const s = SYSREGS[n]!;
    const trapped = this.allowed(s, true, v, b, el0);
    if (trapped !== STEP_NEXT) return trapped;
    const r = this.pool.a;
    const t = b + dec[d + F_RD]!;
    const lo = r[t]!;
    const hi = r[t + 1]!;
    switch (s.kind) {
      case SysregKind.Slot:
      case SysregKind.SpEl0:
        this.pool.set(b + s.slot, s.slot === VBAR_EL1 ? lo & ~0x7ff : lo);
        this.pool.set(b + s.slot + 1, hi);
        return STEP_NEXT;
      case SysregKind.Nzcv:
        return this.setPstate(v, b, NZCV, lo);
      case SysregKind.Daif:
        return this.setPstate(v, b, PSTATE_DAIF, lo);
      case SysregKind.SpSel:
        return this.setPstate(v, b, 1, lo);
      case SysregKind.Pan:
        return this.setPstate(v, b, PSTATE_PAN, lo);
      case SysregKind.Uao:
        return this.setPstate(v, b, PSTATE_UAO, lo);
      case SysregKind.Dit:
        return this.setPstate(v, b, PSTATE_DIT, lo);
      case SysregKind.Ssbs:
        return this.setPstate(v, b, PSTATE_SSBS, lo);
      case SysregKind.Tco:
        return this.setPstate(v, b, PSTATE_TCO, lo);
      default:
        return STEP_NEXT;
    }
  }

  /** Changes PSTATE fields; unmasking SError may take one at once, after this instruction. */
  private setPstate(v: number, b: number, mask: number, value: number): number {
    const old = this.pool.a[b + PSTATE]!;
    this.pool.set(b + PSTATE, (old & ~mask) | (value & mask));
    if ((mask & PSTATE_A) === 0 || (this.pool.a[b + HCR_EL2]! & HCR_VSE) === 0 || (value & PSTATE_A) !== 0) return STEP_NEXT;
    this.advance(b);
    this.takePendingSerror(v, b);
    return STEP_RELOAD;
  }

  /** MSR (immediate). @param field op1:op2 */
  private msrImmediate(v: number, b: number, imm: number, field: number, el0: boolean): number {
    const daif = this.pool.a[b + PSTATE]! & PSTATE_DAIF;
    switch (field) {
      case 0o36:
      case 0o37:
        if (el0 && (this.pool.a[b + SCTLR_EL1]! & SCTLR_UMA) === 0) return this.toEl1(v, EC_SYS64, sysIss(this.word));
        return this.setPstate(v, b, PSTATE_DAIF, field === 0o36 ? daif | (imm << 6) : daif & ~(imm << 6));
      case 0o31:
        return this.setPstate(v, b, PSTATE_SSBS, imm !== 0 ? PSTATE_SSBS : 0);
      case 0o32:
        return this.setPstate(v, b, PSTATE_DIT, imm !== 0 ? PSTATE_DIT : 0);
      case 0o34:
        return this.setPstate(v, b, PSTATE_TCO, imm !== 0 ? PSTATE_TCO : 0);
      default:
        break;
    }
    if (el0) return this.undefinedInstruction(v);
    switch (field) {
      case 0o05:
        return this.setPstate(v, b, 1, imm & 1);
      case 0o04:
        return this.setPstate(v, b, PSTATE_PAN, imm !== 0 ? PSTATE_PAN : 0);
      case 0o03:
        return this.setPstate(v, b, PSTATE_UAO, imm !== 0 ? PSTATE_UAO : 0);
      default:
        return this.undefinedInstruction(v);
    }
  }
}
