/** Exploration as a campaign: one unit for each variant of the script. */
import { compile, type VariantConfig } from "../guest/compile.js";
import { machineWorld } from "../guest/machineworld.js";
import type { Work } from "../campaign/work.js";
import { exploreVariant, type Explored, type ExploreOptions } from "./explore.js";

export interface ExploreSpec {
  readonly file: string;
  readonly source: string;
  readonly variants: readonly VariantConfig[];
  readonly options: ExploreOptions;
}

/** What is known of units that are under way in this very thread: for Ctrl-C and the terminal. */
export const underWay: { variant: string; known: Explored["found"] | undefined; stop: boolean; show: (text: string) => void } = {
  variant: "",
  known: undefined,
  stop: false,
  show: () => undefined,
};

export const exploreWork: Work<ExploreSpec, Explored[], VariantConfig, Explored> = {
  kind: "explore",
  window: () => 64,
  start: () => [],
  next: (spec, _state, unit) => spec.variants[unit],
  run: async (spec, variant) => {
    const program = compile(spec.file, spec.source, machineWorld);
    underWay.variant = variant.name;
    return exploreVariant(program, variant, spec.options, async (known) => {
      underWay.known = known;
      underWay.show(`${variant.name}: ${known.states} states, ${known.schedules} schedules, ${known.steps} steps`);
      await new Promise((resolve) => setImmediate(resolve));
      return underWay.stop;
    });
  },
  merge: (_spec, state, _unit, result) => void state.push(result),
  progress: (spec, state) => `${state.length} of ${spec.variants.length} variants`,
};
