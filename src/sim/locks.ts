/**
 * Locks of the modelled kernel as state: mmap_lock, mmu_lock, slots_lock, memory_lock …
 *
 * A phase takes a lock or returns BLOCKED and is run again. Spinlocks and mutexes are taken for
 * writing only. Taking a lock sets the waiter's clock to at least the time of the last release.
 */
import type { Agents } from "./agents.js";
import type { CostTable } from "./costs.js";
import { declareEvent, type EventBus } from "./events.js";
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

export class Locks {
  private readonly names: number[] = [];
  /** Per lock: number of readers, or -1 - agent while written. */
  private readonly held: I32Pool;
  private readonly releasedAt: F64Pool;

  constructor(
    state: StateRegistry,
    private readonly agents: Agents,
    private readonly bus: EventBus,
    private readonly costs: CostTable,
  ) {
    this.held = state.i32("locks.held", 16);
    this.releasedAt = state.f64("locks.releasedAt", 16);
  }

  /** Creates a lock. @returns its number. */
  create(name: string): number {
    const id = this.names.length;
    this.names.push(this.bus.name(name));
    this.held.ensure(id + 1);
    this.releasedAt.ensure(id + 1);
    return id;
  }

  /** Takes a lock for reading. @returns false if a writer holds it: return BLOCKED. */
  read(lock: number): boolean {
    const h = this.held.a[lock]!;
    if (h < 0) return this.contended(lock, 0);
    this.held.set(lock, h + 1);
    this.taken(lock, 0);
    return true;
  }

  /** Takes a lock for writing (also: spinlock, mutex). @returns false if anyone holds it. */
  write(lock: number): boolean {
    if (this.held.a[lock] !== 0) return this.contended(lock, 1);
    this.held.set(lock, -1 - this.agents.current);
    this.taken(lock, 1);
    return true;
  }

  private contended(lock: number, mode: number): boolean {
    this.bus.emit(lockContended, this.names[lock]!, mode);
    return false;
  }

  private taken(lock: number, mode: number): void {
    this.agents.waitUntil(this.releasedAt.a[lock]!);
    this.agents.charge(this.costs.lock);
    this.bus.emit(lockAcquired, this.names[lock]!, mode);
  }

  unlockRead(lock: number): void {
    const h = this.held.a[lock]!;
    if (h <= 0) throw new Error("read unlock of a lock that no reader holds");
    this.held.set(lock, h - 1);
    this.released(lock, 0);
  }

  unlockWrite(lock: number): void {
    if (this.held.a[lock] !== -1 - this.agents.current) throw new Error("write unlock of a lock that this agent does not hold");
    this.held.set(lock, 0);
    this.released(lock, 1);
  }

  private released(lock: number, mode: number): void {
    this.releasedAt.set(lock, this.agents.now);
    this.bus.emit(lockReleased, this.names[lock]!, mode);
  }

  /** True if the running agent holds the lock for writing. */
  heldForWrite(lock: number): boolean {
    return this.held.a[lock] === -1 - this.agents.current;
  }
  /** True if anyone holds the lock for writing: `read` would not succeed. */
  heldByWriter(lock: number): boolean {
    return this.held.a[lock]! < 0;
  }
  /** True if anyone holds it in any mode. */
  isHeld(lock: number): boolean {
    return this.held.a[lock] !== 0;
  }
}
