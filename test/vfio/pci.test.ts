import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { Sim } from "../../src/sim/sim.js";
import { BarStorage } from "../../src/vfio/barstorage.js";
import { PCI_BASE_ADDRESS_0, PCI_COMMAND, PCI_PM_CTRL } from "../../src/vfio/configspace.js";
import { deviceSpecs, type DeviceSpec } from "../../src/vfio/devicespec.js";
import { addHostBridge } from "../../src/vfio/hostbridge.js";
import { PciFunctions } from "../../src/vfio/pci.js";

function machine(...devices: (string | DeviceSpec)[]) {
  const sim = new Sim();
  sim.agents.add("vmm", "vmm", 0);
  const phys = new PhysicalMemory(sim, { ramBase: 0x40000000, ramSize: 0x80000000 });
  const pci = new PciFunctions(sim, deviceSpecs(devices));
  addHostBridge(sim, phys, pci);
  const seen: string[] = [];
  sim.bus.on("pci_unclaimed", (e) => seen.push(`${e["device"]} ${e["reason"]} ${e["write"] === true ? "write" : "read"}`));
  const read = (pa: number, size: number) => {
    phys.read(pa, size);
    return (BigInt(phys.hi >>> 0) << 32n) | BigInt(phys.lo >>> 0);
  };
  return { sim, phys, pci, seen, read };
}

const flr: DeviceSpec = { bdf: "0000:01:00.0", bars: [{ index: 0, size: 0x1000, model: "registers" }], reset: "flr" };

describe("config space", () => {
  test("a BAR that is written with all ones reads back its size and its type bits", () => {
    const { pci } = machine("testdev");
    pci.write(0, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
    pci.write(0, PCI_BASE_ADDRESS_0 + 4, 4, 0xffffffff);
    pci.write(0, PCI_BASE_ADDRESS_0 + 8, 4, 0xffffffff);
    pci.write(0, PCI_BASE_ADDRESS_0 + 12, 4, 0xffffffff);
    const bars = [0, 4, 8, 12, 16].map((o) => pci.read(0, PCI_BASE_ADDRESS_0 + o, 4));
    expect(bars).toEqual([0xfffff000, 0xffffff01, 0xff00000c, 0xffffffff, 0]);
  });

  test("the recorded functions' BARs lie where their machine had them", () => {
    const { pci } = machine("edu", "testdev", "ivshmem");
    const where = pci.bars.filter((b) => !b.io).map((b) => [pci.functions[b.fn]!.bdf, b.index, pci.barAddress(b), b.size]);
    expect(where).toEqual([
      ["0000:00:04.0", 0, 0x10000000, 0x100000],
      ["0000:00:05.0", 0, 0x10100000, 0x1000],
      ["0000:00:05.0", 2, 0x8000000000, 0x1000000],
      ["0000:00:06.0", 0, 0x10101000, 0x100],
      ["0000:00:06.0", 2, 0x8001000000, 0x1000000],
    ]);
  });

  test("identification registers cannot be written", () => {
    const { pci } = machine("ivshmem");
    pci.write(0, 0, 4, 0);
    expect(pci.read(0, 0, 4)).toBe(0x11101af4);
  });

  test("a BAR without an address is placed at a multiple of its size, away from the others", () => {
    const spec: DeviceSpec = {
      bdf: "01:00.0",
      bars: [
        { index: 0, size: 0x100 },
        { index: 1, size: 0x200000 },
        { index: 2, size: 0x400000000, bits: 64, prefetch: true },
      ],
    };
    const { pci } = machine("edu", spec);
    expect(pci.bars.slice(1).map((b) => b.start)).toEqual([0x10100000, 0x10200000, 0x8000000000]);
  });

  test("what is wrong with a device description is named", () => {
    const bar = (b: object): DeviceSpec => ({ bdf: "00:07.0", bars: [{ index: 0, size: 0x1000, ...b }] });
    expect(() => deviceSpecs(["nvme"])).toThrow("no device named nvme; expected one of gpu, edu, testdev, ivshmem, nic or a description");
    expect(() => deviceSpecs(["edu", "edu"])).toThrow("two devices at 0000:00:04.0");
    expect(() => deviceSpecs([{ ...bar({}), bdf: "7" }])).toThrow("7 is no PCI address");
    expect(() => deviceSpecs([bar({ size: 0x1800 })])).toThrow("expected a power of two");
    expect(() => deviceSpecs([bar({ index: 5, bits: 64 })])).toThrow("BAR 5 cannot be 64-bit");
    expect(() => deviceSpecs([bar({ size: 2 ** 32 })])).toThrow("needs bits: 64");
    expect(() => machine("edu", bar({ at: 0x10000000 }))).toThrow("overlaps another BAR");
    expect(() => machine(bar({ at: 0x40000000 }))).toThrow("outside the host bridge's windows");
  });
});

describe("memory decode", () => {
  test("with decode off a read gives all ones, a write is lost, and both are events", () => {
    const { pci, phys, read, seen } = machine("ivshmem");
    phys.write(0x8001000000, 8, 7, 0);
    expect(read(0x8001000000, 8)).toBe(0xffffffffffffffffn);
    expect(seen).toEqual(["0000:00:06.0 memory decode off write", "0000:00:06.0 memory decode off read"]);
    pci.write(0, PCI_COMMAND, 2, 2);
    expect(read(0x8001000000, 8)).toBe(0n);
  });

  test("with decode on the BAR answers at every offset and size", () => {
    const { pci, phys, read } = machine("ivshmem");
    pci.write(0, PCI_COMMAND, 2, 2);
    phys.write(0x8001fffff8, 8, 0x89abcdef | 0, 0x01234567);
    expect(read(0x8001fffff8, 8)).toBe(0x0123456789abcdefn);
    expect(read(0x8001fffffa, 2)).toBe(0x89abn);
    expect(read(0x8001ffffff, 1)).toBe(0x01n);
  });

  test("an address in the bridge's window without a BAR is nobody's", () => {
    const { read, seen } = machine("ivshmem");
    expect(read(0x20000000, 4)).toBe(0xffffffffn);
    expect(seen).toEqual(["- no BAR read"]);
  });

  test("a function in D3hot does not decode", () => {
    const { pci, read, seen } = machine(flr);
    pci.write(0, PCI_COMMAND, 2, 2);
    pci.write(0, pci.functions[0]!.pm + PCI_PM_CTRL, 2, 3);
    read(pci.bars[0]!.start, 4);
    pci.write(0, pci.functions[0]!.pm + PCI_PM_CTRL, 2, 0);
    expect(read(pci.bars[0]!.start, 4)).toBe(0x464c5452n);
    expect(seen).toEqual(["0000:01:00.0 power state read"]);
  });

  test("a BAR that is moved answers at its new address only", () => {
    const { pci, phys, read } = machine("edu");
    pci.write(0, PCI_COMMAND, 2, 2);
    phys.write(0x10000004, 4, 0x12345678, 0);
    pci.write(0, PCI_BASE_ADDRESS_0, 4, 0x20000000);
    expect(read(0x10000004, 4)).toBe(0xffffffffn);
    expect(read(0x20000004, 4)).toBe(0xedcba987n);
  });

  test("a function-level reset clears the command register, the BARs and the device's registers", () => {
    const { pci, phys, read } = machine(flr);
    const f = pci.functions[0]!;
    pci.write(0, PCI_COMMAND, 2, 6);
    phys.write(pci.bars[0]!.start + 4, 4, 99, 0);
    pci.write(0, f.exp + 8, 2, 0x8000);
    expect(pci.read(0, PCI_COMMAND, 2)).toBe(0);
    expect(pci.read(0, PCI_BASE_ADDRESS_0, 4)).toBe(0);
    expect(pci.read(0, f.exp + 8, 2) & 0x8000).toBe(0);
    pci.write(0, PCI_BASE_ADDRESS_0, 4, pci.bars[0]!.start);
    pci.write(0, PCI_COMMAND, 2, 2);
    expect(read(pci.bars[0]!.start + 4, 4)).toBe(0n);
  });
});

describe("device models", () => {
  test("edu gives its identification, the inverse of what was written to liveness, and factorials", () => {
    const { pci, phys, read } = machine("edu");
    pci.write(0, PCI_COMMAND, 2, 2);
    phys.write(0x10000004, 4, 0x11223344, 0);
    phys.write(0x10000008, 4, 10, 0);
    expect([read(0x10000000, 4), read(0x10000004, 4), read(0x10000008, 4)]).toEqual([0x010000edn, 0xeeddccbbn, 3628800n]);
    expect(read(0x10000000, 8)).toBe(0xffffffffffffffffn);
  });

  test("a register block counts the reads of its counter and empties its FIFO when it is read", () => {
    const { pci, phys, read } = machine(flr);
    const at = pci.bars[0]!.start;
    pci.write(0, PCI_COMMAND, 2, 2);
    phys.write(at + 0x14, 4, 5, 0);
    expect([read(at + 8, 4), read(at + 8, 4), read(at + 0x14, 4), read(at + 0x14, 4)]).toEqual([1n, 2n, 5n, 0n]);
    phys.write(at + 0x10, 4, 0xff, 0);
    expect(read(at + 0x10, 4)).toBe(0xffffff00n);
    expect(read(at + 0x0c, 4)).toBe(2n);
  });

  test("reading ivshmem's interrupt status clears it", () => {
    const { pci, phys, read } = machine("ivshmem");
    pci.write(0, PCI_COMMAND, 2, 2);
    phys.write(0x10101004, 4, 3, 0);
    expect([read(0x10101004, 4), read(0x10101004, 4)]).toEqual([3n, 0n]);
  });

  test("memory behind a BAR is bytes: any mix of sizes and alignments reads what was written last", () => {
    const access = fc.record({
      offset: fc.integer({ min: 0, max: 8180 }),
      size: fc.constantFrom(1, 2, 4, 8),
      value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 60 }), (writes) => {
        const storage = new BarStorage(new Sim());
        const bar = storage.add(0x400000);
        const shadow = new Uint8Array(8192);
        for (const { offset, size, value } of writes) {
          storage.write(bar, offset, size, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
          for (let i = 0; i < size; i++) shadow[offset + i] = Number((value >> BigInt(8 * i)) & 255n);
        }
        for (const { offset, size } of writes) {
          storage.read(bar, offset, size);
          const got = (BigInt(storage.hi >>> 0) << 32n) | BigInt(storage.lo >>> 0);
          let want = 0n;
          for (let i = size - 1; i >= 0; i--) want = (want << 8n) | BigInt(shadow[offset + i]!);
          expect(got).toBe(want);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("zero stores cost no block, and undo takes stored blocks back", () => {
    const sim = new Sim();
    const storage = new BarStorage(sim);
    const bar = storage.add(2 ** 36);
    sim.state.startRecording();
    const mark = sim.state.mark();
    const before = sim.state.hash();
    storage.write(bar, 2 ** 35, 8, 0, 0);
    expect(storage.blocks).toBe(0);
    storage.write(bar, 2 ** 35, 8, 1, 2);
    expect(storage.blocks).toBe(1);
    sim.state.rollback(mark);
    expect([storage.blocks, sim.state.hash()]).toEqual([0, before]);
    storage.read(bar, 2 ** 35, 8);
    expect([storage.lo, storage.hi]).toEqual([0, 0]);
  });
});
