import { describe, expect, it } from "vitest";
import { assemble, AssemblyError, assembledLength, isMnemonic } from "../../src/arch/assemble.js";
import { decodeLogical, encodeLogical } from "../../src/arch/a64operands.js";
import { disassemble } from "../../src/arch/disassemble.js";
import { cpuProfile } from "../../src/arch/features.js";
import fc from "fast-check";

function errorOf(text: string): AssemblyError {
  try {
    assemble(text);
  } catch (e) {
    if (e instanceof AssemblyError) return e;
    throw e;
  }
  throw new Error(`${text} assembles`);
}

describe("the assembler", () => {
  it("names the column and what was expected there", () => {
    const cases: readonly (readonly [string, number, RegExp])[] = [
      ["ldr x0 [x1]", 8, /","/],
      ["ldr x0, [x1", 12, /"\]"/],
      ["ldr x0, [y1]", 10, /x0 to x30 or sp/],
      ["ldr x31, [x1]", 5, /x0 to x30/],
      ["ldr x0, [x1, #100000]", 14, /#0 to #32760 in steps of 8/],
      ["add x0, x1", 11, /","/],
      ["add x0, x1, #4097", 13, /#0 to #4095/],
      ["ldp x0, x1, [x2, #4]", 18, /steps of 8/],
      ["nop x0", 5, /no operand/],
      ["b 3", 3, /aligned to 4 bytes/],
      ["tbz w0, #32, #8", 9, /#0 to #31/],
      ["ldr q0, [x0] junk", 14, /the end of the instruction/],
      ["mov x0, #0x1ffffffffffffffff", 9, /64 bits/],
      ["casp x1, x2, x4, x5, [x0]", 6, /even-numbered/],
      ["casp x0, x2, x4, x5, [x0]", 10, /register after x0/],
      ["", 1, /a mnemonic/],
      ["   ;", 4, /a mnemonic/],
    ];
    for (const [text, column, expected] of cases) {
      const e = errorOf(text);
      expect([text, e.column]).toEqual([text, column]);
      expect(e.expected).toMatch(expected);
    }
  });

  it("suggests the nearest right name", () => {
    const cases: readonly (readonly [string, string])[] = [
      ["lrd x0, [x1]", "ldr"],
      ["stpp x0, x1, [x2]", "stp"],
      ["msr sctrl_el1, x0", "sctlr_el1"],
      ["tlbi vmale1is", "vmalle1is"],
      ["dsb ishh", "ish"],
      ["dc cvacc, x0", "cvac"],
      ["at s1e1, x0", "s1e1r"],
      ["b.nee #8", "b.ne"],
    ];
    for (const [text, near] of cases) expect([text, errorOf(text).suggestion]).toEqual([text, near]);
  });

  it("refuses what the architecture calls unpredictable", () => {
    for (const text of [
      "ldr x0, [x0], #8",
      "str x1, [x1, #8]!",
      "ldp x0, x0, [x1]",
      "ldp x0, x1, [x1], #16",
      "stxr w0, x0, [x1]",
      "stxr w1, x0, [x1]",
      "ldxp x0, x0, [x1]",
    ]) {
      expect([text, errorOf(text).problem]).toEqual([text, "this is unpredictable"]);
    }
  });

  it("expands a 64-bit mov to as few words as its 16-bit parts need", () => {
    const text = (source: string): string[] => assemble(source).map((w) => disassemble(w));
    expect(text("mov x0, #0x40000000")).toEqual(["movz x0, #0x4000, lsl #16"]);
    expect(text("mov x0, #0x123456789abcdef0")).toEqual([
      "movz x0, #0xdef0",
      "movk x0, #0x9abc, lsl #16",
      "movk x0, #0x5678, lsl #32",
      "movk x0, #0x1234, lsl #48",
    ]);
    expect(text("mov x0, #-2")).toEqual(["movn x0, #0x1"]);
    expect(text("mov x0, #0xffffffff12345678")).toEqual(["movn x0, #0xa987", "movk x0, #0x1234, lsl #16"]);
    expect(text("mov x0, #0x8000000010")).toEqual(["movz x0, #0x10", "movk x0, #0x80, lsl #32"]);
    expect(text("mov w3, #0x12345678")).toEqual(["movz w3, #0x5678", "movk w3, #0x1234, lsl #16"]);
    expect(text("mov lr, #0x1234_5678")).toEqual(["movz x30, #0x5678", "movk x30, #0x1234, lsl #16"]);
  });

  it("takes names for immediates and branch targets, and sums of them", () => {
    const options = { pc: 0x1000, symbol: (n: string) => ({ bar: 0x8000000000n, off: 8n, loop: 0xff8n })[n] };
    expect(assemble("mov x0, #bar + 0x10", options)).toEqual(assemble("mov x0, #0x8000000010"));
    expect(assemble("ldr x0, [x1, #off*1]".replace("*1", ""), options)).toEqual(assemble("ldr x0, [x1, #8]"));
    expect(assemble("b loop", options)).toEqual(assemble("b #-8"));
    expect(assemble("b.ne loop", options)).toEqual(assemble("b.ne .-8"));
    expect(errorOf("b nowhere").expected).toMatch(/no label nowhere/);
    expect(assembledLength("b nowhere")).toBe(1);
    expect(assembledLength("mov x0, #bar + 1", options)).toBe(2);
  });

  it("is not upset by long, binary or empty input", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60, unit: "binary" }), (text) => {
        try {
          for (const w of assemble(text)) expect(w | 0).toBe(w);
        } catch (e) {
          expect(e).toBeInstanceOf(AssemblyError);
        }
      }),
      { numRuns: 500 },
    );
    expect(errorOf(`add x0, x1, #${"9".repeat(1_000_000)}`).column).toBe(1);
    expect(errorOf(`mov x0, #${"9".repeat(300)}`).expected).not.toBe("");
    expect(errorOf("add x0, x1, #" + "-".repeat(350)).expected).not.toBe("");
  });

  it("refuses an instruction that the CPU lacks", () => {
    expect(() => assemble("ldadd x0, x1, [x2]", { features: cpuProfile("cortex-a72") })).toThrow(/needs the feature lse/);
    expect(assemble("ldadd x0, x1, [x2]", { features: cpuProfile("max") })).toHaveLength(1);
  });

  it("knows its mnemonics", () => {
    expect(["ldr", "b.ne", "caspal", ".inst", "LDR"].map(isMnemonic)).toEqual([true, true, true, true, true]);
    expect(["mmap", "ldrx", ""].map(isMnemonic)).toEqual([false, false, false]);
  });
});

describe("logical immediates", () => {
  it("every encodable value survives encode and decode, and there are 5334 of 64 bits and 1302 of 32", () => {
    for (const [size, count] of [
      [64, 5334],
      [32, 1302],
    ] as const) {
      const values = new Set<bigint>();
      for (let f = 0; f < 1 << 13; f++) {
        const v = decodeLogical(f, size);
        if (v < 0n) continue;
        values.add(v);
        expect(decodeLogical(encodeLogical(v, size), size)).toBe(v);
      }
      expect(values.size).toBe(count);
    }
  });
});
