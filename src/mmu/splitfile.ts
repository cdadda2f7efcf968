/**
 * A huge page of a memory file becomes 512 small ones (mm/huge_memory.c split_huge_page_to_list): before a part of it is
 * truncated (mm/shmem.c shmem_undo_range, truncate_inode_partial_folio), or because one of its pages is broken. Unlike an
 * anonymous page it gets no migration entries: it is unmapped everywhere (mm/rmap.c try_to_unmap), and faults in again.
 * From v6.15 on truncation leaves folios of the sizes between; here there are small pages in every release.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EAGAIN } from "../sim/errno.js";
import type { MmContext } from "./context.js";
import { FRAME_FILE, FRAME_THP } from "./frames.js";
import { nthMapping } from "./immap.js";
import { MMU_NOTIFY_CLEAR } from "./notifiers.js";

const FILE = ARG;
const PGOFF = ARG + 1;
const PINS = ARG + 2;
/** Mappings that were looked at, and the part of the present one that shows the huge page. */
const CURSOR = ARG + 3;
const AT_MM = ARG + 4;
const AT = ARG + 5;
const END = ARG + 6;

const P_NEXT = 1;
const P_UNMAP = 2;
const P_CLEAR = 3;
const P_SPLIT = 4;

export class SplitFilePage {
  /**
   * (file, pgoff, pins) -> R0 0 | -EAGAIN: the huge page that holds the page, if one does. `pins`: references that the caller
   * has, which pass to that page; -EAGAIN where there are others (can_split_folio).
   */
  readonly activity: Activity;

  constructor(private readonly mm: MmContext) {
    this.activity = mm.sim.agents.activity("splitFilePage", "mm/huge_memory.c split_huge_page_to_list", 7, [
      ["lock", (f) => this.lock(f)],
      ["unmapNext", (f) => this.unmapNext(f)],
      ["tryToUnmapOne", (f) => this.range(f, P_CLEAR, this.mm.notifiers.invalidateRangeStart)],
      ["clear", (f) => this.clear(f)],
      ["split", (f) => this.split(f)],
    ]);
  }

  /** The frame of a page, if it is part of a huge page of the cache; else -1. */
  hugeAt(file: number, pgoff: number): number {
    const { files, frames } = this.mm;
    const pfn = files.cache.find(file, pgoff);
    return pfn >= 0 && (frames.flags(pfn) & (FRAME_FILE | FRAME_THP)) === (FRAME_FILE | FRAME_THP) ? pfn : -1;
  }

  private lock(f: number): number {
    const { sim, pages } = this.mm;
    const s = sim.agents.stack.a;
    if (this.hugeAt(s[f + FILE]!, s[f + PGOFF]!) < 0) return sim.agents.ret(f, 0);
    return pages.tryLockBlock(s[f + FILE]!, s[f + PGOFF]!) ? this.activity.first + P_NEXT : BLOCKED;
  }

  /** try_to_unmap under i_mmap_rwsem: mappings that overlap the huge page, until nobody maps it any more (folio_not_mapped). */
  private unmapNext(f: number): number {
    const { sim, vmas, huge, pages, zap, frames } = this.mm;
    const s = sim.agents.stack;
    if (s.a[f + CURSOR] === 0 && !sim.locks.read(pages.rmapLock)) return BLOCKED;
    const pgoff = s.a[f + PGOFF]!;
    const first = pgoff - (pgoff % 512);
    let n = s.a[f + CURSOR]!;
    const ended = n > 0 && frames.mapcount(this.hugeAt(s.a[f + FILE]!, pgoff)) === 0;
    let v: number;
    let at = 0;
    do {
      v = ended ? -1 : nthMapping(vmas, s.a[f + FILE]!, first, first + 512, n++);
      if (v >= 0) at = Math.max(vmas.start(v), vmas.addressOf(v, first));
    } while (v >= 0 && !zap.hasPud(vmas.mm(v), at)); // mm_find_pmd
    if (v < 0) {
      sim.locks.unlockRead(pages.rmapLock);
      return this.activity.first + P_SPLIT;
    }
    s.set(f + CURSOR, n);
    s.set(f + AT_MM, vmas.mm(v));
    s.set(f + AT, at);
    s.set(f + END, Math.min(vmas.end(v), vmas.addressOf(v, first + 512)));
    if (this.mm.d.fileSplitAnnouncement === "once") return this.activity.first + P_UNMAP;
    return sim.agents.call(f, this.activity.first + P_UNMAP, huge.splitHugePmd, vmas.mm(v), at);
  }

  private range(f: number, then: number, what: Activity): number {
    const s = this.mm.sim.agents.stack.a;
    return this.mm.sim.agents.call(f, this.activity.first + then, what, s[f + AT_MM]!, s[f + AT]!, s[f + END]!, MMU_NOTIFY_CLEAR, 1);
  }

  /** Entries of the huge page go; a private mapping keeps its copies. */
  private clear(f: number): number {
    const { sim, pt, zap, frames, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + AT_MM]!;
    const end = s[f + END]!;
    if (pt.contended(mm, s[f + AT]!, end)) return BLOCKED;
    const head = frames.head(this.hugeAt(s[f + FILE]!, s[f + PGOFF]!));
    for (let at = s[f + AT]!; at < end; at += 4096) {
      if (pt.walk(mm, at) && pt.leafPfn >= head && pt.leafPfn < head + 512) zap.zapRange(mm, at, at + 4096);
      else if (pt.level === 2) break;
    }
    return this.range(f, P_NEXT, notifiers.invalidateRangeEnd);
  }

  private split(f: number): number {
    const { sim, frames, pages } = this.mm;
    const s = sim.agents.stack.a;
    const pins = s[f + PINS]!;
    const pfn = this.hugeAt(s[f + FILE]!, s[f + PGOFF]!);
    pages.unlockBlock();
    const head = frames.head(pfn);
    if (frames.refcount(head) !== 512 + pins) return sim.agents.ret(f, -EAGAIN);
    frames.splitCompound(head);
    for (let i = 0; i < 512; i++) frames.setCounts(head + i, 1 + (head + i === pfn ? pins : 0), 0);
    return sim.agents.ret(f, 0);
  }
}
