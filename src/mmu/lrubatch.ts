/**
 * The pages on their way to an LRU list (mm/swap.c, lru_pvecs): each CPU has batches of fifteen, and a batch has a reference to
 * each of its pages. From v5.9 to v5.17 do_wp_page counts that one too, and copies a page that nobody else has. Nothing else of
 * the model asks: who needs a page's references to be those of its mappings (migration, splits, KSM) empties the batches first.
 * Left out: activate_page, for pages that were accessed twice.
 */
import { FRAME_ANON, type Frames } from "./frames.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

/** PAGEVEC_SIZE. The page that fills a batch empties it. */
const BATCH = 15;
/** A batch's words: how many pages, then pfn + 1 of each. */
const WORDS = 1 + BATCH;
/** The batches of a CPU: lru_add, lru_lazyfree. */
const ADD = 0;
const LAZYFREE = WORDS;
const CPU_WORDS = 2 * WORDS;

export class LruBatches {
  private readonly w: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
  ) {
    this.w = sim.state.i32("mm.lruBatches", CPU_WORDS);
  }

  /** A fresh page, not of hugetlb. */
  lruCacheAdd(pfn: number): void {
    this.put(ADD, pfn);
  }

  /** A page of MADV_FREE. */
  markPageLazyfree(pfn: number): void {
    if ((this.frames.flags(pfn) & FRAME_ANON) !== 0) this.put(LAZYFREE, pfn);
  }

  /** pagevec_add. A compound page empties the batch too. */
  private put(batch: number, pfn: number): void {
    if (this.frames.isCompound(pfn)) return this.lruAddDrain();
    const cpu = this.sim.agents.cpu * CPU_WORDS;
    this.w.ensure(cpu + CPU_WORDS);
    const at = cpu + batch;
    const n = this.w.a[at]! + 1;
    this.w.set(at + n, pfn + 1);
    this.w.set(at, n === BATCH ? 0 : n);
  }

  /** The running CPU's batches. */
  lruAddDrain(): void {
    this.lruAddDrainCpu(this.sim.agents.cpu * CPU_WORDS);
  }

  /** Those of all CPUs. */
  lruAddDrainAll(): void {
    for (let cpu = 0; cpu < this.w.needed; cpu += CPU_WORDS) this.lruAddDrainCpu(cpu);
  }

  private lruAddDrainCpu(cpu: number): void {
    if (cpu >= this.w.needed) return;
    this.w.set(cpu + ADD, 0);
    this.w.set(cpu + LAZYFREE, 0);
  }

  /** Has a batch a reference to this page? */
  holds(pfn: number): boolean {
    const w = this.w.a;
    for (let at = 0; at < this.w.needed; at += WORDS) for (let i = at + w[at]!; i > at; i--) if (w[i] === pfn + 1) return true;
    return false;
  }
}
