/** What bench/memory-types.mjs runs, built with the bracketed places and without: operations for each second of user CPU time, the best of several. */
import { inlineMore } from "../src/cli/inlining.js";
import { demandFault4k } from "./demand-fault-4k.js";
import type { WorkloadFactory } from "./harness.js";
import { tlbHitLoads } from "./tlb-hit-loads.js";
import { tlbMissLoads } from "./tlb-miss-loads.js";
import { unmapRefault } from "./unmap-refault.js";

const WORKLOADS: readonly WorkloadFactory[] = [demandFault4k, unmapRefault, tlbHitLoads, tlbMissLoads];
const RUNS = Number(process.argv[2] ?? 8);

inlineMore();
const rates: Record<string, number> = {};
for (const make of WORKLOADS) {
  const w = make(true);
  let best = 0;
  for (let n = 0; n < RUNS; n++) {
    w.prepare();
    const before = process.cpuUsage();
    w.run();
    const used = process.cpuUsage(before).user;
    w.check();
    best = Math.max(best, (w.ops * 1e6) / used);
  }
  rates[w.name] = best;
}
process.stdout.write(JSON.stringify(rates));
