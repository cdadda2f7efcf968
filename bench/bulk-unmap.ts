/** One munmap of much memory mapped by 4 KiB pages: host entries, frames and stage-2 entries go. */
import { anonymous, guest, MEMORY_IPA, memorySlot, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;

export function bulkUnmap(quick: boolean): Workload {
  const pages = quick ? 2 ** 14 : 2 ** 18;
  let g: Guest | undefined;
  let hva = 0;
  return {
    name: "bulk-unmap",
    compares: `munmap of ${pages} pages that host and stage 2 map by 4 KiB, in one call`,
    unit: "entries",
    ops: pages,
    floor: 20e6,
    prepare() {
      g ??= guest(STORE_LOOP);
      const { machine, vm } = g;
      vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: MEMORY_IPA, memorySize: 0, userspaceAddr: hva });
      hva = anonymous(machine, pages * PAGE, false);
      memorySlot(g, hva, pages * PAGE);
      runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: pages, x3: PAGE });
      const mapped = machine.stage2Leaves(vm.id).length;
      if (mapped < pages) throw new Error(`only ${mapped} pages were mapped`);
    },
    run() {
      must(g!.machine.host.munmap(hva, pages * PAGE), "munmap");
    },
    check() {
      const left = g!.machine.stage2Leaves(g!.vm.id).filter((l) => l.ipa >= MEMORY_IPA).length;
      if (left !== 0) throw new Error(`${left} stage-2 leaves are left`);
      if (g!.machine.mm.pt.walk(0, hva)) throw new Error("a host entry is left");
    },
  };
}
