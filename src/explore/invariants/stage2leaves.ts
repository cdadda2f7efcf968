/** The leaves of a VM's stage 2 and the host's side of an IPA, read word by word from the tables: how invariants see them. */
import { DESC_TABLE, DESC_VALID, S2_S2AP_W } from "../../arch/descriptors.js";
import { LEVEL_SIZE } from "../../kvm/stage2walk.js";
import type { Machine } from "../../machine.js";

export interface Leaf {
  ipa: number;
  size: number;
  pa: number;
  writable: boolean;
  hi: number;
  lo: number;
}

/** Calls `visit` for every valid leaf, by rising address, with one object that is filled anew; `table` for every table page. @returns the first answer */
export function eachLeaf(
  m: Machine,
  vm: number,
  visit: (leaf: Leaf) => string | undefined,
  table?: (pa: number) => string | undefined,
): string | undefined {
  const { vms, stage2 } = m.kvm;
  const root = vms.alive(vm) ? vms.root(vm) : 0;
  if (root === 0) return undefined;
  const words = m.tables.words.a;
  const leaf: Leaf = { ipa: 0, size: 0, pa: 0, writable: false, hi: 0, lo: 0 };
  const go = (pa: number, level: number, base: number, entries: number): string | undefined => {
    const said = table?.(pa);
    if (said !== undefined) return said;
    const from = m.tables.word(pa);
    for (let i = 0; i < entries; i++) {
      const lo = words[from + 2 * i]!;
      if ((lo & DESC_VALID) === 0) continue;
      const hi = words[from + 2 * i + 1]!;
      const ipa = base + i * LEVEL_SIZE[level]!;
      let wrong: string | undefined;
      if (level < 3 && (lo & DESC_TABLE) !== 0) wrong = go(stage2.entries.outputAddress(hi, lo), level + 1, ipa, 512);
      else {
        leaf.ipa = ipa;
        leaf.size = LEVEL_SIZE[level]!;
        leaf.pa = stage2.entries.outputAddress(hi, lo);
        leaf.writable = (lo & S2_S2AP_W) !== 0;
        leaf.hi = hi;
        leaf.lo = lo;
        wrong = visit(leaf);
      }
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  };
  const level = vms.startLevel(vm);
  return go(root, level, 0, Math.min(vms.rootPages(vm) * 512, vms.ipaSize(vm) / LEVEL_SIZE[level]!));
}

/** The same for every VM. */
export function eachVmLeaf(m: Machine, visit: (leaf: Leaf, vm: number) => string | undefined): string | undefined {
  for (let vm = 0; vm < m.kvm.vms.count; vm++) {
    const wrong = eachLeaf(m, vm, (leaf) => visit(leaf, vm));
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

/** The VMA that covers an address, -1 none: without event, cost or trace of the look-up. */
export function vmaAt(m: Machine, mm: number, hva: number): number {
  const { vmas } = m.mm;
  for (let v = vmas.first(mm); v >= 0 && vmas.start(v) <= hva; v = vmas.next(v)) if (hva < vmas.end(v)) return v;
  return -1;
}

export const size = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${bytes / 2 ** 30} GiB` : bytes >= 2 ** 21 ? `${bytes / 2 ** 20} MiB` : `${bytes / 1024} KiB`;
