/**
 * Exception entry to EL1 and return from it (Arm ARM: AArch64.TakeException, AArch64.ExceptionReturn),
 * for exceptions that the PE takes by itself and for those that KVM injects.
 */
import type { CpuFeatures } from "./features.js";
import {
  ELR_EL1,
  ESR_EL1,
  FAR_EL1,
  MODE_EL1H,
  MONITOR,
  PC,
  PSTATE,
  PSTATE_BTYPE,
  PSTATE_C,
  PSTATE_DAIF,
  PSTATE_DIT,
  PSTATE_M,
  PSTATE_N,
  PSTATE_PAN,
  PSTATE_SSBS,
  PSTATE_TCO,
  PSTATE_UAO,
  PSTATE_V,
  PSTATE_Z,
  SCTLR_DSSBS_HI,
  SCTLR_EL1,
  SCTLR_SPAN,
  SPSR_EL1,
  VBAR_EL1,
  type RegisterFile,
} from "./registers.js";

/** What is taken: the low part of the vector offset. */
export const VECTOR_SYNC = 0x000;
export const VECTOR_IRQ = 0x080;
export const VECTOR_FIQ = 0x100;
export const VECTOR_SERROR = 0x180;

/** FAR is written only for aborts and alignment faults; pass this kind of exception without one. */
export const NO_FAR = -1;

/** Exception classes (ESR_ELx.EC). */
export const EC_UNKNOWN = 0x00;
export const EC_WFX = 0x01;
export const EC_FP = 0x07;
export const EC_BTI = 0x0d;
export const EC_ILLEGAL = 0x0e;
export const EC_SVC64 = 0x15;
export const EC_HVC64 = 0x16;
export const EC_SMC64 = 0x17;
export const EC_SYS64 = 0x18;
export const EC_IABT_LOW = 0x20;
export const EC_IABT_CUR = 0x21;
export const EC_PC_ALIGN = 0x22;
export const EC_DABT_LOW = 0x24;
export const EC_DABT_CUR = 0x25;
export const EC_SP_ALIGN = 0x26;
export const EC_SERROR = 0x2f;
export const EC_BRK64 = 0x3c;
/** ESR_ELx.IL: a 32-bit instruction. */
export const ESR_IL = 1 << 25;

/** Builds ESR_ELx from class and ISS, IL set. */
export function syndromeOf(ec: number, iss: number): number {
  return (ec << 26) | ESR_IL | iss;
}

/** Offset of the vector: 0x000 EL1 with SP_EL0, 0x200 EL1 with SP_EL1, 0x400 from AArch64 EL0, 0x600 from AArch32 EL0. */
export function vectorOffset(pstate: number, kind: number): number {
  if ((pstate & 0x10) !== 0) return 0x600 + kind;
  const mode = pstate & PSTATE_M;
  return (mode === 0 ? 0x400 : mode === MODE_EL1H ? 0x200 : 0x000) + kind;
}

/** PSTATE after entry to EL1: flags and DIT kept, interrupts masked, EL1h, BTYPE, IL, SS, UAO cleared. */
export function pstateAtEntry(features: CpuFeatures, pstate: number, sctlrHi: number, sctlrLo: number): number {
  let p = (pstate & (PSTATE_N | PSTATE_Z | PSTATE_C | PSTATE_V)) | PSTATE_DAIF | MODE_EL1H;
  if (features.dit) p |= pstate & PSTATE_DIT;
  if (features.pan) {
    p |= pstate & PSTATE_PAN;
    if ((sctlrLo & SCTLR_SPAN) === 0) p |= PSTATE_PAN;
  }
  if (features.ssbs && (sctlrHi & SCTLR_DSSBS_HI) !== 0) p |= PSTATE_SSBS;
  if (features.mte) p |= PSTATE_TCO;
  return p;
}

/** Exception entry for all vCPUs of one CPU model. */
export class Exceptions {
  constructor(
    private readonly regs: RegisterFile,
    private readonly features: CpuFeatures,
  ) {}

  /**
   * Takes an exception to EL1: ESR, ELR, SPSR, PSTATE, PC.
   * @param kind VECTOR_SYNC, VECTOR_IRQ, VECTOR_FIQ or VECTOR_SERROR
   * @param esrHi ESR_EL1[63:32]
   */
  takeWithoutFar(v: number, esr: number, kind: number, esrHi = 0): void {
    const pool = this.regs.pool;
    const r = pool.a;
    const b = this.regs.base(v);
    const pstate = r[b + PSTATE]!;
    pool.set(b + ESR_EL1, esr);
    pool.set(b + ESR_EL1 + 1, esrHi);
    pool.set(b + ELR_EL1, r[b + PC]!);
    pool.set(b + ELR_EL1 + 1, r[b + PC + 1]!);
    pool.set(b + SPSR_EL1, pstate);
    pool.set(b + SPSR_EL1 + 1, 0);
    pool.set(b + PSTATE, pstateAtEntry(this.features, pstate, r[b + SCTLR_EL1 + 1]!, r[b + SCTLR_EL1]!));
    // VBAR[10:0] are zero, so the offset never carries.
    pool.set(b + PC, (r[b + VBAR_EL1]! & ~0x7ff) | vectorOffset(pstate, kind));
    pool.set(b + PC + 1, r[b + VBAR_EL1 + 1]!);
  }

  /** As above, for an abort or alignment fault: FAR_EL1 too. */
  takeExceptionEl1(v: number, esr: number, farHi: number, farLo: number, kind = VECTOR_SYNC, esrHi = 0): void {
    const pool = this.regs.pool;
    const b = this.regs.base(v);
    pool.set(b + FAR_EL1, farLo);
    pool.set(b + FAR_EL1 + 1, farHi);
    this.takeWithoutFar(v, esr, kind, esrHi);
  }

  /**
   * ERET at EL1: PSTATE from SPSR_EL1 and PC from ELR_EL1; the exclusive monitor is cleared. A mode
   * that does not exist for the guest, or AArch32, is an illegal return: PSTATE.IL is set and the mode stays.
   */
  eret(v: number): void {
    const pool = this.regs.pool;
    const r = pool.a;
    const b = this.regs.base(v);
    const spsr = r[b + SPSR_EL1]!;
    const mode = spsr & 0x1f;
    const old = r[b + PSTATE]!;
    let keep = PSTATE_N | PSTATE_Z | PSTATE_C | PSTATE_V | PSTATE_DAIF;
    if (this.features.dit) keep |= PSTATE_DIT;
    if (this.features.pan) keep |= PSTATE_PAN;
    if (this.features.uao) keep |= PSTATE_UAO;
    if (this.features.ssbs) keep |= PSTATE_SSBS;
    if (this.features.bti) keep |= PSTATE_BTYPE;
    if (this.features.mte) keep |= PSTATE_TCO;
    const legal = mode === 0 || mode === 4 || mode === 5;
    const flags = spsr & keep;
    pool.set(b + PSTATE, legal ? flags | (spsr & (1 << 20)) | mode : (flags & ~PSTATE_BTYPE) | (1 << 20) | (old & PSTATE_M));
    pool.set(b + PC, r[b + ELR_EL1]!);
    pool.set(b + PC + 1, r[b + ELR_EL1 + 1]!);
    pool.set(b + MONITOR, 0);
  }
}
