import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { FORMS, MNEMONICS } from "../../src/arch/a64forms.js";
import { FIELD_WORDS, Op } from "../../src/arch/a64ops.js";
import { assemble } from "../../src/arch/assemble.js";
import { decodeInto, formOf } from "../../src/arch/decode.js";
import { disassemble } from "../../src/arch/disassemble.js";
import { cpuProfile } from "../../src/arch/features.js";

const table = readFileSync(new URL("data/a64-words.txt", import.meta.url), "utf8")
  .split("\n")
  .filter((l) => l !== "" && !l.startsWith("#"))
  .map((l) => [parseInt(l.slice(0, 8), 16) | 0, l.slice(9)] as const);
const hex = (w: number): string => (w >>> 0).toString(16).padStart(8, "0");
/** The decoded fields of a word; immr of a logical immediate is no register. */
function fields(word: number): number[] {
  const out = new Int32Array(FIELD_WORDS);
  formOf(word, undefined, out);
  return [...out];
}

describe("A64 words", () => {
  it("every line of the table made by GNU as assembles to the same word", () => {
    const wrong = table
      .filter(([word, text]) => hex(assemble(text)[0]!) !== hex(word))
      .map(([w, t]) => `${hex(w)} ${t}: ${hex(assemble(t)[0]!)}`);
    expect(wrong).toEqual([]);
    expect(table.length).toBeGreaterThan(2500);
  });

  it("every form that the assembler has is in that table, or is one that GNU as cannot write", () => {
    const seen = new Set(table.map(([word]) => formOf(word)));
    const missing = FORMS.filter((f) => f.spelling !== true && !seen.has(f)).map((f) => f.mnemonic);
    expect([...new Set(missing)]).toEqual(["adrp", "tlbi"]);
  });

  it("every word of the table decodes to text that assembles to the same fields", () => {
    for (const [word] of table) {
      const again = assemble(disassemble(word));
      expect(again).toHaveLength(1);
      expect(fields(again[0]!)).toEqual(fields(word));
    }
  });

  it("any 32-bit word is either undefined or survives decode, disassemble, encode with the same meaning", () => {
    fc.assert(
      fc.property(fc.integer({ min: -0x80000000, max: 0x7fffffff }), fc.nat(FORMS.length - 1), fc.boolean(), (random, n, shaped) => {
        const form = FORMS[n]!;
        const word = shaped ? form.match | (random & ~form.mask) : random;
        const found = formOf(word);
        const text = disassemble(word);
        if (found === undefined) {
          expect(text).toBe(`.inst 0x${hex(word)}`);
          expect(assemble(text)).toEqual([word]);
          return;
        }
        // Unpredictable combinations decode, but the assembler refuses to write them.
        if (found.check !== undefined && found.check(word) !== "") {
          expect(() => assemble(text)).toThrow(/unpredictable/);
          return;
        }
        const again = assemble(text);
        expect(again).toHaveLength(1);
        expect(disassemble(again[0]!)).toBe(text);
        expect(fields(again[0]!)).toEqual(fields(word));
      }),
      { numRuns: 6000, seed: 64 },
    );
  });

  it("the words of TLBI nXS are those of the plain form with CRn 9", () => {
    for (const [plain, nxs] of [
      ["tlbi vmalle1is", "tlbi vmalle1isnxs"],
      ["tlbi vae1, x3", "tlbi vae1nxs, x3"],
      ["tlbi rvaale1os, x30", "tlbi rvaale1osnxs, x30"],
      ["tlbi aside1os, x0", "tlbi aside1osnxs, x0"],
    ] as const) {
      expect(hex(assemble(nxs)[0]!)).toBe(hex(assemble(plain)[0]! | 0x1000));
    }
  });

  it("adrp takes a page offset or a label", () => {
    expect(hex(assemble("adrp x0, #0")[0]!)).toBe("90000000");
    expect(hex(assemble("adrp x1, #0x3000")[0]!)).toBe("f0000001");
    expect(hex(assemble("adrp x1, #-4096")[0]!)).toBe("f0ffffe1");
    const options = { pc: 0x40000ffc, symbol: (n: string) => (n === "here" ? 0x40003008 : undefined) };
    expect(hex(assemble("adrp x1, here", options)[0]!)).toBe("f0000001");
  });

  it("words that are no instruction of the table are undefined", () => {
    for (const word of [0x00000000, 0xffffffff, 0xdeadbeef, 0xd5033ebf, 0x1e604000, 0x4ea01c00, 0x52e00000, 0x0b008000, 0x0bc00000]) {
      const out = new Int32Array(FIELD_WORDS);
      expect([hex(word), decodeInto(word | 0, cpuProfile("max"), out, 0)]).toEqual([
        hex(word),
        word === 0xd5033ebf ? Op.Dmb : Op.Undefined,
      ]);
    }
  });

  it("instructions of a feature are undefined on a CPU without it", () => {
    const out = new Int32Array(FIELD_WORDS);
    const cases: readonly (readonly [string, string, string])[] = [
      ["ldadd x1, x2, [x3]", "cortex-a72", "cortex-a76"],
      ["casp x0, x1, x2, x3, [x4]", "cortex-a72", "max"],
      ["ldapr x0, [x1]", "cortex-a72", "cortex-a76"],
      ["tlbi rvae1is, x0", "neoverse-v1", "max"],
      ["tlbi vae1os, x0", "cortex-a76", "max"],
      ["dsb synxs", "neoverse-v1", "max"],
      ["msr pan, #1", "cortex-a72", "neoverse-v1"],
      ["at s1e1rp, x0", "cortex-a72", "cortex-a76"],
    ];
    for (const [text, without, having] of cases) {
      const word = assemble(text)[0]!;
      expect([text, decodeInto(word, cpuProfile(without), out, 0)]).toEqual([text, Op.Undefined]);
      expect(decodeInto(word, cpuProfile(having), out, 0)).not.toBe(Op.Undefined);
    }
  });

  it("the mnemonics that the language promises are there", () => {
    const promised =
      "ldr str ldrb ldrh ldrsb ldrsh ldrsw strb strh ldur stur ldp stp ldpsw ldxr stxr ldxrb stxrh ldaxr stlxr ldxp stxp ldar stlr ldapr ldadd ldclral ldeorh ldset swp swpalb cas casal casp caspal prfm dc ic at tlbi dsb dmb isb mrs msr br blr ret b bl b.eq cbz cbnz tbz tbnz movz movk movn mov add sub adds subs cmp and orr eor lsl lsr adr adrp nop hint hvc svc brk smc eret wfi wfe sev yield";
    expect(promised.split(" ").filter((m) => !MNEMONICS.includes(m))).toEqual([]);
  });
});
