/** A freed page or table is not in use: no stage-2 entry, no TLB entry, no walk cache leads to it. */
import { C_PA_HI, C_PA_LO, CTX_HOST, W_TABLE_LO } from "../../arch/tlb.js";
import type { Machine } from "../../machine.js";
import { vmOf } from "./invalidation.js";
import { hex, type Invariant } from "./invariant.js";
import { eachVmLeaf, tablePages } from "./stage2leaves.js";
import { tlbEntries } from "./tlbentries.js";

export const freedPage: Invariant = {
  name: "no-freed-page",
  statement:
    "When a page goes back to the allocator, no stage-2 entry, no TLB entry of a guest and no entry of the host's tables leads to it.",
  source: "mm/mmu_gather.c: pages are freed after the TLBs were flushed; KVM holds no reference to what stage 2 maps",
  on: {
    page_free: (w, _agent, ring, at) => {
      const first = ring[at]! * 4096;
      const end = first + 4096 * 2 ** ring[at + 1]!;
      const inTables = eachVmLeaf(w.machine, (leaf) =>
        leaf.pa < end && leaf.pa + leaf.size > first
          ? `page ${hex(first)} was freed while stage 2 maps it at IPA ${hex(leaf.ipa)}`
          : undefined,
      );
      const mapped = w.machine.mm.frames.mapcount(ring[at]!);
      const inHost = mapped > 0 ? `page ${hex(first)} was freed while the host maps it ${mapped} times` : undefined;
      return inTables ?? inTlb(w.machine, first, end) ?? inHost;
    },
  },
};

function inTlb(m: Machine, first: number, end: number): string | undefined {
  for (const { pool, at, cpu, kind, ids } of tlbEntries(m)) {
    // Under the VMID of a VM that has ended nobody looks anything up before a rollover has flushed it.
    if (pool !== m.pe.tlbs.combined || kind === CTX_HOST || vmOf(m, ids >>> 16) < 0) continue;
    const pa = (pool.a[at + C_PA_HI]! >>> 0) * 4294967296 + ((pool.a[at + C_PA_LO]! & ~0xfff) >>> 0);
    if (pa >= first && pa < end) return `page ${hex(pa)} was freed while the TLB of CPU ${cpu} holds it`;
  }
  return undefined;
}

export const freedTable: Invariant = {
  name: "no-freed-table",
  statement: "No table that hardware may walk is free: neither reachable from a root nor kept in a walk cache.",
  source: "KVM: arm64: Don't defer TLB invalidation when zapping table entries (v6.9); kvm_pgtable_stage2_free_unlinked",
  looksAt: ["tables", "tlb"],
  holds: (w) => {
    const m = w.machine;
    for (let vm = 0; vm < m.kvm.vms.count; vm++)
      for (const pa of tablePages(m, vm))
        if (m.tables.count(pa) <= 0) return `the stage-2 table at ${hex(pa)} is free, and still reachable`;
    for (const { pool, at, cpu, ids } of tlbEntries(m)) {
      if (pool !== m.pe.tlbs.walk2 || vmOf(m, ids >>> 16) < 0) continue;
      const page = pool.a[at + W_TABLE_LO]! >> 10;
      if (m.tables.refs.a[page] === 0)
        return `the walk cache of CPU ${cpu} leads to the freed stage-2 table at ${hex(m.tables.pageAddress(page))}`;
    }
    return undefined;
  },
};
