/**
 * MADV_FREE, MADV_COLD and MADV_PAGEOUT of the pages of one VMA (mm/madvise.c madvise_free_pte_range,
 * madvise_cold_or_pageout_pte_range, mm/huge_memory.c madvise_free_huge_pmd). A huge page that only this process maps is split
 * where the advice is for a part of it.
 *
 * No page is taken away: memory is never short for MADV_FREE, and there is no swap for MADV_PAGEOUT. A page that could not be
 * written to it is made an active one again, a huge page is split for the attempt (mm/vmscan.c shrink_folio_list).
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import type { MmContext } from "./context.js";
import { FRAME_DIRTY, FRAME_LAZYFREE, FRAME_SWAPCACHE } from "./frames.js";
import { LEVEL_SIZE, nextBoundary } from "./pagetable.js";
import { HI_DIRTY, HI_UFFD_WP, namesPoison, PTE_AF, PTE_RDONLY } from "./pte.js";
import { AGE_CLEAR_FLUSH } from "./reclaim.js";
import { mappedOnlyHere, type Rmap } from "./rmap.js";

/** What the pages are to become. */
export const TO_FREE = 0;
export const TO_COLD = 1;
export const TO_PAGEOUT = 2;

const MM = ARG;
const START = ARG + 1;
const END = ARG + 2;
const ADVICE = ARG + 3;
/** Up to here the range is done. */
const AT = ARG + 4;
/** Of a split or of reclaim: where the walk goes on if the page is not split. */
const AFTER = ARG + 5;

const P_WALK = 0;
const P_SPLIT = 1;
const P_REFERENCED = 2;
const P_RECLAIMED = 3;

export class MadvisePages {
  /** (mm, start, end, TO_*). The caller holds the mmap_lock, and has announced the range of MADV_FREE. */
  readonly activity: Activity;

  /** @param ageRange Reclaim.ageRange */
  constructor(
    private readonly mm: MmContext,
    private readonly rmap: Rmap,
    private readonly ageRange: Activity,
  ) {
    this.activity = mm.sim.agents.activity("madvisePages", "mm/madvise.c madvise_cold_or_pageout_pte_range", 6, [
      ["walk", (f) => this.begin(f)],
      ["split", (f) => this.split(f)],
      ["referenced", (f) => this.referenced(f)],
      ["reclaimed", (f) => this.reclaimed(f)],
    ]);
  }

  private begin(f: number): number {
    const s = this.mm.sim.agents.stack;
    if (s.a[f + AT]! < s.a[f + START]!) s.set(f + AT, s.a[f + START]!);
    return this.walk(f);
  }

  /** walk_page_range, from AT on. */
  private walk(f: number): number {
    const { sim, pt } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    const end = s.a[f + END]!;
    for (let a = s.a[f + AT]!; a < end; a = s.a[f + AT]!) {
      const walking = this.activity.first + P_WALK;
      if (pt.contended(mm, a, a + 1)) return s.a[f] === walking ? BLOCKED : walking;
      const mapped = pt.walk(mm, a);
      const next = mapped && !pt.special ? this.visit(f, mm, a, end) : 0;
      if (next !== 0) return next;
      if (!mapped) this.freePoison(f, mm, a);
      // visit has left the walk at the entry of a, or moved AT itself.
      if (s.a[f + AT] === a) s.set(f + AT, Math.min(end, nextBoundary(a, pt.level)));
    }
    pt.tlb.flushRange(mm, s.a[f + START]!, end);
    return sim.agents.ret(f, 0);
  }

  /** What a broken page left goes, of the entry that the last walk found. */
  private freePoison(f: number, mm: number, a: number): void {
    const { pt, d } = this.mm;
    if (this.advice(f) === TO_FREE && d.madviseFreePoison && pt.level === 3 && namesPoison(pt.lo, pt.hi))
      pt.setEntry(mm, a, 3, pt.entry, 0, 0);
  }

  /** One leaf, which the last walk found. @returns 0 to go on with the entry behind it, or a phase */
  private visit(f: number, mm: number, a: number, end: number): number {
    const { pt, frames } = this.mm;
    const pfn = pt.leafPfn;
    if (frames.isReserved(pfn)) return 0;
    const size = LEVEL_SIZE[pt.leafLevel as 1 | 2 | 3];
    if (!frames.isThp(pfn)) {
      this.age(f, mm, a - (a % size), pfn, 1);
      return 0;
    }
    const small = pt.leafLevel === 3;
    const whole = small ? this.batch(mm, a, end) : (Math.min(end, nextBoundary(a, 2)) - a) / 4096;
    // Since whole pages are left whole, the walk goes on behind the entries that belong together; before, in the next table.
    const after = Math.min(end, small && this.mm.d.madviseWholeHuge === "kept" ? a + whole * 4096 : nextBoundary(a, 2));
    pt.walk(mm, a);
    if (whole < 512 || (small && this.mm.d.madviseWholeHuge === "split")) {
      if (this.shared(f, mm, a)) return this.skip(f, after);
      return this.splitAt(f, P_SPLIT, a, after);
    }
    if (!small && this.shared(f, mm, a)) return this.skip(f, after);
    if (small && this.advice(f) !== TO_FREE && frames.mapcount(pfn) !== 512) return this.skip(f, after);
    this.age(f, mm, a, pfn, small ? 512 : 1);
    if (this.advice(f) !== TO_PAGEOUT) return this.skip(f, after);
    return this.reclaim(f, mm, a, after);
  }

  private advice(f: number): number {
    return this.mm.sim.agents.stack.a[f + ADVICE]!;
  }

  private skip(f: number, to: number): number {
    this.mm.sim.agents.stack.set(f + AT, to);
    return 0;
  }

  /** folio_pte_batch: how many entries from `a` on map pages of one huge page that follow each other, and are the same but for what was accessed or may be written: contiguous all of them, or none. */
  private batch(mm: number, a: number, end: number): number {
    const { pt } = this.mm;
    const stop = Math.min(end, nextBoundary(a, 2));
    pt.walk(mm, a);
    const first = pt.leafPfn;
    const marks = pt.hi & HI_UFFD_WP;
    const most = (stop - a) / 4096;
    const { frames } = this.mm;
    const head = frames.head(first);
    const folded = frames.isFolded(first);
    for (let n = 1; n < most; n++) {
      const next = first + n < head + 512 && pt.walk(mm, a + n * 4096) && pt.leafPfn === first + n;
      if (!next || (pt.hi & HI_UFFD_WP) !== marks || frames.isFolded(first + n) !== folded) return n;
    }
    return most;
  }

  /** Is the huge page of the leaf at `a` taken for one that other processes map too? */
  private shared(f: number, mm: number, a: number): boolean {
    const { d, frames, pt } = this.mm;
    const { rmap } = this;
    const pfn = pt.leafPfn;
    const head = frames.head(pfn);
    const small = pt.leafLevel === 3;
    const mapped = frames.mapcount(pfn);
    const file = rmap.fileOf(pfn, mm, a);
    const index = rmap.indexOf(mm, a);
    const first = index - (pfn - head);
    switch (this.advice(f) === TO_FREE ? d.madviseFreeShared : d.madviseColdShared) {
      case "page":
        return rmap.entriesOf(small ? pfn : head, file, small ? index : first) !== 1;
      case "folio":
        return mapped !== 1;
      case "first":
        return rmap.entriesOf(head, file, first) !== 1;
      case "likely":
        if (mapped <= 1) return false;
        return !small || mapped > 512 || rmap.entriesOf(head, file, first) > 1;
      default:
        return mapped > 1 && (!small || !mappedOnlyHere(pt, frames, mm, a));
    }
  }

  private splitAt(f: number, resume: number, a: number, after: number): number {
    const { sim, huge } = this.mm;
    const s = sim.agents.stack;
    s.set(f + AT, a);
    s.set(f + AFTER, after);
    return sim.agents.call(f, this.activity.first + resume, huge.splitHugePage, s.a[f + MM]!, a);
  }

  /** Its pages are looked at one by one now; one that was not split stays as it is. */
  private split(f: number): number {
    const s = this.mm.sim.agents.stack;
    if (s.a[f + R0]! < 0) s.set(f + AT, s.a[f + AFTER]!);
    return this.walk(f);
  }

  /** The leaf of the last walk, and of `entries` small ones from it on: they become old (and clean), and their page changes its list. */
  private age(f: number, mm: number, a: number, pfn: number, entries: number): void {
    const { frames, d, pt } = this.mm;
    const advice = this.advice(f);
    if (advice === TO_FREE) {
      if (!this.freeable(pfn, entries)) return;
      frames.lru?.markPageLazyfree(frames.head(pfn));
      return this.clean(mm, a, entries, PTE_RDONLY, HI_DIRTY);
    }
    if (entries === 1 && pt.leafLevel === 3 && frames.mapcount(pfn) !== 1) return;
    if (advice === TO_PAGEOUT) {
      if (!frames.isCompound(pfn) && (frames.flags(pfn) & FRAME_LAZYFREE) === 0) frames.lru?.putBack(pfn);
      if (d.pageoutReferences === "ignored") return;
    } else frames.lru?.deactivatePage(frames.head(pfn));
    this.clean(mm, a, entries, 0, 0);
  }

  private clean(mm: number, a: number, entries: number, lo: number, hi: number): void {
    const { pt } = this.mm;
    for (let i = 0; i < entries; i++) {
      pt.walk(mm, a + i * 4096);
      pt.setEntry(mm, a + i * 4096, pt.leafLevel, pt.entry, (pt.lo & ~PTE_AF) | lo, pt.hi & ~hi);
    }
  }

  /** A page that is dirty or was swapped out once must be this mapping's alone; it is clean and out of the swap cache then. */
  private freeable(pfn: number, entries: number): boolean {
    const { frames } = this.mm;
    const flags = frames.flags(pfn) & (FRAME_DIRTY | FRAME_SWAPCACHE);
    if (flags === 0) return true;
    if (
      (frames.isThp(pfn) && entries === 1 ? 1 : frames.mapcount(pfn)) !== entries ||
      ((flags & FRAME_SWAPCACHE) !== 0 && frames.refcount(pfn) !== 1)
    )
      return false;
    frames.clearFlags(pfn, flags);
    return true;
  }

  /** reclaim_pages of a huge page: was it used since the last time (folio_check_references)? Then it stays. */
  private reclaim(f: number, mm: number, a: number, after: number): number {
    const { sim, d } = this.mm;
    if (d.pageoutReferences === "ignored") return this.splitAt(f, P_RECLAIMED, a, after);
    const s = sim.agents.stack;
    s.set(f + AT, a);
    s.set(f + AFTER, after);
    return sim.agents.call(f, this.activity.first + P_REFERENCED, this.ageRange, mm, a, nextBoundary(a, 2), AGE_CLEAR_FLUSH);
  }

  private referenced(f: number): number {
    const s = this.mm.sim.agents.stack.a;
    if (s[f + R0] === 0) return this.splitAt(f, P_RECLAIMED, s[f + AT]!, s[f + AFTER]!);
    this.skip(f, s[f + AFTER]!);
    return this.walk(f);
  }

  private reclaimed(f: number): number {
    this.skip(f, this.mm.sim.agents.stack.a[f + AFTER]!);
    return this.walk(f);
  }
}
