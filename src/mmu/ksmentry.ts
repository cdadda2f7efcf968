/** What KSM does with one entry: mm/ksm.c write_protect_page, and replace_page, which puts the merged page in its place. */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EAGAIN, EFAULT } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import { FRAME_EXCLUSIVE, type Frames } from "./frames.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import type { Rmap } from "./rmap.js";
import { HI_DIRTY, HI_WRITE, pfnHi, pfnLo, PTE_RDONLY, pteDirty } from "./pte.js";
import type { Vmas } from "./vmas.js";

const MM = ARG;
/** The address; the frame that it maps; the frame that it gets, -1: only write-protected; the entry of it that must still be there. */
const ADDR = ARG + 1;
const PAGE = ARG + 2;
const KPAGE = ARG + 3;
const LO = ARG + 4;
const HI = ARG + 5;
const ERROR = ARG + 6;

const C_CLEAR = 1;
const C_SET = 2;
const C_DONE = 3;

export class KsmEntry {
  /** (mm, addr, page, kpage or -1, lo, hi) -> R0 0 | -errno, R1 and R2 the entry: one S, clear, [change_pte], E. */
  readonly changeEntry: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly notifiers: MmuNotifiers,
    private readonly prot: PageProtection,
    private readonly rmap: Rmap,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.changeEntry = agents.activity("ksmChangeEntry", "mm/ksm.c write_protect_page, replace_page", 7, [
      ["start", (f) => this.range(f, this.changeEntry.first + C_CLEAR, true)],
      ["clear", (f) => this.clear(f)],
      ["set", (f) => this.set(f)],
      ["done", (f) => agents.ret(f, agents.stack.a[f + ERROR]!, agents.stack.a[f + LO]!, agents.stack.a[f + HI]!)],
    ]);
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
