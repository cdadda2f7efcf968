/** 8-byte loads that hit the TLB, in a working set of 1 MiB: what the emulator costs when nothing faults. */
import { anonymous, guest, MEMORY_IPA, memorySlot, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const SIZE = 0x100000;
/** Loads of one trip through the loop. */
export const UNROLLED = 16;

export const LOAD_LOOP = `
loop: ${Array.from({ length: UNROLLED }, (_, i) => `ldr x1, [x0, #${8 * (UNROLLED - 1 - i)}]`).join("\n")}
  add x4, x4, x1
  add x0, x0, x3
  and x0, x0, x5
  orr x0, x0, x6
  subs x2, x2, #1
  b.ne loop
  str x4, [x9]
`;

export function tlbHitLoads(quick: boolean): Workload {
  const trips = quick ? 100_000 : 1_000_000;
  let g: Guest | undefined;
  return {
    name: "tlb-hit-loads",
    compares: `8-byte loads of a guest loop over 1 MiB of mapped memory, ${UNROLLED} for each trip`,
    unit: "loads",
    ops: trips * UNROLLED,
    floor: 60e6,
    prepare() {
      if (g !== undefined) return;
      // The stores that fill the memory run first, then the code is replaced by the loop of loads.
      g = guest(`${STORE_LOOP}\n${LOAD_LOOP.replaceAll("loop", "load")}`);
      memorySlot(g, anonymous(g.machine, SIZE, false), SIZE);
      runProgram(g, { x0: MEMORY_IPA, x1: 5, x2: SIZE / 128, x3: 128 });
    },
    run() {
      runProgram(g!, { x0: MEMORY_IPA, x2: trips, x3: 128, x4: 0, x5: MEMORY_IPA + SIZE - 1, x6: MEMORY_IPA }, 6);
    },
    check() {
      // The last load of a trip is of the word that the stores filled with 5, 6, 7, …: one for each 128 bytes.
      const words = SIZE / 128;
      const whole = Math.floor(trips / words);
      const rest = trips % words;
      const sum = (n: number) => 5 * n + (n * (n - 1)) / 2;
      const want = BigInt(whole * sum(words) + sum(rest));
      if (g!.vcpu.get("x4") !== want) throw new Error(`the loads sum to ${g!.vcpu.get("x4")}, not ${want}`);
    },
  };
}
