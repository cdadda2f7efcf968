import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, PROT_READ } from "../../src/mmu/vmflags.js";
import { PageCache } from "../../src/mmu/pagecache.js";
import { EACCES, EBADF, EINVAL, ENOMEM } from "../../src/sim/errno.js";
import { Sim } from "../../src/sim/sim.js";
import { ANON, BASE, FIXED, MIB, RW, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;

describe("memory files", () => {
  it("a shrinking ftruncate announces the cut-off range twice, a growing one not at all", () => {
    const h = new TestHost();
    const file = h.mm.files.createMemfd(4 * MIB);
    h.mmap(BASE, 4 * MIB, { flags: SHARED | FIXED, file });
    h.write(BASE, 0xaaaa);
    h.write(BASE + PAGE, 0xbbbb);
    h.quiet();
    expect(h.run(h.mm.syscalls.ftruncate, file, PAGE)).toBe(0);
    expect(h.ranges).toEqual(["S CLEAR 0x1000-0x400000", "E CLEAR 0x1000-0x400000", "S CLEAR 0x1000-0x400000", "E CLEAR 0x1000-0x400000"]);
    expect([h.read(BASE), h.read(BASE + PAGE)]).toEqual([0xaaaa, -(7 * 256 + 2)]);
    h.quiet();
    expect(h.run(h.mm.syscalls.ftruncate, file, 4 * MIB)).toBe(0);
    expect(h.ranges).toEqual([]);
    expect(h.read(BASE + PAGE)).toBe(0);
  });

  it("truncation goes through all mappings in the order of their offsets, and zeroes the rest of a cut page", () => {
    const h = new TestHost();
    const file = h.mm.files.createMemfd(8 * PAGE);
    h.mmap(BASE + MIB, 4 * PAGE, { flags: SHARED | FIXED, file, offset: 4 * PAGE });
    h.mmap(BASE, 8 * PAGE, { flags: SHARED | FIXED, file });
    h.write(BASE + 8, 0xff);
    h.write(BASE, 0xee);
    h.quiet();
    h.run(h.mm.syscalls.ftruncate, file, 4);
    expect(h.starts.slice(0, 2)).toEqual(["CLEAR 0x1000-0x8000", "CLEAR 0x100000-0x104000"]);
    expect([h.read(BASE), h.read(BASE + 8)]).toEqual([0xee, 0]);
  });

  it("a hole leaves private copies alone", () => {
    const h = new TestHost();
    const file = h.mm.files.createMemfd(4 * PAGE);
    h.mmap(BASE, 4 * PAGE, { flags: SHARED | FIXED, file });
    h.mmap(BASE + MIB, 4 * PAGE, { flags: MAP_PRIVATE | FIXED, file });
    h.write(BASE, 1);
    h.write(BASE + PAGE, 1);
    h.write(BASE + MIB, 2);
    h.read(BASE + MIB + PAGE);
    h.quiet();
    expect(h.run(h.mm.syscalls.fallocate, file, 3, 0, 2 * PAGE)).toBe(0);
    expect(h.starts).toEqual(["CLEAR 0x0-0x2000", "CLEAR 0x100000-0x102000"]);
    expect([h.read(BASE), h.read(BASE + MIB), h.read(BASE + MIB + PAGE)]).toEqual([0, 2, 0]);
  });

  it("a regular file reads as its contents and refuses shared writing", () => {
    const h = new TestHost();
    const file = h.mm.files.openReadOnly(2 * PAGE, 5);
    expect(h.mmap(BASE, PAGE, { flags: SHARED | FIXED, file })).toBe(-EACCES);
    h.mmap(BASE, 2 * PAGE, { prot: PROT_READ, flags: MAP_PRIVATE | FIXED, file });
    expect(h.read(BASE)).toBe(0x464c457f);
    expect(h.read(BASE + PAGE + 4)).toBe(h.mm.files.contentWord(file, PAGE + 4) | 0);
  });

  it("frees its pages with the last mapping after it was closed", () => {
    const h = new TestHost();
    const before = h.mm.frames.allocated;
    const file = h.mm.files.createMemfd(4 * PAGE);
    h.mmap(BASE, 4 * PAGE, { flags: SHARED | FIXED, file });
    h.write(BASE, 1);
    h.mm.files.put(file);
    expect(h.read(BASE)).toBe(1);
    h.munmap(BASE, 4 * PAGE);
    expect(h.mm.frames.allocated).toBe(before);
    expect(h.mm.files.kind(file)).toBe(0);
    expect(h.mmap(BASE, PAGE, { flags: SHARED | FIXED, file })).toBe(-EBADF);
  });

  it("what fallocate made beyond the end goes with a truncation, also to the same size, and with the file", () => {
    const h = new TestHost();
    const before = h.mm.frames.allocated;
    const file = h.mm.files.createMemfd(4 * PAGE);
    const beyond = () => (h.run(h.mm.syscalls.fallocate, file, 1, 8 * PAGE, 2 * PAGE), h.mm.frames.allocated - before);
    expect(beyond()).toBe(2);
    h.run(h.mm.syscalls.ftruncate, file, 4 * PAGE);
    expect([h.mm.frames.allocated - before, beyond()]).toEqual([0, 2]);
    h.mm.files.put(file);
    expect(h.mm.frames.allocated).toBe(before);
  });

  it("hugetlb mappings reserve their pages at mmap time and give them back", () => {
    const h = new TestHost("v6.12", {}, { hugetlbPages: 4 });
    const flags = ANON | FIXED | MAP_HUGETLB;
    expect(h.mmap(BASE, 6 * MIB, { flags })).toBe(BASE);
    expect(h.mmap(BASE + 64 * MIB, 4 * MIB, { flags })).toBe(-ENOMEM);
    expect(h.mmap(BASE + 64 * MIB, 2 * MIB, { flags })).toBe(BASE + 64 * MIB);
    h.write(BASE, 1);
    expect(h.munmap(BASE, PAGE)).toBe(-EINVAL);
    h.munmap(BASE, 6 * MIB);
    h.munmap(BASE + 64 * MIB, 2 * MIB);
    expect(h.mm.files.hugetlbAvailable(9)).toBe(4);
    expect(h.mmap(BASE + PAGE, 2 * MIB, { flags })).toBe(-EINVAL);
    expect(h.mmap(BASE, 8 * MIB, { flags, prot: RW })).toBe(BASE);
  });

  it("hugetlb pages come in every size that has a pool, and MAP_HUGETLB names it in its upper bits", () => {
    const h = new TestHost("v6.12", {}, { hugetlbPages: 2, hugetlb: { 4: 4, 18: 1 } });
    const flags = (log: number) => (ANON | MAP_HUGETLB) + log * 2 ** 26;
    const small = h.mmap(0, 0x10000, { flags: flags(16) });
    const huge = h.mmap(0, 0x40000000, { flags: flags(30) });
    expect([small % 0x10000, huge % 0x40000000]).toEqual([0, 0]);
    h.write(huge + 5 * MIB, 9);
    h.write(small + 0x4000, 8);
    h.mm.pt.walk(0, huge);
    expect(h.mm.pt.leafSize).toBe(0x40000000);
    h.mm.pt.walk(0, small);
    expect(h.mm.pt.leafSize).toBe(0x10000);
    expect(h.mmap(0, 0x2000000, { flags: flags(25) })).toBe(-ENOMEM);
    expect(h.mmap(0, 0x2000000, { flags: flags(20) })).toBe(-EINVAL);
  });

  it("events of a shared hugetlb mapping cover whole gigabytes where it holds them", () => {
    const GIB = 0x40000000;
    const h = new TestHost("v6.12", {}, { hugetlbPages: 600 });
    const file = h.mm.files.createHugetlb(GIB + 4 * MIB);
    h.mmap(BASE, GIB + 4 * MIB, { flags: SHARED | FIXED, file });
    h.quiet().madvise(BASE + 2 * MIB, 2 * MIB, 4);
    expect(h.starts).toEqual(["CLEAR 0x0-0x40000000"]);
    h.quiet().madvise(BASE + GIB, 2 * MIB, 4);
    expect(h.starts).toEqual(["CLEAR 0x40000000-0x40200000"]);
    h.quiet().mprotect(BASE, GIB + 4 * MIB, PROT_READ);
    expect(h.starts).toEqual(["PROTECTION_VMA 0x0-0x40400000"]);
  });

  it("shared mappings of one file see the same pages", () => {
    const h = new TestHost();
    const file = h.mm.files.createMemfd(MIB);
    const a = h.mmap(0, MIB, { flags: MAP_SHARED, file });
    const b = h.mmap(0, MIB, { flags: MAP_SHARED, file });
    h.write(a + 0x5000, 77);
    expect(h.read(b + 0x5000)).toBe(77);
  });
});

describe("page cache", () => {
  it("holds what a map would hold, whatever is put in and taken out", () => {
    const op = fc.record({
      put: fc.boolean(),
      file: fc.integer({ min: 0, max: 3 }),
      page: fc.integer({ min: 0, max: 600 }),
      pfn: fc.integer({ min: 0, max: 2 ** 36 }),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 1200 }), (ops) => {
        const cache = new PageCache(new Sim());
        const model = new Map<string, number>();
        for (const { put, file, page, pfn } of ops) {
          const key = `${file}:${page}`;
          if (put) {
            cache.put(file, page, pfn);
            model.set(key, pfn);
          } else {
            expect(cache.remove(file, page)).toBe(model.get(key) ?? -1);
            model.delete(key);
          }
        }
        expect(cache.count).toBe(model.size);
        for (const [key, pfn] of model) expect(cache.find(Number(key.split(":")[0]), Number(key.split(":")[1]))).toBe(pfn);
        const pages: number[] = [];
        for (let p = cache.next(1, 0, 1e9); p >= 0; p = cache.next(1, p + 1, 1e9)) pages.push(p);
        expect(pages).toEqual(
          [...model.keys()]
            .filter((k) => k.startsWith("1:"))
            .map((k) => Number(k.slice(2)))
            .sort((a, b) => a - b),
        );
      }),
      { numRuns: 50 },
    );
  });
});

describe("device files", () => {
  it("of a file number that a rollback gave back nobody remembers the driver", () => {
    const h = new TestHost();
    const act = h.sim.agents.activity("test.none", "test", 4, [["none", (f) => h.sim.agents.ret(f, 0)]]);
    const { files } = h.mm;
    h.sim.state.startRecording();
    const mark = h.sim.state.mark();
    const ops = { mmap: act, fault: act };
    const device = files.openDevice(ops);
    expect(files.vmOps(device)).toBe(ops);
    h.sim.state.rollback(mark);
    expect(files.createMemfd(PAGE)).toBe(device);
    expect(files.vmOps(device)).toBeUndefined();
  });
});
