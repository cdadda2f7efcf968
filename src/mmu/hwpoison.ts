/**
 * A page that the hardware declares broken (mm/memory-failure.c): it is taken out of every address
 * space, and whoever touches it again gets a SIGBUS. madvise(MADV_HWPOISON) injects one.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EBUSY } from "../sim/errno.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import { FRAME_FILE, FRAME_HUGETLB, FRAME_HWPOISON, type Frames } from "./frames.js";
import { FOLL_HWPOISON, type Gup } from "./gup.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { HostPageTables } from "./pagetable.js";
import { descPfn, SWP_HWPOISON, swapEntryHi, swapEntryLo } from "./pte.js";
import type { PageLocks } from "./pagelock.js";
import type { SplitHugePmd } from "./splithuge.js";

export const memoryFailureEvent = declareEvent("faultline", "memory_failure", "a page frame was declared broken", [
  { name: "pfn", kind: "hex" },
]);

const MM = ARG;
const ADDR = ARG + 1;
const PFN = ARG + 2;
/** The next address space whose entry is looked at, and the range of its leaf. */
const NEXT_MM = ARG + 3;
const START = ARG + 4;
const END = ARG + 5;

export class MemoryFailure {
  /**
   * (mm, addr) -> R0 0 | -errno. The page behind addr is faulted in, declared broken, taken out of every
   * address space (S, a poison entry, E) and never used again; a THP is split first. -EBUSY for the zero
   * page. Takes the mmap_lock itself.
   */
  readonly poisonPage: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly notifiers: MmuNotifiers,
    private readonly gup: Gup,
    private readonly split: SplitHugePmd,
    private readonly pages: PageLocks,
  ) {
    this.poisonPage = sim.agents.activity("memoryFailure", "mm/memory-failure.c memory_failure, hwpoison_user_mappings", 6, [
      ["getPage", (f) => this.getPage(f)],
      ["poison", (f) => this.poison(f)],
      ["unmapNext", (f) => this.unmapNext(f)],
      ["tryToUnmapOne", (f) => this.unmapOne(f)],
      ["rmapLock", (f) => this.lockRmap(f)],
    ]);
  }

  private getPage(f: number): number {
    const s = this.sim.agents.stack.a;
    return this.sim.agents.call(f, this.poisonPage.first + 1, this.gup.getUserPagesUnlocked, s[f + MM]!, s[f + ADDR]!, FOLL_HWPOISON);
  }

  private poison(f: number): number {
    const { frames } = this;
    const { agents } = this.sim;
    const s = agents.stack;
    const pfn = s.a[f + R0]!;
    if (pfn < 0) return agents.ret(f, pfn);
    if (frames.isReserved(pfn)) return agents.ret(f, -EBUSY);
    s.set(f + PFN, pfn);
    s.set(f + NEXT_MM, 0);
    this.sim.bus.emit(memoryFailureEvent, pfn);
    // A transparent huge page is split first, so that only the broken page is lost.
    if (frames.isThp(pfn)) return agents.call(f, this.poisonPage.first + 4, this.split.splitHugePage, s.a[f + MM]!, s.a[f + ADDR]!, 1);
    return this.lockRmap(f);
  }

  /** rmap_walk holds the lock over all mappings of the page. */
  private lockRmap(f: number): number {
    const { frames } = this;
    const page = this.sim.agents.stack.a[f + PFN]!;
    if (frames.isThp(page) && (frames.flags(page) & FRAME_FILE) !== 0) {
      // try_to_split_thp_page failed: somebody else holds it.
      frames.put(page);
      return this.sim.agents.ret(f, -EBUSY);
    }
    if (this.sim.locks.read(this.pages.rmapLock)) return this.unmapNext(f);
    const lock = this.poisonPage.first + 4;
    return this.sim.agents.stack.a[f] === lock ? BLOCKED : lock;
  }

  /** try_to_unmap: for every address space that maps the page here. */
  private unmapNext(f: number): number {
    const { frames, pt } = this;
    const s = this.sim.agents.stack;
    const pfn = s.a[f + PFN]!;
    const addr = s.a[f + ADDR]!;
    frames.setFlags(pfn, FRAME_HWPOISON);
    for (let mm = s.a[f + NEXT_MM]!; mm < pt.limit; mm++) {
      if (pt.root(mm) === 0 || !pt.walk(mm, addr) || pt.leafPfn !== pfn) continue;
      const size = pt.leafSize;
      const start = addr - (addr % size);
      s.set(f + NEXT_MM, mm);
      s.set(f + START, start);
      s.set(f + END, start + size);
      return this.sim.agents.call(
        f,
        this.poisonPage.first + 3,
        this.notifiers.invalidateRangeStart,
        mm,
        start,
        start + size,
        MMU_NOTIFY_CLEAR,
        1,
      );
    }
    this.sim.locks.unlockRead(this.pages.rmapLock);
    frames.put(pfn); // the reference of getPage
    return this.sim.agents.ret(f, 0);
  }

  private unmapOne(f: number): number {
    const { frames, pt } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + NEXT_MM]!;
    const start = s.a[f + START]!;
    const end = s.a[f + END]!;
    if (pt.contended(mm, start, start + 1)) return BLOCKED;
    if (pt.walk(mm, start)) {
      const { entry, leafLevel } = pt;
      const head = descPfn(pt.lo, pt.hi);
      const broken = (frames.flags(head) & FRAME_HUGETLB) !== 0 ? head : s.a[f + PFN]!;
      pt.clearFlush(mm, start, leafLevel, entry);
      pt.setEntry(mm, start, leafLevel, entry, swapEntryLo(SWP_HWPOISON, broken), swapEntryHi(broken));
      frames.dropMapping(head);
    }
    s.set(f + NEXT_MM, mm + 1);
    return this.sim.agents.call(f, this.poisonPage.first + 2, this.notifiers.invalidateRangeEnd, mm, start, end, MMU_NOTIFY_CLEAR, 1);
  }
}
