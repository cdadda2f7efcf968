/** What the header's settings of buffers, PCIe and the CPU's choices change, as scripts see it. */
import { describe, expect, it } from "vitest";
import { failures, runAll } from "./run.js";

const cell = (source: string, label: string) => runAll(source).map((r) => r.row.find((c) => c.label === label)?.value);

const BAR = `let dev = vfio_open(0000:01:00.0)
let mem = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)
read32(mem + 0x1000)
`;

describe("memory writes of a host bridge", () => {
  const copy = `variant line
variant payload { combining payload }
variant large { combining payload  max_payload 256 }
${BAR}for o in 0..512 step 8 { write64(mem + o, 1) }
fabric_deliver()
let last = read64(mem + 504)
expect last == 1
`;
  it("are of a line each, or combined up to Max_Payload_Size where the bridge does that", () => {
    const results = runAll(`machine { devices nic  kernel v6.9  buffers modelled  set vfioMmapType = writecombine }\n${copy}`);
    expect(failures(results)).toEqual([]);
    expect(results.map((r) => r.row.filter((c) => c.label.startsWith("MWr")).map((c) => `${c.label}: ${c.text}`))).toEqual([
      ["MWr 64 B: 8"],
      ["MWr 128 B: 4"],
      ["MWr 256 B: 2"],
    ]);
  });
  it("are of a store each under Device types, whatever the bridge combines", () => {
    expect(cell(`machine { devices nic  kernel v6.9  buffers modelled }\n${copy}`, "MWr 8 B")).toEqual([64, 64, 64]);
  });
  it("have the size that the PCI core has set in each function's Device Control; a user's Max_Payload_Size is virtual and changes nothing", () => {
    const source = `machine { devices nic  kernel v6.9  buffers modelled  combining payload  max_payload 256  set vfioMmapType = writecombine }
${BAR}let DEVCAP = 0x4c
let DEVCTL = 0x50
let supported = pci_config_read(dev, DEVCAP, 4)
expect supported & 7 == 1
let control = pci_config_read(dev, DEVCTL, 2)
expect control & 0xe0 == 0x20
pci_config_write(dev, DEVCTL, 2, (control & 0xff1f) | 0xa0)
let shown = pci_config_read(dev, DEVCTL, 2)
expect shown & 0xe0 == 0xa0
for o in 0..512 step 8 { write64(mem + o, 1) }
fabric_deliver()
read32(mem + 0x1000)
report "writes of 256 B" count tlp_memory_write bytes=256`;
    expect([failures(runAll(source)), cell(source, "writes of 256 B")]).toEqual([[], [2]]);
  });
  it("carry the attributes that the header says", () => {
    const source = `machine { devices nic  kernel v6.9  buffers modelled }
variant plain
variant both { relaxed_ordering on  no_snoop on }
${BAR}write64(mem, 1)
expect on plain 1 event tlp_memory_write relaxed=0 no_snoop=0
expect on both 1 event tlp_memory_write relaxed=1 no_snoop=1`;
    expect(failures(runAll(source))).toEqual([]);
  });
});

describe("a barrier of the inner shareable domain", () => {
  const source = `machine { devices nic  kernel v6.9  buffers modelled }
variant merged
variant strict { shareability strict }
${BAR}let BAR = 0x80000000
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=BAR, memory_size=64K, userspace_addr=mem)
let RAM = 0x50000000
let ram = mmap(0, 64K)
KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=RAM, memory_size=64K, userspace_addr=ram)
write64(ram + 8, 0x40000705)
write64(ram + 16, 0x8000070d)
KVM_SET_ONE_REG(mair_el1, 0x4404ff00)
KVM_SET_ONE_REG(tcr_el1, 0x200803519)
KVM_SET_ONE_REG(ttbr0_el1, RAM)
KVM_SET_ONE_REG(sctlr_el1, 0x30d0199d)
guest { mov x1, BAR; mov x2, #7; str w2, [x1]; dmb ish; str w2, [x1, #64] }
let inner = write_place(dev, bar2)
report "DMB ISH" place inner
expect on merged inner == WRITE_IN_ROOT_COMPLEX
expect on strict inner == WRITE_IN_BUFFER
guest { dsb ish }
let completed = write_place(dev, bar2)
expect on strict completed == WRITE_IN_BUFFER
guest { dmb osh }
let outer = write_place(dev, bar2)
expect outer == WRITE_IN_ROOT_COMPLEX
`;
  it("orders Normal-NC stores only where the interconnect does not tell the domains apart", () => {
    expect(failures(runAll(source))).toEqual([]);
    expect(cell(source, "DMB ISH")).toEqual(["root complex", "CPU buffer"]);
  });
});

describe("an atomic on Normal Non-cacheable memory", () => {
  const source = `machine { kernel v6.12 }
variant work
variant fault35 { atomics fault35 }
variant sea { atomics sea }
variant nop { atomics nop }
let RAM = 0x80000000
let ram = mmap(0, 2M, align=2M)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=ram)
let tables = mmap(0, 64K)
KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x48000000, memory_size=64K, userspace_addr=tables)
write64(tables + 8, 0x40000705)
write64(tables + 16, 0x80000701)
KVM_SET_ONE_REG(mair_el1, 0xff44)
KVM_SET_ONE_REG(tcr_el1, 0x803519)
KVM_SET_ONE_REG(ttbr0_el1, 0x48000000)
KVM_SET_ONE_REG(sctlr_el1, 0x30d01805)
on exception { }
`;
  // With FEAT_S2FWB stage 2 makes RAM write-back: the choice is of a CPU without it.
  const plain = source.replace("kernel v6.12", 'kernel v6.12  cpu "neoverse-v1,-s2fwb"');
  it("is done, aborts with status 0x35 or as an external abort, or does nothing, as the CPU chooses", () => {
    const text = `${plain}guest { msr daifclr, 4; mov x1, RAM; mov x2, 5; mov x0, 0xdead; ldadd x2, x0, [x1]; ldr x3, [x1] }
expect on work x0 == 0 && x3 == 5
expect on fault35 exception esr=0x96000035
expect on sea inject serror
expect on nop x0 == 0xdead && x3 == 0`;
    expect(failures(runAll(text))).toEqual([]);
  });
  it("of the exclusive kind never succeeds where the monitor does not work there", () => {
    const text = `${plain}guest { msr daifclr, 4; mov x1, RAM; str xzr, [x1]; ldxr x0, [x1]; mov x2, 1; stxr w3, x2, [x1] }
expect on work x3 == 0
expect on nop x3 == 1
expect on fault35 exception esr=0x96000035
expect on sea inject serror`;
    expect(failures(runAll(text))).toEqual([]);
  });
  it("leaves pairs over a page's end and unaligned acquires alone: they are no atomics", () => {
    const text = `${plain}guest { mov x1, RAM; str x1, [x1]; ldr x0, [x1, 0x1000]; add x1, x1, 0xff8; mov x4, 9; stp x4, x4, [x1]; ldp x2, x3, [x1]; add x1, x1, 9; ldar w5, [x1] }
expect x2 == 9 && x3 == 9
expect x5 == 0
expect no exception`;
    expect(failures(runAll(text))).toEqual([]);
  });
});

it("a report says the memory type at stage 2, or that nothing is mapped", () => {
  const source = `let RAM = 0x80000000
let ram = mmap(0, 2M, align=2M)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=ram)
report "before" stage2 RAM
guest { ldr x0, [RAM] }
report "after" stage2 RAM`;
  expect(cell(source, "before")).toEqual(["none"]);
  expect(cell(source, "after")).toEqual(["Normal-WB"]);
});

describe("weak mode by seed", () => {
  const source = (seed: number, barrier: string) => `machine { buffers weak  seed ${seed} }
let PAGE = 0x80000000
let page = mmap(0, 64K)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=PAGE, memory_size=64K, userspace_addr=page)
let tables = mmap(0, 64K)
KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x48000000, memory_size=64K, userspace_addr=tables)
write64(tables + 8, 0x40000705)
write64(tables + 16, 0x80000705)
KVM_SET_ONE_REG(mair_el1, 0xff44)
KVM_SET_ONE_REG(tcr_el1, 0x803519)
KVM_SET_ONE_REG(ttbr0_el1, 0x48000000)
KVM_SET_ONE_REG(sctlr_el1, 0x30d01805)
KVM_SET_ONE_REG(vcpu1.mair_el1, 0xff44)
KVM_SET_ONE_REG(vcpu1.tcr_el1, 0x803519)
KVM_SET_ONE_REG(vcpu1.ttbr0_el1, 0x48000000)
KVM_SET_ONE_REG(vcpu1.sctlr_el1, 0x30d01805)
sched_setaffinity(vcpu0, 1)
sched_setaffinity(vcpu1, 2)
guest { mov x1, PAGE; str xzr, [x1]; dsb sy }
guest vcpu1 { mov x1, PAGE; ldr x2, [x1]; mov x5, 0 }
par {
  guest vcpu0 { mov x0, 0; for n in 0..12 { add x0, x0, 1; str x0, [x1]; ${barrier}; str x0, [x1, 0x100] } }
  guest vcpu1 { for n in 0..20 { ldr x2, [x1, 0x100]; dmb ld; ldr x3, [x1]; cmp x3, x2; csinc x5, x5, x5, hs } }
}
report "flag ahead of data" vcpu1.x5
`;
  const ahead = (seed: number, barrier: string) => Number(cell(source(seed, barrier), "flag ahead of data")[0]);
  it("shows a flag before its data in some run, and in none with a barrier between", () => {
    const seeds = [1, 2, 3, 4, 5];
    expect(seeds.map((s) => ahead(s, "dmb st"))).toEqual([0, 0, 0, 0, 0]);
    expect(seeds.some((s) => ahead(s, "nop") > 0)).toBe(true);
  });
  it("takes the same steps for the same seed, and none for no seed", () => {
    expect(ahead(3, "nop")).toBe(ahead(3, "nop"));
    expect(ahead(0, "nop")).toBe(0);
  });
});

describe("a device's request that does not snoop", () => {
  const dma = (more: string): string => `machine { devices nic  kernel v6.9  cache modelled }
let dev = vfio_open(0000:01:00.0)
let ram = mmap(0, 64K)
write64(ram, 0x11)
${more}`;
  it("is what its Device Control register allows it: without Enable No Snoop it looks the caches up", () => {
    const source = dma(`let past = dma_read64(ram, snoop=0, device=dev)
expect past == 0
let control = pci_config_read(dev, 0x50, 2)
pci_config_write(dev, 0x50, 2, control & 0xf7ff)
let snooped = dma_read64(ram, snoop=0, device=dev)
expect snooped == 0x11`);
    expect(failures(runAll(source))).toEqual([]);
  });
  it("of no device gives EBADF", () => {
    const source = dma(`dma_read64(ram, snoop=0, device=99)
expect errno EBADF
dma_write64(ram, 1, snoop=0, device=99)
expect errno EBADF`);
    expect(failures(runAll(source))).toEqual([]);
  });
});

describe("a memslot backed by a dma-buf", () => {
  const slot = (kernel: string, more: string): string => `machine { devices testdev  kernel ${kernel}  set memslotDmabuf = vfio }
let dev = vfio_open(0000:00:05.0)
pci_memory_enable(dev, 1)
let IPA = 0x80000000
${more}`;
  it.each(["v5.4", "v6.1", "v6.12", "v7.2.12"])("is mapped by blocks where slot and BAR allow it, on %s", (kernel) => {
    const source = slot(
      kernel,
      `let name = VFIO_DEVICE_FEATURE_DMA_BUF(dev, bar2, 4M)
KVM_SET_USER_MEMORY_REGION(1, KVM_MEM_DMABUF, IPA, 4M, name)
guest { mov x1, IPA + 0x201000; ldr w0, [x1] }
expect stage2 IPA none
expect stage2 IPA + 0x200000 size=2M pa=0x8000200000`,
    );
    expect(failures(runAll(source))).toEqual([]);
  });
  it("is mapped by pages where guest and bus address are not congruent, or the slot is smaller than a block", () => {
    const source = slot(
      "v6.12",
      `let name = VFIO_DEVICE_FEATURE_DMA_BUF(dev, bar2, 8M)
KVM_SET_USER_MEMORY_REGION(1, KVM_MEM_DMABUF, IPA + 0x1000, 4M, name)
guest { mov x1, IPA + 0x200000; ldr w0, [x1] }
expect stage2 IPA + 0x200000 size=4K pa=0x80001ff000
KVM_SET_USER_MEMORY_REGION(2, KVM_MEM_DMABUF, 0x90000000, 1M, name)
guest { mov x1, 0x90000000; ldr w0, [x1] }
expect stage2 0x90000000 size=4K pa=0x8000000000`,
    );
    expect(failures(runAll(source))).toEqual([]);
  });
});

describe("a range of a BAR that user space asks to have write-combining", () => {
  const source = (more: string): string => `machine { devices nic  kernel v6.9  buffers modelled  set vfioMmapType = as-asked }
let dev = vfio_open(0000:01:00.0)
${more}`;
  it("is so for mappings that lie in it, for no other, and for no later user", () => {
    const text = source(`VFIO_DEVICE_FEATURE_MMAP_WC(dev, bar2 + 0x10000, 64K)
expect ok
let before = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)
let inside = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2 + 0x10000)
let across = mmap(0, 128K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)
let other = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar0)
read32(before)
read32(inside)
read32(across)
read32(other)
write32(before, 1)
write32(inside, 1)
write32(across + 0x20, 1)
write32(other + 0x20, 1)
expect 1 event store_buffered type=NC
expect 3 event store_buffered type=nGnRnE
munmap(inside, 64K)
munmap(before, 64K)
munmap(across, 128K)
munmap(other, 64K)
close(dev)
let next = vfio_open(0000:01:00.0)
let again = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED, next, bar2 + 0x10000)
read32(again)
write32(again, 1)
expect no event store_buffered type=NC`);
    expect(failures(runAll(text))).toEqual([]);
  });
  it.each([
    ["beyond the BAR", "VFIO_DEVICE_FEATURE_MMAP_WC(dev, bar2, 2M)", "EINVAL"],
    ["of no BAR", "VFIO_DEVICE_FEATURE_MMAP_WC(dev, bar1, 4K)", "EINVAL"],
    ["of part of a page", "VFIO_DEVICE_FEATURE_MMAP_WC(dev, bar2, 100)", "EINVAL"],
    ["of no device", "VFIO_DEVICE_FEATURE_MMAP_WC(99, bar2, 4K)", "EBADF"],
  ])("%s is refused", (_, call, errno) => {
    expect(failures(runAll(source(`${call}\nexpect errno ${errno}`)))).toEqual([]);
  });
  it("is unknown to every release", () => {
    const text = source("VFIO_DEVICE_FEATURE_MMAP_WC(dev, bar2, 64K)\nexpect errno ENOTTY").replace("set vfioMmapType = as-asked", "");
    expect(failures(runAll(text))).toEqual([]);
  });
});
