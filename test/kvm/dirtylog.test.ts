import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KVM_MEM_LOG_DIRTY_PAGES as LOG } from "../../src/kvm/memslots.js";
import { PROT_R, PROT_W } from "../../src/kvm/trace.js";
import { E2BIG, EINVAL, ENOENT, ENXIO } from "../../src/sim/errno.js";
import { Fixture, MIB, RAM, type FixtureOptions } from "./tablesfixture.js";

const HVA = 0x7f00_0000_0000;
const GPA = 0x8000_0000;
const GFN = GPA / 4096;
const SIZE = 4 * MIB;
const PAGE = 4096;

function logging(era: string, options: FixtureOptions = {}): Fixture {
  const f = new Fixture(era, options);
  expect(f.slot(1, GPA, SIZE, HVA, LOG)).toBe(0);
  return f;
}
function mark(f: Fixture, ...pages: number[]): void {
  const slot = f.memslots.find(f.vm, GFN);
  for (const p of pages) f.dirtyLog.markPageDirty(f.vm, slot, GFN + p);
}
const get = (f: Fixture) => f.run(f.dirtyLog.getDirtyLog, f.vm, 1);
const clear = (f: Fixture, first: number, n: number, masked = 0) => f.run(f.dirtyLog.clearDirtyLog, f.vm, 1, first, n, masked);
const wrprotects = (f: Fixture) =>
  f.events.filter((e) => e.event === "stage2_wrprotect").map((e) => `${(Number(e["ipa"]) - GPA) / PAGE}+${Number(e["size"]) / PAGE}`);

describe("KVM_GET_DIRTY_LOG", () => {
  it("reports and clears, protecting from the lowest to the highest page of each 64", () => {
    const f = logging("v6.12");
    for (const p of [0, 1, 3, 5, 6, 70]) f.install(GPA + p * PAGE, PAGE, RAM + p * PAGE, PROT_R | PROT_W);
    mark(f, 1, 5, 70);
    f.record();
    expect([get(f), f.dirtyLog.pages(f.vm, 1)]).toEqual([0, [1, 5, 70]]);
    expect(wrprotects(f)).toEqual(["1+5", "70+1"]);
    // Pages 3 and 5 lie between set bits; 0 and 6 outside.
    expect(f.leaves().map((l) => l.split(" ")[1])).toEqual(["rw-", "r--", "r--", "r--", "rw-", "r--"]);
    expect([get(f), f.dirtyLog.pages(f.vm, 1)]).toEqual([0, []]);
  });

  it("flushes after protecting and before copying, and not at all for a clean slot", () => {
    const f = logging("v6.12");
    f.record();
    get(f);
    expect(f.maintenance()).toBe("");
    mark(f, 3);
    get(f);
    const order = f.events.map((e) => e.event).filter((n) => ["stage2_wrprotect", "tlbi", "dirty_log_copied"].includes(n));
    expect(order).toEqual(["dirty_log_copied", "stage2_wrprotect", "tlbi", "tlbi", "dirty_log_copied"]);
  });

  it("flushes the VMID up to v6.1", () => {
    const f = logging("v6.1");
    mark(f, 3);
    f.record();
    get(f);
    expect(f.maintenance()).toBe("dsb:ishst vmalls12e1is dsb:ish");
  });

  it("can be told to forget the flush", () => {
    const f = logging("v6.12", { set: { dirtyLogFlush: "skip" } });
    mark(f, 3);
    f.record();
    get(f);
    expect(f.maintenance()).toBe("");
  });

  it("answers ENOENT without bitmap or slot, EINVAL for a bad number, ENXIO for a ring alone", () => {
    const f = new Fixture("v6.12");
    f.slot(1, GPA, SIZE, HVA);
    expect(get(f)).toBe(-ENOENT);
    expect(f.run(f.dirtyLog.getDirtyLog, f.vm, 7)).toBe(-ENOENT);
    expect(f.run(f.dirtyLog.getDirtyLog, f.vm, 40000)).toBe(-EINVAL);
    const g = new Fixture("v6.12");
    g.rings.enable(g.vm, 65536);
    g.slot(1, GPA, SIZE, HVA, LOG);
    expect([get(g), g.dirtyLog.hasBitmap(g.memslots.byId(g.vm, 1))]).toEqual([-ENXIO, false]);
  });

  it("only copies under manual protection", () => {
    const f = logging("v5.4");
    f.vms.setManualProtect(f.vm, 1);
    mark(f, 9);
    f.record();
    get(f);
    get(f);
    expect([f.dirtyLog.pages(f.vm, 1), wrprotects(f)]).toEqual([[9], []]);
  });
});

describe("KVM_CLEAR_DIRTY_LOG", () => {
  it("clears and protects only what was set, within the VMM's mask", () => {
    const f = logging("v6.12");
    f.vms.setManualProtect(f.vm, 1);
    mark(f, 1, 5, 64, 100);
    f.record();
    f.dirtyLog.setUserMask([0, 1, 2, 36]);
    expect(clear(f, 0, 1024, 1)).toBe(0);
    expect(wrprotects(f)).toEqual(["1+1"]);
    f.dirtyLog.setUserMask([0, 36]);
    expect(clear(f, 64, 64, 1)).toBe(0);
    get(f);
    expect([f.dirtyLog.pages(f.vm, 1), wrprotects(f)]).toEqual([[5], ["1+1", "64+37"]]);
    expect(clear(f, 0, 1024)).toBe(0);
    get(f);
    expect(f.dirtyLog.pages(f.vm, 1)).toEqual([]);
  });

  it("checks its range", () => {
    const f = new Fixture("v6.12");
    f.slot(1, GPA, 100 * PAGE, HVA, LOG);
    const cases: [number, number, number][] = [
      [0, 64, 0],
      [0, 100, 0],
      [64, 36, 0],
      [64, 100, -EINVAL],
      [1, 64, -EINVAL],
      [0, 65, -EINVAL],
      [128, 0, -EINVAL],
    ];
    for (const [first, n, errno] of cases) expect([first, n, clear(f, first, n)]).toEqual([first, n, errno]);
  });

  it("splits eagerly with initially-all-set, and gives the lock back", () => {
    const f = new Fixture("v6.12");
    f.regions.setSplitChunk(f.vm, 2 * MIB);
    f.vms.setManualProtect(f.vm, 3);
    f.slot(1, GPA, SIZE, HVA);
    f.install(GPA, 2 * MIB, RAM, PROT_R | PROT_W);
    f.slot(1, GPA, SIZE, HVA, LOG);
    expect(f.leaves().length).toBe(1);
    f.record();
    expect(clear(f, 0, 128)).toBe(0);
    expect(f.leaves().filter((l) => l.includes(" r-- ")).length).toBe(512);
    expect(f.events.filter((e) => e.event === "stage2_split").map((e) => Number(e["size"]) / PAGE)).toEqual([64, 64]);
    expect(f.sim.locks.isHeld(f.vms.mmuLock(f.vm))).toBe(false);
  });
});

describe("the dirty log against a shadow", () => {
  it("never misses a page, whatever the order of writes, GET and CLEAR", () => {
    const step = fc.oneof(
      fc.record({ op: fc.constant("write" as const), page: fc.nat(299) }),
      fc.record({ op: fc.constant("get" as const) }),
      fc.record({ op: fc.constant("clear" as const), word: fc.nat(3), words: fc.integer({ min: 1, max: 2 }) }),
    );
    fc.assert(
      fc.property(fc.boolean(), fc.array(step, { maxLength: 60 }), (manual, steps) => {
        const f = new Fixture("v6.12");
        f.slot(1, GPA, 300 * PAGE, HVA, LOG);
        if (manual) f.vms.setManualProtect(f.vm, 1);
        const dirty = new Set<number>();
        for (const s of steps) {
          if (s.op === "write") {
            // A guest write: through a writable entry nothing is logged, so the entry must not be writable while clean.
            const level = f.stage2.leaf(f.vm, GPA + s.page * PAGE);
            const writable = level >= 0 && (f.stage2.leafLo & 0x80) !== 0;
            if (!writable) {
              if (level >= 0) f.stage2.relax(f.vm, GPA + s.page * PAGE, PROT_W);
              else f.install(GPA + s.page * PAGE, PAGE, RAM + s.page * PAGE, PROT_R | PROT_W);
              mark(f, s.page);
            }
            dirty.add(s.page);
          } else if (s.op === "get") {
            get(f);
            expect(f.dirtyLog.pages(f.vm, 1)).toEqual([...dirty].sort((a, b) => a - b));
            if (!manual) dirty.clear();
          } else {
            const n = Math.min(s.words * 64, 300 - s.word * 64);
            expect(clear(f, s.word * 64, n)).toBe(0);
            for (const p of [...dirty]) if (p >= s.word * 64 && p < s.word * 64 + n) dirty.delete(p);
          }
        }
      }),
      { numRuns: 40, seed: 7 },
    );
  });

  it("reuses freed bitmaps without old bits", () => {
    const f = logging("v6.12");
    mark(f, 1, 2, 3);
    f.slot(1, GPA, SIZE, HVA, 0);
    f.slot(1, GPA, SIZE, HVA, LOG);
    get(f);
    expect(f.dirtyLog.pages(f.vm, 1)).toEqual([]);
  });
});

describe("dirty rings", () => {
  it("are sized as the capability checks", () => {
    const f = new Fixture("v6.12");
    const cases: [number, number][] = [
      [0, -EINVAL],
      [2048, -EINVAL],
      [5000, -EINVAL],
      [2 ** 21, -E2BIG],
      [4096, 0],
      [4096, -EINVAL],
    ];
    for (const [bytes, errno] of cases) expect([bytes, f.rings.enable(f.vm, bytes)]).toEqual([bytes, errno]);
    const late = new Fixture("v6.12");
    late.vms.addVcpu(late.vm);
    expect(late.rings.enable(late.vm, 4096)).toBe(-EINVAL);
    expect([late.rings.enableWithBitmap(late.vm), f.rings.enableWithBitmap(f.vm)]).toEqual([-EINVAL, 0]);
  });

  const ringed = () => {
    const f = new Fixture("v6.12");
    f.rings.enable(f.vm, 4096);
    f.rings.enableWithBitmap(f.vm);
    f.vms.addVcpu(f.vm);
    f.rings.createForVcpu(f.vm, 0);
    f.slot(1, GPA, SIZE, HVA, LOG);
    return f;
  };
  const write = (f: Fixture, page: number) => f.dirtyLog.markPageDirty(f.vm, f.memslots.find(f.vm, GFN), GFN + page, 0);

  it("make the vCPU leave before entry once they are full but for 64 entries", () => {
    const f = ringed();
    for (let i = 0; i < 191; i++) write(f, i);
    expect(f.rings.checkRequest(0)).toBe(false);
    write(f, 191);
    expect([f.rings.checkRequest(0), f.rings.used(0)]).toEqual([true, 192]);
    expect(f.rings.harvest(0).length).toBe(192);
    expect(f.run(f.rings.resetDirtyPages, f.vm)).toBe(192);
    expect([f.rings.checkRequest(0), f.rings.used(0)]).toEqual([false, 0]);
  });

  it("coalesce neighbours within 64 pages on reset, and flush once", () => {
    const f = ringed();
    for (const p of [10, 12, 8, 200, 263, 264]) write(f, p);
    expect(f.rings.harvest(0).map((e) => `${e.slot}:${e.offset}`)).toEqual(["1:10", "1:12", "1:8", "1:200", "1:263", "1:264"]);
    f.record();
    expect(f.run(f.rings.resetDirtyPages, f.vm)).toBe(6);
    expect(wrprotects(f)).toEqual(["8+5", "200+64", "264+1"]);
    expect(f.maintenance()).toBe("dsb:ishst vmalls12e1is dsb:ish");
  });

  it("leave marks without a vCPU to the bitmap", () => {
    const f = ringed();
    mark(f, 5);
    expect([f.rings.used(0), get(f), f.dirtyLog.pages(f.vm, 1)]).toEqual([0, 0, [5]]);
    expect(new Fixture("v6.12").run(f.rings.resetDirtyPages, 0)).toBe(-EINVAL);
  });
});
