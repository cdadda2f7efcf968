/** The leaves of a VM's stage 2 and the host's side of an IPA, read word by word from the tables: how invariants see them. */
import { DESC_TABLE, DESC_VALID, S2_S2AP_W } from "../../arch/descriptors.js";
import { LEVEL_SIZE } from "../../kvm/stage2walk.js";
import type { Machine } from "../../machine.js";
import { byContent } from "./bycontent.js";

export interface Leaf {
  readonly ipa: number;
  readonly size: number;
  readonly pa: number;
  readonly writable: boolean;
  readonly hi: number;
  readonly lo: number;
}

/** The tree of one VM. */
interface Tree {
  readonly root: number;
  readonly leaves: readonly Leaf[];
  /** Physical address of every table page. */
  readonly tables: readonly number[];
}

/** Every VM's tree: only the root is not told by the tables. */
const trees = byContent(["tables"], (m) => Array.from({ length: m.kvm.vms.count }, (_, vm) => treeOf(m, vm)));

const rootOf = (m: Machine, vm: number): number => (m.kvm.vms.alive(vm) ? m.kvm.vms.root(vm) : 0);

function treeOf(m: Machine, vm: number): Tree {
  const { vms, stage2 } = m.kvm;
  const root = rootOf(m, vm);
  const leaves: Leaf[] = [];
  const tables: number[] = [];
  const words = m.tables.words.a;
  const go = (pa: number, level: number, base: number, entries: number): void => {
    tables.push(pa);
    const from = m.tables.word(pa);
    for (let i = 0; i < entries; i++) {
      const lo = words[from + 2 * i]!;
      if ((lo & DESC_VALID) === 0) continue;
      const hi = words[from + 2 * i + 1]!;
      const ipa = base + i * LEVEL_SIZE[level]!;
      const pa = stage2.entries.outputAddress(hi, lo);
      if (level < 3 && (lo & DESC_TABLE) !== 0) go(pa, level + 1, ipa, 512);
      else leaves.push({ ipa, size: LEVEL_SIZE[level]!, pa, writable: (lo & S2_S2AP_W) !== 0, hi, lo });
    }
  };
  const level = vms.startLevel(vm);
  if (root !== 0) go(root, level, 0, Math.min(vms.rootPages(vm) * 512, vms.ipaSize(vm) / LEVEL_SIZE[level]!));
  return { root, leaves, tables };
}

function treeNow(m: Machine, vm: number): Tree {
  const known = trees(m)[vm];
  return known !== undefined && known.root === rootOf(m, vm) ? known : treeOf(m, vm);
}

/** Calls `visit` for every valid leaf, by rising address. @returns the first answer */
export function eachLeaf(m: Machine, vm: number, visit: (leaf: Leaf) => string | undefined): string | undefined {
  for (const leaf of treeNow(m, vm).leaves) {
    const said = visit(leaf);
    if (said !== undefined) return said;
  }
  return undefined;
}

/** Physical addresses of a VM's table pages, the root's first. */
export const tablePages = (m: Machine, vm: number): readonly number[] => treeNow(m, vm).tables;

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
