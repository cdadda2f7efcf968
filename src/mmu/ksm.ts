/** Merging of equal anonymous pages (mm/ksm.c try_to_merge_two_pages, write_protect_page, replace_page). */
import { ARG, BLOCKED, R0, R1, R2, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, EFAULT, EINVAL } from "../sim/errno.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import { FRAME_ANON, FRAME_EXCLUSIVE, FRAME_KSM, type Frames } from "./frames.js";
import type { MmapLocks } from "./gup.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { PageLocks } from "./pagelock.js";
import type { HostPageTables } from "./pagetable.js";
import { HI_DIRTY, HI_WRITE, pfnHi, pfnLo, PTE_RDONLY } from "./pte.js";
import { VM_MERGEABLE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

const MM = ARG;
/** mergeTwo: the page that stays, the page that goes. */
const STAYS = ARG + 1;
const GOES = ARG + 2;
/** Their frames, a reference of each is ours. */
const STAYS_PFN = ARG + 3;
const GOES_PFN = ARG + 4;
/**
 * changeEntry: the address; the frame that it gets, -1: only write-protected. LO and HI: in, the entry that must
 * still be there for a replacement; then the old entry; at the end the new one.
 */
const ADDR = ARG + 1;
const PFN = ARG + 2;
const LO = ARG + 3;
const HI = ARG + 4;
const ERROR = ARG + 5;

export class Ksm {
  /**
   * (mm, addr that stays, addr that goes) -> R0 0 | -errno. Both are write-protected (each S, clear,
   * [change_pte], E), compared, and the second's entry is replaced by the first's page (S, clear,
   * [change_pte], E). A reference of each is held meanwhile: whoever writes or unmaps the first page does not
   * free it. -EINVAL: not MADV_MERGEABLE; -EAGAIN: somebody else holds a reference, or wrote; -EBUSY: contents
   * differ; -EFAULT: no anonymous page there.
   */
  readonly mergeTwo: Activity;
  /** (mm, addr, pfn or -1): one S, clear, [change_pte], E. */
  private readonly changeEntry: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly notifiers: MmuNotifiers,
    private readonly locks: MmapLocks,
    private readonly pages: PageLocks,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.changeEntry = agents.activity("ksmChangeEntry", "mm/ksm.c write_protect_page, replace_page", 6, [
      ["start", (f) => this.range(f, this.changeEntry.first + 1, true)],
      ["clear", (f) => this.clear(f)],
      ["set", (f) => this.set(f)],
      ["done", (f) => agents.ret(f, agents.stack.a[f + ERROR]!, agents.stack.a[f + LO]!, agents.stack.a[f + HI]!)],
    ]);
    this.mergeTwo = agents.activity("ksmMerge", "mm/ksm.c try_to_merge_two_pages", 5, [
      ["mmapLock", (f) => this.protectFirst(f)],
      ["protectSecond", (f) => this.protectSecond(f)],
      ["replace", (f) => this.replace(f)],
      ["done", (f) => this.finish(f, agents.stack.a[f + R0]!)],
    ]);
  }

  private unlock(f: number, r: number): number {
    const { agents, locks } = this.sim;
    locks.unlockRead(this.locks.mmapLock(agents.stack.a[f + MM]!));
    return agents.ret(f, r);
  }

  private finish(f: number, r: number): number {
    const s = this.sim.agents.stack.a;
    this.frames.put(s[f + STAYS_PFN]!);
    this.frames.put(s[f + GOES_PFN]!);
    return this.unlock(f, r);
  }

  private candidate(mm: number, addr: number): number {
    const vma = this.vmas.findVma(mm, addr);
    if (vma < 0 || this.vmas.start(vma) > addr || (this.vmas.flags(vma) & VM_MERGEABLE) === 0) return -EINVAL;
    if (!this.pt.walk(mm, addr) || this.pt.leafLevel !== 3 || this.pt.special) return -EFAULT;
    const pfn = this.pt.leafPfn;
    if ((this.frames.flags(pfn) & FRAME_ANON) === 0 || this.frames.isThp(pfn)) return -EFAULT;
    return this.frames.refcount(pfn) === this.frames.mapcount(pfn) && !this.pages.lockedByOther(pfn) ? pfn : -EAGAIN;
  }

  private protectFirst(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack.a;
    if (!locks.read(this.locks.mmapLock(s[f + MM]!))) return BLOCKED;
    const first = this.candidate(s[f + MM]!, s[f + STAYS]!);
    const second = this.candidate(s[f + MM]!, s[f + GOES]!);
    if (first < 0 || second < 0) return this.unlock(f, first < 0 ? first : second);
    if (first === second) return this.unlock(f, 0);
    this.frames.get(first);
    this.frames.get(second);
    agents.stack.set(f + STAYS_PFN, first);
    agents.stack.set(f + GOES_PFN, second);
    return agents.call(f, this.mergeTwo.first + 1, this.changeEntry, s[f + MM]!, s[f + STAYS]!, -1);
  }

  /** The first page is KSM's now (set_page_stable_node): whoever writes it gets a copy. */
  private protectSecond(f: number): number {
    const { pt } = this;
    const { agents } = this.sim;
    const s = agents.stack.a;
    if (s[f + R0]! < 0) return this.finish(f, s[f + R0]!);
    if (!pt.walk(s[f + MM]!, s[f + STAYS]!) || pt.leafPfn !== s[f + STAYS_PFN] || pt.writable) return this.finish(f, -EAGAIN);
    this.frames.setFlags(s[f + STAYS_PFN]!, FRAME_KSM);
    return agents.call(f, this.mergeTwo.first + 2, this.changeEntry, s[f + MM]!, s[f + GOES]!, -1);
  }

  /**
   * The first page does not change any more, whether it is still mapped or not; replace_page finds out whether the
   * second one's entry is still what its protection left.
   */
  private replace(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    if (s[f + R0]! < 0) return this.finish(f, s[f + R0]!);
    if (!this.identical(s[f + STAYS_PFN]!, s[f + GOES_PFN]!)) return this.finish(f, -EBUSY);
    return agents.call(f, this.mergeTwo.first + 3, this.changeEntry, s[f + MM]!, s[f + GOES]!, s[f + STAYS_PFN]!, s[f + R1]!, s[f + R2]!);
  }

  private identical(a: number, b: number): boolean {
    const { phys } = this;
    if (phys.isClear(a) && phys.isClear(b)) return true;
    for (let o = 0; o < 4096; o += 8) {
      phys.read(a * 4096 + o, 8);
      const { lo, hi } = phys;
      phys.read(b * 4096 + o, 8);
      if (phys.lo !== lo || phys.hi !== hi) return false;
    }
    return true;
  }

  private range(f: number, resume: number, start: boolean): number {
    const { invalidateRangeStart, invalidateRangeEnd } = this.notifiers;
    const s = this.sim.agents.stack.a;
    const addr = s[f + ADDR]!;
    const act = start ? invalidateRangeStart : invalidateRangeEnd;
    return this.sim.agents.call(f, resume, act, s[f + MM]!, addr, addr + 4096, MMU_NOTIFY_CLEAR, 1);
  }

  private clear(f: number): number {
    const { pt, frames } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const replaces = s.a[f + PFN]! >= 0;
    // page_vma_mapped_walk, pte_offset_map_lock
    const present = pt.walk(mm, addr);
    if (!pt.locks.lock(pt.entry)) return BLOCKED;
    if (!present || (replaces && (pt.lo !== s.a[f + LO] || pt.hi !== s.a[f + HI]))) return this.failed(f, -EFAULT);
    // GUP has taken the page before it was protected: what it reads and writes would not be seen. One reference is ours.
    if (!replaces && (frames.refcount(pt.leafPfn) !== frames.mapcount(pt.leafPfn) + 1 || this.pages.lockedByOther(pt.leafPfn)))
      return this.failed(f, -EAGAIN);
    const pfn = replaces ? s.a[f + PFN]! : pt.leafPfn;
    s.set(f + LO, pt.lo);
    s.set(f + HI, pt.hi);
    pt.clearFlush(mm, addr, 3, pt.entry);
    if (!this.d.notifierChangePte) return this.set(f);
    this.sim.agents.enter();
    return this.sim.agents.call(f, this.changeEntry.first + 2, this.notifiers.changePte, mm, addr, pfn);
  }

  private failed(f: number, error: number): number {
    this.pt.locks.unlock();
    this.sim.agents.stack.set(f + ERROR, error);
    return this.range(f, this.changeEntry.first + 3, false);
  }

  private set(f: number): number {
    const { pt, frames } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const lo = s.a[f + LO]!;
    const hi = s.a[f + HI]!;
    const old = (hi & 0xffff) * 1048576 + (lo >>> 12);
    const pfn = s.a[f + PFN]! >= 0 ? s.a[f + PFN]! : old;
    const dirty = (hi & HI_WRITE) !== 0 && (lo & PTE_RDONLY) === 0 ? HI_DIRTY : 0;
    s.set(f + LO, pfnLo(pfn) | (lo & 0xfff) | PTE_RDONLY);
    s.set(f + HI, pfnHi(pfn) | (hi & ~0xffff & ~HI_WRITE) | dirty);
    pt.setEntry(mm, addr, 3, pt.ensure(mm, addr, 3), s.a[f + LO]!, s.a[f + HI]!);
    pt.locks.unlock();
    this.sim.agents.leave();
    if (pfn === old) frames.clearFlags(pfn, FRAME_EXCLUSIVE);
    else {
      frames.addMapping(pfn);
      frames.dropMapping(old);
    }
    return this.range(f, this.changeEntry.first + 3, false);
  }
}
