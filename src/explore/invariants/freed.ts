/** A freed page or table is not in use: no entry of stage 2, of the host's tables or of a TLB, no walk cache leads to it. */
import { outputAddress } from "../../arch/descriptors.js";
import { C_PA_HI, C_PA_LO, L_DESC_HI, L_DESC_LO, L_SIZE, CTX_HOST, W_TABLE_LO } from "../../arch/tlb.js";
import type { Machine } from "../../machine.js";
import { leavesOf } from "../spec/tables.js";
import { byContent } from "./bycontent.js";
import { vmOf } from "./invalidation.js";
import { hex, type Invariant } from "./invariant.js";
import { eachVmLeaf, tablePages } from "./stage2leaves.js";
import { pageAddress, tlbEntries } from "./tlbentries.js";

export const freedPage: Invariant = {
  name: "no-freed-page",
  statement: "When a page goes back to the allocator, no stage-2 entry, no TLB entry and no entry of the host's tables leads to it.",
  source: "mm/mmu_gather.c: pages are freed after the TLBs were flushed; KVM holds no reference to what stage 2 maps",
  on: {
    page_free: (w, _agent, ring, at) => {
      const m = w.machine;
      const first = ring[at]! * 4096;
      const end = first + 4096 * 2 ** ring[at + 1]!;
      const user = inStage2(m, first, end) ?? inTlb(m, first, end) ?? inHost(m, first, end);
      return user === undefined ? undefined : `page ${hex(first)} was freed while ${user}`;
    },
  },
};

/** Whether an entry of `size` bytes leads into a page, or into a part of it. */
const leads = (pa: number, size: number, first: number, end: number): boolean => pa < end && pa + size > first;

const inStage2 = (m: Machine, first: number, end: number): string | undefined =>
  eachVmLeaf(m, (leaf) => (leads(leaf.pa, leaf.size, first, end) ? `stage 2 maps it at IPA ${hex(leaf.ipa)}` : undefined));

function inTlb(m: Machine, first: number, end: number): string | undefined {
  const { combined, stage2 } = m.pe.tlbs;
  for (const { pool, at, cpu, kind, ids } of tlbEntries(m)) {
    if (pool !== combined && pool !== stage2) continue;
    // Under the VMID of a VM that has ended nobody looks anything up before a rollover has flushed it.
    if (kind !== CTX_HOST && vmOf(m, ids >>> 16) < 0) continue;
    const { a } = pool;
    const leaf = pool === stage2;
    const pa = leaf ? outputAddress(a[at + L_DESC_HI]!, a[at + L_DESC_LO]!) : pageAddress(a[at + C_PA_HI]!, a[at + C_PA_LO]!);
    if (leads(pa, leaf ? 2 ** (a[at + L_SIZE]! & 0xff) : 4096, first, end))
      return `the TLB of CPU ${cpu} holds it${kind === CTX_HOST ? " for the host" : ""}`;
  }
  return undefined;
}

/** The leaves of every address space. The count of a page's mappings does not do: it is gone with the page, and may be what is wrong. */
const hostLeaves = byContent(["tables"], (m) => {
  const memory = { words: m.tables.words.a, base: m.tables.base };
  return Array.from({ length: m.mm.pt.limit }, (_, mm) => leavesOf(memory, m.mm.pt.root(mm), 0)).flat();
});

function inHost(m: Machine, first: number, end: number): string | undefined {
  const leaf = hostLeaves(m).find((l) => leads(l.page * 4096, l.size, first, end));
  return leaf === undefined ? undefined : `the host maps it at ${hex(leaf.at)}`;
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
