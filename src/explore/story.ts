/** A schedule as a story: one chapter for every turn, with the kernel functions that the agent passes and what they do. */
import type { ParAgents } from "../guest/paragents.js";
import type { Op } from "../guest/parprogram.js";
import type { Turn } from "../guest/schedule.js";
import type { EventRecord } from "../sim/events.js";
import { telling } from "../trace/story.js";
import type { Stage } from "./explore.js";
import { runs } from "./minimise.js";
import type { Path } from "./search.js";

export interface Chapter {
  readonly who: string;
  /** Of the script, and the statement there; 0 and what it does for a step of the hardware. */
  readonly line: number;
  readonly text: string;
  readonly steps: number;
  readonly passages: readonly Passage[];
  /** Where the agent is stopped; absent if it has ended. */
  readonly stops: { readonly phase: string; readonly source: string } | undefined;
}

/** One step that says something. */
export interface Passage {
  readonly phase: string;
  readonly source: string;
  readonly events: readonly EventRecord[];
}

export function turnsOf(par: ParAgents, path: Path): Turn[] {
  return runs(path).map(({ actor, steps }) => ({ who: par.who(actor), steps }));
}

const textOf = (op: Op | undefined): string => (op !== undefined && (op.kind === "call" || op.kind === "run") ? op.text : "");

export function storyOf(s: Stage, path: Path): Chapter[] {
  const { machine, par, system } = s;
  const { agents, bus, state } = machine.sim;
  const mark = state.mark();
  const chapters: Chapter[] = [];
  let events: EventRecord[] = [];
  const stop = bus.on("*", (e) => void events.push(e));
  s.checker.forget();
  for (const { actor, steps } of runs(path)) {
    if (par.isHardware(actor)) {
      const passages: Passage[] = [];
      for (let n = 0; n < steps; n++) {
        events = [];
        system.step(actor);
        if (events.length > 0) passages.push({ phase: "", source: "", events });
      }
      chapters.push({ who: par.who(actor), line: 0, text: par.hardwareText(actor), steps, passages, stops: undefined });
      continue;
    }
    const agent = par.agents[actor]!;
    const program = par.programs[actor]!;
    const op = program.ops[par.position(actor)];
    const passages: Passage[] = [];
    for (let n = 0; n < steps; n++) {
      const phase = agents.innermost(agent);
      events = [];
      system.step(actor);
      const told = telling(events, "story");
      if (told.length === 0) continue;
      passages.push({
        phase: phase < 0 ? "begins" : agents.phaseName(phase),
        source: phase < 0 ? "" : agents.phaseSource(phase),
        events: told,
      });
    }
    const at = agents.innermost(agent);
    const stops = at < 0 ? undefined : { phase: agents.phaseName(at), source: agents.phaseSource(at) };
    const line = op === undefined || op.kind === "next" ? s.run.line : op.span.line;
    chapters.push({ who: program.who, line, text: textOf(op), steps, passages, stops });
  }
  stop();
  s.checker.forget();
  state.rollback(mark);
  return chapters;
}
