/** Splitting transparent huge pages: the mapping (__split_huge_pmd) or the page itself (split_huge_page), mm/huge_memory.c. */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EBUSY } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import { FRAME_FILE, FRAME_HUGETLB, FRAME_HWPOISON, type Frames } from "./frames.js";
import type { MigrationEntries } from "./migrationentries.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { PageLocks } from "./pagelock.js";
import { PMD_SIZE, pmdStart, type HostPageTables } from "./pagetable.js";
import type { Rmap } from "./rmap.js";
import type { Vmas } from "./vmas.js";
import type { Zap } from "./zap.js";

const MM = ARG;
const ADDR = ARG + 1;
/** splitHugePage: references that the caller has. */
const PINS = ARG + 2;
/** The page that was asked for; the number that its mappings know it by (page->index), -1: no anonymous huge page is behind the address. */
const MINE = ARG + 3;
const INDEX = ARG + 4;
/** Another page of it that the caller has a reference of; 0: none. */
const OTHER = ARG + 5;
const RESULT = ARG + 6;
/** Of the walk over all mappings; the one that is announced now. */
const CURSOR = ARG + 7;
const AT_MM = ARG + 8;
const AT = ARG + 9;
/** Where its part of the huge page ends. */
const END = ARG + 10;
const HEAD = ARG + 11;
/** 1: lock and reference of the page are splitHugePage's own. */
const OWN = ARG + 12;
/** 1: small entries map the part that is announced now. */
const SMALL = ARG + 13;

const ANON_VMA_LOCK = 6;

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
   * unmap_page before v6.1) the mapping is split (S, E), then its pages get migration entries (S, E; until v4.13 both at once), which faults wait
   * for until all are put back (remap_page) and the compound page is 512 ordinary ones. In the last of them both happen at
   * once, between S and E. -EBUSY, and nothing announced, where its page lock is taken or it has references beyond those of its
   * mappings and the caller's, which pass to the page at addr; for hugetlb too, which is never split.
   */
  readonly splitHugePage: Activity;
  /**
   * (mm, addr, pins, page, page->index, other or 0) -> R0 0 | -errno. The same of a page of a THP that the caller has `pins`
   * references of, and the lock, which the page keeps. One of the references may be of another page.
   */
  readonly splitLockedPage: Activity;
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
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.activity = agents.activity("splitHugePmd", "mm/huge_memory.c __split_huge_pmd", 2, [
      ["start", (f) => this.range(f, this.activity.first + 1, MM, true)],
      ["splitLocked", (f) => this.splitLocked(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.splitHugePage = agents.activity("splitHugePage", "mm/huge_memory.c split_huge_page_to_list", 14, [
      ["lock", (f) => this.lockPage(f)],
      ["unmapPage", (f) => this.part(f, this.splitHugePage.first + 2, true)],
      ["splitLocked", (f) => this.splitPage(f)],
      ["done", (f) => this.unlockPage(f)],
      ["fileDone", (f) => agents.ret(f, agents.stack.a[f + R0]!)],
      ["unmapNext", (f) => this.unmapNext(f)],
      ["anonVmaLock", (f) => this.lockMappings(f)],
    ]);
    this.splitLockedPage = agents.from(this.splitHugePage, ANON_VMA_LOCK);
  }

  /** What debugfs split_huge_pages does: a reference, and the page lock, which is only tried. */
  private lockPage(f: number): number {
    const { agents } = this.sim;
    const { pt, frames } = this;
    const s = agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const of = pt.walk(mm, addr) ? frames.flags(pt.leafPfn) : 0;
    if ((of & FRAME_HUGETLB) !== 0) return agents.ret(f, -EBUSY);
    if (this.filePages !== undefined && (of & FRAME_FILE) !== 0) {
      const v = this.vmas.findVma(mm, addr);
      return agents.call(
        f,
        this.splitHugePage.first + 4,
        this.filePages.activity,
        this.vmas.file(v),
        this.vmas.pageIndex(v, addr),
        s.a[f + PINS]!,
      );
    }
    const huge = pt.walk(mm, addr) && frames.isThp(pt.leafPfn) && !frames.isReserved(pt.leafPfn);
    if (this.freezes && pt.leafLevel >= 0 && !this.pages.tryLock(frames.head(pt.leafPfn))) return agents.ret(f, -EBUSY);
    s.set(f + OWN, 1);
    s.set(f + INDEX, huge ? this.rmap.indexOf(mm, addr) : -1);
    s.set(f + MINE, pt.leafPfn);
    if (huge) frames.get(pt.leafPfn);
    return this.lockMappings(f);
  }

  /** The page is unmapped, under its lock; before v4.5 its mappings are marked as being split, without. */
  private get freezes(): boolean {
    return this.d.thpSplit === "freeze";
  }

  /** __split_huge_page_splitting; then try_to_unmap_one, which as long as it told of single pages said no more where the split had left nothing to do. */
  private get once(): boolean {
    return this.d.singlePageReclaim === "invalidatePage";
  }

  /** try_to_migrate_one splits the mapping in its own announcement (split_huge_pmd_locked). */
  private get inWalk(): boolean {
    return this.d.anonSplitAnnouncement === "once";
  }

  /** anon_vma_lock_write: nobody walks the reverse mapping of the page until it is split. Then can_split_folio. */
  private lockMappings(f: number): number {
    const { frames } = this;
    const s = this.sim.agents.stack;
    const here = this.splitHugePage.first + ANON_VMA_LOCK;
    if (!this.sim.locks.write(this.pages.rmapLock)) return s.a[f] === here ? BLOCKED : here;
    s.set(f + CURSOR, 0);
    if (s.a[f + INDEX]! < 0) return this.unmapNext(f);
    const page = s.a[f + MINE]!;
    const head = frames.head(page);
    s.set(f + HEAD, head);
    s.set(f + INDEX, s.a[f + INDEX]! - (page - head));
    // page_get_anon_vma finds none for a page that nothing maps any more.
    if (this.nextPlace(f) !== 0 && frames.refcount(head) - frames.mapcount(head) === this.references(f)) return this.unmapNext(f);
    this.fail(f);
    return this.unlockPage(f);
  }

  /** References of the caller's, which the page may have beyond those of its mappings. */
  private references(f: number): number {
    const s = this.sim.agents.stack.a;
    return s[f + PINS]! + s[f + OWN]!;
  }

  private fail(f: number): void {
    const s = this.sim.agents.stack;
    s.set(f + RESULT, -EBUSY);
    if (s.a[f + OWN] !== 0 && s.a[f + INDEX]! >= 0) this.frames.put(s.a[f + MINE]!);
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
    s.set(f + SMALL, this.pt.walk(s.a[f + AT_MM]!, s.a[f + AT]!) && this.pt.leafLevel === 2 ? 0 : 1);
    if (this.once || (this.inWalk && cursor !== 0)) return this.part(f, this.splitHugePage.first + 2, true);
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
    const s = agents.stack.a;
    locks.unlockWrite(this.pages.rmapLock);
    if (s[f + OWN] !== 0) this.pages.unlock();
    return agents.ret(f, s[f + RESULT]!);
  }

  /** @param at where the frame holds the address space; the address is behind it */
  private range(f: number, resume: number, at: number, start: boolean): number {
    const { invalidateRangeStart, invalidateRangeEnd } = this.notifiers;
    const s = this.sim.agents.stack.a;
    const block = pmdStart(s[f + at + 1]!);
    const what = start ? invalidateRangeStart : invalidateRangeEnd;
    return this.sim.agents.call(f, resume, what, s[f + at]!, block, block + PMD_SIZE, MMU_NOTIFY_CLEAR, 1);
  }

  /** try_to_migrate_one (try_to_unmap_one before v5.14): what the VMA has of the huge page. */
  private part(f: number, resume: number, start: boolean): number {
    const { vmas } = this;
    const s = this.sim.agents.stack.a;
    if (this.once || s[f + CURSOR]! === 0) return this.range(f, resume, AT_MM, start);
    const { invalidateRangeStart, invalidateRangeEnd } = this.notifiers;
    const [mm, from] = [s[f + AT_MM]!, s[f + AT]!];
    const end = this.d.rmapRangeEnd === "page-end" ? s[f + END]! : Math.min(vmas.end(vmas.findVma(mm, from)), from + PMD_SIZE);
    return this.sim.agents.call(f, resume, start ? invalidateRangeStart : invalidateRangeEnd, mm, from, end, MMU_NOTIFY_CLEAR, 1);
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
    const mm = s.a[f + AT_MM]!;
    const addr = s.a[f + AT]!;
    const unsplit = this.once || (this.inWalk && s.a[f + CURSOR]! !== 0);
    if ((more || unsplit) && pt.contended(mm, pmdStart(addr), pmdStart(addr) + PMD_SIZE)) return BLOCKED;
    // What faults wait for comes with the small entries (pmdp_splitting_flush; freeze of __split_huge_pmd).
    if (unsplit) this.zap.splitHugePmdPlain(mm, addr);
    if (more && s.a[f + SMALL] === 0 && this.d.splitEndsAtPmd) {
      this.migration.removeParts(s.a[f + INDEX]!, s.a[f + HEAD]!);
      this.fail(f);
      return this.part(f, this.splitHugePage.first + 3, false);
    }
    if (s.a[f + SMALL] !== 0 && this.d.splitPoison === "poison") this.poisonBroken(f);
    if (!more) {
      this.splitNow(f);
      return this.part(f, this.splitHugePage.first + 3, false);
    }
    this.migration.putPart(mm, addr, s.a[f + END]!, s.a[f + HEAD]!);
    return this.part(f, this.splitHugePage.first + 5, false);
  }

  /** try_to_migrate_one: the small entry of a broken page names it as such at once. */
  private poisonBroken(f: number): void {
    const { pt, frames } = this;
    const s = this.sim.agents.stack.a;
    const head = s[f + HEAD]!;
    if (s[f + INDEX]! < 0 || (frames.flags(head) & FRAME_HWPOISON) === 0) return;
    const mm = s[f + AT_MM]!;
    const end = s[f + END]!;
    for (let at = s[f + AT]!; at < end; at += 4096) {
      if (!pt.walk(mm, at) || pt.leafPfn < head || pt.leafPfn >= head + 512 || !frames.isHwpoison(pt.leafPfn)) continue;
      this.migration.putPoison(mm, at);
    }
  }

  /** remap_page, then __split_huge_page: each page gets the counts of its own entries; pages that nothing maps any more are freed. */
  private splitNow(f: number): void {
    const { frames, rmap } = this;
    const s = this.sim.agents.stack.a;
    const index = s[f + INDEX]!;
    const head = s[f + HEAD]!;
    const mine = s[f + MINE]!;
    const other = s[f + OTHER]!;
    if (index < 0) return this.fail(f);
    this.migration.removeParts(index, head);
    let mapped = 0;
    for (let c = rmap.nextPart(index, 512, 0); c !== 0; c = rmap.nextPart(index, 512, c)) mapped += this.shown(head);
    // Somebody has taken a reference meanwhile (page_ref_freeze).
    if (mapped !== frames.mapcount(head) || frames.refcount(head) !== mapped + this.references(f)) return this.fail(f);
    frames.splitCompound(head);
    for (let i = 0; i < 512; i++) {
      const here = rmap.entriesOf(head + i, -1, index + i);
      const pins = head + i === mine ? s[f + PINS]! - (other > 0 ? 1 : 0) : head + i === other ? 1 : 0;
      frames.setCounts(head + i, here + pins, here);
    }
    this.migration.mapUnusedToZeropage(index, head);
    if (this.freezes) this.pages.tryLock(mine);
  }
}
