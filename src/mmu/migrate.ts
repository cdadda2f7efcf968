/**
 * Migration of a page to another frame (mm/migrate.c migrate_pages; compaction, NUMA balancing,
 * move_pages). While it moves, migration entries stand in the tables and faults on them wait.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, ENOENT, ENOMEM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import {
  FRAME_ANON,
  FRAME_DIRTY,
  FRAME_EXCLUSIVE,
  FRAME_FILE,
  FRAME_HUGETLB,
  FRAME_KSM,
  FRAME_LAZYFREE,
  FRAME_SWAPCACHE,
  ORDER_PAGE,
  ORDER_PMD,
  type Frames,
} from "./frames.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import { pmdStart, type HostPageTables } from "./pagetable.js";
import { descPfn, HI_UFFD_WP, SWP_SWAP, swapEntryHi, swapEntryLo } from "./pte.js";
import type { PageLocks } from "./pagelock.js";
import type { MigrationEntries } from "./migrationentries.js";
import type { Rmap } from "./rmap.js";

const MM = ARG;
const ADDR = ARG + 1;
const OLD = ARG + 2;
const NEW = ARG + 3;
const CURSOR = ARG + 4;
/** The mapping that is announced now, and its leaf level. */
const AT_MM = ARG + 5;
const AT = ARG + 6;
const LEVEL = ARG + 7;
/** Whose page it is, as the reverse mapping asks for it. */
const FILE = ARG + 8;
const INDEX = ARG + 9;

const UNMAP_NEXT = 1;
const UNMAP_ONE = 2;
const MOVE = 3;
const RMAP_LOCK = 4;

export class Migrate {
  /**
   * (mm, addr) -> R0 0 | -errno: the page behind addr moves to a new frame. -ENOENT: nothing there;
   * -EBUSY: a page that cannot move (zero page, PFN mapping, hugetlb); -EAGAIN: somebody holds a reference.
   */
  readonly migratePage: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly notifiers: MmuNotifiers,
    private readonly rmap: Rmap,
    private readonly entries: MigrationEntries,
    private readonly pages: PageLocks,
    private readonly d: MmRow,
  ) {
    this.migratePage = sim.agents.activity("migratePages", "mm/migrate.c unmap_and_move", 10, [
      ["isolate", (f) => this.isolate(f)],
      ["unmapNext", (f) => this.unmapNext(f)],
      ["tryToMigrateOne", (f) => this.unmapOne(f)],
      ["moveToNewPage", (f) => this.move(f)],
      ["rmapLock", (f) => this.lockRmap(f)],
    ]);
  }

  private isolate(f: number): number {
    const { pt, frames } = this;
    const { agents } = this.sim;
    const s = agents.stack;
    frames.lru?.lruAddDrainAll(); // migrate_prep
    if (!pt.walk(s.a[f + MM]!, s.a[f + ADDR]!)) return agents.ret(f, -ENOENT);
    const pfn = pt.leafPfn;
    if (pt.special || frames.isReserved(pfn) || (frames.flags(pfn) & FRAME_HUGETLB) !== 0) return agents.ret(f, -EBUSY);
    const huge = pt.leafLevel === 2;
    // split_huge_page first; a file's huge page is not moved at all.
    if (frames.isThp(pfn) && (!huge || (frames.flags(pfn) & FRAME_FILE) !== 0)) return agents.ret(f, -EBUSY);
    const old = frames.head(pfn);
    if (!this.pages.tryLock(old)) return agents.ret(f, -EAGAIN);
    const to = frames.alloc(huge ? ORDER_PMD : ORDER_PAGE);
    if (to < 0) {
      this.pages.unlock();
      return agents.ret(f, -ENOMEM);
    }
    frames.get(old);
    s.set(f + OLD, old);
    s.set(f + NEW, to);
    s.set(f + LEVEL, pt.leafLevel);
    if (huge) s.set(f + ADDR, pmdStart(s.a[f + ADDR]!));
    s.set(f + CURSOR, 0);
    s.set(f + FILE, this.rmap.fileOf(old, s.a[f + MM]!, s.a[f + ADDR]!));
    s.set(f + INDEX, this.rmap.indexOf(s.a[f + MM]!, s.a[f + ADDR]!));
    return this.lockRmap(f);
  }

  /** rmap_walk holds the lock over all mappings of the page. */
  private lockRmap(f: number): number {
    return this.sim.locks.read(this.pages.rmapLock) ? this.unmapNext(f) : this.wait(f);
  }
  private wait(f: number): number {
    const s = this.sim.agents.stack;
    if (s.a[f] === this.migratePage.first + RMAP_LOCK) return BLOCKED;
    return this.migratePage.first + RMAP_LOCK;
  }

  private size(f: number): number {
    return this.sim.agents.stack.a[f + LEVEL] === 2 ? 0x200000 : 4096;
  }

  /** try_to_migrate: for each mapping S, a migration entry, E (in v4.0 the subscribers are told after the fact). */
  private unmapNext(f: number): number {
    const { pt, rmap } = this;
    const s = this.sim.agents.stack;
    for (;;) {
      const cursor = rmap.next(s.a[f + OLD]!, s.a[f + FILE]!, s.a[f + INDEX]!, s.a[f + CURSOR]!);
      if (cursor === 0) {
        this.sim.locks.unlockRead(this.pages.rmapLock);
        return this.migratePage.first + MOVE;
      }
      if (this.d.singlePageReclaim === "invalidatePage" && pt.contended(rmap.mm, rmap.addr, rmap.addr + 1))
        return s.a[f] === this.migratePage.first + UNMAP_NEXT ? BLOCKED : this.migratePage.first + UNMAP_NEXT;
      s.set(f + CURSOR, cursor);
      if (!pt.walk(rmap.mm, rmap.addr) || pt.leafPfn !== s.a[f + OLD]) continue;
      s.set(f + AT_MM, rmap.mm);
      s.set(f + AT, rmap.addr);
      if (this.d.singlePageReclaim === "invalidatePage") this.putMigrationEntry(f);
      const start = rmap.addr;
      return this.sim.agents.call(
        f,
        this.migratePage.first + UNMAP_ONE,
        this.notifiers.invalidateRangeStart,
        rmap.mm,
        start,
        start + this.size(f),
        MMU_NOTIFY_CLEAR,
        1,
      );
    }
  }

  private unmapOne(f: number): number {
    const s = this.sim.agents.stack.a;
    if (this.pt.contended(s[f + AT_MM]!, s[f + AT]!, s[f + AT]! + 1)) return BLOCKED;
    if (this.d.singlePageReclaim === "range") this.putMigrationEntry(f);
    const start = s[f + AT]!;
    return this.sim.agents.call(
      f,
      this.migratePage.first + UNMAP_NEXT,
      this.notifiers.invalidateRangeEnd,
      s[f + AT_MM]!,
      start,
      start + this.size(f),
      MMU_NOTIFY_CLEAR,
      1,
    );
  }

  private putMigrationEntry(f: number): void {
    const { pt } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + AT_MM]!;
    const addr = s[f + AT]!;
    const old = s[f + OLD]!;
    if (!pt.walk(mm, addr) || descPfn(pt.lo, pt.hi) !== old) return;
    this.entries.put(mm, addr);
  }

  /** move_to_new_folio, then remove_migration_ptes: the new entries tell nobody. */
  private move(f: number): number {
    const { frames, rmap } = this;
    const { agents } = this.sim;
    const s = agents.stack.a;
    const old = s[f + OLD]!;
    const to = s[f + NEW]!;
    const order = s[f + LEVEL] === 2 ? ORDER_PMD : ORDER_PAGE;
    const file = s[f + FILE]!;
    const index = s[f + INDEX]!;
    for (let c = rmap.next(old, file, index, 0); c !== 0; c = rmap.next(old, file, index, c))
      if (this.pt.contended(rmap.mm, rmap.addr, rmap.addr + 1)) return BLOCKED;
    if (!this.sim.locks.read(this.pages.rmapLock)) return BLOCKED;
    // Ours, and the page cache's or the swap entries'.
    const expected = file >= 0 ? 2 : 1 + rmap.swapEntries(old, index);
    const pinned = frames.refcount(old) !== expected;
    if (!pinned) {
      frames.copy(to, old, order);
      frames.setFlags(
        to,
        frames.flags(old) & (FRAME_ANON | FRAME_FILE | FRAME_DIRTY | FRAME_EXCLUSIVE | FRAME_KSM | FRAME_LAZYFREE | FRAME_SWAPCACHE),
      );
    }
    if (!pinned) frames.accessed?.moved(to, old);
    const goal = pinned ? old : to;
    for (let c = rmap.next(old, file, index, 0); c !== 0; c = rmap.next(old, file, index, c)) {
      this.removeEntry(rmap.mm, rmap.addr, old, goal);
    }
    if (!pinned) rmap.replaceCached(file, index, old, to);
    this.sim.locks.unlockRead(this.pages.rmapLock);
    this.pages.unlock();
    frames.put(old);
    if (!pinned && this.d.movedPageLru === "batch") frames.lru?.lruCacheAdd(to);
    frames.put(to);
    return agents.ret(f, pinned ? -EAGAIN : 0);
  }

  private moveSwapEntry(mm: number, addr: number, old: number, goal: number): void {
    const { pt, frames } = this;
    pt.setEntry(mm, addr, 3, pt.entry, swapEntryLo(SWP_SWAP, goal), swapEntryHi(goal) | (pt.hi & HI_UFFD_WP));
    frames.get(goal);
    frames.put(old);
  }

  /** remove_migration_pte. The swap cache has the page's new frame (folio_migrate_mapping): so do the entries that lead to it. */
  private removeEntry(mm: number, addr: number, old: number, goal: number): void {
    this.pt.walk(mm, addr);
    if (!this.rmap.namesSwapped(old)) this.entries.remove(mm, addr, old, goal);
    else if (goal !== old) this.moveSwapEntry(mm, addr, old, goal);
  }
}
