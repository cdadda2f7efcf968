/** mmu_stress_test: what vCPUs see when the VMM protects, frees and unmaps the memory under them. */
import { GuestOps, LOAD, STORE } from "./guestops.js";
import { GuestVm, PAGE, type Region } from "./guestvm.js";
import type { Checks, Selftest, SelftestOptions } from "./report.js";
import { PROT_READ, PROT_WRITE } from "../mmu/vmflags.js";

const FIRST_SLOT = 10;
const SLOTS = 4;
const PAGES = 8;
const VCPUS = 2;
const BASE = 0x80000000;

interface Stress {
  readonly g: GuestVm;
  readonly ops: GuestOps;
  readonly slots: readonly Region[];
}

/** Memslots side by side over one host mapping, and vCPUs of which each has a part of every slot. */
function build(options: SelftestOptions): Stress {
  const g = new GuestVm(options);
  g.boot();
  const size = PAGES * PAGE;
  const memory = g.backing(options.backing === "shmem" ? "shmem" : "anonymous", SLOTS * size);
  const slots: Region[] = [];
  for (let n = 0; n < SLOTS; n++) {
    const region = { slot: FIRST_SLOT + n, gpa: BASE + n * size, size, hva: memory.hva + n * size, fd: -1 };
    if (g.setRegion(region, 0) < 0) throw new Error(`memslot ${region.slot} is refused`);
    g.regions.push(region);
    slots.push(region);
  }
  g.map(BASE, BASE, SLOTS * PAGES);
  for (let n = 0; n < VCPUS; n++) g.start();
  return { g, ops: new GuestOps(g), slots };
}

/** Every vCPU does an operation on its pages of the slots. @returns what came, each outcome once, with its count */
function all(s: Stress, lines: readonly string[], slots: readonly Region[], data = 0n): string {
  const seen = new Map<string, number>();
  for (const r of slots)
    for (let page = 0; page < PAGES; page++) {
      const said = s.ops.outcome(lines, r.gpa + page * PAGE, data, s.g.vcpus[page % VCPUS]);
      seen.set(said, (seen.get(said) ?? 0) + 1);
    }
  return [...seen].map(([what, n]) => `${n} x ${what}`).join(", ");
}
const every = (slots: number, what: string): string => `${slots * PAGES} x ${what}`;

function protect(c: Checks, options: SelftestOptions): void {
  const s = build(options);
  const { host } = s.g.machine;
  const start = s.slots[0]!.hva;
  const size = SLOTS * PAGES * PAGE;
  c.expect("write all", every(SLOTS, "0x11"), all(s, STORE, s.slots, 0x11n));
  c.expect("write all again", every(SLOTS, "0x22"), all(s, STORE, s.slots, 0x22n));
  c.expect("read all", every(SLOTS, "0x22"), all(s, LOAD, s.slots));
  c.expect("mprotect(PROT_READ)", 0, host.mprotect(start, size, PROT_READ));
  c.expect("write all while the memory is read-only", every(SLOTS, "EFAULT"), all(s, STORE, s.slots, 0x33n));
  c.expect("read all while the memory is read-only", every(SLOTS, "0x22"), all(s, LOAD, s.slots));
  c.expect("mprotect(PROT_READ | PROT_WRITE)", 0, host.mprotect(start, size, PROT_READ | PROT_WRITE));
  c.expect("write all after it", every(SLOTS, "0x44"), all(s, STORE, s.slots, 0x44n));
  c.expect("the VMM reads the last write", 0x44n, host.read(start, 8).value);
}

function release(c: Checks, options: SelftestOptions): void {
  const s = build(options);
  const { host } = s.g.machine;
  all(s, STORE, s.slots, 0x11n);
  const gone = s.slots.filter((_, n) => n % 2 === 1);
  const left = s.slots.filter((_, n) => n % 2 === 0);
  for (const r of gone) c.expect(`delete memslot ${r.slot}`, 0, s.g.setRegion(r, 0, 0));
  c.expect("write to deleted memslots", every(gone.length, "exit MMIO"), all(s, STORE, gone, 0x22n));
  c.expect("write to the others", every(left.length, "0x22"), all(s, STORE, left, 0x22n));
  c.expect("munmap half of the memory", 0, host.munmap(s.slots[0]!.hva, (SLOTS / 2) * PAGES * PAGE));
  c.expect("write to a memslot whose memory is gone", every(1, "EFAULT"), all(s, STORE, [left[0]!], 0x33n));
  c.expect("write to a memslot whose memory is left", every(1, "0x33"), all(s, STORE, [left[1]!], 0x33n));
  c.expect("the process ends with memslots live", 0, host.kill(0));
  const frees = s.g.defaults.kvm.notifierRelease === "frees";
  c.expect(frees ? "stage 2 is empty then" : "stage 2 stays until the VM goes", frees, s.g.vm.stage2Leaves().length === 0);
}

export const mmuStressTest: Selftest = {
  name: "mmu_stress_test",
  title: "vCPUs under mprotect, deleted memslots, munmap and the end of the process",
  cases: [
    { name: "write, re-write, mprotect", run: protect },
    { name: "delete slots, munmap, exit", run: release },
  ],
};
