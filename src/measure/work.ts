/** `measure` as a campaign: a unit is one policy under one kernel. The script goes with it, so that a worker needs no file. */
import type { Work } from "../campaign/work.js";
import { compile, type VariantConfig } from "../guest/compile.js";
import { machineWorld } from "../guest/machineworld.js";
import { Distribution } from "./latency.js";
import { combinations, measureOne, total, type Measurement, type MeasureOptions, type Phase } from "./measure.js";
import { findPolicy, ownPolicy, type Policy } from "./policies.js";

/** A policy by what it is: a variant of the script, one that is built in, one of the user's own with its decisions. */
export type PolicyRef =
  { readonly variant: string } | { readonly builtIn: string } | { readonly own: string; readonly set: Readonly<Record<string, string>> };

export interface MeasureSpec extends MeasureOptions {
  readonly file: string;
  readonly source: string;
  /** `--let`: names and numbers as text. */
  readonly lets: readonly (readonly [string, string])[];
  readonly variants: readonly VariantConfig[];
  readonly policies: readonly PolicyRef[];
  /** None: each variant's own. */
  readonly kernels: readonly string[];
}
interface Input {
  readonly policy: PolicyRef;
  readonly kernel: string;
}
/** A measurement whose distributions are lists; the sum of its phases is made anew. */
type Result = Omit<Measurement, "phases" | "total"> & {
  readonly phases: readonly (Omit<Phase, "latency"> & { readonly latency: readonly (readonly [number, number])[] })[];
};
interface State {
  readonly inputs: readonly Input[];
  readonly measurements: Measurement[];
}

const policyOf = (ref: PolicyRef, variants: readonly VariantConfig[]): Policy | VariantConfig =>
  "variant" in ref ? variants.find((v) => v.name === ref.variant)! : "own" in ref ? ownPolicy(ref.own, ref.set) : findPolicy(ref.builtIn)!;

export const measureWork: Work<MeasureSpec, State, Input, Result> = {
  kind: "measure",
  wholeOnly: true,
  window: () => 64,
  start: ({ policies, kernels, variants }) => ({
    inputs: policies.flatMap((ref) => combinations(variants, policyOf(ref, variants), kernels).map((kernel) => ({ policy: ref, kernel }))),
    measurements: [],
  }),
  next: (_spec, { inputs }, unit) => inputs[unit],
  run: ({ file, source, lets, variants, budget, costs }, { policy, kernel }) => {
    const program = { ...compile(file, source, machineWorld, new Map(lets.map(([name, v]) => [name, BigInt(v)]))), variants };
    const m = measureOne(program, policyOf(policy, variants), kernel, { budget, costs });
    return {
      ...m,
      phases: m.phases.map(({ line, text, agent, cycles, counts, latency }) => ({
        line,
        text,
        agent,
        cycles,
        counts,
        latency: latency.entries(),
      })),
    };
  },
  merge: (_spec, state, _unit, r) => {
    const phases = r.phases.map((p) => ({ ...p, latency: Distribution.of(p.latency) }));
    state.measurements.push({ ...r, phases, total: total(phases) });
  },
  progress: (_spec, { inputs }, merged) => `${merged} of ${inputs.length} measurements`,
};
