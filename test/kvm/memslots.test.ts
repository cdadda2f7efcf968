import { describe, expect, it } from "vitest";
import { KVM_MEM_LOG_DIRTY_PAGES as LOG, KVM_MEM_READONLY as RO } from "../../src/kvm/memslots.js";
import { PROT_R, PROT_W } from "../../src/kvm/trace.js";
import { VM_MTE_ALLOWED, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE } from "../../src/mmu/vmflags.js";
import { BLOCKED } from "../../src/sim/agents.js";
import { EEXIST, EFAULT, EINVAL, EPERM } from "../../src/sim/errno.js";
import { Fixture, GIB, MIB, RAM, type FixtureOptions } from "./tablesfixture.js";

const HVA = 0x7f00_0000_0000;
const GPA = 0x8000_0000;
const SIZE = 4 * MIB;
const PAGE = 4096;

/** A machine with slot 1 over 4 MiB. */
function slotted(era: string, options: FixtureOptions = {}): Fixture {
  const f = new Fixture(era, options);
  f.vmas.push({ start: HVA, end: HVA + 64 * MIB, flags: VM_READ | VM_WRITE });
  expect(f.slot(1, GPA, SIZE, HVA)).toBe(0);
  return f;
}
const wrprotects = (f: Fixture) => f.events.filter((e) => e.event === "stage2_wrprotect").map((e) => [e["ipa"], e["size"]]);
const unmaps = (f: Fixture) => f.events.filter((e) => e.event === "stage2_unmap").map((e) => [e["ipa"], e["size"]]);

describe("the errno of KVM_SET_USER_MEMORY_REGION", () => {
  const cases: readonly (readonly [string, number, readonly [id: number, gpa: number, size: number, hva: number, flags?: number]])[] = [
    ["slot number beyond the limit", -EINVAL, [32767, GPA, SIZE, HVA]],
    ["another address space", -EINVAL, [0x10001, GPA + SIZE, SIZE, HVA]],
    ["unknown flag", -EINVAL, [2, GPA + SIZE, SIZE, HVA, 4]],
    ["size no multiple of the page", -EINVAL, [2, GPA + SIZE, PAGE + 1, HVA]],
    ["guest address not aligned", -EINVAL, [2, GPA + SIZE + 1, PAGE, HVA]],
    ["host address not aligned", -EINVAL, [2, GPA + SIZE, PAGE, HVA + 8]],
    ["host range beyond the user's addresses", -EINVAL, [2, GPA + SIZE, 2 * PAGE, 2 ** 48 - PAGE]],
    ["more than 2^31 - 1 pages", -EINVAL, [2, 0x1_0000_0000, 2 ** 43, HVA]],
    ["deleting what is not there", -EINVAL, [2, 0, 0, 0]],
    ["another host address for the slot", -EINVAL, [1, GPA, SIZE, HVA + PAGE]],
    ["another size", -EINVAL, [1, GPA, SIZE + PAGE, HVA]],
    ["another READONLY flag", -EINVAL, [1, GPA, SIZE, HVA, RO]],
    ["nothing changed", 0, [1, GPA, SIZE, HVA]],
    ["overlapping guest addresses", -EEXIST, [2, GPA + SIZE - PAGE, 2 * PAGE, HVA]],
    ["moving over its own old range", 0, [1, GPA + PAGE, SIZE, HVA]],
    ["overlapping host addresses", 0, [2, GPA + SIZE, SIZE, HVA]],
    ["beyond the IPA space", -EFAULT, [2, 2 ** 40 - PAGE, 2 * PAGE, HVA]],
    ["a hole without any VMA", 0, [2, GPA + SIZE, SIZE, 0x1000_0000]],
  ];
  it.each(cases)("%s: %i", (_what, errno, args) => {
    const f = slotted("v6.12");
    const generation = f.vms.generation(f.vm);
    expect(f.slot(...args)).toBe(errno);
    if (errno !== 0) expect([f.memslots.count(f.vm), f.vms.generation(f.vm)]).toEqual([1, generation]);
    expect(f.sim.locks.isHeld(f.vms.slotsLock(f.vm))).toBe(false);
    expect(f.sim.locks.isHeld(f.mmapLock)).toBe(false);
  });

  it("the last page of the IPA space is unusable up to v5.11", () => {
    const last = (era: string) => new Fixture(era).slot(0, 2 ** 40 - PAGE, PAGE, HVA);
    expect([last("v5.11"), last("v5.12")]).toEqual([-EFAULT, 0]);
  });

  it("the number of slots is 32, 512, 32767", () => {
    const most = (era: string, id: number) => new Fixture(era).slot(id, GPA, PAGE, HVA);
    expect([most("v4.0", 31), most("v4.0", 32)]).toEqual([0, -EINVAL]);
    expect([most("v5.4", 511), most("v5.4", 512)]).toEqual([0, -EINVAL]);
    expect([most("v6.1", 32766), most("v6.1", 32767)]).toEqual([0, -EINVAL]);
  });

  it("a writable slot over a VMA without VM_WRITE is EPERM up to v5.5, and the range is emptied again", () => {
    const ro = (era: string, flags: number) => {
      const f = new Fixture(era);
      f.vmas.push({ start: HVA, end: HVA + SIZE, flags: VM_READ });
      f.record();
      return [f.slot(1, GPA, SIZE, HVA, flags), unmaps(f).length, f.memslots.count(f.vm)];
    };
    expect(ro("v5.4", 0)).toEqual([-EPERM, 1, 0]);
    expect(ro("v5.4", RO)).toEqual([0, 0, 1]);
    expect(ro("v5.6", 0)).toEqual([0, 0, 1]);
  });

  it("a PROT_NONE reservation behind the backing counts as such a VMA", () => {
    const f = new Fixture("v5.5");
    f.vmas.push({ start: HVA, end: HVA + MIB, flags: VM_READ | VM_WRITE }, { start: HVA + MIB, end: HVA + 2 * MIB, flags: 0 });
    expect([f.slot(1, GPA, 2 * MIB, HVA), f.slot(1, GPA, MIB, HVA)]).toEqual([-EPERM, 0]);
  });

  it("logging on PFNMAP is EINVAL in every era and leaves stage 2 alone", () => {
    for (const era of ["v4.0", "v5.4", "v5.14", "v6.12", "v7.2.12"]) {
      const f = new Fixture(era);
      f.vmas.push({ start: HVA, end: HVA + SIZE, flags: VM_READ | VM_WRITE | VM_PFNMAP, pageProt: 1 });
      f.record();
      expect([era, f.slot(1, GPA, SIZE, HVA, LOG), unmaps(f)]).toEqual([era, -EINVAL, []]);
      expect(f.slot(1, GPA, SIZE, HVA)).toBe(0);
      expect([era, f.slot(1, GPA, SIZE, HVA, LOG), f.memslots.flags(f.memslots.byId(f.vm, 1))]).toEqual([era, -EINVAL, 0]);
    }
  });

  it("the MTE rules: shared refused with the lock leaked, shared refused, VM_MTE_ALLOWED needed", () => {
    const mte = (era: string, flags: number) => {
      const f = new Fixture(era);
      f.vmas.push({ start: HVA, end: HVA + SIZE, flags: VM_READ | VM_WRITE | flags });
      f.vms.setMte(f.vm, true);
      return [f.slot(1, GPA, SIZE, HVA), f.sim.locks.isHeld(f.mmapLock)];
    };
    expect(mte("v5.14", VM_SHARED)).toEqual([-EINVAL, true]);
    expect(mte("v6.1", VM_SHARED)).toEqual([-EINVAL, false]);
    expect(mte("v6.4", VM_SHARED | VM_MTE_ALLOWED)).toEqual([0, false]);
    expect(mte("v6.4", 0)).toEqual([-EINVAL, false]);
  });

  it("a cacheable PFNMAP VMA needs S2FWB and DIC from v6.17", () => {
    const cacheable = (era: string, cpu: string) => {
      const f = new Fixture(era, { cpu });
      f.vmas.push({ start: HVA, end: HVA + SIZE, flags: VM_READ | VM_WRITE | VM_PFNMAP, pageProt: 0 });
      return f.slot(1, GPA, SIZE, HVA);
    };
    expect([cacheable("v6.13", "max"), cacheable("v6.17", "max"), cacheable("v6.17", "neoverse-v1")]).toEqual([0, -EINVAL, 0]);
  });
});

describe("an update", () => {
  it("of a slot that is deleted or moved empties its old range, told once", () => {
    const f = slotted("v6.12");
    f.install(GPA, PAGE, RAM, PROT_R | PROT_W);
    f.record();
    expect(f.slot(1, GPA + GIB, SIZE, HVA)).toBe(0);
    expect([unmaps(f), f.leaves()]).toEqual([[[GPA, SIZE]], []]);
    expect([f.memslots.find(f.vm, GPA / PAGE), f.memslots.id(f.memslots.find(f.vm, (GPA + GIB) / PAGE))]).toEqual([-1, 1]);
    expect(f.slot(1, 0, 0, 0)).toBe(0);
    expect([unmaps(f), f.memslots.count(f.vm)]).toEqual([
      [
        [GPA, SIZE],
        [GPA + GIB, SIZE],
      ],
      0,
    ]);
  });

  it("of a failed move brings the old slot back, its stage-2 entries gone", () => {
    const f = slotted("v6.12");
    f.install(GPA, PAGE, RAM, PROT_R | PROT_W);
    expect(f.slot(1, 2 ** 40 - PAGE, SIZE, HVA)).toBe(-EFAULT);
    const slot = f.memslots.find(f.vm, GPA / PAGE);
    expect([f.memslots.valid(slot), f.leaves(), f.memslots.count(f.vm)]).toEqual([true, [], 1]);
  });

  it("shows faults an INVALID slot until readers that hold the old one are gone", () => {
    const f = slotted("v6.12");
    const held = f.memslots.find(f.vm, GPA / PAGE);
    const index = f.vms.srcuReadLock(f.vm);
    f.sim.agents.start(0, f.regions.setUserMemoryRegion, f.vm, 1, 0, 0, 0, 0);
    expect(f.sim.agents.runToEnd(0)).toBe(false);
    const seen = f.memslots.find(f.vm, GPA / PAGE);
    expect([f.memslots.valid(seen), f.memslots.gfnToHva(seen, GPA / PAGE)]).toEqual([false, -1]);
    // The reader's own pointer still says what it said.
    expect([f.memslots.valid(held), f.memslots.gfnToHva(held, GPA / PAGE + 1)]).toEqual([true, HVA + PAGE]);
    expect(f.sim.agents.backtrace(0)[0]).toBe("installNewMemslots:synchronize-srcu");
    f.vms.srcuReadUnlock(f.vm, index);
    expect(f.sim.agents.runToEnd(0)).toBe(true);
    expect(f.memslots.find(f.vm, GPA / PAGE)).toBe(-1);
  });

  it("waits for active MMU-notifier invalidations from v5.15 on", () => {
    const blocked = (era: string) => {
      const f = new Fixture(era);
      f.vms.addMnActive(f.vm, 1);
      f.sim.agents.start(0, f.regions.setUserMemoryRegion, f.vm, 1, 0, GPA, SIZE, HVA);
      const done = f.sim.agents.runToEnd(0);
      f.vms.addMnActive(f.vm, -1);
      return [done, f.sim.agents.runToEnd(0)];
    };
    expect([blocked("v5.14"), blocked("v6.1")]).toEqual([
      [true, true],
      [false, true],
    ]);
    expect(BLOCKED).toBeLessThan(0);
  });

  it("to logging write-protects the whole slot and flushes; turning it off restores nothing", () => {
    const f = slotted("v6.12");
    f.install(GPA, 2 * MIB, RAM, PROT_R | PROT_W);
    f.record();
    expect(f.slot(1, GPA, SIZE, HVA, LOG)).toBe(0);
    expect([wrprotects(f), f.leaves()]).toEqual([[[GPA, SIZE]], ["80000000+200000->40000000 r-- 6"]]);
    expect(f.maintenance()).toContain("ripas2e1is");
    expect(f.slot(1, GPA, SIZE, HVA, 0)).toBe(0);
    expect(f.leaves()).toEqual(["80000000+200000->40000000 r-- 6"]);
    expect(f.memslots.bitmap(f.memslots.byId(f.vm, 1))).toBe(-1);
  });

  it("to logging with initially-all-set protects nothing", () => {
    const f = slotted("v6.12");
    f.vms.setManualProtect(f.vm, 3);
    f.record();
    expect([f.slot(1, GPA, SIZE, HVA, LOG), wrprotects(f)]).toEqual([0, []]);
    expect(f.run(f.dirtyLog.getDirtyLog, f.vm, 1)).toBe(0);
    expect(f.dirtyLog.pages(f.vm, 1).length).toBe(SIZE / PAGE);
  });

  it("to logging splits blocks eagerly where a chunk size is set", () => {
    const f = new Fixture("v6.12");
    expect([f.regions.setSplitChunk(f.vm, 3 * MIB), f.regions.setSplitChunk(f.vm, 2 * MIB)]).toEqual([-EINVAL, 0]);
    expect(f.slot(1, GPA, 2 * GIB, HVA)).toBe(0);
    expect(f.regions.setSplitChunk(f.vm, 0)).toBe(-EINVAL);
    f.install(GPA, 2 * MIB, RAM, PROT_R | PROT_W);
    f.install(GPA + GIB, 2 * MIB, RAM + 2 * MIB, PROT_R | PROT_W);
    const events = f.record();
    expect(f.slot(1, GPA, 2 * GIB, HVA, LOG)).toBe(0);
    expect(f.dump.leaves(f.vm).map((l) => `${l.level}${l.s2ap}`)).toEqual(Array(1024).fill("31"));
    expect(f.dump.leaves(f.vm)[1023]!.pa).toBe(RAM + 4 * MIB - PAGE);
    f.tree();
    expect(events.filter((e) => e.event === "stage2_split").map((e) => e["size"])).toEqual([2 * GIB]);
    expect(f.sim.locks.isHeld(f.vms.mmuLock(f.vm))).toBe(false);
  });

  it("of a large slot lets others take mmu_lock between its chunks", () => {
    const f = new Fixture("v6.12");
    f.slot(1, GPA, 4 * GIB, HVA);
    for (let i = 0; i < 4; i++) f.install(GPA + i * GIB, PAGE, RAM + i * PAGE, PROT_R | PROT_W);
    const lock = f.vms.mmuLock(f.vm);
    f.sim.agents.start(0, f.regions.setUserMemoryRegion, f.vm, 1, 0, 0, 0, 0);
    const left = new Set<number>();
    while (f.sim.agents.busy(0)) {
      expect(f.sim.agents.step(0)).toBe(true);
      expect(f.sim.locks.isHeld(lock)).toBe(false);
      left.add(f.leaves().length);
    }
    expect([...left]).toEqual([4, 3, 2, 1, 0]);
  });

  it("splits a 1 GiB block to pages with enough tables, and level by level without", () => {
    for (const chunk of [GIB, 2 * MIB]) {
      const f = new Fixture("v6.12");
      f.regions.setSplitChunk(f.vm, chunk);
      f.slot(1, GPA, GIB, HVA);
      f.install(GPA, GIB, RAM, PROT_R | PROT_W);
      f.slot(1, GPA, GIB, HVA, LOG);
      expect([chunk, f.stage2.entries.leafCount(f.vm, 3), f.stage2.entries.leafCount(f.vm, 2)]).toEqual([chunk, 262144, 0]);
    }
  });
});

describe("lookups", () => {
  it("find 512 slots by guest frame, with gaps between them", () => {
    const f = new Fixture("v5.4");
    for (let i = 511; i >= 0; i--) expect(f.slot(i, GPA + i * 4 * PAGE, 2 * PAGE, HVA + i * 16 * PAGE)).toBe(0);
    for (let i = 0; i < 512; i++) {
      const gfn = GPA / PAGE + i * 4;
      expect([gfn - 1, gfn, gfn + 1, gfn + 2].map((g) => f.memslots.find(f.vm, g)).map((s) => (s < 0 ? -1 : f.memslots.id(s)))).toEqual([
        -1,
        i,
        i,
        -1,
      ]);
    }
    expect(f.memslots.gfnToHva(f.memslots.find(f.vm, GPA / PAGE + 9), GPA / PAGE + 9)).toBe(HVA + 2 * 16 * PAGE + PAGE);
  });

  it("meet slots that share host addresses by falling gfn up to v5.16, by host address later", () => {
    const met = (era: string) => {
      const f = new Fixture(era);
      f.slot(1, GPA, 4 * PAGE, HVA + PAGE);
      f.slot(2, GPA - GIB, 4 * PAGE, HVA);
      f.slot(3, GPA + GIB, 4 * PAGE, HVA + PAGE);
      f.slot(4, GPA + 2 * GIB, 4 * PAGE, HVA + 64 * PAGE);
      const out: number[] = [];
      const range = [HVA + 2 * PAGE, HVA + 3 * PAGE] as const;
      for (let at = f.memslots.nextInHvaRange(f.vm, -1, ...range); at >= 0; at = f.memslots.nextInHvaRange(f.vm, at, ...range)) {
        out.push(f.memslots.id(f.memslots.at(f.vm, at)));
      }
      return out;
    };
    // 1 and 3 begin at the same host address: the tree keeps them in the order of their creation.
    expect([met("v5.14"), met("v6.1")]).toEqual([
      [3, 1, 2],
      [2, 1, 3],
    ]);
  });

  it("stay fast and right with the most slots that there can be, created and deleted in any order", () => {
    const f = new Fixture("v6.12", { type: 48 });
    const n = 32767;
    // 7919 is prime: every slot once, scattered.
    for (let i = 0; i < n; i++) expect(f.slot((i * 7919) % n, GPA + i * PAGE, PAGE, HVA + i * PAGE)).toBe(0);
    expect(f.memslots.count(f.vm)).toBe(n);
    for (let i = 0; i < n; i += 1000) expect(f.memslots.id(f.memslots.find(f.vm, GPA / PAGE + i))).toBe((i * 7919) % n);
    for (let i = 0; i < n; i += 1024) expect(f.slot((i * 7919) % n, 0, 0, 0)).toBe(0);
    expect([f.memslots.find(f.vm, GPA / PAGE + 1024), f.memslots.count(f.vm)]).toEqual([-1, n - 32]);
    expect(f.slot(0, GPA + PAGE, PAGE, HVA)).not.toBe(0);
  });

  it("by host address find a long slot that begins far below", () => {
    const f = new Fixture("v6.12");
    f.slot(0, GPA, GIB, HVA);
    for (let i = 1; i < 50; i++) f.slot(i, GPA + GIB + i * PAGE, PAGE, HVA + i * 16 * PAGE);
    const at = f.memslots.nextInHvaRange(f.vm, -1, HVA + GIB - PAGE, HVA + GIB);
    expect([f.memslots.id(f.memslots.at(f.vm, at)), f.memslots.nextInHvaRange(f.vm, at, HVA + GIB - PAGE, HVA + GIB)]).toEqual([0, -1]);
  });

  it("keep the VMs apart", () => {
    const f = slotted("v6.12");
    const other = f.vms.create(0);
    expect([f.memslots.find(other, GPA / PAGE), f.memslots.count(other)]).toEqual([-1, 0]);
    expect(f.run(f.regions.setUserMemoryRegion, other, 1, 0, GPA, SIZE, HVA)).toBe(0);
    expect(f.slot(1, 0, 0, 0)).toBe(0);
    expect([f.memslots.count(f.vm), f.memslots.count(other)]).toEqual([0, 1]);
  });

  it("are undone by rollback", () => {
    const f = slotted("v6.12");
    f.sim.state.startRecording();
    const hash = f.sim.state.hash();
    const mark = f.sim.state.mark();
    f.slot(2, GPA + SIZE, SIZE, HVA, LOG);
    f.slot(1, 0, 0, 0);
    f.sim.state.rollback(mark);
    expect([f.sim.state.hash(), f.memslots.count(f.vm)]).toEqual([hash, 1]);
  });
});
