/**
 * Reads a guest's stage-1 tables through its stage 2 (Arm ARM D8.2.2), without TLB, events, costs or updates: for
 * dumps and explanations. Virtual addresses are pairs of words.
 */
import { HI_OA, outputAddressAt } from "../arch/descriptors.js";
import { bitsAt, blockAllowed, levelShift, startBits, startLevel, tg0Shift, tg1Shift } from "../arch/geometry.js";
import { HCR_DC, HCR_EL2, SCTLR_EL1, SCTLR_M, TCR_EL1, TTBR0_EL1, TTBR1_EL1 } from "../arch/registers.js";
import { Stage2 } from "../arch/stage2walk.js";
import { joinWords } from "../arch/types.js";
import type { Machine } from "../machine.js";

/** One half of the virtual address space of a vCPU, as TCR_EL1 and a TTBR describe it. */
export interface Half {
  readonly ttbr: "TTBR0_EL1" | "TTBR1_EL1";
  readonly table: number;
  /** Input bits: 64 - TxSZ. */
  readonly bits: number;
  readonly pageShift: number;
  readonly startLevel: number;
  readonly startBits: number;
  /** EPDx, or TxSZ out of range. */
  readonly disabled: boolean;
}

/** A descriptor that was read, or why it could not be. */
export interface WalkStep {
  readonly level: number;
  /** IPA of the descriptor. */
  readonly ipa: number;
  readonly hi: number;
  readonly lo: number;
  /** The descriptor cannot be read: "" if it can. */
  readonly unreadable: string;
}

export class GuestWalk {
  /** A walker of its own: its working words are nobody else's. */
  readonly stage2: Stage2;

  constructor(
    private readonly machine: Machine,
    readonly vcpu: number,
  ) {
    const { sim, registers, phys, tables, pe, features } = machine;
    this.stage2 = new Stage2(sim, registers, phys, tables, pe.tlbs, features);
  }

  /** SCTLR_EL1.M, and HCR_EL2.DC is 0. */
  get enabled(): boolean {
    const { registers } = this.machine;
    return (registers.lo(this.vcpu, SCTLR_EL1) & SCTLR_M) !== 0 && (registers.lo(this.vcpu, HCR_EL2) & HCR_DC) === 0;
  }

  half(upper: boolean): Half {
    const { registers } = this.machine;
    const tcr = registers.lo(this.vcpu, TCR_EL1);
    const tsz = upper ? (tcr >>> 16) & 0x3f : tcr & 0x3f;
    const pageShift = upper ? tg1Shift((tcr >>> 30) & 3) : tg0Shift((tcr >>> 14) & 3);
    const bits = 64 - tsz;
    const level = startLevel(bits, pageShift);
    const first = startBits(bits, level, pageShift);
    const at = upper ? TTBR1_EL1 : TTBR0_EL1;
    const mask = (-1 << Math.min(Math.max(first, 1) + 3, 31)) & ~1;
    return {
      ttbr: upper ? "TTBR1_EL1" : "TTBR0_EL1",
      table: joinWords(registers.hi(this.vcpu, at) & HI_OA, registers.lo(this.vcpu, at) & mask),
      bits,
      pageShift,
      startLevel: level,
      startBits: first,
      disabled: tsz < 16 || tsz > 48 || (tcr & (upper ? 1 << 23 : 1 << 7)) !== 0,
    };
  }

  /** Reads the descriptor at an IPA. */
  read(level: number, ipa: number): WalkStep {
    const { phys, tables } = this.machine;
    const no = (unreadable: string): WalkStep => ({ level, ipa, hi: 0, lo: 0, unreadable });
    let pa = ipa;
    if (this.stage2.enabled(this.vcpu)) {
      if (!this.stage2.peek(this.vcpu, ipa)) return no(`stage 2 does not map ipa 0x${ipa.toString(16)}`);
      pa = this.stage2.pa;
    }
    if (!phys.isRam(pa) && !tables.contains(pa)) return no(`ipa 0x${ipa.toString(16)} is no RAM`);
    phys.read(pa, 8);
    return { level, ipa, hi: phys.hi, lo: phys.lo, unreadable: "" };
  }

  /** The descriptors on the way of one address, in the order of the walk. Empty while stage 1 is off or the half disabled. */
  steps(vaHi: number, vaLo: number): WalkStep[] {
    const upper = (vaHi & 0x800000) !== 0;
    const half = this.half(upper);
    if (!this.enabled || half.disabled) return [];
    const out: WalkStep[] = [];
    let table = half.table;
    let bits = half.startBits;
    for (let level = half.startLevel; level <= 3; level++) {
      const step = this.read(level, table + bitsAt(vaHi, vaLo, levelShift(level, half.pageShift), bits) * 8);
      out.push(step);
      if (step.unreadable !== "" || !isTable(step, half.pageShift)) break;
      table = nextTable(step, half.pageShift);
      bits = half.pageShift - 3;
    }
    return out;
  }

  /** The IPA of an address, or -1 where the walk ends without a leaf. Stage 1 off: the address itself. */
  ipa(vaHi: number, vaLo: number): number {
    if (!this.enabled) return joinWords(vaHi, vaLo);
    const half = this.half((vaHi & 0x800000) !== 0);
    const last = this.steps(vaHi, vaLo).at(-1);
    if (last === undefined || last.unreadable !== "" || !isLeaf(last, half.pageShift)) return -1;
    const shift = levelShift(last.level, half.pageShift);
    const base = outputAddressAt(last.hi, last.lo, shift, half.pageShift, false);
    return shift < 32 ? base + ((vaLo & ((1 << shift) - 1)) >>> 0) : base + joinWords(vaHi & ((1 << (shift - 32)) - 1), vaLo);
  }
}

export function isTable(s: WalkStep, pageShift: number): boolean {
  return s.level < 3 && (s.lo & 3) === 3 && pageShift > 0;
}
export function isLeaf(s: WalkStep, pageShift: number): boolean {
  return s.level === 3 ? (s.lo & 3) === 3 : (s.lo & 3) === 1 && blockAllowed(s.level, pageShift);
}
export function nextTable(s: WalkStep, pageShift: number): number {
  return outputAddressAt(s.hi, s.lo, pageShift, pageShift, false);
}
