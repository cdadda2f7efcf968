/** fork's copy of an address space (kernel/fork.c dup_mmap) and the end of one (mm/mmap.c exit_mmap). */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EAGAIN } from "../sim/errno.js";
import type { MmContext } from "./context.js";
import { MMU_NOTIFY_CLEAR, MMU_NOTIFY_PROTECTION_PAGE, MMU_NOTIFY_UNMAP } from "./notifiers.js";
import { TASK_SIZE } from "./pagetable.js";
import { isCowMapping, VM_DONTCOPY, VM_HUGETLB, VM_LOCKED, VM_MIXEDMAP, VM_PFNMAP, VM_UFFD_FLAGS, VM_WIPEONFORK } from "./vmflags.js";

const MM = ARG;
// fork
const CHILD = ARG + 1;
/** The parent's VMA, the child's. */
const VMA = ARG + 2;
const COPY = ARG + 3;
const RESULT = ARG + 4;
// exitMmap
const CLOSING = ARG + 1;

const P_OPENED_FIRST = 1;
const P_COPY = 2;
const P_COPIED = 3;
const P_OPENED_LAST = 4;

const E_LOCK = 1;
const E_UNMAP = 2;
const E_FREE = 3;
const E_CLOSED = 4;

export class Fork {
  /** (mm) -> R0 the child's address space | -EAGAIN. */
  readonly fork: Activity;
  /** (mm): the last user of an address space is gone: release callbacks, then everything is unmapped. */
  readonly exitMmap: Activity;

  constructor(private readonly mm: MmContext) {
    const { agents } = mm.sim;
    this.fork = agents.activity("fork", "kernel/fork.c dup_mmap", 5, [
      ["lock", (f) => this.lock(f)],
      ["openedFirst", (f) => this.announce(f)],
      ["copyPageRange", (f) => this.copy(f)],
      ["copied", (f) => this.copied(f)],
      ["openedLast", (f) => this.nextVma(f)],
    ]);
    this.exitMmap = agents.activity("exitMmap", "mm/mmap.c exit_mmap", 2, [
      ["release", (f) => agents.call(f, this.exitMmap.first + E_LOCK, mm.notifiers.release, agents.stack.a[f + MM]!)],
      ["lock", (f) => this.exitLock(f)],
      ["unmapVmas", (f) => this.exitUnmap(f)],
      ["freePgtables", (f) => this.exitFree(f)],
      ["vmaClosed", (f) => this.exitClosed(f)],
    ]);
  }

  private lock(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const child = this.mm.createMm();
    s.set(f + CHILD, child);
    s.set(f + RESULT, child < 0 ? -EAGAIN : child);
    if (child < 0) return this.leave(f);
    s.set(f + VMA, vmas.first(mm) + 1);
    return this.thisVma(f);
  }

  private nextVma(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    s.set(f + VMA, vmas.next(s.a[f + VMA]! - 1) + 1);
    return this.thisVma(f);
  }

  /** One VMA of the parent: duplicated, linked, its driver told, its entries copied where a fault could not bring them back. */
  private thisVma(f: number): number {
    const { sim, vmas, files, d } = this.mm;
    const s = sim.agents.stack;
    let v = s.a[f + VMA]! - 1;
    while (v >= 0 && (vmas.flags(v) & VM_DONTCOPY) !== 0) v = vmas.next(v);
    s.set(f + VMA, v + 1);
    if (v < 0) return this.leave(f);
    // dup_userfaultfd: without UFFD_FEATURE_EVENT_FORK the child's copy is not registered.
    const flags = vmas.flags(v) & ~(VM_LOCKED | VM_UFFD_FLAGS);
    const wiped = (flags & VM_WIPEONFORK) !== 0;
    const n = vmas.alloc(s.a[f + CHILD]!, vmas.start(v), vmas.end(v), flags, vmas.file(v), vmas.pgoff(v), vmas.pageProt(v));
    vmas.setAnonVma(n, wiped ? 0 : vmas.anonVma(v));
    files.get(vmas.file(v));
    vmas.insert(n);
    s.set(f + COPY, n);
    const open = files.vmOps(vmas.file(v))?.open;
    if (open !== undefined && d.forkOpen === "beforeCopy")
      return sim.agents.call(f, this.fork.first + P_OPENED_FIRST, open, s.a[f + CHILD]!, n);
    return this.announce(f);
  }

  /** vma_needs_copy: file pages fault in again by themselves. */
  private needsCopy(v: number): boolean {
    const { vmas } = this.mm;
    const flags = vmas.flags(v);
    if ((flags & VM_WIPEONFORK) !== 0) return false;
    const always = this.mm.d.forkHugetlb === "copied" ? VM_HUGETLB | VM_PFNMAP | VM_MIXEDMAP : VM_PFNMAP | VM_MIXEDMAP;
    return (flags & always) !== 0 || vmas.anonVma(v) !== 0;
  }

  private announce(f: number): number {
    const { sim, vmas, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const v = s[f + VMA]! - 1;
    if (!this.needsCopy(v)) return this.copied(f);
    if (!isCowMapping(vmas.flags(v))) return this.copy(f);
    return sim.agents.call(
      f,
      this.fork.first + P_COPY,
      notifiers.invalidateRangeStart,
      s[f + MM]!,
      vmas.start(v),
      vmas.end(v),
      this.type(v),
      1,
    );
  }

  private type(v: number): number {
    return (this.mm.vmas.flags(v) & VM_HUGETLB) !== 0 ? MMU_NOTIFY_CLEAR : MMU_NOTIFY_PROTECTION_PAGE;
  }

  private copy(f: number): number {
    const { sim, vmas, zap, notifiers } = this.mm;
    const s = sim.agents.stack;
    const v = s.a[f + VMA]! - 1;
    // The copying is tried again in its own phase.
    const copying = this.fork.first + P_COPY;
    if (this.mm.pt.contended(s.a[f + MM]!, vmas.start(v), vmas.end(v))) return s.a[f] === copying ? BLOCKED : copying;
    const error = zap.copyPageRange(s.a[f + CHILD]!, s.a[f + MM]!, v);
    if (error < 0) s.set(f + RESULT, error);
    if (!isCowMapping(vmas.flags(v))) return this.copied(f);
    return sim.agents.call(
      f,
      this.fork.first + P_COPIED,
      notifiers.invalidateRangeEnd,
      s.a[f + MM]!,
      vmas.start(v),
      vmas.end(v),
      this.type(v),
      1,
    );
  }

  private copied(f: number): number {
    const { sim, vmas, files, d } = this.mm;
    const s = sim.agents.stack.a;
    const open = files.vmOps(vmas.file(s[f + VMA]! - 1))?.open;
    if (open !== undefined && d.forkOpen === "afterCopy")
      return sim.agents.call(f, this.fork.first + P_OPENED_LAST, open, s[f + CHILD]!, s[f + COPY]!);
    return this.nextVma(f);
  }

  private leave(f: number): number {
    const { sim, pt } = this.mm;
    const s = sim.agents.stack.a;
    if (s[f + CHILD]! >= 0) pt.tlb.flushMm(s[f + MM]!);
    sim.locks.unlockWrite(this.mm.mmapLock(s[f + MM]!));
    return sim.agents.ret(f, s[f + RESULT]!);
  }

  private exitLock(f: number): number {
    const { sim, vmas, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + MM]!;
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    if (vmas.first(mm) < 0) return this.exitDone(f);
    return sim.agents.call(f, this.exitMmap.first + E_UNMAP, notifiers.invalidateRangeStart, mm, 0, TASK_SIZE, MMU_NOTIFY_UNMAP, 1);
  }

  private exitUnmap(f: number): number {
    const { sim, vmas, zap, notifiers } = this.mm;
    const mm = sim.agents.stack.a[f + MM]!;
    for (let v = vmas.first(mm); v >= 0; v = vmas.next(v)) if (this.mm.pt.contended(mm, vmas.start(v), vmas.end(v))) return BLOCKED;
    for (let v = vmas.first(mm); v >= 0; v = vmas.next(v)) zap.zapRange(mm, vmas.start(v), vmas.end(v));
    return sim.agents.call(f, this.exitMmap.first + E_FREE, notifiers.invalidateRangeEnd, mm, 0, TASK_SIZE, MMU_NOTIFY_UNMAP, 1);
  }

  private exitFree(f: number): number {
    const { sim, vmas, zap } = this.mm;
    const mm = sim.agents.stack.a[f + MM]!;
    zap.freePgtables(mm, vmas.start(vmas.first(mm)), vmas.end(vmas.last(mm)), 0, -1);
    return this.exitClose(f);
  }

  private exitClose(f: number): number {
    const { sim, vmas, files } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    for (let v = vmas.first(mm); v >= 0; v = vmas.first(mm)) {
      const close = files.vmOps(vmas.file(v))?.close;
      if (close !== undefined) {
        s.set(f + CLOSING, v);
        return sim.agents.call(f, this.exitMmap.first + E_CLOSED, close, mm, v);
      }
      this.drop(v);
    }
    return this.exitDone(f);
  }

  private exitClosed(f: number): number {
    this.drop(this.mm.sim.agents.stack.a[f + CLOSING]!);
    return this.exitClose(f);
  }

  private drop(v: number): void {
    const { vmas, files } = this.mm;
    const file = vmas.file(v);
    vmas.remove(v);
    files.put(file);
  }

  private exitDone(f: number): number {
    const { sim } = this.mm;
    const mm = sim.agents.stack.a[f + MM]!;
    sim.locks.unlockWrite(this.mm.mmapLock(mm));
    this.mm.destroyMm(mm);
    return sim.agents.ret(f, 0);
  }
}
