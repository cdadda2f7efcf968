/**
 * 8-byte loads of a guest through the modelled data and instruction caches: the TLB-hit loop of tlb-hit-loads, its code
 * fetched through the instruction cache, over memory that the data cache holds. The guest's MMU is off; FEAT_S2FWB makes
 * its accesses write-back all the same.
 */
import { anonymous, guest, MEMORY_IPA, memorySlot, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";
import { LOAD_LOOP, UNROLLED } from "./tlb-hit-loads.js";

/** Half of the data cache. */
const SIZE = 0x40000;

export function cachedAccesses(quick: boolean): Workload {
  const trips = quick ? 20_000 : 200_000;
  let g: Guest | undefined;
  return {
    name: "cached-accesses",
    compares: `8-byte loads of a guest loop over 256 KiB with caches modelled, ${UNROLLED} for each trip; issue: 5 M/s`,
    unit: "loads",
    ops: trips * UNROLLED,
    floor: 5e6,
    prepare() {
      if (g !== undefined) return;
      g = guest(`${STORE_LOOP}\n${LOAD_LOOP.replaceAll("loop", "load")}`, { cache: "modelled" });
      memorySlot(g, anonymous(g.machine, SIZE, false), SIZE);
      runProgram(g, { x0: MEMORY_IPA, x1: 5, x2: SIZE / 128, x3: 128 });
    },
    run() {
      runProgram(g!, { x0: MEMORY_IPA, x2: trips, x3: 128, x4: 0, x5: MEMORY_IPA + SIZE - 1, x6: MEMORY_IPA }, 6);
    },
    check() {
      const words = SIZE / 128;
      const whole = Math.floor(trips / words);
      const rest = trips % words;
      const sum = (n: number) => 5 * n + (n * (n - 1)) / 2;
      const want = BigInt(whole * sum(words) + sum(rest));
      if (g!.vcpu.get("x4") !== want) throw new Error(`the loads sum to ${g!.vcpu.get("x4")}, not ${want}`);
      const { data } = g!.machine.pe.cacheOps.caches!;
      let lines = 0;
      for (let i = 0; i < data.lines.entries; i++) if (data.lines.address(i) >= 0) lines++;
      if (lines < SIZE / 64) throw new Error(`the data cache holds ${lines} lines`);
    },
  };
}
