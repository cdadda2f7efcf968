/** Splitting transparent huge pages: the mapping (__split_huge_pmd) or the page itself (split_huge_page), mm/huge_memory.c. */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EBUSY } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import { FRAME_FILE, FRAME_HUGETLB, type Frames } from "./frames.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { PageLocks } from "./pagelock.js";
import { PMD_SIZE, pmdStart, type HostPageTables } from "./pagetable.js";
import type { Vmas } from "./vmas.js";
import type { Zap } from "./zap.js";

const MM = ARG;
const ADDR = ARG + 1;
/** splitHugePage, of a file's page: references that the caller has. */
const PINS = ARG + 2;
const RESULT = ARG + 3;

/** How a file's huge page is split. */
export interface FilePages {
  /** (file, pgoff, pins) -> R0 0 | -errno. */
  readonly activity: Activity;
}

export class SplitHugePmd {
  /** (mm, addr): range_start over the PMD's 2 MiB (CLEAR), split if it is a huge leaf, range_end. The event comes whatever is mapped. */
  readonly activity: Activity;
  /**
   * (mm, addr, pins) -> R0 0 | -errno. split_huge_page of the THP behind addr: the mapping is split (S, E), then
   * every page taken out and put back (S, E) while the compound page becomes 512 ordinary ones. -EBUSY
   * where other address spaces map it too, and for hugetlb, which is never split. References beyond the mappings pass
   * to the page at addr; of a file's page (SplitFilePage) they may be `pins`.
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
  ) {
    const { agents } = sim;
    this.activity = agents.activity("splitHugePmd", "mm/huge_memory.c __split_huge_pmd", 2, [
      ["start", (f) => this.rangeStart(f, this.activity.first + 1)],
      ["splitLocked", (f) => this.splitLocked(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.splitHugePage = agents.activity("splitHugePage", "mm/huge_memory.c split_huge_page_to_list", 4, [
      ["lock", (f) => this.lockPage(f)],
      ["unmapPage", (f) => this.rangeStart(f, this.splitHugePage.first + 2)],
      ["splitLocked", (f) => this.splitPage(f)],
      ["done", (f) => this.unlockPage(f)],
      ["fileDone", (f) => agents.ret(f, agents.stack.a[f + R0]!)],
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
    return agents.call(f, this.splitHugePage.first + 1, this.activity, mm, addr);
  }
  private unlockPage(f: number): number {
    const { agents, locks } = this.sim;
    locks.unlockWrite(this.pages.rmapLock);
    this.pages.unlock();
    return agents.ret(f, agents.stack.a[f + RESULT]!);
  }

  private rangeStart(f: number, resume: number): number {
    const s = this.sim.agents.stack.a;
    const block = pmdStart(s[f + ADDR]!);
    return this.sim.agents.call(f, resume, this.notifiers.invalidateRangeStart, s[f + MM]!, block, block + PMD_SIZE, MMU_NOTIFY_CLEAR, 1);
  }

  private rangeEnd(f: number, resume: number): number {
    const s = this.sim.agents.stack.a;
    const block = pmdStart(s[f + ADDR]!);
    return this.sim.agents.call(f, resume, this.notifiers.invalidateRangeEnd, s[f + MM]!, block, block + PMD_SIZE, MMU_NOTIFY_CLEAR, 1);
  }

  private splitLocked(f: number): number {
    const s = this.sim.agents.stack.a;
    if (this.pt.contended(s[f + MM]!, s[f + ADDR]!, s[f + ADDR]! + 1)) return BLOCKED;
    this.zap.splitHugePmdPlain(s[f + MM]!, s[f + ADDR]!);
    return this.rangeEnd(f, this.activity.first + 2);
  }

  private splitPage(f: number): number {
    const s = this.sim.agents.stack;
    s.set(f + RESULT, this.splitNow(s.a[f + MM]!, s.a[f + ADDR]!));
    return this.rangeEnd(f, this.splitHugePage.first + 3);
  }

  /** __split_huge_page: each page gets the counts of its own entry; pages that nothing maps any more are freed. */
  private splitNow(mm: number, addr: number): number {
    const { pt, frames } = this;
    if (!pt.walk(mm, addr) || !frames.isThp(pt.leafPfn) || frames.isReserved(pt.leafPfn)) return -EBUSY;
    const mine = pt.leafPfn;
    const head = frames.head(mine);
    const first = addr - (addr % 4096) - (mine - head) * 4096;
    let mapped = 0;
    for (let i = 0; i < 512; i++) if (pt.walk(mm, first + i * 4096) && pt.leafPfn === head + i) mapped++;
    if (mapped !== frames.mapcount(head)) return -EBUSY;
    const pins = frames.refcount(head) - mapped;
    frames.splitCompound(head);
    for (let i = 0; i < 512; i++) {
      const here = pt.walk(mm, first + i * 4096) && pt.leafPfn === head + i ? 1 : 0;
      frames.setCounts(head + i, here + (head + i === mine ? pins : 0), here);
    }
    return 0;
  }
}
