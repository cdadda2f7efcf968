/** A small system of actors that read, write and lock shared pools: for tests of the search against plain enumeration. */
import fc from "fast-check";
import { StateRegistry, type I32Pool } from "../../src/sim/state.js";
import { SHARED, type System } from "../../src/explore/system.js";

/** p: pool. `add` reads pool p into pool q; `lock` waits while another holds pool p. */
export type ToyStep =
  | { readonly do: "set"; readonly p: number; readonly v: number }
  | { readonly do: "add"; readonly p: number; readonly q: number }
  | { readonly do: "keep"; readonly p: number }
  | { readonly do: "own" }
  | { readonly do: "lock" | "unlock"; readonly p: number };

/** Any step that takes no lock. @param pool a pool's number */
export const toyStep = (pool: fc.Arbitrary<number>): fc.Arbitrary<ToyStep> =>
  fc.oneof(
    fc.record({ do: fc.constant("set" as const), p: pool, v: fc.integer({ min: 0, max: 3 }) }),
    fc.record({ do: fc.constant("add" as const), p: pool, q: pool }),
    fc.record({ do: fc.constant("keep" as const), p: pool }),
    fc.record({ do: fc.constant("own" as const) }),
  );

export class Toy implements System {
  readonly state = new StateRegistry(true);
  readonly pools: I32Pool[];
  /** Per actor: its place and what it keeps. */
  private readonly own: I32Pool;
  digestLow = 0;
  digestHigh = 0;
  /** Actors that begin again when they have ended. */
  spins: readonly number[] = [];

  constructor(
    readonly programs: readonly (readonly ToyStep[])[],
    pools: number,
    private readonly watched: readonly number[] = [],
  ) {
    this.own = this.state.i32("own", 2 * programs.length);
    this.pools = Array.from({ length: pools }, (_, n) => this.state.i32(`shared${n}`, 1));
  }
  get actors(): number {
    return this.programs.length;
  }
  step(actor: number): boolean {
    const s = this.programs[actor]![this.own.a[2 * actor]!]!;
    const mine = 2 * actor + 1;
    if (s.do === "set") this.pools[s.p]!.set(0, s.v);
    else if (s.do === "add") this.pools[s.q]!.set(0, (this.pools[s.q]!.a[0]! + this.pools[s.p]!.a[0]!) & 7);
    else if (s.do === "keep") this.own.set(mine, this.own.a[mine]! * 8 + this.pools[s.p]!.a[0]!);
    else if (s.do === "own") this.own.set(mine, this.own.a[mine]! + 1);
    else if (s.do === "lock") {
      if (this.pools[s.p]!.a[0] !== 0) return false;
      this.pools[s.p]!.set(0, 8 + actor);
    } else this.pools[s.p]!.set(0, 0);
    const next = this.own.a[2 * actor]! + 1;
    this.own.set(2 * actor, this.spins.includes(actor) ? next % this.programs[actor]!.length : next);
    return true;
  }
  finished(actor: number): boolean {
    return this.own.a[2 * actor]! >= this.programs[actor]!.length;
  }
  position(actor: number): number {
    return this.own.a[2 * actor]!;
  }
  ownedPool(pool: number): boolean {
    return pool === this.own.id;
  }
  looksAround(): boolean {
    return false;
  }
  owner(_pool: number, word: number): number {
    return word < 2 * this.actors ? word >> 1 : SHARED;
  }
  ignoredPool(): boolean {
    return false;
  }
  watchedPool(pool: number): boolean {
    return this.watched.some((n) => this.pools[n]!.id === pool);
  }
  digest(): void {
    this.digestLow = this.state.hashLo[0]!;
    this.digestHigh = this.state.hashHi[0]!;
  }
  content(): string {
    return this.state.pools.map((p) => [...p.a].join(",")).join(";");
  }
  /** What somebody who looks at the watched pools sees. */
  seen(): string {
    return this.watched.map((n) => this.pools[n]!.a[0]).join(",");
  }
}

/** Every interleaving, without any cleverness. @param once states that were met are not entered again, by their whole content */
export function enumerate(toy: Toy, once = true): { ends: Set<string>; stuck: Set<string>; seen: Set<string>; ways: number } {
  const out = { ends: new Set<string>(), stuck: new Set<string>(), seen: new Set<string>(), ways: 0 };
  const met = new Set<string>();
  const go = (): void => {
    if (once && met.has(toy.content())) return;
    met.add(toy.content());
    out.seen.add(toy.seen());
    const mark = toy.state.mark();
    let moved = false;
    let all = true;
    for (let a = 0; a < toy.actors; a++) {
      if (toy.finished(a)) continue;
      all = false;
      if (toy.step(a)) {
        moved = true;
        go();
      }
      toy.state.rollback(mark);
    }
    if (moved) return;
    out.ways++;
    (all ? out.ends : out.stuck).add(toy.content());
  };
  go();
  return out;
}
