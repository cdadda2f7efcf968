/**
 * A huge page of a memory file becomes 512 small ones (mm/huge_memory.c split_huge_page_to_list): before a part of it is
 * truncated (mm/shmem.c shmem_undo_range, truncate_inode_partial_folio), or because one of its pages is broken. Unlike an
 * anonymous page it gets no migration entries: it is unmapped everywhere, and faults in again.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EAGAIN } from "../sim/errno.js";
import type { MmContext } from "./context.js";
import { FRAME_FILE, FRAME_THP } from "./frames.js";
import type { ZapVma } from "./zapvma.js";

const FILE = ARG;
const PGOFF = ARG + 1;
const PINS = ARG + 2;

export class SplitFilePage {
  /**
   * (file, pgoff, pins) -> R0 0 | -EAGAIN: the huge page that holds the page, if one does. `pins`: references that the caller
   * has, which pass to that page; -EAGAIN where there are others (can_split_folio).
   */
  readonly activity: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly zapVma: ZapVma,
  ) {
    this.activity = mm.sim.agents.activity("splitFilePage", "mm/huge_memory.c split_huge_page_to_list", 3, [
      ["lock", (f) => this.lock(f)],
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
    const file = s[f + FILE]!;
    const pgoff = s[f + PGOFF]!;
    if (this.hugeAt(file, pgoff) < 0) return sim.agents.ret(f, 0);
    if (!pages.tryLockBlock(file, pgoff)) return BLOCKED;
    const start = (pgoff - (pgoff % 512)) * 4096;
    return sim.agents.call(f, this.activity.first + 1, this.zapVma.unmapMappingRange, file, start, start + 0x200000, 0);
  }

  private split(f: number): number {
    const { sim, frames, pages } = this.mm;
    const s = sim.agents.stack.a;
    const pgoff = s[f + PGOFF]!;
    const pins = s[f + PINS]!;
    const pfn = this.hugeAt(s[f + FILE]!, pgoff);
    pages.unlockBlock();
    const head = frames.head(pfn);
    if (frames.refcount(head) !== 512 + pins) return sim.agents.ret(f, -EAGAIN);
    frames.splitCompound(head);
    for (let i = 0; i < 512; i++) frames.setCounts(head + i, 1 + (head + i === pfn ? pins : 0), 0);
    return sim.agents.ret(f, 0);
  }
}
