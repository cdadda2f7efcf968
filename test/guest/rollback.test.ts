import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { compile } from "../../src/guest/compile.js";
import { DEFAULT_BUDGET } from "../../src/guest/limits.js";
import { machineFor, machineWorld } from "../../src/guest/machineworld.js";
import { runProgram, type ScriptMachine } from "../../src/guest/run.js";

const folder = new URL("../../scenarios/", import.meta.url);
const names = readdirSync(folder).filter((f) => f.endsWith(".guest"));

/** Runs each phase, undoes it, and runs it again. */
function twice(m: ScriptMachine, agent: number): boolean {
  const { state, bus } = m.sim;
  const mark = state.mark();
  m.step(agent);
  bus.flush();
  state.rollback(mark);
  return m.step(agent);
}

test.each(names)("%s runs the same when every phase is rolled back and run again: trace, outcomes and hash", (name) => {
  const program = compile(name, readFileSync(new URL(name, folder), "utf8"), machineWorld);
  for (const variant of program.variants) {
    const run = (stepper?: typeof twice) => {
      const machine = machineFor(program.machine, variant);
      machine.sim.state.startRecording();
      const result = runProgram(program, variant, machine, {
        budget: DEFAULT_BUDGET,
        detail: "all",
        ...(stepper === undefined ? {} : { stepper }),
      });
      return { result: JSON.stringify(result), hash: machine.sim.state.hash() };
    };
    const plain = run();
    const rolled = run(twice);
    expect(rolled.hash).toBe(plain.hash);
    expect(rolled.result).toBe(plain.result);
  }
});
