/** Demand faults of whole 2 MiB blocks: THP allocation and a stage-2 block for each store. */
import { anonymous, discard, guest, MEMORY_IPA, memorySlot, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const BLOCK = 0x200000;

export function demandFault2m(quick: boolean): Workload {
  const blocks = quick ? 4096 : 32768;
  const bytes = blocks * BLOCK;
  let g: Guest | undefined;
  let hva = 0;
  return {
    name: "demand-fault-2m",
    compares: `stores to ${blocks} distinct 2 MiB blocks of THP memory: one fault and one block entry each`,
    unit: "faults",
    ops: blocks,
    floor: 2.5e6,
    prepare() {
      if (g !== undefined) return discard(g.machine, hva, bytes);
      g = guest(STORE_LOOP, { ram: bytes + 2 ** 30 });
      hva = anonymous(g.machine, bytes, true);
      memorySlot(g, hva, bytes);
    },
    run() {
      runProgram(g!, { x0: MEMORY_IPA, x1: 1, x2: blocks, x3: BLOCK });
    },
    check() {
      const { machine, vm } = g!;
      const leaves = machine.stage2Leaves(vm.id).filter((l) => l.ipa >= MEMORY_IPA);
      if (leaves.length !== blocks || leaves.some((l) => l.size !== BLOCK))
        throw new Error(`${leaves.length} stage-2 leaves, not all of 2 MiB`);
      if (new Set(leaves.map((l) => l.pa)).size !== blocks) throw new Error("two blocks share their memory");
      leaves.forEach((l, i) => {
        machine.phys.read(l.pa, 8);
        if (machine.phys.lo !== i + 1) throw new Error(`block ${i} holds ${machine.phys.lo}`);
      });
    },
  };
}
