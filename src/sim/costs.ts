/**
 * Virtual time: what each named step costs, in cycles of the modelled machine.
 *
 * Every number is an assumption unless its source says otherwise; `--cost name=value` overrides any.
 * Wall-clock time never enters a run.
 */
import { FaultlineError } from "./errors.js";
export interface Cost {
  /** Cycles, a non-negative integer. */
  readonly cycles: number;
  /** Where the number comes from, or "assumption". */
  readonly source: string;
}

export const COSTS = {
  instruction: { cycles: 1, source: "assumption: one simple A64 instruction" },
  tlbHit: { cycles: 0, source: "assumption: hidden in the pipeline" },
  walkStep: { cycles: 12, source: "assumption: one descriptor read that hits the L2 cache" },
  ramAccess: { cycles: 4, source: "assumption: L1 data cache hit" },
  deviceAccess: { cycles: 400, source: "assumption: PCIe non-posted read round trip" },
  deviceWrite: { cycles: 40, source: "assumption: posted write accepted by the interconnect" },
  trap: { cycles: 600, source: "assumption: exception entry to EL2 with the world switch" },
  eret: { cycles: 500, source: "assumption: return to EL1 with the world switch" },
  userExit: { cycles: 3000, source: "assumption: return of KVM_RUN and the next ioctl" },
  lock: { cycles: 20, source: "assumption: uncontended atomic" },
  vmaLookup: { cycles: 60, source: "assumption: maple tree walk" },
  memslotLookup: { cycles: 20, source: "assumption: interval tree walk" },
  pageAlloc: { cycles: 150, source: "assumption: per-CPU page list" },
  pageClear: { cycles: 400, source: "assumption: 4 KiB through dc zva" },
  pageCopy: { cycles: 700, source: "assumption: 4 KiB copy" },
  tableAlloc: { cycles: 300, source: "assumption: page from the cache, cleared" },
  tableWrite: { cycles: 10, source: "assumption: one descriptor store" },
  tlbiLocal: { cycles: 30, source: "assumption" },
  tlbiBroadcast: { cycles: 100, source: "assumption: DVM message issued" },
  dsb: { cycles: 50, source: "assumption: nothing outstanding" },
  dsbTlbi: { cycles: 300, source: "assumption: waits for DVMSync of every CPU" },
  isb: { cycles: 20, source: "assumption" },
  cacheLine: { cycles: 20, source: "assumption: one line cleaned to PoC" },
  notifier: { cycles: 100, source: "assumption: one call-back dispatched" },
  syscall: { cycles: 200, source: "assumption: entry and return" },
  hostFault: { cycles: 800, source: "assumption: host exception and handle_mm_fault overhead" },
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
