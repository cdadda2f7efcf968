import { describe, expect, it } from "vitest";
import { MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { EACCES, EINVAL, ENOMEM } from "../../src/sim/errno.js";
import { BASE, FIXED, MIB, RW, TestHost } from "./host.js";

const PAGE = 0x1000;
const GIB = 0x40000000;

describe("mprotect", () => {
  it("announces the split of the block at each cut, then the change", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.madvise(BASE, 4 * MIB, MADV_NOHUGEPAGE);
    h.write(BASE, 1);
    expect(h.quiet().mprotect(BASE, PAGE, 0)).toBe(0);
    expect(h.ranges).toEqual([
      "S CLEAR 0x0-0x200000",
      "E CLEAR 0x0-0x200000",
      "S PROTECTION_VMA 0x0-0x1000",
      "E PROTECTION_VMA 0x0-0x1000",
    ]);
    expect(h.maps()).toEqual(["0x0-0x1000 - NOHUGEPAGE", "0x1000-0x400000 rw NOHUGEPAGE"]);
  });

  it("tells nobody when the protection is what it was", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.write(BASE, 1);
    expect(h.quiet().mprotect(BASE, 4 * MIB, RW)).toBe(0);
    expect(h.ranges).toEqual([]);
  });

  it("up to v6.9 announces from the first populated 2 MiB to the end of its gigabyte, nothing where nothing is populated", () => {
    const h = new TestHost("v6.9");
    h.mmap(BASE, 3 * GIB);
    h.write(BASE + 5 * MIB, 1);
    h.write(BASE + GIB + 3 * MIB, 1);
    h.quiet().mprotect(BASE, 3 * GIB, PROT_READ);
    expect(h.starts).toEqual(["PROTECTION_VMA 0x400000-0x40000000", "PROTECTION_VMA 0x40200000-0x80000000"]);
    h.mmap(BASE + 4 * GIB, 4 * MIB);
    h.quiet().mprotect(BASE + 4 * GIB, 4 * MIB, PROT_READ);
    expect(h.starts).toEqual([]);
  });

  it("from v6.12 announces from the first populated gigabyte to the end of the change", () => {
    const h = new TestHost("v6.12");
    h.mmap(BASE, 3 * GIB);
    h.write(BASE + GIB + 5 * MIB, 1);
    h.quiet().mprotect(BASE, 3 * GIB, PROT_READ);
    expect(h.starts).toEqual(["PROTECTION_VMA 0x40000000-0xc0000000"]);
  });

  it("makes the entry of a private page writable again, but not that of a hugetlb page", () => {
    const h = new TestHost("v6.12", {}, { hugetlbPages: 1 });
    h.mmap(BASE, PAGE);
    h.mmap(BASE + 2 * MIB, 2 * MIB, { flags: MAP_PRIVATE | MAP_ANONYMOUS | FIXED | MAP_HUGETLB });
    const writable = [BASE, BASE + 2 * MIB].map((at) => {
      h.write(at, 1);
      h.mprotect(at, at === BASE ? PAGE : 2 * MIB, 0);
      h.mprotect(at, at === BASE ? PAGE : 2 * MIB, RW);
      expect(h.mm.pt.walk(0, at)).toBe(true);
      return h.mm.pt.writable;
    });
    expect(writable).toEqual([true, false]);
  });

  it("stops at a hole with what is before it changed", () => {
    const h = new TestHost();
    h.mmap(BASE, 2 * PAGE);
    h.mmap(BASE + 3 * PAGE, PAGE);
    expect(h.mprotect(BASE + PAGE, 3 * PAGE, PROT_READ)).toBe(-ENOMEM);
    expect(h.maps()).toEqual(["0x0-0x1000 rw", "0x1000-0x2000 r", "0x3000-0x4000 rw"]);
    expect(h.mprotect(BASE + 2 * PAGE, PAGE, PROT_READ)).toBe(-ENOMEM);
    expect(h.mprotect(BASE + 1, PAGE, PROT_READ)).toBe(-EINVAL);
    expect(h.mprotect(BASE + 2 * PAGE, 0, PROT_READ)).toBe(0);
  });

  it("does not make a shared mapping of a read-only file writable, but a private one", () => {
    const h = new TestHost();
    const file = h.mm.files.openReadOnly(4 * PAGE);
    h.mmap(BASE, PAGE, { prot: PROT_READ, flags: MAP_SHARED | FIXED, file });
    h.mmap(BASE + PAGE, PAGE, { prot: PROT_READ, flags: MAP_PRIVATE | FIXED, file });
    expect(h.mprotect(BASE, PAGE, RW)).toBe(-EACCES);
    expect(h.mprotect(BASE + PAGE, PAGE, PROT_READ | PROT_WRITE)).toBe(0);
  });

  it("joins neighbours that become alike, and a moving boundary splits its block", () => {
    const h = new TestHost();
    h.mmap(BASE, 8 * MIB, { prot: PROT_READ });
    h.write(BASE + 7 * MIB, 0);
    h.mprotect(BASE, 2 * MIB, RW);
    expect(h.maps()).toEqual(["0x0-0x200000 rw", "0x200000-0x800000 r"]);
    h.read(BASE + 3 * MIB);
    // Pages on both sides: a range that has had some would not join a VMA without.
    h.write(BASE + MIB, 0);
    h.quiet().mprotect(BASE + 2 * MIB, MIB, RW);
    expect(h.starts).toEqual(["CLEAR 0x200000-0x400000", "PROTECTION_VMA 0x200000-0x300000"]);
    expect(h.maps()).toEqual(["0x0-0x300000 rw", "0x300000-0x800000 r"]);
    h.mprotect(BASE + 3 * MIB, 5 * MIB, RW);
    expect(h.maps()).toEqual(["0x0-0x800000 rw"]);
  });
});
