/**
 * A tree cut into parts that are searched apart: the first states of its branches, level by level, until there are
 * enough. The cut depends on the system alone, so that whoever searches the parts, and in which order, what they find
 * is the same. Each part is searched with visited states of its own: one that two parts can reach is searched in both.
 *
 * Sleep sets go with the parts. Local steps do not: what agents will ever touch is not known yet.
 */
import { Footprints } from "./footprint.js";
import type { Path, SearchOptions, Violation } from "./search.js";
import type { Observer, System } from "./system.js";

/** Where a part begins. */
export interface Root {
  /** The way to it from the first state. */
  readonly path: Path;
  /** Actors whose next step was followed elsewhere, as bits. */
  readonly asleep: number;
  /** The actor that came there, -1 none. */
  readonly came: number;
  /** Preemptions on the way; 0 without a bound. */
  readonly preemptions: number;
}

export interface Cut {
  readonly roots: readonly Root[];
  /** What was done on the way, and what was found wrong. */
  readonly states: number;
  readonly steps: number;
  readonly schedules: number;
  readonly terminals: number;
  readonly violation: Violation | undefined;
}

/** Parts of a tree. Those of one level are all kept: there may be a few more. */
export const PARTS = 8;
/** A tree that has not branched after so many steps is one part. */
const DEEPEST = 40;

interface Node {
  readonly path: number[];
  asleep: number;
  came: number;
  preemptions: number;
}

/** Cuts the tree of the system's present state, and leaves it as it was. The registry must be recording. */
export function cut(system: System, observer: Observer, options: SearchOptions, parts = PARTS): Cut {
  return new Cutter(system, observer, options).cut(parts);
}

class Cutter {
  private readonly prints: Footprints;
  private readonly bound: number;
  private readonly sleep: boolean;
  private readonly root: number;
  /** The sleep set (or the preemptions) with which a state of an earlier level was kept. */
  private readonly known = new Map<string, number>();
  private states = 1;
  private steps = 0;
  private schedules = 0;
  private terminals = 0;
  private violation: Violation | undefined;

  constructor(
    private readonly system: System,
    private readonly observer: Observer,
    options: SearchOptions,
  ) {
    this.bound = options.bound ?? Infinity;
    this.sleep = (options.reduction ?? true) && this.bound === Infinity;
    this.prints = new Footprints(system);
    this.root = system.state.mark();
  }

  cut(parts: number): Cut {
    let level: Node[] = [{ path: [], asleep: 0, came: -1, preemptions: 0 }];
    if (this.ended()) {
      this.arrive(level[0]!, new Map());
      level = [];
    }
    for (let depth = 0; depth < DEEPEST && level.length > 0 && level.length < parts && this.violation === undefined; depth++) {
      const next = new Map<string, Node>();
      for (const node of level) {
        this.expand(node, next);
        this.system.state.rollback(this.root);
        if (this.violation !== undefined) break;
      }
      for (const [key, node] of next) this.known.set(key, this.sleep ? node.asleep : node.preemptions);
      level = [...next.values()];
    }
    const { states, steps, schedules, terminals, violation } = this;
    return { roots: violation === undefined ? level : [], states, steps, schedules, terminals, violation };
  }

  private expand(node: Node, next: Map<string, Node>): void {
    const { system, observer, prints, sleep } = this;
    const { state } = system;
    // The observer comes along: what it keeps of the way is part of the state.
    for (const actor of node.path) {
      system.step(actor);
      observer.step?.(actor);
    }
    const here = state.mark();
    let moved = 0;
    for (const actor of this.order(node)) {
      if (system.finished(actor)) continue;
      const at = system.position(actor);
      if (sleep) prints.begin();
      const went = system.step(actor);
      if (sleep) prints.end(0, actor, at, here);
      this.steps++;
      const asleep = (node.asleep & (1 << actor)) !== 0;
      if (!went || asleep) {
        observer.waited?.();
        state.rollback(here);
        continue;
      }
      const wrong = observer.step?.(actor);
      if (typeof wrong === "string") return this.violated([...node.path, actor], wrong);
      const passive = (((system.passive ?? 0) >> actor) & 1) !== 0;
      const preempts = !passive && node.came !== actor && (moved & (1 << node.came)) !== 0 && node.came >= 0;
      const preemptions = this.bound === Infinity ? 0 : node.preemptions + (preempts ? 1 : 0);
      const sleepers = sleep ? prints.stillAsleep(0, actor, node.asleep | moved) : 0;
      moved |= 1 << actor;
      if (preemptions <= this.bound)
        this.arrive({ path: [...node.path, actor], asleep: sleepers, came: passive ? node.came : actor, preemptions }, next);
      if (this.violation !== undefined) return;
      state.rollback(here);
    }
    if (moved === 0 && node.asleep === 0 && !this.ended()) {
      const wrong = observer.stuck === undefined ? "deadlock" : observer.stuck();
      if (typeof wrong === "string") return this.violated(node.path, wrong);
      this.schedules++;
    }
  }

  /** Those asleep first: what their steps touch must be known. Then who came here: to run another stops it if it could go on. */
  private order({ asleep, came }: Node): number[] {
    const rank = (a: number): number => ((asleep & (1 << a)) !== 0 ? 0 : a === came ? 1 : 2);
    return Array.from({ length: this.system.actors }, (_, a) => a).sort((a, b) => rank(a) - rank(b) || a - b);
  }

  private arrive(node: Node, next: Map<string, Node>): void {
    const { system } = this;
    if (this.ended()) {
      this.states++;
      this.terminals++;
      this.schedules++;
      const wrong = this.observer.end?.();
      if (typeof wrong === "string") this.violated(node.path, wrong);
      return;
    }
    system.digest();
    const key = `${system.digestLow},${system.digestHigh}${this.bound === Infinity ? "" : `,${node.came}`}`;
    const same = next.get(key);
    if (same !== undefined) {
      same.asleep &= node.asleep;
      same.preemptions = Math.min(same.preemptions, node.preemptions);
      this.schedules++;
      return;
    }
    const before = this.known.get(key);
    if (before !== undefined && (this.sleep ? (before & ~node.asleep) === 0 : before <= node.preemptions)) {
      this.schedules++;
      return;
    }
    this.states++;
    next.set(key, node);
  }

  private ended(): boolean {
    for (let a = 0; a < this.system.actors; a++) if (!this.system.finished(a)) return false;
    return true;
  }

  private violated(path: Path, what: string): void {
    this.violation = { what, path };
    this.schedules++;
  }
}
