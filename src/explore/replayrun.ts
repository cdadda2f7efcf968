/** A script run with its agents interleaved as a schedule says, and the invariants asked at every step of theirs. */
import type { Program, VariantConfig } from "../guest/compile.js";
import type { Machine } from "../machine.js";
import type { VariantResult } from "../guest/result.js";
import { runProgram, type RunOptions } from "../guest/run.js";
import { replay, roundRobin, type Scheduler, type Schedule } from "../guest/schedule.js";
import { InvariantChecker, type Wrong } from "./invariants/index.js";

export interface Replayed {
  readonly result: VariantResult;
  /** The first invariant that was broken, by which agent, at which step of its `par` (from 1). */
  readonly broken: { readonly wrong: Wrong; readonly who: string; readonly step: number } | undefined;
}

/** In every other `par` the agents go in turn. @throws ScheduleError if it does not fit the script */
export function runSchedule(program: Program, variant: VariantConfig, machine: Machine, schedule: Schedule, options: RunOptions): Replayed {
  let checker: InvariantChecker | undefined;
  let broken: Replayed["broken"];
  let begun = 0;
  let step = 0;
  const scheduler = (): Scheduler => {
    const its = begun++ === schedule.par;
    if (its) {
      checker = new InvariantChecker(machine);
      step = 0;
    }
    const replayed = its ? replay(schedule.turns) : undefined;
    let turn: Scheduler | undefined = replayed;
    return {
      next: (par) => {
        step++;
        turn ??= roundRobin(par.count);
        return turn.next(par);
      },
    };
  };
  const result = runProgram(program, variant, machine, {
    ...options,
    scheduler,
    stepper: (m, agent) => {
      const moved = m.step(agent);
      if (checker === undefined || broken !== undefined) return moved;
      const wrong = moved ? checker.step(agent) : undefined;
      if (!moved) checker.forget();
      if (wrong !== undefined) broken = { wrong, who: machine.sim.agents.name(agent), step };
      return moved;
    },
  });
  if (checker !== undefined && broken === undefined) {
    const wrong = checker.end();
    if (wrong !== undefined) broken = { wrong, who: "", step };
  }
  checker?.stop();
  return { result, broken };
}
