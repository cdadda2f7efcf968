/** The ways in which a file from a stranger enters: what each does with it, and what it may answer. */
import { conformRecording } from "../conform/conform.js";
import { parseRecording, RecordingError } from "../conform/recording.js";
import { compile, decodeScript } from "../guest/compile.js";
import { BudgetError, ScriptError } from "../guest/diagnostics.js";
import { machineFor, machineWorld } from "../guest/machineworld.js";
import { runProgram } from "../guest/run.js";

export type Door = "run" | "compare" | "conform";

/** Budgets of one input, as --max-steps and --max-memory set them. */
export const STEPS = 50_000;
export const MEMORY = 256 << 20;
/** Milliseconds of processor time that an input may take: many times what its budget of steps needs. */
export const MOST_TIME = 10_000;

export type Answer = "accepted" | "refused" | "budget";

/** What an input came to. @throws whatever is not an answer: a defect */
export function enter(door: Door, bytes: Uint8Array): Answer {
  try {
    if (door === "conform") {
      conformRecording(parseRecording("hostile.rec", Buffer.from(bytes).toString("utf8")));
      return "accepted";
    }
    const program = compile("hostile.guest", decodeScript("hostile.guest", bytes), machineWorld);
    const variants = door === "run" ? program.variants.slice(0, 1) : program.variants.slice(-2);
    for (const v of variants) {
      const machine = machineFor(program.machine, v);
      runProgram(program, v, machine, { budget: { steps: STEPS, memory: MEMORY }, detail: "story" });
      const held = machine.sim.state.bytes();
      if (held > 2 * MEMORY) throw new Error(`the run held ${held} bytes, its budget is ${MEMORY}`);
    }
    return "accepted";
  } catch (e) {
    if (e instanceof ScriptError) {
      const without = e.diagnostics.find((d) => !(d.line >= 1 && d.column >= 1) || d.message === "");
      if (e.diagnostics.length === 0 || without !== undefined) throw new Error(`an error without a place: ${e.message}`, { cause: e });
      return "refused";
    }
    if (e instanceof RecordingError && e.line >= 1) return "refused";
    if (e instanceof BudgetError) return "budget";
    throw e;
  }
}
