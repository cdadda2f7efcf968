/**
 * Every interleaving of a system's actors that differs, depth first, with undo instead of running again.
 *
 * At a state every actor that can go on is a branch. Three things keep the tree small:
 *
 * hashing     | a state that was visited is not entered again (its 64-bit hash stands for it)
 * sleep sets  | two independent steps are run in one order only: the other gives the same state
 * local steps | a step that touches nothing that any other actor will ever touch, and changes nothing that the
 *             | observer looks at, is the only branch of its state (a persistent set of one)
 *
 * With a bound on preemptions there are no sleep sets, and only the actor that came here may be local: to go on
 * never costs a preemption. docs/exploring.md says what each of them guarantees, and why.
 */
import { Footprints } from "./footprint.js";
import type { Observer, System } from "./system.js";
import { VisitedStates } from "./visited.js";

export interface SearchOptions {
  /** Sleep sets and local steps; true if absent. */
  readonly reduction?: boolean;
  /** Visited states are not entered again; true if absent. A way that comes back to a state of its own ends there in any case. */
  readonly hashing?: boolean;
  /** Most preemptions of a schedule; unlimited if absent. */
  readonly bound?: number;
  /** Budgets; unlimited if absent. */
  readonly maxStates?: number;
  readonly maxSteps?: number;
  readonly maxDepth?: number;
  /** The first state is in the middle of a tree: who sleeps there, who came there, preemptions on the way (cut.ts). */
  readonly from?: { readonly asleep: number; readonly came: number; readonly preemptions: number };
  /** Compares whole states at every hit of the hash, at a price: for tests. */
  readonly verifyHits?: boolean;
}

/** Which actor took each step, from the first state on. */
export type Path = readonly number[];

export interface Violation {
  readonly what: string;
  readonly path: Path;
}

export type Ending = "complete" | "violation" | "states" | "steps" | "depth" | "interrupted";

export interface SearchResult {
  readonly ending: Ending;
  readonly violation: Violation | undefined;
  /** Different states that were entered. */
  readonly states: number;
  /** Steps that were run, those of all rounds. */
  readonly steps: number;
  /** Ways that were followed to their end: a terminal state, nobody can go on, or a state that is known. */
  readonly schedules: number;
  /** Different terminal states; without hashing, ways that end in one. */
  readonly terminals: number;
  /** Longest way, in steps. */
  readonly depth: number;
  /** Times that the search began: all but the last taught it what is dependent. */
  readonly rounds: number;
}

const ALL = 0x3fffffff;
const NONE = -1;

export class Search {
  private readonly prints: Footprints;
  private readonly visited: VisitedStates;
  private readonly reduce: boolean;
  private readonly hashing: boolean;
  private readonly bound: number;

  private d = -1;
  private root = 0;
  private rounds = 0;
  private over = false;
  private states = 0;
  private steps = 0;
  private schedules = 0;
  private terminals = 0;
  private deepest = 0;
  private cut = false;
  private ending: Ending = "complete";
  private violation: Violation | undefined;
  /** The last `enter` met a state of the present way. */
  private looped = false;

  // By depth: the state's mark and hash, its number in `visited`, the actors that have not finished, those that need not be tried,
  // those asleep, those that moved, the one being followed, the one that came here, preemptions so far, 1 if the state is new.
  private mark = new Float64Array(256);
  private low = new Int32Array(256);
  private high = new Int32Array(256);
  private entry = new Int32Array(256);
  private unfinished = new Int32Array(256);
  private tried = new Int32Array(256);
  private asleep = new Int32Array(256);
  private moved = new Int32Array(256);
  private trying = new Int32Array(256);
  private came = new Int32Array(256);
  private preemptions = new Int32Array(256);
  private fresh = new Int32Array(256);

  constructor(
    private readonly system: System,
    private readonly observer: Observer,
    private readonly options: SearchOptions = {},
  ) {
    if (system.actors > 30) throw new Error("a search knows at most 30 actors");
    this.bound = options.bound ?? Infinity;
    this.reduce = options.reduction ?? true;
    this.hashing = options.hashing ?? true;
    this.prints = new Footprints(system);
    this.visited = new VisitedStates(system, options.verifyHits === true);
  }

  /** Searches from the system's present state, and leaves it as it was. */
  run(): SearchResult {
    this.begin();
    while (!this.advance(Infinity));
    return this.result();
  }

  /** Makes the system's present state the first one. */
  begin(): void {
    const { state } = this.system;
    if (!state.recording) throw new Error("a search needs a registry that records");
    if (this.reduce && !state.watchReads) throw new Error("a search with reduction needs a registry that watches reads");
    this.root = state.mark();
    this.round();
  }

  /** Goes on for so many steps. @returns true when the search is over: the system is as it was before `begin` */
  advance(steps: number): boolean {
    const end = this.steps + steps;
    while (!this.over) {
      if (this.follow(end)) this.endRound();
      else return false;
    }
    return true;
  }

  /** Ends the search where it is. */
  interrupt(): void {
    if (this.over) return;
    this.ending = "interrupted";
    this.endRound();
  }

  result(): SearchResult {
    const { ending, violation, states, steps, schedules, terminals, deepest: depth, rounds } = this;
    return { ending, violation, states, steps, schedules, terminals, depth, rounds };
  }

  private round(): void {
    this.rounds++;
    this.states = this.schedules = this.terminals = this.deepest = 0;
    this.cut = false;
    this.visited.clear();
    this.prints.grew = false;
    if (this.rounds > 1) this.observer.again?.();
    const { asleep, came, preemptions } = this.options.from ?? { asleep: 0, came: NONE, preemptions: 0 };
    if (this.reduce && asleep !== 0) this.lookAtSleepers(asleep);
    this.d = this.enter(0, this.reduce && this.bound === Infinity ? asleep : 0, came, preemptions) ? 0 : -1;
  }

  /** What the steps touch that were followed elsewhere: to know when they wake. */
  private lookAtSleepers(asleep: number): void {
    const { system, prints } = this;
    for (let a = 0; a < system.actors; a++) {
      if ((asleep & (1 << a)) === 0) continue;
      const at = system.position(a);
      prints.begin();
      system.step(a);
      prints.end(0, a, at, this.root);
      this.observer.waited?.();
      system.state.rollback(this.root);
    }
  }

  private endRound(): void {
    this.system.state.rollback(this.root);
    if (this.ending === "complete" && this.reduce && this.prints.grew) return this.round();
    if (this.ending === "complete" && this.cut) this.ending = "depth";
    this.over = true;
  }

  /** @returns true when nothing is left, or the search has ended; false after so many steps */
  private follow(end: number): boolean {
    const { state } = this.system;
    while (this.d >= 0) {
      if (this.steps >= end) return false;
      const { d } = this;
      const actor = this.next(d);
      if (actor === NONE) {
        this.leave(d);
        this.d--;
        if (this.ending !== "complete") return true;
        if (this.d >= 0) state.rollback(this.mark[this.d]!);
        continue;
      }
      this.tried[d]! |= 1 << actor;
      const preempts = this.preempts(d, actor);
      if (preempts && this.preemptions[d]! >= this.bound) continue;
      if (!this.step(d, actor)) continue;
      if (this.ending !== "complete") return true;
      this.trying[d] = actor;
      const sleepers = this.asleep[d]! | this.moved[d]!;
      const asleep = this.reduce && this.bound === Infinity ? this.prints.stillAsleep(d, actor, sleepers) : 0;
      this.moved[d]! |= 1 << actor;
      const local =
        this.reduce && (this.bound === Infinity || this.came[d] === actor || this.came[d] === NONE) && this.prints.isLocal(d, actor);
      const entered = this.enter(d + 1, asleep, this.isPassive(actor) ? this.came[d]! : actor, this.preemptions[d]! + (preempts ? 1 : 0));
      if (this.ending !== "complete") return true;
      // A local step that comes back to its own way must not keep the others waiting for ever.
      if (local && !this.looped) this.closes(d);
      if (entered) this.d++;
      else state.rollback(this.mark[d]!);
    }
    return true;
  }

  /** No other actor need be tried at this state. */
  private closes(d: number): void {
    this.tried[d] = ALL;
    if (this.hashing && this.bound === Infinity) this.visited.add(this.entry[d]!, ALL);
  }

  /** The next branch of a state: the actor that came here first, then the others in order. */
  private next(d: number): number {
    const open = this.unfinished[d]! & ~(this.tried[d]! | this.asleep[d]!);
    if (open === 0) return NONE;
    const came = this.came[d]!;
    if (came !== NONE && (open & (1 << came)) !== 0) return came;
    return 31 - Math.clz32(open & -open);
  }

  private isPassive(actor: number): boolean {
    return (((this.system.passive ?? 0) >> actor) & 1) !== 0;
  }
  /** To run this one is to stop one that could have gone on. */
  private preempts(d: number, actor: number): boolean {
    const came = this.came[d]!;
    return !this.isPassive(actor) && came !== NONE && came !== actor && (this.moved[d]! & (1 << came)) !== 0;
  }

  /** Runs a step of an actor at the state of depth d. @returns false if it waits: the state is as before */
  private step(d: number, actor: number): boolean {
    const { system, prints, options } = this;
    const at = system.position(actor);
    if (this.reduce) prints.begin();
    const moved = system.step(actor);
    if (this.reduce) prints.end(d, actor, at, this.mark[d]!);
    this.steps++;
    if (this.steps >= (options.maxSteps ?? Infinity)) this.ending = "steps";
    if (!moved) {
      this.observer.waited?.();
      system.state.rollback(this.mark[d]!);
      return false;
    }
    const wrong = this.observer.step?.(actor);
    if (typeof wrong === "string") this.violated(d, actor, wrong);
    return true;
  }

  private violated(d: number, actor: number, what: string): void {
    const path: number[] = [];
    for (let n = 0; n < d; n++) path.push(this.trying[n]!);
    if (actor !== NONE) path.push(actor);
    this.violation = { what, path };
    this.ending = "violation";
    this.schedules++;
  }

  /** Comes to a state. @returns false if there is nothing to do in it */
  private enter(d: number, asleep: number, came: number, preemptions: number): boolean {
    const { system, visited, hashing, options } = this;
    const bounded = this.bound !== Infinity;
    const mark = system.state.mark();
    if (d > this.deepest) this.deepest = d;
    if (d + 1 >= this.mark.length) this.grow();
    system.digest();
    this.looped = !hashing && this.onWay(d);
    const entry = hashing ? visited.enter(bounded ? came + 2 : 0) : 0;
    const fresh = hashing ? visited.isNew : !this.looped;
    if (fresh) this.states++;
    const unfinished = this.unfinishedActors();
    const end = unfinished === 0;
    let done = 0;
    if (!fresh) {
      if (hashing) this.looped = visited.onWay(entry);
      if (this.looped && !end && this.observer.loop !== undefined) this.cycle(d, entry, unfinished);
      if (this.ending !== "complete") return false;
      if (hashing) done = !bounded ? visited.value(entry) : preemptions >= visited.value(entry) ? ALL : 0;
      if (end || this.looped || (unfinished & ~(done | asleep)) === 0) {
        this.schedules++;
        return false;
      }
    } else if (end) {
      this.terminals++;
      this.schedules++;
      const wrong = this.observer.end?.();
      if (typeof wrong === "string") this.violated(d, NONE, wrong);
      return false;
    }
    if (this.states > (options.maxStates ?? Infinity)) this.ending = "states";
    if (d >= (options.maxDepth ?? Infinity)) {
      this.cut = true;
      return false;
    }
    if (hashing) {
      visited.setOnWay(entry, true);
      if (bounded) visited.setValue(entry, preemptions);
      else visited.add(entry, ~asleep & ALL);
    }
    this.mark[d] = mark;
    this.low[d] = system.digestLow;
    this.high[d] = system.digestHigh;
    this.entry[d] = entry;
    this.unfinished[d] = unfinished;
    this.tried[d] = done;
    this.asleep[d] = asleep;
    this.moved[d] = 0;
    this.trying[d] = NONE;
    this.came[d] = came;
    this.preemptions[d] = preemptions;
    this.fresh[d] = fresh ? 1 : 0;
    return true;
  }

  /** The present state is one of the way's: if everybody who has not finished moved meanwhile, that can go on for ever. */
  private cycle(d: number, entry: number, unfinished: number): void {
    const { system } = this;
    let moved = 0;
    let n = d - 1;
    for (; n >= 0; n--) {
      moved |= 1 << this.trying[n]!;
      if (this.hashing ? this.entry[n] === entry : this.low[n] === system.digestLow && this.high[n] === system.digestHigh) break;
    }
    if (n < 0 || (unfinished & ~(moved | (system.passive ?? 0))) !== 0) return;
    const wrong = this.observer.loop?.();
    if (typeof wrong === "string") this.violated(d, NONE, wrong);
  }

  /** As bits. */
  private unfinishedActors(): number {
    const { system } = this;
    let bits = 0;
    for (let a = 0; a < system.actors; a++) if (!system.finished(a)) bits |= 1 << a;
    return bits;
  }

  /** Without hashing: is the present state one of the way's? */
  private onWay(d: number): boolean {
    const { digestLow, digestHigh } = this.system;
    for (let n = 0; n < d; n++) if (this.low[n] === digestLow && this.high[n] === digestHigh) return true;
    return false;
  }

  /** All branches of a state have been followed. */
  private leave(d: number): void {
    if (this.hashing) this.visited.setOnWay(this.entry[d]!, false);
    // Who is asleep can go on: it was followed from an earlier state.
    if (this.moved[d] !== 0 || this.asleep[d] !== 0 || this.fresh[d] === 0) return;
    const wrong = this.observer.stuck === undefined ? "deadlock" : this.observer.stuck();
    if (typeof wrong === "string") this.violated(d, NONE, wrong);
    else this.schedules++;
  }

  private grow(): void {
    const n = 2 * this.mark.length;
    const mark = new Float64Array(n);
    mark.set(this.mark);
    this.mark = mark;
    for (const key of [
      "low",
      "high",
      "entry",
      "unfinished",
      "tried",
      "asleep",
      "moved",
      "trying",
      "came",
      "preemptions",
      "fresh",
    ] as const) {
      const more = new Int32Array(n);
      more.set(this[key]);
      this[key] = more;
    }
  }
}
