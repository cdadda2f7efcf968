import { describe, expect, it } from "vitest";
import { MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { EINVAL } from "../../src/sim/errno.js";
import { BASE, MIB, TestHost } from "./host.js";

const PAGE = 0x1000;

/** 4 MiB without huge pages at BASE, its first two pages written. */
function twoPagesIn(h: TestHost): TestHost {
  h.mmap(BASE, 4 * MIB);
  h.madvise(BASE, 4 * MIB, MADV_NOHUGEPAGE);
  h.write(BASE, 0xaaaa);
  h.write(BASE + PAGE, 0xbbbb);
  return h.quiet();
}

describe("munmap", () => {
  it("announces the 2 MiB split around an unaligned cut before its own range", () => {
    const h = twoPagesIn(new TestHost());
    expect(h.munmap(BASE, PAGE)).toBe(0);
    expect(h.ranges).toEqual(["S CLEAR 0x0-0x200000", "E CLEAR 0x0-0x200000", "S UNMAP 0x0-0x1000", "E UNMAP 0x0-0x1000"]);
    expect(h.maps()).toEqual(["0x1000-0x400000 rw NOHUGEPAGE"]);
  });

  it("makes no split event for the second cut in a block that the VMA no longer holds whole", () => {
    const h = twoPagesIn(new TestHost());
    h.munmap(BASE + PAGE, PAGE);
    expect(h.starts).toEqual(["CLEAR 0x0-0x200000", "UNMAP 0x1000-0x2000"]);
    h.quiet().munmap(BASE + 2 * PAGE, PAGE);
    expect(h.starts).toEqual(["UNMAP 0x2000-0x3000"]);
  });

  it("announces the split whatever is mapped in the block, but only where the host has a table for the gigabyte", () => {
    const h = new TestHost();
    h.mmap(BASE, 8 * MIB);
    h.quiet().munmap(BASE + 3 * MIB, PAGE);
    expect(h.starts).toEqual(["UNMAP 0x300000-0x301000"]);
    h.write(BASE, 1);
    h.quiet().munmap(BASE + 5 * MIB, PAGE);
    expect(h.starts).toEqual(["CLEAR 0x400000-0x600000", "UNMAP 0x500000-0x501000"]);
  });

  it("announces a split only of a huge page where the kernel tests for one first", () => {
    const small = twoPagesIn(new TestHost("v4.0"));
    small.munmap(BASE, PAGE);
    expect(small.starts).toEqual(["UNMAP 0x0-0x1000"]);
    const huge = new TestHost("v4.0");
    huge.mmap(BASE, 2 * MIB);
    huge.write(BASE, 1);
    huge.quiet().munmap(BASE, PAGE);
    expect(huge.starts).toEqual(["CLEAR 0x0-0x200000", "UNMAP 0x0-0x1000"]);
  });

  it("is one announcement over several VMAs and holes", () => {
    const h = new TestHost();
    h.mmap(BASE, PAGE);
    h.mmap(BASE + 2 * PAGE, PAGE, { prot: 1 });
    h.mmap(BASE + 3 * PAGE, PAGE);
    h.quiet().munmap(BASE, 4 * PAGE);
    expect(h.ranges).toEqual(["S UNMAP 0x0-0x4000", "E UNMAP 0x0-0x4000"]);
    expect(h.maps()).toEqual([]);
  });

  it("of nothing succeeds and tells nobody", () => {
    const h = new TestHost();
    expect(h.munmap(BASE, MIB)).toBe(0);
    expect(h.ranges).toEqual([]);
  });

  it("refuses an unaligned address and an empty range", () => {
    const h = new TestHost();
    expect(h.munmap(BASE + 1, PAGE)).toBe(-EINVAL);
    expect(h.munmap(BASE, 0)).toBe(-EINVAL);
    expect(h.munmap(2 ** 48, PAGE)).toBe(-EINVAL);
  });

  it("gives all frames and tables back", () => {
    const h = new TestHost();
    const tables = h.mm.pt.tables.pagesUsed;
    const frames = h.mm.frames.allocated;
    h.mmap(BASE, 4 * MIB);
    h.write(BASE, 1);
    h.write(BASE + 3 * MIB, 1);
    h.munmap(BASE + 2 * PAGE, MIB);
    h.munmap(BASE, 4 * MIB);
    expect(h.mm.frames.allocated).toBe(frames);
    expect(h.mm.pt.tables.pagesUsed).toBe(tables);
  });
});
