/**
 * Read-copy-update as far as the modelled kernel uses it (kernel/rcu; include/linux/rcupdate.h): read sections with
 * owners, and callbacks that wait for those sections that were under way when they were handed over.
 *
 * A callback runs with the step that ends the last of them: the earliest that the kernel allows, and so the worst for
 * who walks without a section. With no section open it runs at once.
 */
import type { Agents } from "./agents.js";
import type { F64Pool, I32Pool, StateRegistry } from "./state.js";

/** What call_rcu is given, with three numbers of its own. */
export type RcuCallback = (a: number, b: number, c: number) => void;

/** Words of a waiting callback: agents that it waits for as bits, number of the function, its numbers. */
const WORDS = 5;
/** Agents that can be told apart. */
const AGENTS = 31;

export class Rcu {
  /** Per agent: read sections that it is in. */
  private readonly readers: I32Pool;
  /** [0] callbacks that wait, then theirs in the order of call_rcu. */
  private readonly waiting: F64Pool;
  private readonly functions: RcuCallback[] = [];

  constructor(
    state: StateRegistry,
    private readonly agents: Agents,
  ) {
    this.readers = state.i32("rcu.readers", 4);
    this.waiting = state.f64("rcu.waiting", 1);
  }

  /** Declares a function that `call` can name. @returns its number */
  callback(run: RcuCallback): number {
    return this.functions.push(run) - 1;
  }

  /** rcu_read_lock of the running agent. */
  readLock(): void {
    const agent = this.agents.current;
    if (agent >= AGENTS) throw new Error(`RCU knows ${AGENTS} agents at most`);
    this.readers.ensure(agent + 1);
    this.readers.set(agent, this.readers.a[agent]! + 1);
  }

  /** rcu_read_unlock of the running agent. */
  readUnlock(): void {
    const agent = this.agents.current;
    const inside = this.readers.a[agent] ?? 0;
    if (inside <= 0) return;
    this.readers.set(agent, inside - 1);
    if (inside === 1) this.left(agent);
  }

  /** call_rcu: runs a declared function with three numbers after a grace period. */
  call(fn: number, a: number, b: number, c: number): void {
    let mask = 0;
    for (let agent = 0; agent < Math.min(AGENTS, this.readers.a.length); agent++) if (this.readers.a[agent]! > 0) mask |= 1 << agent;
    if (mask === 0) return this.functions[fn]!(a, b, c);
    const { waiting } = this;
    const n = waiting.a[0]!;
    waiting.ensure(1 + (n + 1) * WORDS);
    for (const [i, word] of [mask, fn, a, b, c].entries()) waiting.set(1 + n * WORDS + i, word);
    waiting.set(0, n + 1);
  }

  /** Callbacks that wait for a grace period. */
  get pending(): number {
    return this.waiting.a[0]!;
  }

  /** An agent's last read section has ended: what waited for nobody else runs. */
  private left(agent: number): void {
    const { waiting } = this;
    for (let n = 0; n < waiting.a[0]!;) {
      const at = 1 + n * WORDS;
      const mask = waiting.a[at]! & ~(1 << agent);
      waiting.set(at, mask);
      if (mask !== 0) {
        n++;
        continue;
      }
      const [fn, a, b, c] = [waiting.a[at + 1]!, waiting.a[at + 2]!, waiting.a[at + 3]!, waiting.a[at + 4]!];
      this.remove(n);
      this.functions[fn]!(a, b, c);
    }
  }

  private remove(n: number): void {
    const { waiting } = this;
    const last = waiting.a[0]! - 1;
    for (let at = 1 + n * WORDS; at < 1 + last * WORDS; at++) waiting.set(at, waiting.a[at + WORDS]!);
    for (let at = 1 + last * WORDS; at < 1 + (last + 1) * WORDS; at++) waiting.set(at, 0);
    waiting.set(0, last);
  }
}
