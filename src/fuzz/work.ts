/** Fuzzing as a campaign: a unit is a few hundred programs under one kernel on one CPU, bred from what was worth keeping before. */
import type { Pause, Work } from "../campaign/work.js";
import { Corpus } from "./corpus.js";
import { fixedLater, type Explanation } from "./explain.js";
import { generate, mutate } from "./generate.js";
import type { Program } from "./program.js";
import { Rng } from "./rng.js";
import { scriptOf } from "./script.js";
import { shrink } from "./shrink.js";
import { Laboratory, type Failure, type Target, type Trial } from "./trial.js";

export interface FuzzSpec {
  readonly kernels: readonly string[];
  readonly cpus: readonly string[];
  readonly set: Readonly<Record<string, string>>;
  readonly seed: number;
  /** Programs in all; 0: until something else ends it. */
  readonly runs: number;
  /** Programs to begin with. */
  readonly programs: readonly Program[];
}

/** Programs of one unit: well under a second. */
export const UNIT = 200;
const WINDOW = 16;
const PARENTS = 6;
/** Programs that a unit hands back; those with the most new features go first. */
const KEPT = 12;

export interface Input {
  readonly unit: number;
  readonly runs: number;
  readonly target: Target;
  readonly cpu: string;
  readonly known: string;
  readonly parents: readonly Program[];
  /** Kinds of failure that were made small before. */
  readonly kinds: readonly string[];
}

export interface Found {
  readonly kernel: string;
  readonly cpu: string;
  readonly kind: string;
  readonly text: string;
  /** Which program of the campaign: unit and number in it. */
  readonly unit: number;
  readonly number: number;
  /** Steps before and after shrinking. */
  readonly steps: readonly [number, number];
  readonly script: string;
  /** A bug of the modelled kernel, fixed since. */
  readonly explanation: readonly Explanation[];
}

export interface Result {
  readonly runs: number;
  readonly steps: number;
  readonly events: number;
  readonly kept: readonly { readonly program: Program; readonly features: readonly number[] }[];
  readonly found: readonly Found[];
  /** How often each kind failed. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface State {
  readonly corpus: Corpus;
  readonly found: Map<string, Found>;
  readonly counts: Map<string, number>;
  runs: number;
  steps: number;
  events: number;
}

const keyOf = (kernel: string, cpu: string, kind: string): string => `${kernel} ${cpu} ${kind}`;

export const fuzzWork: Work<FuzzSpec, State, Input, Result> = {
  kind: "fuzz",
  window: () => WINDOW,
  start: (spec) => {
    const corpus = new Corpus();
    corpus.programs.push(...spec.programs);
    return { corpus, found: new Map(), counts: new Map(), runs: 0, steps: 0, events: 0 };
  },
  next: (spec, state, unit) => {
    const left = spec.runs === 0 ? UNIT : spec.runs - unit * UNIT;
    if (left <= 0) return undefined;
    const kernel = spec.kernels[unit % spec.kernels.length]!;
    const cpu = spec.cpus[Math.floor(unit / spec.kernels.length) % spec.cpus.length]!;
    const rng = new Rng(spec.seed, unit, 1);
    const { programs } = state.corpus;
    // The newest are the least explored.
    const parents = Array.from({ length: Math.min(PARENTS, programs.length) }, () =>
      rng.once(2) ? programs[Math.max(0, programs.length - 1 - rng.below(40))]! : rng.pick(programs),
    );
    const kinds = [...state.found.values()].filter((f) => f.kernel === kernel && f.cpu === cpu).map((f) => f.kind);
    return { unit, runs: Math.min(UNIT, left), target: { kernel, set: spec.set }, cpu, known: state.corpus.known(), parents, kinds };
  },
  run: (spec, input, pause) => unitOf(spec.seed, input, pause),
  merge: (_spec, state, _unit, r) => {
    state.runs += r.runs;
    state.steps += r.steps;
    state.events += r.events;
    for (const { program, features } of r.kept) state.corpus.offer(program, features);
    for (const f of r.found) {
      const key = keyOf(f.kernel, f.cpu, f.kind);
      if (!state.found.has(key)) state.found.set(key, f);
    }
    for (const [key, n] of Object.entries(r.counts)) state.counts.set(key, (state.counts.get(key) ?? 0) + n);
  },
  counted: (state) => state.runs,
  progress: (spec, state) => {
    const failures = [...state.found.values()].filter((f) => f.explanation.length === 0).length;
    return `${state.runs}${spec.runs === 0 ? "" : ` of ${spec.runs}`} programs, ${state.corpus.features} features, corpus ${state.corpus.programs.length}, ${failures} failures`;
  },
};

/** How often a kind of failure came, of `State.counts`. */
export const countOf = (state: State, f: Found): number => state.counts.get(keyOf(f.kernel, f.cpu, f.kind)) ?? 0;

/** One laboratory for each worker: its machines serve all units. */
let shared: Laboratory | undefined;

async function unitOf(seed: number, input: Input, pause: Pause): Promise<Result> {
  const laboratory = (shared ??= new Laboratory());
  const { target, cpu } = input;
  const corpus = new Corpus(input.known);
  const before = new Corpus(input.known);
  const parents = [...input.parents];
  const seen = new Set(input.kinds);
  const kept: { program: Program; features: readonly number[] }[] = [];
  const found: Found[] = [];
  const counts: Record<string, number> = {};
  let steps = 0;
  let events = 0;
  for (let n = 0; n < input.runs; n++) {
    await pause();
    const rng = new Rng(seed, input.unit, n + 2);
    const program =
      parents.length === 0 || rng.once(2) ? generate(rng, cpu) : { ...mutate(rng, rng.pick(parents), rng.pick(parents)), cpu };
    const trial = laboratory.run(program, target);
    steps += trial.outcomes.length;
    events += trial.events;
    if (corpus.offer(program, trial.features)) {
      parents.push(program);
      kept.push({ program, features: trial.features.filter((f) => !before.has(f)) });
    }
    const failure = trial.failure ?? repeated(laboratory, program, target, trial);
    if (failure === undefined) continue;
    const key = keyOf(target.kernel, cpu, failure.kind);
    counts[key] = (counts[key] ?? 0) + 1;
    if (seen.has(failure.kind)) continue;
    seen.add(failure.kind);
    found.push(report(laboratory, program, target, failure, { seed, unit: input.unit, number: n }));
  }
  kept.sort((a, b) => b.features.length - a.features.length);
  return { runs: input.runs, steps, events, kept: kept.slice(0, KEPT), found, counts };
}

/** The same program again: a run is a function of script, era and seed alone. */
function repeated(laboratory: Laboratory, program: Program, target: Target, first: Trial): Failure | undefined {
  const ops = program.ops.filter((_, i) => first.outcomes[i]?.how !== "skipped");
  const again = laboratory.run({ ...program, ops }, target, "trace");
  if (again.trace === first.trace) return undefined;
  return {
    kind: "the same program gave another trace",
    text: "two runs of one program differ in their events",
    step: program.ops.length - 1,
  };
}

/** A failure made small, looked into, and written as a script. */
export function report(
  laboratory: Laboratory,
  program: Program,
  target: Target,
  failure: Failure,
  { seed, unit, number }: { readonly seed: number; readonly unit: number; readonly number: number },
): Found {
  const small = shrink(program, (p) => laboratory.run(p, target).failure?.kind === failure.kind);
  const last = laboratory.run(small, target);
  const explanation = fixedLater(small, target, failure.kind);
  const { kind } = failure;
  const text = last.failure?.text ?? failure.text;
  const script = scriptOf(small, target, last.outcomes, last.failure ?? failure, {
    title: `${kind} (${target.kernel}, ${small.cpu})`,
    remarks: [
      `found by faultline fuzz, seed ${seed}, unit ${unit}, program ${number}: ${text}`,
      ...explanation.map((e) => `a bug of this kernel: gone where ${e.decision} is ${e.to}, not ${e.from} (${e.source})`),
    ],
  });
  return {
    kernel: target.kernel,
    cpu: program.cpu,
    kind,
    text,
    unit,
    number,
    steps: [program.ops.length, small.ops.length],
    script,
    explanation,
  };
}
