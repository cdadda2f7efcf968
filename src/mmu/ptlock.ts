/**
 * The locks of the page tables: each table of PTEs has its own (split page-table locks: struct ptdesc ptl, pte_lockptr),
 * and so has each table of PMDs (pmd_lockptr).
 *
 * What the kernel does under one without leaving it is one step: it takes and gives back the lock within. Who has to wait for
 * mmu_lock meanwhile (change_pte, aging: __mmu_notifier_* are called under the lock) holds it across steps, and who wants to
 * change an entry of that table waits. Lockless walkers (hardware, gup_fast, KVM's get_user_mapping_size) do not ask.
 *
 * An agent holds one across steps at most, and only while agents take turns. Taking one is no event of its own; having to wait is.
 */
import type { TablePages } from "../arch/tables.js";
import { FAMILY, lockContended } from "../sim/locks.js";
import { lockdepReport, NOT_HELD } from "../sim/lockdep.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

const WRITE = 1;

export class PageTableLocks {
  /** [0] locks that are held; [1 + agent] the table whose lock it holds + 1. A table: its number in the window. */
  private readonly held: I32Pool;

  constructor(
    private readonly sim: Sim,
    tables: TablePages,
  ) {
    sim.locks.declareFamily("page_table_lock", (table) => `page_table_lock 0x${tables.pageAddress(table).toString(16)}`);
    this.held = sim.state.i32("mm.ptlocks", 8);
  }

  /** True if any is held. */
  get any(): boolean {
    return this.held.a[0] !== 0;
  }

  /** True if the running agent holds one. */
  get mine(): boolean {
    return (this.held.a[1 + this.sim.agents.current] ?? 0) !== 0;
  }

  /** pte_offset_map_lock, pmd_lock: takes the lock of the table that an entry lies in. @returns false: another agent has it; return BLOCKED */
  lock(entry: number): boolean {
    const { agents, locks } = this.sim;
    if (!agents.interleaving) return true;
    const table = entry >>> 10;
    if (this.asked(table) >= 0) return this.contended(table);
    this.held.ensure(agents.current + 2);
    this.held.set(1 + agents.current, table + 1);
    this.held.set(0, this.held.a[0]! + 1);
    if (locks.tracking) locks.keep(FAMILY + table, WRITE);
    return true;
  }

  /** pte_unmap_unlock of what the running agent holds. */
  unlock(): void {
    const { agents, locks } = this.sim;
    const mine = this.held.a[1 + agents.current] ?? 0;
    if (mine === 0) return;
    this.held.set(1 + agents.current, 0);
    this.held.set(0, this.held.a[0]! - 1);
    if (locks.tracking) locks.forget(FAMILY + mine - 1, WRITE);
  }

  /** For an operation of one step: must it wait for the lock of the table that an entry lies in? Then return BLOCKED. */
  taken(entry: number): boolean {
    if (!this.sim.agents.interleaving) return false;
    return this.asked(entry >>> 10) >= 0 && !this.contended(entry >>> 10);
  }

  /** The agent that holds the lock of a table, -1 nobody or the running one. Order and recursion of locks are checked. */
  private asked(table: number): number {
    const { locks } = this.sim;
    if (locks.tracking) locks.check(FAMILY + table, WRITE);
    return this.owner(table);
  }

  /** The other agent that holds a table's lock, or -1. */
  private owner(table: number): number {
    const { a } = this.held;
    if (a[0] === 0) return -1;
    const me = this.sim.agents.current;
    for (let i = 1; i < a.length; i++) if (a[i] === table + 1 && i - 1 !== me) return i - 1;
    return -1;
  }

  private contended(table: number): false {
    this.sim.bus.emit(lockContended, this.sim.locks.nameId(FAMILY + table), WRITE);
    return false;
  }

  /** lockdep_assert_held: the running agent has kept the lock of the table that an entry lies in since a step before. */
  assertHeld(entry: number): void {
    const { agents, locks } = this.sim;
    if (!agents.interleaving || !locks.tracking || this.held.a[1 + agents.current] === (entry >>> 10) + 1) return;
    const name = locks.nameId(FAMILY + (entry >>> 10));
    this.sim.bus.emit(lockdepReport, NOT_HELD, name, name);
  }

  /** An entry changes, and another agent holds the lock of its table. */
  assertMine(entry: number): void {
    if (this.held.a[0] === 0 || this.owner(entry >>> 10) < 0) return;
    const name = this.sim.locks.nameId(FAMILY + (entry >>> 10));
    this.sim.bus.emit(lockdepReport, NOT_HELD, name, name);
  }
}
