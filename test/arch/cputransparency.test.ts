import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { Bare, CODE, DATA, leaf, VECTORS } from "./cpuharness.js";
import { RUN_BUDGET } from "../../src/arch/cpu.js";
import * as R from "../../src/arch/registers.js";
import { hex64 } from "../../src/sim/events.js";

/** A machine with stage 1 on, if asked. */
function machine(mmu: boolean): Bare {
  const m = new Bare();
  m.code(["mrs x20, esr_el1", "mrs x21, elr_el1", "add x21, x21, #4", "msr elr_el1, x21", "eret"], VECTORS + 0x200);
  m.code(["mrs x20, esr_el1", "eret"], VECTORS + 0x200 + 0x40);
  if (mmu) m.mapped();
  return m;
}

const instruction = fc.constantFrom(
  "ldr x3, [x1]",
  "ldr x3, [x1, #4088]",
  "ldr w4, [x1], #4",
  "ldrsb x4, [x1, #3]!",
  "str x3, [x1]",
  "str x5, [x2]",
  "str w5, [x1, #8]!",
  "strb w3, [x1, #1]",
  "stp x3, x4, [x1, #16]",
  "ldp x3, x4, [x2, #32]",
  "str q1, [x1, #32]",
  "ldr q1, [x2]",
  "ldadd x3, x4, [x2]",
  "ldxr x4, [x2]",
  "stxr w5, x3, [x2]",
  "dc zva, x2",
  "dc civac, x1",
  "tlbi vmalle1",
  "dsb nsh",
  "isb",
  "svc #3",
  "at s1e1r, x1",
  "mrs x5, cntvct_el0",
  "add x3, x3, x4",
  "subs x6, x6, #1",
  "csel x3, x4, x5, ne",
  "cbz x4, #8",
  "b.mi #8",
  "br x7",
  "mov x7, #0x40001000",
  // Stores over the code that follows, through the code page and through its alias.
  "str w8, [x9]",
  "str w8, [x10]",
  "add x9, x9, #4",
  "bl #8",
);

interface Outcome {
  readonly state: string;
  readonly clock: number;
  readonly trace: readonly string[];
}

function execute(program: readonly string[], mmu: boolean, slice: number, recording: boolean): Outcome {
  const m = machine(mmu);
  const trace: string[] = [];
  m.sim.bus.on("*", (e) => trace.push(JSON.stringify(e)));
  // Registers as the instructions expect them; then, again and again, 16 words that are undefined until a
  // store makes them NOPs, and the program.
  m.code([
    `mov x1, #${DATA}`,
    `mov x2, #${DATA + 64}`,
    "mov x6, #60",
    "mov w8, #0x1f",
    "movk w8, #0xd503, lsl #16",
    `mov x9, #${CODE + 64}`,
    `mov x10, #${mmu ? DATA + 0x1040 : CODE + 96}`,
    `mov x7, #${CODE + 0x1000}`,
    "b #16",
  ]);
  m.code([...program, "subs x6, x6, #7", `b.pl #-${4 * (program.length + 1) + 0x40}`, "b ."], CODE + 0x80);
  m.code(["add x11, x11, #1", "mov x7, #0x40000080", "hvc #1"], CODE + 0x1000);
  m.regs.setNum(m.v, R.PC, CODE);
  if (recording) m.sim.state.startRecording();
  let executed = 0;
  for (;;) {
    const reason = m.cpu.run(m.v, slice);
    executed += slice;
    if (reason !== RUN_BUDGET || executed >= 3000) break;
  }
  m.sim.bus.flush();
  return { state: m.sim.state.hash(), clock: m.sim.agents.clockOf(0), trace };
}

describe("what the interpreter remembers is never visible", () => {
  it("a run in slices of any size, and a recorded one, have the same state, clock and events", () => {
    fc.assert(
      fc.property(fc.array(instruction, { minLength: 1, maxLength: 20 }), fc.boolean(), (program, mmu) => {
        const whole = execute(program, mmu, 3000, false);
        expect(execute(program, mmu, 1, false)).toEqual(whole);
        expect(execute(program, mmu, 3000, true)).toEqual(whole);
        expect(execute(program, mmu, 60, false)).toEqual(whole);
      }),
      { numRuns: 60, seed: 7 },
    );
  });

  it("a run fetches anew from a page whose context went since the last: by a TLBI of another CPU, or as the ASID is another", () => {
    const m = machine(true);
    let misses = 0;
    m.sim.bus.on("tlb_miss", () => misses++);
    const missesOf = (budget: number): number => {
      misses = 0;
      m.cpu.run(m.v, budget);
      m.sim.bus.flush();
      return misses;
    };
    m.code(["add x1, x1, #1", "b #-4"]);
    const nonGlobal = leaf(CODE, 3) | 0x800n;
    m.mapped({ 0: nonGlobal });
    expect(missesOf(2)).toBe(1);
    expect(missesOf(2)).toBe(0);
    m.pe.tlbs.dropAll(0);
    expect(missesOf(2)).toBe(1);
    expect(missesOf(2)).toBe(0);
    m.regs.setBig(m.v, R.TTBR0_EL1, m.reg(R.TTBR0_EL1) | (5n << 48n));
    expect(missesOf(2)).toBe(1);
    expect(missesOf(2)).toBe(0);
  });

  it("undoing a run undoes all of it, and running again gives the same", () => {
    const m = machine(true);
    m.code([
      `mov x1, #${DATA}`,
      "mov x2, #40",
      "ldr x3, [x1]",
      "add x3, x3, #1",
      "str x3, [x1], #8",
      "subs x2, x2, #1",
      "b.ne #-16",
      "b .",
    ]);
    m.sim.state.startRecording();
    const before = m.sim.state.hash();
    const mark = m.sim.state.mark();
    m.cpu.run(m.v, 1000);
    const after = m.sim.state.hash();
    m.sim.state.rollback(mark);
    expect(m.sim.state.hash()).toBe(before);
    m.cpu.run(m.v, 1000);
    expect(m.sim.state.hash()).toBe(after);
    expect(hex64(0, 1)).toBe("0x1");
  });

  it("code changed between two runs is executed as it then stands", () => {
    const m = machine(false);
    m.code(["mov x0, #1", "b ."]);
    m.cpu.run(m.v, 10);
    expect(m.get(0)).toBe(1n);
    m.code(["mov x0, #2", "b ."]);
    m.regs.setNum(m.v, R.PC, CODE);
    m.cpu.run(m.v, 10);
    expect(m.get(0)).toBe(2n);
  });
});
