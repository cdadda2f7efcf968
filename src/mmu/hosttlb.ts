/**
 * TLB maintenance of the host for its user mappings (arch/arm64/include/asm/tlbflush.h): by page, by
 * range, by address space, each complete when it returns. The ASID is the mm's number.
 */
import type { CpuFeatures } from "../arch/features.js";
import { rangeOperandHi, rangeOperandLo, TLBI_IS, TlbiKind, vaOperandHi, vaOperandLo } from "../arch/tlbi.js";
import type { Sim } from "../sim/sim.js";
import type { HostTlb } from "./pagetable.js";

/** The CPU's part: issues a TLBI, waits with a DSB. */
export interface TlbiIssuer {
  /** @param vmid -1: the host's own regime */
  issue(cpu: number, op: number, vmid: number, hi: number, lo: number): void;
  dsb(cpu: number, type: number): number;
}

const HOST = -1;
/** DSB types, CRm: ISHST, ISH. */
const ISHST = 10;
const ISH = 11;
/** More pages than this: the whole ASID (MAX_DVM_OPS, MAX_TLBI_OPS: PTRS_PER_PTE). */
const MAX_OPS = 512;
/** The same with the range instructions (MAX_TLBI_RANGE_PAGES). */
const MAX_RANGE_PAGES = 2 ** 21;
const WORD = 4294967296;

export class HostTlbMaintenance implements HostTlb {
  constructor(
    private readonly sim: Sim,
    private readonly tlbi: TlbiIssuer,
    private readonly features: Pick<CpuFeatures, "tlbiRange">,
  ) {}

  /** flush_tlb_page: the leaf of one page. */
  flushPage(mm: number, addr: number): void {
    const cpu = this.sim.agents.cpu;
    this.tlbi.dsb(cpu, ISHST);
    this.page(cpu, TlbiKind.Vale1, mm, addr);
    this.tlbi.dsb(cpu, ISH);
  }

  private page(cpu: number, kind: TlbiKind, mm: number, addr: number): void {
    const hi = (addr / WORD) | 0;
    const lo = addr | 0;
    this.tlbi.issue(cpu, kind | TLBI_IS, HOST, vaOperandHi(hi, mm, 0), vaOperandLo(hi, lo));
  }

  /** __flush_tlb_range: leaves and table entries of [start, end). */
  flushRange(mm: number, start: number, end: number): void {
    const first = Math.floor(start / 4096);
    const pages = Math.ceil(end / 4096) - first;
    if (pages > (this.features.tlbiRange ? MAX_RANGE_PAGES : MAX_OPS)) {
      this.flushMm(mm);
      return;
    }
    const cpu = this.sim.agents.cpu;
    this.tlbi.dsb(cpu, ISHST);
    if (this.features.tlbiRange) this.ranges(cpu, mm, first, pages);
    else for (let p = first; p < first + pages; p++) this.page(cpu, TlbiKind.Vae1, mm, p * 4096);
    this.tlbi.dsb(cpu, ISH);
  }

  /** __flush_tlb_range_op: an odd page by itself, the rest in runs of (num + 1) << (5 scale + 1). */
  private ranges(cpu: number, mm: number, page: number, pages: number): void {
    for (let scale = 0; pages > 0;) {
      if (pages % 2 === 1) {
        this.page(cpu, TlbiKind.Vae1, mm, page * 4096);
        page++;
        pages--;
        continue;
      }
      const num = (Math.floor(pages / 2 ** (5 * scale + 1)) & 31) - 1;
      if (num >= 0) {
        this.tlbi.issue(cpu, TlbiKind.Rvae1 | TLBI_IS, HOST, rangeOperandHi(page, scale, num, 0, mm), rangeOperandLo(page));
        page += (num + 1) * 2 ** (5 * scale + 1);
        pages -= (num + 1) * 2 ** (5 * scale + 1);
      }
      scale++;
    }
  }

  /** flush_tlb_mm: everything of the ASID. */
  flushMm(mm: number): void {
    const cpu = this.sim.agents.cpu;
    this.tlbi.dsb(cpu, ISHST);
    this.tlbi.issue(cpu, TlbiKind.Aside1 | TLBI_IS, HOST, mm << 16, 0);
    this.tlbi.dsb(cpu, ISH);
  }
}
