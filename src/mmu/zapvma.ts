/**
 * Clearing host entries with the notifiers told: zap_page_range_single, zap_vma_ptes and
 * unmap_mapping_range (mm/memory.c).
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { MmContext } from "./context.js";
import { mappingAfter } from "./immap.js";
import { MMU_NOTIFY_CLEAR, MMU_NOTIFY_UNMAP } from "./notifiers.js";
import { PUD_SIZE } from "./pagetable.js";
import { namesPoison } from "./pte.js";
import { VM_HUGETLB, VM_MAYSHARE, VM_SHARED, VM_UFFD_WP } from "./vmflags.js";
import type { Vmas } from "./vmas.js";
import { ZAP_KEEP_MARKERS, ZAP_KEEP_POISON, ZAP_KEEP_SWAPPED } from "./zap.js";

const BLOCK = 0x200000;

const MM = ARG;
const START = ARG + 1;
const END = ARG + 2;
/** The event's type; with RECLAIM_PT, tables that become empty go too. */
const TYPE = ARG + 3;
/** What is announced: the range itself, or a wider one. */
const S_START = ARG + 4;
const S_END = ARG + 5;

// unmapMappingRange
const FILE = ARG;
const FROM = ARG + 1;
const TO = ARG + 2;
const EVEN_COWS = ARG + 3;
const LAST_PGOFF = ARG + 4;
const LAST_VMA = ARG + 5;
const Z_START = ARG + 6;
const Z_END = ARG + 7;

/**
 * adjust_range_if_pmd_sharing_possible: page tables of a shared hugetlb mapping may be shared by whole
 * gigabytes, so the notifiers are told of whole gigabytes where the VMA holds them.
 * The range is given as its two ends; which one is wanted: `end`.
 */
export function widenHugetlb(vmas: Vmas, v: number, start: number, end: number, wantEnd: boolean): number {
  const plain = wantEnd ? end : start;
  const flags = vmas.flags(v);
  if ((flags & VM_HUGETLB) === 0 || (flags & VM_MAYSHARE) === 0) return plain;
  const low = Math.ceil(vmas.start(v) / PUD_SIZE) * PUD_SIZE;
  const high = Math.floor(vmas.end(v) / PUD_SIZE) * PUD_SIZE;
  if (high <= low || end <= low || start >= high) return plain;
  if (wantEnd) return end < high ? Math.ceil(end / PUD_SIZE) * PUD_SIZE : end;
  return start > low ? Math.floor(start / PUD_SIZE) * PUD_SIZE : start;
}

/** Added to the event's type: zap_details.reclaim_pt. */
export const RECLAIM_PT = 1 << 8;
/** Added to the event's type: marks of a userfaultfd stay where the VMA is registered for them, its poison too. */
export const KEEP_MARKERS = 1 << 9;
export const KEEP_POISON = 1 << 10;
export const KEEP_SWAPPED = 1 << 11;
const EVENT_TYPE = RECLAIM_PT - 1;

/** unmapMappingRange: to the end of every mapping. */
export const TO_THE_END = 2 ** 52;

export class ZapVma {
  /** (mm, start, end, type [+ RECLAIM_PT], announced start, announced end; 0, 0: the range itself): S, huge entries that the range holds only partly are split (S, E inside), cleared, E. */
  readonly zapNotified: Activity;
  /**
   * (mm, start, end, type, announced start, announced end) of a hugetlb mapping: what zap_page_range_single announces, and inside it
   * what __unmap_hugepage_range announces again (hugetlbZapAnnouncement).
   */
  readonly zapHugetlb: Activity;
  /** (mm, start, end): zap_vma_ptes, one CLEAR event. */
  readonly zapVmaPtes: Activity;
  /** (file, first byte, end byte, evenCows): one CLEAR event for each mapping of the file that overlaps, clipped to it. */
  readonly unmapMappingRange: Activity;

  constructor(private readonly mm: MmContext) {
    const { agents } = mm.sim;
    const { notifiers } = mm;
    this.zapNotified = agents.activity("zapPageRange", "mm/memory.c zap_page_range_single", 6, [
      ["start", (f) => this.zapStart(f)],
      ["splitFirst", (f) => this.splitFirst(f)],
      ["splitLast", (f) => this.splitLast(f)],
      ["clear", (f) => this.clear(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.zapHugetlb = agents.activity("zapHugetlb", "mm/memory.c zap_page_range_single, mm/hugetlb.c __unmap_hugepage_range", 6, [
      ["start", (f) => this.announceHugetlb(f, notifiers.invalidateRangeStart, 1)],
      ["unmap", (f) => this.unmapHugepages(f)],
      ["end", (f) => this.announceHugetlb(f, notifiers.invalidateRangeEnd, 3)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.zapVmaPtes = agents.activity("zapVmaPtes", "mm/memory.c zap_vma_ptes", 4, [
      ["zap", (f) => this.zapPtes(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.unmapMappingRange = agents.activity("unmapMappingRange", "mm/memory.c unmap_mapping_range", 8, [
      ["next", (f) => this.nextMapping(f)],
      ["clearFilePages", (f) => this.clearFilePages(f)],
    ]);
  }

  private zapStart(f: number): number {
    const { sim, notifiers } = this.mm;
    const stack = sim.agents.stack;
    if (stack.a[f + S_END] === 0) {
      stack.set(f + S_START, stack.a[f + START]!);
      stack.set(f + S_END, stack.a[f + END]!);
    }
    const s = stack.a;
    return sim.agents.call(
      f,
      this.zapNotified.first + 1,
      notifiers.invalidateRangeStart,
      s[f + MM]! | 0,
      s[f + S_START]!,
      s[f + S_END]!,
      s[f + TYPE]! & EVENT_TYPE,
      1,
    );
  }

  /** zap_pmd_range: an entry that the range holds only partly is split first. */
  private splitFirst(f: number): number {
    const { sim, zap, huge } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const start = s[f + START]!;
    const partly = start % BLOCK !== 0 || s[f + END]! - start < BLOCK;
    if (partly && zap.isHugePmd(mm, start)) return sim.agents.call(f, this.zapNotified.first + 2, huge.splitHugePmd, mm, start);
    return this.splitLast(f);
  }

  private splitLast(f: number): number {
    const { sim, zap, huge } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const end = s[f + END]!;
    const low = end - (end % BLOCK);
    if (low !== end && low >= s[f + START]! && zap.isHugePmd(mm, low)) {
      return sim.agents.call(f, this.zapNotified.first + 3, huge.splitHugePmd, mm, low);
    }
    return this.clear(f);
  }

  private clear(f: number): number {
    const { sim, pt, zap, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    if (pt.contended(s[f + MM]! | 0, s[f + START]!, s[f + END]!)) return BLOCKED;
    const type = s[f + TYPE]! | 0;
    zap.zapRange(s[f + MM]! | 0, s[f + START]!, s[f + END]!, (type & RECLAIM_PT) !== 0, this.keep(s[f + MM]! | 0, s[f + START]!, type));
    return sim.agents.call(
      f,
      this.zapNotified.first + 4,
      notifiers.invalidateRangeEnd,
      s[f + MM]! | 0,
      s[f + S_START]!,
      s[f + S_END]!,
      type & EVENT_TYPE,
      1,
    );
  }

  /** pte_install_uffd_wp_if_needed: of a file's VMA that is registered for it. @returns ZAP_KEEP_* */
  private keep(mm: number, start: number, type: number): number {
    if ((type & (KEEP_MARKERS | KEEP_POISON | KEEP_SWAPPED)) === 0) return 0;
    const { vmas } = this.mm;
    const v = vmas.findVma(mm, start);
    const marks = (type & KEEP_MARKERS) !== 0 && v >= 0 && vmas.file(v) >= 0 && (vmas.flags(v) & VM_UFFD_WP) !== 0;
    const poison = (type & KEEP_POISON) !== 0 ? ZAP_KEEP_POISON : 0;
    return (marks ? ZAP_KEEP_MARKERS : 0) | poison | ((type & KEEP_SWAPPED) !== 0 ? ZAP_KEEP_SWAPPED : 0);
  }

  private announceHugetlb(f: number, what: Activity, then: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    return agents.call(f, this.zapHugetlb.first + then, what, s[f + MM]!, s[f + S_START]!, s[f + S_END]!, s[f + TYPE]! & EVENT_TYPE, 1);
  }

  private unmapHugepages(f: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    const zap = this.zapNotified;
    const resume = this.zapHugetlb.first + 2;
    return agents.call(
      f,
      resume,
      zap,
      s[f + MM]!,
      s[f + START]!,
      s[f + END]!,
      MMU_NOTIFY_UNMAP | KEEP_MARKERS,
      s[f + S_START]!,
      s[f + S_END]!,
    );
  }

  private zapPtes(f: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    return agents.call(f, this.zapVmaPtes.first + 1, this.zapNotified, s[f + MM]! | 0, s[f + START]!, s[f + END]!, MMU_NOTIFY_CLEAR);
  }

  /** The walk through i_mmap, in the order of the mappings' offsets. */
  private nextMapping(f: number): number {
    const { sim, vmas, notifiers, d } = this.mm;
    const { agents } = sim;
    const s = agents.stack;
    const from = s.a[f + FROM]! / 4096;
    const to = Math.ceil(s.a[f + TO]! / 4096);
    const v = mappingAfter(vmas, s.a[f + FILE]!, s.a[f + LAST_PGOFF]! - 1, s.a[f + LAST_VMA]! - 1, from, to);
    if (v < 0) return agents.ret(f, 0);
    const pgoff = vmas.pgoff(v);
    s.set(f + LAST_PGOFF, pgoff + 1);
    s.set(f + LAST_VMA, v + 1);
    const start = vmas.start(v) + Math.max(0, from - pgoff) * 4096;
    const end = Math.min(vmas.end(v), vmas.start(v) + (to - pgoff) * 4096);
    s.set(f + Z_START, start);
    s.set(f + Z_END, end);
    const hugetlb = (vmas.flags(v) & VM_HUGETLB) !== 0;
    // hugetlb_vmdelete_list, unmap_hugepage_range without a page to look for: copies of private mappings go too.
    if (s.a[f + EVEN_COWS] !== 0 || hugetlb || (vmas.flags(v) & VM_SHARED) !== 0) {
      const wideStart = widenHugetlb(vmas, v, start, end, false);
      const wideEnd = widenHugetlb(vmas, v, start, end, true);
      // A truncation of hugetlb alone drops the marks (ZAP_FLAG_DROP_MARKER); what is no copy leaves poison (even_cows 0).
      const cows = s.a[f + EVEN_COWS] !== 0;
      const all = hugetlb || (cows && d.truncatedPoison);
      const kept = all ? 0 : !cows && d.holePoison ? KEEP_SWAPPED : KEEP_SWAPPED | KEEP_POISON;
      const type = MMU_NOTIFY_CLEAR | (hugetlb && cows ? 0 : KEEP_MARKERS) | kept;
      return agents.call(f, this.unmapMappingRange.first, this.zapNotified, vmas.mm(v), start, end, type, wideStart, wideEnd);
    }
    return agents.call(f, this.unmapMappingRange.first + 1, notifiers.invalidateRangeStart, vmas.mm(v), start, end, MMU_NOTIFY_CLEAR, 1);
  }

  /** A private mapping keeps the pages that it has copied: only those of the file go (even_cows 0), and what holePoison says. */
  private clearFilePages(f: number): number {
    const { sim, vmas, files, pt, zap, notifiers, d } = this.mm;
    const s = sim.agents.stack.a;
    const v = s[f + LAST_VMA]! - 1;
    const mm = vmas.mm(v);
    if (pt.contended(mm, s[f + Z_START]!, s[f + Z_END]!)) return BLOCKED;
    for (let addr = s[f + Z_START]!; addr < s[f + Z_END]!; addr += 4096) {
      const mapped = pt.walk(mm, addr);
      if (!mapped && (!d.holePoison || pt.none || !namesPoison(pt.lo, pt.hi))) continue;
      if (!mapped || files.cache.find(s[f + FILE]!, vmas.pageIndex(v, addr)) === pt.leafPfn)
        zap.zapRange(mm, addr, addr + 4096, false, this.keep(mm, addr, KEEP_MARKERS));
    }
    return sim.agents.call(
      f,
      this.unmapMappingRange.first,
      notifiers.invalidateRangeEnd,
      mm,
      s[f + Z_START]!,
      s[f + Z_END]!,
      MMU_NOTIFY_CLEAR,
      1,
    );
  }
}
