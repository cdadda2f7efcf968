/** Pages of KSM become the process's own again: mm/ksm.c break_ksm and unmerge_ksm_pages (MADV_UNMERGEABLE, mremap). */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { ENOMEM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import type { HostFault } from "./fault.js";
import type { Frames } from "./frames.js";
import { nextBoundary, type HostPageTables } from "./pagetable.js";
import { isMigrationEntry, swapEntryPfn } from "./pte.js";
import { FAULT_FLAG_UNSHARE, FAULT_FLAG_WRITE, VM_FAULT_OOM } from "./vmfault.js";

const MM = ARG;
/** Up to here the range is done. */
const AT = ARG + 1;
const END = ARG + 2;
/** The page that is broken now, with a reference of ours where the release takes one. */
const PFN = ARG + 3;

export class BreakKsm {
  /** (mm, start, end) -> R0 0 | -ENOMEM. The caller holds the mmap_lock. What is swapped out stays KSM's. */
  readonly unmergeKsmPages: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly fault: HostFault,
    private readonly d: MmRow,
  ) {
    this.unmergeKsmPages = sim.agents.activity("unmergeKsmPages", "mm/ksm.c unmerge_ksm_pages", 4, [
      ["breakKsm", (f) => this.breakNext(f)],
      ["broken", (f) => this.broken(f)],
    ]);
  }

  private breakNext(f: number): number {
    const { frames, pt } = this;
    const { agents } = this.sim;
    const s = agents.stack;
    const mm = s.a[f + MM]!;
    for (let a = s.a[f + AT]!; a < s.a[f + END]!; a = nextBoundary(a, pt.level)) {
      pt.walk(mm, a);
      if (this.moving()) {
        s.set(f + AT, a);
        return s.a[f] === this.unmergeKsmPages.first ? BLOCKED : this.unmergeKsmPages.first;
      }
      if (pt.leafLevel !== 3 || pt.special || !frames.isKsm(pt.leafPfn)) continue;
      s.set(f + AT, a);
      s.set(f + PFN, pt.leafPfn);
      // follow_page(FOLL_GET): whoever else maps it, there is this reference, and the page is copied.
      if (this.d.ksmBreak === "write") frames.get(pt.leafPfn);
      const flags = this.d.ksmBreak === "write" ? FAULT_FLAG_WRITE : FAULT_FLAG_UNSHARE;
      return agents.call(f, this.unmergeKsmPages.first + 1, this.fault.handleMmFault, mm, a, flags);
    }
    return agents.ret(f, 0);
  }

  /** The last walk stopped at a page of KSM that migrates (FOLL_MIGRATION). */
  private moving(): boolean {
    const { pt, frames } = this;
    if (pt.leafLevel >= 0 || pt.none || pt.level !== 3) return false;
    return isMigrationEntry(pt.lo) && frames.isKsm(swapEntryPfn(pt.lo, pt.hi));
  }

  private broken(f: number): number {
    const s = this.sim.agents.stack.a;
    if (this.d.ksmBreak === "write") this.frames.put(s[f + PFN]!);
    return (s[f + R0]! & VM_FAULT_OOM) !== 0 ? this.sim.agents.ret(f, -ENOMEM) : this.breakNext(f);
  }
}
