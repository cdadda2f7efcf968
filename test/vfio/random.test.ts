import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PCI_COMMAND } from "../../src/vfio/configspace.js";
import { AT, host, MIB, NIC } from "./harness.js";

const SIGBUS = -(7 * 256 + 2);
const SIGSEGV = -11;
const PAGES = 1024;

/** One step of a random VMM; pages are of a window of 4 MiB at AT. */
const step = fc.oneof(
  fc.record({ what: fc.constant("map" as const), page: fc.nat(PAGES - 1), pages: fc.integer({ min: 1, max: PAGES }) }),
  fc.record({ what: fc.constant("unmap" as const), page: fc.nat(PAGES - 1), pages: fc.integer({ min: 1, max: 64 }) }),
  fc.record({ what: fc.constant("store" as const), page: fc.nat(PAGES - 1), pages: fc.integer({ min: 1, max: 1000 }) }),
  fc.record({ what: fc.constant("load" as const), page: fc.nat(PAGES - 1), pages: fc.constant(0) }),
  fc.record({
    what: fc.constantFrom("off" as const, "on" as const, "reset" as const, "d3" as const, "d0" as const),
    page: fc.constant(0),
    pages: fc.constant(0),
  }),
);

/** BAR page n is mapped at AT + n pages or not at all; a shadow says which, and what each page holds. */
function play(kernel: string, steps: readonly { what: string; page: number; pages: number }[]): void {
  const h = host(kernel, [NIC]);
  h.run(h.vfio.open, 0);
  const { pm } = h.vfio.pci.functions[0]!;
  const present = new Array<boolean>(PAGES).fill(false);
  const value = new Array<number>(PAGES).fill(0);
  let memory = true;
  let awake = true;
  for (const { what, page, pages } of steps) {
    const to = Math.min(PAGES, page + pages);
    const addr = AT + page * 4096;
    const reachable = memory && awake;
    if (what === "map") {
      expect(h.mmap(0, 2, page * 4096, (to - page) * 4096, addr)).toBe(addr);
      present.fill(true, page, to);
    } else if (what === "unmap") {
      h.run(h.mm.syscalls.munmap, 0, addr, (to - page) * 4096);
      present.fill(false, page, to);
    } else if (what === "store" || what === "load") {
      const want = present[page] !== true ? SIGSEGV : reachable ? 0 : SIGBUS;
      if (what === "store") {
        expect(h.store(addr, pages)).toBe(want);
        if (want === 0) value[page] = pages;
      } else expect(h.load(addr)).toBe(want === 0 ? BigInt(value[page]!) : want);
    } else if (what === "on" || what === "off") {
      h.configWrite(0, PCI_COMMAND, 2, what === "on" ? 2 : 0);
      memory = what === "on";
    } else if (what === "reset") {
      expect(h.run(h.vfio.reset, 0)).toBe(0);
      awake = true;
    } else {
      h.configWrite(0, pm + 4, 2, what === "d3" ? 3 : 0);
      awake = what === "d0";
    }
    expect(h.sim.crashed).toBeUndefined();
    if (!(memory && awake)) expect(h.mapped(AT, AT + 4 * MIB)).toBe(0);
    for (const lock of [h.vfio.devices.memoryLock[0]!, h.vfio.devices.vmaLock[0]!, h.mm.mmapLock(0)])
      expect(h.sim.locks.isHeld(lock)).toBe(false);
  }
  const start = h.vfio.pci.functions[0]!.bars[2]!.start / 4096;
  for (let n = 0; n < PAGES; n++) if (h.mm.pt.walk(0, AT + n * 4096)) expect(h.mm.pt.leafPfn).toBe(start + n);
}

describe("a random VMM", () => {
  for (const kernel of ["v6.1", "v6.9", "v6.12", "v6.12.117", "v6.17", "v7.2"]) {
    test(`${kernel}: no entry survives a disabled device, every entry shows the BAR's own page, no lock is left`, () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 25 }), (steps) => play(kernel, steps)),
        { numRuns: 25 },
      );
    });
  }
});
