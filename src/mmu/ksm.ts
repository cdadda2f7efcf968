/** Merging of equal anonymous pages (mm/ksm.c cmp_and_merge_page, try_to_merge_two_pages). */
import { ARG, BLOCKED, R0, R1, R2, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, EFAULT, EINVAL } from "../sim/errno.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { Sim } from "../sim/sim.js";
import type { BreakKsm } from "./breakksm.js";
import type { MmRow } from "./decisions.js";
import { FRAME_ANON, FRAME_KSM, type Frames } from "./frames.js";
import type { MmapLocks } from "./gup.js";
import type { KsmEntry } from "./ksmentry.js";
import type { PageLocks } from "./pagelock.js";
import { pagesIdentical } from "./pagesidentical.js";
import type { HostPageTables } from "./pagetable.js";
import type { Rmap } from "./rmap.js";
import type { SplitHugePmd } from "./splithuge.js";
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
/** page->index of both: what the reverse mapping finds them by. */
const STAYS_INDEX = ARG + 8;
const GOES_INDEX = ARG + 9;

const P_PROTECTED_FIRST = 1;
const P_SECOND = 2;
const P_REPLACE = 3;
const P_REPLACED = 4;
const P_BREAK_COW = 5;
const P_FINISH = 6;
const P_SPLIT_FIRST = 7;
const P_SPLIT_SECOND = 8;
const P_SPLIT_APART = 9;

/** The words of one of the two pages, and the phases that its split and its protection go on with. */
interface Side {
  readonly mm: number;
  readonly addr: number;
  readonly pfn: number;
  readonly index: number;
  readonly split: number;
  readonly protected: number;
}
const FIRST: Side = { mm: MM, addr: STAYS, pfn: STAYS_PFN, index: STAYS_INDEX, split: P_SPLIT_FIRST, protected: P_PROTECTED_FIRST };
const SECOND: Side = { mm: GOES_MM, addr: GOES, pfn: GOES_PFN, index: GOES_INDEX, split: P_SPLIT_SECOND, protected: P_REPLACE };

export class Ksm {
  /**
   * (mm, addr that stays, addr that goes, its mm) -> R0 0 | -errno. Both are split from their huge pages, write-protected (each S,
   * clear, [change_pte], E; what is so already is left), compared, and the second's entry is replaced by the first's page (S, clear,
   * [change_pte], E). A first page that is KSM's already is not touched (stable_tree_search found it); one that was made so
   * for nothing is broken again. A reference of each is held meanwhile: whoever writes or unmaps the first page does not
   * free it. -EINVAL: not MADV_MERGEABLE; -EAGAIN: somebody else holds a reference or the lock, or wrote, or both are of one huge
   * page, where one reference is in the other's way; -EBUSY: contents differ; -EFAULT: no anonymous page there.
   */
  readonly mergeTwo: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly locks: MmapLocks,
    private readonly pages: PageLocks,
    private readonly rmap: Rmap,
    private readonly split: SplitHugePmd,
    private readonly entry: KsmEntry,
    private readonly breakKsm: BreakKsm,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.mergeTwo = agents.activity("ksmMerge", "mm/ksm.c try_to_merge_two_pages", 10, [
      ["mmapLock", (f) => this.protectFirst(f)],
      ["protectedFirst", (f) => this.protectedFirst(f)],
      ["protectSecond", (f) => this.protectSecond(f)],
      ["replace", (f) => this.replace(f)],
      ["done", (f) => this.replaced(f, agents.stack.a[f + R0]!)],
      ["breakCow", (f) => this.breakCow(f)],
      ["broken", (f) => (this.unlock(agents.stack.a[f + MM]!), this.finish(f))],
      ["splitFirst", (f) => this.protectSplit(f, FIRST)],
      ["splitSecond", (f) => this.protectSplit(f, SECOND)],
      ["splitApart", (f) => (this.pages.unlock(), this.finish(f))],
    ]);
  }

  private unlock(mm: number): void {
    this.sim.locks.unlockRead(this.locks.mmapLock(mm));
  }

  private finish(f: number): number {
    const s = this.sim.agents.stack.a;
    this.frames.put(s[f + STAYS_PFN]!);
    if (s[f + GOES_PFN]! >= 0) this.frames.put(s[f + GOES_PFN]!);
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
    if (!this.pt.walk(mm, addr) || this.pt.special) return -EFAULT;
    const pfn = this.pt.leafPfn;
    return (this.frames.flags(pfn) & FRAME_ANON) === 0 ? -EFAULT : pfn;
  }

  private protectFirst(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack;
    const [mm, mm2] = [s.a[f + MM]!, s.a[f + GOES_MM]!];
    if (!locks.read(this.locks.mmapLock(mm))) return BLOCKED;
    this.frames.lru?.lruAddDrainAll(); // scan_get_next_rmap_item, of a new round
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
    s.set(f + STAYS_INDEX, this.rmap.indexOf(mm, s.a[f + STAYS]!));
    s.set(f + GOES_INDEX, this.rmap.indexOf(mm2, s.a[f + GOES]!));
    if (this.frames.isKsm(first)) {
      s.set(f + WAS_KSM, 1);
      this.unlock(mm);
      return this.protectSecond(f);
    }
    return this.mergeOne(f, FIRST);
  }

  /** try_to_merge_one_page: the page's lock is only tried; a huge page is split under it, before v4.5 without. */
  private mergeOne(f: number, of: Side): number {
    const { frames } = this;
    const s = this.sim.agents.stack.a;
    const page = s[f + of.pfn]!;
    const freezes = this.d.thpSplit === "freeze";
    if (freezes && !this.pages.tryLock(frames.head(page))) return this.given(f, of, -EAGAIN);
    if (!frames.isThp(page)) return this.protect(f, of);
    // Where references do not matter the other page may be of the same huge page.
    const other = !freezes && of === FIRST && frames.head(s[f + GOES_PFN]!) === frames.head(page) ? s[f + GOES_PFN]! : 0;
    return this.splitPage(f, of.split, of, other);
  }

  private splitPage(f: number, resume: number, of: Side, other: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    const split = this.split.splitLockedPage;
    const pins = other > 0 ? 2 : 1;
    return agents.call(
      f,
      this.mergeTwo.first + resume,
      split,
      s[f + of.mm]!,
      s[f + of.addr]!,
      pins,
      s[f + of.pfn]!,
      s[f + of.index]!,
      other,
    );
  }

  private protectSplit(f: number, of: Side): number {
    return this.sim.agents.stack.a[f + R0]! < 0 ? this.given(f, of, -EAGAIN) : this.protect(f, of);
  }

  /** write_protect_page, with the page's lock, which before v4.5 is tried only here. */
  private protect(f: number, of: Side): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    const page = s[f + of.pfn]!;
    if (!this.pages.tryLock(page)) return this.given(f, of, -EAGAIN);
    return agents.call(f, this.mergeTwo.first + of.protected, this.entry.changeEntry, s[f + of.mm]!, s[f + of.addr]!, page, -1);
  }

  /** The page could not be protected. */
  private given(f: number, of: Side, error: number): number {
    this.sim.agents.stack.set(f + R0, error);
    return of === FIRST ? this.protectedFirst(f) : this.replace(f);
  }

  /** The first page is KSM's now (set_page_stable_node): whoever writes it gets a copy. */
  private protectedFirst(f: number): number {
    const s = this.sim.agents.stack;
    const r = s.a[f + R0]!;
    if (r === 0) this.frames.setFlags(s.a[f + STAYS_PFN]!, FRAME_KSM);
    this.pages.unlock();
    this.unlock(s.a[f + MM]!);
    s.set(f + RESULT, r);
    return r < 0 ? this.splitApart(f) : this.protectSecond(f);
  }

  /** The end of cmp_and_merge_page: two pages of one huge page, which the reference of the second kept from being split. */
  private splitApart(f: number): number {
    const { frames, pages } = this;
    const s = this.sim.agents.stack;
    const [stays, goes] = [s.a[f + STAYS_PFN]!, s.a[f + GOES_PFN]!];
    const head = frames.head(stays);
    if (this.d.ksmSameHugePage === "left" || !frames.isThp(stays) || frames.head(goes) !== head) return this.finish(f);
    frames.put(goes);
    s.set(f + GOES_PFN, -1);
    return pages.tryLock(head) ? this.splitPage(f, P_SPLIT_APART, FIRST, 0) : this.finish(f);
  }

  private protectSecond(f: number): number {
    const s = this.sim.agents.stack.a;
    const mm = s[f + GOES_MM]!;
    const here = this.mergeTwo.first + P_SECOND;
    if (!this.sim.locks.read(this.locks.mmapLock(mm))) return s[f] === here ? BLOCKED : here;
    if (!this.mergeable(mm, s[f + GOES]!)) return this.replaced(f, -EINVAL);
    return this.mergeOne(f, SECOND);
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
    if (!pagesIdentical(this.phys, stays, goes)) return this.replaced(f, -EBUSY);
    return agents.call(
      f,
      this.mergeTwo.first + P_REPLACED,
      this.entry.changeEntry,
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
}
