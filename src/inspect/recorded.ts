/** A script's variant, run to its end on a machine with history: what dump, explain and debug look at. */
import type { Program, VariantConfig } from "../guest/compile.js";
import { DEFAULT_BUDGET, type Budget } from "../guest/limits.js";
import { machineOptions } from "../guest/machineworld.js";
import type { Step, VariantResult } from "../guest/result.js";
import { runProgram } from "../guest/run.js";
import { Machine } from "../machine.js";
import { CallLog } from "./calllog.js";
import { EventLog } from "./eventlog.js";
import type { Timeline } from "./timeline.js";

export interface Recorded {
  readonly program: Program;
  readonly variant: VariantConfig;
  /** As it stands at the end of the run. */
  readonly machine: Machine;
  readonly result: VariantResult;
  /** Every event of the run. */
  readonly events: EventLog;
  /** Every call of the run. */
  readonly calls: CallLog;
  readonly timeline: Timeline;
}

/** @throws ScriptError, BudgetError */
export function record(program: Program, variant: VariantConfig, budget: Partial<Budget> = {}): Recorded {
  const machine = new Machine({ ...machineOptions(program.machine, variant), history: true });
  const events = new EventLog(machine.sim.bus);
  const calls = new CallLog(machine.sim.bus);
  const result = runProgram(program, variant, machine, { budget: { ...DEFAULT_BUDGET, ...budget }, detail: "none" });
  events.stop();
  calls.stop();
  return { program, variant, machine, result, events, calls, timeline: machine.history() };
}

/** The statement of the script that an agent was in when it emitted an event; undefined before the first. */
export function stepOf(result: VariantResult, agent: string, seq: number): Step | undefined {
  return result.steps.find((s) => s.agent === agent && s.to > seq) ?? result.steps.find((s) => s.to > seq);
}
