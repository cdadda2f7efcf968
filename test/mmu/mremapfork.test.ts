import { describe, expect, it } from "vitest";
import { MADV_DONTFORK, MADV_NOHUGEPAGE, MADV_WIPEONFORK } from "../../src/mmu/madvise.js";
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import { PROT_READ } from "../../src/mmu/vmflags.js";
import { EFAULT, EINVAL, ENOMEM } from "../../src/sim/errno.js";
import { BASE, FIXED, MIB, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;
const GIB = 0x40000000;

function small(era?: string): TestHost {
  const h = new TestHost(era);
  h.mmap(BASE, 4 * MIB);
  h.madvise(BASE, 4 * MIB, MADV_NOHUGEPAGE);
  h.write(BASE + MIB, 11);
  return h.quiet();
}

describe("mremap", () => {
  it("of a whole mapping tells of the old range twice, of the new one never", () => {
    const h = small();
    const to = BASE + GIB;
    expect(h.mremap(BASE, 4 * MIB, 4 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, to)).toBe(to);
    const old = "UNMAP 0x0-0x400000";
    expect(h.ranges).toEqual([`S ${old}`, `E ${old}`, `S ${old}`, `E ${old}`]);
    expect(h.read(to + MIB)).toBe(11);
    expect(h.maps()).toEqual(["0x40000000-0x40400000 rw NOHUGEPAGE"]);
    expect(h.read(BASE + MIB)).toBe(-11);
  });

  it("of a part splits the VMA between the two events", () => {
    const h = small();
    h.mremap(BASE + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + GIB);
    expect(h.starts).toEqual(["UNMAP 0x1000-0x2000", "CLEAR 0x0-0x200000", "UNMAP 0x1000-0x2000"]);
  });

  it("clears the target first", () => {
    const h = small();
    h.mmap(BASE + GIB, MIB);
    h.quiet().mremap(BASE, 4 * MIB, 4 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + GIB);
    expect(h.starts).toEqual(["UNMAP 0x40000000-0x40400000", "UNMAP 0x0-0x400000", "UNMAP 0x0-0x400000"]);
  });

  it("splits a huge page that cannot move as one, inside the event of the move", () => {
    const h = new TestHost();
    h.mmap(BASE, 2 * MIB);
    h.write(BASE, 1);
    h.write(BASE + MIB, 2);
    h.quiet();
    const to = BASE + GIB + MIB;
    expect(h.mremap(BASE, 2 * MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, to)).toBe(to);
    const old = "UNMAP 0x0-0x200000";
    expect(h.ranges).toEqual([`S ${old}`, "S CLEAR 0x0-0x200000", "E CLEAR 0x0-0x200000", `E ${old}`, `S ${old}`, `E ${old}`]);
    expect([h.read(to), h.read(to + MIB)]).toEqual([1, 2]);
  });

  it("shrinks by unmapping the tail and grows in place where there is room", () => {
    const h = small();
    expect(h.mremap(BASE, 4 * MIB, 2 * MIB)).toBe(BASE);
    expect(h.starts).toEqual(["UNMAP 0x200000-0x400000"]);
    h.quiet();
    expect(h.mremap(BASE, 2 * MIB, 6 * MIB)).toBe(BASE);
    expect(h.ranges).toEqual([]);
    expect(h.maps()).toEqual(["0x0-0x600000 rw NOHUGEPAGE"]);
    h.mmap(BASE + 6 * MIB, PAGE, { prot: PROT_READ });
    expect(h.mremap(BASE, 6 * MIB, 8 * MIB)).toBe(-ENOMEM);
    const moved = h.mremap(BASE, 6 * MIB, 8 * MIB, MREMAP_MAYMOVE);
    expect(moved).toBeGreaterThan(BASE);
    expect(h.read(moved + MIB)).toBe(11);
  });

  it("refuses what the kernel refuses", () => {
    const h = small();
    expect(h.mremap(BASE - PAGE, PAGE, PAGE)).toBe(-EFAULT);
    expect(h.mremap(BASE, 8 * MIB, 16 * MIB, MREMAP_MAYMOVE)).toBe(-EFAULT);
    expect(h.mremap(BASE, PAGE, 0)).toBe(-EINVAL);
    expect(h.mremap(BASE, PAGE, PAGE, MREMAP_FIXED, BASE + GIB)).toBe(-EINVAL);
    expect(h.mremap(BASE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + PAGE)).toBe(-EINVAL);
    expect(small("v5.5").mremap(BASE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)).toBe(-EINVAL);
  });

  it("leaves an empty mapping behind with DONTUNMAP", () => {
    const h = small();
    const to = h.mremap(BASE, 4 * MIB, 4 * MIB, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    expect(h.starts).toEqual(["UNMAP 0x0-0x400000"]);
    expect([h.read(BASE + MIB), h.read(to + MIB)]).toEqual([0, 11]);
  });
});

describe("fork", () => {
  it("announces every private VMA that has pages, whole, and copies on write afterwards", () => {
    const h = small();
    const file = h.mm.files.createMemfd(MIB);
    h.mmap(BASE + GIB, MIB, { flags: SHARED | FIXED, file });
    h.mmap(BASE + 2 * GIB, MIB); // never touched
    h.write(BASE + GIB, 22);
    h.quiet();
    const child = h.fork();
    expect(child).toBe(1);
    expect(h.ranges).toEqual(["S PROTECTION_PAGE 0x0-0x400000", "E PROTECTION_PAGE 0x0-0x400000"]);
    expect(h.maps(child)).toEqual(h.maps());
    h.quiet().write(BASE + MIB, 12);
    expect(h.starts).toEqual(["CLEAR 0x100000-0x101000"]);
    expect([h.read(BASE + MIB), h.read(BASE + MIB, child)]).toEqual([12, 11]);
    h.write(BASE + GIB, 23);
    expect(h.read(BASE + GIB, child)).toBe(23);
  });

  it("leaves out MADV_DONTFORK and gives MADV_WIPEONFORK empty", () => {
    const h = small();
    h.mmap(BASE + GIB, MIB);
    h.write(BASE + GIB, 1);
    h.madvise(BASE + GIB, MIB, MADV_WIPEONFORK);
    h.madvise(BASE, 4 * MIB, MADV_DONTFORK);
    h.quiet();
    const child = h.fork();
    expect(h.ranges).toEqual([]);
    expect(h.maps(child)).toEqual(["0x40000000-0x40100000 rw WIPEONFORK"]);
    expect(h.read(BASE + GIB, child)).toBe(0);
  });

  it("ends with everything freed, and the number can be used again", () => {
    const h = small();
    const frames = h.mm.frames.allocated;
    const tables = h.mm.pt.tables.pagesUsed;
    const child = h.fork();
    h.write(BASE + MIB, 5, child);
    h.write(BASE + 2 * MIB, 5, child);
    h.quiet();
    h.run(h.mm.syscalls.exitMm, child);
    expect(h.starts.map((s) => s.split(" ")[0])).toEqual(["UNMAP"]);
    expect(h.mm.frames.allocated).toBe(frames);
    expect(h.mm.pt.tables.pagesUsed).toBe(tables);
    expect(h.mm.isLive(child)).toBe(false);
    expect(h.read(BASE + MIB)).toBe(11);
    expect(h.fork()).toBe(child);
  });
});
