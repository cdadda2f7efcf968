/** Pages that the kernel moves, merges or takes away on its own: migration, reclaim, KSM, aging. */
import { describe, expect, it } from "vitest";
import { MADV_MERGEABLE, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { AGE_CLEAR, AGE_CLEAR_FLUSH, AGE_TEST } from "../../src/mmu/reclaim.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { Bench } from "./faultbench.js";

const RW = PROT_READ | PROT_WRITE;
const ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
const AT = 0x10000000;
const PAGE = ["S 10000000-10001000", "E 10000000-10001000"];

function small(era = "v6.12"): Bench {
  const b = new Bench(era);
  b.map(AT, 0x400000, RW, ANON);
  b.run(b.mm.syscalls.madvise, 0, AT, 0x400000, MADV_NOHUGEPAGE);
  b.told();
  return b;
}
const pfnAt = (b: Bench, addr: number, mm = 0) => (b.mm.pt.walk(mm, addr) ? b.mm.pt.leafPfn : -1);
const without = (notes: string[]) => notes.filter((n) => !n.startsWith("P"));

describe("migration", () => {
  it("moves a page with one S and E, contents and permissions kept, and gives the old frame back", () => {
    const b = small();
    b.write(AT, 77);
    const [old, before] = [pfnAt(b, AT), b.mm.frames.allocated];
    expect(b.run(b.mm.migrate.migratePage, 0, AT)).toBe(0);
    expect(b.told()).toEqual(PAGE);
    expect(pfnAt(b, AT)).not.toBe(old);
    expect(b.mm.frames.allocated).toBe(before);
    expect(b.leaves()).toEqual(["10000000 3 w"]);
    b.read(AT);
    expect(b.result(1)).toBe(77);
    b.write(AT, 78);
    expect(b.told()).toEqual([]);
  });

  it("a fault in the middle waits for the end of it", () => {
    const b = small();
    b.write(AT, 5);
    const kernel = b.sim.agents.add("kcompactd", "kthread", 0);
    b.sim.agents.start(kernel, b.mm.migrate.migratePage, 0, AT);
    while (b.sim.agents.backtrace(kernel)[0] !== "migratePages:moveToNewPage") b.sim.agents.step(kernel);
    b.sim.agents.start(b.vmm, b.mm.hostAccess, 0, AT, 8, 0, 0, 0);
    expect(b.sim.agents.runToEnd(b.vmm)).toBe(false);
    expect(b.sim.agents.runToEnd(kernel)).toBe(true);
    expect(b.sim.agents.runToEnd(b.vmm)).toBe(true);
    expect(b.result(1)).toBe(5);
  });

  it("moves what is shared after fork in every address space, and 2 MiB pages whole", () => {
    const b = small();
    b.write(AT, 5);
    const child = b.run(b.mm.syscalls.fork, 0);
    b.told();
    expect(b.run(b.mm.migrate.migratePage, 0, AT)).toBe(0);
    expect(pfnAt(b, AT, child)).toBe(pfnAt(b, AT));
    expect(b.mm.frames.refcount(pfnAt(b, AT))).toBe(2);
    const t = new Bench();
    t.map(AT, 0x200000, RW, ANON);
    t.write(AT + 0x3000, 9);
    t.told();
    expect(t.run(t.mm.migrate.migratePage, 0, AT + 0x3000)).toBe(0);
    expect(t.told()).toEqual(["S 10000000-10200000", "E 10000000-10200000"]);
    expect(t.leaves()).toEqual(["10000000 2 w"]);
    t.read(AT + 0x3000);
    expect(t.result(1)).toBe(9);
  });

  it("moves a memfd page in every mapping and in the page cache", () => {
    const b = new Bench();
    const fd = b.mm.files.createMemfd(0x4000);
    b.map(AT, 0x4000, RW, MAP_SHARED | MAP_FIXED, fd);
    b.map(AT + 0x100000, 0x4000, RW, MAP_SHARED | MAP_FIXED, fd);
    b.write(AT + 0x1000, 3);
    b.read(AT + 0x101000);
    b.told();
    const before = b.mm.frames.allocated;
    expect(b.run(b.mm.migrate.migratePage, 0, AT + 0x1000)).toBe(0);
    expect(b.told().length).toBe(4);
    expect(b.mm.files.cache.find(fd, 1)).toBe(pfnAt(b, AT + 0x1000));
    expect(pfnAt(b, AT + 0x101000)).toBe(pfnAt(b, AT + 0x1000));
    expect([b.mm.frames.refcount(pfnAt(b, AT + 0x1000)), b.mm.frames.allocated]).toEqual([3, before]);
    b.read(AT + 0x101000);
    expect(b.result(1)).toBe(3);
  });

  it("leaves a page alone that somebody holds, and what cannot move", () => {
    const b = small();
    b.write(AT, 1);
    const pfn = b.gup(AT, 0);
    expect(b.run(b.mm.migrate.migratePage, 0, AT)).toBe(-11);
    expect(pfnAt(b, AT)).toBe(pfn);
    b.mm.frames.put(pfn);
    expect(b.run(b.mm.migrate.migratePage, 0, AT)).toBe(0);
    b.read(AT + 0x1000);
    expect(b.run(b.mm.migrate.migratePage, 0, AT + 0x1000)).toBe(-16);
    expect(b.run(b.mm.migrate.migratePage, 0, AT + 0x2000)).toBe(-2);
  });
});

describe("reclaim", () => {
  it("leaves a young page, takes an old one, and a fault brings it back without an event", () => {
    for (const era of ["v4.0", "v5.4", "v6.12"]) {
      const b = small(era);
      b.write(AT, 42);
      expect(b.run(b.mm.reclaim.reclaimPage, 0, AT, 0)).toBe(-11);
      expect(b.told()).toEqual([]);
      expect(b.run(b.mm.reclaim.reclaimPage, 0, AT, 0)).toBe(0);
      expect(b.told()).toEqual(PAGE);
      expect(b.leaves()).toEqual([]);
      b.read(AT);
      expect(b.result(1)).toBe(42);
      expect(b.told()).toEqual([]);
      b.write(AT, 43);
      expect(b.told()).toEqual([]);
    }
  });

  it("a swapped page survives fork, is copied for the first writer, and goes with its entries", () => {
    for (const era of ["v4.0", "v5.11", "v6.12"]) {
      const b = small(era);
      const before = b.mm.frames.allocated;
      b.write(AT, 42);
      b.run(b.mm.reclaim.reclaimPage, 0, AT, 1);
      const child = b.run(b.mm.syscalls.fork, 0);
      b.told();
      b.write(AT, 1);
      expect(without(b.told())).toEqual(PAGE);
      b.run(b.mm.hostAccess, child, AT, 8, 0, 0, 0);
      expect(b.result(1)).toBe(42);
      b.run(b.mm.syscalls.exitMm, child);
      b.write(AT + 0x1000, 1);
      b.run(b.mm.reclaim.reclaimPage, 0, AT + 0x1000, 1);
      b.run(b.mm.syscalls.munmap, 0, AT, 0x400000);
      expect(b.mm.frames.allocated).toBe(before);
    }
  });

  it("a file's page simply goes back to its file", () => {
    const b = new Bench();
    const fd = b.mm.files.createMemfd(0x4000);
    b.map(AT, 0x4000, RW, MAP_SHARED | MAP_FIXED, fd);
    b.write(AT, 3);
    b.told();
    expect(b.run(b.mm.reclaim.reclaimPage, 0, AT, 1)).toBe(0);
    expect(b.told()).toEqual(PAGE);
    b.read(AT);
    expect(b.result(1)).toBe(3);
  });
});

describe("KSM", () => {
  function twins(era: string): Bench {
    const b = small(era);
    b.run(b.mm.syscalls.madvise, 0, AT, 0x400000, MADV_MERGEABLE);
    b.write(AT, 9);
    b.write(AT + 0x1000, 9);
    b.write(AT + 0x2000, 8);
    b.told();
    return b;
  }

  it("write-protects both pages, then replaces the second: three ranges, change_pte up to v6.9", () => {
    for (const [era, ptes] of [
      ["v5.4", 3],
      ["v6.12", 0],
    ] as const) {
      const b = twins(era);
      const before = b.mm.frames.allocated;
      expect(b.run(b.mm.ksm.mergeTwo, 0, AT, AT + 0x1000)).toBe(0);
      const told = b.told();
      expect(without(told)).toEqual([...PAGE, "S 10001000-10002000", "E 10001000-10002000", "S 10001000-10002000", "E 10001000-10002000"]);
      expect(told.length - without(told).length).toBe(ptes);
      expect(b.leaves()).toEqual(["10000000 3 r", "10001000 3 r", "10002000 3 w"]);
      expect([pfnAt(b, AT) === pfnAt(b, AT + 0x1000), b.mm.frames.allocated]).toEqual([true, before - 1]);
      b.write(AT + 0x1000, 7);
      expect(without(b.told())).toEqual(["S 10001000-10002000", "E 10001000-10002000"]);
      b.read(AT);
      expect(b.result(1)).toBe(9);
    }
  });

  it("a merged page is KSM's after migration and swap too: who writes it gets a copy, also where nobody else maps it", () => {
    for (const era of ["v4.0", "v5.11", "v6.12"])
      for (const move of ["migratePage", "reclaimPage"] as const) {
        const b = twins(era);
        expect(b.run(b.mm.ksm.mergeTwo, 0, AT, AT + 0x1000)).toBe(0);
        b.write(AT + 0x1000, 7);
        if (move === "migratePage") expect(b.run(b.mm.migrate.migratePage, 0, AT)).toBe(0);
        else expect(b.run(b.mm.reclaim.reclaimPage, 0, AT, 1)).toBe(0);
        b.told();
        b.write(AT, 8);
        expect(without(b.told()), `${era} ${move}`).toEqual(PAGE);
        b.read(AT);
        expect(b.result(1)).toBe(8);
      }
  });

  it("does not merge what differs or was not offered", () => {
    const b = twins("v6.12");
    expect(b.run(b.mm.ksm.mergeTwo, 0, AT, AT + 0x2000)).toBe(-16);
    b.write(AT + 0x2000, 6);
    b.read(AT + 0x2000);
    expect(b.result(1)).toBe(6);
    expect(b.run(b.mm.ksm.mergeTwo, 0, AT, AT + 0x3000)).toBe(-14);
    const c = small();
    c.write(AT, 1);
    expect(c.run(c.mm.ksm.mergeTwo, 0, AT, AT + 0x1000)).toBe(-22);
  });
});

describe("aging", () => {
  it("tells whether a range was used since the last time", () => {
    const b = small();
    b.write(AT, 1);
    const age = (kind: number) => b.run(b.mm.reclaim.ageRange, 0, AT, AT + 0x400000, kind);
    expect([age(AGE_TEST), age(AGE_CLEAR), age(AGE_TEST), age(AGE_CLEAR_FLUSH)]).toEqual([1, 1, 0, 0]);
    b.pe.cached.clear();
    b.read(AT);
    expect(age(AGE_TEST)).toBe(1);
    expect(b.told()).toEqual([]);
  });
});
