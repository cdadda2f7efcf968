import { describe, expect, it } from "vitest";
import { Bare, DATA } from "./cpuharness.js";
import { RUN_SELF_BRANCH } from "../../src/arch/cpu.js";
import { cpuProfile } from "../../src/arch/features.js";
import { CPACR_EL1, ELR_EL1, ESR_EL1, MONITOR, PC, SCTLR_EL1, SP_EL1, V } from "../../src/arch/registers.js";

const D = BigInt(DATA);
function machine(): Bare {
  const m = new Bare();
  m.set(1, D);
  m.poke(DATA, 0x8899aabbccddeeffn);
  m.poke(DATA + 8, 0x1122334455667788n);
  m.poke(DATA + 16, 0x0123456789abcdefn);
  return m;
}
/** Runs lines on a fresh machine and gives x0. */
function x0(...lines: string[]): bigint {
  const m = machine();
  m.set(0, 0xdeaddeaddeaddeadn);
  expect(m.run(lines)).toBe(RUN_SELF_BRANCH);
  return m.get(0);
}

describe("loads and stores", () => {
  it("extend what they load as their mnemonic says", () => {
    const table: readonly (readonly [string, bigint])[] = [
      ["ldr x0, [x1]", 0x8899aabbccddeeffn],
      ["ldr w0, [x1]", 0xccddeeffn],
      ["ldrh w0, [x1]", 0xeeffn],
      ["ldrb w0, [x1]", 0xffn],
      ["ldrsw x0, [x1]", 0xffffffffccddeeffn],
      ["ldrsw x0, [x1, #8]", 0x55667788n],
      ["ldrsh x0, [x1]", 0xffffffffffffeeffn],
      ["ldrsh w0, [x1]", 0xffffeeffn],
      ["ldrsb x0, [x1, #3]", 0xffffffffffffffccn],
      ["ldrsb w0, [x1, #3]", 0xffffffccn],
      ["ldrsb x0, [x1, #9]", 0x77n],
      ["ldur x0, [x1, #1]", 0x888899aabbccddeen],
      ["ldar x0, [x1]", 0x8899aabbccddeeffn],
      ["ldarb w0, [x1, #0]", 0xffn],
      ["ldapr w0, [x1]", 0xccddeeffn],
      ["ldxrh w0, [x1]", 0xeeffn],
    ];
    for (const [text, want] of table) expect([text, x0(text)]).toEqual([text, want]);
  });

  it("address through every mode", () => {
    const table: readonly (readonly [string[], bigint])[] = [
      [["mov x2, #8", "ldr x0, [x1, x2]"], 0x1122334455667788n],
      [["mov x2, #1", "ldr x0, [x1, x2, lsl #3]"], 0x1122334455667788n],
      [["mov x2, #-8", "add x1, x1, #16", "ldr x0, [x1, x2]"], 0x1122334455667788n],
      [["mov w2, #-1", "add x1, x1, #16", "ldr x0, [x1, w2, sxtw #3]"], 0x1122334455667788n],
      [["mov x2, #0x100000002", "ldr x0, [x1, w2, uxtw #3]"], 0x0123456789abcdefn],
      [["ldr x0, [x1, #8]!"], 0x1122334455667788n],
      [["ldr x0, [x1, #8]!", "mov x0, x1"], D + 8n],
      [["ldr x0, [x1], #8"], 0x8899aabbccddeeffn],
      [["ldr x0, [x1], #8", "mov x0, x1"], D + 8n],
      [["ldr x0, [x1], #-256", "mov x0, x1"], D - 256n],
      [["ldp x0, x2, [x1, #8]"], 0x1122334455667788n],
      [["ldp x2, x0, [x1], #16", "sub x0, x1, x0"], D + 16n - 0x1122334455667788n],
      [["ldp w2, w0, [x1, #8]!"], 0x11223344n],
      [["ldpsw x2, x0, [x1]"], 0xffffffff8899aabbn],
      [["ldr x0, #8", "b #12", ".inst 0x12345678", ".inst 0x9abcdef0"], 0x9abcdef012345678n],
      [["ldrsw x0, #8", "b #8", ".inst 0x92345678"], 0xffffffff92345678n],
    ];
    for (const [lines, want] of table) expect([lines, x0(...lines)]).toEqual([lines, BigInt.asUintN(64, want)]);
  });

  it("store only their own bytes", () => {
    const table: readonly (readonly [string[], bigint])[] = [
      [["strb w3, [x1, #2]"], 0x8899aabbcc08eeffn],
      [["strh w3, [x1, #2]"], 0x8899aabb0708eeffn],
      [["str w3, [x1, #4]"], 0x05060708ccddeeffn],
      [["str x3, [x1]"], 0x0102030405060708n],
      [["str xzr, [x1]"], 0n],
      [["stlrh w3, [x1]"], 0x8899aabbccdd0708n],
      [["sturb w3, [x1, #7]"], 0x0899aabbccddeeffn],
      [["stp w3, w3, [x1]"], 0x0506070805060708n],
    ];
    for (const [lines, want] of table) {
      const m = machine();
      m.set(3, 0x0102030405060708n);
      m.run(lines);
      expect([lines, m.mem(DATA)]).toEqual([lines, want]);
    }
  });

  it("of SIMD registers move 1 to 16 bytes and clear the rest of the register", () => {
    const m = machine();
    m.run([
      "ldr q0, [x1]",
      "ldr d1, [x1]",
      "ldr s2, [x1]",
      "ldr h3, [x1]",
      "ldr b4, [x1]",
      "ldp q5, q6, [x1]",
      "str q0, [x1, #32]",
      "fmov x0, d1",
      "fmov d7, x1",
      "fmov v7.d[1], x0",
      "fmov x2, v7.d[1]",
    ]);
    const v = (n: number): bigint => (m.reg(V + 4 * n + 2) << 64n) | m.reg(V + 4 * n);
    expect([0, 1, 2, 3, 4].map(v)).toEqual([
      (0x1122334455667788n << 64n) | 0x8899aabbccddeeffn,
      0x8899aabbccddeeffn,
      0xccddeeffn,
      0xeeffn,
      0xffn,
    ]);
    expect([v(5), v(6)]).toEqual([v(0), 0x0123456789abcdefn]);
    expect([m.mem(DATA + 32), m.mem(DATA + 40)]).toEqual([m.mem(DATA), m.mem(DATA + 8)]);
    expect([m.get(0), v(7), m.get(2)]).toEqual([0x8899aabbccddeeffn, (0x8899aabbccddeeffn << 64n) | D, 0x8899aabbccddeeffn]);
  });

  it("of SIMD registers trap while CPACR_EL1.FPEN says so", () => {
    const m = machine();
    m.regs.setNum(m.v, CPACR_EL1, 0);
    m.code(["b ."], 0x40200200);
    m.run(["ldr q0, [x1]"]);
    expect([m.reg(ESR_EL1), m.reg(ELR_EL1)]).toEqual([0x1fe00000n, 0x40000000n]);
  });

  it("with a stack pointer that is not 16-byte aligned take an SP alignment fault", () => {
    for (const text of ["ldr x0, [sp]", "stp x0, x1, [sp, #-16]!", "ldr q0, [sp, #16]", "ldxr x0, [sp]"]) {
      const m = machine();
      m.code(["b ."], 0x40200200);
      m.regs.setNum(m.v, SP_EL1, DATA + 8);
      m.run([text]);
      expect([text, m.reg(ESR_EL1), m.reg(SP_EL1)]).toEqual([text, 0x9a000000n, D + 8n]);
      m.regs.setNum(m.v, SCTLR_EL1, 0);
      expect(m.run(text.startsWith("ldr q") ? ["nop"] : [text])).toBe(RUN_SELF_BRANCH);
    }
  });
});

describe("exclusives and atomics", () => {
  it("a store-exclusive succeeds only while the monitor of its load-exclusive stands", () => {
    const m = machine();
    m.set(3, 7n);
    m.run(["ldxr x0, [x1]", "stxr w4, x3, [x1]", "stxr w5, x3, [x1]"]);
    expect([m.get(0), m.get(4), m.get(5), m.mem(DATA)]).toEqual([0x8899aabbccddeeffn, 0n, 1n, 7n]);
    m.run(["ldxr x0, [x1]", "clrex", "stxr w4, x3, [x1]"]);
    expect(m.get(4)).toBe(1n);
    m.run(["ldxr x0, [x1]", "add x2, x1, #8", "stxr w4, x3, [x2]"]);
    expect(m.get(4)).toBe(1n);
    m.run(["ldxr x0, [x1]", "str x1, [x1]", "stxr w4, x3, [x1]"]);
    expect([m.get(4), m.mem(DATA)]).toEqual([1n, D]);
    m.run(["ldaxp x6, x7, [x1]", "stlxp w4, x7, x6, [x1]"]);
    expect([m.get(4), m.mem(DATA), m.mem(DATA + 8)]).toEqual([0n, 0x1122334455667788n, D]);
    m.run(["ldxp w6, w7, [x1]", "stxp w4, w7, w6, [x1]"]);
    expect([m.get(4), m.mem(DATA)]).toEqual([0n, 0x5566778811223344n]);
    expect(m.reg(MONITOR)).toBe(0n);
  });

  it("an exception return clears the monitor", () => {
    const m = machine();
    m.code(["eret"], 0x40200200);
    m.run(["ldxr x0, [x1]", "svc #0", "stxr w4, x1, [x1]"]);
    expect(m.get(4)).toBe(1n);
  });

  it("LSE atomics give the old value and store the new one", () => {
    const old = 0x8899aabbccddeeffn;
    const table: readonly (readonly [string, bigint, bigint, bigint])[] = [
      ["ldadd x3, x0, [x1]", 0x8000000000000001n, old, 0x0899aabbccddef00n],
      ["ldaddal w3, w0, [x1]", 0x33221101n, 0xccddeeffn, 0x8899aabb00000000n],
      ["ldaddh w3, w0, [x1]", 1n, 0xeeffn, 0x8899aabbccddef00n],
      ["ldclrb w3, w0, [x1]", 0x0fn, 0xffn, 0x8899aabbccddeef0n],
      ["ldeora x3, x0, [x1]", 0xffn, old, 0x8899aabbccddee00n],
      ["ldsetl x3, x0, [x1]", 0x7n << 60n, old, 0xf899aabbccddeeffn],
      ["swp x3, x0, [x1]", 5n, old, 5n],
      ["swpalb w3, w0, [x1]", 5n, 0xffn, 0x8899aabbccddee05n],
      ["ldsmax x3, x0, [x1]", 5n, old, 5n],
      ["ldumax x3, x0, [x1]", 5n, old, old],
      ["ldsmin x3, x0, [x1]", 5n, old, old],
      ["ldumin x3, x0, [x1]", 5n, old, 5n],
      ["ldsmaxb w3, w0, [x1]", 0n, 0xffn, 0x8899aabbccddee00n],
      ["ldumaxb w3, w0, [x1]", 0n, 0xffn, old],
      ["ldsminh w3, w0, [x1]", 0x8000n, 0xeeffn, 0x8899aabbccdd8000n],
      ["ldsmax w3, w0, [x1]", 0xccddeeffn, 0xccddeeffn, old],
    ];
    for (const [text, operand, loaded, stored] of table) {
      const m = machine();
      m.set(3, operand);
      m.run([text]);
      expect([text, m.get(0), m.mem(DATA)]).toEqual([text, loaded, stored]);
    }
  });

  it("compare-and-swap stores only on equality and always gives what was there", () => {
    const m = machine();
    m.set(4, 0x8899aabbccddeeffn);
    m.set(3, 1n);
    m.run(["cas x4, x3, [x1]"]);
    expect([m.get(4), m.mem(DATA)]).toEqual([0x8899aabbccddeeffn, 1n]);
    m.set(4, 0n);
    m.run(["casal x4, x3, [x1]"]);
    expect([m.get(4), m.mem(DATA)]).toEqual([1n, 1n]);
    m.set(4, 0xff01n);
    m.set(3, 0x55n);
    m.run(["casb w4, w3, [x1]"]);
    expect([m.get(4), m.mem(DATA)]).toEqual([1n, 0x55n]);
    m.set(4, 0x55n);
    m.set(5, 0x1122334455667788n);
    m.set(6, 6n);
    m.set(7, 7n);
    m.run(["casp x4, x5, x6, x7, [x1]"]);
    expect([m.get(4), m.get(5), m.mem(DATA), m.mem(DATA + 8)]).toEqual([0x55n, 0x1122334455667788n, 6n, 7n]);
    m.set(4, 6n);
    m.set(5, 1n);
    m.run(["casp w4, w5, w6, w7, [x1]"]);
    expect([m.get(4), m.get(5), m.mem(DATA)]).toEqual([6n, 0n, 6n]);
  });

  it("unaligned ones take an alignment fault whatever the memory", () => {
    for (const text of ["ldxr x0, [x1]", "ldadd x0, x2, [x1]", "ldar x0, [x1]", "stlr x0, [x1]", "cas x0, x2, [x1]"]) {
      // Without FEAT_LSE2.
      const m = new Bare(cpuProfile("cortex-a76"));
      m.code(["b ."], 0x40200200);
      m.set(1, D + 4n);
      m.run([text]);
      expect([text, m.reg(ESR_EL1) & 0xfc00003fn]).toEqual([text, 0x94000021n]);
    }
  });
});

describe("code in memory", () => {
  it("that changes is executed as it then stands, in the same page and the same run", () => {
    const m = machine();
    m.set(2, 0xd2800540n); // mov x0, #42
    m.code(["mov x0, #1", "adr x3, #8", "str w2, [x3]", "mov x0, #2", "b ."]);
    expect(m.cpu.run(m.v, 100)).toBe(RUN_SELF_BRANCH);
    expect(m.get(0)).toBe(42n);
    // Once more round a loop whose body was already executed.
    m.code(["mov x5, #2", "mov x0, #7", "adr x3, #-4", "str w2, [x3]", "subs x5, x5, #1", "b.ne #-16", "b ."]);
    m.regs.setNum(m.v, PC, 0x40000000);
    expect(m.cpu.run(m.v, 100)).toBe(RUN_SELF_BRANCH);
    expect(m.get(0)).toBe(42n);
  });

  it("that a pair, a SIMD store, an atomic or DC ZVA changes is seen too", () => {
    const mov42 = 0xd2800540d2800540n;
    for (const store of ["stp x2, x2, [x3]", "str q0, [x3]", "swp x2, x4, [x3]", "stlr x2, [x3]"]) {
      const m = machine();
      m.set(2, mov42);
      m.regs.setBig(m.v, V, mov42);
      m.regs.setBig(m.v, V + 2, mov42);
      // x0 gets 1 the first time round, and what was stored there the second time.
      m.code(["mov x5, #2", "adr x3, #12", "nop", "nop", "mov x0, #1", "nop", "nop", "nop", store, "subs x5, x5, #1", "b.ne #-24", "b ."]);
      m.regs.setNum(m.v, PC, 0x40000000);
      m.cpu.run(m.v, 100);
      expect([store, m.get(0)]).toEqual([store, 42n]);
    }
  });
});
