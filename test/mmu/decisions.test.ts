import { describe, expect, it } from "vitest";
import { TLBI_IS, TlbiKind } from "../../src/arch/tlbi.js";
import { ERAS } from "../../src/eras.js";
import { mmDecisions } from "../../src/mmu/decisions.js";
import { MADV_COLD, MADV_DONTNEED, MADV_HUGEPAGE } from "../../src/mmu/madvise.js";
import { HI_DIRTY, PTE_RDONLY, pteDirty } from "../../src/mmu/pte.js";
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import { MAP_FIXED_NOREPLACE, MAP_HUGETLB, PROT_MTE, VM_DONTEXPAND, VM_IO, VM_PFNMAP } from "../../src/mmu/vmflags.js";
import { ARG } from "../../src/sim/agents.js";
import { ANON, BASE, FIXED, MIB, RW, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;
const GIB = 0x40000000;

describe("decisions of the host mm", () => {
  it("are known from v4.0 on, name eras that exist, take legal values and give a source", () => {
    const eras = new Set(ERAS.map((e) => e.name));
    for (const [name, d] of Object.entries(mmDecisions)) {
      expect(Object.keys(d.history), name).toContain("v4.0");
      for (const [era, [value, source]] of Object.entries(d.history as Readonly<Record<string, readonly [unknown, string]>>)) {
        expect(eras.has(era), `${name} ${era}`).toBe(true);
        expect(d.values as readonly unknown[]).toContain(value);
        expect(source.length).toBeGreaterThan(5);
      }
    }
  });

  /** What the same steps give under two eras. */
  const both = (a: string, b: string, steps: (h: TestHost) => unknown) => [steps(new TestHost(a)), steps(new TestHost(b))];

  /** The kinds of TLBI, in their order, of a munmap of so many pages. */
  const flushed = (pages: number) => (h: TestHost) => {
    h.mmap(BASE, pages * PAGE);
    for (let p = 0; p < pages; p++) h.write(BASE + p * PAGE, 1);
    h.tlbis.clear();
    h.munmap(BASE, pages * PAGE);
    return [...h.tlbis];
  };
  const [BY_PAGE, BY_RANGE] = [TlbiKind.Vae1 | TLBI_IS, TlbiKind.Rvae1 | TLBI_IS];

  it("hostTlbiRange: an unmapped range is flushed page by page, or by range", () =>
    expect(both("v5.8", "v5.10", flushed(16))).toEqual([[BY_PAGE], [BY_RANGE]]));

  it("tlbiRangeScale: of three pages the odd one goes first up to v6.6, last from v6.8 on", () =>
    expect(both("v6.6", "v6.8", flushed(3))).toEqual([
      [BY_PAGE, BY_RANGE],
      [BY_RANGE, BY_PAGE],
    ]));

  it("without range instructions 511 pages are flushed one by one, 512 as the whole ASID", () => {
    expect(flushed(511)(new TestHost("v5.8"))).toEqual([BY_PAGE]);
    expect(flushed(512)(new TestHost("v5.8"))).toEqual([TlbiKind.Aside1 | TLBI_IS]);
  });

  it("thpSplitDirty: a clean block that may be written leaves dirty entries up to v6.6, but not on v6.1.192; a dirty one leaves dirty ones", () => {
    const dirty = (era: string, clean: boolean) => {
      const h = new TestHost(era);
      h.mmap(BASE, 2 * MIB);
      h.madvise(BASE, 2 * MIB, MADV_HUGEPAGE);
      h.write(BASE, 1);
      const { pt } = h.mm;
      expect([pt.walk(0, BASE), pt.level]).toEqual([true, 2]);
      if (clean) pt.setEntry(0, BASE, 2, pt.entry, pt.lo | PTE_RDONLY, pt.hi & ~HI_DIRTY);
      h.madvise(BASE, PAGE, MADV_DONTNEED);
      expect([pt.walk(0, BASE + PAGE), pt.level]).toEqual([true, 3]);
      return pteDirty(pt.lo, pt.hi);
    };
    const eras = ["v5.4", "v6.1", "v6.1.192", "v6.4", "v6.6", "v6.8", "v6.12"];
    expect(eras.map((era) => dirty(era, true))).toEqual([true, true, false, true, true, false, false]);
    expect(eras.map((era) => dirty(era, false))).toEqual([true, true, false, true, true, true, true]);
  });

  it("mapFixedNoreplace: before it is known the flag is ignored and the address a hint", () => {
    const steps = (h: TestHost) => {
      h.mmap(BASE, PAGE);
      return h.mmap(BASE, PAGE, { flags: ANON | MAP_FIXED_NOREPLACE }) > 0;
    };
    expect(both("v4.10", "v4.20", steps)).toEqual([true, false]);
  });

  it("madviseDontneedHugetlb, madviseHugepageSpecial, madviseCold: refused or done", () => {
    const hugetlb = (h: TestHost) => (
      h.mmap(BASE, 2 * MIB, { flags: ANON | FIXED | MAP_HUGETLB }),
      h.madvise(BASE, 2 * MIB, MADV_DONTNEED)
    );
    expect(both("v5.14", "v6.1", hugetlb)).toEqual([-22, 0]);
    const special = (h: TestHost) => (h.mmap(BASE, 2 * MIB, { flags: SHARED | FIXED | 0x20 }), h.madvise(BASE, 2 * MIB, MADV_HUGEPAGE));
    expect(both("v4.0", "v4.10", special)).toEqual([-22, 0]);
    const cold = (h: TestHost) => (h.mmap(BASE, 2 * MIB), h.madvise(BASE, 2 * MIB, MADV_COLD));
    expect(both("v4.20", "v5.4", cold)).toEqual([-22, 0]);
  });

  it("ptReclaim: where MADV_DONTNEED leaves no table, the next fault is a huge one again", () => {
    /** Levels at which the first and the second 2 MiB are mapped after DONTNEED of `length` bytes and a read of each. */
    const levels = (from: number, length: number) => (h: TestHost) => {
      h.mmap(BASE, 4 * MIB);
      for (const block of [BASE, BASE + 2 * MIB]) {
        h.read(block);
        h.mprotect(block, PAGE, 1); // splits the huge zero page
        h.mprotect(block, PAGE, RW);
      }
      h.madvise(BASE + from, length, MADV_DONTNEED);
      return [BASE, BASE + 2 * MIB].map((block) => {
        h.read(block);
        h.mm.pt.walk(0, block);
        return h.mm.pt.leafLevel;
      });
    };
    const reclaimed = (from: number, length: number) => both("v6.18.2", "v7.2.12", levels(from, length));
    expect(reclaimed(0, 4 * MIB)).toEqual([
      [3, 3],
      [2, 2],
    ]);
    // A table that the range covers in part stays, though nothing is left in it that a read has not mapped.
    expect(reclaimed(PAGE, 4 * MIB - PAGE)).toEqual([
      [3, 3],
      [3, 2],
    ]);
  });

  it("mremapDontunmapFiles: refused or moved", () => {
    const shared = (h: TestHost) => {
      h.mmap(BASE, PAGE, { flags: FIXED | SHARED, file: h.mm.files.createMemfd(PAGE) });
      return Math.min(0, h.mremap(BASE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP));
    };
    expect(both("v5.12", "v5.14", shared)).toEqual([-22, 0]);
  });

  it("mremapHugetlb, mremapZeroLengthPrivate: refused or done", () => {
    const move = MREMAP_MAYMOVE | MREMAP_FIXED;
    const hugetlb = (h: TestHost) => {
      h.mmap(BASE, 2 * MIB, { flags: ANON | FIXED | MAP_HUGETLB });
      h.write(BASE, 5);
      const to = h.mremap(BASE, 2 * MIB, 2 * MIB, move, BASE + GIB);
      return to < 0 ? to : h.read(to);
    };
    expect(both("v5.14", "v6.1", hugetlb)).toEqual([-22, 5]);
    const mapped = (h: TestHost) => h.mmap(BASE, 4 * MIB, { flags: ANON | FIXED | MAP_HUGETLB });
    const shrink = (h: TestHost) => (mapped(h), h.mremap(BASE, 4 * MIB, PAGE));
    expect(both("v5.14", "v6.1", shrink)).toEqual([-22, BASE]); // rounded up since then
    const unaligned = (h: TestHost) => (mapped(h), h.mremap(BASE, 4 * MIB, 2 * MIB, move, BASE + GIB + PAGE));
    expect(both("v5.14", "v6.1", unaligned)).toEqual([-22, -22]);
    const tail = (h: TestHost) => (mapped(h), h.mremap(BASE, 4 * MIB, 2 * MIB));
    expect(both("v5.14", "v6.1", tail)).toEqual([BASE, BASE]);
    const nothing = (h: TestHost) => h.mremap(BASE, PAGE, PAGE);
    expect(both("v5.14", "v6.1", nothing)).toEqual([BASE, -14]);
    const zero = (h: TestHost) => (h.mmap(BASE, PAGE), h.mremap(BASE, 0, PAGE, MREMAP_MAYMOVE) > 0);
    expect(both("v4.10", "v4.20", zero)).toEqual([true, false]);
  });

  it("mremapZeroLengthAnnounced: a second mapping of shared pages moves none, and is told as a range without an address, or not", () => {
    const told = (h: TestHost) => {
      h.mmap(BASE, PAGE, { flags: SHARED | FIXED, file: h.mm.files.createMemfd(PAGE) });
      h.write(BASE, 7);
      const to = h.quiet().mremap(BASE, 0, PAGE, MREMAP_MAYMOVE);
      return [h.ranges, h.read(to), h.read(BASE)];
    };
    const empty = ["S UNMAP 0x0-0x0", "E UNMAP 0x0-0x0"];
    expect(both("v5.10", "v5.10.223", told)).toEqual([
      [empty, 7, 7],
      [[], 7, 7],
    ]);
    expect(both("v5.15", "v6.1", told)).toEqual([
      [empty, 7, 7],
      [[], 7, 7],
    ]);
  });

  it("rmapRangeEnd: a split takes a huge page out of a VMA that begins behind its first page as far as a huge page goes, or to its end", () => {
    const told = (h: TestHost) => {
      h.mmap(BASE, 4 * MIB);
      h.madvise(BASE, 4 * MIB, MADV_HUGEPAGE);
      h.write(BASE, 1);
      h.mprotect(BASE, PAGE, 1);
      h.quiet().run(h.mm.huge.splitHugePage, 0, BASE, 0);
      return h.starts.filter((r) => r.startsWith("CLEAR 0x1000"));
    };
    expect(both("v5.10", "v5.10.223", told)).toEqual([["CLEAR 0x1000-0x201000"], ["CLEAR 0x1000-0x200000"]]);
    expect(both("v5.12", "v5.14", told)).toEqual([["CLEAR 0x1000-0x201000"], ["CLEAR 0x1000-0x200000"]]);
  });

  it("userMte: PROT_MTE is part of a mapping's protection, or unknown", () => {
    const steps = (h: TestHost) => (h.mmap(BASE, PAGE), [h.mprotect(BASE, PAGE, RW | PROT_MTE), h.mm.maps(0)[0]!.pageProt]);
    expect(both("v5.8", "v5.11", steps)).toEqual([
      [-22, "normal"],
      [0, "tagged"],
    ]);
  });

  it("forkOpen: the driver hears of the child's mapping after its entries were copied, or before", () => {
    const steps = (h: TestHost) => {
      const { agents } = h.sim;
      const seen: boolean[] = [];
      const act = (name: string, run: (v: number, mm: number) => number) =>
        agents.activity(name, "test", 4, [["run", (f) => agents.ret(f, run(agents.stack.a[f + ARG + 1]!, agents.stack.a[f + ARG]!))]]);
      const file = h.mm.files.openDevice({
        mmap: act("tmmap", (v, mm) => {
          h.mm.vmas.setFlags(v, h.mm.vmas.flags(v) | VM_IO | VM_PFNMAP | VM_DONTEXPAND);
          return h.mm.zap.remapPfnRange(mm, v, h.mm.vmas.start(v), 0x8000000, PAGE);
        }),
        fault: act("tfault", () => 2),
        open: act("topen", (v, mm) => (seen.push(h.mm.pt.walk(mm, h.mm.vmas.start(v))), 0)),
      });
      h.mmap(BASE, PAGE, { flags: SHARED | FIXED, file });
      h.quiet().fork();
      return [seen, h.ranges];
    };
    expect(both("v6.8", "v6.9", steps)).toEqual([
      [[true], []],
      [[false], []],
    ]);
  });
});
