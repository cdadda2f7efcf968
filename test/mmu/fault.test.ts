import { describe, expect, it } from "vitest";
import { FOLL_HWPOISON, FOLL_WRITE } from "../../src/mmu/gup.js";
import { MADV_COLLAPSE, MADV_DONTNEED, MADV_HUGEPAGE, MADV_HWPOISON, MADV_NOHUGEPAGE, MADV_POPULATE_WRITE } from "../../src/mmu/madvise.js";
import { SWP_HWPOISON, swapEntryPfn, swapEntryType } from "../../src/mmu/pte.js";
import { HOST_SIGBUS_ADRERR, HOST_SIGBUS_MCEERR_AR, HOST_SIGSEGV } from "../../src/mmu/useraccess.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { Bench } from "./faultbench.js";

const RW = PROT_READ | PROT_WRITE;
const ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
const AT = 0x10000000;

function small(era = "v6.12", set = {}): Bench {
  const b = new Bench(era, {}, set);
  b.map(AT, 0x400000, RW, ANON);
  b.run(b.mm.syscalls.madvise, 0, AT, 0x400000, MADV_NOHUGEPAGE);
  b.told();
  return b;
}

describe("anonymous memory", () => {
  it("maps the zero page read-only on a read, and nobody is told", () => {
    const b = small();
    expect(b.read(AT)).toBe(0);
    expect(b.result(1)).toBe(0);
    expect(b.leaves()).toEqual(["10000000 3 rs"]);
    expect(b.mm.pt.walk(0, AT) && b.mm.pt.leafPfn).toBe(b.mm.frames.zeroPfn);
    expect(b.told()).toEqual([]);
  });

  it("replaces the zero page by a cleared one on a write, told as S and E of the page", () => {
    const b = small();
    b.read(AT);
    expect(b.write(AT + 8, 7)).toBe(0);
    expect(b.told()).toEqual(["S 10000000-10001000", "E 10000000-10001000"]);
    expect(b.leaves()).toEqual(["10000000 3 w"]);
    b.read(AT + 8);
    expect(b.result(1)).toBe(7);
  });

  it("calls change_pte between S and E up to v6.9", () => {
    const b = small("v5.4");
    b.read(AT);
    b.write(AT, 7);
    const pfn = b.mm.pt.walk(0, AT) ? b.mm.pt.leafPfn : -1;
    expect(b.told()).toEqual(["S 10000000-10001000", `P ${AT.toString(16)}`, "E 10000000-10001000"]);
    expect(b.mm.frames.refcount(pfn)).toBe(1);
  });

  it("maps a fresh page on a write at once, and nobody is told", () => {
    const b = small();
    const allocs = b.events("page_alloc");
    const clears = b.events("page_clear");
    b.write(AT, 1);
    expect(b.leaves()).toEqual(["10000000 3 w"]);
    expect(b.told()).toEqual([]);
    expect(allocs.length).toBe(1);
    expect(clears.length).toBe(1);
  });

  it("carries the real descriptor bits of a dirty user page", () => {
    const b = small();
    b.write(AT, 1);
    b.mm.pt.walk(0, AT);
    const pfn = b.mm.pt.leafPfn;
    // VALID, page, Normal, EL0, inner shareable, AF, nG, not RDONLY
    expect(b.mm.pt.lo >>> 0).toBe(((pfn << 12) | 0xf43) >>> 0);
    // DBM (write), PXN, UXN, dirty
    expect(b.mm.pt.hi >>> 0).toBe((1 << 19) | (1 << 21) | (1 << 22) | (1 << 23) | Math.floor(pfn / 0x100000));
  });

  it("refuses what the VMA does not permit", () => {
    const b = small();
    b.map(AT + 0x1000000, 0x1000, PROT_READ, ANON);
    expect(b.write(AT + 0x1000000, 1)).toBe(HOST_SIGSEGV);
    expect(b.read(AT + 0x2000000)).toBe(HOST_SIGSEGV);
    expect(b.gup(AT + 0x1000000, FOLL_WRITE)).toBe(-14);
    expect(b.gup(AT + 0x2000000, 0)).toBe(-14);
  });

  it("gives all frames and tables back when it is unmapped", () => {
    const b = small();
    const { frames } = b.mm;
    const before = frames.allocated;
    const tables = b.tables.pagesUsed;
    for (let i = 0; i < 1024; i++) b.write(AT + i * 4096, i);
    expect(frames.allocated).toBe(before + 1024);
    expect(b.run(b.mm.syscalls.munmap, 0, AT, 0x400000)).toBe(0);
    expect(frames.allocated).toBe(before);
    expect(b.tables.pagesUsed).toBeLessThanOrEqual(tables);
    expect(b.leaves()).toEqual([]);
    expect(b.pe.cached.size).toBe(0);
  });

  it("reads across a page boundary byte by byte", () => {
    const b = small();
    b.write(AT + 4096 - 4, 0x11223344, 4);
    b.write(AT + 4096, 0x55667788, 4);
    expect(b.read(AT + 4096 - 4)).toBe(0);
    expect(b.result(1)).toBe(0x11223344);
    expect(b.result(2)).toBe(0x55667788);
  });
});

describe("get_user_pages", () => {
  it("finds nothing fast before the page is there, and the page afterwards", () => {
    const b = small();
    expect(b.mm.gup.gupFast(0, AT, true)).toBe(-1);
    const pfn = b.gup(AT, FOLL_WRITE);
    expect(pfn).toBeGreaterThan(0);
    expect(b.mm.frames.refcount(pfn)).toBe(2);
    expect(b.mm.gup.gupFast(0, AT, true)).toBe(pfn);
    b.mm.frames.put(pfn);
    b.mm.frames.put(pfn);
    expect(b.mm.frames.refcount(pfn)).toBe(1);
  });

  it("gives the zero page for a read, which fast GUP refuses because it is special", () => {
    const b = small();
    expect(b.gup(AT, 0)).toBe(b.mm.frames.zeroPfn);
    expect(b.mm.gup.gupFast(0, AT, false)).toBe(-1);
    expect(b.gup(AT, FOLL_WRITE)).not.toBe(b.mm.frames.zeroPfn);
    expect(b.told()).toEqual(["S 10000000-10001000", "E 10000000-10001000"]);
  });

  it("breaks copy-on-write for a read in v5.8 only", () => {
    for (const [era, zero] of [
      ["v5.6", true],
      ["v5.8", false],
      ["v5.11", true],
    ] as const) {
      const b = small(era);
      expect(b.gup(AT, 0) === b.mm.frames.zeroPfn).toBe(zero);
    }
  });

  it("answers -EHWPOISON for a poisoned page and the VMM gets BUS_MCEERR_AR", () => {
    const b = small();
    b.write(AT, 1);
    expect(b.run(b.mm.syscalls.madvise, 0, AT, 0x1000, MADV_HWPOISON)).toBe(0);
    expect(b.told()).toEqual(["S 10000000-10001000", "E 10000000-10001000"]);
    expect(b.gup(AT, FOLL_HWPOISON)).toBe(-133);
    expect(b.gup(AT, 0)).toBe(-14);
    expect(b.read(AT)).toBe(HOST_SIGBUS_MCEERR_AR);
  });
});

describe("transparent huge pages", () => {
  function thp(era = "v6.12", set = {}): Bench {
    const b = new Bench(era, {}, set);
    b.map(AT, 0x800000, RW, ANON);
    b.run(b.mm.syscalls.madvise, 0, AT, 0x800000, MADV_HUGEPAGE);
    b.told();
    return b;
  }

  it("come with the first write to an aligned 2 MiB", () => {
    const b = thp();
    b.write(AT + 0x5000, 9);
    expect(b.leaves()).toEqual(["10000000 2 w"]);
    expect(b.told()).toEqual([]);
    expect(b.gup(AT + 0x5000, FOLL_WRITE) % 512).toBe(5);
  });

  it("are the huge zero page on a read", () => {
    const b = thp();
    b.read(AT + 0x201000);
    expect(b.leaves()).toEqual(["10200000 2 r"]);
    expect(b.mm.frames.isHugeZeroPage(b.gup(AT + 0x200000, 0))).toBe(true);
  });

  it("a write to the huge zero page: replaced whole in v5.4 and v6.13, split and copied in between", () => {
    for (const era of ["v5.4", "v5.6", "v6.13", "v6.18.2"]) {
      const b = thp(era);
      b.read(AT);
      b.write(AT + 0x1000, 1);
      expect(b.told(), era).toEqual(["S 10000000-10200000", "E 10000000-10200000"]);
      expect(b.leaves(), era).toEqual(["10000000 2 w"]);
    }
    for (const era of ["v5.8", "v6.12"]) {
      const b = thp(era);
      b.read(AT);
      b.write(AT + 0x1000, 1);
      expect(
        b.told().filter((n) => !n.startsWith("P")),
        era,
      ).toEqual(["S 10000000-10200000", "E 10000000-10200000", "S 10001000-10002000", "E 10001000-10002000"]);
      const leaves = b.leaves();
      expect(leaves.length).toBe(512);
      expect(leaves[0]).toBe("10000000 3 rs");
      expect(leaves[1]).toBe("10001000 3 w");
    }
  });

  it("are not for blocks that reach over the VMA, nor for MADV_NOHUGEPAGE", () => {
    const b = new Bench();
    b.map(AT + 0x1000, 0x3ff000, RW, ANON);
    b.write(AT + 0x1000, 1);
    b.write(AT + 0x200000, 1);
    expect(b.leaves()).toEqual(["10001000 3 w", "10200000 2 w"]);
  });

  it("DONTNEED of one page splits inside its own event and keeps the others", () => {
    const b = thp();
    b.write(AT, 1);
    b.write(AT + 0x1000, 2);
    expect(b.run(b.mm.syscalls.madvise, 0, AT + 0x1000, 0x1000, MADV_DONTNEED)).toBe(0);
    expect(b.told()).toEqual(["S 10001000-10002000", "S 10000000-10200000", "E 10000000-10200000", "E 10001000-10002000"]);
    expect(b.leaves().length).toBe(511);
    b.read(AT + 0x1000);
    expect(b.result(1)).toBe(0);
    b.read(AT);
    expect(b.result(1)).toBe(1);
  });

  it("collapse announces before it copies, and keeps the contents", () => {
    const b = small();
    b.write(AT, 5);
    b.write(AT + 0x3000, 6);
    b.run(b.mm.syscalls.madvise, 0, AT, 0x400000, MADV_HUGEPAGE);
    b.told();
    const before = b.mm.frames.allocated;
    expect(b.run(b.mm.syscalls.madvise, 0, AT, 0x200000, MADV_COLLAPSE)).toBe(0);
    expect(b.told()).toEqual(["S 10000000-10200000", "E 10000000-10200000"]);
    expect(b.leaves()).toEqual(["10000000 2 w"]);
    expect(b.mm.frames.allocated).toBe(before - 2 + 512);
    b.read(AT + 0x3000);
    expect(b.result(1)).toBe(6);
  });

  it("collapse of what was only read needs a writable entry up to v6.17", () => {
    for (const [era, ret] of [
      ["v6.12", -22],
      ["v6.18.2", 0],
    ] as const) {
      const b = small(era);
      b.write(AT + 0x200000, 1); // else the VMA has no anon_vma
      b.read(AT);
      b.run(b.mm.syscalls.madvise, 0, AT, 0x400000, MADV_HUGEPAGE);
      expect(b.run(b.mm.syscalls.madvise, 0, AT, 0x200000, MADV_COLLAPSE)).toBe(ret);
    }
  });

  it("collapse of a VMA without VM_WRITE maps the block read-only", () => {
    const b = small("v6.18.2");
    b.write(AT, 5);
    b.run(b.mm.syscalls.madvise, 0, AT, 0x400000, MADV_HUGEPAGE);
    b.run(b.mm.syscalls.mprotect, 0, AT, 0x400000, PROT_READ);
    expect(b.run(b.mm.syscalls.madvise, 0, AT, 0x200000, MADV_COLLAPSE)).toBe(0);
    expect(b.leaves()).toEqual(["10000000 2 r"]);
  });

  it("populate makes every block writable", () => {
    const b = thp();
    expect(b.run(b.mm.syscalls.madvise, 0, AT, 0x800000, MADV_POPULATE_WRITE)).toBe(0);
    expect(b.leaves()).toEqual(["10000000 2 w", "10200000 2 w", "10400000 2 w", "10600000 2 w"]);
  });

  it("a poisoned page of a THP that children map too is taken out of all, each announced twice for the split and once for the page", () => {
    for (const era of ["v5.4", "v5.14", "v6.12"]) {
      const b = new Bench(era);
      b.map(AT, 0x200000, RW, ANON);
      for (let i = 0; i < 512; i++) b.write(AT + i * 4096, 1); // since v6.12 a split leaves no page of zeroes
      const all = [0, b.run(b.mm.syscalls.fork, 0), b.run(b.mm.syscalls.fork, 0)];
      const { pt, frames } = b.mm;
      pt.walk(0, AT);
      const head = pt.leafPfn;
      const order: string[] = [];
      for (const [name, letter] of [
        ["mmu_notifier_invalidate_range_start", "S"],
        ["mmu_notifier_invalidate_range_end", "E"],
      ] as const)
        b.sim.bus.on(name, (e) =>
          order.push(`${e["mm"]} ${letter} ${(e["start"] as number).toString(16)}-${(e["end"] as number).toString(16)}`),
        );
      expect(b.run(b.mm.syscalls.madvise, 0, AT + 0x2000, 0x1000, MADV_HWPOISON), era).toBe(0);
      const announced = (mm: number, range: string): string[] => [`${mm} S ${range}`, `${mm} E ${range}`];
      const split = (mm: number): string[] => [...announced(mm, "10000000-10200000"), ...announced(mm, "10000000-10200000")];
      expect(order, era).toEqual([...all.flatMap(split), ...all.flatMap((mm) => announced(mm, "10002000-10003000"))]);
      for (const mm of all)
        for (let i = 0; i < 512; i++) {
          expect(pt.walk(mm, AT + i * 4096), `${era} ${mm}: ${i}`).toBe(i !== 2);
          if (i !== 2) expect([pt.leafLevel, pt.leafPfn, pt.writable]).toEqual([3, head + i, false]);
          else expect([swapEntryType(pt.lo), swapEntryPfn(pt.lo, pt.hi)]).toEqual([SWP_HWPOISON, head + 2]);
        }
      for (let i = 0; i < 512; i++) if (i !== 2) expect([frames.refcount(head + i), frames.mapcount(head + i)]).toEqual([3, 3]);
    }
  });

  it("a poisoned page of a THP costs one page only", () => {
    const b = thp();
    b.write(AT, 1);
    b.write(AT + 0x2000, 3);
    expect(b.run(b.mm.syscalls.madvise, 0, AT + 0x2000, 0x1000, MADV_HWPOISON)).toBe(0);
    expect(b.read(AT + 0x2000)).toBe(HOST_SIGBUS_MCEERR_AR);
    b.read(AT);
    expect(b.result(1)).toBe(1);
    expect(b.leaves().length).toBe(511);
  });
});

describe("fork", () => {
  it("shares pages read-only; the first write copies with S and E, the last one reuses without", () => {
    for (const era of ["v5.4", "v5.11", "v6.12"]) {
      const b = small(era);
      b.write(AT, 1);
      const pfn = b.gup(AT, 0);
      b.mm.frames.put(pfn);
      const child = b.run(b.mm.syscalls.fork, 0);
      expect(child).toBeGreaterThan(0);
      expect(b.told()).toEqual(["S 10000000-10400000", "E 10000000-10400000"]);
      expect(b.leaves()).toEqual(["10000000 3 r"]);
      expect(b.leaves(child)).toEqual(["10000000 3 r"]);
      expect(b.mm.frames.refcount(pfn)).toBe(2);
      b.write(AT, 2);
      expect(b.told().filter((n) => !n.startsWith("P"))).toEqual(["S 10000000-10001000", "E 10000000-10001000"]);
      expect(b.mm.frames.refcount(pfn)).toBe(1);
      b.run(b.mm.hostAccess, child, AT, 8, 0, 0, 0);
      expect(b.result(1)).toBe(1);
      b.run(b.mm.syscalls.exitMm, child);
      expect(b.mm.frames.allocated).toBe(b.mm.frames.allocated);
    }
  });

  it("after the child is gone the parent's page is reused in place", () => {
    const b = small();
    b.write(AT, 1);
    const child = b.run(b.mm.syscalls.fork, 0);
    b.run(b.mm.syscalls.exitMm, child);
    b.told();
    b.write(AT, 2);
    expect(b.told()).toEqual([]);
    expect(b.leaves()).toEqual(["10000000 3 w"]);
  });

  it("a shared THP is copied whole in v5.4 and split from v5.8 on", () => {
    for (const [era, huge] of [
      ["v5.4", true],
      ["v5.8", false],
      ["v6.12", false],
    ] as const) {
      const b = new Bench(era);
      b.map(AT, 0x200000, RW, ANON);
      b.write(AT, 1);
      b.run(b.mm.syscalls.fork, 0);
      b.told();
      b.write(AT, 2);
      const told = b.told().filter((n) => !n.startsWith("P"));
      if (huge) expect(told).toEqual(["S 10000000-10200000", "E 10000000-10200000"]);
      else expect(told).toEqual(["S 10000000-10200000", "E 10000000-10200000", "S 10000000-10001000", "E 10000000-10001000"]);
    }
  });
});

describe("mprotect", () => {
  it("writable again: at once from v6.0 on, at the next write before; never an event for the reuse", () => {
    for (const [era, leaf] of [
      ["v5.14", "10000000 3 r"],
      ["v6.1", "10000000 3 w"],
    ] as const) {
      const b = small(era);
      b.write(AT, 1);
      b.run(b.mm.syscalls.mprotect, 0, AT, 0x400000, PROT_READ);
      expect(b.leaves()).toEqual(["10000000 3 r"]);
      expect(b.write(AT, 3)).toBe(HOST_SIGSEGV);
      b.run(b.mm.syscalls.mprotect, 0, AT, 0x400000, RW);
      expect(b.leaves(), era).toEqual([leaf]);
      // In a batch for the LRU list it would be copied (lrubatch.test.ts).
      b.mm.frames.lru?.lruAddDrain();
      b.told();
      expect(b.write(AT, 2)).toBe(0);
      expect(b.told()).toEqual([]);
    }
  });

  it("PROT_NONE keeps the page but nobody can use it", () => {
    const b = small();
    b.write(AT, 1);
    b.run(b.mm.syscalls.mprotect, 0, AT, 0x400000, 0);
    expect(b.leaves()).toEqual(["10000000 3 rn"]);
    expect(b.read(AT)).toBe(HOST_SIGSEGV);
    expect(b.mm.gup.gupFast(0, AT, false)).toBe(-1);
    b.run(b.mm.syscalls.mprotect, 0, AT, 0x400000, PROT_READ);
    b.read(AT);
    expect(b.result(1)).toBe(1);
  });
});

describe("files", () => {
  it("a read of a shared memfd maps the page writable", () => {
    const b = new Bench();
    const fd = b.mm.files.createMemfd(0x10000);
    b.map(AT, 0x10000, RW, MAP_SHARED | MAP_FIXED, fd);
    b.read(AT);
    expect(b.leaves()).toEqual(["10000000 3 w"]);
    const pfn = b.gup(AT, FOLL_WRITE);
    expect(b.mm.files.cache.find(fd, 0)).toBe(pfn);
    expect(b.mm.frames.refcount(pfn)).toBe(3);
  });

  it("beyond the end of the file there is only SIGBUS", () => {
    const b = new Bench();
    const fd = b.mm.files.createMemfd(0x1800);
    b.map(AT, 0x10000, RW, MAP_SHARED | MAP_FIXED, fd);
    expect(b.read(AT + 0x1000)).toBe(0);
    expect(b.read(AT + 0x2000)).toBe(HOST_SIGBUS_ADRERR);
    expect(b.gup(AT + 0x2000, 0)).toBe(-14);
  });

  it("a private file page is copied on write: silently when absent, with S and E when it was mapped", () => {
    const b = new Bench();
    const fd = b.mm.files.openReadOnly(0x10000);
    b.map(AT, 0x10000, RW, MAP_PRIVATE | MAP_FIXED, fd);
    b.read(AT);
    expect(b.result(1)).toBe(0x464c457f);
    expect(b.result(2)).toBe(0x03010102);
    expect(b.told()).toEqual([]);
    b.write(AT, 1);
    expect(b.told()).toEqual(["S 10000000-10001000", "E 10000000-10001000"]);
    b.write(AT + 0x1000, 1);
    expect(b.told()).toEqual([]);
    expect(b.leaves()).toEqual(["10000000 3 w", "10001000 3 w"]);
  });
});

describe("hugetlb", () => {
  const HUGE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED;
  it("a private page is read-only after a read and made writable in place by a write", () => {
    const b = new Bench();
    expect(b.map(AT, 0x800000, RW, HUGE)).toBe(AT);
    b.told();
    b.read(AT + 0x3000);
    expect(b.leaves()).toEqual(["10000000 2 r"]);
    b.write(AT + 0x4000, 1);
    expect(b.leaves()).toEqual(["10000000 2 w"]);
    expect(b.told()).toEqual([]);
    b.write(AT + 0x200000, 1);
    expect(b.leaves()).toEqual(["10000000 2 w", "10200000 2 w"]);
  });

  it("pages go back to the pool", () => {
    const b = new Bench();
    const free = b.mm.frames.hugetlbFree(9);
    b.map(AT, 0x800000, RW, HUGE);
    for (let i = 0; i < 4; i++) b.write(AT + i * 0x200000, 1);
    expect(b.mm.frames.hugetlbFree(9)).toBe(free - 4);
    b.run(b.mm.syscalls.munmap, 0, AT, 0x800000);
    expect(b.mm.frames.hugetlbFree(9)).toBe(free);
  });

  it("is copied whole after fork, or SIGBUS when the pool is empty", () => {
    const b = new Bench("v6.12", { hugetlbPages: 1 });
    b.map(AT, 0x200000, RW, HUGE);
    b.write(AT, 1);
    b.run(b.mm.syscalls.fork, 0);
    b.told();
    expect(b.write(AT, 2)).toBe(HOST_SIGBUS_ADRERR);
    const c = new Bench("v6.12", { hugetlbPages: 2 });
    c.map(AT, 0x200000, RW, HUGE);
    c.write(AT, 1);
    c.run(c.mm.syscalls.fork, 0);
    c.told();
    expect(c.write(AT, 2)).toBe(0);
    expect(c.told()).toEqual(["S 10000000-10200000", "E 10000000-10200000"]);
  });
});
