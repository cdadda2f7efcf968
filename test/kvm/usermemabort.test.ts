/** user_mem_abort: size, memory type, permissions and races of a mapping, by era. */
import { describe, expect, it } from "vitest";
import { HPFAR_EL2 } from "../../src/arch/registers.js";
import { ERAS } from "../../src/eras.js";
import { vmFlagNames, VM_PFNMAP } from "../../src/mmu/vmflags.js";
import { RECORDED } from "../../src/arch/profile.js";
import type { DeviceSpec } from "../../src/vfio/devicespec.js";
import { FaultFixture, GIB, MIB, R_HVA, type FaultFixtureOptions } from "./faultfixture.js";

const ALL = ERAS.map((e) => e.name);
const IPA = 0x8000_0000;
const EFAULT = -14;

/** A machine with BAR 2 (16 MiB) of the shared-memory device mapped at R_HVA and a slot of `size` over it. */
function bar(
  era: string,
  { size = 4 * MIB, slot = true, ...options }: FaultFixtureOptions & { size?: number; slot?: boolean } = {},
): FaultFixture {
  const m = new FaultFixture(era, { devices: ["ivshmem"], ...options });
  m.open("0000:00:06.0");
  mapBar(m, 0, 16 * MIB);
  if (slot) m.slot(1, IPA, size, R_HVA);
  m.events.length = 0;
  return m;
}
function mapBar(m: FaultFixture, offset: number, size: number): number {
  return m.map(R_HVA + offset, size, { shared: true, fd: m.fd, offset: m.vfio.regionOffset(2, offset) });
}
/** The leaf at IPA: level, memory type, permissions. */
function leaf(m: FaultFixture, ipa = IPA): string {
  const l = m.kvm.dump.leaves(m.vm).find((x) => x.ipa <= ipa && ipa < x.ipa + x.size);
  return l === undefined
    ? "none"
    : `L${l.level} attr=${l.memattr} ${(l.s2ap & 1) !== 0 ? "R" : ""}${(l.s2ap & 2) !== 0 ? "W" : ""}${l.xn === 0 ? "X" : ""}`;
}

describe("the Dec 2019 case: the BAR is unmapped and mapped again, the guest loads", () => {
  const remapped = (era: string, options: FaultFixtureOptions & { size?: number } = {}) => {
    const m = bar(era, options);
    m.munmap(R_HVA, 4 * MIB);
    mapBar(m, 0, 4 * MIB);
    m.exec("ldr x4, [x0]", IPA);
    return m;
  };
  it("v5.4 looks for a huge page behind a pfn that has no struct page: the host crashes", () => {
    expect(remapped("v5.4").sim.crashed).toEqual({ function: "transparent_hugepage_adjust", reason: "PFN without struct page" });
  });
  it("v5.4 with a slot too small for a block cleans the data cache through an unmapped address: the host crashes without S2FWB", () => {
    expect(remapped("v5.4", { size: 0x3000, cpu: "cortex-a76" }).sim.crashed).toEqual({
      function: "__clean_dcache_guest_page",
      reason: "data cache clean through an unmapped kernel address",
    });
  });
  it("v5.4 where neither crashes: the guest executes from the device", () => {
    const m = remapped("v5.4", { size: 0x3000 });
    expect(m.sim.crashed).toBeUndefined();
    expect(leaf(m)).toBe("L3 attr=1 RW");
    // A page that is not mapped yet becomes executable at once.
    m.exec("br x0", IPA + 0x1000);
    expect(leaf(m, IPA + 0x1000)).toBe("L3 attr=1 RWX");
  });
  it("v5.4: a second fault on a present device page is EFAULT (bug A2)", () => {
    const m = remapped("v5.4", { size: 0x3000 });
    expect(m.exec("br x0", IPA)).toBe(EFAULT);
  });
  it("v5.4 on a machine whose cache maintenance never faults survives", () => {
    expect(remapped("v5.4", { size: 0x3000, cpu: "cortex-a76", profile: RECORDED }).sim.crashed).toBeUndefined();
  });
  it("v5.5 maps one page, Device-nGnRE; a fetch becomes a prefetch abort", () => {
    const m = remapped("v5.5");
    expect(leaf(m)).toBe("L3 attr=1 RW");
    m.exec("br x0", IPA + 0x10);
    expect(m.names("inject_pabt")).toEqual(["inject_pabt"]);
  });
});

describe("the first touch of a BAR", () => {
  const touched = (era: string, options = {}) => {
    const m = bar(era, options);
    m.exec("ldr x4, [x0]", IPA + 0x5000);
    return leaf(m, IPA + 0x5000);
  };
  for (const era of ["v4.0", "v4.10", "v4.20", "v5.4", "v5.5", "v5.6", "v5.8", "v5.11", "v5.12"]) {
    it(`${era}: mapped eagerly, pages, Device-nGnRE, no fault`, () => {
      const m = bar(era);
      expect(leaf(m, IPA + 0x5000)).toBe("L3 attr=1 RW");
      m.exec("ldr x4, [x0]", IPA + 0x5000);
      expect(m.all("kvm_guest_fault").filter((e) => (e["ipa"] as number) >= IPA)).toEqual([]);
    });
  }
  for (const era of ["v5.14", "v6.1", "v6.4", "v6.8"])
    it(`${era}: a block by VMA arithmetic, Device-nGnRE`, () => expect(touched(era)).toBe("L2 attr=1 RW"));
  it("v6.1.192: a page, Device-nGnRE", () => expect(touched("v6.1.192")).toBe("L3 attr=1 RW"));
  for (const era of ["v6.9", "v6.12", "v6.12.117", "v6.13", "v6.17", "v6.18.2", "v7.2.12"]) {
    it(`${era}: a block, Normal-NC`, () => expect(touched(era)).toBe("L2 attr=5 RW"));
  }
  it("eagerDeviceMapping can be switched off where the era has it", () =>
    expect(touched("v5.5", { set: { eagerDeviceMapping: "false" } })).toBe("L3 attr=1 RW"));
});

describe("a slot larger than the BAR mapping (bug A14)", () => {
  const overhang = (era: string) => {
    const m = new FaultFixture(era, { devices: ["edu"] });
    m.open("0000:00:04.0");
    m.map(R_HVA, MIB, { shared: true, fd: m.fd, offset: m.vfio.regionOffset(0) });
    m.slot(1, IPA, 2 * MIB, R_HVA);
    m.exec("ldr w4, [x0]", IPA);
    return { m, leaf: leaf(m), beyond: m.exec("ldr w4, [x0]", IPA + MIB) };
  };
  for (const era of ["v5.14", "v6.8", "v6.18.2"]) {
    it(`${era}: a block reaches past the VMA, the guest reads what lies behind the BAR`, () => {
      const r = overhang(era);
      expect(r.leaf.slice(0, 2)).toBe("L2");
      expect(r.beyond).toBe(0);
    });
  }
  for (const era of ["v6.1.192", "v6.12.117", "v7.2.12"]) {
    it(`${era}: a page, and EFAULT behind the BAR`, () => {
      const r = overhang(era);
      expect(r.leaf.slice(0, 2)).toBe("L3");
      expect(r.beyond).toBe(EFAULT);
    });
  }
});

describe("is PFNMAP a device? The four cells", () => {
  /** A page with or without struct page behind a VMA that is PFNMAP or not: RAM whose VMA is marked, or a BAR. */
  const cell = (era: string, pfnmap: boolean, structPage: boolean): string => {
    // v6.17 refuses a slot over cacheable PFNMAP memory on this CPU: the fault itself is what is asked here.
    const m = structPage
      ? new FaultFixture(era, { set: { memslotCacheablePfnmap: "accepted" } })
      : bar(era, { slot: false, size: 4 * MIB });
    if (structPage) m.map(R_HVA, 4 * MIB);
    const vma = m.mm.vmas.findVma(0, R_HVA);
    if (structPage) m.poke(R_HVA, 1);
    else m.run(m.mm.hostAccess, [0, R_HVA, 4, 0, 0, 0]);
    const flags = m.mm.vmas.flags(vma);
    m.mm.vmas.setFlags(vma, pfnmap ? flags | VM_PFNMAP : flags & ~VM_PFNMAP);
    m.run(m.kvm.setUserMemoryRegion, [m.vm, 1, 0, IPA, 0x3000, R_HVA]);
    const r = m.exec("ldr x4, [x0]", IPA);
    return r < 0 ? String(r) : leaf(m);
  };
  it("v6.17: device memory only where the VMA is PFNMAP and the pfn is outside the linear map", () => {
    expect(cell("v6.17", true, false)).toBe("L3 attr=5 RW");
    expect(cell("v6.17", true, true)).toBe("L3 attr=6 RW");
    expect(cell("v6.17", false, true)).toBe("L3 attr=6 RW");
    // VM_IO alone still leads to the remapped path: ordinary cacheable memory now.
    expect(cell("v6.17", false, false)).toBe("L3 attr=6 RW");
  });
  it("v5.14: device memory is what has no place in the linear map, whatever the VMA", () => {
    expect(cell("v5.14", true, false)).toBe("L3 attr=1 RW");
    expect(cell("v5.14", true, true)).toBe("L3 attr=6 RW");
    expect(cell("v5.14", false, false)).toBe("L3 attr=1 RW");
  });
  it("eager mapping makes Device of memory with a struct page, demand mapping Normal", () => {
    expect(cell("v5.5", true, true)).toBe("L3 attr=1 RW");
    const m = new FaultFixture("v5.5", { set: { eagerDeviceMapping: "false" } });
    m.map(R_HVA, 4 * MIB);
    m.poke(R_HVA, 1);
    const vma = m.mm.vmas.findVma(0, R_HVA);
    m.mm.vmas.setFlags(vma, m.mm.vmas.flags(vma) | VM_PFNMAP);
    m.slot(1, IPA, 0x3000, R_HVA);
    m.exec("ldr x4, [x0]", IPA);
    expect(leaf(m)).toBe("L3 attr=6 RW");
    expect(vmFlagNames(m.mm.vmas.flags(vma))).toContain("PFNMAP");
  });
});

describe("cacheable PFNMAP (v6.17)", () => {
  const cacheable = (era: string, features = {}) => {
    const m = bar(era, { slot: false, features });
    m.mm.vmas.setPageProt(m.mm.vmas.findVma(0, R_HVA), 0);
    return { m, ret: m.slot(1, IPA, 4 * MIB, R_HVA) };
  };
  it("is Normal-WB with S2FWB and DIC, and executable", () => {
    const { m, ret } = cacheable("v6.17", { dic: true });
    expect(ret).toBe(0);
    m.exec("ldr x4, [x0]", IPA);
    expect(leaf(m)).toBe("L2 attr=6 RWX");
  });
  it("without them the slot is refused, and a fault would be EFAULT", () => {
    expect(cacheable("v6.17").ret).toBe(-22);
    const { m, ret } = cacheable("v6.17", { dic: true });
    expect(ret).toBe(0);
    const n = bar("v6.17");
    n.mm.vmas.setPageProt(n.mm.vmas.findVma(0, R_HVA), 0);
    expect(n.exec("ldr x4, [x0]", IPA)).toBe(EFAULT);
    expect(m.sim.crashed).toBeUndefined();
  });
  it("is a device before", () => {
    const { m } = cacheable("v6.12", { dic: true });
    m.exec("ldr x4, [x0]", IPA);
    expect(leaf(m)).toBe("L2 attr=5 RW");
  });
});

describe("proposed switches", () => {
  it("execOnDevice=exit-to-user hands the fetch to userspace", () => {
    const m = bar("v6.12", { set: { execOnDevice: "exit-to-user" } });
    expect(m.exec("br x0", IPA + 0x40)).toBe(0);
    expect([m.exit, m.kvm.vcpus.nisvIpa(m.v)]).toEqual([28, IPA + 0x40]);
  });
  it("cowPfnmap=refuse is EFAULT for a private writable PFNMAP VMA", () => {
    const m = bar("v6.17", { set: { cowPfnmap: "refuse" } });
    const vma = m.mm.vmas.findVma(0, R_HVA);
    m.mm.vmas.setFlags(vma, (m.mm.vmas.flags(vma) & ~(1 << 3)) | (1 << 5));
    expect(m.exec("ldr x4, [x0]", IPA)).toBe(EFAULT);
  });
});

describe("a race with munmap and mmap between the steps of a fault", () => {
  /** Runs the guest's fault until the vCPU is about to enter `phase`. */
  const until = (m: FaultFixture, phase: string): void => {
    const agent = m.kvm.vcpuAgent(m.v);
    m.sim.agents.start(agent, m.kvm.run, m.v, 2000, 20);
    for (let i = 0; i < 1000; i++) {
      if (m.sim.agents.backtrace(agent)[0] === phase && m.regs.lo(m.v, HPFAR_EL2) === (IPA / 4096) * 16) return;
      m.sim.agents.step(agent);
    }
    throw new Error(`never came to ${phase}`);
  };
  const finish = (m: FaultFixture): number => {
    const agent = m.kvm.vcpuAgent(m.v);
    m.sim.agents.runToEnd(agent);
    return m.sim.agents.result(agent);
  };
  const start = (era: string): FaultFixture => {
    const m = new FaultFixture(era);
    m.map(R_HVA, 4 * MIB);
    m.slot(1, IPA, 4 * MIB, R_HVA);
    m.load("ldr x4, [x0]\nb #0", IPA);
    m.poke(R_HVA, 1);
    m.events.length = 0;
    return m;
  };
  for (const era of ALL) {
    it(`${era}: between pfn lookup and mmu_lock it is caught: the fault is retried`, () => {
      const m = start(era);
      until(m, "userMemAbort:install");
      m.munmap(R_HVA, 4 * MIB);
      m.map(R_HVA, 4 * MIB);
      finish(m);
      expect(m.names("mmu_retry")).toEqual(["mmu_retry"]);
      expect(m.x(4)).toBe("0x0");
    });
  }
  /** hugetlb first, then small pages at the same address. */
  const b1 = (era: string) => {
    const m = new FaultFixture(era);
    const fd = m.mm.files.createHugetlb(4 * MIB);
    m.map(R_HVA, 4 * MIB, { shared: true, fd });
    m.slot(1, IPA, 4 * MIB, R_HVA);
    m.load("ldr x4, [x0]\nb #0", IPA);
    const next = ["v6.4", "v6.8", "v6.12", "v7.2.12", "v6.1.192"].includes(era) ? "userMemAbort:pfn" : "userMemAbort:snapshot";
    until(m, next);
    m.munmap(R_HVA, 4 * MIB);
    m.map(R_HVA, 4 * MIB);
    m.events.length = 0;
    finish(m);
    return { retried: m.names("mmu_retry").length > 0, leaf: leaf(m).slice(0, 2) };
  };
  for (const era of ["v4.0", "v5.4", "v5.14", "v6.1"]) {
    it(`${era}: between the VMA lookup and the snapshot it is missed: a block over the new small page (bug B1)`, () => {
      expect(b1(era)).toEqual({ retried: false, leaf: "L2" });
    });
  }
  for (const era of ["v6.1.192", "v6.4", "v6.8", "v6.12", "v7.2.12"]) {
    it(`${era}: the snapshot lies inside mmap_lock: retried, a page`, () => expect(b1(era)).toEqual({ retried: true, leaf: "L3" }));
  }
});

describe("dirty marks", () => {
  const logged = (era: string, text: string, ...x: number[]) => {
    const m = new FaultFixture(era);
    m.map(R_HVA, 4 * MIB);
    m.slot(1, IPA, 4 * MIB, R_HVA, 1);
    for (let i = 0; i < 4; i++) m.poke(R_HVA + 4096 * i, 1);
    m.exec(text, ...x);
    const before = leaf(m, IPA + 0x1000);
    m.run(m.kvm.getDirtyLog, [m.vm, 1]);
    return { m, before, pages: m.kvm.dirtyPages(m.vm, 1) };
  };
  for (const era of ALL) {
    it(`${era}: a store is logged, a load is not, and the load maps read-only`, () => {
      const { m, pages } = logged(era, "str x1, [x0]\nldr x4, [x2]", IPA + 0x1000, 7, IPA + 0x2000);
      expect(pages).toEqual([1]);
      expect(leaf(m, IPA + 0x2000)).toMatch(/ R(X)?$/);
    });
  }
  it("an exec fault while logging takes write away in v5.5 (set), not in v6.12 (relax)", () => {
    const both = (era: string) => {
      return logged(era, "str x1, [x0]\nbr x0", IPA + 0x1000, 0xd4000001).before;
    };
    expect(both("v5.5")).toBe("L3 attr=6 RX");
    expect(both("v6.12")).toBe("L3 attr=6 RWX");
  });
});

describe("1 GiB blocks of a large BAR", () => {
  const NIC: DeviceSpec = { bdf: "0000:01:00.0", bars: [{ index: 2, size: 4 * GIB, bits: 64, prefetch: true }] };
  const touched = (era: string, misalign = 0) => {
    const m = new FaultFixture(era, { devices: [NIC] });
    m.open("0000:01:00.0");
    const hva = 0x7100_0000_0000 + misalign;
    m.map(hva, 2 * GIB, { shared: true, fd: m.fd, offset: m.vfio.regionOffset(2) });
    m.slot(1, 4 * GIB + misalign, 2 * GIB, hva);
    m.exec("ldr w4, [x0]", 4 * GIB + misalign + 0x5000);
    return leaf(m, 4 * GIB + misalign + 0x5000).slice(0, 2);
  };
  it("v6.17 maps 1 GiB by VMA arithmetic, 2 MiB where the VMA does not hold the gigabyte, else a page", () => {
    expect([touched("v6.17"), touched("v6.17", 2 * MIB), touched("v6.17", 4096)]).toEqual(["L1", "L2", "L3"]);
  });
  it("v7.2 never maps more than the host's 2 MiB leaf", () => expect(touched("v7.2.12")).toBe("L2"));
});

describe("contiguous hugetlb sizes", () => {
  const mapped = (era: string, order: 4 | 13) => {
    const m = new FaultFixture(era, { hugetlb: { 4: 64, 13: 1 }, cpu: "cortex-a76" });
    const size = order === 4 ? 4 * MIB : 32 * MIB;
    m.map(R_HVA, size, { shared: true, fd: m.mm.files.createHugetlb(size, order) });
    m.slot(1, IPA, size, R_HVA);
    m.exec("ldr x4, [x0]", IPA + 0x3000);
    const clean = m.all("dcache_clean").find((e) => (e["size"] as number) !== 4096);
    return `${leaf(m, IPA + 0x3000).slice(0, 2)} ${clean === undefined ? "page" : `0x${(clean["size"] as number).toString(16)}`}`;
  };
  it("64 KiB pages are mapped as pages; the old code cleans 64 KiB from the page that faulted (E3)", () => {
    expect([mapped("v5.4", 4), mapped("v5.14", 4), mapped("v6.12", 4)]).toEqual(["L3 0x10000", "L3 page", "L3 page"]);
  });
  it("32 MiB pages are mapped by 2 MiB blocks from v5.10 on", () => {
    expect([mapped("v5.14", 13), mapped("v6.12", 13)]).toEqual(["L2 0x200000", "L2 0x200000"]);
  });
});

describe("an instruction fetch of a vCPU without tables of its own from a block of a slot that is logged", () => {
  const ENOMEM = -12;
  const fetch = (era: string) => {
    const m = new FaultFixture(era);
    m.map(R_HVA, 4 * MIB, { huge: true });
    m.slot(1, IPA, 4 * MIB, R_HVA);
    m.poke(R_HVA, 0xd4000001 | 0); // svc
    m.exec("ldr x4, [x0]", IPA);
    m.slot(1, IPA, 4 * MIB, R_HVA, 1);
    m.kvm.stage2.caches.free(m.kvm.vcpus.memcache(m.v));
    return m.exec("br x0", IPA);
  };
  it("v5.10 to v7.2 fail: only a write would have filled its cache for the page table that the block needs; v7.3 does not", () => {
    for (const era of ALL.slice(ALL.indexOf("v5.10"))) expect(fetch(era), era).toBe(era === "v7.3.4" ? 0 : ENOMEM);
  });
});
