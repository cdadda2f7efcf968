/**
 * Marks that a page of a huge page has for itself, though its counts and other flags are the huge page's (include/linux/page-flags.h):
 * PageAnonExclusive where small entries map it, PageHWPoison, and whether those entries are folded (arch/arm64/mm/contpte.c). A bit a
 * page; those of a block that is no huge page are clear.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

/** Words of a kind: 512 bits. */
const WORDS = 16;
export const MARK_EXCLUSIVE = 0;
export const MARK_HWPOISON = 1;
/** Of the first of sixteen pages: their entries have no contiguous bit (PTE_CONT). */
export const MARK_UNFOLDED = 2;
const KINDS = 3;

export class SubpageMarks {
  private readonly w: I32Pool;

  constructor(sim: Sim) {
    this.w = sim.state.i32("frames.subpageMarks", 1);
  }

  /** @param rel the page, counted from the start of RAM */
  has(kind: number, rel: number): boolean {
    const at = this.word(kind, rel);
    return at < this.w.needed && (this.w.a[at]! & (1 << (rel & 31))) !== 0;
  }

  set(kind: number, rel: number, on: boolean): void {
    const at = this.word(kind, rel);
    this.w.ensure(at + 1);
    const bit = 1 << (rel & 31);
    this.w.set(at, on ? this.w.a[at]! | bit : this.w.a[at]! & ~bit);
  }

  /** All pages of the block of a page. */
  fill(kind: number, rel: number, on: boolean): void {
    const at = this.word(kind, rel & ~511);
    if (!on && at >= this.w.needed) return;
    this.w.ensure(at + WORDS);
    for (let i = 0; i < WORDS; i++) this.w.set(at + i, on ? -1 : 0);
  }

  /** Do all pages of the block of a page have the mark (`on`), or none? */
  all(kind: number, rel: number, on: boolean): boolean {
    const at = this.word(kind, rel & ~511);
    for (let i = 0; i < WORDS; i++) if ((at + i < this.w.needed ? this.w.a[at + i]! : 0) !== (on ? -1 : 0)) return false;
    return true;
  }

  private word(kind: number, rel: number): number {
    return Math.imul(Math.imul(rel >>> 9, KINDS) + kind, WORDS) + ((rel & 511) >>> 5);
  }
}
