/** What a steady loop of faults leaves to the garbage collector: growth of the JavaScript heap for each million faults. */
import { anonymous, guest, MEMORY_IPA, memorySlot, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;
const PAGES = 4096;
const MADV_DONTNEED = 4;
/** The first rounds still grow tables and are compiled anew. */
const SETTLED = 64;
/** Bytes of the heap that a fault may take: what the calls of a round leave is some two for each of its faults, one number that is boxed on the path is 16. */
const AT_MOST = 8;

export function garbage(quick: boolean): Workload {
  const rounds = quick ? 4 : 64;
  let g: Guest | undefined;
  let hva = 0;
  let heap: number[] = [];
  let buffers: number[] = [];
  let empty: number[] = [];
  const perFault = (): number => (median(heap) - median(empty)) / PAGES;
  return {
    name: "garbage",
    compares: `${rounds} rounds of MADV_DONTNEED over ${PAGES} pages and a store to each: faults that reuse what the last round freed`,
    unit: "faults",
    ops: rounds * PAGES,
    prepare() {
      if (g !== undefined) return;
      g = guest(STORE_LOOP);
      hva = anonymous(g.machine, PAGES * PAGE, false);
      memorySlot(g, hva, PAGES * PAGE);
      for (let i = 0; i < SETTLED; i++) round(g, hva);
    },
    run() {
      for (let i = 0; i < rounds; i++) round(g!, hva);
    },
    check() {
      g!.machine.phys.read(g!.machine.stage2Leaves(g!.vm.id).filter((l) => l.ipa >= MEMORY_IPA)[PAGES - 1]!.pa, 8);
      if (g!.machine.phys.lo !== PAGES) throw new Error(`the last page holds ${g!.machine.phys.lo}, not ${PAGES}`);
      heap = [];
      buffers = [];
      empty = [];
      for (let i = 0; i < 32; i++) {
        const a = process.memoryUsage();
        const b = process.memoryUsage();
        round(g!, hva);
        const c = process.memoryUsage();
        empty.push(b.heapUsed - a.heapUsed);
        heap.push(c.heapUsed - b.heapUsed);
        buffers.push(c.arrayBuffers - b.arrayBuffers);
      }
      if (perFault() > AT_MOST) throw new Error(`a fault leaves ${perFault().toFixed(1)} bytes of garbage, not at most ${AT_MOST}`);
    },
    notes() {
      return [
        `heap growth: ${((perFault() * 1e6) / 2 ** 20).toFixed(2)} MiB for each million faults (${perFault().toFixed(1)} bytes a fault), the madvise and KVM_RUN of each ${PAGES} included; typed arrays: ${median(buffers)} bytes`,
      ];
    },
  };
}

function round(g: Guest, hva: number): void {
  must(g.machine.host.madvise(hva, PAGES * PAGE, MADV_DONTNEED), "madvise");
  runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: PAGES, x3: PAGE });
}

/** Rounds in which the collector ran shrink the heap: the median passes over them. */
function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}
