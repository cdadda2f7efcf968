import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { Bare, CODE, DATA, leaf, VECTORS } from "./cpuharness.js";
import { body, compareWithInterpreter, type Executed, over, values } from "./randomloops.js";
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

interface Program {
  readonly body: readonly string[];
  readonly values: readonly bigint[];
  /** Where x10..x13 point: offsets from DATA. That at 0x401000 has its place in the TLB, the code page that at 0x301000. */
  readonly places: readonly number[];
  readonly index: number;
  readonly mmu: boolean;
  readonly budgets: readonly number[];
}

function execute(p: Program, trips: number): Executed {
  const m = machine(p.mmu, trips);
  const trace: string[] = [];
  m.sim.bus.on("*", (e) => trace.push(`${JSON.stringify(e)} ${m.regs.big(m.v, R.PC)} ${m.get(0)} ${m.get(10)} ${m.sim.agents.now}`));
  const top = CODE + 0x400;
  const end = m.code([...over(p.body), "subs x9, x9, #1"], top);
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
  return {
    outcome: { state: m.sim.state.hash(), clock: m.sim.agents.clockOf(0), pc: m.regs.big(m.v, R.PC), reasons, trace },
    loops: m.cpu.loops.count,
  };
}

const program: fc.Arbitrary<Program> = fc.record({
  body,
  values,
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
    const loops = compareWithInterpreter(program, execute, 300, 11);
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
