/**
 * Exploring three threads of the VMM that each take a page of guest memory away: about twelve preemption points
 * each, every one of them takes the mmu_lock for both notifiers. Steps per second with hashing and undo, without
 * and with every invariant asked; the search is exhausted in each run.
 */
import { compile } from "../src/guest/compile.js";
import { machineWorld } from "../src/guest/machineworld.js";
import { observer, stage, type Stage } from "../src/explore/explore.js";
import { Search, type SearchResult } from "../src/explore/search.js";
import type { Workload } from "./harness.js";

const SCRIPT = `variant v6.12
let mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
madvise(mem, 2M, MADV_NOHUGEPAGE)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=2M, userspace_addr=mem)
guest { mov x1, 0x80000000; str x1, [x1]; add x1, x1, 4096; str x1, [x1]; add x1, x1, 4096; str x1, [x1] }
par {
  vmm { madvise(mem, 4K, MADV_DONTNEED) }
  vmm second { madvise(mem + 4K, 4K, MADV_DONTNEED) }
  vmm third { madvise(mem + 8K, 4K, MADV_DONTNEED) }
}
`;

function search(s: Stage, invariants: boolean): SearchResult {
  return new Search(s.system, invariants ? observer(s, { wrong: undefined }) : {}, {}).run();
}

function workload(name: string, invariants: boolean, floor: number): Workload {
  const program = compile("explore.guest", SCRIPT, machineWorld);
  const make = (): Stage => {
    const s = stage(program, program.variants[0]!)!;
    if (!invariants) s.checker.stop();
    return s;
  };
  const first = search(make(), invariants);
  let s: Stage | undefined;
  let found: SearchResult | undefined;
  return {
    name,
    compares: `three munmap-like calls interleaved in every way that differs, ${invariants ? "every invariant asked" : "hashing and undo alone"}`,
    unit: "steps",
    ops: first.steps,
    warm: true,
    floor,
    // A search leaves the machine as it found it. One of millions of steps compiles the setting up of a machine once.
    prepare() {
      s ??= make();
    },
    run() {
      found = search(s!, invariants);
    },
    check() {
      if (found?.ending !== "complete" || found.steps !== first.steps)
        throw new Error(`ended ${found?.ending} after ${found?.steps} steps`);
    },
    notes: () => [`${first.states} states, ${first.schedules} schedules, longest ${first.depth} steps`],
  };
}

export const exploreSteps = (): Workload => workload("explore", false, 500e3);
export const exploreInvariants = (): Workload => workload("explore-invariants", true, 200e3);
