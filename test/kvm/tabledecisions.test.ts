import { describe, expect, it } from "vitest";
import { answer, ERAS } from "../../src/eras.js";
import { kvmTableDecisions } from "../../src/kvm/decisions-tables.js";
import { KVM_MEM_LOG_DIRTY_PAGES as LOG } from "../../src/kvm/memslots.js";
import { PROT_R, PROT_W } from "../../src/kvm/trace.js";
import { EINVAL } from "../../src/sim/errno.js";
import { Fixture, GIB, MIB, RAM } from "./tablesfixture.js";

const IPA = 0x8000_0000;
const RW = PROT_R | PROT_W;

describe("the decisions of tables, memslots and dirty logging", () => {
  it("have a source in every era", () => {
    for (const [name, decision] of Object.entries(kvmTableDecisions)) {
      for (const era of ERAS) expect([name, era.name, answer(decision, era.name)?.source ?? ""]).not.toContain("");
    }
  });

  it("ipaSize: v4.10 refuses a type argument that v4.20 takes", () => {
    expect([new Fixture("v4.10").vms.create(0, 36), new Fixture("v4.20").vms.create(0, 36)]).toEqual([-EINVAL, 1]);
  });

  it("ipaDefaultBelowLimit: 40 bits on a 36-bit host are accepted in v5.4, refused in v5.12", () => {
    const features = { paBits: 36 };
    expect(new Fixture("v5.4", { features, type: 36 }).vms.create(0)).toBe(1);
    expect(new Fixture("v5.12", { features, type: 36 }).vms.create(0)).toBe(-EINVAL);
  });

  it("vtcrHardwareAccessFlag: never in v4.0, where implemented in v4.10, always in v4.20", () => {
    const ha = (era: string, cpu: string) => {
      const f = new Fixture(era, { cpu });
      return (f.vms.vtcrLo(f.vm) >>> 21) & 1;
    };
    expect(["v4.0", "v4.10", "v4.20", "v6.8"].map((era) => `${ha(era, "max")}${ha(era, "cortex-a72")}`)).toEqual(["00", "10", "11", "11"]);
  });

  it("stage2PudBlocks: v4.20 sets a page where v5.4 sets a 1 GiB block", () => {
    const size = (era: string) => {
      const f = new Fixture(era);
      f.install(IPA, GIB, RAM, RW);
      return f.dump.leaves(f.vm)[0]!.size;
    };
    expect([size("v4.20"), size("v5.4")]).toEqual([4096, GIB]);
  });

  it("walkChunk: 512 GiB of a four-level VM at once up to v5.14, 1 GiB from v6.1", () => {
    const end = (era: string) => {
      const f = new Fixture(era, { type: 48 });
      return f.stage2.unmapper.chunkEnd(f.vm, IPA, 2 ** 47);
    };
    expect([end("v5.14"), end("v6.1")]).toEqual([2 ** 39, IPA + GIB]);
  });

  it("walkStep: from the middle of 2 MiB without a table, v5.10 and v5.11 go past the first pages of the next 2 MiB", () => {
    const [FIRST, SECOND, HALF] = [IPA + 2 * MIB, IPA + 2 * MIB + 4096, IPA + 3 * MIB];
    const mapped = (era: string) => {
      const f = new Fixture(era);
      for (const ipa of [FIRST, SECOND, HALF]) f.install(ipa, 4096, RAM, RW);
      return f;
    };
    const unmapped = (era: string, end: number) => {
      const f = mapped(era);
      f.stage2.unmapper.range(f.vm, IPA + MIB, end - (IPA + MIB));
      return f.dump.leaves(f.vm).map((l) => l.ipa);
    };
    const protectedOnes = (era: string) => {
      const f = mapped(era);
      f.stage2.attributes.wrprotect(f.vm, IPA + MIB, 4 * MIB);
      return f.dump.leaves(f.vm).flatMap((l) => ((l.s2ap & 2) === 0 ? [l.ipa] : []));
    };
    for (const era of ["v4.0", "v5.8", "v5.10.223", "v5.12", "v7.2.12"]) {
      expect(unmapped(era, FIRST + 2 * 4096), era).toEqual([HALF]);
      expect(unmapped(era, IPA + 5 * MIB), era).toEqual([]);
      expect(protectedOnes(era), era).toEqual([FIRST, SECOND, HALF]);
    }
    for (const era of ["v5.10", "v5.11"]) {
      expect(unmapped(era, FIRST + 2 * 4096), era).toEqual([FIRST, SECOND, HALF]);
      expect(unmapped(era, IPA + 5 * MIB), era).toEqual([FIRST, SECOND]);
      expect(protectedOnes(era), era).toEqual([HALF]);
    }
  });

  it("walkStep: a walk that is out of step stays so from one table to the next", () => {
    const left = (era: string) => {
      const f = new Fixture(era, { type: 48 });
      const next = GIB * 3;
      f.install(IPA, 4096, RAM, RW);
      for (const ipa of [next, next + 2 * MIB]) f.install(ipa, 4096, RAM, RW);
      f.stage2.unmapper.range(f.vm, IPA + 3 * MIB, 2 * GIB);
      return f.dump.leaves(f.vm).map((l) => l.ipa);
    };
    expect([left("v5.8"), left("v5.10")]).toEqual([[IPA], [IPA, GIB * 3]]);
  });

  it("eagerSplit: a chunk size is refused in v6.4", () => {
    const ask = (era: string) => {
      const f = new Fixture(era);
      return f.regions.setSplitChunk(f.vm, 2 * MIB);
    };
    expect([ask("v6.4"), ask("v6.8")]).toEqual([-EINVAL, 0]);
  });

  it("lostTable: a split that finds the tables torn down is an error in v6.12, none in v6.12.117", () => {
    const split = (era: string) => {
      const f = new Fixture(era);
      f.regions.setSplitChunk(f.vm, 2 * MIB);
      const lock = f.vms.mmuLock(f.vm);
      f.sim.agents.start(0, f.stage2.splitter.splitHugePages, f.vm, IPA, IPA + GIB);
      f.sim.agents.step(0);
      f.sim.locks.write(lock);
      f.sim.agents.step(0);
      f.stage2.teardown(f.vm);
      while (f.sim.agents.busy(0)) f.sim.agents.step(0);
      return f.sim.agents.result(0);
    };
    expect([split("v6.12"), split("v6.12.117")]).toEqual([-EINVAL, 0]);
  });

  it("relaxAgainHint: the flush after a lost race has a level in v6.12, none in v7.1", () => {
    const hint = (era: string) => {
      const f = new Fixture(era);
      f.record();
      f.stage2.relax(f.vm, IPA, RW);
      const tlbi = f.events.find((e) => e.event === "tlbi");
      return Number(BigInt(String(tlbi?.["operand"])) >> 44n);
    };
    expect([hint("v6.12"), hint("v6.12.117"), hint("v7.2.12")]).toEqual([4, 0, 0]);
  });

  it("nvheLeadingBarrier: DSB ISHST of its own up to v6.1, the context switch's DSB ISH from v6.4", () => {
    const order = (era: string, cpu: string) => {
      const f = new Fixture(era, { cpu });
      f.record();
      f.stage2.flushRemoteTlbs(f.vm);
      return f.maintenance();
    };
    expect(order("v6.1", "cortex-a72")).toBe("dsb:ishst vmalls12e1is dsb:ish");
    expect(order("v6.4", "cortex-a72")).toBe("dsb:ish vmalls12e1is dsb:ish");
    expect(order("v6.8", "cortex-a76")).toBe("dsb:ishst vmalls12e1is dsb:ish");
  });

  it("rolloverIcache: instruction caches go too up to v4.20", () => {
    const order = (era: string) => {
      const f = new Fixture(era);
      f.record();
      f.stage2.tlb.flushAll();
      return `${f.maintenance()} ${f.events.filter((e) => e.event === "icache_inval").length}`;
    };
    expect([order("v4.20"), order("v5.4")]).toEqual(["dsb:ishst alle1is dsb:ish 1", "dsb:ishst alle1is dsb:ish 0"]);
  });

  it("dirtyInitiallySet: mode 3 protects at once where the kernel does not know bit 1", () => {
    const pages = (era: string) => {
      const f = new Fixture(era);
      f.vms.setManualProtect(f.vm, 3);
      f.slot(1, IPA, 4 * 4096, 0x7f00_0000_0000, LOG);
      f.run(f.dirtyLog.getDirtyLog, f.vm, 1);
      return f.dirtyLog.pages(f.vm, 1).length;
    };
    expect([pages("v5.4"), pages("v5.8")]).toEqual([0, 4]);
  });

  it("range flushes take the fewest operations, and one by IPA for an odd page", () => {
    const f = new Fixture("v6.12");
    f.record();
    f.stage2.tlb.flushRange(f.vm, IPA, (2 ** 21 + 65536 + 3) * 4096);
    expect(f.maintenance()).toBe(
      "dsb:ishst ripas2e1is dsb:ish vmalle1is dsb:ish dsb:ishst ripas2e1is ripas2e1is ipas2e1is dsb:ish vmalle1is dsb:ish",
    );
  });

  it("the end of a VM frees tables, memslots and bitmaps, and leaves other VMs alone", () => {
    const f = new Fixture("v6.12");
    const other = f.vms.create(0);
    f.slot(1, IPA, 4 * MIB, 0x7f00_0000_0000, LOG);
    f.install(IPA, 4096, RAM, RW);
    expect(f.run(f.teardown.destroyVm, f.vm)).toBe(0);
    expect([f.vms.alive(f.vm), f.vms.alive(other), f.memslots.count(f.vm), f.tables.pagesUsed]).toEqual([false, true, 0, 2]);
    expect(f.memslots.find(f.vm, IPA / 4096)).toBe(-1);
  });

  it("a VM created again after a rollback is the same VM, to the hash", () => {
    const f = new Fixture("v6.12");
    f.sim.state.startRecording();
    const mark = f.sim.state.mark();
    f.vms.create(0);
    const hash = f.sim.state.hash();
    f.sim.state.rollback(mark);
    f.vms.create(0);
    expect(f.sim.state.hash()).toBe(hash);
  });
});
