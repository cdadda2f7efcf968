/**
 * Reclaim of one page and its return (mm/vmscan.c shrink_folio_list, mm/rmap.c try_to_unmap_one,
 * mm/memory.c do_swap_page), and aging (folio_referenced, idle page tracking, multi-gen LRU).
 *
 * A page that is swapped out stays in the swap cache: its frame keeps the contents, its entry names it.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, ENOENT } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import { FRAME_ANON, FRAME_HUGETLB, FRAME_SWAPCACHE, type Frames } from "./frames.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import { LEVEL_SIZE, nextBoundary, type HostPageTables } from "./pagetable.js";
import { HI_UFFD_WP, MARKER_UFFD_WP, SWP_SWAP, swapEntryHi, swapEntryLo } from "./pte.js";
import type { PageLocks } from "./pagelock.js";
import type { Rmap } from "./rmap.js";

const MM = ARG;
const ADDR = ARG + 1;
const FORCE = ARG + 2;
const PFN = ARG + 3;
const CURSOR = ARG + 4;
const AT_MM = ARG + 5;
const AT = ARG + 6;
/** Whose page it is, as the reverse mapping asks for it. */
const FILE = ARG + 7;
const INDEX = ARG + 8;
/** 1: a mapping of it was used since the last time. */
const YOUNG = ARG + 9;

const AGED = 1;
const UNMAP_NEXT = 2;
const UNMAP_ONE = 3;
const RMAP_LOCK = 4;

/** Kinds of `ageRange`. */
export const AGE_CLEAR_FLUSH = 0;
export const AGE_CLEAR = 1;
export const AGE_TEST = 2;

// ageRange
const START = ARG + 1;
const END = ARG + 2;
const KIND = ARG + 3;
/** 1: the pages lie in one table, whose lock is held. */
const LOCKED = ARG + 4;

export class Reclaim {
  /**
   * (mm, addr, force 0|1) -> R0 0 | -errno. The page is tested for references (clear_flush_young) and, if
   * it is old or `force` is set, taken out of every address space (S, clear, E) to the swap cache or, a
   * file's page, to its file. -EAGAIN: young, or held; -ENOENT: nothing there; -EBUSY: not reclaimable.
   */
  readonly reclaimPage: Activity;
  /** (mm, start, end, AGE_*) -> R0 1 if any page, here or in a subscriber's tables, was young. Clears the marks unless testing. */
  readonly ageRange: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly notifiers: MmuNotifiers,
    private readonly rmap: Rmap,
    private readonly pages: PageLocks,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.reclaimPage = agents.activity("reclaimPage", "mm/vmscan.c shrink_folio_list", 10, [
      ["folioReferenced", (f) => this.referenced(f)],
      ["aged", (f) => this.aged(f)],
      ["unmapNext", (f) => this.unmapNext(f)],
      ["tryToUnmapOne", (f) => this.unmapOne(f)],
      ["rmapLock", (f) => this.lockRmap(f)],
    ]);
    this.ageRange = agents.activity("ageRange", "mm/rmap.c folio_referenced_one", 5, [
      ["age", (f) => this.age(f)],
      ["done", (f) => this.ageDone(f)],
    ]);
  }

  // ---- aging -----------------------------------------------------------------------------------

  /** page_vma_mapped_walk: subscribers are asked under the page-table lock. A range in several tables is asked as a whole, without. */
  private age(f: number): number {
    const { pt } = this;
    const { stack } = this.sim.agents;
    const s = stack.a;
    const start = s[f + START]!;
    if (pt.walk(s[f + MM]!, start) && !pt.special && pt.level >= 2 && s[f + END]! <= nextBoundary(start, pt.level - 1)) {
      if (!pt.locks.lock(pt.entry)) return BLOCKED;
      stack.set(f + LOCKED, 1);
    }
    const { clearFlushYoung, clearYoung, testYoung } = this.notifiers;
    const kind = s[f + KIND]!;
    const act = kind === AGE_TEST ? testYoung : kind === AGE_CLEAR && this.d.notifierClearYoung ? clearYoung : clearFlushYoung;
    return this.sim.agents.call(f, this.ageRange.first + 1, act, s[f + MM]!, s[f + START]!, s[f + END]!);
  }

  private ageDone(f: number): number {
    const { pt } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]!;
    let young = s[f + R0] !== 0;
    // What ptep_clear_flush_young_notify came back to: the entry, in a table that nobody has freed meanwhile.
    if (s[f + LOCKED] !== 0 && pt.walk(mm, s[f + START]!)) pt.locks.assertHeld(pt.entry);
    if (!pt.locks.mine && s[f + KIND] !== AGE_TEST && pt.contended(mm, s[f + START]!, s[f + END]!)) return BLOCKED;
    for (let a = s[f + START]!; a < s[f + END]!; a = nextBoundary(a, pt.level)) {
      if (!pt.walk(mm, a)) continue;
      if (s[f + KIND] === AGE_TEST) young = pt.young || young;
      else young = pt.testAndClearYoung(mm, a - (a % LEVEL_SIZE[pt.leafLevel as 1 | 2 | 3])) || young;
    }
    pt.locks.unlock();
    return this.sim.agents.ret(f, young ? 1 : 0);
  }

  // ---- reclaim ---------------------------------------------------------------------------------

  private referenced(f: number): number {
    const { pt, frames } = this;
    const { agents } = this.sim;
    const s = agents.stack;
    const mm = s.a[f + MM]!;
    frames.lru?.lruAddDrain(); // shrink_inactive_list
    const addr = s.a[f + ADDR]! - (s.a[f + ADDR]! % 4096);
    s.set(f + ADDR, addr);
    if (!pt.walk(mm, addr)) return agents.ret(f, -ENOENT);
    const pfn = pt.leafPfn;
    if (pt.special || frames.isReserved(pfn) || frames.isThp(pfn) || (frames.flags(pfn) & FRAME_HUGETLB) !== 0)
      return agents.ret(f, -EBUSY);
    if (!this.pages.tryLock(pfn)) return agents.ret(f, -EAGAIN);
    s.set(f + PFN, pfn);
    s.set(f + FILE, this.rmap.fileOf(pfn, mm, addr));
    s.set(f + INDEX, this.rmap.indexOf(mm, addr));
    s.set(f + CURSOR, 0);
    s.set(f + YOUNG, 0);
    return this.ageNext(f);
  }

  /** folio_referenced: every mapping is asked. */
  private ageNext(f: number): number {
    const { pt, rmap } = this;
    const { agents } = this.sim;
    const s = agents.stack;
    for (;;) {
      const cursor = rmap.next(s.a[f + PFN]!, s.a[f + FILE]!, s.a[f + INDEX]!, s.a[f + CURSOR]!);
      s.set(f + CURSOR, cursor);
      if (cursor === 0) return this.askedAll(f);
      if (!pt.walk(rmap.mm, rmap.addr) || pt.leafPfn !== s.a[f + PFN]) continue;
      return agents.call(f, this.reclaimPage.first + AGED, this.ageRange, rmap.mm, rmap.addr, rmap.addr + 4096, AGE_CLEAR_FLUSH);
    }
  }

  private aged(f: number): number {
    const s = this.sim.agents.stack;
    if (s.a[f + R0] !== 0) s.set(f + YOUNG, 1);
    return this.ageNext(f);
  }

  private askedAll(f: number): number {
    const { frames, rmap } = this;
    const { agents } = this.sim;
    const s = agents.stack;
    const pfn = s.a[f + PFN]!;
    const young = s.a[f + YOUNG] !== 0 && s.a[f + FORCE] === 0;
    const cached = s.a[f + FILE]! >= 0 ? 1 : rmap.swapEntries(pfn, s.a[f + INDEX]!);
    if (young || frames.refcount(pfn) !== frames.mapcount(pfn) + cached) {
      this.pages.unlock();
      return agents.ret(f, -EAGAIN);
    }
    s.set(f + CURSOR, 0);
    return this.lockRmap(f);
  }

  /** rmap_walk holds the lock over all mappings of the page. */
  private lockRmap(f: number): number {
    if (this.sim.locks.read(this.pages.rmapLock)) return this.unmapNext(f);
    const s = this.sim.agents.stack;
    return s.a[f] === this.reclaimPage.first + RMAP_LOCK ? BLOCKED : this.reclaimPage.first + RMAP_LOCK;
  }

  /** try_to_unmap: S, clear, E for each mapping (in v4.0 the subscribers are told after the fact). */
  private unmapNext(f: number): number {
    const { pt, rmap } = this;
    const s = this.sim.agents.stack;
    for (;;) {
      const cursor = rmap.next(s.a[f + PFN]!, s.a[f + FILE]!, s.a[f + INDEX]!, s.a[f + CURSOR]!);
      if (cursor === 0) {
        this.sim.locks.unlockRead(this.pages.rmapLock);
        this.pages.unlock();
        return this.sim.agents.ret(f, 0);
      }
      if (this.d.singlePageReclaim === "invalidatePage" && pt.contended(rmap.mm, rmap.addr, rmap.addr + 1))
        return s.a[f] === this.reclaimPage.first + UNMAP_NEXT ? BLOCKED : this.reclaimPage.first + UNMAP_NEXT;
      s.set(f + CURSOR, cursor);
      if (!pt.walk(rmap.mm, rmap.addr) || pt.leafPfn !== s.a[f + PFN]) continue;
      s.set(f + AT_MM, rmap.mm);
      s.set(f + AT, rmap.addr);
      if (this.d.singlePageReclaim === "invalidatePage") this.clearOne(f);
      return this.sim.agents.call(
        f,
        this.reclaimPage.first + UNMAP_ONE,
        this.notifiers.invalidateRangeStart,
        s.a[f + AT_MM]!,
        s.a[f + AT]!,
        s.a[f + AT]! + 4096,
        MMU_NOTIFY_CLEAR,
        1,
      );
    }
  }

  private unmapOne(f: number): number {
    const s = this.sim.agents.stack.a;
    if (this.pt.contended(s[f + AT_MM]!, s[f + AT]!, s[f + AT]! + 1)) return BLOCKED;
    if (this.d.singlePageReclaim === "range") this.clearOne(f);
    return this.sim.agents.call(
      f,
      this.reclaimPage.first + UNMAP_NEXT,
      this.notifiers.invalidateRangeEnd,
      s[f + AT_MM]!,
      s[f + AT]!,
      s[f + AT]! + 4096,
      MMU_NOTIFY_CLEAR,
      1,
    );
  }

  private clearOne(f: number): void {
    const { pt, frames } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + AT_MM]!;
    const addr = s[f + AT]!;
    const pfn = s[f + PFN]!;
    if (!pt.walk(mm, addr) || pt.leafPfn !== pfn) return;
    const { entry } = pt;
    if (pt.hwDirty) frames.setDirty(pfn);
    const uffdWp = pt.hi & HI_UFFD_WP;
    pt.clearFlush(mm, addr, 3, entry);
    if ((frames.flags(pfn) & FRAME_ANON) === 0) {
      // pte_install_uffd_wp_if_needed
      if (uffdWp !== 0) pt.setEntry(mm, addr, 3, entry, MARKER_UFFD_WP, HI_UFFD_WP);
      frames.dropMapping(pfn);
      return;
    }
    // The mapping's reference becomes the swap entry's.
    pt.setEntry(mm, addr, 3, entry, swapEntryLo(SWP_SWAP, pfn), swapEntryHi(pfn) | uffdWp);
    frames.setFlags(pfn, FRAME_SWAPCACHE);
    frames.removeRmap(pfn);
  }
}
