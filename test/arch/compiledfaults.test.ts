import { describe, expect, it, vi } from "vitest";
import fc from "fast-check";
import { STEP_EL2 } from "../../src/arch/a64access.js";
import { assemble } from "../../src/arch/assemble.js";
import { Cpu, RUN_EL2 } from "../../src/arch/cpu.js";
import * as R from "../../src/arch/registers.js";
import { body, compareWithInterpreter, type Executed, over, transfer, values } from "./randomloops.js";
import { Rig } from "./rig.js";

const CODE = 0x40000000;
const DATA = 0x50000000;
const ENTRY = CODE + 0x400;
/** The host's memory for the guest's pages. */
const PAGES = 0x42000000;

/** What the hypervisor does before it enters the guest again, beside mapping the page. */
type Act = readonly [kind: string, n: number];
const act: fc.Arbitrary<Act> = fc.tuple(
  fc.constantFrom("nothing", "nothing", "nothing", "skip", "unmap", "patch", "stop", "serror", "other vCPU", "clock", "btype", "jump"),
  fc.integer({ min: 0, max: 63 }),
);

interface Program {
  readonly body: readonly string[];
  readonly values: readonly bigint[];
  readonly steps: readonly number[];
  readonly acts: readonly Act[];
  readonly budgets: readonly number[];
}
const program: fc.Arbitrary<Program> = fc.record({
  // Mostly an access is the first: at that the loop can be entered again.
  body: fc.tuple(fc.array(transfer, { minLength: 0, maxLength: 1 }), body).map(([first, rest]) => [...first, ...rest]),
  values,
  // How far x10..x13 go in each trip.
  steps: fc.array(fc.constantFrom(0, 8, 64, 0x800, 0x1000, 0x1008, 0x2000), { minLength: 4, maxLength: 4 }),
  acts: fc.array(act, { minLength: 1, maxLength: 40 }),
  budgets: fc.array(fc.oneof(fc.constant(2000), fc.integer({ min: 1, max: 60 })), { minLength: 1, maxLength: 5 }),
});

/** Runs that went back into a loop and ended there at another fault. */
let faultsInLoop = 0;

function execute(p: Program, trips: number): Executed {
  const rig = new Rig();
  const { sim, regs, v } = rig;
  const cpu = new Cpu(sim, regs, rig.pe, rig.features, trips);
  const back = vi.spyOn(cpu as unknown as { backIntoLoop(): number }, "backIntoLoop");
  const other = rig.addVcpu(2);
  const trace: string[] = [];
  sim.bus.on("*", (e) => trace.push(`${JSON.stringify(e)} ${regs.big(v, R.PC)} ${sim.agents.now}`));
  // The code's page and the vectors' are mapped from the start; aborts to EL1 are counted and skipped.
  rig.map(CODE, PAGES);
  const put = (lines: readonly string[], at: number): number => {
    for (const line of lines)
      for (const w of assemble(line, { pc: at, features: rig.features })) {
        rig.phys.write(PAGES + at - CODE, 4, w, 0);
        at += 4;
      }
    return at;
  };
  put(["mrs x20, elr_el1", "add x20, x20, #4", "msr elr_el1, x20", "add x22, x22, #1", "eret"], CODE + 0x200);
  put(["add x23, x23, #1", "eret"], CODE + 0x380);
  const steps = p.steps.map(
    (by, n) => `add x${10 + n}, x${10 + n}, #${by & 0xfff}${by >= 0x1000 ? `\nadd x${10 + n}, x${10 + n}, #1, lsl #12` : ""}`,
  );
  const end = put([...over(p.body), ...steps.flatMap((s) => s.split("\n")), "subs x9, x9, #1"], ENTRY);
  put([`b.ne #-${end - ENTRY}`, "b ."], end);
  put([...Array.from({ length: 16 }, () => "add x15, x15, #1"), `b #-${end + 72 - ENTRY}`], end + 8);
  for (const of of [v, other]) {
    p.values.forEach((value, n) => regs.setBig(of, R.xreg(n), value));
    regs.setBig(of, R.xreg(9), 60n);
    for (let n = 0; n < 4; n++) regs.setBig(of, R.xreg(10 + n), BigInt(DATA + n * 0x100000));
    regs.setBig(of, R.xreg(14), 8n);
    regs.setNum(of, R.PC, ENTRY);
    // EL1h, nothing masked: an SError is taken.
    regs.setNum(of, R.PSTATE, 5);
  }
  const mapped: number[] = [];
  const runs: string[] = [];
  for (let n = 0; n < 80; n++) {
    const reason = cpu.run(v, p.budgets[n % p.budgets.length]!);
    const pc = regs.num(v, R.PC);
    runs.push(`${reason} ${cpu.executed} 0x${pc.toString(16)} ${sim.agents.now}`);
    if (regs.lo(v, R.STOP_ENABLED) !== 0) regs.setNum(v, R.STOP_ENABLED, 0);
    if (reason !== RUN_EL2) {
      if (pc === end + 4) break;
      continue;
    }
    const ipa = rig.hpfarIpa;
    const [kind, at] = p.acts[n % p.acts.length]!;
    if (kind === "skip") regs.setNum(v, R.PC, pc + 4);
    else if (ipa !== CODE && rig.entryOf(ipa) === undefined) {
      mapped.push(ipa);
      rig.map(ipa, PAGES + 0x1000 + (mapped.length % 200) * 0x1000);
    }
    const victim = mapped[at % Math.max(mapped.length, 1)];
    if (kind === "unmap" && victim !== undefined) {
      rig.unmap(victim);
      for (const cpuOf of [0, 1]) rig.pe.tlbs.dropAll(cpuOf);
    } else if (kind === "patch") put(["add x16, x16, #1"], ENTRY + 4 * (at % p.body.length));
    else if (kind === "stop") {
      regs.setNum(v, R.STOP_PC, ENTRY + 4 * (at % (p.body.length + 2)));
      regs.setNum(v, R.STOP_ENABLED, 1);
    } else if (kind === "serror")
      regs.set64(v, R.HCR_EL2, regs.pool.a[regs.base(v) + R.HCR_EL2 + 1]!, regs.lo(v, R.HCR_EL2) | R.HCR_VSE | R.HCR_AMO);
    else if (kind === "other vCPU") cpu.run(other, at);
    else if (kind === "clock") sim.agents.charge(at);
    else if (kind === "btype") regs.setNum(v, R.PSTATE, regs.lo(v, R.PSTATE) | (1 << 10));
    else if (kind === "jump") regs.setNum(v, R.PC, ENTRY + 4 * (at % p.body.length));
  }
  sim.bus.flush();
  faultsInLoop += back.mock.results.filter((r) => r.value === STEP_EL2).length;
  return { outcome: { state: sim.state.hash(), clock: sim.agents.clockOf(0), runs, trace }, loops: cpu.loops.count };
}

describe("a guest that a fault took out of a compiled loop goes on as under the interpreter", () => {
  it("registers, memory, clock, reasons, executed instructions and events, whatever the hypervisor did meanwhile", () => {
    const loops = compareWithInterpreter(program, execute, 80, 12);
    expect(loops).toBeGreaterThan(30);
    expect(faultsInLoop).toBeGreaterThan(40);
  });
});
