/** The stage-1 tables of each vCPU, read through its stage 2: what the guest's own page-table dump would show. */
import { outputAddressAt } from "../arch/descriptors.js";
import { levelShift } from "../arch/geometry.js";
import { decodeAttr, mairByte } from "../arch/mair.js";
import { MAIR_EL1 } from "../arch/registers.js";
import type { Machine } from "../machine.js";
import { table, words64 } from "./columns.js";
import { GuestWalk, isLeaf, isTable, nextTable, type Half, type WalkStep } from "./guestwalk.js";

export interface GuestRange {
  readonly vcpu: number;
  /** First address, and first address after it: 64-bit. */
  readonly va: string;
  readonly end: string;
  readonly level: number;
  readonly ipa: number;
  /** Device nGnRE, Normal WB.RW/WB.RW, … of MAIR_EL1. */
  readonly type: string;
  /** "" for a leaf; else why nothing can be said about the range. */
  readonly problem: string;
  readonly attributes: string;
}

/** Table pages of one vCPU that are looked at: tables that refer to themselves have no end. */
const MOST_TABLES = 4096;

interface Draft {
  va: bigint;
  end: bigint;
  level: number;
  ipa: number;
  key: string;
  step: WalkStep;
}

export function guestRanges(machine: Machine, vcpu: number): { readonly rows: GuestRange[]; readonly cut: boolean } {
  const walk = new GuestWalk(machine, vcpu);
  const rows: GuestRange[] = [];
  if (!walk.enabled) return { rows, cut: false };
  let left = MOST_TABLES;
  for (const upper of [false, true]) {
    const half = walk.half(upper);
    if (half.disabled) continue;
    const drafts: Draft[] = [];
    const visit = (at: number, level: number, bits: number, base: bigint): void => {
      if (left-- <= 0) return;
      const shift = levelShift(level, half.pageShift);
      for (let i = 0; i < 1 << bits; i++) {
        const step = walk.read(level, at + 8 * i);
        const va = base + (BigInt(i) << BigInt(shift));
        if (step.unreadable !== "") {
          add(drafts, half, step, va, va + (BigInt((1 << bits) - i) << BigInt(shift)));
          return;
        }
        if ((step.lo & 1) === 0) continue;
        if (isTable(step, half.pageShift)) visit(nextTable(step, half.pageShift), level + 1, half.pageShift - 3, va);
        else add(drafts, half, step, va, va + (1n << BigInt(shift)));
      }
    };
    visit(half.table, half.startLevel, half.startBits, upper ? 2n ** 64n - 2n ** BigInt(half.bits) : 0n);
    rows.push(...drafts.map((d) => finish(machine, vcpu, half, d)));
  }
  return { rows, cut: left < 0 };
}

function add(drafts: Draft[], half: Half, step: WalkStep, va: bigint, end: bigint): void {
  const leaf = step.unreadable === "" && isLeaf(step, half.pageShift);
  const ipa = leaf ? outputAddressAt(step.hi, step.lo, levelShift(step.level, half.pageShift), half.pageShift, false) : -1;
  const key = leaf ? `${step.level} ${step.hi & ~0xffff} ${step.lo & 0xfff}` : `! ${step.ipa}`;
  const last = drafts[drafts.length - 1];
  if (leaf && last !== undefined && last.key === key && last.end === va && last.ipa + Number(last.end - last.va) === ipa) last.end = end;
  else drafts.push({ va, end, level: step.level, ipa, key, step });
}

function finish(machine: Machine, vcpu: number, half: Half, d: Draft): GuestRange {
  const { step } = d;
  const hex = (v: bigint) => `0x${BigInt.asUintN(64, v).toString(16)}`;
  const leaf = step.unreadable === "" && isLeaf(step, half.pageShift);
  const attr = decodeAttr(
    mairByte(machine.registers.hi(vcpu, MAIR_EL1), machine.registers.lo(vcpu, MAIR_EL1), (step.lo >>> 2) & 7),
    machine.features.xs,
  );
  return {
    vcpu,
    va: hex(d.va),
    end: hex(d.end),
    level: d.level,
    ipa: d.ipa,
    type: leaf ? `${attr.type} ${attr.text}` : "",
    problem: leaf ? "" : step.unreadable !== "" ? step.unreadable : `reserved descriptor ${words64(step.hi, step.lo)}`,
    attributes: leaf ? attributes(step) : "",
  };
}

function attributes(s: WalkStep): string {
  return [
    (s.lo & 0x40) !== 0 ? "EL0" : "   ",
    (s.lo & 0x80) !== 0 ? "ro" : "RW",
    (s.hi & (1 << 21)) !== 0 ? "PXN" : "   ",
    (s.hi & (1 << 22)) !== 0 ? "UXN" : "   ",
    (s.lo & 0x400) !== 0 ? "AF" : "  ",
    (s.lo & 0x800) !== 0 ? "nG" : "  ",
    (s.hi & (1 << 19)) !== 0 ? "DBM" : "   ",
    (s.hi & (1 << 20)) !== 0 ? "CON" : "   ",
  ].join(" ");
}

export function guestText(machine: Machine): string[] {
  const out: string[] = [];
  for (let v = 0; v < machine.registers.count; v++) {
    const walk = new GuestWalk(machine, v);
    if (!walk.enabled) {
      out.push(`---[ vcpu${v}: stage 1 is off (SCTLR_EL1.M = 0): VA = IPA ]---`);
      continue;
    }
    const halves = [false, true].map((upper) => walk.half(upper));
    const said = halves.map((h) => (h.disabled ? `${h.ttbr} disabled` : `${h.ttbr} 0x${h.table.toString(16)}, ${h.bits} bits`));
    out.push(`---[ vcpu${v}: ${said.join("; ")} ]---`);
    const { rows, cut } = guestRanges(machine, v);
    out.push(
      ...table(
        rows.map((r) =>
          r.problem === ""
            ? [`${r.va}-${r.end}`, String(r.level), `ipa 0x${r.ipa.toString(16)}`, r.attributes, r.type]
            : [`${r.va}-${r.end}`, String(r.level), r.problem],
        ),
      ),
    );
    if (cut) out.push(`# more than ${MOST_TABLES} tables: the rest is not shown`);
  }
  return out;
}
