/** One page unmapped, mapped again and touched: munmap with its notifier, stage-2 unmap and TLBI, mmap, fault. */
import { anonymous, guest, MEMORY_IPA, memorySlot, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;
const MAP_PRIVATE_ANONYMOUS_FIXED = 0x32;

export function unmapRefault(quick: boolean): Workload {
  const rounds = quick ? 2000 : 20000;
  let g: Guest | undefined;
  let hva = 0;
  let last = 0;
  let faults = 0;
  return {
    name: "unmap-refault",
    compares: `${rounds} rounds of munmap of one page, mmap at the same place, store by the guest: three calls of the VMM and one fault`,
    unit: "rounds",
    ops: rounds,
    floor: 0.2e6,
    prepare() {
      if (g === undefined) {
        g = guest(STORE_LOOP);
        hva = anonymous(g.machine, 512 * PAGE, false);
        memorySlot(g, hva, 512 * PAGE);
        runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: 512, x3: PAGE });
      }
    },
    run() {
      const { machine } = g!;
      for (let i = 0; i < rounds; i++) {
        const page = (i & 511) * PAGE;
        must(machine.host.munmap(hva + page, PAGE), "munmap");
        must(machine.host.mmap({ addr: hva + page, length: PAGE, prot: 3, flags: MAP_PRIVATE_ANONYMOUS_FIXED }), "mmap");
        last = i + 1;
        runProgram(g!, { x0: MEMORY_IPA + page, x1: last, x2: 1, x3: PAGE });
      }
    },
    check() {
      const { machine } = g!;
      const page = ((rounds - 1) & 511) * PAGE;
      const { value } = machine.host.read(hva + page, 8);
      if (value !== BigInt(last)) throw new Error(`the page holds ${value}, not ${last}`);
      // One more round, listened to: the fault is a real one.
      const off = machine.on("kvm_guest_fault", (e) => (faults += (e["ipa"] as number) >= MEMORY_IPA ? 1 : 0));
      faults = 0;
      must(machine.host.munmap(hva, PAGE), "munmap");
      must(machine.host.mmap({ addr: hva, length: PAGE, prot: 3, flags: MAP_PRIVATE_ANONYMOUS_FIXED }), "mmap");
      runProgram(g!, { x0: MEMORY_IPA, x1: 7, x2: 1, x3: PAGE });
      off();
      if (faults !== 1) throw new Error(`${faults} faults in a round`);
    },
  };
}
