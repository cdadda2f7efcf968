/** Splitting transparent huge pages: the mapping (__split_huge_pmd) or the page itself (split_huge_page), mm/huge_memory.c. */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EBUSY } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import { FRAME_FILE, FRAME_HUGETLB, type Frames } from "./frames.js";
import type { MigrationEntries } from "./migrationentries.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { PageLocks } from "./pagelock.js";
import { PMD_SIZE, pmdStart, type HostPageTables } from "./pagetable.js";
import type { Rmap } from "./rmap.js";
import type { Vmas } from "./vmas.js";
import type { Zap } from "./zap.js";

const MM = ARG;
const ADDR = ARG + 1;
/** splitHugePage, of a file's page: references that the caller has. */
const PINS = ARG + 2;
const RESULT = ARG + 3;
/** splitHugePage: of the walk over all mappings; the one that is announced now. */
const CURSOR = ARG + 4;
const AT_MM = ARG + 5;
const AT = ARG + 6;
/** Where its part of the huge page ends. */
const END = ARG + 7;
/** page->index of the head; -1: no anonymous huge page is behind the address. */
const INDEX = ARG + 8;
const HEAD = ARG + 9;
/** The page that was asked for. */
const MINE = ARG + 10;

/** How a file's huge page is split. */
export interface FilePages {
  /** (file, pgoff, pins) -> R0 0 | -errno. */
  readonly activity: Activity;
}

export class SplitHugePmd {
  /** (mm, addr): range_start over the PMD's 2 MiB (CLEAR), split if it is a huge leaf, range_end. The event comes whatever is mapped. */
  readonly activity: Activity;
  /**
   * (mm, addr, pins) -> R0 0 | -errno. split_huge_page of the THP behind addr: in each address space (rmap_walk of unmap_folio,
   * unmap_page before v6.1) the mapping is split (S, E), then its pages get migration entries (S, E), which faults wait for
   * until all are put back (remap_page) and the compound page is 512 ordinary ones. In the last of them both happen at
   * once, between S and E. -EBUSY for hugetlb, which is never split. References beyond the mappings pass to the page at
   * addr; of a file's page (SplitFilePage) they may be `pins`.
   */
  readonly splitHugePage: Activity;
  /** It puts itself here when the machine is built. */
  filePages: FilePages | undefined;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly notifiers: MmuNotifiers,
    private readonly zap: Zap,
    private readonly pages: PageLocks,
    private readonly vmas: Vmas,
    private readonly rmap: Rmap,
    private readonly migration: MigrationEntries,
  ) {
    const { agents } = sim;
    this.activity = agents.activity("splitHugePmd", "mm/huge_memory.c __split_huge_pmd", 2, [
      ["start", (f) => this.range(f, this.activity.first + 1, MM, true)],
      ["splitLocked", (f) => this.splitLocked(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.splitHugePage = agents.activity("splitHugePage", "mm/huge_memory.c split_huge_page_to_list", 11, [
      ["lock", (f) => this.lockPage(f)],
      ["unmapPage", (f) => this.range(f, this.splitHugePage.first + 2, AT_MM, true)],
      ["splitLocked", (f) => this.splitPage(f)],
      ["done", (f) => this.unlockPage(f)],
      ["fileDone", (f) => agents.ret(f, agents.stack.a[f + R0]!)],
      ["unmapNext", (f) => this.unmapNext(f)],
    ]);
  }

  /** The page lock, and anon_vma_lock_write: nobody walks the reverse mapping of the page until it is split. */
  private lockPage(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack.a;
    const mm = s[f + MM]!;
    const addr = s[f + ADDR]!;
    const of = this.pt.walk(mm, addr) ? this.frames.flags(this.pt.leafPfn) : 0;
    if ((of & FRAME_HUGETLB) !== 0) return agents.ret(f, -EBUSY);
    if (this.filePages !== undefined && (of & FRAME_FILE) !== 0) {
      const v = this.vmas.findVma(mm, addr);
      return agents.call(
        f,
        this.splitHugePage.first + 4,
        this.filePages.activity,
        this.vmas.file(v),
        this.vmas.pageIndex(v, addr),
        s[f + PINS]!,
      );
    }
    if (!locks.write(this.pages.rmapLock)) return BLOCKED;
    if (this.pt.walk(mm, addr) && !this.pages.tryLock(this.frames.head(this.pt.leafPfn))) {
      locks.unlockWrite(this.pages.rmapLock);
      return agents.ret(f, -EBUSY);
    }
    this.findHead(f, mm, addr);
    return this.unmapNext(f);
  }

  private findHead(f: number, mm: number, addr: number): void {
    const { pt, frames, rmap } = this;
    const s = this.sim.agents.stack;
    s.set(f + CURSOR, 0);
    s.set(f + INDEX, -1);
    if (!pt.walk(mm, addr) || !frames.isThp(pt.leafPfn) || frames.isReserved(pt.leafPfn)) return;
    const head = frames.head(pt.leafPfn);
    s.set(f + HEAD, head);
    s.set(f + MINE, pt.leafPfn);
    s.set(f + INDEX, rmap.indexOf(mm, addr) - (pt.leafPfn - head));
    // The caller of split_huge_page has a reference: it stays while migration entries are its only trace.
    frames.get(head);
  }

  /** unmap_folio: split_huge_pmd_address of the next VMA that shows a page of it. */
  private unmapNext(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack;
    const cursor = this.nextPlace(f);
    s.set(f + CURSOR, cursor);
    s.set(f + AT_MM, cursor === 0 ? s.a[f + MM]! : this.rmap.mm);
    s.set(f + AT, cursor === 0 ? s.a[f + ADDR]! : this.rmap.addr);
    s.set(f + END, this.rmap.end);
    return agents.call(f, this.splitHugePage.first + 1, this.activity, s.a[f + AT_MM]!, s.a[f + AT]!);
  }

  /** The cursor of the next VMA that shows a page of the huge page, or 0. */
  private nextPlace(f: number): number {
    const { rmap } = this;
    const s = this.sim.agents.stack.a;
    const index = s[f + INDEX]!;
    if (index < 0) return 0;
    let c = rmap.nextPart(index, 512, s[f + CURSOR]!);
    while (c !== 0 && this.shown(s[f + HEAD]!) === 0) c = rmap.nextPart(index, 512, c);
    return c;
  }

  /** How many pages of the huge page the tables show in the part that the reverse mapping has found. */
  private shown(head: number): number {
    const { pt, rmap } = this;
    let n = 0;
    for (let at = rmap.addr; at < rmap.end; at += 4096) if (pt.walk(rmap.mm, at) && pt.leafPfn >= head && pt.leafPfn < head + 512) n++;
    return n;
  }

  private unlockPage(f: number): number {
    const { agents, locks } = this.sim;
    locks.unlockWrite(this.pages.rmapLock);
    this.pages.unlock();
    return agents.ret(f, agents.stack.a[f + RESULT]!);
  }

  /** @param at where the frame holds the address space; the address is behind it */
  private range(f: number, resume: number, at: number, start: boolean): number {
    const { invalidateRangeStart, invalidateRangeEnd } = this.notifiers;
    const s = this.sim.agents.stack.a;
    const block = pmdStart(s[f + at + 1]!);
    const what = start ? invalidateRangeStart : invalidateRangeEnd;
    return this.sim.agents.call(f, resume, what, s[f + at]!, block, block + PMD_SIZE, MMU_NOTIFY_CLEAR, 1);
  }

  private splitLocked(f: number): number {
    const s = this.sim.agents.stack.a;
    if (this.pt.contended(s[f + MM]!, s[f + ADDR]!, s[f + ADDR]! + 1)) return BLOCKED;
    this.zap.splitHugePmdPlain(s[f + MM]!, s[f + ADDR]!);
    return this.range(f, this.activity.first + 2, MM, false);
  }

  private splitPage(f: number): number {
    const { pt } = this;
    const s = this.sim.agents.stack;
    const more = s.a[f + CURSOR]! !== 0 && this.nextPlace(f) !== 0;
    if (!more) {
      s.set(f + RESULT, this.splitNow(f));
      return this.range(f, this.splitHugePage.first + 3, AT_MM, false);
    }
    const mm = s.a[f + AT_MM]!;
    const addr = s.a[f + AT]!;
    if (pt.contended(mm, pmdStart(addr), pmdStart(addr) + PMD_SIZE)) return BLOCKED;
    this.migration.putPart(mm, addr, s.a[f + END]!, s.a[f + HEAD]!);
    return this.range(f, this.splitHugePage.first + 5, AT_MM, false);
  }

  /** remap_page, then __split_huge_page: each page gets the counts of its own entries; pages that nothing maps any more are freed. */
  private splitNow(f: number): number {
    const { frames, rmap } = this;
    const s = this.sim.agents.stack.a;
    const index = s[f + INDEX]!;
    const head = s[f + HEAD]!;
    if (index < 0) return -EBUSY;
    this.migration.removeParts(index, head);
    let mapped = 0;
    for (let c = rmap.nextPart(index, 512, 0); c !== 0; c = rmap.nextPart(index, 512, c)) mapped += this.shown(head);
    if (mapped !== frames.mapcount(head)) {
      frames.put(head);
      return -EBUSY;
    }
    const pins = frames.refcount(head) - mapped - 1;
    frames.splitCompound(head);
    for (let i = 0; i < 512; i++) {
      const here = this.entriesOf(head + i, index + i);
      frames.setCounts(head + i, here + (head + i === s[f + MINE] ? pins : 0), here);
    }
    return 0;
  }

  /** Small entries of a page, in all address spaces. */
  private entriesOf(pfn: number, index: number): number {
    const { rmap, pt } = this;
    let n = 0;
    for (let c = rmap.next(pfn, -1, index, 0); c !== 0; c = rmap.next(pfn, -1, index, c))
      if (pt.walk(rmap.mm, rmap.addr) && pt.leafPfn === pfn) n++;
    return n;
  }
}
