/**
 * A guest of 1 TiB, one page touched in each GiB: what its memory costs this process. Resident memory belongs to a
 * process, so each run is one of its own, and is compared with an empty one.
 */
import { execFileSync } from "node:child_process";
import { anonymous, guest, MEMORY_IPA, memorySlot, runProgram, STORE_LOOP } from "./guest.js";
import type { Workload } from "./harness.js";

const TIB = 2 ** 40;
const DISTANCE = 2 ** 30;
const TOUCHED = TIB / DISTANCE;
const IPA_BITS = 48;
/** Bytes above an empty run that this project promises. */
const AT_MOST = 100 * 2 ** 20;

export const RSS_OF = "--rss-of";

/** What the process of its own does. @returns its largest resident memory in bytes */
export function rssOf(what: string): number {
  const size = what === "sparse" ? TIB : 2 * DISTANCE;
  const g = guest(STORE_LOOP, { ram: size }, IPA_BITS);
  memorySlot(g, anonymous(g.machine, size, false), size);
  const pages = size / DISTANCE;
  runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: pages, x3: DISTANCE });
  const leaves = g.machine.stage2Leaves(g.vm.id).filter((l) => l.ipa >= MEMORY_IPA);
  if (leaves.length !== pages) throw new Error(`${leaves.length} leaves for ${pages} pages`);
  leaves.forEach((l, i) => {
    g.machine.phys.read(l.pa, 8);
    if (g.machine.phys.lo !== i + 1) throw new Error(`page ${i} holds ${g.machine.phys.lo}, not ${i + 1}`);
  });
  return process.resourceUsage().maxRSS * 1024;
}

export function sparseGuest(): Workload {
  let empty = 0;
  let sparse = 0;
  const child = (what: string) => Number(execFileSync(process.execPath, [process.argv[1]!, RSS_OF, what], { encoding: "utf8" }));
  return {
    name: "sparse-guest",
    compares: `a process with a 1 TiB guest of which ${TOUCHED} pages are touched, from start to exit, against one with two`,
    unit: "guests",
    ops: 1,
    warm: true,
    prepare() {
      if (empty === 0) empty = child("empty");
    },
    run() {
      sparse = child("sparse");
    },
    check() {
      if (sparse - empty > AT_MOST) throw new Error(`1 TiB takes ${mib(sparse - empty)} MiB more than an empty run`);
    },
    notes: () => [
      `resident: ${mib(sparse)} MiB, an empty run ${mib(empty)} MiB: ${mib(sparse - empty)} MiB more (at most ${mib(AT_MOST)})`,
    ],
  };
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
