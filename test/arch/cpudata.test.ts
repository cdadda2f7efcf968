import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { NZCV, sx, u64 } from "./cpumodel.js";
import { Bare } from "./cpuharness.js";
import { RUN_SELF_BRANCH } from "../../src/arch/cpu.js";
import { PSTATE, SP_EL1 } from "../../src/arch/registers.js";

const M64 = (1n << 64n) - 1n;
const interesting = fc.oneof(
  fc.bigInt({ min: 0n, max: M64 }),
  fc.constantFrom(0n, 1n, M64, 1n << 63n, (1n << 63n) - 1n, 0x7fffffffn, 0x80000000n, 0xffffffffn, 0x100000000n, 0xffffffff00000000n),
);

/** Runs one instruction on x1, x2, x3 and gives x0 and NZCV. */
function one(m: Bare, text: string, x1: bigint, x2: bigint, x3 = 0n, x0 = 0n, flags = 0): { x0: bigint; nzcv: number } {
  m.set(0, x0);
  m.set(1, x1);
  m.set(2, x2);
  m.set(3, x3);
  m.regs.pool.set(PSTATE, (flags << 28) | 0x3c5);
  expect(m.run([text])).toBe(RUN_SELF_BRANCH);
  return { x0: m.get(0), nzcv: (m.regs.pool.a[PSTATE]! >>> 28) & 15 };
}

type Model = (a: bigint, b: bigint, c: bigint, old: bigint, flags: number) => bigint | { value: bigint; nzcv: number };
const W = (v: bigint): bigint => v & 0xffffffffn;
const ror = (v: bigint, n: number, size: 32 | 64): bigint => {
  const x = BigInt.asUintN(size, v);
  const k = BigInt(n % size);
  return BigInt.asUintN(size, (x >> k) | (x << (BigInt(size) - k)));
};
const sdiv = (a: bigint, b: bigint, size: 32 | 64): bigint => {
  const x = BigInt.asIntN(size, a);
  const y = BigInt.asIntN(size, b);
  return BigInt.asUintN(size, y === 0n ? 0n : x / y);
};
const reverse = (v: bigint, unit: number, size: number): bigint => {
  const bytes = Array.from({ length: size / 8 }, (_, i) => (v >> BigInt(8 * i)) & 0xffn);
  let out = 0n;
  for (let i = 0; i < bytes.length; i++) {
    const group = i - (i % (unit / 8));
    const at = group + (unit / 8 - 1 - (i - group));
    out |= bytes[i]! << BigInt(8 * at);
  }
  return out;
};

const CASES: Readonly<Record<string, Model>> = {
  "add x0, x1, x2": (a, b) => u64(a + b),
  "add w0, w1, w2": (a, b) => W(a + b),
  "sub x0, x1, x2": (a, b) => u64(a - b),
  "sub w0, w1, w2": (a, b) => W(a - b),
  "adds x0, x1, x2": (a, b) => ({ value: u64(a + b), nzcv: NZCV.add(a, b, 64) }),
  "adds w0, w1, w2": (a, b) => ({ value: W(a + b), nzcv: NZCV.add(a, b, 32) }),
  "subs x0, x1, x2": (a, b) => ({ value: u64(a - b), nzcv: NZCV.sub(a, b, 64) }),
  "subs w0, w1, w2": (a, b) => ({ value: W(a - b), nzcv: NZCV.sub(a, b, 32) }),
  "add x0, x1, #0xabc": (a) => u64(a + 0xabcn),
  "adds x0, x1, #0xabc, lsl #12": (a) => ({ value: u64(a + 0xabc000n), nzcv: NZCV.add(a, 0xabc000n, 64) }),
  "subs x0, x1, #1": (a) => ({ value: u64(a - 1n), nzcv: NZCV.sub(a, 1n, 64) }),
  "sub w0, w1, #4095": (a) => W(a - 4095n),
  "subs w0, w1, #1": (a) => ({ value: W(a - 1n), nzcv: NZCV.sub(a, 1n, 32) }),
  "adds w0, w1, #1": (a) => ({ value: W(a + 1n), nzcv: NZCV.add(a, 1n, 32) }),
  "add x0, x1, x2, lsl #37": (a, b) => u64(a + (b << 37n)),
  "add x0, x1, x2, lsr #5": (a, b) => u64(a + (b >> 5n)),
  "sub x0, x1, x2, asr #33": (a, b) => u64(a - (sx(b, 64) >> 33n)),
  "add w0, w1, w2, asr #7": (a, b) => W(a + (sx(b, 32) >> 7n)),
  "add x0, x1, w2, uxtb #3": (a, b) => u64(a + ((b & 0xffn) << 3n)),
  "add x0, x1, w2, sxth #1": (a, b) => u64(a + (sx(b, 16) << 1n)),
  "add x0, x1, w2, sxtw #4": (a, b) => u64(a + (sx(b, 32) << 4n)),
  "sub x0, x1, w2, uxtw": (a, b) => u64(a - W(b)),
  "subs x0, x1, x2, sxtx #2": (a, b) => ({ value: u64(a - (b << 2n)), nzcv: NZCV.sub(a, u64(b << 2n), 64) }),
  "add w0, w1, w2, sxtb #2": (a, b) => W(a + (sx(b, 8) << 2n)),
  "and x0, x1, x2, ror #20": (a, b) => a & ror(b, 20, 64),
  "orr x0, x1, x2, lsl #12": (a, b) => u64(a | (b << 12n)),
  "eor x0, x1, x2": (a, b) => a ^ b,
  "orn x0, x1, x2, lsr #32": (a, b) => u64(a | ~(b >> 32n)),
  "bic x0, x1, x2": (a, b) => a & u64(~b),
  "eon w0, w1, w2": (a, b) => W(a ^ ~b),
  "ands x0, x1, x2": (a, b) => ({ value: a & b, nzcv: NZCV.logic(a & b, 64) }),
  "bics w0, w1, w2, asr #31": (a, b) => ({ value: W(a & ~(sx(b, 32) >> 31n)), nzcv: NZCV.logic(W(a & ~(sx(b, 32) >> 31n)), 32) }),
  "and x0, x1, #0xff00ff00ff00ff00": (a) => a & 0xff00ff00ff00ff00n,
  "eor w0, w1, #0x7fffffff": (a) => W(a ^ 0x7fffffffn),
  "ands w0, w1, #0x80000001": (a) => ({ value: a & 0x80000001n, nzcv: NZCV.logic(a & 0x80000001n, 32) }),
  "movk x0, #0xbeef, lsl #32": (_a, _b, _c, old) => (old & ~(0xffffn << 32n)) | (0xbeefn << 32n),
  "movk x0, #0xbeef": (_a, _b, _c, old) => (old & ~0xffffn) | 0xbeefn,
  "movk w0, #0xbeef, lsl #16": (_a, _b, _c, old) => W((old & ~(0xffffn << 16n)) | (0xbeefn << 16n)),
  "mov w0, w1": (a) => W(a),
  "lsl x0, x1, #1": (a) => u64(a << 1n),
  "lsl x0, x1, #43": (a) => u64(a << 43n),
  "lsr x0, x1, #32": (a) => a >> 32n,
  "asr x0, x1, #63": (a) => u64(sx(a, 64) >> 63n),
  "asr w0, w1, #4": (a) => W(sx(a, 32) >> 4n),
  "ror x0, x1, #33": (a) => ror(a, 33, 64),
  "ror w0, w1, #1": (a) => ror(a, 1, 32),
  "extr x0, x1, x2, #7": (a, b) => u64(((a << 64n) | b) >> 7n),
  "extr x0, x1, x2, #39": (a, b) => u64(((a << 64n) | b) >> 39n),
  "extr w0, w1, w2, #9": (a, b) => W(((W(a) << 32n) | W(b)) >> 9n),
  "lsl x0, x1, x2": (a, b) => u64(a << (b & 63n)),
  "lsr x0, x1, x2": (a, b) => a >> (b & 63n),
  "asr x0, x1, x2": (a, b) => u64(sx(a, 64) >> (b & 63n)),
  "ror x0, x1, x2": (a, b) => ror(a, Number(b & 63n), 64),
  "lsl w0, w1, w2": (a, b) => W(W(a) << (b & 31n)),
  "lsr w0, w1, w2": (a, b) => W(a) >> (b & 31n),
  "asr w0, w1, w2": (a, b) => W(sx(a, 32) >> (b & 31n)),
  "ror w0, w1, w2": (a, b) => ror(a, Number(b & 31n), 32),
  "ubfx x0, x1, #5, #40": (a) => (a >> 5n) & ((1n << 40n) - 1n),
  "sbfx x0, x1, #30, #20": (a) => u64(sx(a >> 30n, 20)),
  "sbfx x0, x1, #3, #33": (a) => u64(sx(a >> 3n, 33)),
  "ubfiz x0, x1, #20, #30": (a) => (a & ((1n << 30n) - 1n)) << 20n,
  "sbfiz x0, x1, #40, #7": (a) => u64(sx(a, 7) << 40n),
  "bfi x0, x1, #28, #12": (a, _b, _c, old) => u64((old & ~(0xfffn << 28n)) | ((a & 0xfffn) << 28n)),
  "bfxil x0, x1, #28, #36": (a, _b, _c, old) => (old & ~((1n << 36n) - 1n)) | (a >> 28n),
  "bfi w0, w1, #4, #8": (a, _b, _c, old) => W((old & ~(0xffn << 4n)) | ((a & 0xffn) << 4n)),
  "ubfx w0, w1, #8, #8": (a) => (a >> 8n) & 0xffn,
  "sbfx w0, w1, #8, #8": (a) => W(sx(a >> 8n, 8)),
  "sxtb x0, w1": (a) => u64(sx(a, 8)),
  "sxth w0, w1": (a) => W(sx(a, 16)),
  "sxtw x0, w1": (a) => u64(sx(a, 32)),
  "uxtb w0, w1": (a) => a & 0xffn,
  "uxth w0, w1": (a) => a & 0xffffn,
  "madd x0, x1, x2, x3": (a, b, c) => u64(c + a * b),
  "msub x0, x1, x2, x3": (a, b, c) => u64(c - a * b),
  "madd w0, w1, w2, w3": (a, b, c) => W(c + a * b),
  "msub w0, w1, w2, w3": (a, b, c) => W(c - a * b),
  "mul x0, x1, x2": (a, b) => u64(a * b),
  "udiv x0, x1, x2": (a, b) => (b === 0n ? 0n : a / b),
  "sdiv x0, x1, x2": (a, b) => sdiv(a, b, 64),
  "udiv w0, w1, w2": (a, b) => (W(b) === 0n ? 0n : W(a) / W(b)),
  "sdiv w0, w1, w2": (a, b) => sdiv(a, b, 32),
  "rbit x0, x1": (a) => BigInt(`0b${a.toString(2).padStart(64, "0").split("").reverse().join("")}`),
  "rbit w0, w1": (a) => BigInt(`0b${W(a).toString(2).padStart(32, "0").split("").reverse().join("")}`),
  "rev x0, x1": (a) => reverse(a, 64, 64),
  "rev w0, w1": (a) => reverse(W(a), 32, 32),
  "rev32 x0, x1": (a) => reverse(a, 32, 64),
  "rev16 x0, x1": (a) => reverse(a, 16, 64),
  "rev16 w0, w1": (a) => reverse(W(a), 16, 32),
  "clz x0, x1": (a) => BigInt(a === 0n ? 64 : 64 - a.toString(2).length),
  "clz w0, w1": (a) => BigInt(W(a) === 0n ? 32 : 32 - W(a).toString(2).length),
  "csel x0, x1, x2, lo": (a, b, _c, _o, f) => ((f & 2) === 0 ? a : b),
  "csinc x0, x1, x2, ge": (a, b, _c, _o, f) => (f >> 3 === (f & 1) ? a : u64(b + 1n)),
  "csinv x0, x1, x2, eq": (a, b, _c, _o, f) => ((f & 4) !== 0 ? a : u64(~b)),
  "csneg x0, x1, x2, hi": (a, b, _c, _o, f) => ((f & 6) === 2 ? a : u64(-b)),
  "csneg w0, w1, w2, mi": (a, b, _c, _o, f) => ((f & 8) !== 0 ? W(a) : W(-b)),
  "cset x0, gt": (_a, _b, _c, _o, f) => ((f & 4) === 0 && f >> 3 === (f & 1) ? 1n : 0n),
  "csetm w0, vs": (_a, _b, _c, _o, f) => ((f & 1) !== 0 ? 0xffffffffn : 0n),
  "mvn x0, x1": (a) => u64(~a),
  "neg x0, x1": (a) => u64(-a),
};

describe("data processing", () => {
  const m = new Bare();
  for (const [text, model] of Object.entries(CASES)) {
    it(`${text} agrees with its definition`, () => {
      fc.assert(
        fc.property(interesting, interesting, interesting, interesting, fc.nat(15), (a, b, c, old, flags) => {
          const got = one(m, text, a, b, c, old, flags);
          const want = model(a, b, c, old, flags);
          expect(got).toEqual(typeof want === "bigint" ? { x0: want, nzcv: flags } : { x0: want.value, nzcv: want.nzcv });
        }),
        { numRuns: 40 },
      );
    });
  }

  it("conditions: all sixteen for all flags", () => {
    const truth: readonly ((n: boolean, z: boolean, c: boolean, v: boolean) => boolean)[] = [
      (_n, z) => z,
      (_n, _z, c) => c,
      (n) => n,
      (_n, _z, _c, v) => v,
      (_n, z, c) => c && !z,
      (n, _z, _c, v) => n === v,
      (n, z, _c, v) => n === v && !z,
      () => true,
    ];
    const names = ["eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "al", "nv"];
    for (const [i, name] of names.entries()) {
      for (let f = 0; f < 16; f++) {
        const base = truth[i >> 1]!((f & 8) !== 0, (f & 4) !== 0, (f & 2) !== 0, (f & 1) !== 0);
        const want = i >= 14 || (i & 1 ? !base : base);
        m.set(5, 0n);
        m.regs.pool.set(PSTATE, (f << 28) | 0x3c5);
        m.run([`b.${name} #8`, "mov x5, #1"]);
        expect([name, f, m.get(5) === 0n]).toEqual([name, f, want]);
      }
    }
  });

  it("register 31 is zero in one place and the stack pointer in the other", () => {
    m.regs.setNum(m.v, SP_EL1, 0x1000);
    m.run(["add x0, sp, #16", "mov x1, sp", "add sp, sp, #32", "mov x2, xzr", "add xzr, x1, x1", "cmp sp, #0", "sub x4, sp, x1"]);
    expect([m.get(0), m.get(1), m.get(2), m.get(4), m.reg(SP_EL1)]).toEqual([0x1010n, 0x1000n, 0n, 0x20n, 0x1020n]);
    expect(m.reg(62)).toBe(0n);
  });

  it("adr and adrp are relative to their own address, also across 4 GiB", () => {
    m.run(["adr x0, #0", "adr x1, #-4", "adrp x2, #0x3000", "adrp x3, #-4294967296"]);
    expect([m.get(0), m.get(1), m.get(2), m.get(3)]).toEqual([0x40000000n, 0x40000000n, 0x40003000n, 0xffffffff40000000n]);
  });
});
