/** Parts of the state's hash: which pools are compared together, and which count for no state at all. */
import { UNHASHED, type StateRegistry } from "../sim/state.js";
import type { Part } from "./invariants/invariant.js";
import { TLB_POOLS } from "./tlbdigest.js";

/** Nothing in the modelled machine asks these: clocks, statistics, who ran last. */
export const IGNORED_POOLS = ["events.seq", "agents.running", "agents.clock", "locks.releasedAt", "kvm.vcpus.exits"];
/** Asked, but only to save a look at what has not changed: such a count is not part of what a state is. */
const STAMPS = ["tables.changes"];

export const GROUP_TLB = 1;
/** What the VMAs are, but for their anon_vma. */
export const GROUP_VMAS = 4;
export const PART_GROUPS: Readonly<Record<Part, readonly number[]>> = { tables: [2, GROUP_VMAS], tlb: [GROUP_TLB], dirty: [3] };

const TABLES = /^(tables\.(words|refs)|hostpt\.|vmas\.|kvm\.memslots)/;

/** Gives every pool its group. To be called before recording starts, and again when pools were added. */
export function assignGroups(state: StateRegistry): void {
  if (state.recording) throw new Error("the groups of the hash are given before recording starts");
  for (const pool of state.pools) {
    if (IGNORED_POOLS.includes(pool.name) || STAMPS.includes(pool.name)) pool.group = UNHASHED;
    else if (TLB_POOLS.includes(pool.name)) pool.group = GROUP_TLB;
    else if (pool.name === "vmas.words" || pool.name === "vmas.addresses") pool.group = GROUP_VMAS;
    else if (TABLES.test(pool.name)) pool.group = PART_GROUPS.tables[0]!;
    else if (pool.name.startsWith("kvm.dirty") || pool.name.startsWith("kvm.rings")) pool.group = PART_GROUPS.dirty[0]!;
  }
}
