/**
 * Two kernels under the same programs: classes of programs whose outcome differs, each with its smallest script and the decision
 * that makes the difference. A difference that no decision makes is a defect of the model.
 */
import type { Pause, Work } from "../campaign/work.js";
import { decisive, differing, type Explanation } from "./explain.js";
import { generate } from "./generate.js";
import type { Op, Program } from "./program.js";
import { Rng } from "./rng.js";
import { scriptOf } from "./script.js";
import { shrink } from "./shrink.js";
import { Laboratory, type Leaf, type Target, type Trial } from "./trial.js";
import type { Outcome } from "./vmm.js";

export interface CompareSpec {
  readonly kernels: readonly [string, string];
  readonly cpus: readonly string[];
  readonly set: Readonly<Record<string, string>>;
  readonly seed: number;
  /** Programs in all; 0: until something else ends it. */
  readonly runs: number;
}

const UNIT = 100;
const WINDOW = 16;

/** A class of difference: what was seen, and why. */
export interface Difference {
  /** `guest str64: done | EFAULT`, or a field of a stage-2 leaf. */
  readonly kind: string;
  /** Empty: nothing explains it. */
  readonly explanation: readonly Explanation[];
  readonly cpu: string;
  readonly unit: number;
  readonly number: number;
  readonly steps: readonly [number, number];
  readonly script: string;
}
const keyOf = (d: { readonly kind: string; readonly explanation: readonly { readonly decision: string }[] }): string =>
  `${d.kind} ${d.explanation.map((e) => e.decision).join("+")}`;

interface Known {
  readonly kind: string;
  readonly explanation: readonly { readonly decision: string; readonly to: string }[];
}
interface Input {
  readonly unit: number;
  readonly runs: number;
  readonly cpu: string;
  readonly known: readonly Known[];
}
interface Result {
  readonly runs: number;
  readonly differing: number;
  readonly found: readonly Difference[];
  readonly counts: Readonly<Record<string, number>>;
}
export interface CompareState {
  runs: number;
  differing: number;
  readonly found: Map<string, Difference>;
  readonly counts: Map<string, number>;
}

export const compareWork: Work<CompareSpec, CompareState, Input, Result> = {
  kind: "fuzz-compare",
  window: () => WINDOW,
  start: () => ({ runs: 0, differing: 0, found: new Map(), counts: new Map() }),
  next: (spec, state, unit) => {
    const left = spec.runs === 0 ? UNIT : spec.runs - unit * UNIT;
    if (left <= 0) return undefined;
    const known = [...state.found.values()].map(({ kind, explanation }) => ({
      kind,
      explanation: explanation.map(({ decision, to }) => ({ decision, to })),
    }));
    return { unit, runs: Math.min(UNIT, left), cpu: spec.cpus[unit % spec.cpus.length]!, known };
  },
  run: (spec, input, pause) => unitOf(spec, input, pause),
  merge: (_spec, state, _unit, r) => {
    state.runs += r.runs;
    state.differing += r.differing;
    for (const d of r.found) if (!state.found.has(keyOf(d))) state.found.set(keyOf(d), d);
    for (const [key, n] of Object.entries(r.counts)) state.counts.set(key, (state.counts.get(key) ?? 0) + n);
  },
  counted: (state) => state.runs,
  progress: (spec, state) =>
    `${state.runs}${spec.runs === 0 ? "" : ` of ${spec.runs}`} programs, ${state.differing} differ, ${state.found.size} classes`,
};

export const timesOf = (state: CompareState, d: Difference): number => state.counts.get(keyOf(d)) ?? 0;

async function unitOf(spec: CompareSpec, input: Input, pause: Pause): Promise<Result> {
  const [a, b] = spec.kernels.map((kernel): Target => ({ kernel, set: spec.set })) as [Target, Target];
  const laboratory = new Laboratory();
  const run = (p: Program, t: Target): Trial => laboratory.run(p, t, "outcomes");
  const known: Known[] = [...input.known];
  const found: Difference[] = [];
  const counts: Record<string, number> = {};
  let count = 0;
  for (let n = 0; n < input.runs; n++) {
    await pause();
    const program = generate(new Rng(spec.seed, input.unit, n), input.cpu);
    const [x, y] = [run(program, a), run(program, b)];
    const kind = difference(program, x, y);
    if (kind === undefined) continue;
    count++;
    const same = known.find((k) => k.kind === kind && k.explanation.length > 0 && explains(laboratory, program, a, k, y));
    if (same !== undefined) {
      counts[keyOf(same)] = (counts[keyOf(same)] ?? 0) + 1;
      continue;
    }
    const differs = (p: Program): boolean => difference(p, run(p, a), run(p, b)) === kind;
    const small = shrink(program, differs, 150);
    const [sx, sy] = [run(small, a), run(small, b)];
    const explanation = decisive(small, a, b.kernel, (t) => difference(small, t, sy) === undefined, "outcomes");
    const d = { kind, explanation, cpu: input.cpu, unit: input.unit, number: n, steps: [program.ops.length, small.ops.length] as const };
    counts[keyOf(d)] = (counts[keyOf(d)] ?? 0) + 1;
    if (known.some((k) => keyOf(k) === keyOf(d))) continue;
    known.push(d);
    found.push({ ...d, script: script(small, spec, d, sx, sy) });
  }
  return { runs: input.runs, differing: count, found, counts };
}

/** Does what explained another program of this kind explain this one? */
function explains(laboratory: Laboratory, program: Program, target: Target, k: Known, wanted: Trial): boolean {
  const set = { ...target.set, ...Object.fromEntries(k.explanation.map((e) => [e.decision, e.to])) };
  return difference(program, laboratory.run(program, { ...target, set }, "outcomes"), wanted) === undefined;
}

const nameOf = (op: Op): string => (op.op === "guest" ? `guest ${op.what}` : op.op === "madvise" ? op.advice : op.op);

/** How two runs of a program first differ, in words without numbers; undefined: in nothing that a VMM, its guest or stage 2 shows. */
export function difference(program: Program, x: Trial, y: Trial): string | undefined {
  const steps = Math.max(x.outcomes.length, y.outcomes.length);
  for (let n = 0; n < steps; n++) {
    const [p, q] = [x.outcomes[n], y.outcomes[n]];
    const said = p === undefined || q === undefined ? `${p?.how ?? "over"} | ${q?.how ?? "over"}` : outcomeDifference(p, q);
    if (said !== undefined) return `${nameOf(program.ops[n]!)}: ${said}`;
  }
  return leafDifference(x.leaves, y.leaves);
}

function outcomeDifference(p: Outcome, q: Outcome): string | undefined {
  if (p.how !== q.how) return `${p.how} | ${q.how}`;
  if (p.esr !== q.esr) return "another syndrome";
  if (p.value !== q.value) return "another value";
  if (p.mmio !== q.mmio) return "more or fewer MMIO exits";
  return p.pages.join() === q.pages.join() ? undefined : "other dirty pages";
}

function leafDifference(x: readonly Leaf[], y: readonly Leaf[]): string | undefined {
  const other = new Map(y.map((l) => [l.ipa, l]));
  for (const l of x) {
    const m = other.get(l.ipa);
    if (m === undefined) return "stage 2: a leaf is there or not";
    for (const key of ["size", "memattr", "s2ap", "xn", "af"] as const)
      if (l[key] !== m[key]) return `stage 2: ${key} ${key === "size" ? "" : `${l[key]} | ${m[key]}`}`.trim();
  }
  return x.length === y.length ? undefined : "stage 2: a leaf is there or not";
}

function script(
  program: Program,
  spec: CompareSpec,
  d: Pick<Difference, "kind" | "explanation" | "unit" | "number">,
  x: Trial,
  y: Trial,
): string {
  const [a, b] = spec.kernels;
  const at = program.ops.findIndex((_, n) => JSON.stringify(plainOutcome(x.outcomes[n])) !== JSON.stringify(plainOutcome(y.outcomes[n])));
  return scriptOf(program, { kernel: a, set: spec.set }, x.outcomes.slice(0, at < 0 ? undefined : at), undefined, {
    title: `${a} | ${b}: ${d.kind}`,
    remarks: [
      `found by faultline fuzz --compare ${a},${b}, seed ${spec.seed}, unit ${d.unit}, program ${d.number}`,
      ...(d.explanation.length === 0 ? ["no decision explains it"] : []),
      ...d.explanation.map((e) => `because of ${e.decision}: ${e.from} | ${e.to} (${e.source})`),
    ],
    rest: at < 0 ? [] : program.ops.slice(at, at + 1),
    variants: [a, b],
  });
}

const plainOutcome = (o: Outcome | undefined): unknown => (o === undefined ? null : { ...o, value: String(o.value) });

/** How many decisions two kernels differ by: what a difference can come from. */
export const decisionsBetween = (a: string, b: string): number => differing(a, b).length;
