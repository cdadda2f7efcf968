/**
 * What a vCPU's system registers mean for its next access, and the TLB contexts that go with them: a
 * cache over the register file. It is checked against the registers before every use, so whoever
 * writes them (the guest's MSR, KVM, undo) need not tell.
 */
import type { Agents } from "../sim/agents.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { CpuFeatures } from "./features.js";
import { VTCR_VS } from "./geometry.js";
import {
  HCR_DC,
  HCR_EL2,
  HCR_VM,
  PSTATE,
  PSTATE_M,
  PSTATE_PAN,
  REGS_WORDS,
  SCTLR_A,
  SCTLR_EL1,
  SCTLR_M,
  TCR_EL1,
  TTBR0_EL1,
  TTBR1_EL1,
  VTCR_EL2,
  VTTBR_EL2,
  type RegisterFile,
} from "./registers.js";
import {
  COMBINED,
  CTX_ASID,
  CTX_GLOBAL,
  CTX_OFF,
  CTX_STAGE2,
  F_R0,
  F_R1,
  F_R1_PAN,
  F_W0,
  F_W1,
  F_W1_PAN,
  F_X0,
  F_X1,
  type Tlbs,
} from "./tlb.js";

const TCR_A1 = 1 << 22;
/** TCR_EL1.AS, TBI0, TBI1 in the high word. */
const TCR_AS_HI = 1 << 4;
const TCR_TBI0_HI = 1 << 5;
const TCR_TBI1_HI = 1 << 6;
const PSTATE_MASK = PSTATE_PAN | PSTATE_M;

export class GuestContext {
  v = -1;
  cpu = -1;
  /** How often it was made anew: what was known of entries in it is good while this stands. */
  loads = 0;
  private epoch = 0;
  private serial = -1;
  /** Registers as they were; of the ASID's TTBR and VTTBR the high words, of PSTATE the mode and PAN. */
  private sctlr = 0;
  private tcr = 0;
  private tcrHi = 0;
  private ttbr = 0;
  /** High word of the TTBR that holds the ASID (TCR_EL1.A1). */
  private asidAt = TTBR0_EL1 + 1;
  private vttbr = 0;
  hcr = 0;
  private pstate = 0;
  private readonly regs: I32Pool;
  private readonly agents: Agents;

  /** First combined entry of this CPU. */
  first = 0;
  vmid = 0;
  asid = 0;
  /** VMID << 16 | ASID. */
  ids = 0;
  asidTag = 0;
  globalTag = 0;
  stage2Tag = 0;
  /** Stage 1 translates (SCTLR_EL1.M, and HCR_EL2.DC is 0). */
  stage1 = false;
  stage2 = false;
  el0 = false;
  /** SCTLR_EL1.A: every unaligned access faults. */
  strictAlignment = false;
  /** Top-byte-ignore: VA[63:32] & tbiAnd in the lower half, | tbiOr in the upper. */
  tbiAnd = -1;
  tbiOr = 0;
  /** Permission that a read, write or fetch needs in an entry. */
  readMask = F_R1;
  writeMask = F_W1;
  fetchMask = F_X1;

  constructor(
    sim: Sim,
    regs: RegisterFile,
    private readonly tlbs: Tlbs,
    private readonly features: CpuFeatures,
  ) {
    this.regs = regs.pool;
    this.agents = sim.agents;
  }

  /** True when this is not the context of vCPU v on the running CPU, as the registers stand now. */
  outdated(v: number): boolean {
    return this.tlbs.epoch.a[0] !== this.epoch || this.tlbs.serial !== this.serial || this.registersDiffer(v);
  }

  private registersDiffer(v: number): boolean {
    if (v !== this.v || this.agents.cpu !== this.cpu) return true;
    const r = this.regs.a;
    const b = Math.imul(v, REGS_WORDS);
    return (
      ((r[b + SCTLR_EL1]! ^ this.sctlr) |
        (r[b + TCR_EL1]! ^ this.tcr) |
        (r[b + TCR_EL1 + 1]! ^ this.tcrHi) |
        (r[b + this.asidAt]! ^ this.ttbr) |
        (r[b + VTTBR_EL2 + 1]! ^ this.vttbr) |
        (r[b + HCR_EL2]! ^ this.hcr) |
        ((r[b + PSTATE]! & PSTATE_MASK) ^ this.pstate)) !==
      0
    );
  }

  /** Makes this the context of vCPU v on the running CPU. */
  load(v: number): void {
    this.loads++;
    if (this.registersDiffer(v)) this.readRegisters(v);
    this.findTags();
  }

  private readRegisters(v: number): void {
    const r = this.regs.a;
    const b = Math.imul(v, REGS_WORDS);
    const sctlr = (this.sctlr = r[b + SCTLR_EL1]!);
    const tcr = (this.tcr = r[b + TCR_EL1]!);
    const tcrHi = (this.tcrHi = r[b + TCR_EL1 + 1]!);
    this.asidAt = (tcr & TCR_A1) !== 0 ? TTBR1_EL1 + 1 : TTBR0_EL1 + 1;
    this.ttbr = r[b + this.asidAt]!;
    const vttbr = (this.vttbr = r[b + VTTBR_EL2 + 1]!);
    const hcr = (this.hcr = r[b + HCR_EL2]!);
    const pstate = (this.pstate = r[b + PSTATE]! & PSTATE_MASK);
    // KVM sets VTCR_EL2 once, before the first VTTBR_EL2.
    const vtcr = r[b + VTCR_EL2]!;
    const cpu = this.agents.cpu;
    this.v = v;
    this.cpu = cpu;
    this.first = Math.imul(cpu, COMBINED);
    this.stage1 = (sctlr & SCTLR_M) !== 0 && (hcr & HCR_DC) === 0;
    this.stage2 = (hcr & (HCR_VM | HCR_DC)) !== 0;
    this.strictAlignment = (sctlr & SCTLR_A) !== 0;
    this.el0 = (pstate & 0xc) === 0;
    this.tbiAnd = (tcrHi & TCR_TBI0_HI) !== 0 ? 0x00ffffff : -1;
    this.tbiOr = (tcrHi & TCR_TBI1_HI) !== 0 ? -0x01000000 : 0;
    const pan = this.features.pan && !this.el0 && (pstate & PSTATE_PAN) !== 0;
    this.readMask = this.el0 ? F_R0 : pan ? F_R1_PAN : F_R1;
    this.writeMask = this.el0 ? F_W0 : pan ? F_W1_PAN : F_W1;
    this.fetchMask = this.el0 ? F_X0 : F_X1;
    this.vmid = (vttbr >>> 16) & ((vtcr & VTCR_VS) !== 0 ? 0xffff : 0xff);
    this.asid = this.ttbr >>> 16;
    if ((tcrHi & TCR_AS_HI) === 0) this.asid &= 0xff;
    this.ids = (this.vmid << 16) | this.asid;
  }

  /** Looks the TLB contexts up that go with the registers: a TLBI may have taken them. */
  private findTags(): void {
    const { cpu } = this;
    const t = this.tlbs;
    if (this.stage1) {
      this.asidTag = t.context(cpu, CTX_ASID, this.vmid, this.asid);
      this.globalTag = t.context(cpu, CTX_GLOBAL, this.vmid, 0);
    } else {
      this.asidTag = this.globalTag = t.context(cpu, CTX_OFF, this.vmid, 0);
    }
    this.stage2Tag = t.context(cpu, CTX_STAGE2, this.vmid, 0);
    this.epoch = t.epoch.a[0]!;
    this.serial = t.serial;
  }
}
