import { describe, expect, it } from "vitest";
import { canonicalAttr, decodeAttr, isReserved, isWriteBack, mairByte, supportsAtomics, xsOf } from "../../src/arch/mair.js";
import {
  attrTable,
  combine,
  combineAttr,
  combineShareability,
  combineXs,
  effectiveShareability,
  isReservedMemAttr,
  RESULT_SH_SHIFT,
  stage1Only,
} from "../../src/arch/memtype.js";

/** Outer names by high nibble, inner by low: arch-memory-types.md 1.1, as a rule of its own. */
const NAME = [
  "",
  "WTt.W",
  "WTt.R",
  "WTt.RW",
  "NC",
  "WBt.W",
  "WBt.R",
  "WBt.RW",
  "WT",
  "WT.W",
  "WT.R",
  "WT.RW",
  "WB",
  "WB.W",
  "WB.R",
  "WB.RW",
];
const FIRST_ROW = "nGnRnE nGnRnE – – nGnRE nGnRE – – nGRE nGRE – – GRE GRE – –".split(" ");

/** Rows: stage-1 byte; columns: MemAttr 0..15 (arch-memory-types.md 4.2). */
const WITHOUT_FWB = `
00 00 00 00 00 r 00 00 00 r 00 00 00 r 00 00 00
04 00 04 04 04 r 04 04 04 r 04 04 04 r 04 04 04
08 00 04 08 08 r 08 08 08 r 08 08 08 r 08 08 08
0C 00 04 08 0C r 0C 0C 0C r 0C 0C 0C r 0C 0C 0C
44 00 04 08 0C r 44 44 44 r 44 44 44 r 44 44 44
BB 00 04 08 0C r 44 4B 4B r B4 BB BB r B4 BB BB
FF 00 04 08 0C r 44 4B 4F r B4 BB BF r F4 FB FF
F0 00 04 08 0C r 44 4B 4F r B4 BB BF r F4 FB F0
77 00 04 08 0C r 44 43 47 r 34 33 37 r 74 73 77
4F 00 04 08 0C r 44 4B 4F r 44 4B 4F r 44 4B 4F
F4 00 04 08 0C r 44 44 44 r B4 B4 B4 r F4 F4 F4
33 00 04 08 0C r 44 43 43 r 34 33 33 r 34 33 33`;
const WITH_FWB = `
00 00 00 00 00 r 00 FF 00 b b b b b b b b
04 00 04 04 04 r 04 FF 04 b b b b b b b b
08 00 04 08 08 r 08 FF 08 b b b b b b b b
0C 00 04 08 0C r 0C FF 0C b b b b b b b b
44 00 04 08 0C r 44 FF 44 b b b b b b b b
BB 00 04 08 0C r 44 FF BB b b b b b b b b
FF 00 04 08 0C r 44 FF FF b b b b b b b b
F0 00 04 08 0C r 44 F0 F0 b b b b b b b b
77 00 04 08 0C r 44 77 77 b b b b b b b b
4F 00 04 08 0C r 44 FF 4F b b b b b b b b
F4 00 04 08 0C r 44 FF F4 b b b b b b b b
33 00 04 08 0C r 44 77 33 b b b b b b b b`;
/** Nibble with S2 NC, WT, WB, and FWB force-WB (4.3). */
const NIBBLES = [
  "1 4 1 1 5",
  "2 4 2 2 6",
  "3 4 3 3 7",
  "4 4 4 4 F",
  "5 4 1 5 5",
  "6 4 2 6 6",
  "7 4 3 7 7",
  "8 4 8 8 C",
  "9 4 9 9 D",
].concat(["A 4 A A E", "B 4 B B F", "C 4 8 C C", "D 4 9 D D", "E 4 A E E", "F 4 B F F"]);

describe("MAIR bytes", () => {
  it("decode as the 256-entry table says", () => {
    for (let attr = 0; attr < 256; attr++) {
      const hi = attr >> 4;
      const lo = attr & 15;
      let want: string;
      if (hi === 0) want = FIRST_ROW[lo]!;
      else if (attr === 0x40) want = "NC/NC";
      else if (attr === 0xa0) want = "WT.R/WT.R";
      else if (attr === 0xf0) want = "WB.RW/WB.RW";
      else want = lo === 0 ? "–" : `${NAME[hi]}/${NAME[lo]}`;
      expect([attr, decodeAttr(attr).text]).toEqual([attr, want]);
    }
  });

  it("are 4 Device, 225 Normal, 6 with FEAT_XS, 1 with FEAT_MTE2, 20 reserved", () => {
    const count = (f: (a: number) => boolean) => Array.from({ length: 256 }, (_, a) => a).filter(f).length;
    expect(count((a) => isReserved(a, true, true))).toBe(20);
    expect(count((a) => isReserved(a, false, true))).toBe(26);
    expect(count((a) => isReserved(a, true, false))).toBe(21);
    expect(count((a) => !isReserved(a, false, false) && a < 16)).toBe(4);
    expect(count((a) => !isReserved(a, false, false) && a >= 16)).toBe(225);
    expect(Array.from({ length: 256 }, (_, a) => a).filter((a) => isReserved(a, false, true) && !isReserved(a))).toEqual([
      1, 5, 9, 0xd, 0x40, 0xa0,
    ]);
  });

  it("carry XS = 0 where the encoding says so, where tagged, and where both halves are write-back", () => {
    for (let a = 0; a < 256; a++) {
      if (isReserved(a)) continue;
      const both = isWriteBack(a);
      const d = decodeAttr(a);
      if (d.type === "Normal" && a !== 0x40 && a !== 0xa0) expect([a, both]).toEqual([a, /^WB.*\/WB/.test(d.text)]);
      expect([a, xsOf(a)]).toEqual([
        a,
        [1, 5, 9, 0xd, 0x40, 0xa0, 0xf0].includes(a) || (d.type === "Normal" && /^WB.*\/WB/.test(d.text)) ? 0 : 1,
      ]);
    }
  });

  it("without their XS and tag forms are plain", () => {
    expect([0x01, 0x05, 0x09, 0x0d, 0x40, 0xa0, 0xf0, 0x10, 0x02].map((a) => canonicalAttr(a))).toEqual([
      0, 4, 8, 0xc, 0x44, 0xaa, 0xf0, 0, 0,
    ]);
    expect([canonicalAttr(0xf0, true, false), canonicalAttr(0x40, false)]).toEqual([0, 0]);
    expect([0, 3, 4, 7].map((n) => mairByte(0x77665544, 0x33221100, n))).toEqual([0x00, 0x33, 0x44, 0x77]);
    expect([0xff, 0xf0, 0x77, 0xfb, 0x44, 0].map(supportsAtomics)).toEqual([true, true, false, false, false, false]);
  });
});

describe("combining the stages", () => {
  it("gives the worked results with and without FWB", () => {
    for (const [text, fwb] of [
      [WITHOUT_FWB, false],
      [WITH_FWB, true],
    ] as const) {
      for (const line of text.trim().split("\n")) {
        const [s1, ...results] = line.split(" ");
        for (const [m, want] of results.entries()) {
          if (want === "r" || want === "b") {
            expect(isReservedMemAttr(m, fwb)).toBe(true);
            continue;
          }
          const got = combineAttr(parseInt(s1!, 16), m, fwb).toString(16).toUpperCase().padStart(2, "0");
          expect([fwb, s1, m, got]).toEqual([fwb, s1, m, want]);
        }
      }
    }
  });

  it("combines each nibble by cacheability and keeps stage 1's hints", () => {
    for (const row of NIBBLES) {
      const [n, nc, wt, wb, force] = row.split(" ").map((x) => parseInt(x, 16)) as [number, number, number, number, number];
      for (const [s2, want] of [
        [1, nc],
        [2, wt],
        [3, wb],
      ] as const) {
        // The nibble under test inside, write-back outside; then the other way round.
        expect([n, s2, combineAttr(0xf0 | n, 0xc | s2, false) & 15]).toEqual([n, s2, want]);
        expect([n, s2, combineAttr((n << 4) | 15, (s2 << 2) | 3, false) >> 4]).toEqual([n, s2, want]);
      }
      expect(combineAttr((n << 4) | n, 6, true)).toBe((force << 4) | force);
    }
  });

  it("takes the stronger Device subtype when both stages say Device", () => {
    for (let d1 = 0; d1 < 4; d1++) {
      for (let d2 = 0; d2 < 4; d2++) {
        for (const fwb of [false, true]) expect(combineAttr(d1 << 2, d2, fwb)).toBe(Math.min(d1, d2) << 2);
      }
    }
  });

  it("widens shareability, and Device and Non-cacheable are outer shareable", () => {
    const names = { NSH: 0, OSH: 2, ISH: 3 };
    const rows = { NSH: "NSH ISH OSH", ISH: "ISH ISH OSH", OSH: "OSH OSH OSH" };
    for (const [a, row] of Object.entries(rows)) {
      for (const [n, want] of row.split(" ").entries()) {
        const b = [0, 3, 2][n]!;
        expect(combineShareability(names[a as keyof typeof names], b)).toBe(names[want as keyof typeof names]);
      }
    }
    expect([0x00, 0x0c, 0x44, 0x4f, 0xf4, 0xff].map((a) => effectiveShareability(a, 3))).toEqual([2, 2, 2, 3, 3, 3]);
    // Stage 1 Device non-shareable forced to write-back: the descriptor's shareability counts.
    expect(combine(0, 0, 6, 3, true, false) >> RESULT_SH_SHIFT).toBe(3);
    expect((stage1Only(0x04, 3) >> RESULT_SH_SHIFT) & 3).toBe(2);
  });

  it("computes XS by the rule of each mode", () => {
    expect(combineXs(0xff, 15, false, false)).toBe(0);
    expect(combineXs(0xff, 5, false, false)).toBe(0);
    expect(combineXs(0xbb, 15, false, false)).toBe(1);
    expect(combineXs(0x00, 1, false, false)).toBe(1);
    expect(combineXs(0x00, 1, false, true)).toBe(0);
    expect(combineXs(0x00, 6, true, false)).toBe(0);
    expect(combineXs(0x00, 7, true, false)).toBe(1);
    expect(combineXs(0x44, 5, true, true)).toBe(0);
  });

  it("writes the whole table: every legal combination once, results that need no reserved byte", () => {
    const rows = [...attrTable()];
    expect(rows.length).toBe(236 * 9 * (13 + 7));
    expect(new Set(rows.map((r) => `${r.s1attr},${r.s2memattr},${r.fwb},${r.s1sh},${r.s2sh}`)).size).toBe(rows.length);
    for (const r of rows) {
      if (isReserved(r.attr) || ![0, 2, 3].includes(r.sh)) throw new Error(JSON.stringify(r));
    }
  });
});
