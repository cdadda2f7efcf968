/**
 * A TLBI over a range of pages as the single operations that it is made of (arch/arm64/include/asm/tlbflush.h
 * __flush_tlb_range_op): runs of (num + 1) << (5 scale + 1) pages, and pages by themselves.
 */

/** Number of a page by itself: the operation without a range. */
export const SINGLE_PAGE = -1;

/** One after the other: `start`, then `next` while it answers true. */
export class TlbiRangeOps {
  /** The first page of the operation. */
  page = 0;
  /** SCALE and NUM of its operand; NUM may be SINGLE_PAGE. */
  scale = 0;
  num = 0;
  private at = 0;
  private left = 0;
  private nextScale = 0;

  constructor(
    /** Scales fall from 3, and the page that is left comes last; else they rise, and an odd page comes first. */
    private readonly falling: boolean,
  ) {}

  start(page: number, pages: number): void {
    this.at = page;
    this.left = pages;
    this.nextScale = this.falling ? 3 : 0;
  }

  next(): boolean {
    while (this.left > 0) {
      if (this.falling ? this.left === 1 : (this.left & 1) !== 0) return this.take(SINGLE_PAGE, 1);
      this.scale = this.nextScale;
      this.nextScale += this.falling ? -1 : 1;
      const shift = 5 * this.scale + 1;
      const runs = this.falling ? Math.min(this.left >>> shift, 32) : (this.left >>> shift) & 31;
      if (runs > 0) return this.take(runs - 1, runs << shift);
    }
    return false;
  }

  private take(num: number, pages: number): true {
    this.page = this.at;
    this.num = num;
    this.at += pages;
    this.left -= pages;
    return true;
  }
}
