/** Merging of equal anonymous pages (mm/ksm.c try_to_merge_two_pages, write_protect_page, replace_page). */
import { ARG, BLOCKED, R0, R1, R2, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, EFAULT, EINVAL } from "../sim/errno.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { Sim } from "../sim/sim.js";
import type { BreakKsm } from "./breakksm.js";
import type { MmRow } from "./decisions.js";
import { FRAME_ANON, FRAME_EXCLUSIVE, FRAME_KSM, type Frames } from "./frames.js";
import type { MmapLocks } from "./gup.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { PageLocks } from "./pagelock.js";
import type { HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import type { Rmap } from "./rmap.js";
import { HI_DIRTY, HI_WRITE, pfnHi, pfnLo, PTE_RDONLY, pteDirty } from "./pte.js";
import { VM_MERGEABLE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

const MM = ARG;
/** mergeTwo: the page that stays, the page that goes and its address space. */
const STAYS = ARG + 1;
const GOES = ARG + 2;
const GOES_MM = ARG + 3;
/** Their frames, a reference of each is ours. */
const STAYS_PFN = ARG + 4;
const GOES_PFN = ARG + 5;
const RESULT = ARG + 6;
/** 1: the first page was KSM's before. */
const WAS_KSM = ARG + 7;
/** changeEntry: the address; the frame that it maps; the frame that it gets, -1: only write-protected; the entry of it that must still be there. */
const ADDR = ARG + 1;
const PAGE = ARG + 2;
const KPAGE = ARG + 3;
const LO = ARG + 4;
const HI = ARG + 5;
const ERROR = ARG + 6;

const P_PROTECTED_FIRST = 1;
const P_SECOND = 2;
const P_REPLACE = 3;
const P_REPLACED = 4;
const P_BREAK_COW = 5;
const P_FINISH = 6;

const C_CLEAR = 1;
const C_SET = 2;
const C_DONE = 3;

export class Ksm {
  /**
   * (mm, addr that stays, addr that goes, its mm) -> R0 0 | -errno. Both are write-protected (each S, clear,
   * [change_pte], E; what is so already is left), compared, and the second's entry is replaced by the first's page (S, clear,
   * [change_pte], E). A first page that is KSM's already is not touched (stable_tree_search found it); one that was made so
   * for nothing is broken again. A reference of each is held meanwhile: whoever writes or unmaps the first page does not
   * free it. -EINVAL: not MADV_MERGEABLE; -EAGAIN: somebody else holds a reference, or wrote; -EBUSY: contents
   * differ; -EFAULT: no anonymous page there.
   */
  readonly mergeTwo: Activity;
  /** (mm, addr, page, kpage or -1, lo, hi) -> R0 0 | -errno, R1 and R2 the entry: one S, clear, [change_pte], E. */
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
    private readonly prot: PageProtection,
    private readonly rmap: Rmap,
    private readonly breakKsm: BreakKsm,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.changeEntry = agents.activity("ksmChangeEntry", "mm/ksm.c write_protect_page, replace_page", 7, [
      ["start", (f) => this.range(f, this.changeEntry.first + C_CLEAR, true)],
      ["clear", (f) => this.clear(f)],
      ["set", (f) => this.set(f)],
      ["done", (f) => agents.ret(f, agents.stack.a[f + ERROR]!, agents.stack.a[f + LO]!, agents.stack.a[f + HI]!)],
    ]);
    this.mergeTwo = agents.activity("ksmMerge", "mm/ksm.c try_to_merge_two_pages", 8, [
      ["mmapLock", (f) => this.protectFirst(f)],
      ["protectedFirst", (f) => this.protectedFirst(f)],
      ["protectSecond", (f) => this.protectSecond(f)],
      ["replace", (f) => this.replace(f)],
      ["done", (f) => this.replaced(f, agents.stack.a[f + R0]!)],
      ["breakCow", (f) => this.breakCow(f)],
      ["broken", (f) => (this.unlock(agents.stack.a[f + MM]!), this.finish(f))],
    ]);
  }

  private unlock(mm: number): void {
    this.sim.locks.unlockRead(this.locks.mmapLock(mm));
  }

  private finish(f: number): number {
    const s = this.sim.agents.stack.a;
    this.frames.put(s[f + STAYS_PFN]!);
    this.frames.put(s[f + GOES_PFN]!);
    return this.sim.agents.ret(f, s[f + RESULT]!);
  }

  /** find_mergeable_vma. */
  private mergeable(mm: number, addr: number): boolean {
    const vma = this.vmas.lookup(mm, addr);
    return vma >= 0 && (this.vmas.flags(vma) & VM_MERGEABLE) !== 0 && this.vmas.anonVma(vma) !== 0;
  }

  /** get_mergeable_page. @returns pfn or -errno */
  private candidate(mm: number, addr: number): number {
    if (!this.mergeable(mm, addr)) return -EINVAL;
    if (!this.pt.walk(mm, addr) || this.pt.leafLevel !== 3 || this.pt.special) return -EFAULT;
    const pfn = this.pt.leafPfn;
    return (this.frames.flags(pfn) & FRAME_ANON) === 0 || this.frames.isThp(pfn) ? -EFAULT : pfn;
  }

  private protectFirst(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack;
    const [mm, mm2] = [s.a[f + MM]!, s.a[f + GOES_MM]!];
    if (!locks.read(this.locks.mmapLock(mm))) return BLOCKED;
    const first = this.candidate(mm, s.a[f + STAYS]!);
    // Of another process: ksmd took it on its last round, with a reference.
    const second = this.candidate(mm2, s.a[f + GOES]!);
    if (first < 0 || second < 0 || first === second) {
      this.unlock(mm);
      return agents.ret(f, first < 0 ? first : second < 0 ? second : 0);
    }
    this.frames.get(first);
    this.frames.get(second);
    s.set(f + STAYS_PFN, first);
    s.set(f + GOES_PFN, second);
    if (this.frames.isKsm(first)) {
      s.set(f + WAS_KSM, 1);
      this.unlock(mm);
      return this.protectSecond(f);
    }
    return this.protect(f, P_PROTECTED_FIRST, mm, s.a[f + STAYS]!, first);
  }

  /** try_to_merge_one_page: the page's lock is only tried. */
  private protect(f: number, resume: number, mm: number, addr: number, page: number): number {
    const { agents } = this.sim;
    if (this.pages.tryLock(page)) return agents.call(f, this.mergeTwo.first + resume, this.changeEntry, mm, addr, page, -1);
    agents.stack.set(f + R0, -EAGAIN);
    return resume === P_REPLACE ? this.replace(f) : this.protectedFirst(f);
  }

  /** The first page is KSM's now (set_page_stable_node): whoever writes it gets a copy. */
  private protectedFirst(f: number): number {
    const s = this.sim.agents.stack;
    const r = s.a[f + R0]!;
    if (r === 0) this.frames.setFlags(s.a[f + STAYS_PFN]!, FRAME_KSM);
    this.pages.unlock();
    this.unlock(s.a[f + MM]!);
    s.set(f + RESULT, r);
    return r < 0 ? this.finish(f) : this.protectSecond(f);
  }

  private protectSecond(f: number): number {
    const s = this.sim.agents.stack.a;
    const mm = s[f + GOES_MM]!;
    const here = this.mergeTwo.first + P_SECOND;
    if (!this.sim.locks.read(this.locks.mmapLock(mm))) return s[f] === here ? BLOCKED : here;
    if (!this.mergeable(mm, s[f + GOES]!)) return this.replaced(f, -EINVAL);
    return this.protect(f, P_REPLACE, mm, s[f + GOES]!, s[f + GOES_PFN]!);
  }

  /**
   * The first page does not change any more, whether it is still mapped or not; replace_page finds out whether the
   * second one's entry is still what its protection left.
   */
  private replace(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    if (s[f + R0]! < 0) return this.replaced(f, s[f + R0]!);
    const stays = s[f + STAYS_PFN]!;
    const goes = s[f + GOES_PFN]!;
    if (!this.identical(stays, goes)) return this.replaced(f, -EBUSY);
    return agents.call(
      f,
      this.mergeTwo.first + P_REPLACED,
      this.changeEntry,
      s[f + GOES_MM]!,
      s[f + GOES]!,
      goes,
      stays,
      s[f + R1]!,
      s[f + R2]!,
    );
  }

  private replaced(f: number, r: number): number {
    const s = this.sim.agents.stack;
    this.pages.unlock();
    this.unlock(s.a[f + GOES_MM]!);
    s.set(f + RESULT, r);
    // A page of KSM that only one entry names.
    return r < 0 && s.a[f + WAS_KSM] === 0 ? this.breakCow(f) : this.finish(f);
  }

  private breakCow(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack.a;
    const mm = s[f + MM]!;
    const addr = s[f + STAYS]!;
    const here = this.mergeTwo.first + P_BREAK_COW;
    if (!locks.read(this.locks.mmapLock(mm))) return s[f] === here ? BLOCKED : here;
    if (this.mergeable(mm, addr))
      return agents.call(f, this.mergeTwo.first + P_FINISH, this.breakKsm.unmergeKsmPages, mm, addr, addr + 4096);
    this.unlock(mm);
    return this.finish(f);
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
    const { pt } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const page = s.a[f + PAGE]!;
    const replaces = s.a[f + KPAGE]! >= 0;
    // page_vma_mapped_walk, pte_offset_map_lock
    const present = pt.walk(mm, addr) && pt.leafLevel === 3 && pt.leafPfn === page;
    if (!pt.locks.lock(pt.entry)) return BLOCKED;
    if (!present || (replaces && (pt.lo !== s.a[f + LO] || pt.hi !== s.a[f + HI]))) return this.leave(f, -EFAULT);
    // What is protected, clean and not this process's alone stays as it is.
    const changes = replaces || pt.writable || pteDirty(pt.lo, pt.hi) || this.exclusive(page);
    if (changes && !replaces && this.held(page, mm, addr)) return this.leave(f, -EAGAIN);
    s.set(f + LO, pt.lo);
    s.set(f + HI, pt.hi);
    if (!changes) return this.leave(f, 0);
    pt.clearFlush(mm, addr, 3, pt.entry);
    if (!this.d.notifierChangePte) return this.set(f);
    this.sim.agents.enter();
    return this.sim.agents.call(f, this.changeEntry.first + C_SET, this.notifiers.changePte, mm, addr, replaces ? s.a[f + KPAGE]! : page);
  }

  private exclusive(page: number): boolean {
    return this.d.cowReuse === "exclusive" && (this.frames.flags(page) & FRAME_EXCLUSIVE) !== 0;
  }

  /** GUP has taken the page before it was protected: what it reads and writes would not be seen. One reference is ours. */
  private held(page: number, mm: number, addr: number): boolean {
    const { frames, rmap, pt } = this;
    const swapped = rmap.swapEntries(page, rmap.indexOf(mm, addr));
    pt.walk(mm, addr);
    return frames.refcount(page) !== frames.mapcount(page) + swapped + 1;
  }

  private leave(f: number, error: number): number {
    this.pt.locks.unlock();
    this.sim.agents.stack.set(f + ERROR, error);
    return this.range(f, this.changeEntry.first + C_DONE, false);
  }

  private set(f: number): number {
    const { pt, frames, prot, vmas } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const page = s.a[f + PAGE]!;
    const kpage = s.a[f + KPAGE]!;
    const lo = s.a[f + LO]!;
    const hi = s.a[f + HI]!;
    if (kpage < 0) {
      if (pteDirty(lo, hi)) frames.setDirty(page);
      s.set(f + LO, lo | PTE_RDONLY); // pte_mkclean, pte_wrprotect
      s.set(f + HI, hi & ~HI_WRITE & ~HI_DIRTY);
    } else {
      const vma = vmas.findVma(mm, addr);
      s.set(f + LO, pfnLo(kpage) | prot.lo(vma)); // mk_pte(kpage, vma->vm_page_prot)
      s.set(f + HI, pfnHi(kpage) | prot.hi(vma));
    }
    pt.setEntry(mm, addr, 3, pt.ensure(mm, addr, 3), s.a[f + LO]!, s.a[f + HI]!);
    pt.locks.unlock();
    this.sim.agents.leave();
    if (kpage < 0) frames.clearFlags(page, FRAME_EXCLUSIVE);
    else {
      frames.addMapping(kpage);
      frames.dropMapping(page);
    }
    return this.range(f, this.changeEntry.first + C_DONE, false);
  }
}
