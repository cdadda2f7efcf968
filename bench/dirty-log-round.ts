/** One round of live migration: the guest dirties every page of protected memory, the VMM collects the log, which protects them again. */
import { anonymous, guest, MEMORY_IPA, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;
const KVM_MEM_LOG_DIRTY_PAGES = 1;

export function dirtyLogRound(quick: boolean): Workload {
  const pages = quick ? 2 ** 14 : 2 ** 18;
  let g: Guest | undefined;
  let value = 1;
  let dirty: readonly number[] = [];
  return {
    name: "dirty-log-round",
    compares: `${pages} write-protected pages: a permission fault and a dirty bit each, then KVM_GET_DIRTY_LOG collects and protects them again`,
    unit: "pages",
    ops: pages,
    floor: 2e6,
    prepare() {
      if (g === undefined) {
        g = guest(STORE_LOOP);
        const userspaceAddr = anonymous(g.machine, pages * PAGE, false);
        const region = { slot: 1, flags: KVM_MEM_LOG_DIRTY_PAGES, guestPhysAddr: MEMORY_IPA, memorySize: pages * PAGE, userspaceAddr };
        must(g.vm.setUserMemoryRegion(region), "logged slot");
        runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: pages, x3: PAGE });
        must(g.vm.getDirtyLog(1).ret, "KVM_GET_DIRTY_LOG");
      }
      value += pages;
    },
    run() {
      runProgram(g!, { x0: MEMORY_IPA, x1: value, x2: pages, x3: PAGE });
      dirty = g!.vm.getDirtyLog(1).pages;
    },
    check() {
      if (dirty.length !== pages || dirty.some((page, i) => page !== i)) throw new Error(`${dirty.length} of ${pages} pages were logged`);
      const leaves = g!.machine.stage2Leaves(g!.vm.id).filter((l) => l.ipa >= MEMORY_IPA);
      if (leaves.length !== pages || leaves.some((l) => l.s2ap !== 1)) throw new Error("a page is not mapped read-only after the round");
      leaves.forEach((l, i) => {
        g!.machine.phys.read(l.pa, 8);
        if (g!.machine.phys.lo !== value + i) throw new Error(`page ${i} holds ${g!.machine.phys.lo}, not ${value + i}`);
      });
    },
  };
}
