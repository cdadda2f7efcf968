import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FOLL_WRITE } from "../../src/mmu/gup.js";
import { MADV_COLLAPSE, MADV_DONTNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { PTE_AF, PTE_RDONLY } from "../../src/mmu/pte.js";
import { BASE, MIB, RW, TestHost } from "./host.js";

const PAGES = [0, 1, 511, 512, 513];
const address = (n: number): number => BASE + PAGES[n]! * 4096;

const step = fc.record({
  what: fc.constantFrom("touch", "touch", "touch", "look", "free", "unmap", "readonly", "writable", "collapse", "rollback"),
  page: fc.nat(PAGES.length - 1),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function act(h: TestHost, s: Step): void {
  const at = address(s.page);
  switch (s.what) {
    case "touch":
      h.run(h.mm.gup.getUserPagesUnlocked, 0, at, FOLL_WRITE);
      break;
    case "look":
      h.mm.gup.gupFast(0, at, false);
      break;
    case "free":
      h.madvise(at, 4096, MADV_DONTNEED);
      break;
    case "unmap":
      h.munmap(at, 4096);
      h.mmap(at, 4096);
      break;
    case "collapse":
      h.madvise(BASE, 2 * MIB, MADV_COLLAPSE);
      break;
    default:
      h.mprotect(at, 4096, s.what === "readonly" ? 1 : RW);
  }
}

/** Where the walk is said to stand on the entry of a page, a new walk finds what the last one left. @returns how often that was */
function check(h: TestHost): number {
  const { pt } = h.mm;
  const stands = PAGES.map((_, n) => pt.standsOn(0, address(n)));
  const { level, entry, lo, hi, leafLevel } = pt;
  let n = 0;
  for (const [i, stood] of stands.entries()) {
    if (!stood) continue;
    n++;
    pt.walk(0, address(i));
    expect([pt.level, pt.entry, pt.lo & ~(PTE_AF | PTE_RDONLY), pt.hi, pt.leafLevel]).toEqual([
      level,
      entry,
      lo & ~(PTE_AF | PTE_RDONLY),
      hi,
      leafLevel,
    ]);
  }
  return n;
}

describe("a walk of the host's tables", () => {
  it("is said to stand on an entry only as long as a new one would find the same", () => {
    let stood = 0;
    fc.assert(
      fc.property(fc.boolean(), fc.array(step, { minLength: 1, maxLength: 40 }), (huge, steps) => {
        const h = new TestHost();
        h.mmap(BASE, 4 * MIB);
        h.madvise(BASE, 4 * MIB, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        h.sim.state.startRecording();
        let mark = h.sim.state.mark();
        for (const s of steps) {
          if (s.what === "rollback") h.sim.state.rollback(mark);
          else {
            if (s.page === 0) mark = h.sim.state.mark();
            act(h, s);
          }
          stood += check(h);
        }
      }),
      { numRuns: 60, seed: 5 },
    );
    expect(stood).toBeGreaterThan(100);
  });
});
