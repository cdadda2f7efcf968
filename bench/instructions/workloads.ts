/** What `npm run bench:instructions` steps through: the fault paths of the benchmarks, warmed up, a few hundred operations of each. */
import { readSync, writeSync } from "node:fs";
import { FaultedBar } from "../bar.js";
import { anonymous, discard, guest, MEMORY_IPA, memorySlot, must, runProgram, STORE_LOOP } from "../guest.js";
import { inlineMore } from "../../src/cli/v8flags.js";

const PAGE = 4096;
const BLOCK = 0x200000;
const MAP_PRIVATE_ANONYMOUS_FIXED = 0x32;
const KVM_MEM_LOG_DIRTY_PAGES = 1;

interface Counted {
  /** A round of the workload, long enough for V8 to compile what it needs. */
  warm(): void;
  /** Before a part. */
  prepare(): void;
  part(): void;
}

/** Fresh memory that is touched: `ops` places of it in a part, `all` of it to warm up. */
function faults(prepare: () => void, touch: (n: number) => void, ops: number, all: number): Counted {
  return {
    prepare,
    part: () => touch(ops),
    warm() {
      prepare();
      touch(all);
    },
  };
}

/** Stores to fresh pages or blocks of anonymous memory. */
function anonymousFaults(size: number, all: number, ops: number): Counted {
  const g = guest(STORE_LOOP);
  const hva = anonymous(g.machine, all * size, size === BLOCK);
  memorySlot(g, hva, all * size);
  return faults(
    () => discard(g.machine, hva, all * size),
    (n) => runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: n, x3: size }),
    ops,
    all,
  );
}

/** As unmap-refault: each page unmapped and mapped again by calls of its own, then stored to. */
function unmapRefault(ops: number): Counted {
  const g = guest(STORE_LOOP);
  const hva = anonymous(g.machine, 2 * ops * PAGE, false);
  memorySlot(g, hva, 2 * ops * PAGE);
  let batch = 0;
  const part = (): void => {
    for (let i = 0; i < ops; i++) {
      const at = hva + 2 * i * PAGE;
      must(g.machine.host.munmap(at, PAGE), "munmap");
      must(g.machine.host.mmap({ addr: at, length: PAGE, prot: 3, flags: MAP_PRIVATE_ANONYMOUS_FIXED }), "mmap");
    }
    runProgram(g, { x0: MEMORY_IPA, x1: ++batch, x2: ops, x3: 2 * PAGE });
  };
  runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: 2 * ops, x3: PAGE });
  return {
    prepare: () => undefined,
    part,
    warm: () => {
      for (let i = 0; i < 10; i++) part();
    },
  };
}

function mmioExits(ops: number): Counted {
  const g = guest("loop: ldr x1, [x0]\n add x2, x2, x1\n b loop");
  for (const [name, value] of Object.entries({ x0: 0x0a00_0000n, x2: 0n, pc: 0x1000_0000n })) g.vcpu.set(name, value);
  g.vcpu.cancelMmio();
  const exits = (n: number): void => {
    for (let i = 0; i < n; i++) {
      if (g.vcpu.run().exit.reason !== "MMIO") throw new Error("no MMIO exit");
      g.vcpu.answerMmio(3n);
    }
  };
  return { prepare: () => undefined, part: () => exits(ops), warm: () => exits(5000) };
}

function dirtyLog(ops: number): Counted {
  const g = guest(STORE_LOOP);
  const userspaceAddr = anonymous(g.machine, ops * PAGE, false);
  const region = { slot: 1, flags: KVM_MEM_LOG_DIRTY_PAGES, guestPhysAddr: MEMORY_IPA, memorySize: ops * PAGE, userspaceAddr };
  must(g.vm.setUserMemoryRegion(region), "logged slot");
  const part = (): void => {
    runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: ops, x3: PAGE });
    must(g.vm.getDirtyLog(1).ret, "KVM_GET_DIRTY_LOG");
  };
  return {
    prepare: () => undefined,
    part,
    warm: () => {
      for (let i = 0; i < 10; i++) part();
    },
  };
}

/** As demand-fault-bar. */
function barFaults(ops: number): Counted {
  const all = 16 * ops;
  const bar = new FaultedBar(all);
  return faults(
    () => bar.remap(),
    (n) => bar.touch(1, n),
    ops,
    all,
  );
}

/** As bulk-unmap: one munmap of pages that host and stage 2 map. */
function bulkUnmap(ops: number): Counted {
  const g = guest(STORE_LOOP);
  let hva = 0;
  const prepare = (): void => {
    g.vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: MEMORY_IPA, memorySize: 0, userspaceAddr: hva });
    hva = anonymous(g.machine, ops * PAGE, false);
    memorySlot(g, hva, ops * PAGE);
    runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: ops, x3: PAGE });
  };
  const part = (): void => {
    must(g.machine.host.munmap(hva, ops * PAGE), "munmap");
  };
  return {
    prepare,
    part,
    warm() {
      prepare();
      part();
    },
  };
}

/** Operations of a part: nearly a table's worth of faults, as a table and a run of frames are made for 512 of them. */
export const OPS = {
  "demand-fault-4k": 448,
  "demand-fault-2m": 160,
  "demand-fault-bar": 128,
  "unmap-refault": 256,
  "mmio-exit": 448,
  "dirty-log-round": 512,
  "bulk-unmap": 2048,
} as const;

const COUNTED: Readonly<Record<keyof typeof OPS, (ops: number) => Counted>> = {
  "demand-fault-4k": (ops) => anonymousFaults(PAGE, 4096, ops),
  "demand-fault-2m": (ops) => anonymousFaults(BLOCK, 192, ops),
  "demand-fault-bar": barFaults,
  "unmap-refault": unmapRefault,
  "mmio-exit": mmioExits,
  "dirty-log-round": dirtyLog,
  "bulk-unmap": bulkUnmap,
};

const WARM_ROUNDS = 60;
const PARTS = 3;

/** In the process that is stepped through: its parts, marked as step.c expects. */
export function run(name: keyof typeof OPS): void {
  inlineMore();
  const counted = COUNTED[name](OPS[name]);
  for (let i = 0; i < WARM_ROUNDS; i++) counted.warm();
  const byte = Buffer.alloc(1);
  const mark = (): void => {
    writeSync(3, "m");
    readSync(4, byte);
  };
  for (let i = 0; i < PARTS; i++) {
    counted.prepare();
    mark();
    counted.part();
    mark();
  }
}
