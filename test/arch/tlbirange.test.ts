/** TlbiRangeOps: the operations of a range, in the order of the two forms of __flush_tlb_range_op. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SINGLE_PAGE, TlbiRangeOps } from "../../src/arch/tlbirange.js";

const MOST_PAGES = 2 ** 21;
/** [first page, scale, num]; scale and num are absent of a page by itself. */
function operations(falling: boolean, page: number, pages: number): number[][] {
  const ops = new TlbiRangeOps(falling);
  const list: number[][] = [];
  ops.start(page, pages);
  while (ops.next()) list.push(ops.num === SINGLE_PAGE ? [ops.page] : [ops.page, ops.scale, ops.num]);
  return list;
}

describe("a TLBI of 0x1043 pages", () => {
  it("up to v6.7: the odd page, then rising scales", () =>
    expect(operations(false, 0x100, 0x1043)).toEqual([[0x100], [0x101, 0, 0], [0x103, 1, 0], [0x143, 2, 1]]));
  it("from v6.8 on: falling scales, then the page that is left", () =>
    expect(operations(true, 0x100, 0x1043)).toEqual([[0x100, 2, 1], [0x1100, 1, 0], [0x1140, 0, 0], [0x1142]]));
});

it("2^21 pages: falling scales take them in one, rising ones need a scale that the operand has no room for", () => {
  expect(operations(true, 0, MOST_PAGES)).toEqual([[0, 3, 31]]);
  expect(operations(false, 0, MOST_PAGES)).toEqual([[0, 4, 0]]);
});

it("the operations follow each other without a gap, are as long as the range together, and fit their fields", () => {
  fc.assert(
    fc.property(fc.boolean(), fc.nat(2 ** 30), fc.integer({ min: 1, max: MOST_PAGES - 1 }), (falling, page, pages) => {
      let at = page;
      let last = falling ? 4 : -1;
      for (const [first, scale, num] of operations(falling, page, pages)) {
        expect(first).toBe(at);
        if (scale === undefined || num === undefined) {
          at += 1;
          continue;
        }
        expect(falling ? scale < last : scale > last).toBe(true);
        last = scale;
        expect(scale >= 0 && scale <= 3 && num >= 0 && num <= 31).toBe(true);
        at += (num + 1) << (5 * scale + 1);
      }
      expect(at).toBe(page + pages);
    }),
  );
});
