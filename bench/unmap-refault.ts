/**
 * Pages unmapped, mapped again and touched: for each a munmap with its notifier, stage-2 unmap and TLBI, a mmap, a fault.
 * A batch of them is replaced before the guest touches them, so that leaving the guest is not measured: mmio-exit does that.
 * The pages lie apart in memory that differs in its flags, so that each is a VMA of its own: cutting a VMA of 2 MiB
 * would also announce the whole block, which is another workload.
 */
import { anonymous, guest, MEMORY_IPA, memorySlot, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;
const MAP_PRIVATE_ANONYMOUS_FIXED = 0x32;
/** Pages of a batch: fewer than a TLB holds, so that each munmap finds the entries of the last store. */
const BATCH = 256;

export function unmapRefault(quick: boolean): Workload {
  const batches = quick ? 8 : 80;
  let g: Guest | undefined;
  let hva = 0;
  let batch = 0;
  const pageAt = (i: number) => hva + 2 * i * PAGE;
  /** Replaces the pages and lets the guest store to them: batch n writes n, n + 1 … */
  const round = () => {
    for (let i = 0; i < BATCH; i++) replace(g!, pageAt(i));
    runProgram(g!, { x0: MEMORY_IPA, x1: ++batch, x2: BATCH, x3: 2 * PAGE });
  };
  return {
    name: "unmap-refault",
    compares: `${BATCH} pages, each unmapped by a munmap of its own and mapped again by a mmap, then stored to by the guest: two calls of the VMM and one fault for each; ${batches} times`,
    unit: "pages",
    ops: batches * BATCH,
    floor: 0.8e6,
    prepare() {
      if (g === undefined) {
        g = guest(STORE_LOOP);
        hva = anonymous(g.machine, 2 * BATCH * PAGE, false);
        memorySlot(g, hva, 2 * BATCH * PAGE);
        runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: 2 * BATCH, x3: PAGE });
      }
      round();
    },
    run() {
      for (let i = 0; i < batches; i++) round();
    },
    check() {
      const { machine } = g!;
      // One more, listened to: a fault and an unmapped page for each.
      let faults = 0;
      let unmapped = 0;
      const off = [
        machine.on("kvm_guest_fault", (e) => (faults += (e["ipa"] as number) >= MEMORY_IPA ? 1 : 0)),
        machine.on("kvm_unmap_hva_range", (e) => (unmapped += (e["end"] as number) - (e["start"] as number))),
      ];
      round();
      for (const stop of off) stop();
      if (faults !== BATCH || unmapped !== BATCH * PAGE)
        throw new Error(`${BATCH} pages made ${faults} faults, and ${unmapped} bytes were unmapped`);
      for (let i = 0; i < BATCH; i++) {
        const { value } = machine.host.read(pageAt(i), 8);
        if (value !== BigInt(batch + i)) throw new Error(`page ${i} holds ${value}, not ${batch + i}`);
      }
    },
  };
}

function replace(g: Guest, at: number): void {
  must(g.machine.host.munmap(at, PAGE), "munmap");
  must(g.machine.host.mmap({ addr: at, length: PAGE, prot: 3, flags: MAP_PRIVATE_ANONYMOUS_FIXED }), "mmap");
}
