import { describe, expect, it } from "vitest";
import {
  isLeaf,
  isTable,
  leafHi,
  leafLo,
  memAttrOf,
  outputAddress,
  outputAddressAt,
  s2apOf,
  shOf,
  stage2Lo,
  stage2Xn,
  tableLo,
  xnOf,
} from "../../src/arch/descriptors.js";
import {
  bitsAt,
  blockAllowed,
  levelShift,
  levelSize,
  paBitsOf,
  paRangeOf,
  stage2Geometry,
  startBits,
  startLevel,
  tableIndex,
  tg0Shift,
  tg1Shift,
  vtcrStartLevel,
  vtcrWord,
} from "../../src/arch/geometry.js";
import { hex64 } from "../../src/sim/events.js";

describe("geometry", () => {
  it("splits the worked addresses of the reference into their indices", () => {
    const cases = [
      { hi: 0xffff8000, lo: 0x12345678, isize: 48, shift: 12, start: 0, indices: [256, 0, 145, 325], offset: 0x678 },
      { hi: 0x0000ffff, lo: 0x12345678, isize: 48, shift: 12, start: 0, indices: [511, 508, 145, 325], offset: 0x678 },
      { hi: 0x00007fab, lo: 0xcdef1234, isize: 48, shift: 14, start: 0, indices: [0, 2042, 1510, 1980], offset: 0x1234 },
      { hi: 0x00007fab, lo: 0xcdef1234, isize: 48, shift: 16, start: 1, indices: [31, 7518, 3567], offset: 0x1234 },
    ];
    for (const c of cases) {
      expect(startLevel(c.isize, c.shift)).toBe(c.start);
      const got = c.indices.map((_, n) => {
        const level = c.start + n;
        return n === 0
          ? bitsAt(c.hi | 0, c.lo | 0, levelShift(level, c.shift), startBits(c.isize, level, c.shift))
          : tableIndex(c.hi | 0, c.lo | 0, level, c.shift);
      });
      expect(got).toEqual(c.indices);
      expect(bitsAt(c.hi | 0, c.lo | 0, 0, c.shift)).toBe(c.offset);
    }
  });

  it("starts a 40-bit stage 2 at level 1 with ten index bits", () => {
    const g = stage2Geometry(40);
    expect(g).toEqual({ ipaBits: 40, pageShift: 12, levels: 3, startLevel: 1, sl0: 1, rootPages: 2, cachePages: 2 });
    expect(startBits(40, 1)).toBe(10);
    expect([bitsAt(8, 0x45678000, 30, 10), tableIndex(8, 0x45678000, 2), tableIndex(8, 0x45678000, 3)]).toEqual([33, 43, 120]);
  });

  it("gives every IPA size the levels, start, SL0, root pages and cache of KVM's table", () => {
    const rows: readonly (readonly [number, string, number, number, number, string, number])[] = [
      [12, "32 33 34", 2, 2, 0, "4 8 16", 1],
      [12, "35 36 37 38 39", 3, 1, 1, "1 1 1 1 1", 2],
      [12, "40", 3, 1, 1, "2", 2],
      [12, "41 42 43", 3, 1, 1, "4 8 16", 2],
      [12, "44 45 46 47 48", 4, 0, 2, "1 1 1 1 1", 3],
      [14, "32 33 34 35 36", 2, 2, 1, "1 1 1 1 1", 1],
      [14, "37 38 39 40", 2, 2, 1, "2 4 8 16", 1],
      [14, "41 42 43 44 45 46 47", 3, 1, 2, "1 1 1 1 1 1 1", 2],
      [14, "48", 3, 1, 2, "2", 2],
      [16, "32 33 34 35 36 37 38 39 40 41 42", 2, 2, 1, "1 1 1 1 1 1 1 1 1 1 1", 1],
      [16, "43 44 45 46", 2, 2, 1, "2 4 8 16", 1],
      [16, "47 48 49 50 51 52", 3, 1, 2, "1 1 1 1 1 1", 2],
    ];
    for (const [shift, sizes, levels, start, sl0, pages, cache] of rows) {
      const roots = pages.split(" ").map(Number);
      for (const [n, bits] of sizes.split(" ").map(Number).entries()) {
        const g = stage2Geometry(bits, shift);
        expect([shift, bits, g.levels, g.startLevel, g.sl0, g.rootPages, g.cachePages]).toEqual([
          shift,
          bits,
          levels,
          start,
          sl0,
          roots[n],
          cache,
        ]);
        const vtcr = vtcrWord(g, 5, true, true);
        expect([shift, bits, vtcrStartLevel(vtcr, 0)]).toEqual([shift, bits, start]);
      }
    }
  });

  it("builds VTCR_EL2 as KVM does", () => {
    expect(hex64(0, vtcrWord(stage2Geometry(40), 5, true, true))).toBe("0x802d3558");
    expect(hex64(0, vtcrWord(stage2Geometry(48, 16), 2, false, false))).toBe("0x80027590");
  });

  it("refuses an SL0 that does not fit T0SZ", () => {
    const vtcr = (t0sz: number, sl0: number, tg0 = 0) => vtcrStartLevel(t0sz | (sl0 << 6) | (tg0 << 14), 0);
    expect(vtcr(24, 1)).toBe(1);
    expect(vtcr(24, 2)).toBe(0);
    expect(vtcr(25, 2)).toBe(-2); // no index bit is left at level 0
    expect(vtcr(20, 1)).toBe(-2); // 14 index bits: one more than 16 tables give
    expect(vtcr(21, 1)).toBe(1);
    expect(vtcr(24, 3, 1)).toBe(-2); // reserved for 64K
  });

  it("has the entry sizes and block levels of each granule", () => {
    expect([0, 1, 2, 3].map((l) => levelSize(l))).toEqual([2 ** 39, 2 ** 30, 2 ** 21, 4096]);
    expect([1, 2, 3].map((l) => levelSize(l, 14))).toEqual([2 ** 36, 2 ** 25, 16384]);
    expect([1, 2, 3].map((l) => levelSize(l, 16))).toEqual([2 ** 42, 2 ** 29, 65536]);
    expect([12, 14, 16].map((s) => [0, 1, 2, 3].filter((l) => blockAllowed(l, s)))).toEqual([[1, 2], [2], [2]]);
    expect([0, 1, 2].map(tg0Shift)).toEqual([12, 16, 14]);
    expect([1, 2, 3].map(tg1Shift)).toEqual([14, 12, 16]);
    expect([32, 36, 40, 42, 44, 48, 52].map((b) => paBitsOf(paRangeOf(b)))).toEqual([32, 36, 40, 42, 44, 48, 52]);
    expect(paRangeOf(47)).toBe(4);
  });
});

describe("descriptors", () => {
  it("pack the worked stage-2 leaves to the bit", () => {
    const leaf = (pa: number, level: number, attr: number, xn: number) =>
      hex64(leafHi(pa, stage2Xn(xn)), leafLo(pa, level, stage2Lo(attr, 3, 3, true)));
    expect(leaf(0x81234000, 3, 15, 0)).toBe("0x812347ff");
    expect(leaf(0x1000000000, 3, 5, 2)).toBe("0x400010000007d7");
    expect(leaf(0x1000000000, 3, 1, 2)).toBe("0x400010000007c7");
    expect(leaf(0x1000200000, 2, 5, 2)).toBe("0x400010002007d5");
  });

  it("come apart into what they were made of", () => {
    for (const pa of [0x1000, 0x40200000, 0xffff_ffff_f000]) {
      for (const level of [2, 3]) {
        const at = level === 2 ? pa - (pa % 0x200000) : pa;
        const lo = leafLo(at, level, stage2Lo(6, 1, 3, true));
        const hi = leafHi(at, stage2Xn(3));
        expect([outputAddress(hi, lo), memAttrOf(lo), s2apOf(lo), shOf(lo), xnOf(hi), isLeaf(lo, level), isTable(lo, level)]).toEqual([
          at,
          6,
          1,
          3,
          3,
          true,
          false,
        ]);
      }
    }
    expect([isTable(tableLo(0x1000), 2), isTable(tableLo(0x1000), 3), isLeaf(1, 3), isLeaf(0, 2)]).toEqual([true, false, false, false]);
  });

  it("take output addresses of all granules, 52-bit forms included", () => {
    expect(outputAddressAt(0x12, 0x34567abc | 0, 21, 12, false)).toBe(0x1234400000);
    expect(outputAddressAt(0x12, 0x34567abc | 0, 30, 12, false)).toBe(0x1200000000);
    expect(outputAddressAt(0x3ffff, 0x000013ff, 12, 12, true)).toBe(0xf_ffff_0000_1000);
    expect(outputAddressAt(0xffff, 0x0001f3ff, 16, 16, false)).toBe(0xf_ffff_0001_0000);
    expect(outputAddressAt(0x1234, -1, 42, 16, false)).toBe(0xf_1000_0000_0000);
  });
});
