/** Whether pages were accessed lately (PG_referenced, PG_active): two bits of each page of RAM, as mark_page_accessed (mm/swap.c) moves them. */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

export const REFERENCED = 1;
export const ACTIVE = 2;

export class PageActivity {
  /** Sixteen pages a word. */
  private readonly w: I32Pool;

  constructor(
    sim: Sim,
    private readonly basePfn: number,
  ) {
    this.w = sim.state.i32("mm.pageActivity", 1);
  }

  /** REFERENCED and ACTIVE of a page of RAM. */
  of(pfn: number): number {
    const page = pfn - this.basePfn;
    return page >= 0 && page >>> 4 < this.w.needed ? (this.w.a[page >>> 4]! >>> ((page & 15) << 1)) & 3 : 0;
  }

  set(pfn: number, bits: number): void {
    if (this.of(pfn) === bits) return;
    const page = pfn - this.basePfn;
    const shift = (page & 15) << 1;
    this.w.ensure((page >>> 4) + 1);
    this.w.set(page >>> 4, (this.w.a[page >>> 4]! & ~(3 << shift)) | (bits << shift));
  }
}
