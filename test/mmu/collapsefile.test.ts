import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MADV_COLLAPSE, MADV_DONTNEED, MADV_HWPOISON, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { UFFDIO_REGISTER_MODE_MISSING } from "../../src/mmu/uffdio.js";
import { MAP_PRIVATE, PROT_READ } from "../../src/mmu/vmflags.js";
import { EAGAIN, EINVAL, ENOMEM } from "../../src/sim/errno.js";
import { BASE, FIXED, MIB, RW, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;
const OTHER = BASE + 16 * MIB;
/** SIGBUS: BUS_ADRERR, BUS_MCEERR_AR. */
const BUS_ADRERR = -(7 * 256 + 2);
const BUS_MCEERR_AR = -(7 * 256 + 4);

/** A memory file of 4 MiB, mapped at BASE and at OTHER. */
class Host extends TestHost {
  readonly file: number;
  constructor(era = "v6.12", flags = SHARED, set: Readonly<Record<string, string>> = {}) {
    super(era, set);
    this.file = this.mm.files.createMemfd(4 * MIB);
    this.mmap(BASE, 4 * MIB, { flags: SHARED | FIXED, file: this.file });
    this.mmap(OTHER, 4 * MIB, { flags: flags | FIXED, file: this.file });
  }
  collapse(addr = BASE, len = 2 * MIB): number {
    return this.madvise(addr, len, MADV_COLLAPSE);
  }
  punch(offset: number, len: number): number {
    return this.run(this.mm.syscalls.fallocate, this.file, 3, offset, len);
  }
  truncate(size: number): number {
    return this.run(this.mm.syscalls.ftruncate, this.file, size);
  }
  /** Level of the leaf at an address, and whether it may be written: "2 w"; "-" without one, with the level of the empty entry. */
  leaf(addr: number, mm = 0): string {
    const { pt } = this.mm;
    return pt.walk(mm, addr) ? `${pt.leafLevel} ${pt.writable ? "w" : "r"}` : `- ${pt.level}`;
  }
  /** Makes the mapping at OTHER one by small entries again, with the first page there. */
  small(addr = OTHER): void {
    this.mprotect(addr + MIB, MIB, PROT_READ);
    this.read(addr);
    this.mprotect(addr + MIB, MIB, RW);
  }
}

describe("MADV_COLLAPSE of a memory file", () => {
  it("keeps what the pages hold, in every mapping, and fills holes with zeros", () => {
    for (const era of ["v6.1", "v6.4", "v6.8", "v7.2.12"]) {
      const h = new Host(era);
      const before = h.mm.frames.allocated;
      h.write(BASE, 7);
      h.write(OTHER + 3 * PAGE, 8);
      h.write(BASE + 2 * MIB, 9);
      expect(h.collapse(), era).toBe(0);
      expect(h.mm.frames.allocated - before).toBe(513);
      expect([h.read(BASE), h.read(OTHER), h.read(BASE + 3 * PAGE), h.read(OTHER + 3 * PAGE)]).toEqual([7, 7, 8, 8]);
      expect([h.read(BASE + PAGE), h.read(OTHER + 2 * MIB)]).toEqual([0, 9]);
      h.write(OTHER + PAGE, 10);
      expect(h.read(BASE + PAGE)).toBe(10);
    }
  });

  it("v6.1-rc7 tells of pages that it unmaps, not of the table; v6.1-rc8 of its own mapping's table; v6.6 of every mapping's", () => {
    const told = (era: string) => {
      const h = new Host(era);
      h.write(BASE, 1);
      h.read(OTHER);
      h.quiet();
      expect(h.collapse()).toBe(0);
      return [h.starts, h.leaf(BASE), h.leaf(OTHER)];
    };
    const pages = ["CLEAR 0x0-0x1000", "CLEAR 0x1000000-0x1001000"];
    const [other, own] = ["CLEAR 0x1000000-0x1200000", "CLEAR 0x0-0x200000"] as const;
    expect(told("v6.1")).toEqual([pages, "2 w", "- 3"]);
    expect(told("v6.1.192")).toEqual([[...pages, own], "2 w", "- 3"]);
    expect(told("v6.4")).toEqual([[...pages, own], "2 w", "- 3"]);
    expect(told("v6.8")).toEqual([[...pages, own, other], "2 w", "- 2"]);
    expect(told("v7.2.12")).toEqual([[...pages, own, other], "2 w", "- 2"]);
  });

  it("of a huge page in the cache that is mapped by small entries takes the table away; only from v6.1-rc8 on anybody is told", () => {
    const told = (era: string) => {
      const h = new Host(era);
      h.write(OTHER, 5);
      expect(h.collapse(OTHER)).toBe(0);
      h.small();
      expect(h.leaf(OTHER)).toBe("3 w");
      const tables = h.mm.pt.tables.pagesUsed;
      h.quiet();
      expect(h.collapse(OTHER)).toBe(0);
      expect([h.leaf(OTHER), h.read(OTHER), h.mm.pt.tables.pagesUsed - tables]).toEqual(["2 w", 5, -1]);
      expect(h.collapse(OTHER)).toBe(0);
      return h.ranges;
    };
    const range = ["S CLEAR 0x1000000-0x1200000", "E CLEAR 0x1000000-0x1200000"];
    expect(told("v6.1")).toEqual([]);
    for (const era of ["v6.1.192", "v6.4", "v6.8", "v7.2.12"]) expect(told(era), era).toEqual(range);
  });

  it("gives a mapping without a table one entry only where collapse_pte_mapped_thp comes after it", () => {
    const result = (era: string, touched: boolean) => {
      const h = new Host(era);
      h.write(OTHER, 1); // tables above, for both
      if (touched) h.read(BASE + 2 * MIB);
      const r = h.collapse(BASE);
      h.read(BASE);
      return [r, h.leaf(BASE)];
    };
    // The page is huge in any case: the next fault maps it as a whole.
    expect(result("v6.4", true)).toEqual([-EINVAL, "2 w"]);
    expect(result("v6.8", true)).toEqual([0, "2 w"]);
  });

  it("is refused with the kernel's errno", () => {
    const h = new Host("v6.12");
    expect(h.collapse()).toBe(-EINVAL); // nothing in the file: SCAN_TRUNCATED
    h.write(BASE, 1);
    h.mm.frames.get(h.mm.files.cache.find(h.file, 0));
    expect(h.collapse()).toBe(-EAGAIN); // SCAN_PAGE_COUNT
    h.mm.frames.put(h.mm.files.cache.find(h.file, 0));
    h.madvise(BASE, 4 * MIB, MADV_NOHUGEPAGE);
    expect(h.collapse()).toBe(-EINVAL);
    expect(h.mmap(BASE + 8 * MIB + PAGE, 4 * MIB, { flags: SHARED | FIXED, file: h.file })).toBeGreaterThan(0);
    expect(h.madvise(BASE + 10 * MIB, 2 * MIB, MADV_COLLAPSE)).toBe(-EINVAL); // not congruent with its file
    const regular = h.mm.files.openReadOnly(4 * MIB);
    h.mmap(BASE + 8 * MIB, 2 * MIB, { flags: MAP_PRIVATE | FIXED, prot: PROT_READ, file: regular });
    h.read(BASE + 8 * MIB);
    expect(h.madvise(BASE + 8 * MIB, 2 * MIB, MADV_COLLAPSE)).toBe(-EINVAL);

    const old = new Host("v6.1");
    old.write(BASE, 1);
    old.mm.frames.get(old.mm.files.cache.find(old.file, 0));
    expect(old.collapse()).toBe(-EINVAL);
  });

  it("fails with ENOMEM where no huge page is to be had, and changes nothing", () => {
    const h = new Host();
    h.write(BASE, 3);
    while (h.mm.frames.alloc(9) >= 0);
    h.quiet();
    expect([h.collapse(), h.ranges, h.leaf(BASE), h.read(BASE)]).toEqual([-ENOMEM, [], "3 w", 3]);
  });

  it("leaves a private mapping its copies, and does not collapse it", () => {
    const h = new Host("v6.12", MAP_PRIVATE);
    h.write(BASE, 1);
    h.write(OTHER, 2);
    h.read(OTHER + PAGE);
    expect(h.collapse(BASE)).toBe(0);
    expect([h.read(OTHER), h.leaf(OTHER)]).toEqual([2, "3 w"]);
    expect(h.collapse(OTHER)).toBe(-EINVAL);
    h.write(OTHER + PAGE, 4);
    expect([h.read(BASE + PAGE), h.read(OTHER + PAGE), h.read(OTHER)]).toEqual([0, 4, 2]);
  });

  it("of a private mapping that was only read maps the huge page read-only; a store takes the entry away and copies its page", () => {
    const h = new Host("v6.12", MAP_PRIVATE);
    h.write(BASE, 1);
    h.read(OTHER);
    expect([h.collapse(OTHER), h.leaf(OTHER)]).toEqual([0, "2 r"]);
    h.write(OTHER, 2);
    expect([h.leaf(OTHER), h.read(BASE), h.read(OTHER), h.leaf(OTHER + PAGE)]).toEqual(["3 w", 1, 2, "- 3"]);
  });

  it("leaves holes to a userfaultfd from v6.4 on", () => {
    const result = (era: string) => {
      const h = new Host(era);
      h.write(BASE, 1);
      const u = h.mm.userfaultfd;
      const uffd = h.run(u.create, 0, 0);
      h.run(u.api, uffd);
      expect(h.run(u.register, uffd, OTHER, 2 * MIB, UFFDIO_REGISTER_MODE_MISSING)).toBe(0);
      return h.collapse();
    };
    expect([result("v6.1"), result("v6.4")]).toEqual([0, -EINVAL]);
  });
});

describe("a huge page of a memory file", () => {
  const huge = (era = "v6.12") => {
    const h = new Host(era);
    h.write(BASE, 1);
    h.write(BASE + PAGE, 2);
    h.write(BASE + 2 * PAGE, 3);
    expect(h.collapse()).toBe(0);
    h.read(OTHER);
    return h;
  };

  it("is split where a hole or the new end cuts it, and its other pages stay", () => {
    const h = huge();
    const before = h.mm.frames.allocated;
    h.quiet();
    expect(h.punch(PAGE, PAGE)).toBe(0);
    expect(h.starts).toEqual([
      "CLEAR 0x1000-0x2000",
      "CLEAR 0x0-0x200000",
      "CLEAR 0x1001000-0x1002000",
      "CLEAR 0x1000000-0x1200000",
      "CLEAR 0x0-0x200000", // try_to_unmap looks at the first mapping, and ends there: nobody maps the page any more
    ]);
    expect([h.read(BASE), h.read(OTHER + PAGE), h.read(BASE + 2 * PAGE), h.leaf(BASE)]).toEqual([1, 0, 3, "3 w"]);
    expect(h.mm.frames.allocated).toBe(before); // one page went, one came with the read
    expect(h.truncate(2 * PAGE)).toBe(0);
    expect([h.read(BASE), h.read(OTHER + 2 * PAGE), h.mm.files.cache.find(h.file, 2)]).toEqual([1, BUS_ADRERR, -1]);
    expect(before - h.mm.frames.allocated).toBe(510);
  });

  it("that somebody holds is not split: its part of the hole becomes zero", () => {
    const h = huge();
    const pfn = h.mm.files.cache.find(h.file, 0);
    h.mm.frames.get(pfn);
    expect(h.punch(PAGE, PAGE)).toBe(0);
    expect([h.mm.frames.isThp(pfn), h.read(BASE), h.read(BASE + PAGE), h.leaf(BASE)]).toEqual([true, 1, 0, "2 w"]);
    h.mm.frames.put(pfn);
  });

  it("goes as a whole with the file", () => {
    const h = new Host();
    const before = h.mm.frames.allocated;
    h.write(BASE, 1);
    h.collapse();
    h.small();
    h.munmap(BASE, 4 * MIB);
    h.munmap(OTHER, 4 * MIB);
    h.mm.files.put(h.file);
    expect(h.mm.frames.allocated).toBe(before);
  });

  it("loses one entry as a whole where its mapping is cut; the next fault maps it again", () => {
    const h = huge();
    expect(h.madvise(BASE + PAGE, PAGE, MADV_DONTNEED)).toBe(0);
    expect(h.leaf(BASE)).toBe("- 2");
    expect([h.read(BASE + PAGE), h.leaf(BASE)]).toEqual([2, "2 w"]);
  });

  it("loses only the page that is broken", () => {
    const h = huge();
    expect(h.madvise(BASE + PAGE, PAGE, MADV_HWPOISON)).toBe(0);
    expect([h.read(BASE), h.read(BASE + PAGE), h.read(OTHER + PAGE), h.read(OTHER + 2 * PAGE)]).toEqual([
      1,
      BUS_MCEERR_AR,
      BUS_MCEERR_AR,
      3,
    ]);
  });

  it("is shared with a forked child, which maps it by itself", () => {
    const h = huge();
    const child = h.fork();
    h.write(BASE + PAGE, 20);
    // copy_page_range leaves it out: not even the tables above are there.
    expect([h.leaf(BASE, child), h.read(BASE + PAGE, child), h.leaf(BASE, child)]).toEqual(["- 0", 20, "2 w"]);
  });
});

type Step =
  | { readonly do: "write" | "read" | "dontneed"; readonly at: number; readonly page: number; readonly value: number }
  | { readonly do: "collapse" | "cut"; readonly at: number; readonly block: number }
  | { readonly do: "punch"; readonly page: number; readonly n: number };

const page = fc.oneof(fc.nat(6), fc.integer({ min: 505, max: 520 }), fc.nat(1023));
const at = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom("write" as const, "read" as const, "dontneed" as const),
      at,
      page,
      value: fc.integer({ min: 1, max: 1e9 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("collapse" as const, "cut" as const), at, block: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("punch" as const), page, n: fc.integer({ min: 1, max: 600 }) }) },
);

it.each(["v6.1", "v6.4", "v6.12"])(
  "%s: two shared mappings and a private one show what was stored, whatever is collapsed, cut and punched",
  (era) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 4, maxLength: 30 }), (steps) => {
        const h = new Host(era);
        const third = BASE + 32 * MIB;
        const baseline = h.mm.frames.allocated;
        h.mmap(third, 4 * MIB, { flags: MAP_PRIVATE | FIXED, file: h.file });
        const maps = [BASE, OTHER, third];
        const file = new Map<number, number>();
        const copied = new Map<number, number>();
        for (const s of steps) {
          switch (s.do) {
            case "write":
              expect(h.write(maps[s.at]! + s.page * PAGE, s.value)).toBe(0);
              (s.at === 2 ? copied : file).set(s.page, s.value);
              break;
            case "read":
              h.read(maps[s.at]! + s.page * PAGE);
              break;
            case "dontneed":
              h.madvise(maps[s.at]! + s.page * PAGE, PAGE, MADV_DONTNEED);
              if (s.at === 2) copied.delete(s.page);
              break;
            case "collapse":
              expect([0, -EINVAL]).toContain(h.collapse(maps[s.at]! + s.block * 2 * MIB));
              break;
            case "cut":
              h.mprotect(maps[s.at]! + s.block * 2 * MIB + PAGE, 4 * PAGE, PROT_READ);
              h.read(maps[s.at]! + s.block * 2 * MIB);
              h.mprotect(maps[s.at]! + s.block * 2 * MIB + PAGE, 4 * PAGE, RW);
              break;
            case "punch": {
              const n = Math.min(s.n, 1024 - s.page);
              expect(h.punch(s.page * PAGE, n * PAGE)).toBe(0);
              for (let p = s.page; p < s.page + n; p++) file.delete(p);
              break;
            }
          }
        }
        const seen = new Set([...file.keys(), ...copied.keys(), 0, 1, 511, 512, 1023]);
        for (const p of seen) {
          const now = file.get(p) ?? 0;
          expect([h.read(BASE + p * PAGE), h.read(OTHER + p * PAGE), h.read(third + p * PAGE)]).toEqual([now, now, copied.get(p) ?? now]);
        }
        for (const m of maps) h.munmap(m, 4 * MIB);
        h.mm.files.put(h.file);
        expect(h.mm.frames.allocated).toBe(baseline);
      }),
      { numRuns: 30 },
    );
  },
);
