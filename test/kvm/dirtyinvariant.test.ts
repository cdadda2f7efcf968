/**
 * The promise of dirty logging, against a shadow model through the public API: the next answer holds the pages that the guest
 * has written since the VMM last took them, whatever happens in between, and no others: blocks are taken apart while a slot is logged.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { assemble } from "../../src/arch/assemble.js";
import { Machine } from "../../src/machine.js";
import { MADV_COLLAPSE, MADV_DONTNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";

const PAGE = 0x1000;
const BLOCK = 0x200000;
const SIZE = 2 * BLOCK;
const PAGES = SIZE / PAGE;
const CODE = 0x40000000;
const RAM = 0x80000000;
const LOG = 1;
const CAP_MANUAL_PROTECT = 168;
const CAP_RING_ACQ_REL = 223;
const CAP_RING_WITH_BITMAP = 225;
const CAP_EAGER_SPLIT = 228;
/** One page: 256 entries. */
const RING_BYTES = 4096;
const RW = PROT_READ | PROT_WRITE;

type Backing = "nohuge" | "thp" | "hugetlb" | "memfd";
const program = [...assemble("str x1, [x0]"), ...assemble("str x0, [x20]"), ...assemble("ldr x1, [x0]"), ...assemble("str x0, [x20]")];

class Rig {
  readonly m: Machine;
  readonly vm;
  readonly vcpu;
  readonly hva: number;
  private readonly fd: number;
  /** Exits because the ring was full. */
  full = 0;
  constructor(
    kernel: string,
    private readonly backing: Backing,
    setUp: (rig: Rig) => void,
  ) {
    const m = (this.m = new Machine({ kernel, cpu: "max" }));
    this.vm = m.createVm();
    const code = m.host.mmap({ length: BLOCK, align: BLOCK, prot: RW, flags: MAP_PRIVATE | MAP_ANONYMOUS });
    m.host.madvise(code, BLOCK, MADV_NOHUGEPAGE);
    for (const [i, w] of program.entries()) m.host.write(code + 4 * i, 4, BigInt(w >>> 0));
    this.fd = backing === "memfd" ? m.host.memfdCreate(SIZE) : -1;
    this.hva = m.host.mmap({ length: SIZE, align: BLOCK, prot: 0, flags: MAP_PRIVATE | MAP_ANONYMOUS });
    this.map(0, PAGES);
    setUp(this);
    this.vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: CODE, memorySize: BLOCK, userspaceAddr: code });
    this.flags(LOG);
    this.vcpu = this.vm.createVcpu();
    this.vcpu.set("x20", 0x10000000n);
  }
  map(page: number, n: number): void {
    const { backing } = this;
    const shared = backing === "memfd";
    this.m.host.mmap({
      addr: this.hva + page * PAGE,
      length: n * PAGE,
      prot: RW,
      flags: MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | (backing === "hugetlb" ? MAP_HUGETLB : 0),
      fd: this.fd,
      offset: shared ? page * PAGE : 0,
    });
    if (backing === "nohuge") this.m.host.madvise(this.hva + page * PAGE, n * PAGE, MADV_NOHUGEPAGE);
    if (backing === "thp") this.m.host.madvise(this.hva + page * PAGE, n * PAGE, MADV_HUGEPAGE);
  }
  flags(flags: number): void {
    expect(this.vm.setUserMemoryRegion({ slot: 1, flags, guestPhysAddr: RAM, memorySize: SIZE, userspaceAddr: this.hva })).toBe(0);
  }
  /** @returns true if the access was carried out; false if the host had no page for it. */
  access(page: number, write: boolean, ringFull: () => void): boolean {
    this.vcpu.set("x0", BigInt(RAM + page * PAGE));
    this.vcpu.set("pc", BigInt(CODE + (write ? 0 : 8)));
    this.vcpu.cancelMmio();
    for (;;) {
      const { ret, exit } = this.vcpu.run({ maxExits: 50 });
      if (exit.reason === "DIRTY_RING_FULL") {
        this.full++;
        ringFull();
      } else if (ret < 0) return false;
      else {
        expect(exit.reason).toBe("MMIO");
        return true;
      }
    }
  }
}

type Step =
  | { readonly do: "write" | "read"; readonly page: number }
  | { readonly do: "get" | "toggle" }
  | { readonly do: "clear" | "dontneed" | "munmap" | "remap" | "collapse"; readonly page: number; readonly n: number };

const page = fc.oneof(fc.constantFrom(0, 1, 63, 64, 511, 512, 1023), fc.integer({ min: 0, max: PAGES - 1 }));
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ do: fc.constant("write" as const), page }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("read" as const), page }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("get" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("toggle" as const) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constantFrom(
          "clear" as const,
          "clear" as const,
          "dontneed" as const,
          "munmap" as const,
          "remap" as const,
          "collapse" as const,
        ),
        page,
        n: fc.constantFrom(1, 64, 512, 1024),
      }),
    },
  ),
  { minLength: 5, maxLength: 25, size: "max" },
);

const ALL = Array.from({ length: PAGES }, (_, p) => p);

/** Runs the steps. @param full all pages are dirty at first (KVM_DIRTY_LOG_INITIALLY_SET) */
function play(rig: Rig, list: readonly Step[], manual: boolean, ring: boolean, full = false): void {
  const written = new Set<number>(full ? ALL : []);
  let logging = true;
  const collected = new Set<number>();
  const harvest = () => {
    for (const g of rig.vcpu.dirtyGfns()) if (g.slot === 1) collected.add(g.offset);
    expect(rig.vm.resetDirtyRings()).toBeGreaterThanOrEqual(0);
  };
  const check = () => {
    if (!logging) return;
    const pages = ring ? (harvest(), collected) : new Set(rig.vm.getDirtyLog(1).pages);
    expect([...written].filter((p) => !pages.has(p))).toEqual([]);
    expect([...pages].filter((p) => !written.has(p))).toEqual([]);
    if (ring || !manual) written.clear();
    collected.clear();
  };
  for (const s of list) {
    switch (s.do) {
      case "write":
        if (rig.access(s.page, true, harvest) && logging) written.add(s.page);
        break;
      case "read":
        rig.access(s.page, false, harvest);
        break;
      case "get":
        check();
        break;
      case "toggle":
        // What was not taken is lost with the bitmap: the VMM asks before it switches off.
        check();
        logging = !logging;
        written.clear();
        if (full && logging) for (const p of ALL) written.add(p);
        rig.flags(logging ? LOG : 0);
        break;
      case "clear": {
        if (!manual || ring || !logging) break;
        const first = Math.floor(s.page / 64) * 64;
        const n = Math.min(Math.ceil(s.n / 64) * 64, PAGES - first);
        expect(rig.vm.clearDirtyLog(1, first, n)).toBe(0);
        for (let p = first; p < first + n; p++) written.delete(p);
        break;
      }
      default: {
        const huge = s.n >= 512;
        const first = huge ? Math.floor(s.page / 512) * 512 : s.page;
        const n = Math.min(s.n, PAGES - first);
        const at = rig.hva + first * PAGE;
        if (s.do === "dontneed") rig.m.host.madvise(at, n * PAGE, MADV_DONTNEED);
        else if (s.do === "collapse") rig.m.host.madvise(at, n * PAGE, MADV_COLLAPSE);
        else if (s.do === "munmap") rig.m.host.munmap(at, n * PAGE);
        else rig.map(first, n);
      }
    }
  }
  check();
}

const ERAS = ["v4.0", "v5.4", "v5.6", "v5.14", "v6.1", "v6.8", "v6.12", "v6.18.2", "v7.2.12"] as const;
const backing = fc.constantFrom<Backing>("nohuge", "thp", "hugetlb", "memfd");

describe("no guest write is ever missing from the dirty log", () => {
  it.each(ERAS)("%s: bitmap, manual protect, initially set, eager split", (kernel) => {
    fc.assert(
      fc.property(backing, fc.constantFrom(0, 1, 3), fc.boolean(), steps, (kind, mode, eager, list) => {
        let manual = false;
        const rig = new Rig(kernel, kind, ({ vm }) => {
          manual = mode !== 0 && vm.enableCap(CAP_MANUAL_PROTECT, mode) === 0;
          if (eager) vm.enableCap(CAP_EAGER_SPLIT, BLOCK);
        });
        play(rig, list, manual, false, manual && mode === 3);
      }),
      { numRuns: Number(process.env["RUNS"] ?? 20), seed: Number(process.env["SEED"] ?? 2024) },
    );
  });

  it.each(["v6.1.192", "v6.4", "v6.12", "v7.2.12"])("%s: dirty ring, also when it runs full", (kernel) => {
    let rings = 0;
    fc.assert(
      fc.property(backing, steps, (kind, list) => {
        let ring = false;
        const rig = new Rig(kernel, kind, ({ vm }) => {
          ring = vm.enableCap(CAP_RING_ACQ_REL, RING_BYTES) === 0;
          // Without the bitmap arm64 does not see that the slot is logged: blocks stay, and only their first write is pushed.
          if (ring) expect(vm.enableCap(CAP_RING_WITH_BITMAP, 0)).toBe(0);
        });
        const fill: Step[] = Array.from({ length: 300 }, (_, p) => ({ do: "write", page: p }));
        if (ring) play(rig, [...list, ...fill, ...list], false, true);
        rings += rig.full;
      }),
      { numRuns: 8, seed: 2025 },
    );
    expect(rings > 0).toBe(kernel !== "v6.1.192");
  });
});
