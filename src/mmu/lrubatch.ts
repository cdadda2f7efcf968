/**
 * The pages on their way to an LRU list (mm/swap.c lru_pvecs, cpu_fbatches): each CPU has a batch of fresh pages and one of MADV_FREE's,
 * and a batch has a reference to each of its pages. Since v5.9 a write fault counts that one too (do_wp_page), and copies
 * a page that nobody else has.
 *
 * Up to v5.17 it counts without another question. Since v5.18 it first empties the CPU's own batches if the page is on no list
 * (wp_can_reuse_anon_folio): a fresh page is not yet, one of MADV_FREE's may still be.
 *
 * Left out: the batches for pages that were accessed twice (activate_page) or are to be reclaimed first (deactivate_page).
 */
import type { MmRow } from "./decisions.js";
import { FRAME_ANON, FRAME_LAZYFREE, FRAME_SWAPCACHE, type Frames } from "./frames.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

/** A batch's words: how many pages, then pfn + 1 of each. PAGEVEC_SIZE is 31 at most. */
const WORDS = 32;
/** The batches of a CPU: lru_add, lru_lazyfree. */
const ADD = 0;
const LAZYFREE = WORDS;
const CPU_WORDS = 2 * WORDS;

export class LruBatches {
  private readonly w: I32Pool;
  /** Are fresh pages followed: never, always, or while the CPU's other batch has pages? */
  private readonly add: "never" | "always" | "beside-lazyfree";
  private readonly offLru: boolean;

  /** @param cpus how many CPUs there are */
  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly d: MmRow,
    cpus: number,
  ) {
    this.w = sim.state.i32("mm.lruBatches", CPU_WORDS);
    this.offLru = d.lazyfreeBatch === "off-lru";
    this.add = d.cowReuse === "mapcount" ? "never" : d.cowReuse === "refcount" || cpus > 1 ? "always" : "beside-lazyfree";
  }

  /**
   * A fresh page, not of hugetlb. Up to v5.8 no write fault asks for its reference; since v5.18 one does on another CPU only: on the
   * same one it is given back first, and what else that does is to empty the batch of MADV_FREE.
   */
  lruCacheAdd(pfn: number): void {
    if (this.add !== "always" && (this.add === "never" || this.lazyfree() === 0)) return;
    this.put(ADD, pfn);
  }

  /** Pages in the running CPU's batch of MADV_FREE. */
  private lazyfree(): number {
    return this.w.a[Math.imul(this.sim.agents.cpu, CPU_WORDS) + LAZYFREE] ?? 0;
  }

  /** A page of MADV_FREE that is on a list and, until it is written to swap, not to be freed yet (PageSwapBacked). */
  markPageLazyfree(pfn: number): void {
    if ((this.frames.flags(pfn) & (FRAME_ANON | FRAME_LAZYFREE | FRAME_SWAPCACHE)) === FRAME_ANON && this.onLru(pfn))
      this.put(LAZYFREE, pfn);
  }

  /** pagevec_add. A full batch is emptied, and so is that of a compound page. */
  private put(batch: number, pfn: number): void {
    const cpu = Math.imul(this.sim.agents.cpu, CPU_WORDS);
    this.w.ensure(cpu + CPU_WORDS);
    const at = cpu + batch;
    const n = (this.w.a[at]! + 1) | 0;
    this.w.set(at + n, pfn + 1);
    this.w.set(at, n);
    this.frames.get(pfn);
    if (n === this.d.lruBatchPages || this.frames.isCompound(pfn)) this.pagevecLruMove(at);
  }

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
    if (this.w.a[cpu + ADD] !== 0) this.pagevecLruMove(cpu + ADD);
    if (this.w.a[cpu + LAZYFREE] !== 0) this.pagevecLruMove(cpu + LAZYFREE);
  }

  /** pagevec_lru_move_fn: the pages of the batch at `at` are on their lists, its references given back. */
  private pagevecLruMove(at: number): void {
    const { w, frames } = this;
    const n = w.a[at]!;
    const lazyfree = (at & (CPU_WORDS - 1)) === LAZYFREE;
    w.set(at, 0);
    for (let i = at + 1; i <= at + n; i++) {
      const pfn = (w.a[i]! - 1) | 0;
      w.set(i, 0);
      if (lazyfree && (frames.flags(pfn) & FRAME_SWAPCACHE) === 0) frames.setFlags(pfn, FRAME_LAZYFREE); // lru_lazyfree
      frames.put(pfn);
    }
  }

  /** The pages of every batch, one for each reference. For people and tests. */
  held(): number[] {
    const pages: number[] = [];
    for (let at = 0; at < this.w.needed; at += WORDS) for (let i = 1; i <= this.w.a[at]!; i++) pages.push(this.w.a[at + i]! - 1);
    return pages;
  }

  /** PageLRU: is this page, which is none of hugetlb, on a list? */
  onLru(pfn: number): boolean {
    const w = this.w.a;
    const step = this.offLru ? WORDS : CPU_WORDS;
    for (let at = 0; at < this.w.needed; at += step) for (let i = at + w[at]!; i > at; i--) if (w[i] === pfn + 1) return false;
    return true;
  }
}
