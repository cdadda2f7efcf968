/**
 * One page unmapped, mapped again and touched: munmap with its notifier, stage-2 unmap and TLBI, mmap, fault.
 * The pages lie apart in memory that differs in its flags, so that each is a VMA of its own: cutting a VMA of 2 MiB
 * would also announce the whole block, which is another workload.
 */
import { anonymous, EXIT_IPA, guest, MEMORY_IPA, memorySlot, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;
const MAP_PRIVATE_ANONYMOUS_FIXED = 0x32;
const PAGES = 256;

/** Stores x1 to the page, counts, tells the VMM, goes on to the next page; x4 is the mask of the offsets. */
const ROUND_LOOP = `
round: str x1, [x0]
  add x1, x1, #1
  add x0, x0, x3
  and x0, x0, x4
  str x1, [x9]
  b round
`;

export function unmapRefault(quick: boolean): Workload {
  const rounds = quick ? 2000 : 20000;
  let g: Guest | undefined;
  let hva = 0;
  return {
    name: "unmap-refault",
    compares: `${rounds} rounds of munmap of one page, mmap at the same place, store by the guest: three calls of the VMM and one fault`,
    unit: "rounds",
    ops: rounds,
    floor: 0.8e6,
    prepare() {
      if (g === undefined) {
        g = guest(`${STORE_LOOP}\n${ROUND_LOOP}`);
        hva = anonymous(g.machine, 2 * PAGES * PAGE, false);
        memorySlot(g, hva, 2 * PAGES * PAGE);
        runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: 2 * PAGES, x3: PAGE });
        for (let i = 0; i < PAGES; i++) replace(g, hva + 2 * i * PAGE);
      }
      // The first round of a run starts the program; the others go on where it stopped.
      replace(g, hva);
      runProgram(g, { x0: MEMORY_IPA, x1: 1, x3: 2 * PAGE, x4: MEMORY_IPA + (2 * PAGES - 1) * PAGE }, 6);
    },
    run() {
      const { vcpu } = g!;
      for (let i = 1; i <= rounds; i++) {
        replace(g!, hva + 2 * (i % PAGES) * PAGE);
        const { exit } = vcpu.run();
        if (exit.reason !== "MMIO" || exit.physAddr !== EXIT_IPA) throw new Error(`round ${i} ended with ${exit.reason}`);
      }
    },
    check() {
      const { machine, vcpu } = g!;
      const { value } = machine.host.read(hva + 2 * (rounds % PAGES) * PAGE, 8);
      if (value !== BigInt(rounds + 1)) throw new Error(`the page holds ${value}, not ${rounds + 1}`);
      // One more round, listened to: one fault, one page unmapped.
      let faults = 0;
      let unmapped = 0;
      const off = [
        machine.on("kvm_guest_fault", (e) => (faults += (e["ipa"] as number) >= MEMORY_IPA ? 1 : 0)),
        machine.on("kvm_unmap_hva_range", (e) => (unmapped += (e["end"] as number) - (e["start"] as number))),
      ];
      replace(g!, hva + 2 * ((rounds + 1) % PAGES) * PAGE);
      vcpu.run();
      for (const stop of off) stop();
      if (faults !== 1 || unmapped !== PAGE) throw new Error(`a round made ${faults} faults and unmapped ${unmapped} bytes`);
    },
  };
}

function replace(g: Guest, at: number): void {
  must(g.machine.host.munmap(at, PAGE), "munmap");
  must(g.machine.host.mmap({ addr: at, length: PAGE, prot: 3, flags: MAP_PRIVATE_ANONYMOUS_FIXED }), "mmap");
}
