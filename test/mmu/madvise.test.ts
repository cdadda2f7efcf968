import { describe, expect, it } from "vitest";
import * as adv from "../../src/mmu/madvise.js";
import { EINVAL, ENOMEM } from "../../src/sim/errno.js";
import { BASE, FIXED, MIB, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;

describe("madvise", () => {
  it("DONTNEED announces the range inside each VMA, and reads give zero again", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.madvise(BASE, 4 * MIB, adv.MADV_NOHUGEPAGE);
    h.mprotect(BASE + 2 * PAGE, PAGE, 1);
    h.write(BASE, 7);
    h.quiet().madvise(BASE, 4 * PAGE, adv.MADV_DONTNEED);
    expect(h.starts).toEqual(["CLEAR 0x0-0x2000", "CLEAR 0x2000-0x3000", "CLEAR 0x3000-0x4000"]);
    expect(h.read(BASE)).toBe(0);
  });

  it("DONTNEED of a part of a huge page splits it inside its own event", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.write(BASE, 7);
    h.write(BASE + 2 * PAGE, 8);
    h.quiet().madvise(BASE, PAGE, adv.MADV_DONTNEED);
    expect(h.ranges).toEqual(["S CLEAR 0x0-0x1000", "S CLEAR 0x0-0x200000", "E CLEAR 0x0-0x200000", "E CLEAR 0x0-0x1000"]);
    expect([h.read(BASE), h.read(BASE + 2 * PAGE)]).toEqual([0, 8]);
  });

  it("DONTNEED over the ends of two huge pages splits both", () => {
    const h = new TestHost();
    h.mmap(BASE, 8 * MIB);
    for (const at of [0, 2, 4]) h.write(BASE + at * MIB, 7);
    h.quiet().madvise(BASE + MIB, 4 * MIB, adv.MADV_DONTNEED);
    expect(h.starts).toEqual(["CLEAR 0x100000-0x500000", "CLEAR 0x0-0x200000", "CLEAR 0x400000-0x600000"]);
  });

  it("goes on behind a hole and then reports it", () => {
    const h = new TestHost();
    h.mmap(BASE, PAGE);
    h.mmap(BASE + 2 * PAGE, PAGE);
    h.write(BASE + 2 * PAGE, 5);
    expect(h.madvise(BASE, 3 * PAGE, adv.MADV_DONTNEED)).toBe(-ENOMEM);
    expect(h.read(BASE + 2 * PAGE)).toBe(0);
    expect(h.madvise(BASE + PAGE, PAGE, adv.MADV_HUGEPAGE)).toBe(-ENOMEM);
  });

  it("HUGEPAGE and NOHUGEPAGE only change flags: neighbours split and join, and only an unaligned cut is announced", () => {
    const h = new TestHost();
    h.mmap(BASE, 8 * MIB);
    h.write(BASE, 1);
    h.quiet().madvise(BASE, 2 * MIB, adv.MADV_NOHUGEPAGE);
    expect(h.starts).toEqual([]);
    expect(h.maps()).toEqual(["0x0-0x200000 rw NOHUGEPAGE", "0x200000-0x800000 rw"]);
    h.madvise(BASE + 2 * MIB, PAGE, adv.MADV_NOHUGEPAGE);
    expect(h.starts).toEqual(["CLEAR 0x200000-0x400000"]);
    h.madvise(BASE, 8 * MIB, adv.MADV_HUGEPAGE);
    expect(h.maps()).toEqual(["0x0-0x800000 rw HUGEPAGE"]);
  });

  it("knows an advice only where the release does", () => {
    const known = (era: string, advice: number) => {
      const h = new TestHost(era, {}, { thp: "never" });
      h.mmap(BASE, 2 * MIB);
      h.write(BASE, 1);
      return h.madvise(BASE, 2 * MIB, advice);
    };
    expect(known("v5.5", adv.MADV_POPULATE_WRITE)).toBe(-EINVAL);
    expect(known("v5.14", adv.MADV_POPULATE_WRITE)).toBe(0);
    expect(known("v5.14", adv.MADV_COLLAPSE)).toBe(-EINVAL);
    expect(known("v6.1", adv.MADV_COLLAPSE)).toBe(0);
    expect(known("v4.0", adv.MADV_FREE)).toBe(-EINVAL);
    expect(known("v6.12", 12345)).toBe(-EINVAL);
  });

  it("POPULATE_WRITE makes everything present without an event", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.quiet().madvise(BASE, 4 * MIB, adv.MADV_POPULATE_WRITE);
    expect(h.ranges).toEqual([]);
    expect(h.mm.zap.isHugePmd(0, BASE)).toBe(true);
    expect(h.mm.zap.isHugePmd(0, BASE + 2 * MIB)).toBe(true);
  });

  it("HWPOISON takes the page out with one event, and the next touch is a SIGBUS", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.madvise(BASE, 4 * MIB, adv.MADV_NOHUGEPAGE);
    h.write(BASE, 1);
    expect(h.quiet().madvise(BASE, PAGE, adv.MADV_HWPOISON)).toBe(0);
    expect(h.ranges).toEqual(["S CLEAR 0x0-0x1000", "E CLEAR 0x0-0x1000"]);
    expect(h.read(BASE)).toBe(-(7 * 256 + 4));
  });

  it("REMOVE punches a hole into a shared file and refuses anonymous memory", () => {
    const h = new TestHost();
    const file = h.mm.files.createMemfd(4 * PAGE);
    h.mmap(BASE, 4 * PAGE, { flags: SHARED | FIXED, file });
    h.mmap(BASE + MIB, 2 * PAGE, { flags: SHARED | FIXED, file, offset: PAGE });
    h.write(BASE + PAGE, 9);
    h.write(BASE, 3);
    expect(h.quiet().madvise(BASE + PAGE, PAGE, adv.MADV_REMOVE)).toBe(0);
    expect(h.starts).toEqual(["CLEAR 0x1000-0x2000", "CLEAR 0x100000-0x101000"]);
    expect([h.read(BASE), h.read(BASE + PAGE)]).toEqual([3, 0]);
    h.mmap(BASE + 2 * MIB, PAGE);
    expect(h.madvise(BASE + 2 * MIB, PAGE, adv.MADV_REMOVE)).toBe(-EINVAL);
  });

  it("FREE announces the range and keeps the contents", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.madvise(BASE, 4 * MIB, adv.MADV_NOHUGEPAGE);
    h.write(BASE, 6);
    h.quiet().madvise(BASE, 2 * PAGE, adv.MADV_FREE);
    expect(h.ranges).toEqual(["S CLEAR 0x0-0x2000", "E CLEAR 0x0-0x2000"]);
    expect(h.read(BASE)).toBe(6);
  });
});
