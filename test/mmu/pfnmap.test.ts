/** Mappings of memory without struct pages, through a driver of the tests' own. */
import { describe, expect, it } from "vitest";
import { ARG } from "../../src/sim/agents.js";
import type { VmOperations } from "../../src/mmu/files.js";
import { FAULT_FLAG_WRITE, VM_FAULT_FALLBACK, VM_FAULT_NOPAGE, VM_FAULT_SIGBUS } from "../../src/mmu/vmfault.js";
import { HOST_SIGBUS_ADRERR } from "../../src/mmu/useraccess.js";
import { MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { Bench } from "./faultbench.js";

const AT = 0x30000000;
const BAR = 0x8000000; // pfn of 0x8000000000
const RW = PROT_READ | PROT_WRITE;

interface Device {
  readonly b: Bench;
  /** Calls of the driver: "fault 1000" or "huge 0". */
  readonly calls: string[];
  enabled: boolean;
}

/** A BAR of 16 MiB mapped at AT; the driver maps per fault. */
function device(era: string, { set = {}, atMmap = false, writeNotify = false, size = 0x1000000, pfn = BAR } = {}): Device {
  const b = new Bench(era, {}, set);
  const { agents } = b.sim;
  const d: Device = { b, calls: [], enabled: true };
  const { vmas, zap } = b.mm;
  const a = agents.stack;
  b.phys.addWindow(pfn * 4096, 0x1000000, { read: () => ((b.phys.lo = 0x1234), (b.phys.hi = 0)), write: () => {} });
  const at = (f: number) => a.a[f + ARG + 2]!;
  const ops: VmOperations = {
    writeNotify,
    mmap: b.driverMmap((v) => {
      if (atMmap) zap.remapPfnRange(0, v, vmas.start(v), pfn, size);
    }),
    fault: agents.activity("devFault", "test", 4, [
      [
        "fault",
        (f) => {
          const v = a.a[f + ARG + 1]!;
          const off = at(f) - vmas.start(v);
          d.calls.push(`fault ${off.toString(16)}`);
          if (!d.enabled) return agents.ret(f, VM_FAULT_SIGBUS);
          return agents.ret(f, zap.vmfInsertPfn(0, v, at(f), pfn + Math.floor(off / 4096)));
        },
      ],
    ]),
    hugeFault: agents.activity("devHuge", "test", 4, [
      [
        "fault",
        (f) => {
          const v = a.a[f + ARG + 1]!;
          const block = at(f) - (at(f) % 0x200000);
          const off = block - vmas.start(v);
          d.calls.push(`huge ${(at(f) - vmas.start(v)).toString(16)}`);
          if (off < 0 || block + 0x200000 > vmas.end(v)) return agents.ret(f, VM_FAULT_FALLBACK);
          if (!d.enabled) return agents.ret(f, VM_FAULT_SIGBUS);
          return agents.ret(f, zap.vmfInsertPfnPmd(0, v, block, pfn + off / 4096));
        },
      ],
    ]),
  };
  b.map(AT, size, RW, MAP_SHARED | MAP_FIXED, b.mm.files.openDevice(ops));
  b.told();
  return d;
}

describe("a PFN mapping", () => {
  it("made at mmap time has an entry for every page, special, Device-nGnRnE, never executable", () => {
    const { b, calls } = device("v5.4", { atMmap: true, size: 0x4000 });
    expect(b.leaves()).toEqual(["30000000 3 ws", "30001000 3 ws", "30002000 3 ws", "30003000 3 ws"]);
    b.mm.pt.walk(0, AT + 0x2000);
    expect(b.mm.pt.leafPfn).toBe(BAR + 2);
    expect((b.mm.pt.lo >>> 2) & 7).toBe(3);
    expect((b.mm.pt.hi >>> 21) & 3).toBe(3);
    expect(b.read(AT + 0x1000)).toBe(0);
    expect(b.result(1)).toBe(0x1234);
    expect(calls).toEqual([]);
    expect(b.mm.frames.pfnValid(BAR)).toBe(false);
  });

  it("is refused by GUP and found by followPfnmap", () => {
    const { b } = device("v6.12");
    expect(b.gup(AT, 0)).toBe(-14);
    expect(b.mm.gup.followPfnmap(0, AT + 0x5000)).toBe(-1);
    expect(b.run(b.mm.gup.fixupUserFault, 0, AT + 0x5000, 1)).toBe(0);
    expect(b.mm.gup.followPfnmap(0, AT + 0x5000)).toBe(BAR + 5);
    expect(b.mm.gup.writable).toBe(true);
    expect(b.mm.gup.leafLevel).toBe(2);
    expect(b.mm.gup.userMappingSize(0, AT + 0x5000)).toBe(0x200000);
    expect(b.mm.gup.gupFast(0, AT + 0x5000, false)).toBe(-1);
  });

  it("a release that follows page entries only does not understand a block", () => {
    const { b } = device("v6.12", { set: { followPfn: "pageOnly" } });
    b.run(b.mm.gup.fixupUserFault, 0, AT, 1);
    expect(b.leaves()).toEqual(["30000000 2 ws"]);
    expect(b.mm.gup.followPfnmap(0, AT)).toBe(-1);
  });

  it("the kernel's own fault asks for the block once, then for the page", () => {
    const d = device("v6.12", { size: 0x100000 });
    expect(d.b.run(d.b.mm.gup.fixupUserFault, 0, AT + 0x3000, 0)).toBe(0);
    expect(d.calls).toEqual(["huge 3000", "fault 3000"]);
    d.b.run(d.b.mm.gup.fixupUserFault, 0, AT + 0x4000, 0);
    // A table of pages is there now: no huge attempt any more.
    expect(d.calls.slice(2)).toEqual(["fault 4000"]);
    expect(d.b.leaves()).toEqual(["30003000 3 ws", "30004000 3 ws"]);
    expect(d.b.told()).toEqual([]);
  });

  it("an access of the VMM's own asks for a block that falls back twice from v6.7 on", () => {
    for (const [era, calls] of [
      ["v6.9", ["fault 3000"]],
      ["v6.12", ["huge 3000", "huge 3000", "fault 3000"]],
    ] as const) {
      const d = device(era, { size: 0x100000 });
      expect(d.b.read(AT + 0x3000)).toBe(0);
      expect(d.calls, era).toEqual(calls);
    }
    const whole = device("v6.12");
    whole.b.read(AT + 0x3000);
    expect(whole.calls).toEqual(["huge 3000"]);
    expect(whole.b.leaves()).toEqual(["30000000 2 ws"]);
  });

  it("a driver that says SIGBUS: BUS_ADRERR for the VMM, -EFAULT for the kernel", () => {
    const d = device("v6.12");
    d.enabled = false;
    expect(d.b.read(AT)).toBe(HOST_SIGBUS_ADRERR);
    expect(d.b.run(d.b.mm.gup.fixupUserFault, 0, AT, 0)).toBe(-14);
    expect(d.b.leaves()).toEqual([]);
  });

  it("with pfn_mkwrite even a write fault leaves the entry read-only; the next one makes it writable", () => {
    const d = device("v6.9", { writeNotify: true });
    expect(d.b.run(d.b.mm.gup.fixupUserFault, 0, AT, 1)).toBe(0);
    expect(d.b.leaves()).toEqual(["30000000 3 rs"]);
    expect(d.b.run(d.b.mm.gup.fixupUserFault, 0, AT, 1)).toBe(0);
    expect(d.b.leaves()).toEqual(["30000000 3 ws"]);
    expect(d.calls).toEqual(["fault 0"]);
    const e = device("v6.9", { writeNotify: true });
    expect(e.b.write(AT, 1)).toBe(0);
    expect(e.b.leaves()).toEqual(["30000000 3 ws"]);
  });

  it("an insert over a present entry leaves it; remap over one is the kernel's BUG", () => {
    const { b } = device("v6.9");
    const v = b.mm.vmas.findVma(0, AT);
    expect(b.mm.zap.vmfInsertPfn(0, v, AT, BAR)).toBe(VM_FAULT_NOPAGE);
    expect(b.mm.zap.vmfInsertPfn(0, v, AT, BAR + 7)).toBe(VM_FAULT_NOPAGE);
    expect(b.mm.gup.followPfnmap(0, AT)).toBe(BAR);
    expect(b.mm.zap.remapPfnRange(0, v, AT, BAR, 0x2000)).toBe(-16);
    expect(b.mm.zap.vmfInsertPfnPmd(0, v, AT, BAR)).toBe(VM_FAULT_FALLBACK);
  });

  it("a zap takes blocks out without touching frames, and the next access faults again", () => {
    const d = device("v6.12");
    d.b.read(AT);
    const before = d.b.mm.frames.allocated;
    d.b.run(d.b.mm.zapVmaPtes, 0, AT, AT + 0x1000000);
    expect(d.b.told()).toEqual(["S 30000000-31000000", "E 30000000-31000000"]);
    expect(d.b.leaves()).toEqual([]);
    expect(d.b.mm.frames.allocated).toBe(before);
    d.b.read(AT);
    expect(d.calls).toEqual(["huge 0", "huge 0"]);
  });

  it("fork copies its entries and says nothing", () => {
    const { b } = device("v5.4", { atMmap: true, size: 0x3000 });
    const child = b.run(b.mm.syscalls.fork, 0);
    expect(b.told()).toEqual([]);
    expect(b.leaves(child)).toEqual(["30000000 3 ws", "30001000 3 ws", "30002000 3 ws"]);
  });

  it("handleMmFault outside every VMA is a SIGSEGV", () => {
    const { b } = device("v6.12");
    expect(b.run(b.mm.fault.handleMmFault, 0, AT + 0x8000000, FAULT_FLAG_WRITE)).toBe(0x40);
  });
});

describe("hugetlb pages of every size", () => {
  it("64 KiB and 32 MiB pages are runs of 16 contiguous entries, 1 GiB pages one entry", () => {
    for (const [order, level, count] of [
      [4, 3, 16],
      [9, 2, 1],
      [13, 2, 16],
      [18, 1, 1],
    ] as const) {
      const size = 2 ** order * 4096;
      const b = new Bench("v6.12", { hugetlb: { 4: 4, 13: 2, 18: 1 } }, {}, 4 * 2 ** 30);
      const fd = b.mm.files.createHugetlb(size, order);
      const at = 0x100000000;
      expect(b.map(at, size, RW, MAP_SHARED | MAP_FIXED, fd)).toBe(at);
      expect(b.write(at + 0x5000, 77)).toBe(0);
      expect(b.leaves().length).toBe(count);
      b.mm.pt.walk(0, at + 0x5000);
      expect(b.mm.pt.leafLevel).toBe(level);
      expect(b.mm.pt.leafSize).toBe(size);
      expect(b.mm.pt.leafPfn % 2 ** order).toBe(5);
      expect(b.mm.frames.orderOf(b.mm.pt.leafPfn)).toBe(order);
      b.read(at + 0x5000);
      expect(b.result(1)).toBe(77);
      const free = b.mm.frames.hugetlbFree(order);
      expect(b.run(b.mm.syscalls.munmap, 0, at, size)).toBe(0);
      expect(b.leaves()).toEqual([]);
      b.run(b.mm.syscalls.ftruncate, fd, 0);
      expect(b.mm.frames.hugetlbFree(order)).toBe(free + 1);
    }
  });
});
