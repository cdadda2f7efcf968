import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { Bare, CODE, DATA, leaf, VECTORS } from "./cpuharness.js";
import { RUN_BUDGET } from "../../src/arch/cpu.js";
import * as R from "../../src/arch/registers.js";

/** Page 2 of the data is not mapped, page 1 is the code page again, page 4 is for reading only. */
const UNMAPPED = 0x102;
const READ_ONLY = 0x104;

function machine(mmu: boolean, trips: number): Bare {
  const m = new Bare(undefined, trips);
  // An abort is counted, and the instruction skipped.
  m.code(["mrs x20, esr_el1", "mrs x21, elr_el1", "add x21, x21, #4", "msr elr_el1, x21", "add x22, x22, #1", "eret"], VECTORS + 0x200);
  if (mmu) m.mapped({ [UNMAPPED]: 0n, [READ_ONLY]: leaf(CODE + READ_ONLY * 0x1000, 3) | 0x80n });
  return m;
}

// ---- random instructions of a loop: x0..x8 are anybody's, x10..x13 addresses, x9 counts the trips down

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
const transfer = fc.oneof(
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
const body = fc.array(
  fc.oneof({ weight: 4, arbitrary: arithmetic }, { weight: 4, arbitrary: transfer }, { weight: 1, arbitrary: branch }),
  {
    minLength: 1,
    maxLength: 14,
  },
);

interface Outcome {
  readonly state: string;
  readonly clock: number;
  readonly pc: bigint;
  readonly reasons: readonly number[];
  readonly trace: readonly string[];
}
interface Program {
  readonly body: readonly string[];
  readonly values: readonly bigint[];
  /** Where x10..x13 point: offsets from DATA. That at 0x401000 has its place in the TLB, the code page that at 0x301000. */
  readonly places: readonly number[];
  readonly index: number;
  readonly mmu: boolean;
  readonly budgets: readonly number[];
}

let compiled = 0;

function execute(p: Program, trips: number): Outcome {
  const m = machine(p.mmu, trips);
  const trace: string[] = [];
  m.sim.bus.on("*", (e) => trace.push(`${JSON.stringify(e)} ${m.regs.big(m.v, R.PC)} ${m.get(0)} ${m.get(10)} ${m.sim.agents.now}`));
  const top = CODE + 0x400;
  const lines = p.body.map((line, n) =>
    line.replace(/OVER (\d+)$/, (_, over: string) => {
      const to = Number(over) % 5 === 0 ? 0 : n + Number(over);
      return `#${4 * (to - n)}`;
    }),
  );
  const end = m.code([...lines, "subs x9, x9, #1"], top);
  m.code([`b.ne #-${end - top}`, "b ."], end);
  // Where branches out of the loop arrive: back into it.
  m.code(
    Array.from({ length: 16 }, () => "add x15, x15, #1"),
    end + 8,
  );
  m.code([`sub x9, x9, #1`, `cbz x9, #8`, `b #-${end + 8 + 64 + 8 - top}`, "b ."], end + 8 + 64);
  p.values.forEach((value, n) => m.set(n, value));
  m.set(9, 100);
  p.places.forEach((at, n) => m.set(10 + n, DATA + at));
  m.set(14, p.index);
  for (let i = 0; i < 64; i++) m.poke(DATA + 16 * i, 0x1234_5678_9abc_def0n * BigInt(i));
  m.regs.setNum(m.v, R.PC, top);
  const reasons: number[] = [];
  for (const budget of p.budgets) {
    const reason = m.cpu.run(m.v, budget);
    reasons.push(reason);
    if (reason !== RUN_BUDGET) break;
  }
  m.sim.bus.flush();
  compiled += m.cpu.loops.count;
  return { state: m.sim.state.hash(), clock: m.sim.agents.clockOf(0), pc: m.regs.big(m.v, R.PC), reasons, trace };
}

const program: fc.Arbitrary<Program> = fc.record({
  body,
  values: fc.array(
    fc.oneof(fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }), fc.constantFrom(0n, 1n, 0x8000_0000n, 0xffff_ffff_ffff_ffffn)),
    {
      minLength: 9,
      maxLength: 9,
    },
  ),
  places: fc.array(
    fc.constantFrom(
      0,
      8,
      0xff8,
      0x1400,
      0x1420,
      0x1ff8,
      0x2ff0,
      0x3000,
      0x3004,
      0x4000,
      0x401000,
      0x401008,
      0x301000,
      -0x100000 + 0x400,
      -0x100000 + 0x410,
    ),
    {
      minLength: 4,
      maxLength: 4,
    },
  ),
  index: fc.constantFrom(0, 1, 8, 0x100, 0xfffffff8),
  mmu: fc.boolean(),
  budgets: fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 8 }),
});

describe("a compiled loop does what the interpreter does", () => {
  it("registers, memory, clock, reasons and events, for random loops", () => {
    let loops = 0;
    compiled = 0;
    fc.assert(
      fc.property(program, (p) => {
        const want = execute(p, Infinity);
        expect(compiled).toBe(0);
        expect(execute(p, 1)).toEqual(want);
        loops += compiled;
        compiled = 0;
      }),
      { numRuns: Number(process.env["LOOPS"] ?? 300), seed: Number(process.env["SEED"] ?? 11) },
    );
    expect(loops).toBeGreaterThan(100);
  });
});

describe("what is compiled", () => {
  const sum = ["ldr x1, [x0]", "add x4, x4, x1", "add x5, x5, #1", "subs x2, x2, #1", "b.ne #-16", "b ."];
  function started(trips: number, lines = sum): Bare {
    const m = new Bare(undefined, trips);
    m.code(lines);
    m.poke(DATA, 3n);
    return m;
  }
  function run(m: Bare, times: number): void {
    m.set(0, DATA);
    m.set(2, times);
    m.set(4, 0);
    m.regs.setNum(m.v, R.PC, CODE);
    m.cpu.run(m.v, 1_000_000);
  }

  it("a loop that is taken often, once", () => {
    const m = started(100);
    run(m, 50);
    expect(m.cpu.loops.count).toBe(0);
    run(m, 1000);
    run(m, 1000);
    expect(m.cpu.loops.count).toBe(1);
    expect(m.get(4)).toBe(3000n);
  });

  it("not what holds another instruction, nor a loop that is recorded or stepped", () => {
    const other = started(0, ["isb", ...sum.slice(1)]);
    run(other, 1000);
    const recorded = started(0);
    recorded.sim.state.startRecording();
    run(recorded, 1000);
    const stepped = started(0);
    stepped.set(2, 100);
    for (let n = 0; n < 400; n++) stepped.cpu.run(stepped.v, 1);
    for (const m of [other, recorded, stepped]) expect(m.cpu.loops.count).toBe(0);
  });

  it("a loop beside a breakpoint, and none that has it inside", () => {
    const at = (address: number): Bare => {
      const m = started(0);
      m.regs.setNum(m.v, R.STOP_PC, address);
      m.regs.setNum(m.v, R.STOP_ENABLED, 1);
      run(m, 1000);
      return m;
    };
    const inside = sum.slice(0, 5).map((_, n) => at(CODE + 4 * n));
    expect(inside.map((m) => [m.cpu.loops.count, m.regs.big(m.v, R.PC)])).toEqual(inside.map((_, n) => [0, BigInt(CODE + 4 * n)]));
    const after = at(CODE + 20);
    expect([after.cpu.loops.count, after.regs.big(after.v, R.PC), after.get(4)]).toEqual([1, BigInt(CODE + 20), 3000n]);
  });

  it("other code at the same place is other code", () => {
    const m = started(100);
    run(m, 1000);
    m.code(["add x5, x5, #2"], CODE + 8);
    m.set(5, 0);
    run(m, 1000);
    expect(m.get(5)).toBe(2000n);
    expect(m.cpu.loops.count).toBe(2);
  });

  it("when there are too many all are forgotten", () => {
    const m = started(0);
    for (let n = 0; n < 300; n++) {
      m.code([`add x5, x5, #${n}`], CODE + 8);
      m.set(5, 0);
      run(m, 200);
      expect(m.get(5)).toBe(BigInt(200 * n));
    }
    expect(m.cpu.loops.count).toBeGreaterThan(0);
    expect(m.cpu.loops.count).toBeLessThan(300);
  });

  it("nothing, where the process forbids code from strings", () => {
    const allowed = globalThis.Function;
    const m = started(0);
    globalThis.Function = function () {
      throw new EvalError("Code generation from strings disallowed for this context");
    } as unknown as typeof Function;
    try {
      run(m, 1000);
    } finally {
      globalThis.Function = allowed;
    }
    expect(m.cpu.loops.count).toBe(0);
    expect(m.get(4)).toBe(3000n);
  });
});
