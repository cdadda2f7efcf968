/**
 * Caches of table pages (struct kvm_mmu_memory_cache): filled outside mmu_lock, where allocation may
 * sleep, and drawn from while a walk holds it.
 *
 * Only the count of a cache is state; the pages come from the table window when they are taken.
 */
import type { TablePages } from "../arch/tables.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

export const memoryCacheTopup = declareEvent("faultline", "memory_cache_topup", "table pages were allocated into a cache", [
  { name: "cache", kind: "dec" },
  { name: "pages", kind: "dec" },
  { name: "now", kind: "dec", unit: "pages in the cache" },
]);
export const stage2TableAlloc = declareEvent("faultline", "stage2_table_alloc", "a stage-2 table page was taken", [
  { name: "pa", kind: "hex" },
  { name: "level", kind: "dec", unit: "level of its entries" },
]);
export const stage2TableFree = declareEvent("faultline", "stage2_table_free", "a stage-2 table page was freed", [
  { name: "pa", kind: "hex" },
  { name: "level", kind: "dec", unit: "level of its entries" },
]);

/** No cache: kvm_set_spte_hva and other callers that must not allocate. */
export const NO_CACHE = -1;
/** KVM_ARCH_NR_OBJS_PER_MEMORY_CACHE, KVM_NR_MEM_OBJS. */
export const CACHE_CAPACITY = 40;

export class MemoryCaches {
  /** [0] number of caches; from 1: pages in each. */
  private readonly pages: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly tables: TablePages,
  ) {
    this.pages = sim.state.i32("kvm.memcaches", 4);
  }

  /** A new, empty cache (one per vCPU; one per eager mapping call). @returns its number, from 0. */
  create(): number {
    const id = this.pages.a[0]!;
    this.pages.set(0, id + 1);
    this.pages.ensure(id + 2);
    this.pages.set(1 + id, 0);
    return id;
  }

  /** Pages in a cache. */
  count(cache: number): number {
    return this.pages.a[1 + cache]!;
  }

  /**
   * kvm_mmu_topup_memory_cache / mmu_topup_memory_cache: nothing if there are `min` pages, else fill.
   * @returns 0 (the modelled host does not run out of memory)
   */
  topup(cache: number, min: number, capacity = CACHE_CAPACITY): number {
    const have = this.pages.a[1 + cache]!;
    if (have >= min) return 0;
    const n = capacity - have;
    this.pages.set(1 + cache, capacity);
    this.sim.agents.charge(this.sim.costs.tableAlloc * n);
    this.sim.bus.emit(memoryCacheTopup, cache, n, capacity);
    return 0;
  }

  /** kvm_mmu_free_memory_cache */
  free(cache: number): void {
    this.pages.set(1 + cache, 0);
  }

  /** Takes a cleared page for entries of `level`. @returns its PA, or 0 from an empty cache or NO_CACHE. */
  take(cache: number, level: number): number {
    if (cache < 0) return 0;
    const have = this.pages.a[1 + cache]!;
    if (have === 0) return 0;
    this.pages.set(1 + cache, have - 1);
    return this.page(level);
  }

  /** A cleared page that is accounted elsewhere (the eager split cache). */
  page(level: number): number {
    const pa = this.tables.alloc();
    this.sim.bus.emit(stage2TableAlloc, pa, level);
    return pa;
  }

  /** Gives a table page back to the host. */
  release(pa: number, level: number): void {
    this.tables.free(pa);
    this.sim.bus.emit(stage2TableFree, pa, level);
  }
}
