/** Merging of equal anonymous pages (mm/ksm.c try_to_merge_two_pages, write_protect_page, replace_page). */
import { ARG, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, EFAULT, EINVAL } from "../sim/errno.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import { FRAME_ANON, FRAME_EXCLUSIVE, FRAME_KSM, type Frames } from "./frames.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { HostPageTables } from "./pagetable.js";
import { HI_DIRTY, HI_WRITE, pfnHi, pfnLo, PTE_RDONLY } from "./pte.js";
import { VM_MERGEABLE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

const MM = ARG;
/** mergeTwo: the page that stays, the page that goes. replaceOne: the address; the frame that it gets, -1: only write-protected. */
const STAYS = ARG + 1;
const GOES = ARG + 2;
const ADDR = ARG + 1;
const PFN = ARG + 2;
// changeEntry: the entry in between
const LO = ARG + 3;
const HI = ARG + 4;

export class Ksm {
  /**
   * (mm, addr that stays, addr that goes) -> R0 0 | -errno. Both are write-protected (each S, clear,
   * [change_pte], E), compared, and the second's entry is replaced by the first's page (S, clear,
   * [change_pte], E). -EINVAL: not MADV_MERGEABLE; -EBUSY: contents differ; -EFAULT: no anonymous page there.
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
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.changeEntry = agents.activity("ksmChangeEntry", "mm/ksm.c write_protect_page, replace_page", 5, [
      ["start", (f) => this.range(f, this.changeEntry.first + 1, true)],
      ["clear", (f) => this.clear(f)],
      ["set", (f) => this.set(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.mergeTwo = agents.activity("ksmMerge", "mm/ksm.c try_to_merge_two_pages", 3, [
      ["protectFirst", (f) => this.protectFirst(f)],
      ["protectSecond", (f) => this.step(f, GOES, 2)],
      ["replace", (f) => this.replace(f)],
      ["done", (f) => agents.ret(f, agents.stack.a[f + R0]!)],
    ]);
  }

  private candidate(mm: number, addr: number): number {
    const vma = this.vmas.findVma(mm, addr);
    if (vma < 0 || this.vmas.start(vma) > addr || (this.vmas.flags(vma) & VM_MERGEABLE) === 0) return -EINVAL;
    if (!this.pt.walk(mm, addr) || this.pt.leafLevel !== 3 || this.pt.special) return -EFAULT;
    const pfn = this.pt.leafPfn;
    if ((this.frames.flags(pfn) & FRAME_ANON) === 0 || this.frames.isThp(pfn)) return -EFAULT;
    return this.frames.refcount(pfn) === this.frames.mapcount(pfn) ? pfn : -EAGAIN;
  }

  private protectFirst(f: number): number {
    const s = this.sim.agents.stack.a;
    const first = this.candidate(s[f + MM]!, s[f + STAYS]!);
    const second = this.candidate(s[f + MM]!, s[f + GOES]!);
    if (first < 0 || second < 0) return this.sim.agents.ret(f, first < 0 ? first : second);
    return first === second ? this.sim.agents.ret(f, 0) : this.step(f, STAYS, 1);
  }

  private step(f: number, which: number, resume: number): number {
    const s = this.sim.agents.stack.a;
    return this.sim.agents.call(f, this.mergeTwo.first + resume, this.changeEntry, s[f + MM]!, s[f + which]!, -1);
  }

  /** Both are read-only now: pages_identical, then replace_page. */
  private replace(f: number): number {
    const { frames } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]!;
    const stays = this.candidate(mm, s[f + STAYS]!);
    const goes = this.candidate(mm, s[f + GOES]!);
    if (stays < 0 || goes < 0 || !this.identical(stays, goes)) return this.sim.agents.ret(f, -EBUSY);
    frames.setFlags(stays, FRAME_KSM);
    frames.clearFlags(stays, FRAME_EXCLUSIVE);
    return this.sim.agents.call(f, this.mergeTwo.first + 3, this.changeEntry, mm, s[f + GOES]!, stays);
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
    if (!pt.walk(mm, addr)) return this.range(f, this.changeEntry.first + 3, false);
    const pfn = s.a[f + PFN]! >= 0 ? s.a[f + PFN]! : pt.leafPfn;
    s.set(f + LO, pt.lo);
    s.set(f + HI, pt.hi);
    pt.clearFlush(mm, addr, 3, pt.entry);
    if (!this.d.notifierChangePte) return this.set(f);
    return this.sim.agents.call(f, this.changeEntry.first + 2, this.notifiers.changePte, mm, addr, pfn);
  }

  private set(f: number): number {
    const { pt, frames } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]!;
    const addr = s[f + ADDR]!;
    const lo = s[f + LO]!;
    const hi = s[f + HI]!;
    const old = (hi & 0xffff) * 1048576 + (lo >>> 12);
    const pfn = s[f + PFN]! >= 0 ? s[f + PFN]! : old;
    const dirty = (hi & HI_WRITE) !== 0 && (lo & PTE_RDONLY) === 0 ? HI_DIRTY : 0;
    const newHi = (hi & ~0xffff & ~HI_WRITE) | dirty;
    pt.setEntry(mm, addr, 3, pt.ensure(mm, addr, 3), pfnLo(pfn) | (lo & 0xfff) | PTE_RDONLY, pfnHi(pfn) | newHi);
    if (pfn !== old) {
      frames.addMapping(pfn);
      frames.dropMapping(old);
    }
    return this.range(f, this.changeEntry.first + 3, false);
  }
}
