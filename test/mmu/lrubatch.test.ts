/** v5.10 to v5.15: a page in a CPU's batch for the LRU lists has a reference more, and do_wp_page copies it. */
import { describe, expect, it } from "vitest";
import { MADV_COLD, MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE } from "../../src/mmu/madvise.js";
import { ANON, BASE, FIXED, MIB, RW, TestHost } from "./host.js";

const PAGE = 0x1000;
const PROT_READ = 1;
const ELSEWHERE = BASE + 0x4000_0000;
/** PAGEVEC_SIZE. */
const BATCH = 15;

/** A process that has written the first of its pages; `between`; then the page is protected and written again. */
function copies(era: string, between: (h: TestHost) => void = () => undefined): boolean {
  const h = new TestHost(era, {}, { thp: "madvise" });
  h.mmap(BASE, 64 * PAGE);
  h.mmap(ELSEWHERE, 4 * MIB);
  h.write(BASE, 1);
  between(h);
  h.mprotect(BASE, PAGE, PROT_READ);
  h.mprotect(BASE, PAGE, RW);
  const { pt } = h.mm;
  pt.walk(0, BASE);
  const before = pt.leafPfn;
  h.quiet();
  expect(h.write(BASE, 2)).toBe(0);
  pt.walk(0, BASE);
  expect(h.ranges).toEqual(pt.leafPfn === before ? [] : ["S CLEAR 0x0-0x1000", "E CLEAR 0x0-0x1000"]);
  return pt.leafPfn !== before;
}
const write = (pages: number) => (h: TestHost) => {
  for (let i = 1; i <= pages; i++) h.write(BASE + i * PAGE, 1);
};

describe("a page that was written a moment ago, protected, and written again", () => {
  it.each(["v5.10", "v5.11", "v5.12", "v5.14", "v5.15"])("%s: is copied", (era) => expect(copies(era)).toBe(true));
  it.each(["v4.0", "v5.4", "v5.8", "v6.1", "v6.6", "v6.12"])("%s: is kept", (era) => expect(copies(era)).toBe(false));
});

describe("v5.10: what empties the batch, so that the page is kept", () => {
  it("the fifteenth page, not the fourteenth", () => {
    expect(copies("v5.10", write(BATCH - 2))).toBe(true);
    expect(copies("v5.10", write(BATCH - 1))).toBe(false);
  });
  it("a huge page", () => {
    const huge = (h: TestHost) => {
      h.madvise(ELSEWHERE, 4 * MIB, MADV_HUGEPAGE);
      h.write(ELSEWHERE, 1);
    };
    expect(copies("v5.10", huge)).toBe(false);
  });
  it("a munmap, also by MAP_FIXED, and MADV_DONTNEED and MADV_COLD, whatever they are of", () => {
    expect(copies("v5.10", (h) => h.munmap(ELSEWHERE, PAGE))).toBe(false);
    expect(copies("v5.10", (h) => h.mmap(ELSEWHERE, PAGE, { flags: ANON | FIXED }))).toBe(false);
    expect(copies("v5.10", (h) => h.madvise(ELSEWHERE, PAGE, MADV_DONTNEED))).toBe(false);
    expect(copies("v5.10", (h) => h.madvise(ELSEWHERE, PAGE, MADV_COLD))).toBe(false);
  });
  it("MADV_FREE of another page; its own page goes into a batch of those to be freed first", () => {
    expect(copies("v5.10", (h) => h.madvise(ELSEWHERE, PAGE, MADV_FREE))).toBe(false);
    expect(copies("v5.10", (h) => h.madvise(BASE, PAGE, MADV_FREE))).toBe(true);
  });
  it("not mprotect, not a read of zeroes, not a mmap where nothing was", () => {
    const others = (h: TestHost) => {
      h.mprotect(ELSEWHERE, PAGE, PROT_READ);
      h.read(ELSEWHERE);
      h.mmap(ELSEWHERE + 64 * MIB, PAGE);
    };
    expect(copies("v5.10", others)).toBe(true);
  });
});
