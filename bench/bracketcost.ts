/** What bench/memory-types.mjs builds twice, with the bracketed places and without: the fault and hit workloads. */
import { demandFault4k } from "./demand-fault-4k.js";
import type { WorkloadFactory } from "./harness.js";
import { tlbHitLoads } from "./tlb-hit-loads.js";
import { tlbMissLoads } from "./tlb-miss-loads.js";
import { unmapRefault } from "./unmap-refault.js";

export { inlineMore } from "../src/cli/v8flags.js";

export const WORKLOADS: Readonly<Record<string, WorkloadFactory>> = {
  "demand-fault-4k": demandFault4k,
  "unmap-refault": unmapRefault,
  "tlb-hit-loads": tlbHitLoads,
  "tlb-miss-loads": tlbMissLoads,
};
