/**
 * The register file of every vCPU: what KVM keeps in `struct kvm_cpu_context` and what the PE holds
 * while the guest runs. One pool, one slice of REGS_WORDS words for each vCPU.
 *
 * A register is two words, low then high; PSTATE and the flags below are one. `regs.base(v) + NAME`
 * is the index of the low word. Register n of X0..X30 is at X + 2n; slot 31 (ZR) always reads zero
 * and must not be written. Vn is four words at V + 4n.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { CpuFeatures } from "./features.js";

/** X0..X30, then the zero register. */
export const X = 0;
export const ZR = 62;
/** V0..V31, four words each. */
export const V = 64;

/** Names of the 64-bit slots after V, in order of layout. */
const SLOTS = [
  "SP_EL0",
  "SP_EL1",
  "PC",
  "PSTATE",
  "ESR_EL1",
  "FAR_EL1",
  "ELR_EL1",
  "SPSR_EL1",
  "VBAR_EL1",
  "SCTLR_EL1",
  "TCR_EL1",
  "TTBR0_EL1",
  "TTBR1_EL1",
  "MAIR_EL1",
  "AMAIR_EL1",
  "AFSR0_EL1",
  "AFSR1_EL1",
  "CONTEXTIDR_EL1",
  "TPIDR_EL0",
  "TPIDRRO_EL0",
  "TPIDR_EL1",
  "PAR_EL1",
  "CPACR_EL1",
  "CSSELR_EL1",
  "MDSCR_EL1",
  "CNTKCTL_EL1",
  "CNTV_CTL_EL0",
  "CNTV_CVAL_EL0",
  "CNTFRQ_EL0",
  "FPCR",
  "FPSR",
  "DISR_EL1",
  "ESR_EL2",
  "FAR_EL2",
  "HPFAR_EL2",
  "HCR_EL2",
  "VTTBR_EL2",
  "VTCR_EL2",
  "VSESR_EL2",
  "CNTVOFF_EL2",
  "MIDR_EL1",
  "MPIDR_EL1",
  "REVIDR_EL1",
  "CTR_EL0",
  "DCZID_EL0",
  "CLIDR_EL1",
  "CCSIDR_EL1",
  "ID_AA64PFR0_EL1",
  "ID_AA64PFR1_EL1",
  "ID_AA64ZFR0_EL1",
  "ID_AA64SMFR0_EL1",
  "ID_AA64DFR0_EL1",
  "ID_AA64DFR1_EL1",
  "ID_AA64ISAR0_EL1",
  "ID_AA64ISAR1_EL1",
  "ID_AA64ISAR2_EL1",
  "ID_AA64MMFR0_EL1",
  "ID_AA64MMFR1_EL1",
  "ID_AA64MMFR2_EL1",
  "ID_AA64MMFR3_EL1",
  "MONITOR_VA",
  "MONITOR",
  "MONITOR_DATA",
  "MONITOR_DATA2",
  "STOP_PC",
  "STOP_ENABLED",
] as const;

/** Every slot's name, in order. */
export const SLOT_NAMES: readonly string[] = SLOTS;
/** A register that has its own slot in the file. */
export type SlotName = (typeof SLOTS)[number];

const SLOT_BASE = V + 128;
/** Word offset of a named register. The constants below are the same numbers, written out so that a bundler can inline them; a test compares. */
export function slot(name: SlotName): number {
  return SLOT_BASE + 2 * SLOTS.indexOf(name);
}

export const SP_EL0 = 192;
export const SP_EL1 = 194;
export const PC = 196;
/** One word in the format of SPSR_EL1: NZCV 31:28, SSBS 12, BTYPE 11:10, DAIF 9:6, M 3:0 … */
export const PSTATE = 198;
export const ESR_EL1 = 200;
export const FAR_EL1 = 202;
export const ELR_EL1 = 204;
export const SPSR_EL1 = 206;
export const VBAR_EL1 = 208;
export const SCTLR_EL1 = 210;
export const TCR_EL1 = 212;
export const TTBR0_EL1 = 214;
export const TTBR1_EL1 = 216;
export const MAIR_EL1 = 218;
export const AMAIR_EL1 = 220;
export const AFSR0_EL1 = 222;
export const AFSR1_EL1 = 224;
export const CONTEXTIDR_EL1 = 226;
export const TPIDR_EL0 = 228;
export const TPIDRRO_EL0 = 230;
export const TPIDR_EL1 = 232;
export const PAR_EL1 = 234;
export const CPACR_EL1 = 236;
export const CSSELR_EL1 = 238;
export const MDSCR_EL1 = 240;
export const CNTKCTL_EL1 = 242;
export const CNTV_CTL_EL0 = 244;
export const CNTV_CVAL_EL0 = 246;
export const CNTFRQ_EL0 = 248;
export const FPCR = 250;
export const FPSR = 252;
export const DISR_EL1 = 254;
/** Latched when the PE leaves the guest for EL2. */
export const ESR_EL2 = 256;
export const FAR_EL2 = 258;
export const HPFAR_EL2 = 260;
/** The EL2 controls under which this vCPU runs; KVM writes them. */
export const HCR_EL2 = 262;
export const VTTBR_EL2 = 264;
export const VTCR_EL2 = 266;
export const VSESR_EL2 = 268;
export const CNTVOFF_EL2 = 270;
/** What the guest reads as its identity; a copy of the profile's values that KVM may narrow. */
export const MIDR_EL1 = 272;
export const MPIDR_EL1 = 274;
export const CTR_EL0 = 278;
export const DCZID_EL0 = 280;
export const ID_AA64PFR0_EL1 = 286;
export const ID_AA64PFR1_EL1 = 288;
export const ID_AA64ISAR0_EL1 = 298;
export const ID_AA64MMFR0_EL1 = 304;
export const ID_AA64MMFR1_EL1 = 306;
export const ID_AA64MMFR2_EL1 = 308;
/** Exclusive monitor: in MONITOR the size in bytes (0: open), then the address and the data that were read. */
export const MONITOR_VA = 312;
export const MONITOR = 314;
/** Four words. */
export const MONITOR_DATA = 316;
/** A breakpoint of the driver: the CPU stops before it executes this address, if STOP_ENABLED is 1. */
export const STOP_PC = 320;
export const STOP_ENABLED = 322;

/** Words of one vCPU's slice. */
export const REGS_WORDS = 324;

/** PSTATE and SPSR_EL1 fields (Arm ARM C5.2, SPSR_EL1). */
export const PSTATE_N = 1 << 31;
export const PSTATE_Z = 1 << 30;
export const PSTATE_C = 1 << 29;
export const PSTATE_V = 1 << 28;
export const PSTATE_TCO = 1 << 25;
export const PSTATE_DIT = 1 << 24;
export const PSTATE_UAO = 1 << 23;
export const PSTATE_PAN = 1 << 22;
export const PSTATE_SS = 1 << 21;
export const PSTATE_IL = 1 << 20;
export const PSTATE_SSBS = 1 << 12;
export const PSTATE_BTYPE = 3 << 10;
export const PSTATE_D = 1 << 9;
export const PSTATE_A = 1 << 8;
export const PSTATE_I = 1 << 7;
export const PSTATE_F = 1 << 6;
export const PSTATE_DAIF = PSTATE_D | PSTATE_A | PSTATE_I | PSTATE_F;
/** M[3:0]: EL0t 0, EL1t 4, EL1h 5. */
export const PSTATE_M = 0xf;
export const MODE_EL0T = 0;
export const MODE_EL1T = 4;
export const MODE_EL1H = 5;

/** SCTLR_EL1 bits that the path asks (low word). */
export const SCTLR_M = 1 << 0;
export const SCTLR_A = 1 << 1;
export const SCTLR_C = 1 << 2;
export const SCTLR_SA = 1 << 3;
export const SCTLR_SA0 = 1 << 4;
export const SCTLR_UMA = 1 << 9;
export const SCTLR_I = 1 << 12;
export const SCTLR_DZE = 1 << 14;
export const SCTLR_UCT = 1 << 15;
export const SCTLR_NTWI = 1 << 16;
export const SCTLR_NTWE = 1 << 18;
export const SCTLR_WXN = 1 << 19;
export const SCTLR_SPAN = 1 << 23;
export const SCTLR_UCI = 1 << 26;
/** SCTLR_EL1.DSSBS, bit 44: in the high word. */
export const SCTLR_DSSBS_HI = 1 << 12;

/** HCR_EL2 bits (low word), and FWB (bit 46) in the high word. */
export const HCR_VM = 1 << 0;
export const HCR_SWIO = 1 << 1;
export const HCR_PTW = 1 << 2;
export const HCR_FMO = 1 << 3;
export const HCR_IMO = 1 << 4;
export const HCR_AMO = 1 << 5;
export const HCR_VSE = 1 << 8;
export const HCR_FB = 1 << 9;
export const HCR_DC = 1 << 12;
/** In the high word: ID (bit 33), DCT (bit 57). */
export const HCR_ID_HI = 1 << 1;
export const HCR_DCT_HI = 1 << 25;
export const HCR_TWI = 1 << 13;
export const HCR_TWE = 1 << 14;
export const HCR_TSC = 1 << 19;
export const HCR_TSW = 1 << 22;
export const HCR_TPCP = 1 << 23;
export const HCR_TPU = 1 << 24;
export const HCR_TTLB = 1 << 25;
export const HCR_TVM = 1 << 26;
export const HCR_TGE = 1 << 27;
export const HCR_TDZ = 1 << 28;
export const HCR_HCD = 1 << 29;
export const HCR_TRVM = 1 << 30;
export const HCR_RW = 1 << 31;
export const HCR_E2H_HI = 1 << 2;
/** Bit 37: synchronous external aborts of EL1 and EL0 go to EL2 (FEAT_RAS). */
export const HCR_TEA_HI = 1 << 5;
export const HCR_FWB_HI = 1 << 14;

/** Offset of X<n>; 31 is the zero register. */
export function xreg(n: number): number {
  return X + 2 * n;
}

/** The register files of all vCPUs. */
export class RegisterFile {
  readonly pool: I32Pool;
  /** [0] how many vCPUs there are. */
  private readonly countPool: I32Pool;

  constructor(sim: Sim) {
    this.pool = sim.state.i32("vcpu.regs", REGS_WORDS);
    this.countPool = sim.state.i32("vcpu.count", 1);
  }

  get count(): number {
    return this.countPool.a[0]!;
  }

  /** Adds a vCPU, in its reset state when features are given. @returns its number, from 0. */
  add(features?: CpuFeatures): number {
    const v = this.countPool.a[0]!;
    this.countPool.set(0, v + 1);
    this.pool.ensure((v + 1) * REGS_WORDS);
    if (features !== undefined) this.reset(v, features);
    return v;
  }

  /**
   * Reset state as KVM gives it to user space (reset.c, sys_regs.c): EL1h, DAIF masked, SCTLR_EL1
   * 0x00C50078, identification registers of the CPU; plus FP enabled (CPACR_EL1.FPEN), as the first
   * instruction of any guest's start code would.
   */
  reset(v: number, features: CpuFeatures): void {
    const base = this.base(v);
    for (let i = 0; i < REGS_WORDS; i++) this.pool.set(base + i, 0);
    this.pool.set(base + PSTATE, PSTATE_DAIF | MODE_EL1H);
    this.pool.set(base + SCTLR_EL1, 0x00c50078);
    this.pool.set(base + CPACR_EL1, 0x00300000);
    this.pool.set(base + CNTFRQ_EL0, 62_500_000);
    this.set64(v, MPIDR_EL1, 0, 0x80000000 | ((v & 0xf0) << 4) | (v & 0xf));
    for (const [name, value] of Object.entries(features.id)) this.set64(v, slot(name as SlotName), value[0], value[1]);
  }

  /** Index of a vCPU's first word. */
  base(v: number): number {
    return Math.imul(v, REGS_WORDS);
  }
  lo(v: number, off: number): number {
    return this.pool.a[Math.imul(v, REGS_WORDS) + off]!;
  }
  hi(v: number, off: number): number {
    return this.pool.a[Math.imul(v, REGS_WORDS) + off + 1]!;
  }
  set64(v: number, off: number, hi: number, lo: number): void {
    this.pool.set2(Math.imul(v, REGS_WORDS) + off, lo | 0, hi | 0);
  }
  /** A register as a number: exact below 2^53. */
  num(v: number, off: number): number {
    const i = Math.imul(v, REGS_WORDS) + off;
    return (this.pool.a[i + 1]! >>> 0) * 4294967296 + (this.pool.a[i]! >>> 0);
  }
  setNum(v: number, off: number, value: number): void {
    this.set64(v, off, (value / 4294967296) | 0, value | 0);
  }
  /** A register as a BigInt, for people and the public API. */
  big(v: number, off: number): bigint {
    return (BigInt(this.hi(v, off) >>> 0) << 32n) | BigInt(this.lo(v, off) >>> 0);
  }
  setBig(v: number, off: number, value: bigint): void {
    this.set64(v, off, Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value)));
  }

  /** 0 or 1: the exception level of PSTATE.M. */
  el(v: number): number {
    return (this.pool.a[Math.imul(v, REGS_WORDS) + PSTATE]! >> 2) & 3;
  }
}
