/** Demand faults of a BAR, page by page: vfio-pci inserts one page frame, KVM maps one device page. */
import { BAR_ADDRESS, FaultedBar } from "./bar.js";
import { MEMORY_IPA } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;

export function demandFaultBar(quick: boolean): Workload {
  const pages = quick ? 2 ** 14 : 2 ** 17;
  let bar: FaultedBar | undefined;
  let value = 1;
  return {
    name: "demand-fault-bar",
    compares: `stores to ${pages} distinct pages of a VFIO BAR (PFNMAP), each its own fault in the host and in stage 2; the device has its data already`,
    unit: "faults",
    ops: pages,
    floor: 2.5e6,
    prepare() {
      if (bar === undefined) {
        bar = new FaultedBar(pages);
        bar.touch(value, pages);
      }
      bar.remap();
      value += pages;
    },
    run() {
      bar!.touch(value, pages);
    },
    check() {
      const { machine, vm } = bar!.g;
      const leaves = machine.stage2Leaves(vm.id).filter((l) => l.ipa >= MEMORY_IPA);
      if (leaves.length !== pages) throw new Error(`${leaves.length} stage-2 leaves for ${pages} pages`);
      leaves.forEach((l, i) => {
        if (l.size !== PAGE || l.pa !== BAR_ADDRESS + i * PAGE) throw new Error(`page ${i} of the BAR is mapped to ${l.pa.toString(16)}`);
        const last = value + pages - 1 - i;
        machine.phys.read(l.pa, 8);
        if (machine.phys.lo !== last) throw new Error(`page ${i} of the BAR holds ${machine.phys.lo}, not ${last}`);
      });
    },
  };
}
