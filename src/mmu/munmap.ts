/** munmap (mm/mmap.c do_munmap; v6.12 and later mm/vma.c do_vmi_align_munmap). */
import { ARG, BLOCKED, R0, R1, type Activity } from "../sim/agents.js";
import { EINVAL, ENOMEM } from "../sim/errno.js";
import { isPageAligned, pageAlign, type MmContext } from "./context.js";
import { MMU_NOTIFY_UNMAP } from "./notifiers.js";
import { TASK_SIZE } from "./pagetable.js";
import type { VmaChange } from "./vmachange.js";
import { MAX_MAP_COUNT } from "./vmas.js";
import { VM_HUGETLB } from "./vmflags.js";
import { widenHugetlb, type ZapVma } from "./zapvma.js";

const MM = ARG;
const START = ARG + 1;
const END = ARG + 2;
/** The caller allows the mmap_lock to be downgraded; afterwards: it was. */
const DOWNGRADE = ARG + 3;
/** The first detached VMA + 1; the others follow by `next`. */
const DETACHED = ARG + 4;
/** The first of them that was not looked at for hugetlb, + 1. */
const UNZAPPED = ARG + 5;

// munmap
const LEN = ARG + 2;

export class Munmap {
  /** (mm, start, end, mayDowngrade) -> R0 0 | -errno, R1 1 if the mmap_lock is now held for reading. Holds it for writing. */
  readonly doMunmap: Activity;
  /** (mm, addr, length) -> R0 0 | -errno: the system call. */
  readonly munmap: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly change: VmaChange,
    private readonly zapVma: ZapVma,
  ) {
    const { agents } = mm.sim;
    this.doMunmap = agents.activity("doMunmap", "mm/mmap.c do_munmap", 6, [
      ["cutStart", (f) => this.cutStart(f)],
      ["cutEnd", (f) => this.cutEnd(f)],
      ["detach", (f) => this.detach(f)],
      ["unmap", this.unmap],
      ["freePgtables", this.freePgtables],
      ["removeVma", (f) => this.removeVma(f)],
    ]);
    this.munmap = agents.activity("munmap", "mm/mmap.c __vm_munmap", 3, [
      ["lock", (f) => this.lock(f)],
      ["unlock", this.unlock],
    ]);
  }

  private lock(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const start = s[f + START]!;
    const len = s[f + LEN]!;
    const bad = !isPageAligned(start) || start > TASK_SIZE || len > TASK_SIZE - start || pageAlign(len) === 0;
    if (bad) {
      sim.locks.unlockWrite(this.mm.mmapLock(mm));
      return sim.agents.ret(f, -EINVAL);
    }
    const mayDowngrade = this.mm.d.munmapDowngrade ? 1 : 0;
    return sim.agents.callStraight(f, this.munmap.first + 1, this.unlock, this.doMunmap, mm, start, start + pageAlign(len), mayDowngrade);
  }

  private readonly unlock = (f: number): number => {
    const { sim } = this.mm;
    const s = sim.agents.stack.a;
    const lock = this.mm.mmapLock(s[f + MM]! | 0);
    if (s[f + R1] !== 0) sim.locks.unlockRead(lock);
    else sim.locks.unlockWrite(lock);
    return sim.agents.ret(f, s[f + R0]!);
  };

  /** Nothing mapped: success, and nobody is told. Else the VMA that reaches over the start is cut. */
  private cutStart(f: number): number {
    const { sim, vmas, d } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const start = s[f + START]!;
    const end = s[f + END]!;
    const v = vmas.findVma(mm, start);
    const startOfFirst = v < 0 ? end : vmas.start(v);
    if (startOfFirst >= end) return sim.agents.ret(f, 0);
    if (start <= startOfFirst) return this.cutLast(f, mm, start, end, v);
    if (end < vmas.end(v) && vmas.count(mm) >= MAX_MAP_COUNT) return sim.agents.ret(f, -ENOMEM);
    const newBelow = d.munmapStartCutNewPiece === "lower" ? 1 : 0;
    return sim.agents.call(f, this.doMunmap.first + 1, this.change.splitVma, v, start, newBelow);
  }

  private cutEnd(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    if (s[f + R0]! < 0) return sim.agents.ret(f, s[f + R0]!);
    const mm = s[f + MM]! | 0;
    const start = s[f + START]!;
    return this.cutLast(f, mm, start, s[f + END]!, vmas.findVma(mm, start));
  }

  /** The VMA that reaches over the end is cut. @param first the first of the range */
  private cutLast(f: number, mm: number, start: number, end: number, first: number): number {
    const { sim, vmas, d } = this.mm;
    const endOfFirst = vmas.end(first);
    const last = end <= endOfFirst ? first : vmas.findVma(mm, end);
    if (end === endOfFirst || last < 0 || end <= vmas.start(last)) return this.detachFrom(f, mm, start, end, first, endOfFirst);
    const newBelow = d.munmapEndCutNewPiece === "lower" ? 1 : 0;
    return sim.agents.call(f, this.doMunmap.first + 2, this.change.splitVma, last, end, newBelow);
  }

  private detach(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    if (s[f + R0]! < 0) return sim.agents.ret(f, s[f + R0]!);
    const mm = s[f + MM]! | 0;
    const start = s[f + START]!;
    const first = vmas.findVma(mm, start);
    return this.detachFrom(f, mm, start, s[f + END]!, first, vmas.end(first));
  }

  /**
   * detach_vmas_to_be_unmapped, then the one announcement for the whole range, holes included.
   * @param first the first of the range, which ends at `endOfFirst`
   */
  private detachFrom(f: number, mm: number, start: number, end: number, first: number, endOfFirst: number): number {
    const { sim, vmas, notifiers, d } = this.mm;
    const s = sim.agents.stack;
    s.set(f + DETACHED, first + 1);
    if (d.hugetlbZapAnnouncement === "again") s.set(f + UNZAPPED, first + 1);
    const next = vmas.next(first);
    vmas.detach(mm, first);
    if (endOfFirst < end) this.detachAfter(mm, first, next, end);
    if (s.a[f + DOWNGRADE] !== 0) {
      sim.locks.downgrade(this.mm.mmapLock(mm));
    }
    let tell = notifiers.invalidateRangeStart;
    let from = 0;
    if (notifiers.direct) {
      from = notifiers.startNow(f, MMU_NOTIFY_UNMAP);
      if (from < 0) return sim.agents.go(f, this.doMunmap.first + 3, this.unmap);
      tell = notifiers.startRest;
    }
    return sim.agents.callStraight(f, this.doMunmap.first + 3, this.unmap, tell, mm, start, end, MMU_NOTIFY_UNMAP, 1, from);
  }

  /** The VMAs of the range after the first: each follows in the list of the detached. */
  private detachAfter(mm: number, first: number, second: number, end: number): void {
    const { vmas } = this.mm;
    let tail = first;
    for (let v = second; v >= 0 && vmas.start(v) < end;) {
      const next = vmas.next(v);
      vmas.detach(mm, v);
      vmas.setDetachedNext(tail, v);
      tail = v;
      v = next;
    }
  }

  /** unmap_vmas: each hugetlb mapping announces its part again where __unmap_hugepage_range does. */
  private readonly unmap = (f: number): number => {
    const { sim, vmas, zap, notifiers, d } = this.mm;
    const stack = sim.agents.stack;
    const s = stack.a;
    let v = d.hugetlbZapAnnouncement === "again" ? (s[f + UNZAPPED]! - 1) | 0 : -1;
    for (; v >= 0; v = vmas.next(v)) {
      stack.set(f + UNZAPPED, vmas.next(v) + 1);
      if ((vmas.flags(v) & VM_HUGETLB) === 0) continue;
      const start = Math.max(s[f + START]!, vmas.start(v));
      const end = Math.min(s[f + END]!, vmas.end(v));
      const from = widenHugetlb(vmas, v, start, end, false);
      const to = widenHugetlb(vmas, v, start, end, true);
      return sim.agents.call(f, this.doMunmap.first + 3, this.zapVma.zapNotified, s[f + MM]!, start, end, MMU_NOTIFY_UNMAP, from, to);
    }
    const mm = s[f + MM]! | 0;
    const start = s[f + START]!;
    const end = s[f + END]!;
    if (this.mm.pt.contended(mm, start, end)) return BLOCKED;
    zap.zapRange(mm, start, end);
    let tell = notifiers.invalidateRangeEnd;
    let first = 0;
    if (notifiers.direct) {
      first = notifiers.endNow(f, MMU_NOTIFY_UNMAP);
      if (first < 0) return sim.agents.go(f, this.doMunmap.first + 4, this.freePgtables);
      tell = notifiers.endRest;
    }
    return sim.agents.callStraight(f, this.doMunmap.first + 4, this.freePgtables, tell, mm, start, end, MMU_NOTIFY_UNMAP, 1, first);
  };

  private readonly freePgtables = (f: number): number => {
    const { sim, vmas, zap } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const first = (s[f + DETACHED]! - 1) | 0;
    const prev = vmas.prev(first);
    const next = prev >= 0 ? vmas.next(prev) : vmas.first(mm);
    for (let v = first; v >= 0; v = vmas.next(v)) vmas.fileUnlink(v);
    zap.freePgtables(mm, s[f + START]!, s[f + END]!, prev >= 0 ? vmas.end(prev) : 0, next);
    return this.closeVmas(f, first);
  };

  /** remove_vma of each. @param first the first that is left, or -1 */
  private closeVmas(f: number, first: number): number {
    const { sim, vmas, files } = this.mm;
    const s = sim.agents.stack;
    for (let v = first; v >= 0;) {
      const file = vmas.file(v);
      const close = files.vmOps(file)?.close;
      if (close !== undefined) {
        s.set(f + DETACHED, v + 1);
        return sim.agents.call(f, this.doMunmap.first + 5, close, vmas.mm(v), v);
      }
      v = this.freeVma(v, file);
    }
    return sim.agents.ret(f, 0, s.a[f + DOWNGRADE]!);
  }

  private removeVma(f: number): number {
    const v = (this.mm.sim.agents.stack.a[f + DETACHED]! - 1) | 0;
    return this.closeVmas(f, this.freeVma(v, this.mm.vmas.file(v)));
  }

  /** @returns the VMA that follows in the list of the detached, or -1 */
  private freeVma(v: number, file: number): number {
    const { vmas, files } = this.mm;
    const next = vmas.next(v);
    vmas.free(v);
    files.put(file);
    return next;
  }
}
