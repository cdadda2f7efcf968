/**
 * TLB maintenance of the host for its user mappings (arch/arm64/include/asm/tlbflush.h): by page, by
 * range, by address space, each complete when it returns. The ASID is the mm's number.
 */
import { rangeOperandHi, rangeOperandLo, TLBI_IS, TlbiKind, vaOperandHi, vaOperandLo } from "../arch/tlbi.js";
import { SINGLE_PAGE, TlbiRangeOps } from "../arch/tlbirange.js";
import type { HostTlb } from "./pagetable.js";
import type { HostCpu } from "./useraccess.js";

/** What the host asks of the processing element that runs it: its own translation and TLB maintenance. */
export interface HostPe extends HostCpu {
  /** Issues a TLBI on the running CPU. @param v -1: the host's own regime */
  tlbi(v: number, op: number, hi: number, lo: number): void;
  /** A DSB on the running CPU. @param type CRm of the instruction */
  dsb(v: number, type: number): void;
}

const HOST = -1;
/** DSB types, CRm: ISHST, ISH. */
const ISHST = 10;
const ISH = 11;
/** So many pages: the whole ASID (MAX_DVM_OPS, MAX_TLBI_OPS: PTRS_PER_PTE). */
const MAX_OPS = 512;
/** The same with the range instructions (MAX_TLBI_RANGE_PAGES). */
const MAX_RANGE_PAGES = 2 ** 21;
const WORD = 4294967296;

export class HostTlbFlush implements HostTlb {
  private readonly ops: TlbiRangeOps;

  constructor(
    private readonly pe: Pick<HostPe, "tlbi" | "dsb">,
    /** The CPU has FEAT_TLBIRANGE and the release uses it. */
    private readonly byRange: boolean,
    falling: boolean,
  ) {
    this.ops = new TlbiRangeOps(falling);
  }

  /** flush_tlb_page: the leaf of one page. */
  flushPage(mm: number, addr: number): void {
    this.pe.dsb(HOST, ISHST);
    this.page(TlbiKind.Vale1, mm, addr);
    this.pe.dsb(HOST, ISH);
  }

  private page(kind: TlbiKind, mm: number, addr: number): void {
    const hi = (addr / WORD) | 0;
    const lo = addr | 0;
    this.pe.tlbi(HOST, kind | TLBI_IS, vaOperandHi(hi, mm, 0), vaOperandLo(hi, lo));
  }

  /** __flush_tlb_range: leaves and table entries of [start, end). */
  flushRange(mm: number, start: number, end: number): void {
    const first = Math.floor(start / 4096);
    const pages = Math.ceil(end / 4096) - first;
    if (pages >= (this.byRange ? MAX_RANGE_PAGES : MAX_OPS)) {
      this.flushMm(mm);
      return;
    }
    this.pe.dsb(HOST, ISHST);
    // A page by itself is the same operation either way.
    if (this.byRange && pages > 1) this.ranges(mm, first, pages);
    else for (let p = first; p < first + pages; p++) this.page(TlbiKind.Vae1, mm, p * 4096);
    this.pe.dsb(HOST, ISH);
  }

  /** __flush_tlb_range_op. */
  private ranges(mm: number, first: number, pages: number): void {
    const { ops } = this;
    ops.start(first, pages);
    while (ops.next()) {
      const { page, num } = ops;
      if (num === SINGLE_PAGE) this.page(TlbiKind.Vae1, mm, page * 4096);
      else this.pe.tlbi(HOST, TlbiKind.Rvae1 | TLBI_IS, rangeOperandHi(page, ops.scale, num, 0, mm), rangeOperandLo(page));
    }
  }

  /** flush_tlb_mm: everything of the ASID. */
  flushMm(mm: number): void {
    this.pe.dsb(HOST, ISHST);
    this.pe.tlbi(HOST, TlbiKind.Aside1 | TLBI_IS, mm << 16, 0);
    this.pe.dsb(HOST, ISH);
  }
}
