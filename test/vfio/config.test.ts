import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PCI_BASE_ADDRESS_0, PCI_COMMAND } from "../../src/vfio/configspace.js";
import type { DeviceSpec } from "../../src/vfio/devicespec.js";
import { AT, host, MIB, NIC } from "./harness.js";

const EINVAL = -22;
const EIO = -5;
const EFAULT = -14;
const EAGAIN = -11;
const ENODEV = -19;
const ENOTTY = -25;
const EEXIST = -17;
const EBUSY = -16;

function mapped(kernel: string, spec: DeviceSpec | string = "ivshmem", length = 4 * MIB) {
  const h = host(kernel, [spec]);
  const dev = 0;
  h.run(h.vfio.open, dev);
  h.mmap(dev, 2, 0, length);
  h.load(AT);
  h.trace();
  return { ...h, dev };
}

describe("the virtual config space", () => {
  test("the command register reads as recorded: memory on after open, off and on again by two-byte writes", () => {
    const h = host("v6.12");
    const dev = h.open("00:06.0");
    const seen = [
      h.configRead(dev, 4, 2),
      h.configWrite(dev, 4, 2, 0),
      h.configRead(dev, 4, 2),
      h.configWrite(dev, 4, 2, 2),
      h.configRead(dev, 4, 2),
    ];
    expect(seen).toEqual([2, 2, 0, 2, 2]);
  });

  test("sizing a BAR works for the user and never moves the hardware's", () => {
    const h = host("v6.12");
    const dev = h.open("00:06.0");
    for (const o of [0, 8, 12]) h.configWrite(dev, PCI_BASE_ADDRESS_0 + o, 4, -1);
    expect([0, 4, 8, 12].map((o) => h.configRead(dev, PCI_BASE_ADDRESS_0 + o, 4))).toEqual([0xffffff00, 0, 0xff00000c, 0xffffffff]);
    expect(h.vfio.pci.barAddress(h.vfio.pci.functions[dev]!.bars[2]!)).toBe(0x8001000000);
  });

  test("INTx disable is virtual, the rest of the command register is the hardware's", () => {
    const h = host("v6.12");
    const dev = h.open("00:06.0");
    h.configWrite(dev, PCI_COMMAND, 2, 0x406);
    expect(h.configRead(dev, PCI_COMMAND, 2)).toBe(0x406);
    expect(h.vfio.pci.read(dev, PCI_COMMAND, 2)).toBe(6);
  });

  test("an access is split into aligned pieces and gives the same bytes", () => {
    const h = host("v6.12", [NIC]);
    h.run(h.vfio.open, 0);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0x98 }), fc.integer({ min: 1, max: 8 }), (offset, count) => {
        expect(h.run(h.vfio.configRw, 0, offset, count, 0, 0, 0)).toBe(count);
        const lo = h.sim.agents.result(h.vmm, 1) >>> 0;
        const hi = h.sim.agents.result(h.vmm, 2) >>> 0;
        for (let i = 0; i < count; i++) expect(((i < 4 ? lo : hi) >>> (8 * (i & 3))) & 0xff).toBe(h.configRead(0, offset + i, 1));
      }),
    );
  });

  test("an access beyond the config space is EFAULT", () => {
    const h = host("v6.12");
    const dev = h.open("00:06.0");
    expect([h.configRead(dev, 256, 1), h.configRead(dev, 254, 4), h.configWrite(dev, 4096, 1, 0)]).toEqual([EFAULT, EFAULT, EFAULT]);
  });

  test("a virtual function shows memory enabled whatever is written", () => {
    const h = host("v6.12", [{ ...NIC, vf: true }]);
    h.run(h.vfio.open, 0);
    h.mmap(0, 2, 0, 2 * MIB);
    h.configWrite(0, PCI_COMMAND, 2, 0);
    expect(h.load(AT)).toBe(0n);
  });
});

describe("disabling memory", () => {
  test("v5.8 to v6.9 zaps every tracked VMA first and then takes memory_lock; v6.12 takes it first", () => {
    const order = (kernel: string) => {
      const h = mapped(kernel);
      h.configWrite(h.dev, PCI_COMMAND, 2, 0);
      return h.trace("vfio_zap", "vfio_zap_vma", "lock_acquired", "mmu_notifier_invalidate_range_start", "vfio_memory_enable");
    };
    expect(order("v6.1")).toEqual([
      "vfio_zap vfio_pci_zap_and_down_write_memory_lock",
      "vfio_zap vfio_pci_zap_and_vma_lock",
      "lock vma_lock 0000:00:06.0 write",
      "lock mmap_lock read",
      "lock vma_lock 0000:00:06.0 write",
      "zap 0-1024",
      "start 0-1024 CLEAR",
      "lock vma_lock 0000:00:06.0 write",
      "lock memory_lock 0000:00:06.0 write",
      "vfio_memory_enable",
    ]);
    expect(order("v6.12")).toEqual([
      "vfio_zap vfio_pci_zap_and_down_write_memory_lock",
      "lock memory_lock 0000:00:06.0 write",
      "start 0-1024 CLEAR",
      "vfio_memory_enable",
    ]);
    expect(order("v5.4")).toEqual(["vfio_memory_enable"]);
  });

  test("enabling zaps nothing", () => {
    for (const kernel of ["v6.1", "v6.12"]) {
      const h = mapped(kernel);
      h.configWrite(h.dev, PCI_COMMAND, 2, 2);
      expect(h.trace("vfio_zap", "mmu_notifier_invalidate_range_start")).toEqual([]);
    }
  });

  test("a VMA that was never touched is not zapped in v5.8 to v6.9, and is in v6.12", () => {
    const events = (kernel: string) => {
      const h = host(kernel);
      const dev = h.open("00:06.0");
      h.mmap(dev, 2, 0, MIB);
      h.trace();
      h.configWrite(dev, PCI_COMMAND, 2, 0);
      return h.trace("mmu_notifier_invalidate_range_start");
    };
    expect([events("v5.8"), events("v6.8"), events("v6.12")]).toEqual([[], [], ["start 0-256 CLEAR"]]);
  });

  test("read() and write() of the BAR give EIO from v5.8 on and reach the hardware before", () => {
    const attempt = (kernel: string) => {
      const h = mapped(kernel);
      const at = h.vfio.regionOffset(2, 16);
      const on = h.run(h.vfio.rw, h.dev, at, 8, 1, 5, 6);
      h.configWrite(h.dev, PCI_COMMAND, 2, 0);
      const off = [h.run(h.vfio.rw, h.dev, at, 8, 0, 0, 0), h.sim.agents.result(h.vmm, 1)];
      h.configWrite(h.dev, PCI_COMMAND, 2, 2);
      return [on, ...off, h.run(h.vfio.rw, h.dev, at, 8, 0, 0, 0), h.sim.agents.result(h.vmm, 1), h.sim.agents.result(h.vmm, 2)];
    };
    expect(attempt("v5.4")).toEqual([8, 8, -1, 8, 5, 6]);
    expect(attempt("v5.8")).toEqual([8, EIO, 0, 8, 5, 6]);
    expect(attempt("v6.12")).toEqual([8, EIO, 0, 8, 5, 6]);
  });
});

describe("read and write of regions", () => {
  test("I/O BARs work through read() and write(), others at any size up to the BAR's end", () => {
    const h = host("v6.12");
    const dev = h.open("00:05.0");
    expect(h.run(h.vfio.rw, dev, h.vfio.regionOffset(1, 0), 1, 1, 2, 0)).toBe(1);
    h.run(h.vfio.rw, dev, h.vfio.regionOffset(1, 0), 1, 0, 0, 0);
    expect(h.sim.agents.result(h.vmm, 1)).toBe(2);
    expect(h.run(h.vfio.rw, dev, h.vfio.regionOffset(2, 16 * MIB - 3), 8, 0, 0, 0)).toBe(3);
    expect(h.run(h.vfio.rw, dev, h.vfio.regionOffset(2, 16 * MIB), 1, 0, 0, 0)).toBe(EINVAL);
    expect([3, 6, 8, 9].map((i) => h.run(h.vfio.rw, dev, h.vfio.regionOffset(i), 4, 0, 0, 0))).toEqual([EINVAL, EINVAL, EINVAL, EINVAL]);
  });

  test("no bytes are no access, a size that is none is refused, and behind the 8 bytes of the VMM's buffer nothing is mapped", () => {
    for (const kernel of ["v5.4", "v5.5", "v5.8", "v6.1", "v6.12", "v7.2.12"]) {
      const h = host(kernel);
      const dev = h.open("00:06.0");
      const at = h.vfio.regionOffset(2, 3);
      const write = (count: number) => h.run(h.vfio.rw, dev, at, count, 1, 0x04030201, 0x08070605);
      expect([kernel, write(0), write(-1), write(9), write(2 ** 30), write(8)]).toEqual([kernel, 0, EINVAL, -14, -14, 8]);
      expect(h.run(h.vfio.rw, dev, h.vfio.regionOffset(2, 8), 8, 0, 0, 0)).toBe(8);
      expect([h.sim.agents.result(h.vmm, 1), h.sim.agents.result(h.vmm, 2)]).toEqual([0x080706, 0]);
      expect(h.run(h.vfio.rw, dev, h.vfio.regionOffset(7), 0, 0, 0, 0)).toBe(0);
    }
  });

  test("the MSI-X table reads all ones and drops writes", () => {
    const h = host("v6.12", [NIC]);
    h.run(h.vfio.open, 0);
    h.run(h.vfio.rw, 0, h.vfio.regionOffset(0, 0x2004), 4, 1, 77, 0);
    h.run(h.vfio.rw, 0, h.vfio.regionOffset(0, 0x2004), 4, 0, 0, 0);
    expect(h.sim.agents.result(h.vmm, 1)).toBe(-1);
    h.mmap(0, 0, 0x2000, 4096);
    expect(h.load(AT + 4)).toBe(0n);
  });

  test("8 bytes are two accesses before v6.10 and one later", () => {
    const accesses = (kernel: string) => {
      const h = host(kernel);
      const dev = h.open("00:06.0");
      h.trace();
      h.run(h.vfio.rw, dev, h.vfio.regionOffset(2, 0), 8, 1, 1, 2);
      return h.trace("bar_write").length;
    };
    expect([accesses("v6.9"), accesses("v6.12")]).toEqual([2, 1]);
  });
});

describe("resets", () => {
  test("a function without a reset answers EINVAL and nothing is zapped", () => {
    const h = mapped("v6.12");
    expect(h.run(h.vfio.reset, h.dev)).toBe(EINVAL);
    expect(h.trace("vfio_zap", "mmu_notifier_invalidate_range_start")).toEqual([]);
    expect(h.leaf(AT)).not.toBe("none");
  });

  test("VFIO_DEVICE_RESET: mappings go first, then the function, and its config space comes back", () => {
    for (const method of ["flr", "af", "pm"] as const) {
      const h = mapped("v6.12", { ...NIC, reset: method });
      h.configWrite(h.dev, PCI_COMMAND, 2, 6);
      expect([method, h.run(h.vfio.reset, h.dev)]).toEqual([method, 0]);
      expect(h.trace("mmu_notifier_invalidate_range_start", "pci_reset", "vfio_reset")).toEqual([
        "start 0-1024 CLEAR",
        "pci_reset",
        "vfio_reset",
      ]);
      expect(h.leaf(AT)).toBe("none");
      expect(h.configRead(h.dev, PCI_COMMAND, 2)).toBe(6);
      expect(h.load(AT)).toBe(0n);
    }
  });

  test("v5.4 resets under the mapping: an access during it meets a device that is off", () => {
    const during = (kernel: string) => {
      const h = mapped(kernel, NIC);
      h.sim.agents.start(h.other, h.vfio.reset, h.dev);
      while (h.sim.agents.backtrace(h.other)[0] !== "pciTryResetFunction:restore") h.sim.agents.step(h.other);
      h.sim.agents.start(h.vmm, h.mm.hostAccess, 0, AT, 4, 0, 0, 0);
      const waited = !h.sim.agents.runToEnd(h.vmm);
      h.sim.agents.runToEnd(h.other);
      h.sim.agents.runToEnd(h.vmm);
      return [waited, h.sim.agents.result(h.vmm, 1)];
    };
    expect(during("v5.4")).toEqual([false, -1]);
    expect(during("v5.8")).toEqual([true, 0]);
    expect(during("v6.12")).toEqual([true, 0]);
  });

  test("a reset that cannot get the device lock is EAGAIN and lets memory_lock go", () => {
    const h = mapped("v6.12", NIC);
    h.sim.locks.write(h.vfio.devices.deviceLock[0]!);
    expect(h.run(h.vfio.reset, h.dev)).toBe(EAGAIN);
    expect(h.sim.locks.isHeld(h.vfio.devices.memoryLock[0]!)).toBe(false);
  });

  test("the FLR bit of the PCIe and AF capabilities resets the function and reads zero", () => {
    const pcie = mapped("v6.12", NIC);
    const { exp } = pcie.vfio.pci.functions[0]!;
    pcie.configWrite(0, exp + 8, 2, 0x8000 | pcie.configRead(0, exp + 8, 2));
    expect(pcie.trace("pci_reset", "mmu_notifier_invalidate_range_start")).toEqual(["start 0-1024 CLEAR", "pci_reset"]);
    expect(pcie.configRead(0, exp + 8, 2) & 0x8000).toBe(0);
    const af = mapped("v6.12", { ...NIC, reset: "af" });
    af.configWrite(0, af.vfio.pci.functions[0]!.af + 4, 1, 1);
    expect(af.trace("pci_reset")).toEqual(["pci_reset"]);
    expect(af.load(AT)).toBe(0n);
  });

  test("D3hot takes the mappings away from v6.1 on, and not before", () => {
    const d3 = (kernel: string) => {
      const h = mapped(kernel, NIC);
      h.configWrite(0, h.vfio.pci.functions[0]!.pm + 4, 2, 3);
      const there = h.leaf(AT) !== "none";
      const value = h.load(AT);
      h.configWrite(0, h.vfio.pci.functions[0]!.pm + 4, 2, 0);
      return [there, value, h.load(AT)];
    };
    expect(d3("v5.14")).toEqual([true, 0xffffffffn, 0n]);
    expect(d3("v6.1")).toEqual([false, -(7 * 256 + 2), 0n]);
  });

  test("a function that loses its state in D3hot gets it back from v5.1 on; before, its memory stays off", () => {
    const d3 = (kernel: string) => {
      const h = mapped(kernel, { ...NIC, reset: "pm" });
      h.configWrite(0, h.vfio.pci.functions[0]!.pm + 4, 2, 3);
      h.configWrite(0, h.vfio.pci.functions[0]!.pm + 4, 2, 0);
      const after = h.configRead(0, PCI_COMMAND, 2);
      h.configWrite(0, PCI_COMMAND, 2, 2);
      return [after, h.load(AT)];
    };
    expect([d3("v4.20"), d3("v5.4"), d3("v6.12")]).toEqual([
      [0, 0n],
      [2, 0n],
      [2, 0n],
    ]);
  });

  test("the low-power feature zaps, gives SIGBUS, refuses a second entry, and is unknown before v6.1", () => {
    const h = mapped("v6.12", NIC);
    expect(h.run(h.vfio.lowPower, 0, 1)).toBe(0);
    expect(h.run(h.vfio.lowPower, 0, 1)).toBe(EINVAL);
    expect(h.load(AT)).toBe(-(7 * 256 + 2));
    expect(h.run(h.vfio.lowPower, 0, 0)).toBe(0);
    expect(h.load(AT)).toBe(0n);
    const old = mapped("v5.14", NIC);
    expect(old.run(old.vfio.lowPower, 0, 1)).toBe(ENOTTY);
  });

  test("hot reset: not on the root bus, not without owning every function, else all functions of the bus", () => {
    const root = mapped("v6.12");
    expect([root.run(root.vfio.hotReset, 0, 1, 1), root.run(root.vfio.hotReset, 0, 0, 1)]).toEqual([EINVAL, ENODEV]);
    const second: DeviceSpec = { bdf: "0000:01:00.1", bars: [{ index: 2, size: 2 * MIB, bits: 64 }], reset: "bus" };
    const h = host("v6.12", [{ ...NIC, reset: "bus" }, second]);
    h.run(h.vfio.open, 0);
    expect(h.run(h.vfio.hotReset, 0, 0, 1)).toBe(EINVAL);
    h.run(h.vfio.open, 1);
    h.mmap(1, 2, 0, 2 * MIB);
    h.load(AT);
    h.trace();
    expect(h.run(h.vfio.hotReset, 0, 0, 1)).toBe(0);
    expect(h.trace("pci_reset", "mmu_notifier_invalidate_range_start")).toEqual(["start 0-512 CLEAR", "pci_reset", "pci_reset"]);
    h.sim.locks.read(h.vfio.devices.memoryLock[1]!);
    expect(h.run(h.vfio.hotReset, 0, 0, 1)).toBe(EBUSY);
    expect(h.sim.locks.isHeld(h.vfio.devices.memoryLock[0]!)).toBe(false);
  });

  test("memory that a backdoor reset turned off comes back with its BARs at the next enable", () => {
    const h = mapped("v6.12", NIC);
    h.vfio.pci.functionReset(h.vfio.pci.functions[0]!, "flr");
    h.configWrite(0, PCI_COMMAND, 2, 2);
    expect(h.vfio.pci.barAddress(h.vfio.pci.functions[0]!.bars[2]!)).toBe(h.vfio.pci.functions[0]!.bars[2]!.start);
    expect(h.load(AT)).toBe(0n);
  });
});

describe("ioeventfds", () => {
  const at = (h: ReturnType<typeof mapped>, offset: number) => h.vfio.regionOffset(2, offset);

  test("write their data when signalled; while memory is disabled only v5.11 and later drop it", () => {
    const signal = (kernel: string) => {
      const h = mapped(kernel);
      h.run(h.vfio.ioeventfd, h.dev, at(h, 0x40), 4, 0x55, 0, 9);
      h.run(h.vfio.signalEventfd, 9);
      const value = h.load(AT + 0x40);
      h.configWrite(h.dev, PCI_COMMAND, 2, 0);
      h.trace();
      h.run(h.vfio.signalEventfd, 9);
      return [value, h.trace("pci_unclaimed").length];
    };
    expect([signal("v5.8"), signal("v5.11"), signal("v6.12")]).toEqual([
      [0x55n, 1],
      [0x55n, 0],
      [0x55n, 0],
    ]);
  });

  test("write four bytes at most, from v7.3 on eight", () => {
    const wide = (kernel: string) => {
      const h = mapped(kernel);
      const added = h.run(h.vfio.ioeventfd, h.dev, at(h, 0x40), 8, 0x55, 0x66, 9);
      h.run(h.vfio.signalEventfd, 9);
      return [added, h.load(AT + 0x40), h.load(AT + 0x44)];
    };
    expect(wide("v7.2.12")).toEqual([EINVAL, 0n, 0n]);
    expect(wide("v7.3.4")).toEqual([0, 0x55n, 0x66n]);
  });

  test("answer the errnos of the ioctl", () => {
    const h = mapped("v6.12", NIC);
    const add = (position: number, size: number, fd: number, lo = 1) => h.run(h.vfio.ioeventfd, 0, position, size, lo, 0, fd);
    expect(add(h.vfio.regionOffset(7, 0), 4, 3)).toBe(EINVAL);
    expect(add(at(h, 16 * MIB - 2), 4, 3)).toBe(EINVAL);
    expect([add(at(h, 0), 3, 3), add(at(h, 0), 8, 3), add(at(h, 0), 4, -2)]).toEqual([EINVAL, EINVAL, EINVAL]);
    expect(add(h.vfio.regionOffset(0, 0x2000), 4, 3)).toBe(EINVAL);
    expect([add(at(h, 0), 4, 3), add(at(h, 0), 4, 3), add(at(h, 0), 4, -1), add(at(h, 0), 4, -1)]).toEqual([0, EEXIST, 0, ENODEV]);
    for (let i = 0; i < 1000; i++) expect(add(at(h, 4 * i), 4, 3)).toBe(0);
    expect(add(at(h, 0x8000), 4, 3)).toBe(-28);
    const old = mapped("v4.10", NIC);
    expect(old.run(old.vfio.ioeventfd, 0, at(old, 0), 4, 1, 0, 3)).toBe(ENOTTY);
  });
});

describe("undo", () => {
  test("a reset with its zap can be undone phase by phase, and runs again to the same state", () => {
    const h = mapped("v6.12", NIC);
    h.sim.state.startRecording();
    const mark = h.sim.state.mark();
    const before = h.sim.state.hash();
    h.run(h.vfio.reset, 0);
    const after = h.sim.state.hash();
    h.sim.state.rollback(mark);
    expect(h.sim.state.hash()).toBe(before);
    h.run(h.vfio.reset, 0);
    expect(h.sim.state.hash()).toBe(after);
  });
});
