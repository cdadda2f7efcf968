/**
 * From the return of invalidate_range_start until range_end, nothing of the range can be used: no stage-2 entry,
 * no TLB entry. (From range_end on `stage2-agrees-with-host` says which entries are right.)
 *
 * memory: four ranges per agent of state (1 announced, 2 every subscriber was told), start, end, mm.
 */
import { C_IPA_HI, C_IPA_LO, CTX_HOST, CTX_STAGE2, L_HI, L_LO, L_SIZE } from "../../arch/tlb.js";
import { DESC_TABLE, DESC_VALID } from "../../arch/descriptors.js";
import type { Machine } from "../../machine.js";
import { isInside } from "./busy.js";
import { hex, type Invariant, type Watch } from "./invariant.js";
import { eachLeaf } from "./stage2leaves.js";
import { pageAddress, tlbEntries } from "./tlbentries.js";

const RANGES = 4;
const WORDS = 4;
const AGENTS = 32;
const STATE = 0;
const START = 1;
const END = 2;
const MM = 3;
const START_ACTIVITY = ["invalidateRangeStart"];
const ANNOUNCED = 1;
const TOLD = 2;

/** The agent + 1 that is in change_pte: it brings the new page between start and end. */
const CHANGE_PTE = AGENTS * RANGES * WORDS;

const place = (w: Watch, agent: number, n: number): number => w.at + (agent * RANGES + n) * WORDS;

export const invalidation: Invariant = {
  name: "invalidated-range-unusable",
  statement:
    "From the return of invalidate_range_start until the host entries have changed, no stage-2 or TLB entry of the range can be used.",
  source:
    "include/linux/mmu_notifier.h, invalidate_range_start(): all sptes must be dropped before it returns, and none established until range_end",
  words: CHANGE_PTE + 1,
  on: {
    kvm_set_spte_hva: (w, agent) => {
      w.memory.set(w.at + CHANGE_PTE, agent + 1);
      return undefined;
    },
    mmu_notifier_invalidate_range_start: (w, agent, ring, at) => {
      if (agent >= AGENTS) return undefined;
      for (let n = 0; n < RANGES; n++) {
        const p = place(w, agent, n);
        if (w.memory.a[p + STATE] !== 0) continue;
        w.memory.set(p + STATE, ANNOUNCED);
        w.memory.set(p + START, ring[at + 1]!);
        w.memory.set(p + END, ring[at + 2]!);
        w.memory.set(p + MM, ring[at]!);
        return undefined;
      }
      return undefined;
    },
    mmu_notifier_invalidate_range_end: (w, agent, ring, at) => {
      if (agent >= AGENTS) return undefined;
      for (let n = RANGES - 1; n >= 0; n--) {
        const p = place(w, agent, n);
        const a = w.memory.a;
        if (a[p + STATE] === 0 || a[p + START] !== ring[at + 1] || a[p + END] !== ring[at + 2]) continue;
        for (let i = 0; i < WORDS; i++) w.memory.set(p + i, 0);
        return undefined;
      }
      return undefined;
    },
    // table, index, level, ipa, old, old, new, new
    stage2_entry: (w, agent, ring, at) => {
      if (w.memory.a[w.at + CHANGE_PTE] === agent + 1) return undefined;
      const lo = ring[at + 7]! | 0;
      const level = ring[at + 2]!;
      if ((lo & DESC_VALID) === 0 || (level < 3 && (lo & DESC_TABLE) !== 0)) return undefined;
      const ipa = ring[at + 3]!;
      const bytes = level === 3 ? 4096 : level === 2 ? 2 ** 21 : 2 ** 30;
      // The VM is not in the event: any in whose range the address lies.
      for (let vm = 0; vm < w.machine.kvm.vms.count; vm++) {
        const range = told(w, vm, ipa, bytes);
        if (range !== undefined && w.machine.kvm.stage2.entries.find(vm, ipa) >= 0)
          return `IPA ${hex(ipa)} was mapped in stage 2 while the host changes ${range}`;
      }
      return undefined;
    },
  },
  after: (w, agent) => {
    w.memory.set(w.at + CHANGE_PTE, 0);
    if (agent >= AGENTS) return undefined;
    for (let n = 0; n < RANGES; n++) {
      const p = place(w, agent, n);
      if (w.memory.a[p + STATE] !== ANNOUNCED) continue;
      if (isInside(w.machine, agent, START_ACTIVITY)) continue;
      w.memory.set(p + STATE, TOLD);
      const wrong = usable(w);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  },
};

/** The range that is being changed and that an IPA of a VM lies in. */
function told(w: Watch, vm: number, ipa: number, bytes: number): string | undefined {
  const { memslots, vms } = w.machine.kvm;
  const a = w.memory.a;
  for (let p = w.at; p < w.at + AGENTS * RANGES * WORDS; p += WORDS) {
    if (a[p + STATE] !== TOLD || a[p + MM] !== vms.mm(vm)) continue;
    for (let off = 0; off < bytes; off += 4096) {
      const slot = memslots.find(vm, (ipa + off) / 4096);
      if (slot < 0 || !memslots.valid(slot)) break;
      const hva = memslots.gfnToHva(slot, (ipa + off) / 4096);
      if (hva < a[p + END]! && hva + 4096 > a[p + START]!) return `${hex(a[p + START]!)}-${hex(a[p + END]!)}`;
    }
  }
  return undefined;
}

/** Something of a range that is being changed can still be used. */
function usable(w: Watch): string | undefined {
  const m = w.machine;
  for (let vm = 0; vm < m.kvm.vms.count; vm++) {
    const inTables = eachLeaf(m, vm, (leaf) => {
      const range = told(w, vm, leaf.ipa, leaf.size);
      return range === undefined ? undefined : `stage 2 still maps IPA ${hex(leaf.ipa)} after invalidate_range_start of ${range}`;
    });
    if (inTables !== undefined) return inTables;
  }
  const { tlbs } = m.pe;
  for (const { pool, at, cpu, kind, ids } of tlbEntries(m)) {
    if (kind === CTX_HOST || (pool !== tlbs.combined && pool !== tlbs.stage2)) continue;
    const vm = vmOf(m, ids >>> 16);
    if (vm < 0) continue;
    const combined = pool === tlbs.combined;
    const lo = pool.a[at + (combined ? C_IPA_LO : L_LO)]!;
    const hi = pool.a[at + (combined ? C_IPA_HI : L_HI)]!;
    const ipa = pageAddress(hi, lo);
    const range = told(w, vm, ipa, combined || kind !== CTX_STAGE2 ? 4096 : 2 ** (pool.a[at + L_SIZE]! & 0xff));
    if (range !== undefined) return `the TLB of CPU ${cpu} still holds IPA ${hex(ipa)} after invalidate_range_start of ${range}`;
  }
  return undefined;
}

/**
 * The VM that a VMID stands for now, -1 if none: one without stage 2 enters no guest any more, and after a rollover an old
 * holder of the number is not meant, unless nobody has been given it again.
 */
export function vmOf(m: Machine, vmid: number): number {
  const { vms, vmids } = m.kvm;
  let old = -1;
  for (let vm = 0; vm < vms.count; vm++) {
    if (vms.vmid(vm) !== vmid || !vms.alive(vm) || vms.root(vm) === 0) continue;
    if (vms.vmidGeneration(vm) === vmids.generation) return vm;
    old = vm;
  }
  return old;
}
