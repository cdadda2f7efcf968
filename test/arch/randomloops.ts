/**
 * Random bodies of loops, as text of the assembler: x0..x8 are anybody's, x10..x13 addresses, x9 counts the trips down. And their
 * comparison: compiled after so many trips, and never.
 */
import fc from "fast-check";
import { expect } from "vitest";

const pick = fc.integer({ min: 0, max: 8 });
const operand = fc.oneof(
  pick.map((n) => `${n}`),
  fc.constant("zr"),
);
const width = fc.constantFrom("x", "w");
const address = fc.integer({ min: 10, max: 13 });
const arithmetic = fc.oneof(
  fc
    .tuple(fc.constantFrom("add", "adds", "sub", "subs"), width, pick, pick, fc.integer({ min: 0, max: 4095 }), fc.boolean())
    .map(([op, w, d, n, imm, far]) => `${op} ${w}${d}, ${w}${n}, #${imm}${far ? ", lsl #12" : ""}`),
  fc
    .tuple(
      fc.constantFrom("add", "adds", "sub", "subs", "and", "orr", "eor", "ands", "bic", "orn", "eon", "bics"),
      width,
      operand,
      operand,
      operand,
      fc.constantFrom("lsl", "lsr", "asr"),
      fc.integer({ min: 0, max: 63 }),
    )
    .map(([op, w, d, n, m, shift, by]) => `${op} ${w}${d}, ${w}${n}, ${w}${m}, ${shift} #${w === "x" ? by : by & 31}`),
  fc
    .tuple(fc.constantFrom("and", "eor", "orn", "ands"), width, operand, operand, operand, fc.integer({ min: 0, max: 63 }))
    .map(([op, w, d, n, m, by]) => `${op} ${w}${d}, ${w}${n}, ${w}${m}, ror #${w === "x" ? by : by & 31}`),
  fc
    .tuple(
      fc.constantFrom("add", "adds", "sub", "subs"),
      pick,
      pick,
      operand,
      fc.constantFrom("uxtb", "uxth", "uxtw", "sxtb", "sxth", "sxtw"),
      fc.integer({ min: 0, max: 4 }),
      width,
    )
    .map(([op, d, n, m, extend, by, w]) => `${op} ${w}${d}, ${w}${n}, w${m}, ${extend} #${by}`),
  fc
    .tuple(
      fc.constantFrom("and", "orr", "eor", "ands"),
      width,
      pick,
      operand,
      fc.constantFrom("0xff", "0x7ffffff8", "0x10001", "0x80000000"),
    )
    .map(([op, w, d, n, imm]) => `${op} ${w}${d}, ${w}${n}, #${imm === "0x10001" ? (w === "w" ? "0x10001" : "0x1000100010001") : imm}`),
  fc
    .tuple(fc.constantFrom("movz", "movn", "movk"), pick, fc.integer({ min: 0, max: 65535 }), fc.integer({ min: 0, max: 3 }))
    .map(([op, d, imm, by]) => `${op} x${d}, #${imm}, lsl #${16 * by}`),
  fc
    .tuple(pick, fc.integer({ min: 0, max: 65535 }), fc.integer({ min: 0, max: 1 }))
    .map(([d, imm, by]) => `movk w${d}, #${imm}, lsl #${16 * by}`),
  fc.tuple(pick, fc.integer({ min: -20, max: 20 })).map(([d, off]) => `adr x${d}, #${4 * off}`),
  fc.tuple(pick).map(([d]) => `adrp x${d}, #0x1000`),
  fc
    .tuple(fc.constantFrom("mul", "udiv", "lslv", "sdiv", "rorv"), width, pick, operand, operand)
    .map(([op, w, d, n, m]) => `${op} ${w}${d}, ${w}${n}, ${w}${m}`),
  fc
    .tuple(width, pick, operand, operand, fc.constantFrom("eq", "lt", "hi", "vs"))
    .map(([w, d, n, m, c]) => `csel ${w}${d}, ${w}${n}, ${w}${m}, ${c}`),
  fc.tuple(pick, pick, fc.integer({ min: 1, max: 63 })).map(([d, n, by]) => `lsr x${d}, x${n}, #${by}`),
);
/** A load or store. */
export const transfer = fc.oneof(
  fc
    .tuple(fc.constantFrom("ldr x", "str x", "ldr w", "str w", "ldrsw x"), operand, address, fc.integer({ min: 0, max: 20 }))
    .map(([op, t, n, at]) => `${op}${t}, [x${n}, #${8 * at}]`),
  fc
    .tuple(fc.constantFrom("ldrb w", "ldrsb x", "ldrsh w", "ldrh w", "strb w", "strh w"), operand, address, fc.integer({ min: 0, max: 20 }))
    .map(([op, t, n, at]) => `${op}${t}, [x${n}, #${2 * at}]`),
  fc
    .tuple(fc.constantFrom("ldr x", "str x", "ldr w", "strb w"), operand, address, fc.constantFrom(8, -8, 248, 3, 128), fc.boolean())
    .map(([op, t, n, by, post]) => `${op}${t}, [x${n}${post ? `], #${by}` : `, #${by}]!`}`),
  fc
    .tuple(fc.constantFrom("ldr x", "str x", "ldr w"), operand, address, fc.constantFrom("x14, lsl #3", "w14, uxtw", "w14, sxtw #3"))
    .map(([op, t, n, m]) => (op === "ldr w" ? `${op}${t}, [x${n}, x14]` : `${op}${t}, [x${n}, ${m}]`)),
  fc
    .tuple(fc.constantFrom("ldr x", "ldr w", "ldrsw x"), pick, fc.integer({ min: -10, max: 10 }))
    .map(([op, t, at]) => `${op}${t}, #${4 * at}`),
);
/** Over some of what follows, back to the loop's beginning or out of it; the place is filled in later. */
const branch = fc
  .tuple(
    fc.oneof(
      fc.constantFrom("b.eq", "b.ne", "b.hs", "b.mi", "b.vs", "b.hi", "b.lt", "b.gt"),
      fc.tuple(fc.constantFrom("cbz", "cbnz"), width, pick).map(([op, w, n]) => `${op} ${w}${n},`),
      fc
        .tuple(fc.constantFrom("tbz", "tbnz"), pick, fc.integer({ min: 0, max: 63 }))
        .map(([op, n, bit]) => `${op} ${bit < 32 ? "w" : "x"}${n}, #${bit},`),
    ),
    fc.integer({ min: 1, max: 12 }),
  )
  .map(([op, over]) => `${op} OVER ${over}`);
/** `OVER n`: a branch over so many; `over` fills in the place. */
export const body = fc.array(
  fc.oneof({ weight: 4, arbitrary: arithmetic }, { weight: 4, arbitrary: transfer }, { weight: 1, arbitrary: branch }),
  {
    minLength: 1,
    maxLength: 14,
  },
);

/** A body with the offsets of its branches: over what follows, or back to the beginning. */
export function over(lines: readonly string[]): readonly string[] {
  return lines.map((line, n) =>
    line.replace(/OVER (\d+)$/, (_, by: string) => {
      const to = Number(by) % 5 === 0 ? 0 : n + Number(by);
      return `#${4 * (to - n)}`;
    }),
  );
}

/** What x0..x8 begin with. */
export const values = fc.array(
  fc.oneof(fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }), fc.constantFrom(0n, 1n, 0x8000_0000n, 0xffff_ffff_ffff_ffffn)),
  { minLength: 9, maxLength: 9 },
);

/** What a program left, and how many loops were compiled. */
export interface Executed {
  readonly outcome: unknown;
  readonly loops: number;
}

/** Executes random programs with their loops compiled at once, and never: they must leave the same. @returns loops compiled */
export function compareWithInterpreter<P>(
  program: fc.Arbitrary<P>,
  execute: (p: P, trips: number) => Executed,
  runs: number,
  seed: number,
): number {
  let loops = 0;
  fc.assert(
    fc.property(program, (p) => {
      const want = execute(p, Infinity);
      expect(want.loops).toBe(0);
      const have = execute(p, 1);
      expect(have.outcome).toEqual(want.outcome);
      loops += have.loops;
    }),
    { numRuns: Number(process.env["LOOPS"] ?? runs), seed: Number(process.env["SEED"] ?? seed) },
  );
  return loops;
}
