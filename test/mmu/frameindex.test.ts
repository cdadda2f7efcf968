import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FrameIndex, RUN_WORDS } from "../../src/mmu/frameindex.js";
import { StateRegistry } from "../../src/sim/state.js";

const RUNS = 3;

function index(): { x: FrameIndex; words: () => number[][] } {
  const state = new StateRegistry();
  const runs = state.i32("frames.records", RUNS * RUN_WORDS);
  const x = new FrameIndex(state, runs);
  // Room for all from the start: how much a pool has held is no part of the state.
  state.pools[1]!.ensure(1 + RUNS * 513);
  return { x, words: () => state.pools.map((p) => [...p.a.subarray(0, p.needed)]) };
}

const value = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 6 }).map((n) => 0x70000 + n) },
  { weight: 1, arbitrary: fc.constantFrom(0, 3, 0x10000, 0x70000, 0x60005, 0xffffffff, 0xffff0000) },
);

describe("the indexes of a block's pages", () => {
  it("are what was set last, in the same words in whatever order they came and whatever was there before", () => {
    const step = fc.tuple(fc.nat({ max: RUNS - 1 }), fc.nat({ max: 511 }), fc.nat({ max: 11 }), value);
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const a = index();
        const model = new Map<number, number>();
        const pages = new Set<number>();
        for (const [run, far, near, v] of steps) {
          const page = run * 512 + (far % 5 === 0 ? far : near);
          pages.add(page);
          a.x.set(run * RUN_WORDS, page % 512, v | 0);
          if (v === 0) model.delete(page);
          else model.set(page, v);
        }
        for (const page of pages) expect(a.x.get((page >>> 9) * RUN_WORDS, page % 512) >>> 0).toBe(model.get(page) ?? 0);
        // Where a wide block's words lie is a matter of who was first, as with runs: one run has them in the same place.
        const b = index();
        const c = index();
        for (const page of pages) {
          if (page >= 512) a.x.set((page >>> 9) * RUN_WORDS, page % 512, 0);
          else b.x.set(0, page, (model.get(page) ?? 0) | 0);
        }
        for (const page of [...pages].sort((p, q) => q - p)) if (page < 512) c.x.set(0, page, (model.get(page) ?? 0) | 0);
        expect(a.words()).toEqual(b.words());
        expect(c.words()).toEqual(b.words());
      }),
      { numRuns: 300, seed: 5 },
    );
  });

  it("leave the list of free pages alone when the block becomes wide, and narrow again", () => {
    const { x } = index();
    for (let i = 0; i < 8; i++) x.set(0, i, 0x70001 + i);
    for (const i of [2, 5, 3]) x.give(0, i);
    x.set(0, 0, 0x50001);
    expect([0, 1, 4, 6, 7].map((i) => x.get(0, i))).toEqual([0x50001, 0x70002, 0x70005, 0x70007, 0x70008]);
    expect(x.take(0)).toBe(3);
    expect(x.get(0, 3)).toBe(0);
    x.add(0, 3, 0x50002);
    x.give(0, 3);
    x.set(0, 0, 0);
    expect([0, 1, 4, 6, 7].map((i) => x.get(0, i))).toEqual([0, 0x70002, 0x70005, 0x70007, 0x70008]);
    expect([x.take(0), x.take(0), x.take(0), x.take(0)]).toEqual([3, 5, 2, -1]);
    expect([2, 3, 5].map((i) => x.get(0, i))).toEqual([0, 0, 0]);
  });
});
