/** The specification convicts states that are wrong and quiet: nothing crashes, no access goes astray, no other invariant looks. */
import { posix } from "node:path";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { observer, stage } from "../../src/explore/explore.js";
import type { Wrong } from "../../src/explore/invariants/index.js";
import { Search } from "../../src/explore/search.js";
import { wrongGuest, wrongHost, type Area, type GuestLeaf, type Leaf, type Slot, type World } from "../../src/explore/spec/spec.js";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import type { Machine } from "../../src/machine.js";

/** Every interleaving of a script on a machine with a defect. @returns invariant and what it says */
function explored(source: string, plant: (m: Machine) => void): [string, string] | "clear" {
  const program = compile("planted.guest", source, machineWorld);
  const s = stage(program, program.variants[0]!)!;
  plant(s.machine);
  const last: { wrong: Wrong | undefined } = { wrong: undefined };
  const found = new Search(s.system, observer(s, last), {}).run();
  if (found.ending === "complete") return "clear";
  return [last.wrong!.invariant.name, last.wrong!.what];
}

const MEMORY = `let RAM = 0x80000000
let mem = mmap(0, 64K)
write64(mem, 7)
`;
const FORK = `variant v6.12
${MEMORY}KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=64K, userspace_addr=mem)
par {
  guest { mov x1, RAM; ldr x2, [x1] }
  vmm { fork() }
}
`;
const BAR = `machine { devices ivshmem }
variant v6.4 { set unmapTableTlbi = no-hint }
let dev = vfio_open(0000:00:06.0)
let bar = mmap(0, 4K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=4K, userspace_addr=bar)
par {
  guest { mov x1, 0x80000000; ldr w2, [x1] }
  vmm { munmap(bar, 4K) }
}
`;
const LOGGED = `variant v6.12
${MEMORY}KVM_SET_USER_MEMORY_REGION(slot=1, flags=1, guest_phys_addr=RAM, memory_size=64K, userspace_addr=mem)
par {
  guest { mov x1, RAM; str x2, [x1] }
  vmm { KVM_GET_DIRTY_LOG(slot=1) }
}
`;
const READ_ONLY_SLOT = `variant v6.12
${MEMORY}KVM_SET_USER_MEMORY_REGION(slot=1, flags=2, guest_phys_addr=RAM, memory_size=64K, userspace_addr=mem)
par {
  guest { mov x1, RAM; ldr x2, [x1] }
  vmm { madvise(mem, 4K, MADV_DONTNEED) }
}
`;

const DMABUF = `machine { devices nic  set memslotDmabuf = vfio }
variant v6.9
let dev = vfio_open(0000:01:00.0)
KVM_SET_USER_MEMORY_REGION(1, KVM_MEM_DMABUF, 0x80000000, 64K, VFIO_DEVICE_FEATURE_DMA_BUF(dev, bar0, 64K))
par {
  guest { mov x1, 0x80000000; ldr w2, [x1, #0x0c] }
  vmm { pci_memory_enable(dev, 0) }
}
`;
const PTE_BIT = `machine { devices nic  set deviceType = pte-bit  set vfioMarksPtes = true }
variant v6.12
let dev = vfio_open(0000:01:00.0)
let bar = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar0)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=64K, userspace_addr=bar)
par {
  guest { mov x1, 0x80000000; ldr w2, [x1, #0x0c] }
  vmm { pci_memory_enable(dev, 0) }
}
`;

const HI_WRITE = 1 << 19;

describe("a planted defect", () => {
  test.each([FORK, BAR, LOGGED, READ_ONLY_SLOT, DMABUF, PTE_BIT])(
    "is the only thing that is wrong: without one the script is clear",
    (source) => {
      expect(explored(source, () => undefined)).toBe("clear");
    },
  );

  test("fork leaves the parent's entry writable", () => {
    const [name, what] = explored(FORK, ({ mm: { pt } }) => {
      const set = pt.setEntry.bind(pt);
      // The parent's entry of the page keeps its write permission.
      pt.setEntry = (mm, addr, level, e, lo, hi) => set(mm, addr, level, e, lo, mm === 0 && level === 3 && lo !== 0 ? hi | HI_WRITE : hi);
    });
    expect(name).toBe("host-mapping-as-specified");
    expect(what).toMatch(/writable in a private area, and mapped 2 times$/);
  });

  test("a BAR becomes Normal-NC in a release that makes all device memory Device-nGnRE", () => {
    const [name, what] = explored(BAR, ({ kvm: { stage2 } }) => {
      const { attrLo } = stage2.entries;
      for (let prot = 0; prot < 32; prot++)
        attrLo[prot] = (attrLo[prot]! & ~0x3c) | ((attrLo[prot]! & 0x3c) === 4 ? 0x14 : attrLo[prot]! & 0x3c);
    });
    expect(name).toBe("guest-mapping-as-specified");
    expect(what).toMatch(/its type is non-cacheable, not device$/);
  });

  test("importers of a dma-buf are not told that its memory goes away", () => {
    const [name] = explored(DMABUF, ({ vfioPci: { dmabufs } }) => {
      dmabufs.any = () => false;
    });
    expect(name).toBe("no-access-while-disabled");
  });

  test("the exporter of a dma-buf gives frames while it takes them away", () => {
    const [name] = explored(DMABUF, ({ vfioPci: { dmabufs } }) => {
      dmabufs.pfnAt = (at) => dmabufs.importedPfn(at);
    });
    expect(name).toBe("no-access-while-disabled");
  });

  test("a page is written without a mark in the log", () => {
    const [name, what] = explored(LOGGED, ({ kvm: { dirtyLog } }) => {
      dirtyLog.markTracked = () => undefined;
    });
    // Two that look at the same thing; the older one is asked first.
    expect(name).toBe("no-lost-write");
    expect(what).toContain("its dirty bit is clear");
  });

  test("a page of a read-only slot is mapped writable", () => {
    const [name, what] = explored(READ_ONLY_SLOT, ({ kvm: { stage2 } }) => {
      for (let prot = 0; prot < 32; prot++) stage2.entries.attrLo[prot]! |= 1 << 7;
    });
    expect(name).toBe("guest-mapping-as-specified");
    expect(what).toMatch(/writable in a read-only slot$/);
  });
});

describe("the rules, on plain data", () => {
  const area: Area = {
    mm: 0,
    start: 0x10000,
    end: 0x20000,
    writes: true,
    shared: false,
    pfnmap: false,
    special: false,
    tags: false,
    firstPage: 0,
    deviceTypes: ["device"],
  };
  const slot: Slot = {
    id: 1,
    mm: 0,
    gfn: 0x80000,
    pages: 16,
    hva: 0x10000,
    readonly: false,
    valid: true,
    dirty: undefined,
    exported: undefined,
    exporter: "",
  };
  const host: Leaf = { at: 0x10000, size: 4096, page: 0x40000, writes: true };
  const guest: GuestLeaf = { at: 0x80000000, size: 4096, page: 0x40000, writes: true, type: "write-back" };
  const world = (w: Partial<World> & { guest?: GuestLeaf[]; slots?: Slot[]; mte?: boolean }): World => ({
    areas: [area],
    host: [[host]],
    vms: [{ mte: w.mte ?? false, slots: w.slots ?? [slot], guest: w.guest ?? [guest] }],
    page: () => ({ memory: true, zero: false, types: ["write-back"] }),
    own: () => false,
    ...w,
  });
  const logged = (dirty: boolean): Slot => ({ ...slot, dirty: () => dirty });

  test.each([
    ["right", world({}), undefined],
    ["another page", world({ guest: [{ ...guest, page: 5 }] }), "host address 0x10000 has 0x40000000"],
    ["a page that the host does not map", world({ host: [[]] }), "host address 0x10000 is not mapped"],
    [
      "the second page of a block that the host does not map",
      world({ guest: [{ ...guest, size: 8192 }] }),
      "host address 0x11000 is not mapped",
    ],
    ["linear device memory without an entry", world({ host: [[]], areas: [{ ...area, pfnmap: true, firstPage: 0x40000 }] }), undefined],
    ["no slot", world({ slots: [] }), "it is in no memslot"],
    ["KVM's own page", world({ slots: [], own: () => true }), undefined],
    ["a slot on its way out", world({ slots: [{ ...slot, valid: false }] }), undefined],
    ["a read-only slot", world({ slots: [{ ...slot, readonly: true }] }), "writable in a read-only slot"],
    ["a read-only host entry", world({ host: [[{ ...host, writes: false }]] }), "writable, and host address 0x10000 is not"],
    ["another type", world({ guest: [{ ...guest, type: "device" }] }), "its type is device, not write-back"],
    ["no type", world({ guest: [{ ...guest, type: undefined }] }), "its type is none that KVM uses, not write-back"],
    ["memory tags over an area without", world({ mte: true }), "the VM has memory tags, and the area does not allow them"],
    ["memory tags over an area with", world({ mte: true, areas: [{ ...area, tags: true }] }), undefined],
    ["logged and dirty", world({ slots: [logged(true)] }), undefined],
    ["logged and clean", world({ slots: [logged(false)] }), "writable, logged, and not in the dirty set"],
    ["logged, clean and read-only", world({ slots: [logged(false)], guest: [{ ...guest, writes: false }] }), undefined],
  ])("guest: %s", (_name, w, expected) => {
    const wrong = wrongGuest(w, () => true);
    expect(wrong?.slice(wrong.indexOf(": ") + 2)).toBe(expected);
  });

  test("a page that is about to be marked may be clean", () => {
    expect(wrongGuest(world({ slots: [logged(false)] }), () => false)).toBeUndefined();
  });

  const second: Leaf = { ...host, at: 0x11000 };
  test.each([
    ["right", world({}), undefined],
    ["no area", world({ areas: [] }), "no area is there"],
    ["beyond its area", world({ host: [[{ ...host, size: 0x20000 }]] }), "its 32 pages reach beyond the area"],
    ["a read-only area", world({ areas: [{ ...area, writes: false }] }), "writable, and its area is not"],
    ["one page twice", world({ host: [[host, second]] }), "writable in a private area, and mapped 2 times"],
    [
      "one page in two address spaces",
      world({ host: [[host], [{ ...host, writes: false }]], areas: [area, { ...area, mm: 1 }] }),
      "writable in a private area, and mapped 2 times",
    ],
    ["one page twice, shared", world({ host: [[host, second]], areas: [{ ...area, shared: true }] }), undefined],
    [
      "one page twice, neither writable",
      world({
        host: [
          [
            { ...host, writes: false },
            { ...second, writes: false },
          ],
        ],
      }),
      undefined,
    ],
    ["the page of zeroes", world({ page: () => ({ memory: true, zero: true, types: [] }) }), "the page of zeroes is writable"],
  ])("host: %s", (_name, w, expected) => {
    const wrong = wrongHost(w);
    expect(wrong?.slice(wrong.indexOf(": ") + 2)).toBe(expected);
  });
});

test("the specification shares no code with the rooms that it judges", () => {
  const folder = "src/explore/spec";
  const taken = readdirSync(folder).flatMap((file) =>
    [...readFileSync(`${folder}/${file}`, "utf8").matchAll(/^import (type )?.*"(\..*)";$/gm)].flatMap(([, type, from]) =>
      posix.join(folder, from!).startsWith(folder) || type !== undefined ? [] : [`${file}: ${from}`],
    ),
  );
  expect(taken).toEqual([]);
});
