import { describe, expect, it } from "vitest";
import { FIXED, BASE, MIB, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;
const OTHER = BASE + 4 * MIB;

/** Pages that are mapped at an address and behind it, numbered from there; those whose access flag is clear with an apostrophe. */
function mapped(h: TestHost, from: number, pages = 64): string {
  const { pt } = h.mm;
  const out: string[] = [];
  for (let i = 0; i < pages; i++) if (pt.walk(0, from + i * PAGE) && pt.leafLevel === 3) out.push(`${i}${pt.young ? "" : "'"}`);
  return out.join(" ");
}

/** A memory file with some pages in the cache, mapped a second time at OTHER. */
function host(era: string, pages: readonly number[], length = 64 * PAGE, offset = 0): TestHost {
  const h = new TestHost(era);
  const file = h.mm.files.createMemfd(length);
  h.mmap(BASE, length, { flags: SHARED | FIXED, file });
  for (const p of pages) h.write(BASE + p * PAGE, p + 1);
  h.mmap(OTHER + offset, length - offset, { flags: SHARED | FIXED, file, offset });
  return h;
}

describe("do_fault_around", () => {
  it("maps with a page that is read what the cache has of the 64 KiB around it, with a page that is written nothing else", () => {
    const h = host("v5.4", [0, 3, 15, 16, 17]);
    expect(h.read(OTHER + 3 * PAGE)).toBe(4);
    expect(mapped(h, OTHER)).toBe("0 3 15");
    expect(h.read(OTHER + 20 * PAGE)).toBe(0);
    expect(mapped(h, OTHER)).toBe("0 3 15 16 17 20");
    h.write(OTHER + 33 * PAGE, 1);
    h.write(OTHER + 32 * PAGE, 1);
    expect(mapped(h, OTHER)).toBe("0 3 15 16 17 20 32 33");
    expect([0, 15, 16].map((p) => h.read(OTHER + p * PAGE))).toEqual([1, 16, 17]);
  });

  it("takes 16 pages from the VMA's start on where that cuts the aligned ones, and stops at the file's end", () => {
    const h = host("v5.4", [4, 5, 6, 20, 21, 22], 22 * PAGE + 1, 5 * PAGE);
    h.read(OTHER + 7 * PAGE);
    expect(mapped(h, OTHER)).toBe("5 6 7 20");
    h.read(OTHER + 21 * PAGE);
    expect(mapped(h, OTHER)).toBe("5 6 7 20 21 22");
  });

  it("GUP gets the page that it asked for, whatever was mapped behind it", () => {
    for (const era of ["v5.4", "v6.12", "v7.2.12"])
      for (const page of [0, 1, 2]) {
        const h = host(era, [0, 1, 2]);
        const of = h.mm.vmas.file(h.mm.vmas.findVma(0, OTHER));
        h.mm.gup.fastWalk(0, OTHER + page * PAGE, false);
        expect(h.mm.gup.tryUnlocked(0, OTHER + page * PAGE, 0)).toBe(h.mm.files.cache.find(of, page));
        expect(mapped(h, OTHER)).toMatch(/^0'? 1'? 2'?$/);
      }
  });

  it("counts each as a mapping: reclaim and truncation find them", () => {
    const h = host("v6.12", [0, 1]);
    h.read(OTHER);
    const pfn = h.mm.files.cache.find(h.mm.vmas.file(h.mm.vmas.findVma(0, OTHER)), 1);
    expect([h.mm.frames.mapcount(pfn), h.mm.frames.refcount(pfn)]).toEqual([2, 3]);
    h.munmap(OTHER, 64 * PAGE);
    expect([h.mm.frames.mapcount(pfn), h.mm.frames.refcount(pfn)]).toEqual([1, 2]);
  });

  it("leaves the access flag of the others clear from v5.12 on; from v6.6 to v6.10 that of the page that faulted, read or written", () => {
    const entries = (era: string) => {
      const h = host(era, [0, 1, 2]);
      h.read(OTHER + PAGE);
      h.write(OTHER + 40 * PAGE, 1);
      return mapped(h, OTHER);
    };
    const eras = ["v5.4", "v5.11", "v5.14", "v6.4", "v6.8", "v6.9", "v6.12", "v7.2.12"];
    expect(Object.fromEntries(eras.map((e) => [e, entries(e)]))).toEqual({
      "v5.4": "0 1 2 40",
      "v5.11": "0 1 2 40",
      "v5.14": "0' 1 2' 40",
      "v6.4": "0' 1 2' 40",
      "v6.8": "0 1' 2 40'",
      "v6.9": "0 1' 2 40'",
      "v6.12": "0' 1 2' 40",
      "v7.2.12": "0' 1 2' 40",
    });
  });
});
