/**
 * A variant of a script, explored: everything before its first `par` runs once, then every interleaving of the
 * agents in it is searched with the invariants asked at every step. Later statements are not run.
 */
import type { Program, VariantConfig } from "../guest/compile.js";
import { DEFAULT_BUDGET } from "../guest/limits.js";
import { machineFor } from "../guest/machineworld.js";
import type { ParAgents } from "../guest/paragents.js";
import { runProgram } from "../guest/run.js";
import type { Machine } from "../machine.js";
import { InvariantChecker, NO_DEADLOCK, type Wrong } from "./invariants/index.js";
import { minimised } from "./minimise.js";
import { ScriptSystem } from "./scriptsystem.js";
import { Search, type Path, type SearchOptions, type SearchResult } from "./search.js";
import { storyOf, turnsOf, type Chapter } from "./story.js";
import type { Turn } from "../guest/schedule.js";
import type { Observer } from "./system.js";

export interface ExploreOptions extends SearchOptions {
  /** Names of the invariants to ask; all if absent. */
  readonly invariants?: readonly string[];
  /** A violation's schedule is made shorter; true if absent. */
  readonly minimise?: boolean;
}

export interface Explored {
  readonly variant: string;
  readonly kernel: string;
  /** Line of the `par`, 0 if the script has none. */
  readonly line: number;
  readonly agents: readonly string[];
  readonly found: SearchResult;
  /** Milliseconds of processor time of the search alone. */
  readonly cpu: number;
  readonly violation: ExploredViolation | undefined;
}

export interface ExploredViolation {
  readonly invariant: string;
  readonly statement: string;
  readonly source: string;
  readonly what: string;
  readonly turns: readonly Turn[];
  readonly preemptions: number;
  readonly story: readonly Chapter[];
}

/** The agents of a script before its first `par`, on a machine that is ready to be searched. */
export interface Stage {
  readonly machine: Machine;
  readonly par: ParAgents;
  readonly system: ScriptSystem;
  readonly checker: InvariantChecker;
  readonly line: number;
}

/** Runs a variant up to its first `par`. @returns undefined if it has none */
export function stage(program: Program, variant: VariantConfig, invariants?: readonly string[]): Stage | undefined {
  const machine = machineFor(program.machine, variant, true);
  let ready: Stage | undefined;
  runProgram(program, variant, machine, {
    budget: DEFAULT_BUDGET,
    detail: "none",
    onPar: (par, run) => {
      const checker = new InvariantChecker(machine, invariants);
      ready = { machine, par, system: new ScriptSystem(machine, par), checker, line: run.line };
      return true;
    },
  });
  if (ready === undefined) return undefined;
  // The run is over and has left interleaving: the search takes it up again.
  machine.kvm.interleave = true;
  machine.sim.state.startRecording();
  return ready;
}

/** Asks the invariants. @param last gets what was found wrong last */
export function observer(s: Stage, last: { wrong: Wrong | undefined }, only?: string): Observer {
  const said = (wrong: Wrong | undefined): string | undefined => {
    if (wrong === undefined || (only !== undefined && wrong.invariant.name !== only)) return undefined;
    last.wrong = wrong;
    return wrong.what;
  };
  return {
    step: (actor) => said(s.checker.step(s.par.agents[actor]!)),
    waited: () => s.checker.forget(),
    end: () => said(s.checker.end()),
    stuck: () => said({ invariant: NO_DEADLOCK, what: deadlockOf(s) }),
  };
}

function deadlockOf({ machine, par }: Stage): string {
  const waiting = par.programs.flatMap((p, i) => {
    if (par.finished(i)) return [];
    return [`${p.who} in ${machine.sim.agents.backtrace(par.agents[i]!)[0] ?? "its next call"}`];
  });
  return `nobody can go on: ${waiting.join(", ")}`;
}

/** @param pause called every so many steps with what is known; true ends the search */
export async function exploreVariant(
  program: Program,
  variant: VariantConfig,
  options: ExploreOptions,
  pause?: (known: SearchResult) => Promise<boolean>,
): Promise<Explored> {
  const s = stage(program, variant, options.invariants);
  const head = { variant: variant.name, kernel: variant.kernel };
  if (s === undefined) {
    const found: SearchResult = {
      ending: "complete",
      violation: undefined,
      states: 0,
      steps: 0,
      schedules: 0,
      terminals: 0,
      depth: 0,
      rounds: 0,
    };
    return { ...head, line: 0, agents: [], found, cpu: 0, violation: undefined };
  }
  const last: { wrong: Wrong | undefined } = { wrong: undefined };
  const search = new Search(s.system, observer(s, last), options);
  const began = process.cpuUsage();
  search.begin();
  while (!search.advance(65536)) if ((await pause?.(search.result())) === true) search.interrupt();
  const used = process.cpuUsage(began);
  const found = search.result();
  const cpu = (used.user + used.system) / 1000;
  const violation = found.violation === undefined ? undefined : violationOf(s, found.violation.path, last.wrong!, options);
  s.checker.stop();
  s.machine.sim.state.stopRecording();
  return { ...head, line: s.line, agents: s.par.programs.map((p) => p.who), found, cpu, violation };
}

function violationOf(s: Stage, path: Path, wrong: Wrong, options: ExploreOptions): ExploredViolation {
  const best = options.minimise === false ? { path, wrong } : minimised(s, path, wrong);
  const { invariant, what } = best.wrong;
  const turns = turnsOf(s.par, best.path);
  return {
    invariant: invariant.name,
    statement: invariant.statement,
    source: invariant.source,
    what,
    turns,
    preemptions: best.preemptions ?? turns.length - 1,
    story: storyOf(s, best.path),
  };
}
