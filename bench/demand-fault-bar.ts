/**
 * Demand faults of a BAR, page by page: vfio-pci inserts one page frame, KVM maps one device page.
 *
 * The slot's guest and host addresses differ modulo 2 MiB, so KVM can make no block; the guest walks downwards, so the
 * first touch of 2 MiB is not their first page, and v6.12's vfio-pci makes no block either.
 */
import { guest, MEMORY_IPA, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";
import type { VfioDevice } from "../src/machine.js";

const PAGE = 4096;
const BDF = "0000:00:07.0";
const BAR_ADDRESS = 0xa0_0000_0000;
const FIRST_IPA = MEMORY_IPA + PAGE;

export function demandFaultBar(quick: boolean): Workload {
  const pages = quick ? 2 ** 14 : 2 ** 17;
  const length = pages * PAGE;
  let g: Guest | undefined;
  let device: VfioDevice;
  let hva = 0;
  let value = 1;
  const slot = (memorySize: number) =>
    must(g!.vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: FIRST_IPA, memorySize, userspaceAddr: hva }), "BAR slot");
  const map = () => {
    hva = must(device.mmap({ region: 0, length, align: 0x200000 }), "mmap of the BAR");
    slot(length);
  };
  const touch = () => runProgram(g!, { x0: FIRST_IPA + length - PAGE, x1: value, x2: pages, x3: -PAGE });
  return {
    name: "demand-fault-bar",
    compares: `stores to ${pages} distinct pages of a VFIO BAR (PFNMAP), each its own fault in the host and in stage 2; the device has its data already`,
    unit: "faults",
    ops: pages,
    floor: 2.5e6,
    prepare() {
      if (g === undefined) {
        g = guest(STORE_LOOP, {
          devices: [{ bdf: BDF, bars: [{ index: 0, size: length, bits: 64, prefetch: true, model: "memory", at: BAR_ADDRESS }] }],
        });
        device = g.machine.vfio.open(BDF);
        map();
        touch();
      }
      slot(0);
      must(g.machine.host.munmap(hva, length), "munmap");
      map();
      value += pages;
    },
    run() {
      touch();
    },
    check() {
      const { machine, vm } = g!;
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
