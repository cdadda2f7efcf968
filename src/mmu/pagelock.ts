/**
 * The page lock (folio_lock, folio_trylock; include/linux/pagemap.h), and the lock of the reverse mapping
 * (anon_vma->rwsem, i_mmap_rwsem; here one of each address space's root).
 *
 * Who moves a page holds both: the page lock keeps two of them from the same page, the other one keeps walks of
 * the reverse mapping from tables that collapse has taken out of the tree. An agent holds one page lock at a time.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

export class PageLocks {
  /** Per agent: the frame that it has locked + 1. */
  private readonly locked: I32Pool;
  /** anon_vma->rwsem: every address space that shares pages by fork shares its root. */
  readonly rmapLock: number;

  constructor(private readonly sim: Sim) {
    this.locked = sim.state.i32("mm.pageLocks", 4);
    this.rmapLock = sim.locks.create("anon_vma_lock");
  }

  /** True if an agent other than the running one has locked the frame (the head of a compound page). */
  lockedByOther(head: number): boolean {
    const { a } = this.locked;
    for (let i = 0; i < a.length; i++) if (a[i] === head + 1 && i !== this.sim.agents.current) return true;
    return false;
  }

  /** folio_trylock. @returns false if another agent has it */
  tryLock(head: number): boolean {
    if (this.lockedByOther(head)) return false;
    this.locked.ensure(this.sim.agents.current + 1);
    this.locked.set(this.sim.agents.current, head + 1);
    return true;
  }

  /** folio_unlock of what the running agent has locked. */
  unlock(): void {
    if (this.locked.a[this.sim.agents.current] !== undefined) this.locked.set(this.sim.agents.current, 0);
  }
}
