/** Anonymous demand faults of 4 KiB: every store takes a stage-2 fault, a VMA lookup, a page, a host entry and a stage-2 entry. */
import { anonymous, discard, guest, MEMORY_IPA, memorySlot, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;

export function demandFault4k(quick: boolean): Workload {
  const pages = quick ? 2 ** 15 : 2 ** 20;
  let g: Guest | undefined;
  let hva = 0;
  let perPage = 0;
  let before = 0;
  return {
    name: "demand-fault-4k",
    compares: `stores to ${pages} distinct pages of anonymous memory, each its own fault, through the whole path`,
    unit: "faults",
    ops: pages,
    floor: 2.5e6,
    prepare() {
      if (g !== undefined) return discard(g.machine, hva, pages * PAGE);
      g = guest(STORE_LOOP);
      hva = anonymous(g.machine, pages * PAGE, false);
      memorySlot(g, hva, pages * PAGE);
      before = tableBytes(g);
    },
    run() {
      runProgram(g!, { x0: MEMORY_IPA, x1: 1, x2: pages, x3: PAGE });
    },
    check() {
      const { machine, vm } = g!;
      perPage ||= (tableBytes(g!) - before) / pages;
      const frames = new Set<number>();
      for (let i = 0; i < pages; i++) {
        if (!machine.mm.pt.walk(0, hva + i * PAGE)) throw new Error(`page ${i} is not mapped in the host`);
        const pfn = machine.mm.pt.leafPfn;
        frames.add(pfn);
        machine.phys.read(pfn * PAGE, 8);
        if (machine.phys.lo !== i + 1 || machine.phys.hi !== 0) throw new Error(`page ${i} holds ${machine.phys.lo}, not ${i + 1}`);
      }
      if (frames.size !== pages) throw new Error(`${pages} pages lie in ${frames.size} frames`);
      const leaves = machine.stage2Leaves(vm.id).filter((l) => l.ipa >= MEMORY_IPA).length;
      if (leaves !== pages) throw new Error(`${leaves} stage-2 leaves for ${pages} pages`);
    },
    notes: () => [`tables and page metadata: ${perPage.toFixed(1)} bytes per mapped page (at most 24), data excluded`],
  };
}

/** Bytes of translation tables, frame metadata and page indexes; data of pages excluded. */
function tableBytes(g: Guest): number {
  return g.machine.sim.state.pools
    .filter((p) => /^(tables|frames|kvm|stage2|phys\.(?!lines|full)|pt)/.test(p.name))
    .reduce((sum, p) => sum + p.bytes, 0);
}
