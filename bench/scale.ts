/**
 * Whether faults and unmap cost the same however large the guest is: the same pages, in whole 2 MiB runs, spread over
 * 1 to 64 GiB of guest memory, over 512 memslots, beside 10,000 VMAs.
 */
import { anonymous, guest, MEMORY_IPA, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import { scaled, type Workload } from "./harness.js";

const PAGE = 4096;
const RUN_PAGES = 512;
const GIB = 2 ** 30;
const MAP_PRIVATE_ANONYMOUS = 0x22;

interface Point {
  readonly gib: number;
  readonly memslots: number;
  readonly vmas: number;
}
const POINTS: readonly Point[] = [
  { gib: 1, memslots: 1, vmas: 0 },
  { gib: 4, memslots: 1, vmas: 0 },
  { gib: 16, memslots: 1, vmas: 0 },
  { gib: 64, memslots: 1, vmas: 0 },
  { gib: 64, memslots: 512, vmas: 0 },
  { gib: 64, memslots: 512, vmas: 10_000 },
];
const LARGEST = POINTS.at(-1)!;

export function scale(quick: boolean): Workload {
  const runs = quick ? 16 : 512;
  const repeats = quick ? 1 : 5;
  let big: Spread;
  return {
    name: "scale",
    compares: `stores to ${runs * RUN_PAGES} pages of a 64 GiB guest with 512 memslots, beside 10,000 VMAs; the curve is under it`,
    unit: "faults",
    ops: runs * RUN_PAGES,
    prepare() {
      big = spread(LARGEST, runs);
    },
    run() {
      big.touch();
    },
    check() {
      big.check();
      big.unmap();
      big.checkUnmapped();
    },
    notes() {
      const lines = measured(runs, repeats);
      const base = lines[0]!;
      const cell = (rate: number, of: number) => `${scaled(rate).padStart(7)}/s ${Math.round((100 * rate) / of)} %`.padEnd(18);
      return [
        "guest    memslots  more VMAs   faults            entries unmapped",
        ...lines.map(({ point: p, faults, unmapped }) =>
          `${`${p.gib} GiB`.padEnd(8)} ${String(p.memslots).padStart(8)}  ${String(p.vmas).padStart(9)}  ${cell(faults, base.faults)} ${cell(unmapped, base.unmapped)}`.trimEnd(),
        ),
      ];
    },
  };
}

interface Measured {
  readonly point: Point;
  readonly faults: number;
  readonly unmapped: number;
}

/** The best of several machines for each point, in turns: what disturbs a run makes it slower only. */
function measured(runs: number, repeats: number): readonly Measured[] {
  const best = POINTS.map((point) => ({ point, faults: 0, unmapped: 0 }));
  for (let i = 0; i < repeats; i++)
    for (const p of best) {
      const s = spread(p.point, runs);
      p.faults = Math.max(
        p.faults,
        rate(runs * RUN_PAGES, () => s.touch()),
      );
      s.check();
      p.unmapped = Math.max(
        p.unmapped,
        rate(runs * RUN_PAGES, () => s.unmap()),
      );
      s.checkUnmapped();
    }
  return best;
}

function rate(ops: number, work: () => void): number {
  const before = process.hrtime.bigint();
  work();
  return (ops * 1e9) / Number(process.hrtime.bigint() - before);
}

interface Spread {
  touch(): void;
  check(): void;
  unmap(): void;
  checkUnmapped(): void;
}

/** A guest of this size, and so many runs of 2 MiB at equal distances in it. */
function spread(point: Point, runs: number): Spread {
  const bytes = point.gib * GIB;
  const distance = bytes / runs;
  const g = guest(STORE_LOOP, { ram: bytes + GIB });
  const hva = anonymous(g.machine, bytes, false);
  const each = bytes / point.memslots;
  for (let i = 0; i < point.memslots; i++)
    must(
      g.vm.setUserMemoryRegion({
        slot: 1 + i,
        flags: 0,
        guestPhysAddr: MEMORY_IPA + i * each,
        memorySize: each,
        userspaceAddr: hva + i * each,
      }),
      "memory slot",
    );
  manyVmas(g, point.vmas);
  const forEachRun = (work: (offset: number, i: number) => void) => {
    for (let i = 0; i < runs; i++) work(i * distance, i);
  };
  return {
    touch: () => forEachRun((offset, i) => runProgram(g, { x0: MEMORY_IPA + offset, x1: 1 + i * RUN_PAGES, x2: RUN_PAGES, x3: PAGE })),
    check() {
      const leaves = leavesOf(g);
      if (leaves.length !== runs * RUN_PAGES) throw new Error(`${leaves.length} stage-2 leaves for ${runs * RUN_PAGES} pages`);
      leaves.forEach((l, i) => {
        g.machine.phys.read(l.pa, 8);
        if (g.machine.phys.lo !== i + 1) throw new Error(`page ${i} holds ${g.machine.phys.lo}, not ${i + 1}`);
      });
    },
    unmap: () => forEachRun((offset) => must(g.machine.host.munmap(hva + offset, RUN_PAGES * PAGE), "munmap")),
    checkUnmapped() {
      const left = leavesOf(g).length;
      if (left !== 0) throw new Error(`${left} stage-2 leaves are left`);
    },
  };
}

function leavesOf(g: Guest) {
  return g.machine.stage2Leaves(g.vm.id).filter((l) => l.ipa >= MEMORY_IPA);
}

/** VMAs of one page that cannot merge: readable and writable ones in turn. */
function manyVmas(g: Guest, count: number): void {
  for (let i = 0; i < count; i++) must(g.machine.host.mmap({ length: PAGE, prot: 1 + 2 * (i % 2), flags: MAP_PRIVATE_ANONYMOUS }), "mmap");
}
