/**
 * Locks of the modelled kernel as state: mmap_lock, mmu_lock, slots_lock, memory_lock …
 *
 * A phase takes a lock or returns BLOCKED and is run again. Spinlocks and mutexes are taken for
 * writing only. Taking a lock sets the waiter's clock to at least the time of the last release.
 *
 * While agents are interleaved a writer that has to wait queues, and new readers wait behind it, as the
 * kernel's rwsem and qrwlock have it; queueing is a step of its own. With `tracking` on, every agent's
 * locks are kept, and each taking is compared with the kernel's lock order (lockdep.ts).
 */
import type { Agents } from "./agents.js";
import type { CostTable } from "./costs.js";
import { declareEvent, type EventBus } from "./events.js";
import { INVERSION, lockdepReport, lockRank, NOT_HELD, RECURSION, SELF_DEADLOCK } from "./lockdep.js";
import type { F64Pool, I32Pool, StateRegistry } from "./state.js";

export const lockAcquired = declareEvent("faultline", "lock_acquired", "a modelled kernel lock was taken", [
  { name: "lock", kind: "name" },
  { name: "mode", kind: "enum", values: ["read", "write"] },
]);
export const lockReleased = declareEvent("faultline", "lock_released", "a modelled kernel lock was released", [
  { name: "lock", kind: "name" },
  { name: "mode", kind: "enum", values: ["read", "write"] },
]);
export const lockContended = declareEvent("faultline", "lock_contended", "an agent had to wait for a lock", [
  { name: "lock", kind: "name" },
  { name: "mode", kind: "enum", values: ["read", "write"] },
]);

/** Numbers of locks from here on are those of the family. */
export const FAMILY = 1 << 16;
/** Locks that one agent can hold at a time. */
const DEPTH = 8;

/** A lock that an agent holds. */
export interface HeldLock {
  readonly lock: string;
  readonly mode: "read" | "write";
}

export class Locks {
  private readonly names: number[] = [];
  /** Per lock: its place in the kernel's order, -1 none. */
  private readonly ranks: number[] = [];
  private familyRank = -1;
  private familyName: (n: number) => string = String;
  /** Per lock: number of readers, or -1 - agent while written. */
  private readonly held: I32Pool;
  /** Per lock: writers that wait in its queue. */
  private readonly writers: I32Pool;
  private readonly releasedAt: F64Pool;
  /** Per agent: the lock in whose queue it waits for writing + 1, then DEPTH words: 2 * lock + mode + 1 of each lock it holds. */
  private readonly owned: I32Pool;
  /**
   * Who holds what is kept, and the order of locks checked. Turned on while no lock is held. Written where it changes
   * alone: V8 takes it for constant until then.
   */
  tracking = false;

  constructor(
    state: StateRegistry,
    private readonly agents: Agents,
    private readonly bus: EventBus,
    private readonly costs: CostTable,
  ) {
    this.held = state.i32("locks.held", 64);
    this.writers = state.i32("locks.writers", 64);
    this.releasedAt = state.f64("locks.releasedAt", 64);
    this.owned = state.i32("locks.owned", 4 * (1 + DEPTH));
  }

  /** Creates a lock; the letters at the beginning of its name are its class. @returns its number. */
  create(name: string): number {
    const id = this.names.length;
    this.names.push(this.bus.name(name));
    this.ranks.push(lockRank(name));
    this.held.ensure(id + 1);
    this.writers.ensure(id + 1);
    this.releasedAt.ensure(id + 1);
    return id;
  }

  /** Declares the locks from FAMILY on: very many, whose state lies with their owner. @param name of the n-th of them */
  declareFamily(cls: string, name: (n: number) => string): void {
    this.familyRank = lockRank(cls);
    this.familyName = name;
  }
  /** The number of a lock's name on the bus. */
  nameId(lock: number): number {
    return lock < FAMILY ? this.names[lock]! : this.bus.name(this.familyName(lock - FAMILY));
  }
  private rank(lock: number): number {
    return lock < FAMILY ? this.ranks[lock]! : this.familyRank;
  }

  /** Takes a lock for reading. @returns false if a writer holds it or waits for it: return BLOCKED. */
  read(lock: number): boolean {
    if (this.tracking) this.check(lock, 0);
    const h = this.held.a[lock]!;
    if (h < 0 || this.writers.a[lock] !== 0) return this.contended(lock, 0);
    this.held.set(lock, (h + 1) | 0);
    this.taken(lock, 0);
    return true;
  }

  /** Takes a lock for writing (also: spinlock, mutex). @returns false if anyone holds it: the agent queues; return BLOCKED. */
  write(lock: number): boolean {
    if (this.tracking) this.check(lock, 1);
    if (this.held.a[lock] !== 0) {
      if (this.agents.interleaving) this.queue(lock);
      return this.contended(lock, 1);
    }
    if (this.writers.a[lock] !== 0) this.unqueue(lock);
    this.held.set(lock, -1 - this.agents.current);
    this.taken(lock, 1);
    return true;
  }

  /** down_write_trylock, mutex_trylock: never queues. @returns false if anyone holds it */
  tryWrite(lock: number): boolean {
    if (this.held.a[lock] !== 0) return this.contended(lock, 1);
    this.held.set(lock, -1 - this.agents.current);
    this.taken(lock, 1);
    return true;
  }

  /** downgrade_write: the writer goes on as a reader, and nobody comes in between. */
  downgrade(lock: number): void {
    this.unlockWrite(lock);
    this.held.set(lock, 1);
    this.taken(lock, 0);
  }

  private queue(lock: number): void {
    this.owned.ensure((this.agents.current + 1) * (1 + DEPTH));
    const at = this.agents.current * (1 + DEPTH);
    if (this.owned.a[at] === lock + 1) return;
    this.owned.set(at, lock + 1);
    this.writers.set(lock, this.writers.a[lock]! + 1);
    this.agents.moved();
  }

  private unqueue(lock: number): void {
    const at = this.agents.current * (1 + DEPTH);
    if (this.owned.a[at] !== lock + 1) return;
    this.owned.set(at, 0);
    this.writers.set(lock, this.writers.a[lock]! - 1);
  }

  private contended(lock: number, mode: number): boolean {
    this.bus.emit(lockContended, this.names[lock]!, mode);
    return false;
  }

  private taken(lock: number, mode: number): void {
    if (this.tracking) this.keep(lock, mode);
    this.agents.waitUntil(this.releasedAt.a[lock]!);
    this.agents.charge(this.costs.lock);
    if (!this.bus.unheard()) this.bus.emit(lockAcquired, this.names[lock]!, mode);
  }

  unlockRead(lock: number): void {
    const h = this.held.a[lock]!;
    if (h <= 0) throw new Error("read unlock of a lock that no reader holds");
    this.held.set(lock, (h - 1) | 0);
    this.released(lock, 0);
  }

  unlockWrite(lock: number): void {
    if (this.held.a[lock] !== -1 - this.agents.current) throw new Error("write unlock of a lock that this agent does not hold");
    this.held.set(lock, 0);
    this.released(lock, 1);
  }

  private released(lock: number, mode: number): void {
    if (this.tracking) this.forget(lock, mode);
    this.releasedAt.set(lock, this.agents.now);
    if (!this.bus.unheard()) this.bus.emit(lockReleased, this.names[lock]!, mode);
  }

  // ---- owners and order

  /** The running agent has taken a lock. For locks whose state lies elsewhere (page tables), too. */
  keep(lock: number, mode: number): void {
    const agent = this.agents.current;
    this.owned.ensure((agent + 1) * (1 + DEPTH));
    const from = agent * (1 + DEPTH) + 1;
    let again = false;
    for (let i = from; i < from + DEPTH; i++) {
      if (this.owned.a[i] === 0) {
        this.owned.set(i, 2 * lock + mode + 1);
        return;
      }
      if (this.owned.a[i] === 2 * lock + 1) again = true;
    }
    // A reader's lock that leaks at each call is in the record already (lockdep gives up at MAX_LOCK_DEPTH).
    if (again && mode === 0) return;
    throw new Error(`agent ${this.agents.name(agent)} holds more than ${DEPTH} locks`);
  }

  /** A reader's lock may be given back by another agent than took it; then nobody's record is found here. */
  forget(lock: number, mode: number): void {
    const from = this.agents.current * (1 + DEPTH) + 1;
    for (let i = from + DEPTH - 1; i >= from; i--)
      if (this.owned.a[i] === 2 * lock + mode + 1) {
        this.owned.set(i, 0);
        return;
      }
  }

  /** lockdep: what the running agent holds, against what it asks for now. Not again while it waits in the queue. */
  check(lock: number, mode: number): void {
    const at = this.agents.current * (1 + DEPTH);
    if (this.owned.a[at] === lock + 1) return;
    for (let i = at + 1; i <= at + DEPTH; i++) {
      const h = this.owned.a[i] ?? 0;
      if (h === 0) continue;
      const other = (h - 1) >> 1;
      if (other === lock) this.report(mode === 0 && (h & 1) === 1 ? RECURSION : SELF_DEADLOCK, lock, other);
      else if (this.rank(lock) >= 0 && this.rank(other) > this.rank(lock)) this.report(INVERSION, lock, other);
    }
  }

  /** lockdep_assert_held: the running agent holds the lock. Asked while `tracking`. */
  assertHeld(lock: number): void {
    if (!this.tracking) return;
    const at = this.agents.current * (1 + DEPTH);
    for (let i = at + 1; i <= at + DEPTH; i++) if (((this.owned.a[i] ?? 0) + 1) >> 1 === lock + 1) return;
    this.report(NOT_HELD, lock, lock);
  }

  private report(kind: number, lock: number, other: number): void {
    this.bus.emit(lockdepReport, kind, this.nameId(lock), this.nameId(other));
  }

  /** What an agent holds, in the order of taking; empty unless `tracking`. */
  heldBy(agent: number): readonly HeldLock[] {
    const out: HeldLock[] = [];
    for (let i = agent * (1 + DEPTH) + 1; i < (agent + 1) * (1 + DEPTH); i++) {
      const h = this.owned.a[i] ?? 0;
      if (h !== 0) out.push({ lock: this.bus.nameOf(this.nameId((h - 1) >> 1)), mode: (h & 1) === 1 ? "read" : "write" });
    }
    return out;
  }
  /** The lock in whose queue an agent waits for writing, or undefined. */
  waitsFor(agent: number): string | undefined {
    const q = this.owned.a[agent * (1 + DEPTH)] ?? 0;
    return q === 0 ? undefined : this.bus.nameOf(this.names[q - 1]!);
  }
  /** Agents that hold a lock: the writer, or every reader; readers only while `tracking`. */
  ownersOf(lock: number): readonly number[] {
    const h = this.held.a[lock]!;
    if (h < 0) return [-1 - h];
    const out: number[] = [];
    for (let a = 0; a < this.agents.count; a++)
      for (let i = 1; i <= DEPTH; i++) if (this.owned.a[a * (1 + DEPTH) + i] === 2 * lock + 1) out.push(a);
    return out;
  }

  /** True if the running agent holds the lock for writing. */
  heldForWrite(lock: number): boolean {
    return this.held.a[lock] === -1 - this.agents.current;
  }
  /** True if anyone holds the lock for writing or waits for that: `read` would not succeed. */
  heldByWriter(lock: number): boolean {
    return this.held.a[lock]! < 0 || this.writers.a[lock] !== 0;
  }
  /** True if anyone holds it in any mode. */
  isHeld(lock: number): boolean {
    return this.held.a[lock] !== 0;
  }
}
