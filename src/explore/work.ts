/** Exploration as a campaign: a unit for each `par` of each variant of the script, and for each part of a large tree. */
import { compile, type VariantConfig } from "../guest/compile.js";
import { machineWorld } from "../guest/machineworld.js";
import type { Work } from "../campaign/work.js";
import { exploreUnit, joined, notReached, type Explored, type ExploreOptions, type Unit, type UnitResult } from "./explore.js";

export interface ExploreSpec {
  readonly file: string;
  readonly source: string;
  readonly variants: readonly VariantConfig[];
  readonly options: ExploreOptions;
}

/** What is known of the unit that is under way in this very thread: for Ctrl-C and the terminal. */
export const underWay: { unit: Unit | undefined; known: Explored["found"] | undefined; stop: boolean; show: (text: string) => void } = {
  unit: undefined,
  known: undefined,
  stop: false,
  show: () => undefined,
};

/** What is known of one `par` of one variant. */
export interface Tree {
  explored: Explored;
  /** Parts that are still to be searched, or to be merged. */
  left: number;
}

export interface ExploreState {
  /** Ordered by variant, then by `par`. */
  readonly trees: Tree[];
  readonly queue: Unit[];
}

/** The tree is known as far as it ever will be. */
const closed = (t: Tree): boolean => t.explored.found.ending !== "complete";

const treeOf = (state: ExploreState, { variant, par }: Unit): Tree | undefined =>
  state.trees.find((t) => t.explored.variant === variant && t.explored.par === par);

export const exploreWork: Work<ExploreSpec, ExploreState, Unit, UnitResult> = {
  kind: "explore",
  window: () => 64,
  start: (spec) => ({ trees: [], queue: spec.variants.map((v) => ({ variant: v.name, par: 0 })) }),
  next: (_spec, state) => {
    for (;;) {
      const unit = state.queue.shift();
      const tree = unit?.root === undefined ? undefined : treeOf(state, unit);
      if (tree === undefined || !closed(tree)) return unit;
    }
  },
  run: async (spec, unit) => {
    const program = compile(spec.file, spec.source, machineWorld);
    const variant = spec.variants.find((v) => v.name === unit.variant)!;
    underWay.unit = unit;
    const result = await exploreUnit(program, variant, unit, spec.options, async (known) => {
      underWay.known = known;
      underWay.show(`${unit.variant}: ${known.states} states, ${known.schedules} schedules, ${known.steps} steps`);
      await new Promise((resolve) => setImmediate(resolve));
      return underWay.stop;
    });
    underWay.unit = underWay.known = undefined;
    return result;
  },
  merge: (spec, state, _n, { unit, explored, roots }) => {
    const place = (t: Tree): number => spec.variants.findIndex((v) => v.name === t.explored.variant) * 1000 + t.explored.par;
    const add = (e: Explored): void => {
      state.trees.push({ explored: e, left: roots.length });
      state.trees.sort((a, b) => place(a) - place(b));
    };
    if (explored === undefined) {
      if (unit.par === 0) add(notReached(spec.variants.find((v) => v.name === unit.variant)!));
      return;
    }
    if (unit.root === undefined) {
      add(explored);
      state.queue.push(...roots.map((root) => ({ ...unit, root })), { variant: unit.variant, par: unit.par + 1 });
      return;
    }
    const tree = treeOf(state, unit)!;
    tree.left--;
    if (!closed(tree)) tree.explored = joined(tree.explored, explored, tree.explored.parts + 1, spec.options);
  },
  progress: (_spec, { trees, queue }) => {
    const found = trees.map((t) => t.explored.found);
    const sum = (of: (f: Explored["found"]) => number): number => found.reduce((n, f) => n + of(f), 0);
    return `${sum((f) => f.states)} states, ${sum((f) => f.schedules)} schedules, ${queue.length} parts wait`;
  },
};
