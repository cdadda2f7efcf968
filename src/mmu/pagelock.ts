/**
 * The page lock (folio_lock, folio_trylock; include/linux/pagemap.h), and the lock of the reverse mapping
 * (anon_vma->rwsem, i_mmap_rwsem; here one of each address space's root).
 *
 * Who moves a page holds both: the page lock keeps two of them from the same page, the other one keeps walks of
 * the reverse mapping from tables that collapse has taken out of the tree. An agent holds one page lock at a time, or those of
 * all pages of one block of a file (collapse_file, collapse_pte_mapped_thp): faults there wait (__folio_lock_or_retry).
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

export class PageLocks {
  /** Per agent: the frame that it has locked + 1. */
  private readonly locked: I32Pool;
  /** [0] blocks of files that are locked; per agent two words: file + 1, number of the 2 MiB in it. */
  private readonly blocks: I32Pool;
  /** anon_vma->rwsem: every address space that shares pages by fork shares its root. */
  readonly rmapLock: number;

  constructor(private readonly sim: Sim) {
    this.locked = sim.state.i32("mm.pageLocks", 4);
    this.blocks = sim.state.i32("mm.fileBlockLocks", 9);
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

  /** True if another agent holds the locks of the pages of a file's block. @param pgoff of any page in it */
  blockLockedByOther(file: number, pgoff: number): boolean {
    return this.blocks.a[0] !== 0 && this.otherHasBlock(file, pgoff);
  }
  private otherHasBlock(file: number, pgoff: number): boolean {
    const { a } = this.blocks;
    const block = Math.floor(pgoff / 512);
    const mine = 1 + 2 * this.sim.agents.current;
    for (let i = 1; i < a.length; i += 2) if (i !== mine && a[i] === file + 1 && a[i + 1] === block) return true;
    return false;
  }

  /** True if another agent has locked the pages of any block of [from, to), page offsets of a file. */
  rangeLockedByOther(file: number, from: number, to: number): boolean {
    const { a } = this.blocks;
    if (a[0] === 0) return false;
    const mine = 1 + 2 * this.sim.agents.current;
    for (let i = 1; i < a.length; i += 2)
      if (i !== mine && a[i] === file + 1 && a[i + 1]! * 512 < to && (a[i + 1]! + 1) * 512 > from) return true;
    return false;
  }

  /** folio_trylock of every page of a file's block. @returns false if another agent has them */
  tryLockBlock(file: number, pgoff: number): boolean {
    if (this.blockLockedByOther(file, pgoff)) return false;
    const { blocks } = this;
    const at = 1 + 2 * this.sim.agents.current;
    blocks.ensure(at + 2);
    blocks.set(0, blocks.a[0]! + 1);
    blocks.set2(at, file + 1, Math.floor(pgoff / 512));
    return true;
  }

  /** folio_unlock of the block that the running agent has locked. */
  unlockBlock(): void {
    const at = 1 + 2 * this.sim.agents.current;
    this.blocks.set(0, this.blocks.a[0]! - 1);
    this.blocks.set2(at, 0, 0);
  }

  /** folio_unlock of what the running agent has locked. */
  unlock(): void {
    if (this.locked.a[this.sim.agents.current] !== undefined) this.locked.set(this.sim.agents.current, 0);
  }
}
