import { describe, expect, test } from "vitest";
import { AT, host, MIB } from "./harness.js";

const SIGBUS = -(7 * 256 + 2);

function bar(kernel: string, offset = 0, length = 16 * MIB, addr = AT, set: Record<string, string> = {}) {
  const h = host(kernel, ["recorded"], set);
  const dev = h.open("00:06.0");
  expect(h.mmap(dev, 2, offset, length, addr)).toBe(addr);
  h.trace();
  return { ...h, dev };
}

describe("a fault in a BAR", () => {
  test("reaches the device: what the VMM stores it loads again", () => {
    for (const kernel of ["v4.0", "v5.4", "v5.8", "v5.14", "v6.1", "v6.8", "v6.12", "v6.12.117", "v6.13", "v7.2"]) {
      const h = bar(kernel);
      expect([kernel, h.store(AT + 0x5008, 0x1234), h.load(AT + 0x5008)]).toEqual([kernel, 0, 0x1234n]);
      expect(h.leaf(AT + 0x5000).endsWith("8001005000")).toBe(true);
    }
  });

  test("v5.8 to v6.9: the first fault maps the whole VMA with pages", () => {
    for (const kernel of ["v5.8", "v5.14", "v6.1", "v6.9"]) {
      const h = bar(kernel, 0, 2 * MIB);
      h.load(AT + 0x8000);
      expect(h.mapped(AT, AT + 2 * MIB)).toBe(512);
      expect(h.leaf(AT)).toBe("4K 8001000000");
      expect(h.trace("vfio_fault", "vfio_huge_fault")).toEqual(["vfio_fault 0x100"]);
    }
  });

  test("v6.12.117 and v6.17: a touch anywhere in an aligned 2 MiB maps the block", () => {
    for (const kernel of ["v6.12.117", "v6.17", "v7.2"]) {
      const h = bar(kernel);
      h.load(AT + 0x5000);
      expect(h.trace("vfio_fault", "vfio_huge_fault")).toEqual(["vfio_huge_fault 0x100"]);
      expect(h.leaf(AT + 0x1ff000)).toBe("2048K 80011ff000");
      expect(h.leaf(AT + 0x200000)).toBe("none");
    }
  });

  test("v6.12 and v6.13: only a touch of the block's first page does; another leaves a table that keeps the block out", () => {
    for (const kernel of ["v6.12", "v6.13"]) {
      const h = bar(kernel);
      h.load(AT + 0x5000);
      expect(h.leaf(AT + 0x5000)).toBe("4K 8001005000");
      h.load(AT);
      expect(h.leaf(AT)).toBe("4K 8001000000");
      h.load(AT + 2 * MIB);
      expect(h.leaf(AT + 2 * MIB)).toBe("2048K 8001200000");
    }
  });

  test("a VMA smaller than a block falls back to pages; the host CPU's huge attempt is seen twice", () => {
    const h = host("v6.12.117");
    h.mmap(h.open("00:04.0"), 0, 0, MIB);
    h.load(AT);
    expect(h.trace("vfio_fault", "vfio_huge_fault")).toEqual([
      "vfio_huge_fault 0x800",
      "vfio_huge_fault 0x800",
      "vfio_huge_fault 0x100",
      "vfio_fault 0x100",
    ]);
  });

  test("v6.12 maps the wrong pages where the address is aligned and the BAR's page is not; v6.13 falls back", () => {
    const shifted = (kernel: string) => bar(kernel, 0x1000, 4 * MIB);
    const wrong = shifted("v6.12");
    wrong.load(AT);
    expect(wrong.leaf(AT)).toBe("2048K 8001000000");
    const right = shifted("v6.13");
    right.load(AT);
    expect(right.leaf(AT)).toBe("4K 8001001000");
  });

  test("gives SIGBUS while memory is disabled, and works again after it is enabled", () => {
    for (const kernel of ["v5.8", "v5.14", "v6.1", "v6.12", "v6.17", "v7.2"]) {
      const h = bar(kernel);
      h.store(AT, 7);
      h.configWrite(h.dev, 4, 2, 0);
      expect([kernel, h.load(AT), h.store(AT, 8)]).toEqual([kernel, SIGBUS, SIGBUS]);
      h.configWrite(h.dev, 4, 2, 2);
      expect([kernel, h.load(AT)]).toEqual([kernel, 7n]);
    }
  });

  test("before v5.8 the mapping stays, and the access meets a device that does not decode", () => {
    for (const kernel of ["v4.0", "v5.4", "v5.6"]) {
      const h = bar(kernel);
      h.store(AT, 7);
      h.configWrite(h.dev, 4, 2, 0);
      expect(h.load(AT)).toBe(0xffffffffn);
      h.store(AT, 8);
      expect(h.trace("pci_unclaimed")).toEqual(["pci_unclaimed", "pci_unclaimed"]);
      h.configWrite(h.dev, 4, 2, 2);
      expect(h.load(AT)).toBe(7n);
    }
  });

  test("two faults at once in one VMA crash v5.8 and are harmless from v5.14 on", () => {
    const race = (kernel: string) => {
      const h = bar(kernel);
      const { agents } = h.sim;
      agents.start(h.vmm, h.mm.hostAccess, 0, AT, 4, 0, 0, 0);
      agents.start(h.other, h.mm.hostAccess, 0, AT + 0x1000, 4, 0, 0, 0);
      for (let n = 0; n < 200 && (agents.busy(h.vmm) || agents.busy(h.other)); n++) {
        agents.step(h.vmm);
        agents.step(h.other);
      }
      return h.sim.crashed?.function ?? `${agents.result(h.vmm)} ${agents.result(h.other)}`;
    };
    expect(race("v5.8")).toBe("remap_pte_range");
    expect(race("v5.12")).toBe("remap_pte_range");
    expect(race("v5.14")).toBe("0 0");
    expect(race("v6.12")).toBe("0 0");
  });
});

describe("VMAs that are cut or copied", () => {
  const munmapPage3 = (kernel: string) => {
    const h = bar(kernel);
    h.load(AT);
    h.trace();
    h.run(h.mm.syscalls.munmap, 0, AT + 0x3000, 0x1000);
    return { h, events: h.trace("mmu_notifier_invalidate_range_start") };
  };

  test("munmap of page 3: the new VMA is zapped first in v5.8 to v6.9, in the order of its release", () => {
    expect(munmapPage3("v6.1").events).toEqual(["start 3-4096 CLEAR", "start 0-512 CLEAR", "start 3-4 CLEAR", "start 3-4 UNMAP"]);
    expect(munmapPage3("v6.8").events).toEqual(["start 0-3 CLEAR", "start 0-512 CLEAR", "start 4-4096 CLEAR", "start 3-4 UNMAP"]);
    expect(munmapPage3("v6.12").events).toEqual(["start 0-512 CLEAR", "start 3-4 UNMAP"]);
  });

  test("the piece that stayed is still tracked, the others fault in again", () => {
    const { h } = munmapPage3("v6.1");
    expect(h.leaf(AT)).toBe("4K 8001000000");
    expect(h.leaf(AT + 0x4000)).toBe("none");
    h.load(AT + 0x4000);
    expect(h.leaf(AT + 15 * MIB)).toBe("4K 8001f00000");
    h.configWrite(h.dev, 4, 2, 0);
    expect(h.mapped(AT, AT + 16 * MIB)).toBe(0);
  });

  test("a device closes when its descriptor and its last VMA are gone", () => {
    for (const kernel of ["v5.4", "v6.1", "v6.12"]) {
      const { h } = munmapPage3(kernel);
      h.run(h.vfio.close, h.dev);
      expect(h.trace("vfio_close")).toEqual([]);
      h.run(h.mm.syscalls.munmap, 0, AT, 16 * MIB);
      expect(h.trace("vfio_close")).toEqual(["vfio_close"]);
      expect(h.vfio.file(h.dev)).toBe(-1);
    }
  });

  test("fork copies the entries in v6.12 and leaves the child without them in v6.1", () => {
    const child = (kernel: string) => {
      const h = bar(kernel, 0, MIB);
      h.load(AT);
      const mm = h.run(h.mm.syscalls.fork, 0);
      return h.mm.pt.walk(mm, AT);
    };
    expect([child("v6.1"), child("v6.12")]).toEqual([false, true]);
  });
});
