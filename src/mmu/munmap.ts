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
    if (v < 0 || vmas.start(v) >= end) return sim.agents.ret(f, 0);
    if (start <= vmas.start(v)) return this.cutLast(f, v);
    if (end < vmas.end(v) && vmas.count(mm) >= MAX_MAP_COUNT) return sim.agents.ret(f, -ENOMEM);
    const newBelow = d.munmapStartCutNewPiece === "lower" ? 1 : 0;
    return sim.agents.call(f, this.doMunmap.first + 1, this.change.splitVma, v, start, newBelow);
  }

  private cutEnd(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    if (s[f + R0]! < 0) return sim.agents.ret(f, s[f + R0]!);
    return this.cutLast(f, vmas.findVma(s[f + MM]! | 0, s[f + START]!));
  }

  /** The VMA that reaches over the end is cut. @param first the first of the range */
  private cutLast(f: number, first: number): number {
    const { sim, vmas, d } = this.mm;
    const s = sim.agents.stack.a;
    const end = s[f + END]!;
    const endOfFirst = vmas.end(first);
    const last = end <= endOfFirst ? first : vmas.findVma(s[f + MM]! | 0, end);
    if (end === endOfFirst || last < 0 || end <= vmas.start(last)) return this.detachFrom(f, first);
    const newBelow = d.munmapEndCutNewPiece === "lower" ? 1 : 0;
    return sim.agents.call(f, this.doMunmap.first + 2, this.change.splitVma, last, end, newBelow);
  }

  private detach(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    if (s[f + R0]! < 0) return sim.agents.ret(f, s[f + R0]!);
    return this.detachFrom(f, vmas.findVma(s[f + MM]! | 0, s[f + START]!));
  }

  /** detach_vmas_to_be_unmapped, then the one announcement for the whole range, holes included. @param first the first of the range */
  private detachFrom(f: number, first: number): number {
    const { sim, vmas, notifiers } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]! | 0;
    const start = s.a[f + START]!;
    const end = s.a[f + END]!;
    let tail = -1;
    for (let v = first; v >= 0 && vmas.start(v) < end;) {
      const next = vmas.next(v);
      vmas.detach(v);
      if (tail < 0) {
        s.set(f + DETACHED, v + 1);
        s.set(f + UNZAPPED, v + 1);
      } else vmas.setDetachedNext(tail, v);
      tail = v;
      v = next;
    }
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

  /** unmap_vmas: each hugetlb mapping announces its part again where __unmap_hugepage_range does. */
  private readonly unmap = (f: number): number => {
    const { sim, vmas, zap, notifiers, d } = this.mm;
    const stack = sim.agents.stack;
    const s = stack.a;
    for (let v = s[f + UNZAPPED]! - 1; v >= 0 && d.hugetlbZapAnnouncement === "again"; v = vmas.next(v)) {
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
    const next = vmas.findVma(mm, s[f + START]!);
    const prev = next >= 0 ? vmas.prev(next) : vmas.last(mm);
    const floor = prev >= 0 ? vmas.end(prev) : 0;
    const ceiling = next >= 0 ? vmas.start(next) : TASK_SIZE;
    for (let v = s[f + DETACHED]! - 1; v >= 0; v = vmas.next(v)) vmas.fileUnlink(v);
    zap.freePgtables(mm, s[f + START]!, s[f + END]!, floor, ceiling);
    return this.closeVma(f);
  };

  private closeVma(f: number): number {
    const { sim, vmas, files } = this.mm;
    for (;;) {
      const v = sim.agents.stack.a[f + DETACHED]! - 1;
      if (v < 0) return sim.agents.ret(f, 0, sim.agents.stack.a[f + DOWNGRADE]!);
      const file = vmas.file(v);
      const close = files.vmOps(file)?.close;
      if (close !== undefined) return sim.agents.call(f, this.doMunmap.first + 5, close, vmas.mm(v), v);
      this.freeVma(f, v, file);
    }
  }

  private removeVma(f: number): number {
    const v = this.mm.sim.agents.stack.a[f + DETACHED]! - 1;
    this.freeVma(f, v, this.mm.vmas.file(v));
    return this.closeVma(f);
  }

  private freeVma(f: number, v: number, file: number): void {
    const { sim, vmas, files } = this.mm;
    sim.agents.stack.set(f + DETACHED, vmas.next(v) + 1);
    vmas.free(v);
    files.put(file);
  }
}
