/**
 * All invariants, and the one who asks them. The explorer asks after every step; so may anybody else who runs a
 * machine step by step:
 *
 *   const checker = new InvariantChecker(machine);      // before the registry records
 *   … machine.step(agent) …
 *   const wrong = checker.step(agent);                  // { invariant, what } or undefined
 *   checker.stop();
 */
import { RECORD_WORDS, findEvent, type EventBus } from "../../sim/events.js";
import type { Machine } from "../../machine.js";
import type { F64Pool, StateRegistry } from "../../sim/state.js";
import { assignGroups, PART_GROUPS } from "../groups.js";
import { noLostRingEntry, noLostWrite } from "./dirty.js";
import { noFalseEfault } from "./efault.js";
import { freedPage, freedTable } from "./freed.js";
import { invalidation } from "./invalidation.js";
import type { Invariant, OnEvent, Part, Watch } from "./invariant.js";
import { lockHeld, lockOrder } from "./locking.js";
import { RECLAIM } from "./reclaim.js";
import { noteReferences, references } from "./references.js";
import { relaxedUsable } from "./relaxed.js";
import { breakBeforeMake, hostAlive, memoryDisabled, noStaleUse } from "./simple.js";
import { specGuest, specHost } from "./specification.js";
import { blockInVma, stage2Page } from "./stage2page.js";
import { tlbiOrder } from "./tlbi.js";
import { ownStage1 } from "./vcputlb.js";

export type { Invariant, Part } from "./invariant.js";

/** Told by the search itself. */
export const NO_DEADLOCK: Invariant = {
  name: "no-deadlock",
  statement: "As long as an agent has not ended, one can go on.",
  source: "Documentation/locking/lockdep-design.rst",
};

/** Told by the search itself too. A timing that an opponent chose: retry loops that are right have it too. */
export const NO_LIVELOCK: Invariant = {
  name: "no-livelock",
  statement: "Agents that all go on do not come back to a state that they were in.",
  source: "KVM: arm/arm64: Skip updating PMD/PTE entry if no change (v4.10 faulty): vCPUs that undo each other's progress for ever",
  onRequest: true,
};

/** Told by the search too: what the script itself expects of the end. */
export const EXPECTATIONS: Invariant = {
  name: "expectations",
  statement: "The expectations on values and on stage 2 that follow the par at once hold, however it ends.",
  source: "the script",
  onRequest: true,
};

export const INVARIANTS: readonly Invariant[] = [
  hostAlive,
  breakBeforeMake,
  invalidation,
  stage2Page,
  blockInVma,
  noStaleUse,
  freedPage,
  freedTable,
  noLostWrite,
  noLostRingEntry,
  memoryDisabled,
  ...RECLAIM,
  noFalseEfault,
  references,
  specGuest,
  specHost,
  lockHeld,
  lockOrder,
  tlbiOrder,
  ownStage1,
  relaxedUsable,
  NO_DEADLOCK,
  NO_LIVELOCK,
  EXPECTATIONS,
];

export interface Wrong {
  readonly invariant: Invariant;
  readonly what: string;
}

interface Asked {
  readonly invariant: Invariant;
  readonly watch: Watch;
  readonly groups: readonly number[];
  /** Hashes of the parts for which it holds. */
  readonly right: Map<number, number>;
}

/** Answers that are remembered for each invariant. */
const REMEMBERED = 1 << 20;
const MEMORY = "explore.memory";

export class InvariantChecker {
  private readonly asked: readonly Asked[];
  private readonly onEvent: { readonly asked: Asked; readonly on: OnEvent }[][] = [];
  private readonly after: readonly Asked[];
  private readonly holds: readonly Asked[];
  private readonly state: StateRegistry;
  private readonly bus: EventBus;
  private readonly detach: () => void;
  private heeding = true;
  private found: Wrong | undefined;

  /** @param only names of invariants; all if absent. @throws Error for an unknown name */
  constructor(
    private readonly machine: Machine,
    only?: readonly string[],
  ) {
    this.state = machine.sim.state;
    this.bus = machine.sim.bus;
    for (const name of only ?? []) if (!INVARIANTS.some((i) => i.name === name)) throw new Error(`no invariant named ${name}`);
    const chosen = INVARIANTS.filter((i) => (only === undefined ? i.onRequest !== true : only.includes(i.name)));
    const words = chosen.reduce((n, i) => n + (i.words ?? 0), 0);
    const memory = (this.state.pools.find((p) => p.name === MEMORY) as F64Pool | undefined) ?? this.state.f64(MEMORY, words);
    memory.ensure(words);
    assignGroups(this.state);
    let at = 0;
    this.asked = chosen.map((invariant) => {
      const watch = { machine, memory, at };
      at += invariant.words ?? 0;
      return { invariant, watch, groups: (invariant.looksAt ?? []).flatMap((part: Part) => PART_GROUPS[part]), right: new Map() };
    });
    for (const asked of this.asked)
      for (const [name, on] of Object.entries(asked.invariant.on ?? {})) {
        const event = findEvent(name);
        if (event === undefined) throw new Error(`invariant ${asked.invariant.name} asks for an event ${name} that nobody declares`);
        (this.onEvent[event.id] ??= []).push({ asked, on });
      }
    this.after = this.asked.filter((a) => a.invariant.after !== undefined);
    this.holds = this.asked.filter((a) => a.invariant.holds !== undefined);
    noteReferences(machine);
    machine.sim.locks.tracking = true;
    this.bus.flush();
    this.detach = this.bus.stream((ring, from, to) => this.take(ring, from, to));
  }

  private take(ring: Float64Array, from: number, to: number): void {
    if (!this.heeding) return;
    for (let n = from; n < to; n++) {
      const at = n * RECORD_WORDS;
      const list = this.onEvent[ring[at + 3]!];
      if (list === undefined) continue;
      for (const { asked, on } of list) {
        const what = on(asked.watch, ring[at + 2]!, ring, at + 4);
        if (what !== undefined) this.found ??= { invariant: asked.invariant, what };
      }
    }
  }

  /** Whether an invariant of this name is asked. */
  asks(name: string): boolean {
    return this.asked.some((a) => a.invariant.name === name);
  }

  /** Events that have come since the last step are of a step that was taken back. */
  forget(): void {
    this.heeding = false;
    this.bus.flush();
    this.heeding = true;
  }

  /** After a step of an agent of the machine. */
  step(agent: number): Wrong | undefined {
    this.found = undefined;
    this.bus.flush();
    if (this.found !== undefined) return this.found;
    // After a crash nothing of the state is promised.
    if (this.machine.crashed !== undefined) return undefined;
    for (const asked of this.after) {
      const what = asked.invariant.after!(asked.watch, agent);
      if (what !== undefined) return { invariant: asked.invariant, what };
    }
    for (const asked of this.holds) {
      const what = this.ask(asked);
      if (what !== undefined) return { invariant: asked.invariant, what };
    }
    return undefined;
  }

  private ask(asked: Asked): string | undefined {
    const { invariant, watch, right } = asked;
    let lo = 0;
    let hi = 0;
    if (this.state.recording) {
      for (const g of asked.groups) {
        lo ^= this.state.hashLo[g]!;
        hi ^= this.state.hashHi[g]!;
      }
      if (right.get(lo) === hi) return undefined;
    }
    const what = invariant.holds!(watch);
    if (what !== undefined) return invariant.excused?.(watch, what) === true ? undefined : what;
    if (this.state.recording) {
      if (right.size >= REMEMBERED) right.clear();
      right.set(lo, hi);
    }
    return undefined;
  }

  /** When every agent has ended. */
  end(): Wrong | undefined {
    if (this.machine.crashed !== undefined) return undefined;
    for (const { invariant, watch } of this.asked) {
      const what = invariant.end?.(watch);
      if (what !== undefined) return { invariant, what };
    }
    return undefined;
  }

  stop(): void {
    this.detach();
  }
}
