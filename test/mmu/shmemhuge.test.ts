/** Huge pages of memory files made by faults: what shmem_enabled allows in which release, recorded on real kernels and row by row. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { MADV_COLLAPSE, MADV_HUGEPAGE, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import type { ShmemPolicy, ThpPolicy } from "../../src/mmu/thpsettings.js";
import { EINVAL, ENOENT } from "../../src/sim/errno.js";
import { reproduced } from "../conform/realkernels.js";
import { ANON, BASE, FIXED, MIB, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;

reproduced(join(import.meta.dirname, "shmemhuge"), "a real kernel's %s is reproduced", 2);

class Host extends TestHost {
  readonly file: number;
  constructor(era: string, shmem: ShmemPolicy, size = 4 * MIB) {
    super(era, {}, { shmem });
    this.file = this.mm.files.createMemfd(size);
    this.mmap(BASE, 8 * MIB, { flags: SHARED | FIXED, file: this.file });
  }
  store(file: string, value: string): number {
    return this.mm.thp.store(file, value);
  }
  /** Is the page of the file part of a huge page of the cache? */
  huge(page: number): boolean {
    const pfn = this.mm.files.cache.find(this.file, page);
    return pfn >= 0 && this.mm.frames.isThp(pfn);
  }
  /** Touches a page. @returns the level of its entry, or the error */
  touch(page: number): number {
    const error = this.write(BASE + page * PAGE, 1);
    this.mm.pt.walk(0, BASE + page * PAGE);
    return error < 0 ? error : this.mm.pt.leafLevel;
  }
  fallocate(mode: number, offset: number, length: number): number {
    return this.run(this.mm.syscalls.fallocate, this.file, mode, offset, length);
  }
}

describe("shmem_enabled", () => {
  it("is not there before v4.8, takes six words, and no others", () => {
    expect(new Host("v4.0", "always").touch(0)).toBe(3);
    expect(new Host("v4.0", "never").store("shmem_enabled", "always")).toBe(-ENOENT);
    const h = new Host("v6.12", "never");
    const answers = ["never", "always", "within_size", "advise", "deny", "force", "madvise", ""].map((w) => h.store("shmem_enabled", w));
    expect(answers).toEqual([0, 0, 0, 0, 0, 0, -EINVAL, -EINVAL]);
    expect([h.store("enabled", "madvise"), h.store("enabled", "force"), h.store("defrag", "always")]).toEqual([0, -EINVAL, -ENOENT]);
  });

  it("is never where it is not there, also for a machine that was given another word; a word of none is refused", () => {
    const h = new TestHost("v4.0", {}, { shmem: "force" });
    expect([h.mm.thp.shmemHuge, h.mm.thp.shmMnt, h.mm.thp.alignsShmem]).toEqual([0, 0, false]);
    expect(() => new TestHost("v6.12", {}, { shmem: "madvise" as ShmemPolicy })).toThrow(
      "shmem_enabled is one of never, always, within_size",
    );
    expect(() => new TestHost("v6.12", {}, { thp: "on" as ThpPolicy })).toThrow("enabled is one of always, madvise, never, not on");
  });

  /** By setting: the level of the entry without advice, with MADV_HUGEPAGE, with MADV_NOHUGEPAGE; of files that exceed the block. */
  it.each([
    ["never", 3, 3, 3],
    ["always", 2, 2, 3],
    ["within_size", 2, 2, 3],
    ["advise", 3, 2, 3],
    ["deny", 3, 3, 3],
    ["force", 2, 2, 3],
  ] as const)("%s makes entries of level %i, with MADV_HUGEPAGE %i, with MADV_NOHUGEPAGE %i", (shmem, plain, advised, refused) => {
    for (const era of ["v4.20", "v5.4", "v5.15", "v6.1", "v6.12", "v7.2.12"]) {
      const level = (advice: number) => {
        const h = new Host(era, shmem);
        if (advice !== 0) h.madvise(BASE, 4 * MIB, advice);
        return h.touch(5);
      };
      expect([level(0), level(MADV_HUGEPAGE), level(MADV_NOHUGEPAGE)], era).toEqual([plain, advised, refused]);
    }
  });

  it("deny and force leave what the mount says; up to v4.12 force alone reaches it, and stays", () => {
    const level = (era: string, words: readonly string[]) => {
      const h = new Host(era, "never");
      for (const word of words) h.store("shmem_enabled", word);
      return h.touch(0);
    };
    for (const era of ["v4.20", "v6.12"]) {
      expect(level(era, ["always", "deny"]), era).toBe(3);
      expect(level(era, ["force", "never"]), era).toBe(3);
    }
    expect([["always"], ["within_size"], ["force"], ["force", "never"], ["force", "deny"]].map((w) => level("v4.10", w))).toEqual([
      3, 3, 2, 2, 3,
    ]);
  });

  /** Pages of the file, page touched, and whether v5.14, v6.12 and v7.2 make a huge page (v5.10, v6.12 and v7.2 recorded). */
  it.each([
    [768, 0, true, true, true],
    [768, 512, true, false, true],
    [768, 513, false, false, true],
    [768, 767, false, false, true],
    [384, 0, false, false, true],
    [384, 1, false, false, true],
    [512, 1, true, true, true],
    [513, 512, true, false, false],
    [514, 512, true, false, true],
    [515, 514, false, false, false],
    [1024, 1023, true, true, true],
    [1, 0, false, false, false],
    [2, 0, false, false, true],
  ])("within_size, a file of %i pages, page %i: huge in v5.14 %s, v6.12 %s, v7.2 %s", (pages, page, ...want) => {
    const got = ["v5.14", "v6.12", "v7.2.12"].map((era) => {
      const h = new Host(era, "within_size", pages * PAGE);
      expect(h.touch(page)).toBeGreaterThan(0);
      return h.huge(page);
    });
    expect(got).toEqual(want);
  });
});

describe("a huge page of a memory file", () => {
  it("is made only where the block is empty, and freed with the file though it goes beyond its end", () => {
    const h = new Host("v6.12", "never", PAGE);
    const before = h.mm.frames.allocated;
    h.store("shmem_enabled", "always");
    expect([h.touch(0), h.mm.frames.allocated - before]).toEqual([2, 512]);
    h.munmap(BASE, 8 * MIB);
    h.mm.files.put(h.file);
    expect(h.mm.frames.allocated).toBe(before);

    const small = new Host("v6.12", "never");
    expect(small.touch(7)).toBe(3);
    small.store("shmem_enabled", "always");
    expect([small.touch(8), small.huge(8), small.touch(512)]).toEqual([3, false, 2]);
  });

  it("shmemHugeSuitable: is made for a VMA that cannot map it whole up to v6.10, not from v6.11 on", () => {
    const made = (era: string) => {
      const h = new TestHost(era, {}, { shmem: "always" });
      const file = h.mm.files.createMemfd(4 * MIB);
      h.mmap(BASE + PAGE, 4 * MIB, { flags: SHARED | FIXED, file });
      h.write(BASE + 2 * MIB, 1);
      return h.mm.frames.isThp(h.mm.files.cache.find(file, 511));
    };
    expect(["v4.20", "v6.9", "v6.12"].map(made)).toEqual([true, true, false]);
  });

  it("filePmdHead: v6.8 and v6.9 map it whole for its first page only", () => {
    const levels = (page: number) => ["v6.6", "v6.8", "v6.9", "v6.12"].map((era) => new Host(era, "always").touch(page));
    expect(levels(0)).toEqual([2, 2, 2, 2]);
    expect(levels(100)).toEqual([2, 3, 3, 2]);
  });

  it("fallocateHuge: as a fault, as if the file reached to its end, by the length that is left, wherever a block lies within", () => {
    const ERAS = ["v6.9", "v6.12", "v6.17", "v6.18.2"];
    const made = (shmem: ShmemPolicy, offset: number, length: number) =>
      ERAS.map((era) => {
        const h = new Host(era, shmem, 0);
        expect(h.fallocate(0, offset, length)).toBe(0);
        return h.huge(offset / PAGE);
      });
    expect(made("always", 0, PAGE)).toEqual([true, true, false, true]);
    expect(made("always", 0, 2 * MIB)).toEqual([true, true, true, true]);
    expect(made("within_size", 0, 2 * MIB)).toEqual([false, true, true, true]);
    expect(made("within_size", 0, MIB)).toEqual([false, false, false, false]);
    expect(made("advise", 0, 2 * MIB)).toEqual([false, false, false, false]);
    expect(made("force", 0, PAGE)).toEqual([true, true, true, true]);
  });

  it("fileHoleSplits: a hole in it is zeros, and the page stays huge up to v5.6; it is split from v5.7 on", () => {
    const after = (era: string) => {
      const h = new Host(era, "always");
      h.write(BASE + PAGE, 7);
      h.write(BASE + 2 * PAGE, 8);
      expect(h.fallocate(3, PAGE, PAGE)).toBe(0);
      return [h.huge(0), h.read(BASE + PAGE), h.read(BASE + 2 * PAGE)];
    };
    expect(after("v5.6")).toEqual([true, 0, 8]);
    expect(after("v5.8")).toEqual([false, 0, 8]);
  });

  it("a file that is cut within it loses nothing of its memory when it goes, split or not", () => {
    for (const era of ["v5.6", "v6.12"]) {
      const h = new Host(era, "never");
      const before = h.mm.frames.allocated;
      h.store("shmem_enabled", "always");
      h.touch(0);
      expect(h.run(h.mm.syscalls.ftruncate, h.file, PAGE)).toBe(0);
      h.munmap(BASE, 8 * MIB);
      h.mm.files.put(h.file);
      expect(h.mm.frames.allocated, era).toBe(before);
    }
  });

  it("collapseDenied: deny keeps MADV_COLLAPSE away from v6.2 on", () => {
    const collapse = (era: string) => {
      const h = new Host(era, "deny");
      h.touch(0);
      return h.madvise(BASE, 2 * MIB, MADV_COLLAPSE);
    };
    expect(["v6.1", "v6.4", "v7.2.12"].map(collapse)).toEqual([0, -EINVAL, -EINVAL]);
  });

  it("mappings are put where their blocks are the file's, unless the setting is never or deny, or they are small", () => {
    const within = (shmem: ShmemPolicy, length: number, offset = 0, era = "v6.12", hint = 0) => {
      const h = new TestHost(era, {}, { shmem });
      h.mmap(0, 3 * PAGE, { flags: ANON });
      const file = h.mm.files.createMemfd(8 * MIB);
      return h.mmap(hint, length, { flags: SHARED, file, offset }) % (2 * MIB);
    };
    expect((["never", "deny"] as const).map((s) => within(s, 4 * MIB) !== 0)).toEqual([true, true]);
    expect((["always", "within_size", "advise", "force"] as const).map((s) => within(s, 4 * MIB))).toEqual([0, 0, 0, 0]);
    expect(within("always", 4 * MIB, MIB)).toBe(MIB);
    expect(within("always", MIB)).not.toBe(0);
    expect(within("always", 2 * MIB, MIB)).not.toBe(MIB);
    // shmemAlignHint: an address as a hint that was not free.
    const top = new TestHost().mmap(0, 3 * PAGE, { flags: ANON });
    expect(within("always", 4 * MIB, 0, "v5.4", top)).not.toBe(0);
    expect(within("always", 4 * MIB, 0, "v5.6", top)).toBe(0);
  });
});
