/**
 * Virtual time: what each named step costs, in cycles of the modelled machine.
 *
 * Each number has its source, or is marked as an assumption; `--cost name=value`, a `--costs` file and a script's header
 * replace any. Times in seconds become cycles at 2.5 GHz. Wall-clock time never enters a run.
 * The table of docs/cost-model.md is this one (a test compares them).
 */
import { FaultlineError } from "./errors.js";

export interface Cost {
  /** Cycles, a non-negative integer. */
  readonly cycles: number;
  /** What is charged with it, and how often. */
  readonly doc: string;
  /** Where the number comes from; begins with "assumption" if nobody measured it. */
  readonly source: string;
}

/** Cycles of the modelled machine in a microsecond: only what turns published times into cycles, and cycles into times for people. */
export const CYCLES_PER_MICROSECOND = 2500;

const A57 = "LLVM AArch64SchedA57.td (Cortex-A57 software optimisation guide)";
const ISCA = "Dall et al., ARM Virtualization: Performance and Architectural Implications, ISCA 2016, table II";

export const COSTS = {
  instruction: { cycles: 1, doc: "an A64 instruction", source: "assumption: one retires each cycle" },
  tlbHit: { cycles: 0, doc: "a translation that the TLB has", source: "assumption: hidden in the pipeline" },
  walkStep: { cycles: 12, doc: "one descriptor read of a table walk", source: "assumption: the descriptor is in the L2 cache" },
  ramAccess: { cycles: 4, doc: "a load or store of RAM", source: `${A57}: LoadLatency = 4, a hit in the L1 data cache` },
  memoryAccess: {
    cycles: 200,
    doc: "an access that goes to memory, where caches are modelled: a miss, or past the cache",
    source: "assumption: about 100 ns of DRAM latency",
  },
  deviceAccess: {
    cycles: 2000,
    doc: "a load from a BAR: a non-posted request and its completion",
    source: "about 800 ns: 850 ns measured for a PCIe Gen3 round trip from an FPGA (hackingnasdaq.blogspot.com, May 2014)",
  },
  deviceWrite: { cycles: 40, doc: "a store to a BAR, until the host bridge has it (early acknowledgement)", source: "assumption" },
  tlp: {
    cycles: 8,
    doc: "one posted write request on the link: 24 bytes of framing, sequence number, header and CRC",
    source: "PCI Express base specification: 2 + 2 + 16 + 4 bytes; at 7.9 GB/s, Gen3 x8",
  },
  tlpDword: { cycles: 1, doc: "four bytes of its data", source: "the same link" },
  trap: {
    cycles: 600,
    doc: "exception entry to EL2 and the world switch to the host",
    source: `assumption: VHE. A round trip is 376 cycles where little is saved (Xen), 6500 with the EL1 state of KVM before VHE (${ISCA})`,
  },
  eret: { cycles: 500, doc: "the world switch to the guest and ERET", source: "assumption: the other half of the same round trip" },
  userExit: { cycles: 3000, doc: "KVM_RUN returns to the VMM and is called again: an MMIO exit to user space", source: "assumption" },
  lock: { cycles: 20, doc: "a modelled kernel lock, free", source: "assumption: one atomic that finds its line in L1" },
  vmaLookup: { cycles: 60, doc: "find_vma and its relatives", source: "assumption: a maple tree of a few levels" },
  memslotLookup: { cycles: 20, doc: "the memslot of a guest page", source: "assumption: the last used slot hits" },
  pageAlloc: { cycles: 150, doc: "a page from the allocator", source: "assumption: per-CPU list" },
  pageClear: { cycles: 400, doc: "4 KiB zeroed", source: "assumption: DC ZVA, 64 lines at 6 cycles" },
  pageCopy: { cycles: 700, doc: "4 KiB copied", source: "assumption: 64 lines at 11 cycles" },
  tableAlloc: { cycles: 300, doc: "a table page, zeroed", source: "assumption: from a cache of table pages" },
  tableWrite: {
    cycles: 50,
    doc: "one stage-1 or stage-2 entry changed, with its share of the walk that came to it",
    source:
      "650 ms to write-protect 127 GiB of 4 KiB pages, Kunpeng 920 at 2.6 GHz (Linux c862626e19ef, arm64: enable dirty log gradually)",
  },
  tlbiLocal: { cycles: 30, doc: "TLBI of one CPU, issued", source: "assumption" },
  tlbiBroadcast: { cycles: 100, doc: "TLBI of a shareability domain, issued: one DVM message", source: "assumption" },
  tlbiRange: { cycles: 120, doc: "TLBI by range, issued (FEAT_TLBIRANGE)", source: "assumption: a DVM message and its second part" },
  dsb: { cycles: 50, doc: "DSB with no TLBI outstanding", source: "assumption: the store buffer drains into L1" },
  dsbTlbi: { cycles: 300, doc: "DSB that completes TLBIs: the DVMSync", source: "assumption: a quiet interconnect" },
  dsbTlbiCpu: {
    cycles: 40,
    doc: "in addition, for each further CPU of the domain, if one of them was broadcast",
    source:
      "assumption: linear in the CPUs. With senders at the same time it grows almost linearly with them (A. Arcangeli, arm64: tlb: skip tlbi broadcast), up to milliseconds (R. Koller, KVM: arm64: Eager Huge-page splitting, Jan 2023)",
  },
  isb: { cycles: 20, doc: "ISB", source: "assumption: one pipeline refill" },
  cacheLine: {
    cycles: 20,
    doc: "cache maintenance by address, each 64-byte line",
    source: "assumption: pipelined, to the point of coherency",
  },
  notifier: { cycles: 100, doc: "one MMU notifier call-back dispatched", source: "assumption" },
  syscall: { cycles: 200, doc: "a system call of the VMM: entry and return", source: "assumption" },
  hostFault: { cycles: 800, doc: "a page fault of the host: exception, handle_mm_fault, or the same under GUP", source: "assumption" },
} as const satisfies Record<string, Cost>;

export type CostName = keyof typeof COSTS;

/** The table as plain numbers, so that charging is one addition. One per machine. */
export type CostTable = { -readonly [K in CostName]: number };

/** Builds a machine's cost table. @throws Error for an unknown name or a value that is no cycle count. */
export function costTable(overrides: Readonly<Record<string, number>> = {}): CostTable {
  const table = Object.fromEntries(Object.entries(COSTS).map(([k, v]) => [k, v.cycles])) as CostTable;
  for (const [name, value] of Object.entries(overrides)) {
    if (!(name in COSTS)) throw new FaultlineError(`no cost named ${name}`);
    if (!Number.isInteger(value) || value < 0) throw new FaultlineError(`cost ${name} needs a whole number of cycles`);
    table[name as CostName] = value;
  }
  return table;
}
