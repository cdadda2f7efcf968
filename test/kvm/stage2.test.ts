import { describe, expect, it } from "vitest";
import { INSTALL_LOGGING, NO_CACHE, STAGE2_CRASHED } from "../../src/kvm/stage2.js";
import { PROT_DEVICE, PROT_IOMAP, PROT_NORMAL_NC, PROT_R, PROT_W, PROT_X } from "../../src/kvm/trace.js";
import { EAGAIN, EFAULT, EINVAL, ENOMEM, ERANGE } from "../../src/sim/errno.js";
import { BAR, Fixture, GIB, MIB, RAM } from "./tablesfixture.js";

const R = PROT_R;
const RW = PROT_R | PROT_W;
const RWX = PROT_R | PROT_W | PROT_X;
const IPA = 0x8000_0000;
const PAGE = 4096;
const BLOCK = 2 * MIB;

function words(f: Fixture): string {
  return f.dump
    .leaves(f.vm)
    .map((l) => `${(l.hi >>> 0).toString(16)}:${(l.lo >>> 0).toString(16)}`)
    .join(" ");
}

describe("a stage-2 entry, to the bit", () => {
  const cases: readonly (readonly [string, string, string, number, number, string])[] = [
    // era, cpu, what, pa, prot, high:low
    ["v4.0", "cortex-a72", "RAM is executable", RAM, RW, "0:400007ff"],
    ["v4.0", "cortex-a72", "devices are not", 0x1000_0000, RW | PROT_DEVICE | PROT_IOMAP, "400000:100007c7"],
    ["v5.4", "cortex-a76", "RAM is execute-never", RAM, RW, "400000:400007ff"],
    ["v5.4", "max", "RAM with S2FWB", RAM, RW, "400000:400007db"],
    ["v5.4", "neoverse-v1", "RAM with DIC is executable", RAM, R, "0:4000075b"],
    ["v5.4", "neoverse-v1", "devices never are by themselves", BAR, RW | PROT_DEVICE | PROT_IOMAP, "400080:7c7"],
    ["v6.1", "max", "RAM read-only", RAM, R, "400000:4000075b"],
    ["v6.8", "cortex-a76", "device memory", BAR, RW | PROT_DEVICE, "400080:7c7"],
    ["v6.12", "cortex-a76", "Normal-NC", BAR, RW | PROT_NORMAL_NC, "400080:7d7"],
    ["v6.12", "max", "LPA2 keeps SH out of the entry", RAM, RWX, "0:400004db"],
  ];
  it.each(cases)("%s %s: %s", (era, cpu, _what, pa, prot, expected) => {
    const f = new Fixture(era, { cpu });
    expect(f.install(IPA, PAGE, pa, prot)).toBe(0);
    expect(words(f)).toBe(expected);
  });

  it("of a block has bit 1 clear", () => {
    const f = new Fixture("v6.1");
    f.install(IPA, BLOCK, RAM, RW);
    expect(words(f)).toBe("400000:400007d9");
    expect(f.tree()).toEqual(["L1 0: 1", "L1 8000000000: 0", "L2 80000000: 1"]);
  });
});

describe("installing", () => {
  it("builds exactly the tables that a page needs, and counts entries", () => {
    const f = new Fixture("v6.12");
    f.install(IPA, PAGE, RAM, RW);
    f.install(IPA + PAGE, PAGE, RAM + PAGE, RW);
    expect(f.tree()).toEqual(["L1 0: 1", "L1 8000000000: 0", "L2 80000000: 1", "L3 80000000: 2"]);
    expect(f.leaves()).toEqual(["80000000+1000->40000000 rw- 6", "80001000+1000->40001000 rw- 6"]);
    expect(f.stage2.entries.leafCount(f.vm, 3)).toBe(2);
  });

  it("does not put a block into the table that the last one lay in, once that was freed", () => {
    const f = new Fixture("v6.12");
    f.install(IPA, BLOCK, RAM, RW);
    f.stage2.unmapRange(f.vm, IPA, BLOCK);
    expect(f.leaves()).toEqual([]);
    f.install(IPA + BLOCK, BLOCK, RAM + BLOCK, RW);
    expect(f.leaves()).toEqual(["80200000+200000->40200000 rw- 6"]);
  });

  it("uses the largest blocks that fit a long range (walker)", () => {
    const f = new Fixture("v6.12");
    expect(f.install(IPA - PAGE, PAGE + GIB + BLOCK + PAGE, RAM - PAGE, RW)).toBe(0);
    expect(f.leaves()).toEqual([
      "7ffff000+1000->3ffff000 rw- 6",
      "80000000+40000000->40000000 rw- 6",
      "c0000000+200000->80000000 rw- 6",
      "c0200000+1000->80200000 rw- 6",
    ]);
  });

  it("does nothing without a cache and a table in the set code; the walker says -ENOMEM", () => {
    const old = new Fixture("v5.4");
    expect(old.stage2.install(old.vm, NO_CACHE, IPA / PAGE, PAGE, RAM / PAGE, R)).toBe(0);
    expect(old.leaves()).toEqual([]);
    const walker = new Fixture("v6.1");
    expect(walker.stage2.install(walker.vm, NO_CACHE, IPA / PAGE, PAGE, RAM / PAGE, R)).toBe(-ENOMEM);
  });

  it("refuses impossible types and addresses beyond the IPA space (walker)", () => {
    const f = new Fixture("v6.12");
    expect(f.install(IPA, PAGE, BAR, RWX | PROT_DEVICE)).toBe(-EINVAL);
    expect(f.install(IPA, PAGE, BAR, RWX | PROT_NORMAL_NC)).toBe(-EINVAL);
    expect(f.install(IPA, PAGE, BAR, R | PROT_DEVICE | PROT_NORMAL_NC)).toBe(-EINVAL);
    expect(f.install(2 ** 40, PAGE, RAM, R)).toBe(-ERANGE);
  });

  it.each(["v4.0", "v4.10", "v5.8"])("%s: -EFAULT where an IOMAP page meets a present entry", (era) => {
    const f = new Fixture(era);
    const prot = RW | PROT_DEVICE | PROT_IOMAP;
    expect(f.install(IPA, PAGE, BAR, prot)).toBe(0);
    expect(f.install(IPA, PAGE, BAR, prot)).toBe(-EFAULT);
  });

  it("stage2_set is told for every call, also one that fails, and for pages only", () => {
    const f = new Fixture("v5.4");
    const events = f.record();
    f.install(IPA, BLOCK, RAM, RW);
    f.install(IPA + BLOCK, PAGE, BAR, RW | PROT_DEVICE | PROT_IOMAP);
    f.install(IPA + BLOCK, PAGE, BAR, RWX | PROT_DEVICE | PROT_IOMAP);
    const set = events.filter((e) => e.event === "stage2_set");
    expect(events.filter((e) => e.event === "stage2_set_huge").every((e) => Number(e["size"]) >= 0x200000)).toBe(true);
    expect(set.map((e) => [e["ipa"], e["s2ap"], e["memattr"], e["xn"], e["af"], e["iomap"]])).toEqual([
      [IPA + BLOCK, 3, 1, 2, 1, true],
      [IPA + BLOCK, 3, 1, 0, 1, true],
    ]);
  });

  it("stage2_map is told once for each call, also when it ends with -EAGAIN", () => {
    const f = new Fixture("v6.12");
    const events = f.record();
    expect(f.install(IPA, PAGE, RAM, R)).toBe(0);
    expect(f.install(IPA, PAGE, RAM, RW)).toBe(-EAGAIN);
    expect(events.filter((e) => e.event === "stage2_map").map((e) => e["prot"])).toEqual([R, RW]);
    expect(f.leaves()).toEqual(["80000000+1000->40000000 r-- 6"]);
  });
});

describe("changing a present entry", () => {
  const again = (era: string, prot: number, pa = RAM, set?: Record<string, string>) => {
    const f = new Fixture(era, { cpu: "cortex-a76", ...(set === undefined ? {} : { set }) });
    f.install(IPA, PAGE, RAM, R);
    const events = f.record();
    const ret = f.install(IPA, PAGE, pa, prot);
    return { f, ret, tlb: f.maintenance(), violations: events.filter((e) => e.event === "break_before_make_violation").length, events };
  };

  it("v4.0 writes over it and flushes after: that misses break-before-make if the address differs", () => {
    const { ret, tlb, violations } = again("v4.0", R, RAM + PAGE);
    expect([ret, violations]).toEqual([0, 1]);
    expect(tlb).toBe("dsb:ishst dsb:ishst ipas2e1is dsb:ish vmalle1is dsb:ish");
  });

  it("v4.10 clears it first", () => {
    const { ret, tlb, violations } = again("v4.10", R, RAM + PAGE);
    expect([ret, violations]).toEqual([0, 0]);
    expect(tlb).toBe("dsb:ishst dsb:ishst ipas2e1is dsb:ish vmalle1is dsb:ish dsb:ishst");
  });

  it("the identical entry is rewritten in v4.10, skipped in v5.4, tolerated in v5.11, -EAGAIN from v5.12", () => {
    const writes = (era: string) => {
      const { ret, events } = again(era, R);
      return [ret, events.filter((e) => e.event === "stage2_entry").length];
    };
    expect(writes("v4.10")).toEqual([0, 2]);
    expect(writes("v5.4")).toEqual([0, 0]);
    expect(writes("v5.11")).toEqual([0, 0]);
    expect(writes("v5.12")).toEqual([-EAGAIN, 0]);
    expect(writes("v6.12")).toEqual([-EAGAIN, 0]);
  });

  it("the set code takes permissions away; v5.11 replaces; v5.12 leaves the entry", () => {
    const f = new Fixture("v5.4");
    f.install(IPA, PAGE, RAM, RW);
    f.install(IPA, PAGE, RAM, R | PROT_X);
    expect(f.leaves()).toEqual(["80000000+1000->40000000 r-x 6"]);
    expect(again("v5.11", RW).f.leaves()).toEqual(["80000000+1000->40000000 rw- f"]);
    expect(again("v5.12", RW).f.leaves()).toEqual(["80000000+1000->40000000 r-- f"]);
  });

  it("v6.4 passes through the locked invalid entry, with the TLBI between break and make", () => {
    const { events, tlb } = again("v6.4", R, RAM + PAGE);
    const entries = events.filter((e) => e.event === "stage2_entry");
    expect(entries.map((e) => e["new"])).toEqual(["0x400", "0x4000004000177f"]);
    expect(tlb).toBe("dsb:ishst ipas2e1is dsb:ish vmalle1is dsb:ish dsb:ishst");
  });
});

describe("blocks and tables in each other's way", () => {
  const logged = (era: string, cpu = "max") => {
    const f = new Fixture(era, { cpu });
    f.install(IPA, PAGE, RAM, RW);
    f.install(IPA + 5 * PAGE, PAGE, RAM + 5 * PAGE, RW);
    return f;
  };

  it("v4.0 to v4.20: the table leaks under a block", () => {
    const f = logged("v4.0");
    const used = f.tables.pagesUsed;
    expect(f.install(IPA, BLOCK, RAM, RW)).toBe(0);
    expect(f.leaves()).toEqual(["80000000+200000->40000000 rwx f"]);
    expect(f.tables.pagesUsed).toBe(used);
  });

  it("v4.20 with debug assertions: the host stops", () => {
    const f = new Fixture("v4.20", { set: { blockOverTable: "assert" } });
    f.install(IPA, PAGE, RAM, RW);
    expect(f.install(IPA, BLOCK, RAM, RW)).toBe(STAGE2_CRASHED);
    expect(f.sim.crashed?.function).toBe("stage2_set_pmd_huge");
  });

  it("v5.4 unmaps the range first, and tells it", () => {
    const f = logged("v5.4");
    const events = f.record();
    f.install(IPA, BLOCK, RAM, RW);
    expect(f.leaves()).toEqual(["80000000+200000->40000000 rw- 6"]);
    expect(events.filter((e) => e.event === "stage2_unmap").map((e) => [e["ipa"], e["size"]])).toEqual([[IPA, BLOCK]]);
    expect(f.tree()).toEqual(["L1 0: 1", "L1 8000000000: 0", "L2 80000000: 1"]);
  });

  it.each([
    ["v5.14", "max", "vmalls12e1is dsb:ish"],
    ["v6.8", "cortex-a76", "vmalls12e1is dsb:ish"],
    ["v6.8", "max", "ripas2e1is dsb:ish vmalle1is dsb:ish"],
    ["v6.12", "max", "ripas2e1is dsb:ish vmalle1is dsb:ish"],
  ])("%s on %s: the walker replaces the table, frees it, and flushes with %s", (era, cpu, tlb) => {
    const f = logged(era, cpu);
    const used = f.tables.pagesUsed;
    f.record();
    expect(f.install(IPA, BLOCK, RAM, RW)).toBe(0);
    expect(f.maintenance()).toBe(`dsb:ishst ${tlb} dsb:ishst`);
    expect(f.leaves().length).toBe(1);
    expect(f.tree()).toEqual(["L1 0: 1", "L1 8000000000: 0", "L2 80000000: 1"]);
    expect(f.tables.pagesUsed).toBe(used - 1);
    expect([f.stage2.entries.leafCount(f.vm, 2), f.stage2.entries.leafCount(f.vm, 3)]).toEqual([1, 0]);
  });

  it("logging dissolves a block in the set code; the walker puts a table in its place", () => {
    const old = new Fixture("v5.4");
    old.install(IPA, BLOCK, RAM, RW);
    old.install(IPA + PAGE, PAGE, RAM + PAGE, RW, INSTALL_LOGGING);
    expect(old.leaves()).toEqual(["80001000+1000->40001000 rw- 6"]);
    const walker = new Fixture("v6.12");
    walker.install(IPA, BLOCK, RAM, RW);
    walker.install(IPA + PAGE, PAGE, RAM + PAGE, RW);
    expect(walker.leaves()).toEqual(["80001000+1000->40001000 rw- 6"]);
    expect(walker.tree()).toEqual(["L1 0: 1", "L1 8000000000: 0", "L2 80000000: 1", "L3 80000000: 1"]);
  });

  it("a block followed as a table in the set code is a host crash, never silent", () => {
    const f = new Fixture("v5.4");
    f.install(IPA, BLOCK, RAM, RW);
    expect(f.install(IPA + PAGE, PAGE, RAM + PAGE, RW)).toBe(STAGE2_CRASHED);
    expect(f.sim.crashed).toBeDefined();
  });
});

describe("unmapping", () => {
  const filled = (era: string, cpu: string) => {
    const f = new Fixture(era, { cpu });
    for (let i = 0; i < 3; i++) f.install(IPA + i * PAGE, PAGE, RAM + i * PAGE, RW);
    f.record();
    return f;
  };

  it("removes a block that the range touches completely", () => {
    const f = new Fixture("v6.12");
    f.install(IPA, BLOCK, RAM, RW);
    f.install(IPA + BLOCK, BLOCK, RAM + BLOCK, RW);
    f.stage2.unmapRange(f.vm, IPA + BLOCK - PAGE, 2 * PAGE);
    expect(f.leaves()).toEqual([]);
    expect(f.tree()).toEqual(["L1 0: 0", "L1 8000000000: 0"]);
  });

  it("keeps tables that still map something and frees emptied ones", () => {
    const f = filled("v5.4", "max");
    f.stage2.unmapRange(f.vm, IPA, 2 * PAGE);
    expect(f.tree()).toEqual(["L1 0: 1", "L1 8000000000: 0", "L2 80000000: 1", "L3 80000000: 1"]);
    f.stage2.unmapRange(f.vm, IPA + 2 * PAGE, PAGE);
    expect(f.tree()).toEqual(["L1 0: 0", "L1 8000000000: 0"]);
  });

  const byIpa = "dsb:ishst ipas2e1is dsb:ish vmalle1is dsb:ish";
  const set = `dsb:ishst ${byIpa}`;
  it.each([
    // one leaf of three; all three with the two tables above
    ["v5.4", "max", set, [set, set, set, set, set].join(" ")],
    ["v6.1", "max", byIpa, [byIpa, byIpa, byIpa, byIpa, byIpa].join(" ")],
    ["v6.8", "cortex-a76", byIpa, [byIpa, byIpa, byIpa, byIpa, byIpa].join(" ")],
    // deferred: one range flush; an odd page goes by IPA, first in v6.6, as what is left from v6.8 on
    ["v6.6", "max", byIpa, "dsb:ishst ipas2e1is ripas2e1is dsb:ish vmalle1is dsb:ish"],
    ["v6.8", "max", byIpa, "dsb:ishst ripas2e1is ipas2e1is dsb:ish vmalle1is dsb:ish"],
    ["v6.9", "max", byIpa, `${byIpa} ${byIpa} dsb:ishst ripas2e1is ipas2e1is dsb:ish vmalle1is dsb:ish`],
  ])("%s on %s invalidates as the kernel does", (era, cpu, one, all) => {
    const f = filled(era, cpu);
    f.stage2.unmapRange(f.vm, IPA, PAGE);
    expect(f.maintenance()).toBe(one);
    const g = filled(era, cpu);
    g.stage2.unmapRange(g.vm, IPA, 3 * PAGE);
    expect(g.maintenance()).toBe(all);
  });

  it("gives level hints where era and CPU have them, none for a removed table from v6.9", () => {
    const hints = (era: string, cpu: string) => {
      const f = filled(era, cpu);
      f.stage2.unmapRange(f.vm, IPA, 3 * PAGE);
      return f.events
        .filter((e) => e.event === "tlbi" && e["op"] === "ipas2e1is")
        .map((e) => Number(BigInt(String(e["operand"])) >> 44n))
        .join();
    };
    expect(hints("v5.4", "max")).toBe("0,0,0,0,0");
    expect(hints("v6.1", "max")).toBe("7,7,7,6,5");
    expect(hints("v6.1", "cortex-a76")).toBe("0,0,0,0,0");
    expect(hints("v6.1.192", "max")).toBe("7,7,7,0,0");
    expect(hints("v6.8", "max")).toBe("4");
    expect(hints("v6.9", "max")).toBe("0,0,0");
  });

  it("cleans what is RAM by the era's test, after the TLB invalidation, and nothing with S2FWB", () => {
    const cleaned = (era: string, cpu: string, pa: number, prot: number) => {
      const f = new Fixture(era, { cpu });
      f.install(IPA, PAGE, pa, prot);
      f.record();
      f.stage2.unmapRange(f.vm, IPA, PAGE);
      return f.events.filter((e) => e.event === "dcache_clean").length;
    };
    const device = RW | PROT_DEVICE;
    for (const era of ["v4.0", "v5.4", "v6.12"]) {
      expect([era, cleaned(era, "cortex-a76", RAM, RW), cleaned(era, "cortex-a76", BAR, device)]).toEqual([era, 1, 0]);
    }
    expect(cleaned("v4.0", "max", RAM, RW)).toBe(1);
    expect(cleaned("v5.4", "max", RAM, RW)).toBe(0);
    // A device entry over memory with a struct page, as eager mapping makes it: only the pfn tells in v5.4.
    expect([cleaned("v4.0", "cortex-a76", RAM, device), cleaned("v5.4", "cortex-a76", RAM, device)]).toEqual([0, 1]);
  });

  it("tears a VM down with TLBIs up to v5.9, without later, and leaks no table", () => {
    for (const [era, tlbis] of [
      ["v5.4", true],
      ["v6.12", false],
    ] as const) {
      const f = filled(era, "max");
      f.install(IPA + GIB, BLOCK, RAM, RW);
      f.record();
      f.stage2.teardown(f.vm);
      f.stage2.teardown(f.vm);
      expect([era, f.tables.pagesUsed, f.maintenance().includes("tlbi") || f.maintenance().includes("ipas2")]).toEqual([era, 0, tlbis]);
      expect([2, 3].map((l) => f.stage2.entries.leafCount(f.vm, l))).toEqual([0, 0]);
    }
  });
});

describe("permissions and age", () => {
  const mapped = (era: string, cpu: string, prot: number) => {
    const f = new Fixture(era, { cpu });
    f.install(IPA, PAGE, RAM, prot);
    f.record();
    return f;
  };

  it("write-protection keeps blocks, touches every leaf that meets the range, and flushes nothing", () => {
    const f = new Fixture("v6.12");
    f.install(IPA, BLOCK, RAM, RWX);
    f.install(IPA + BLOCK, PAGE, RAM + BLOCK, RW);
    f.record();
    f.stage2.wrprotectRange(f.vm, IPA + PAGE, BLOCK);
    expect(f.leaves()).toEqual(["80000000+200000->40000000 r-x 6", "80200000+1000->40200000 r-- 6"]);
    expect(f.maintenance()).toBe("");
    expect(f.events.filter((e) => e.event === "stage2_wrprotect").map((e) => [e["ipa"], e["size"]])).toEqual([[IPA + PAGE, BLOCK]]);
  });

  it.each([
    ["v6.1", "dsb:ishst ipas2e1is dsb:ish vmalle1is dsb:ish"],
    ["v6.6", "dsb:nshst ipas2e1 dsb:nsh vmalle1 dsb:nsh"],
    ["v6.8", "dsb:nshst ipas2e1 dsb:nsh vmalle1 dsb:nsh"],
  ])("%s: relax adds permissions and flushes with %s", (era, tlb) => {
    const f = mapped(era, "max", R);
    expect(f.stage2.relax(f.vm, IPA, RW)).toBe(0);
    expect(f.stage2.relax(f.vm, IPA, R | PROT_X)).toBe(0);
    expect(f.leaves()).toEqual(["80000000+1000->40000000 rwx 6"]);
    expect(f.maintenance()).toBe(`${tlb} ${tlb}`);
  });

  it("relax of a vanished entry: a flush (v6.1), -EAGAIN (v6.4, v6.6), -EAGAIN with a flush (v6.8)", () => {
    const vanished = (era: string) => {
      const f = new Fixture(era);
      f.record();
      return [f.stage2.relax(f.vm, IPA, RW), f.maintenance().length > 0];
    };
    expect(vanished("v6.1")).toEqual([0, true]);
    expect(vanished("v6.4")).toEqual([-EAGAIN, false]);
    expect(vanished("v6.6")).toEqual([-EAGAIN, false]);
    expect(vanished("v6.8")).toEqual([-EAGAIN, true]);
  });

  it("a write relax takes execute away only with the decision of v7.0 and v7.1", () => {
    const f = mapped("v7.2.12", "max", R | PROT_X);
    f.stage2.relax(f.vm, IPA, RW);
    expect(f.leaves()).toEqual(["80000000+1000->40000000 rwx 6"]);
    const g = new Fixture("v7.2.12", { set: { relaxExecute: "from-fault" } });
    g.install(IPA, PAGE, RAM, R | PROT_X);
    g.stage2.relax(g.vm, IPA, RW);
    expect(g.leaves()).toEqual(["80000000+1000->40000000 rw- 6"]);
  });

  it("maintains the caches inside the walker from v5.14, between break and make", () => {
    const cache = (era: string, cpu: string, prot: number) => {
      const f = new Fixture(era, { cpu });
      f.record();
      f.install(IPA, PAGE, RAM, prot);
      return f.events.filter((e) => e.event === "dcache_clean" || e.event === "icache_inval").map((e) => e.event);
    };
    expect(cache("v5.12", "cortex-a76", RWX)).toEqual([]);
    expect(cache("v5.14", "cortex-a76", RWX)).toEqual(["dcache_clean", "icache_inval"]);
    expect(cache("v5.14", "cortex-a76", RW)).toEqual(["dcache_clean"]);
    expect(cache("v5.14", "max", RWX)).toEqual(["icache_inval"]);
  });

  it("looks at the first leaf of a range up to v6.4, at all from v6.5, and sets AF again", () => {
    const young = (era: string) => {
      const f = new Fixture(era);
      for (let i = 0; i < 3; i++) f.install(IPA + i * PAGE, PAGE, RAM + i * PAGE, RW);
      f.stage2.age(f.vm, IPA, PAGE, true);
      return { f, found: f.stage2.age(f.vm, IPA, 3 * PAGE, true) };
    };
    expect(young("v6.1").found).toBe(false);
    const { f, found } = young("v6.8");
    expect(found).toBe(true);
    expect(f.leaves().every((l) => l.endsWith("old"))).toBe(true);
    expect(f.stage2.mkyoung(f.vm, IPA)).toBe(true);
    expect(f.leaves()[0]).toBe("80000000+1000->40000000 rw- 6");
    expect(f.stage2.mkyoung(f.vm, IPA + GIB)).toBe(false);
    expect(f.stage2.age(f.vm, IPA, PAGE, false)).toBe(true);
  });
});
