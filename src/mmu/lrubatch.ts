/**
 * The pages on their way to an LRU list (mm/swap.c lru_pvecs, cpu_fbatches): each CPU has batches of fifteen pages or so, and a batch
 * has a reference to each of its pages. Since v5.9 a write fault counts that one too (do_wp_page), and copies a page that nobody
 * else has. Nothing else of the model asks: who needs a page's references to be those of its mappings (migration, KSM, collapse)
 * empties the batches first. So they are not counted with the frame's others, and keep no frame from being freed: what uses it
 * afterwards is found at once.
 *
 * Up to v5.17 it counts without another question. Since v5.18 it first empties the CPU's own batches if the page is on no list
 * (wp_can_reuse_anon_folio): a fresh page is not yet, one that is to change lists may still be.
 */
import type { MmRow } from "./decisions.js";
import { FRAME_ANON, FRAME_LAZYFREE, FRAME_SWAPCACHE, type Frames } from "./frames.js";
import { ACTIVE, PageActivity, REFERENCED } from "./pageactivity.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

/** A batch's words: how many pages, then pfn + 1 of each. PAGEVEC_SIZE is 31 at most. */
const WORDS = 32;
/** The batches of a CPU, in the order in which they are emptied. */
const ADD = 0;
const DEACTIVATE = WORDS;
const LAZYFREE = 2 * WORDS;
const ACTIVATE = 3 * WORDS;
const CPU_WORDS = 4 * WORDS;

/** Pages in batches are counted by the low bits of their numbers: one whose count is 0 is in none, which every free asks. */
const COUNTS = 1024;

export class LruBatches {
  private readonly w: I32Pool;
  private readonly counts: I32Pool;
  /** Are fresh pages followed: never, always, or while another batch of the CPU has pages? */
  private readonly add: "never" | "always" | "beside-others";
  private readonly offLru: boolean;
  /** Followed where a write fault counts references and nothing else: later it matters for pages only that were shared once. */
  readonly activity: PageActivity | undefined;

  /** @param cpus how many CPUs there are */
  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly d: MmRow,
    cpus: number,
  ) {
    this.w = sim.state.i32("mm.lruBatches", CPU_WORDS);
    this.counts = sim.state.i32("mm.lruBatchCounts", COUNTS);
    this.offLru = d.lazyfreeBatch === "off-lru";
    this.add = d.cowReuse === "mapcount" ? "never" : d.cowReuse === "refcount" || cpus > 1 ? "always" : "beside-others";
    if (d.cowReuse === "refcount") this.activity = new PageActivity(sim, frames.basePfn);
  }

  // ---- what puts a page into a batch ---------------------------------------------------------------

  /**
   * A fresh page, not of hugetlb. Up to v5.8 no write fault asks for its reference; since v5.18 one does on another CPU only: on the
   * same one it is given back first, and what else that does is to empty the other batches.
   */
  lruCacheAdd(pfn: number): void {
    if (!this.frames.isCompound(pfn)) this.lruCacheAddSmall(pfn);
    else if (this.followsFresh()) this.put(ADD, pfn);
  }
  /** The same for a page that is known not to be compound. */
  lruCacheAddSmall(pfn: number): void {
    if (!this.followsFresh()) return;
    const { w } = this;
    const at = Math.imul(this.sim.agents.cpu, CPU_WORDS);
    w.ensure((at + CPU_WORDS) | 0);
    const n = (w.a[at]! + 1) | 0;
    if (n === this.d.lruBatchPages) return this.emptyFresh(at);
    w.set((at + n) | 0, pfn + 1);
    w.set(at, n);
    this.countIn(pfn, 1);
  }
  private followsFresh(): boolean {
    return this.add === "always" || (this.add !== "never" && this.others() !== 0);
  }
  private countIn(pfn: number, n: number): void {
    const i = pfn & (COUNTS - 1);
    this.counts.set(i, (this.counts.a[i]! + n) | 0);
  }

  /** Pages in the running CPU's batches, fresh ones not counted. */
  private others(): number {
    const cpu = Math.imul(this.sim.agents.cpu, CPU_WORDS);
    return cpu < this.w.needed ? this.w.a[cpu + DEACTIVATE]! | this.w.a[cpu + LAZYFREE]! : 0;
  }

  /** A page of MADV_FREE, on a list, and not to be freed first already (PageSwapBacked). */
  markPageLazyfree(pfn: number): void {
    if ((this.frames.flags(pfn) & (FRAME_ANON | FRAME_LAZYFREE | FRAME_SWAPCACHE)) === FRAME_ANON && this.onLru(pfn))
      this.put(LAZYFREE, pfn);
  }

  /** A page of MADV_COLD: it leaves the active list; with generations it goes to the oldest one, wherever it is. */
  deactivatePage(pfn: number): void {
    const active = this.activityOf(pfn) & ACTIVE;
    this.activity?.set(pfn, active);
    if ((active !== 0 || this.d.lruGen) && this.onLru(pfn)) this.put(DEACTIVATE, pfn);
  }

  /** A page of MADV_PAGEOUT that there is no swap for: taken off its list (isolate_lru_page), it comes back as an active one (putback_lru_page). */
  putBack(pfn: number): void {
    if (!this.onLru(pfn)) return;
    this.activity?.set(pfn, ACTIVE);
    this.lruCacheAdd(pfn);
  }

  /** mark_page_accessed: the second time a page becomes an active one. */
  markPageAccessed(pfn: number): void {
    if (this.activity === undefined || this.frames.isReserved(pfn)) return;
    pfn = this.frames.head(pfn);
    const is = this.activity.of(pfn);
    if ((is & REFERENCED) === 0) this.activity.set(pfn, is | REFERENCED);
    else if ((is & ACTIVE) === 0) {
      this.activity.set(pfn, this.freshHere(pfn) ? ACTIVE : 0);
      if (this.onLru(pfn)) this.put(ACTIVATE, pfn);
    }
  }

  /** SetPageReferenced of lockless GUP. */
  setPageReferenced(pfn: number): void {
    if (this.activity === undefined || this.frames.isReserved(pfn)) return;
    pfn = this.frames.head(pfn);
    this.activity.set(pfn, this.activity.of(pfn) | REFERENCED);
  }

  private activityOf(pfn: number): number {
    return this.activity === undefined ? 0 : this.activity.of(pfn);
  }

  /** A page is given back to the allocator. */
  freed(pfn: number): void {
    this.activity?.set(pfn, 0);
    if (this.counts.a[pfn & (COUNTS - 1)] !== 0) this.forgetAll(pfn);
  }
  private forgetAll(pfn: number): void {
    for (let at = 0; at < this.w.needed; at += WORDS) if (this.w.a[at] !== 0) this.forget(at, pfn);
  }

  private forget(at: number, pfn: number): void {
    const { w } = this;
    let n = w.a[at]!;
    for (let i = at + n; i > at; i--) {
      if (w.a[i] !== pfn + 1) continue;
      for (let j = i; j < at + n; j++) w.set(j, w.a[j + 1]!);
      w.set(at + n--, 0);
      this.countIn(pfn, -1);
    }
    if (n !== w.a[at]) w.set(at, n);
  }

  /** migrate_page_states. */
  moved(to: number, from: number): void {
    this.activity?.set(to, this.activity.of(from));
  }

  /** __lru_cache_activate_page: is it among the running CPU's fresh pages? */
  private freshHere(pfn: number): boolean {
    const at = Math.imul(this.sim.agents.cpu, CPU_WORDS) + ADD;
    if (at < this.w.needed) for (let i = at + this.w.a[at]!; i > at; i--) if (this.w.a[i] === pfn + 1) return true;
    return false;
  }

  /** pagevec_add. A full batch is emptied, and so is that of a compound page. */
  private put(batch: number, pfn: number): void {
    const cpu = Math.imul(this.sim.agents.cpu, CPU_WORDS);
    this.w.ensure(cpu + CPU_WORDS);
    const at = cpu + batch;
    const n = (this.w.a[at]! + 1) | 0;
    this.w.set(at + n, pfn + 1);
    this.w.set(at, n);
    this.countIn(pfn, 1);
    if (n === this.d.lruBatchPages || this.frames.isCompound(pfn)) this.pagevecLruMove(at);
  }

  // ---- what empties them ---------------------------------------------------------------------------

  /** The running CPU's batches. */
  lruAddDrain(): void {
    this.lruAddDrainCpu(Math.imul(this.sim.agents.cpu, CPU_WORDS));
  }

  /** Those of all CPUs. */
  lruAddDrainAll(): void {
    for (let cpu = 0; cpu < this.w.needed; cpu += CPU_WORDS) this.lruAddDrainCpu(cpu);
  }

  private lruAddDrainCpu(cpu: number): void {
    if (cpu >= this.w.needed) return;
    const a = this.w.a;
    if ((a[cpu]! | a[cpu + DEACTIVATE]! | a[cpu + LAZYFREE]! | a[cpu + ACTIVATE]!) === 0) return;
    for (let at = cpu; at < cpu + CPU_WORDS; at += WORDS) if (this.w.a[at] !== 0) this.pagevecLruMove(at);
  }

  /** pagevec_lru_move_fn: the pages of the batch at `at` are on their lists. */
  private pagevecLruMove(at: number): void {
    const { w } = this;
    const batch = at & (CPU_WORDS - 1);
    if (batch === ADD) return this.emptyFresh(at);
    const n = w.a[at]!;
    w.set(at, 0);
    for (let i = at + 1; i <= at + n; i++) {
      const pfn = (w.a[i]! - 1) | 0;
      w.set(i, 0);
      this.countIn(pfn, -1);
      if (batch === ACTIVATE) this.activity?.set(pfn, this.activityOf(pfn) | ACTIVE);
      else this.toInactive(pfn, batch);
    }
  }
  /** Fresh pages come onto their lists, and nothing of theirs changes. */
  private emptyFresh(at: number): void {
    const { w } = this;
    const n = w.a[at]!;
    for (let i = at + 1; i <= at + n; i++) this.countIn((w.a[i]! - 1) | 0, -1);
    w.clear(at, n + 1);
  }

  /** lru_deactivate_fn, lru_lazyfree_fn. */
  private toInactive(pfn: number, batch: number): void {
    const { frames } = this;
    if (batch === LAZYFREE) {
      if ((frames.flags(pfn) & FRAME_SWAPCACHE) !== 0) return;
      frames.setFlags(pfn, FRAME_LAZYFREE);
    } else if ((this.activityOf(pfn) & ACTIVE) === 0) return;
    this.activity?.set(pfn, 0);
  }

  // ---- what is in them -----------------------------------------------------------------------------

  /** PageLRU: is this page, which is none of hugetlb, on a list? */
  onLru(pfn: number): boolean {
    const w = this.w.a;
    const step = this.offLru ? WORDS : CPU_WORDS;
    for (let at = 0; at < this.w.needed; at += step) for (let i = at + w[at]!; i > at; i--) if (w[i] === pfn + 1) return false;
    return true;
  }

  /** How many references the batches have to this page. */
  references(pfn: number): number {
    const w = this.w.a;
    let n = 0;
    for (let at = 0; at < this.w.needed; at += WORDS) for (let i = at + w[at]!; i > at; i--) if (w[i] === pfn + 1) n++;
    return n;
  }

  /** The pages of every batch, one for each reference. For people and tests. */
  held(): number[] {
    const pages: number[] = [];
    for (let at = 0; at < this.w.needed; at += WORDS) for (let i = 1; i <= this.w.a[at]!; i++) pages.push(this.w.a[at + i]! - 1);
    return pages;
  }
}
