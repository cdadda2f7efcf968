/**
 * A `par` of a variant of a script, explored: everything before it runs once (an earlier `par` with its agents in turn),
 * then every interleaving of the agents in it is searched with the invariants asked at every step.
 *
 * A search that is not over after TRUNK steps is begun again in parts (cut.ts). Each is a unit of its own, as is each `par`
 * of each variant: units depend on the script alone, not on who does them or how many do.
 */
import type { Program, VariantConfig } from "../guest/compile.js";
import { DEFAULT_BUDGET, type Budget } from "../guest/limits.js";
import { machineFor } from "../guest/machineworld.js";
import type { ParAgents } from "../guest/paragents.js";
import { runProgram, type ParRun } from "../guest/run.js";
import type { Machine } from "../machine.js";
import { EXPECTATIONS, InvariantChecker, NO_DEADLOCK, NO_LIVELOCK, type Wrong } from "./invariants/index.js";
import { cut, type Root } from "./cut.js";
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
  /** A tree is cut into parts when it has more steps than this; TRUNK if absent. */
  readonly trunk?: number;
  /** Of the run up to a `par`; DEFAULT_BUDGET if absent. */
  readonly budget?: Budget;
}

/** Steps after which a tree is cut into parts. */
export const TRUNK = 100_000;

/** Steps between two pauses, in which Ctrl-C is heard: a fraction of a second where every state is new. */
const STRETCH = 8192;

/** What one worker does at a time: a whole tree as far as TRUNK goes, or one part of it. */
export interface Unit {
  readonly variant: string;
  /** Which `par` of the run, from 0. */
  readonly par: number;
  readonly root?: Root;
}

export interface UnitResult {
  readonly unit: Unit;
  /** undefined: the run has no such `par`. */
  readonly explored: Explored | undefined;
  /** The parts that the tree was cut into, if it was. */
  readonly roots: readonly Root[];
}

export interface Explored {
  readonly variant: string;
  readonly kernel: string;
  /** Which `par` of the run, from 0. */
  readonly par: number;
  /** Parts that its tree was searched in. */
  readonly parts: number;
  /** Line of the `par`, 0 if the script has none. */
  readonly line: number;
  readonly agents: readonly string[];
  /** Steps that the hardware may take between theirs; 0 while buffers are not modelled. */
  readonly hardware: number;
  /** What the reports behind the `par` say of its end states: text -> how many end states say so. */
  readonly outcomes: Readonly<Record<string, number>>;
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

/** The agents of a script before a `par`, on a machine that is ready to be searched. */
export interface Stage {
  readonly machine: Machine;
  readonly par: ParAgents;
  readonly system: ScriptSystem;
  readonly checker: InvariantChecker;
  readonly run: ParRun;
}

/** Runs a variant up to a `par`. @param which from 0 @returns undefined if it does not get there */
export function stage(
  program: Program,
  variant: VariantConfig,
  invariants?: readonly string[],
  which = 0,
  budget = DEFAULT_BUDGET,
): Stage | undefined {
  const machine = machineFor(program.machine, variant, { watchReads: true, hardware: "steps" });
  let ready: Stage | undefined;
  let seen = 0;
  runProgram(program, variant, machine, {
    budget,
    detail: "none",
    onPar: (par, run) => {
      if (seen++ < which) return false;
      const checker = new InvariantChecker(machine, invariants);
      ready = { machine, par, system: new ScriptSystem(machine, par), checker, run };
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
    step: (actor) => said(s.checker.step(s.par.agentOf(actor))),
    waited: () => s.checker.forget(),
    end: () => said(s.checker.end() ?? unmet(s)),
    stuck: () => said({ invariant: NO_DEADLOCK, what: deadlockOf(s) }),
    ...(s.checker.asks(NO_LIVELOCK.name)
      ? { loop: () => said({ invariant: NO_LIVELOCK, what: `${unfinished(s)} come back to where they were, and nobody gets on` }) }
      : {}),
  };
}

/** What the script expects of the end and does not find. */
export function unmet({ checker, run }: Stage): Wrong | undefined {
  const what = checker.asks(EXPECTATIONS.name) ? run.unmet() : undefined;
  return what === undefined ? undefined : { invariant: EXPECTATIONS, what };
}

const unfinished = ({ par }: Stage): string =>
  par.programs
    .filter((_, i) => !par.finished(i))
    .map((p) => p.who)
    .join(", ");

function deadlockOf({ machine, par }: Stage): string {
  const waiting = par.programs.flatMap((p, i) => {
    if (par.finished(i)) return [];
    return [`${p.who} in ${machine.sim.agents.backtrace(par.agents[i]!)[0] ?? "its next call"}`];
  });
  return `nobody can go on: ${waiting.join(", ")}`;
}

const NOTHING: SearchResult = {
  ending: "complete",
  violation: undefined,
  states: 0,
  steps: 0,
  schedules: 0,
  terminals: 0,
  depth: 0,
  rounds: 0,
};

/** A variant whose run does not get to a `par`. */
export function notReached(variant: VariantConfig): Explored {
  return {
    variant: variant.name,
    kernel: variant.kernel,
    par: 0,
    parts: 0,
    line: 0,
    agents: [],
    hardware: 0,
    outcomes: {},
    found: NOTHING,
    cpu: 0,
    violation: undefined,
  };
}

/** Called every so many steps with what is known; true ends the search. */
export type Pause = (known: SearchResult) => Promise<boolean>;

/** Does one unit. */
export async function exploreUnit(
  program: Program,
  variant: VariantConfig,
  unit: Unit,
  options: ExploreOptions,
  pause?: Pause,
): Promise<UnitResult> {
  const s = stage(program, variant, options.invariants, unit.par, options.budget);
  if (s === undefined) return { unit, explored: undefined, roots: [] };
  const { state } = s.machine.sim;
  const last: { wrong: Wrong | undefined } = { wrong: undefined };
  const outcomes = new Map<string, number>();
  const watch = collecting(observer(s, last), s, outcomes);
  const began = process.cpuUsage();
  const { root } = unit;
  const first = state.mark();
  // The invariants come along: what they keep of the way (locks held, ranges announced) is part of the state.
  for (const actor of root?.path ?? []) {
    s.system.step(actor);
    watch.step?.(actor);
  }
  last.wrong = undefined;
  const trunk = options.trunk ?? TRUNK;
  const whole = root === undefined && trunk < (options.maxSteps ?? Infinity);
  const search = new Search(s.system, watch, {
    ...options,
    ...(whole ? { maxSteps: trunk } : {}),
    ...(root === undefined ? {} : { from: root }),
  });
  search.begin();
  while (!search.advance(STRETCH)) if ((await pause?.(search.result())) === true) search.interrupt();
  let found = search.result();
  state.rollback(first);
  const ahead = root?.path ?? [];
  found = {
    ...found,
    depth: ahead.length + found.depth,
    violation: found.violation === undefined ? undefined : { ...found.violation, path: [...ahead, ...found.violation.path] },
  };
  let roots: readonly Root[] = [];
  if (whole && found.ending === "steps") {
    s.checker.forget();
    outcomes.clear();
    const { roots: parts, violation, states, steps, schedules, terminals } = cut(s.system, watch, options);
    const depth = violation?.path.length ?? 0;
    found = {
      ending: violation === undefined ? "complete" : "violation",
      violation,
      states,
      steps,
      schedules,
      terminals,
      depth,
      rounds: 1,
    };
    roots = parts;
  }
  const used = process.cpuUsage(began);
  const cpu = (used.user + used.system) / 1000;
  const violation = found.violation === undefined ? undefined : violationOf(s, found.violation.path, last.wrong!, options);
  s.checker.stop();
  state.stopRecording();
  const { kernel, name } = variant;
  const agents = s.par.programs.map((p) => p.who);
  return {
    unit,
    explored: {
      variant: name,
      kernel,
      par: unit.par,
      parts: roots.length > 0 ? 0 : 1,
      line: s.run.line,
      agents,
      hardware: s.par.actors - s.par.count,
      outcomes: Object.fromEntries([...outcomes].sort(([a], [b]) => (a < b ? -1 : 1))),
      found,
      cpu,
      violation,
    },
    roots,
  };
}

/** All units of one `par` of a variant, one after the other. @param which from 0 */
export async function exploreVariant(
  program: Program,
  variant: VariantConfig,
  options: ExploreOptions,
  pause?: Pause,
  which = 0,
): Promise<Explored> {
  const trunk = await exploreUnit(program, variant, { variant: variant.name, par: which }, options, pause);
  if (trunk.explored === undefined) return notReached(variant);
  let known = trunk.explored;
  for (const [n, root] of trunk.roots.entries()) {
    if (known.found.ending !== "complete") break;
    const part = await exploreUnit(program, variant, { ...trunk.unit, root }, options, pause);
    known = joined(known, part.explored!, n + 1, options);
  }
  return known;
}

/** What is known of a tree with one more of its parts. @param parts those searched now */
export function joined(a: Explored, b: Explored, parts: number, options: ExploreOptions): Explored {
  const states = a.found.states + b.found.states;
  const steps = a.found.steps + b.found.steps;
  const over =
    states > (options.maxStates ?? Infinity) ? "states" : steps > (options.maxSteps ?? Infinity) ? "steps" : ("complete" as const);
  const ending = a.found.ending !== "complete" ? a.found.ending : b.found.ending !== "complete" ? b.found.ending : over;
  const outcomes: Record<string, number> = { ...a.outcomes };
  for (const [text, n] of Object.entries(b.outcomes)) outcomes[text] = (outcomes[text] ?? 0) + n;
  return {
    ...a,
    parts,
    outcomes: Object.fromEntries(Object.entries(outcomes).sort(([x], [y]) => (x < y ? -1 : 1))),
    found: {
      ending,
      violation: a.found.violation ?? b.found.violation,
      states,
      steps,
      schedules: a.found.schedules + b.found.schedules,
      terminals: a.found.terminals + b.found.terminals,
      depth: Math.max(a.found.depth, b.found.depth),
      rounds: Math.max(a.found.rounds, b.found.rounds),
    },
    cpu: a.cpu + b.cpu,
    violation: a.violation ?? b.violation,
  };
}

/** The same observer, which notes at every end state what the reports say. */
function collecting(of: Observer, s: Stage, outcomes: Map<string, number>): Observer {
  return {
    ...of,
    again: () => outcomes.clear(),
    end: () => {
      const text = s.run.outcome();
      if (text !== "") outcomes.set(text, (outcomes.get(text) ?? 0) + 1);
      return of.end!();
    },
  };
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
