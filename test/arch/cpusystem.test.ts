import { describe, expect, it } from "vitest";
import { Bare, CODE, DATA, VECTORS } from "./cpuharness.js";
import { RUN_BREAKPOINT, RUN_BUDGET, RUN_EL2, RUN_SELF_BRANCH, RUN_WFI } from "../../src/arch/cpu.js";
import { VECTOR_SERROR, VECTOR_SYNC, vectorOffset, pstateAtEntry, NO_FAR } from "../../src/arch/exception.js";
import { cpuProfile, customProfile } from "../../src/arch/features.js";
import * as R from "../../src/arch/registers.js";
import { registerNames, registerOffset, SYSREGS, sysregByName } from "../../src/arch/sysregs.js";

/** A machine whose 16 vectors each put their offset into x28 and stop. */
function machine(cpu = "max"): Bare {
  const m = new Bare(cpuProfile(cpu));
  for (let off = 0; off < 0x800; off += 0x80) m.code([`mov x28, #${off}`, "b ."], VECTORS + off);
  m.set(1, BigInt(DATA));
  return m;
}
interface Taken {
  esr: bigint;
  elr: bigint;
  spsr: bigint;
  vector: bigint;
}
function taken(m: Bare, lines: string[]): Taken {
  m.set(28, 0xfffn);
  expect(m.run(lines)).toBe(RUN_SELF_BRANCH);
  return { esr: m.reg(R.ESR_EL1), elr: m.reg(R.ELR_EL1), spsr: m.reg(R.SPSR_EL1), vector: m.get(28) };
}
const at = (n: number): bigint => BigInt(CODE + 4 * n);

describe("exceptions to EL1", () => {
  it("each has its syndrome, return address and vector", () => {
    const table: readonly (readonly [string[], bigint, bigint])[] = [
      [[".inst 0x00000000"], 0x02000000n, at(0)],
      [["nop", ".inst 0xffffffff"], 0x02000000n, at(1)],
      [["svc #0"], 0x56000000n, at(1)],
      [["svc #0x1234"], 0x56001234n, at(1)],
      [["brk #7"], 0xf2000007n, at(0)],
      [["smc #0"], 0x02000000n, at(0)],
      [["tlbi vmalle1", "mrs x0, s3_0_c15_c0_0"], 0x02000000n, at(1)],
      [["msr midr_el1, x0"], 0x02000000n, at(0)],
      [["msr sp_el0, x0", "msr spsel, #0", "mrs x0, sp_el0"], 0x02000000n, at(2)],
    ];
    for (const [lines, esr, elr] of table) {
      const t = taken(machine(), lines);
      const from = lines.includes("msr spsel, #0") ? 0n : 0x200n;
      expect([lines, t]).toEqual([lines, { esr, elr, spsr: from === 0n ? 0x3c4n : 0x3c5n, vector: from }]);
    }
  });

  it("a PC that is not aligned takes a PC alignment fault with the address in FAR", () => {
    const m = machine();
    m.set(3, BigInt(CODE + 2));
    const t = taken(m, ["br x3"]);
    expect([t.esr, t.elr, m.reg(R.FAR_EL1)]).toEqual([0x8a000000n, BigInt(CODE + 2), BigInt(CODE + 2)]);
  });

  it("vector offsets follow mode and kind", () => {
    const table: readonly (readonly [number, number, number])[] = [
      [R.MODE_EL1H, VECTOR_SYNC, 0x200],
      [R.MODE_EL1T, VECTOR_SYNC, 0],
      [R.MODE_EL0T, VECTOR_SYNC, 0x400],
      [0x10, VECTOR_SYNC, 0x600],
      [R.MODE_EL1H, VECTOR_SERROR, 0x380],
      [R.MODE_EL0T, VECTOR_SERROR, 0x580],
    ];
    for (const [mode, kind, offset] of table) expect(vectorOffset(mode, kind)).toBe(offset);
    expect(NO_FAR).toBe(-1);
  });

  it("PSTATE at entry keeps flags, masks interrupts, and sets PAN, SSBS, TCO as the CPU and SCTLR_EL1 say", () => {
    const all = -1;
    const entry = (cpu: string, pstate: number, hi: number, lo: number): string =>
      (pstateAtEntry(cpuProfile(cpu), pstate, hi, lo) >>> 0).toString(16);
    expect(entry("cortex-a72", 0x80000005 | 0, 0, 0)).toBe("800003c5");
    expect(entry("max", 0x5, 0, R.SCTLR_SPAN)).toBe("20003c5");
    expect(entry("max", 0x5, 0, 0)).toBe("24003c5");
    expect(entry("max", all & ~0x10, 0, R.SCTLR_SPAN)).toBe("f34003c5");
    expect(entry("cortex-a76", 0x5, R.SCTLR_DSSBS_HI, R.SCTLR_SPAN)).toBe("13c5");
  });

  it("ERET goes back, with flags, mode and mask from SPSR_EL1", () => {
    const m = machine();
    m.code(["mrs x27, spsr_el1", "eret"], VECTORS + 0x200);
    expect(m.run(["cmp x1, x1", "svc #0", "cset x0, eq", "mrs x3, currentel"])).toBe(RUN_SELF_BRANCH);
    expect([m.get(0), m.get(27), m.get(3)]).toEqual([1n, 0x600003c5n, 4n]);
  });

  it("ERET to EL0 runs there, and an exception comes back through 0x400", () => {
    const m = machine();
    m.set(4, BigInt(CODE + 24));
    const t = taken(m, ["msr elr_el1, x4", "mov x5, #0", "msr spsr_el1, x5", "eret", "nop", "nop", "msr vbar_el1, x0"]);
    expect(t).toEqual({ esr: 0x02000000n, elr: BigInt(CODE + 24), spsr: 0n, vector: 0x400n });
  });

  it("an illegal return sets PSTATE.IL, and the next instruction is the illegal execution exception", () => {
    const m = machine();
    m.set(4, BigInt(CODE));
    m.set(5, 0x3c9n); // EL2h
    const t = taken(m, ["msr elr_el1, x4", "msr spsr_el1, x5", "eret"]);
    expect([t.esr, t.spsr & (1n << 20n)]).toEqual([0x3a000000n, 1n << 20n]);
  });

  it("a virtual SError waits for PSTATE.A, and its syndrome comes from VSESR_EL2 where the CPU has RAS", () => {
    for (const [cpu, esr] of [
      ["max", 0xbf000000n],
      ["cortex-a72", 0xbe000000n],
    ] as const) {
      const m = machine(cpu);
      m.regs.setNum(m.v, R.HCR_EL2, R.HCR_AMO | R.HCR_VSE);
      m.regs.setNum(m.v, R.VSESR_EL2, 0x01000000);
      const t = taken(m, ["nop", "msr daifclr, #4", "nop"]);
      expect(t).toEqual({ esr, elr: at(2), spsr: 0x2c5n, vector: 0x380n });
      expect(m.reg(R.HCR_EL2)).toBe(BigInt(R.HCR_AMO));
    }
  });
});

describe("BTYPE", () => {
  it("is set by br and blr, not by ret, and shows in SPSR only on a CPU with BTI", () => {
    const table: readonly (readonly [string, string, bigint])[] = [
      ["max", "br x3", 0x7c5n],
      ["max", "blr x3", 0xbc5n],
      ["max", "ret x3", 0x3c5n],
      ["cortex-a76", "br x3", 0x3c5n],
    ];
    for (const [cpu, text, spsr] of table) {
      const m = machine(cpu);
      m.set(3, BigInt(DATA)); // zero words: undefined
      expect([cpu, text, taken(m, [text]).spsr]).toEqual([cpu, text, spsr]);
    }
  });

  it("is cleared by the instruction after the branch", () => {
    const m = machine();
    m.set(3, at(1));
    expect(taken(m, ["br x3", "nop", ".inst 0"])).toEqual({ esr: 0x02000000n, elr: at(2), spsr: 0x3c5n, vector: 0x200n });
    // Also when the budget ends between the two.
    const n = machine();
    n.set(3, at(1));
    n.code(["br x3", "nop", ".inst 0"]);
    for (const pstate of [0x7c5, 0x3c5]) {
      expect(n.cpu.run(n.v, 1)).toBe(RUN_BUDGET);
      expect(n.regs.lo(n.v, R.PSTATE)).toBe(pstate);
    }
  });

  it("survives a fault of the target instruction for the retry", () => {
    const m = machine();
    m.set(3, at(2));
    m.code(["br x3", "nop", "hvc #0", ".inst 0"]);
    expect(m.cpu.run(m.v, 10)).toBe(RUN_EL2);
    expect([m.reg(R.PC), m.reg(R.PSTATE) & 0xc00n]).toEqual([at(3), 0x400n]);
  });
});

describe("ways out of the guest", () => {
  it("hvc leaves with its syndrome and PC after it", () => {
    const m = machine();
    expect(m.run(["nop", "hvc #0x42"])).toBe(RUN_EL2);
    expect([m.reg(R.ESR_EL2), m.reg(R.PC)]).toEqual([0x5a000042n, at(2)]);
  });

  it("wfi leaves with PC after it; wfe, yield and sev are hints", () => {
    const m = machine();
    expect(m.run(["wfe", "yield", "sev", "wfi"])).toBe(RUN_WFI);
    expect(m.reg(R.PC)).toBe(at(4));
    expect(m.cpu.run(m.v, 10)).toBe(RUN_SELF_BRANCH);
  });

  it("the breakpoint stops before its instruction, also as the first one", () => {
    const m = machine();
    m.regs.setNum(m.v, R.STOP_PC, CODE + 8);
    m.regs.setNum(m.v, R.STOP_ENABLED, 1);
    expect(m.run(["mov x0, #1", "mov x0, #2", "mov x0, #3"])).toBe(RUN_BREAKPOINT);
    expect([m.get(0), m.reg(R.PC)]).toEqual([2n, at(2)]);
    expect(m.cpu.run(m.v, 10)).toBe(RUN_BREAKPOINT);
    m.regs.setNum(m.v, R.STOP_ENABLED, 0);
    expect(m.cpu.run(m.v, 10)).toBe(RUN_SELF_BRANCH);
  });

  it("the budget counts instructions, and any slicing gives the same registers and time", () => {
    const program = ["mov x2, #50", "ldr x0, [x1], #8", "str x2, [x1]", "svc #1", "subs x2, x2, #1", "b.ne #-16"];
    const state = (slice: number): string => {
      const m = machine();
      m.code(["mrs x9, esr_el1", "eret"], VECTORS + 0x200);
      m.code([...program, "b ."]);
      while (m.cpu.run(m.v, slice) === RUN_BUDGET) {
        // on
      }
      return m.sim.state.hash() + ` ${m.sim.agents.clockOf(0)}`;
    };
    const whole = state(1e6);
    for (const slice of [1, 2, 3, 7, 50]) expect(state(slice)).toBe(whole);
  });

  it("a self-branch is seen without burning the budget", () => {
    const m = machine();
    expect(m.run([], 1e9)).toBe(RUN_SELF_BRANCH);
    expect(m.reg(R.PC)).toBe(at(0));
  });

  it("HCR_EL2 traps name the instruction in their syndrome", () => {
    const table: readonly (readonly [string, number, bigint])[] = [
      ["msr sctlr_el1, x3", R.HCR_TVM, 0x62300060n | (1n << 10n)],
      ["msr ttbr0_el1, x0", R.HCR_TVM, 0x62300800n],
      ["mrs x5, tcr_el1", R.HCR_TRVM, 0x623408a1n],
      ["dc isw, x2", R.HCR_TSW, 0x62141c4cn],
      ["tlbi vmalle1is", R.HCR_TTLB, 0x621023e6n],
    ];
    for (const [text, bit, esr] of table) {
      const m = machine();
      m.regs.setNum(m.v, R.HCR_EL2, bit);
      const r = m.run(["nop", text]);
      expect([text, r, m.reg(R.PC), m.reg(R.ESR_EL2).toString(16)]).toEqual([text, RUN_EL2, at(1), esr.toString(16)]);
    }
  });
});

describe("the register file", () => {
  it("has its constants where its slots lie, and ends after the last", () => {
    const constants = R as unknown as Readonly<Record<string, number>>;
    for (const name of R.SLOT_NAMES)
      if (constants[name] !== undefined) expect([name, constants[name]]).toEqual([name, R.slot(name as R.SlotName)]);
    expect(R.REGS_WORDS).toBe(R.slot(R.SLOT_NAMES.at(-1) as R.SlotName) + 2);
  });
});

describe("system registers", () => {
  it("keep what is written", () => {
    for (const s of SYSREGS.filter((r) => r.write && r.read && r.kind === 0 && r.name !== "sctlr_el1" && r.name !== "cpacr_el1")) {
      const m = machine();
      m.set(5, 0x123456789abcd800n);
      m.run([`msr ${s.name}, x5`, `mrs x0, ${s.name}`]);
      expect([s.name, m.get(0)]).toEqual([s.name, 0x123456789abcd800n]);
      expect(m.reg(registerOffset(s.name))).toBe(0x123456789abcd800n);
    }
  });

  it("show the identification of the CPU, and zero where nothing is allocated", () => {
    const m = machine("neoverse-v1");
    m.run([
      "mrs x0, midr_el1",
      "mrs x2, id_aa64mmfr0_el1",
      "mrs x3, id_aa64mmfr2_el1",
      "mrs x4, ctr_el0",
      "mrs x5, s3_0_c0_c7_7",
      "mrs x6, mpidr_el1",
      "mrs x7, dczid_el0",
    ]);
    expect([0, 2, 3, 4, 5, 6, 7].map((n) => m.get(n))).toEqual([
      0x411fd402n,
      0x101125n,
      0x220011100001011n,
      0xb444c004n,
      0n,
      0x80000000n,
      4n,
    ]);
  });

  it("reach PSTATE", () => {
    const m = machine();
    m.run([
      "cmp x1, x1",
      "mrs x0, nzcv",
      "mrs x2, daif",
      "mrs x3, currentel",
      "mrs x4, spsel",
      "msr pan, #1",
      "mrs x5, pan",
      "mov x6, #0xf0000000",
      "msr nzcv, x6",
      "msr daifclr, #2",
      "mrs x7, daif",
      "msr dit, #1",
      "mrs x8, dit",
      "msr ssbs, #1",
      "mrs x9, ssbs",
    ]);
    expect([0, 2, 3, 4, 5, 7, 8, 9].map((n) => m.get(n))).toEqual([0x60000000n, 0x3c0n, 4n, 1n, 1n << 22n, 0x340n, 1n << 24n, 1n << 12n]);
    expect(m.reg(R.PSTATE) >> 28n).toBe(15n);
  });

  it("count time on the agent's clock", () => {
    const m = machine();
    m.sim.agents.charge(3200);
    m.run(["mrs x0, cntvct_el0"]);
    expect(m.get(0)).toBe(100n);
  });

  it("have one encoding each and are found by name", () => {
    expect(new Set(SYSREGS.map((r) => r.key)).size).toBe(SYSREGS.length);
    expect(sysregByName("SCTLR_EL1")).toBeGreaterThanOrEqual(0);
    expect(sysregByName("sctlr")).toBe(-1);
    for (const name of ["x0", "x30", "lr", "sp", "pc", "esr_el2", "hpfar_el2", "d3", "pstate", "ttbr1_el1"])
      expect(registerNames()).toContain(name);
  });

  it("features decide about PAN, UAO, TCO", () => {
    const m = new Bare(customProfile("max", { pan: false, mte: false }));
    for (let off = 0; off < 0x800; off += 0x80) m.code(["b ."], VECTORS + off);
    m.code([".inst 0xd500419f", "b ."]); // msr pan, #1
    m.cpu.run(m.v, 10);
    expect(m.reg(R.ESR_EL1)).toBe(0x02000000n);
  });

  it("writes to TTBR or SCTLR act on the next access", () => {
    const m = machine();
    // Stage 1 on, tables where nothing answers: the next fetch is an instruction abort of EL1.
    m.set(3, 0x00c50079n);
    m.set(4, 25n);
    m.code(["msr tcr_el1, x4", "msr sctlr_el1, x3", "isb", "b ."]);
    expect(m.cpu.run(m.v, 3)).toBe(RUN_BUDGET);
    expect(m.reg(R.ESR_EL1) >> 26n).toBe(0x21n);
  });
});
