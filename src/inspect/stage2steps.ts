/** The descriptors that a stage-2 walk of one IPA reads, level by level, as the tables stand: for explanations. */
import { s2apOf, xnOf } from "../arch/descriptors.js";
import { memAttrOf } from "../arch/descriptors.js";
import { entryIndex, INVALID_LOCKED, ROOT_MASK, TABLE_MASK } from "../kvm/stage2walk.js";
import type { Machine } from "../machine.js";
import { memoryType } from "./stage2dump.js";
import { outputOf } from "./tablewalk.js";

export interface Stage2Step {
  readonly level: number;
  /** Physical address of the descriptor. */
  readonly pa: number;
  readonly hi: number;
  readonly lo: number;
  /** table, invalid, a block or page with its permissions and type. */
  readonly said: string;
}

export function stage2Steps(machine: Machine, vm: number, ipa: number): Stage2Step[] {
  const { vms, stage2 } = machine.kvm;
  const { tables } = machine;
  const out: Stage2Step[] = [];
  const [ihi, ilo] = [(ipa / 4294967296) | 0, ipa | 0];
  let table = vms.root(vm);
  if (table === 0 || ipa >= vms.ipaSize(vm)) return out;
  for (let level = vms.startLevel(vm), mask = ROOT_MASK; level <= 3; level++, mask = TABLE_MASK) {
    const pa = table + 8 * entryIndex(ihi, ilo, level, mask);
    const word = tables.word(pa);
    const lo = tables.words.a[word]!;
    const hi = tables.words.a[word + 1]!;
    const isTable = level < 3 && (lo & 3) === 3;
    out.push({ level, pa, hi, lo, said: isTable ? "table" : leafText(level, hi, lo, stage2.entries.fwb) });
    if (!isTable) break;
    table = outputOf(hi, lo);
  }
  return out;
}

function leafText(level: number, hi: number, lo: number, fwb: boolean): string {
  if ((lo & 1) === 0) return (lo & INVALID_LOCKED) !== 0 ? "invalid, locked" : "invalid";
  const ap = ["no access", "read-only", "write-only", "read-write"][s2apOf(lo)]!;
  const af = (lo & 0x400) === 0 ? ", access flag clear" : "";
  return `${level === 3 ? "page" : "block"}, ${ap}${(xnOf(hi) & 2) === 0 ? ", executable" : ""}, ${memoryType(memAttrOf(lo), fwb)}${af}`;
}
