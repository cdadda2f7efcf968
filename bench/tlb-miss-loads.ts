/** Loads that miss the TLB: one of each page of 512 MiB, so that every one walks. */
import { anonymous, guest, MEMORY_IPA, memorySlot, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;
const SUM_LOOP = `
load: ldr x1, [x0]
  add x4, x4, x1
  add x0, x0, x3
  subs x2, x2, #1
  b.ne load
  str x4, [x9]
`;

export function tlbMissLoads(quick: boolean): Workload {
  const pages = (quick ? 64 : 512) * 256;
  let g: Guest | undefined;
  return {
    name: "tlb-miss-loads",
    compares: `one 8-byte load from each of ${pages} mapped 4 KiB pages in turn, more than any TLB holds: a stage-2 walk each`,
    unit: "loads",
    ops: pages,
    floor: 8e6,
    prepare() {
      if (g !== undefined) return;
      g = guest(`${STORE_LOOP}\n${SUM_LOOP}`);
      memorySlot(g, anonymous(g.machine, pages * PAGE, false), pages * PAGE);
      runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: pages, x3: PAGE });
    },
    run() {
      runProgram(g!, { x0: MEMORY_IPA, x2: pages, x3: PAGE, x4: 0 }, 6);
    },
    check() {
      const want = (BigInt(pages) * BigInt(pages + 1)) / 2n;
      if (g!.vcpu.get("x4") !== want) throw new Error(`the loads sum to ${g!.vcpu.get("x4")}, not ${want}`);
    },
  };
}
