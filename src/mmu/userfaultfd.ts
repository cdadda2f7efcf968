/**
 * userfaultfd (fs/userfaultfd.c, mm/userfaultfd.c): faults of registered ranges become messages for a
 * thread of the VMM, and the faulting thread sleeps until that thread has filled the page.
 *
 * A sleeping fault has dropped the mmap_lock; woken, it answers VM_FAULT_RETRY and is taken again.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSYS, EPERM } from "../sim/errno.js";
import { declareEvent } from "../sim/events.js";
import type { F64Pool } from "../sim/state.js";
import type { MmContext } from "./context.js";
import { FILE_HUGETLB, FILE_SHMEM } from "./files.js";
import type { HostFault } from "./fault.js";
import { ORDER_PAGE } from "./frames.js";
import { MMU_NOTIFY_PROTECTION_VMA } from "./notifiers.js";
import { LEVEL_SIZE, nextBoundary } from "./pagetable.js";
import { HI_DIRTY, HI_SPECIAL, HI_UFFD_WP, HI_WRITE, pfnHi, pfnLo, PTE_RDONLY } from "./pte.js";
import type { VmaChange } from "./vmachange.js";
import { VM_HUGETLB, VM_MAYWRITE, VM_SHARED, VM_UFFD_FLAGS, VM_UFFD_MINOR, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE } from "./vmflags.js";

/** userfaultfd(2): only faults of user mode; those inside KVM and system calls give SIGBUS. */
export const UFFD_USER_MODE_ONLY = 1;
export const UFFDIO_REGISTER_MODE_MISSING = 1;
export const UFFDIO_REGISTER_MODE_WP = 2;
export const UFFDIO_REGISTER_MODE_MINOR = 4;
/** COPY, ZEROPAGE, CONTINUE: do not wake. */
export const UFFDIO_MODE_DONTWAKE = 1;
export const UFFDIO_COPY_MODE_WP = 2;
export const UFFDIO_WRITEPROTECT_MODE_WP = 1;
export const UFFDIO_WRITEPROTECT_MODE_DONTWAKE = 2;
/** Flags of a message (uffd_msg.arg.pagefault.flags). */
export const UFFD_PAGEFAULT_FLAG_WRITE = 1;
export const UFFD_PAGEFAULT_FLAG_WP = 2;
export const UFFD_PAGEFAULT_FLAG_MINOR = 4;

export const userfaultEvent = declareEvent("faultline", "userfaultfd_fault", "a fault became a userfaultfd message; its thread sleeps", [
  { name: "uffd", kind: "dec" },
  { name: "addr", kind: "hex" },
  { name: "flags", kind: "hex" },
]);
export const userfaultWake = declareEvent("faultline", "userfaultfd_wake", "threads that sleep in a fault of this range go on", [
  { name: "uffd", kind: "dec" },
  { name: "start", kind: "hex" },
  { name: "end", kind: "hex" },
]);

/** Context words: state, mm, UFFD_USER_MODE_ONLY. */
const CTX = 4;
const C_STATE = 0;
const C_MM = 1;
const C_FLAGS = 2;
const STATE_NEW = 1;
const STATE_READY = 2;

/** Range words: context + 1, start, end. */
const RANGE = 3;
/** Waiter words: state, context, address, flags, order of arrival. */
const WAITER = 5;
const W_FREE = 0;
const W_PENDING = 1;
const W_READ = 2;
const W_WOKEN = 3;

const REASONS = [VM_UFFD_MISSING, VM_UFFD_WP, VM_UFFD_MINOR] as const;

const UFFD = ARG;
// register, unregister, zeropage, continue, writeprotect, wake
const START = ARG + 1;
const LEN = ARG + 2;
const MODE = ARG + 3;
const AT = ARG + 4;
const S_START = ARG + 5;
// copy
const SRC = ARG + 2;
const COPY_LEN = ARG + 3;
const COPY_MODE = ARG + 4;
const DONE = ARG + 5;
const NEW = ARG + 6;
const SUB = ARG + 7;

/** System calls and ioctls of a userfaultfd, as activities. */
export class Userfaultfd {
  /** (mm, UFFD_USER_MODE_ONLY or 0) -> R0 userfaultfd | -errno. */
  readonly create: Activity;
  /** UFFDIO_API: (uffd) -> 0 | -errno. */
  readonly api: Activity;
  /** UFFDIO_REGISTER: (uffd, start, len, mode) -> 0 | -errno. */
  readonly register: Activity;
  /** UFFDIO_UNREGISTER: (uffd, start, len) -> 0 | -errno. */
  readonly unregister: Activity;
  /** UFFDIO_COPY: (uffd, dst, src, len, mode) -> bytes | -errno. */
  readonly copy: Activity;
  /** UFFDIO_ZEROPAGE: (uffd, start, len, mode) -> bytes | -errno. */
  readonly zeropage: Activity;
  /** UFFDIO_CONTINUE: (uffd, start, len, mode) -> bytes | -errno. */
  readonly continue: Activity;
  /** UFFDIO_WRITEPROTECT: (uffd, start, len, mode) -> 0 | -errno. */
  readonly writeprotect: Activity;
  /** UFFDIO_WAKE: (uffd, start, len) -> 0 | -errno. */
  readonly wake: Activity;
  /** read of one message: (uffd, wait 0|1) -> R0 1, R1 address, R2 flags | -EAGAIN; blocks when asked to wait. */
  readonly read: Activity;

  /** [0] contexts, [1] waiters ever, [2] arrivals, [3] ranges. */
  private readonly globals: F64Pool;
  private readonly contexts: F64Pool;
  private readonly ranges: F64Pool;
  private readonly waiters: F64Pool;

  constructor(
    private readonly mm: MmContext,
    private readonly change: VmaChange,
    private readonly fault: HostFault,
  ) {
    const { state, agents } = mm.sim;
    this.globals = state.f64("uffd.globals", 4);
    this.contexts = state.f64("uffd.contexts", 4 * CTX);
    this.ranges = state.f64("uffd.ranges", 4 * RANGE);
    this.waiters = state.f64("uffd.waiters", 4 * WAITER);
    const fs = "fs/userfaultfd.c";
    this.create = agents.activity("userfaultfd", `${fs} userfaultfd`, 2, [["create", (f) => this.createNow(f)]]);
    this.api = agents.activity("uffdioApi", `${fs} userfaultfd_api`, 1, [["api", (f) => this.apiNow(f)]]);
    this.register = agents.activity("uffdioRegister", `${fs} userfaultfd_register`, 6, [
      ["check", (f) => this.registerCheck(f)],
      ["next", (f) => this.flagNext(f, true)],
    ]);
    this.unregister = agents.activity("uffdioUnregister", `${fs} userfaultfd_unregister`, 6, [
      ["check", (f) => this.unregisterCheck(f)],
      ["next", (f) => this.flagNext(f, false)],
    ]);
    this.copy = agents.activity("uffdioCopy", "mm/userfaultfd.c mfill_atomic_copy", 8, [
      ["source", (f) => this.copySource(f)],
      ["copy", (f) => this.copyPage(f)],
      ["install", (f) => this.copyInstall(f)],
    ]);
    this.zeropage = agents.activity("uffdioZeropage", "mm/userfaultfd.c mfill_atomic_zeropage", 6, [["fill", (f) => this.fill(f, false)]]);
    this.continue = agents.activity("uffdioContinue", "mm/userfaultfd.c mfill_atomic_continue", 6, [["fill", (f) => this.fill(f, true)]]);
    this.writeprotect = agents.activity("uffdioWriteprotect", "mm/userfaultfd.c mwriteprotect_range", 6, [
      ["start", (f) => this.wpStart(f)],
      ["change", (f) => this.wpChange(f)],
      ["done", (f) => this.wpDone(f)],
    ]);
    this.wake = agents.activity("uffdioWake", `${fs} userfaultfd_wake`, 3, [["wake", (f) => this.wakeNow(f)]]);
    this.read = agents.activity("uffdRead", `${fs} userfaultfd_read`, 2, [["read", (f) => this.readNow(f)]]);
    fault.userfaults = this;
  }

  // ---- the faulting side -----------------------------------------------------------------------

  /** The context that an address is registered with, or -1. */
  contextOf(mm: number, addr: number): number {
    const r = this.ranges.a;
    for (let i = 0; i < this.globals.a[3]!; i++) {
      const ctx = r[i * RANGE]! - 1;
      if (ctx >= 0 && addr >= r[i * RANGE + 1]! && addr < r[i * RANGE + 2]! && this.contexts.a[ctx * CTX + C_MM] === mm) return ctx;
    }
    return -1;
  }

  exists(ctx: number): boolean {
    return Number.isInteger(ctx) && ctx >= 0 && ctx < this.globals.a[0]!;
  }

  userModeOnly(ctx: number): boolean {
    return this.contexts.a[ctx * CTX + C_FLAGS] !== 0;
  }

  /** handle_userfault up to the sleep: a message is queued. @returns the waiter, for `woken` */
  queue(ctx: number, addr: number, flags: number): number {
    const n = this.globals.a[1]!;
    let w = 0;
    while (w < n && this.waiters.a[w * WAITER] !== W_FREE) w++;
    if (w === n) {
      this.waiters.ensure((n + 1) * WAITER);
      this.globals.set(1, n + 1);
    }
    const arrival = this.globals.a[2]! + 1;
    this.globals.set(2, arrival);
    this.waiters.set(w * WAITER, W_PENDING);
    this.waiters.set(w * WAITER + 1, ctx);
    this.waiters.set(w * WAITER + 2, addr);
    this.waiters.set(w * WAITER + 3, flags);
    this.waiters.set(w * WAITER + 4, arrival);
    this.mm.sim.bus.emit(userfaultEvent, ctx, addr, flags);
    return w;
  }

  /** True once the waiter may go on; it is gone then. */
  woken(w: number): boolean {
    if (this.waiters.a[w * WAITER] !== W_WOKEN) return false;
    this.waiters.set(w * WAITER, W_FREE);
    return true;
  }

  /** The fault sleeps without the mmap_lock. */
  dropLock(mm: number): void {
    this.mm.sim.locks.unlockRead(this.mm.mmapLock(mm));
  }

  private wakeRange(ctx: number, start: number, end: number): void {
    this.mm.sim.bus.emit(userfaultWake, ctx, start, end);
    for (let w = 0; w < this.globals.a[1]!; w++) {
      const at = w * WAITER;
      const a = this.waiters.a;
      const asleep = a[at] === W_PENDING || a[at] === W_READ;
      if (asleep && a[at + 1] === ctx && a[at + 2]! >= start && a[at + 2]! < end) this.waiters.set(at, W_WOKEN);
    }
  }

  // ---- the file descriptor ---------------------------------------------------------------------

  private createNow(f: number): number {
    const { sim, d } = this.mm;
    const s = sim.agents.stack.a;
    sim.agents.charge(sim.costs.syscall);
    if (!d.userfaultfd) return sim.agents.ret(f, -ENOSYS);
    if ((s[f + ARG + 1]! & ~UFFD_USER_MODE_ONLY) !== 0) return sim.agents.ret(f, -EINVAL);
    const ctx = this.globals.a[0]!;
    this.globals.set(0, ctx + 1);
    this.contexts.ensure((ctx + 1) * CTX);
    this.contexts.set(ctx * CTX + C_STATE, STATE_NEW);
    this.contexts.set(ctx * CTX + C_MM, s[f + ARG]!);
    this.contexts.set(ctx * CTX + C_FLAGS, s[f + ARG + 1]!);
    return sim.agents.ret(f, ctx);
  }

  private apiNow(f: number): number {
    const { agents } = this.mm.sim;
    const ctx = agents.stack.a[f + UFFD]!;
    if (this.contexts.a[ctx * CTX + C_STATE] !== STATE_NEW) return agents.ret(f, -EINVAL);
    this.contexts.set(ctx * CTX + C_STATE, STATE_READY);
    return agents.ret(f, 0);
  }

  private readNow(f: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    const ctx = s[f + UFFD]!;
    let best = -1;
    for (let w = 0; w < this.globals.a[1]!; w++) {
      const at = w * WAITER;
      const a = this.waiters.a;
      if (a[at] === W_PENDING && a[at + 1] === ctx && (best < 0 || a[at + 4]! < a[best * WAITER + 4]!)) best = w;
    }
    if (best < 0) return s[f + ARG + 1] !== 0 ? BLOCKED : agents.ret(f, -EAGAIN);
    this.waiters.set(best * WAITER, W_READ);
    return agents.ret(f, 1, this.waiters.a[best * WAITER + 2]!, this.waiters.a[best * WAITER + 3]!);
  }

  /** validate_range, and the API handshake. @returns 0 | -EINVAL */
  private validRange(ctx: number, start: number, len: number): number {
    const ready = this.contexts.a[ctx * CTX + C_STATE] === STATE_READY;
    return ready && start % 4096 === 0 && len % 4096 === 0 && len > 0 ? 0 : -EINVAL;
  }

  private mmOf(f: number): number {
    return this.contexts.a[this.mm.sim.agents.stack.a[f + UFFD]! * CTX + C_MM]!;
  }

  // ---- register, unregister --------------------------------------------------------------------

  private unlockWrite(f: number, r: number): number {
    const { sim } = this.mm;
    sim.locks.unlockWrite(this.mm.mmapLock(this.mmOf(f)));
    return sim.agents.ret(f, r);
  }

  private registerCheck(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack;
    const ctx = s.a[f + UFFD]!;
    const mm = this.mmOf(f);
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const start = s.a[f + START]!;
    const end = start + s.a[f + LEN]!;
    const mode = s.a[f + MODE]!;
    const modes = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR;
    if (this.validRange(ctx, start, end - start) < 0 || mode === 0 || (mode & ~modes) !== 0) return this.unlockWrite(f, -EINVAL);
    const error = this.canRegister(ctx, mm, start, end, mode);
    if (error < 0) return this.unlockWrite(f, error);
    // What is left of mappings that are gone by now.
    for (let c = 0; c < this.globals.a[0]!; c++) if (this.contexts.a[c * CTX + C_MM] === mm) this.cutRanges(c, start, end);
    const n = this.globals.a[3]!;
    this.ranges.ensure((n + 1) * RANGE);
    this.globals.set(3, n + 1);
    this.ranges.set(n * RANGE, ctx + 1);
    this.ranges.set(n * RANGE + 1, start);
    this.ranges.set(n * RANGE + 2, end);
    s.set(f + AT, start);
    return this.flagNext(f, true);
  }

  /** vma_can_userfault for every VMA of the range. */
  private canRegister(ctx: number, mm: number, start: number, end: number, mode: number): number {
    const { vmas, files, d } = this.mm;
    if ((mode & UFFDIO_REGISTER_MODE_WP) !== 0 && !d.userfaultfdWp) return -EINVAL;
    if ((mode & UFFDIO_REGISTER_MODE_MINOR) !== 0 && !d.userfaultfdMinor) return -EINVAL;
    let v = vmas.findVma(mm, start);
    if (v < 0 || vmas.start(v) >= end) return -EINVAL;
    for (; v >= 0 && vmas.start(v) < end; v = vmas.next(v)) {
      const file = vmas.file(v);
      const kind = files.kind(file);
      if (file >= 0 && kind !== FILE_SHMEM && kind !== FILE_HUGETLB) return -EINVAL;
      if ((mode & UFFDIO_REGISTER_MODE_MINOR) !== 0 && file < 0) return -EINVAL;
      if ((vmas.flags(v) & VM_MAYWRITE) === 0) return -EPERM;
      const other = (vmas.flags(v) & VM_UFFD_FLAGS) === 0 ? -1 : this.contextOf(mm, Math.max(start, vmas.start(v)));
      if (other >= 0 && other !== ctx) return -EBUSY;
    }
    return 0;
  }

  private unregisterCheck(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack;
    const ctx = s.a[f + UFFD]!;
    if (!sim.locks.write(this.mm.mmapLock(this.mmOf(f)))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const start = s.a[f + START]!;
    const end = start + s.a[f + LEN]!;
    if (this.validRange(ctx, start, end - start) < 0) return this.unlockWrite(f, -EINVAL);
    this.wakeRange(ctx, start, end);
    this.cutRanges(ctx, start, end);
    s.set(f + AT, start);
    return this.flagNext(f, false);
  }

  /** The context's ranges lose [start, end). */
  private cutRanges(ctx: number, start: number, end: number): void {
    const n = this.globals.a[3]!;
    for (let i = 0; i < n; i++) {
      const at = i * RANGE;
      const [c, from, to] = [this.ranges.a[at]!, this.ranges.a[at + 1]!, this.ranges.a[at + 2]!];
      if (c !== ctx + 1 || to <= start || from >= end) continue;
      if (from < start && to > end) {
        const m = this.globals.a[3]!;
        this.ranges.ensure((m + 1) * RANGE);
        this.globals.set(3, m + 1);
        this.ranges.set(m * RANGE, c);
        this.ranges.set(m * RANGE + 1, end);
        this.ranges.set(m * RANGE + 2, to);
        this.ranges.set(at + 2, start);
      } else if (from < start) this.ranges.set(at + 2, start);
      else if (to > end) this.ranges.set(at + 1, end);
      else this.ranges.set(at, 0);
    }
  }

  /** Sets or takes the VM_UFFD_* flags of the VMAs of the range, one after the other; they split where they must. */
  private flagNext(f: number, on: boolean): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    if (s.a[f + R0]! < 0) return this.unlockWrite(f, s.a[f + R0]!);
    const end = s.a[f + START]! + s.a[f + LEN]!;
    const act = on ? this.register : this.unregister;
    for (;;) {
      // A VMA that has joined its neighbour may reach beyond the range.
      const v = s.a[f + AT]! < end ? vmas.findVma(this.mmOf(f), s.a[f + AT]!) : -1;
      if (v < 0 || vmas.start(v) >= end) return this.unlockWrite(f, 0);
      const from = Math.max(s.a[f + AT]!, vmas.start(v));
      const to = Math.min(end, vmas.end(v));
      const old = vmas.flags(v);
      let flags = old & ~VM_UFFD_FLAGS;
      if (on) for (const [i, flag] of REASONS.entries()) if ((s.a[f + MODE]! & (1 << i)) !== 0) flags |= flag;
      s.set(f + AT, to);
      if (flags !== old) return sim.agents.call(f, act.first + 1, this.change.modifyFlags, v, from, to, flags);
    }
  }

  // ---- filling pages ---------------------------------------------------------------------------

  /** find_dst_vma: one VMA that holds the whole range and is registered. @returns VMA, or -1 */
  private destination(mm: number, start: number, len: number): number {
    const { vmas } = this.mm;
    const v = vmas.findVma(mm, start);
    return v >= 0 && vmas.start(v) <= start && start + len <= vmas.end(v) && (vmas.flags(v) & VM_UFFD_FLAGS) !== 0 ? v : -1;
  }

  private pageSize(v: number): number {
    const { vmas, files } = this.mm;
    return (vmas.flags(v) & VM_HUGETLB) !== 0 ? files.hugetlbSize(vmas.file(v)) : 4096;
  }

  /** The source page is read as copy_from_user reads it, without the destination's lock. */
  private copySource(f: number): number {
    const { sim, gup } = this.mm;
    const s = sim.agents.stack.a;
    const ctx = s[f + UFFD]!;
    const done = s[f + DONE]!;
    if (done === 0 && s[f + SUB] === 0) {
      sim.agents.charge(sim.costs.syscall);
      if (this.validRange(ctx, s[f + START]!, s[f + COPY_LEN]!) < 0 || s[f + SRC]! % 4096 !== 0) return sim.agents.ret(f, -EINVAL);
      if (this.destination(this.mmOf(f), s[f + START]!, s[f + COPY_LEN]!) < 0) return sim.agents.ret(f, -ENOENT);
    }
    if (done >= s[f + COPY_LEN]!) {
      if ((s[f + COPY_MODE]! & UFFDIO_MODE_DONTWAKE) === 0) this.wakeRange(ctx, s[f + START]!, s[f + START]! + done);
      return sim.agents.ret(f, done);
    }
    const from = s[f + SRC]! + done + s[f + SUB]! * 4096;
    return sim.agents.call(f, this.copy.first + 1, gup.getUserPagesUnlocked, this.mmOf(f), from, 0);
  }

  private copyPage(f: number): number {
    const { sim, frames, vmas } = this.mm;
    const s = sim.agents.stack;
    const from = s.a[f + R0]!;
    const mm = this.mmOf(f);
    const at = s.a[f + START]! + s.a[f + DONE]!;
    const v = this.destination(mm, at, 4096);
    if (from < 0 || v < 0) {
      if (from >= 0) frames.put(from);
      return this.copyEnd(f, from < 0 ? -EFAULT : -ENOENT);
    }
    const size = this.pageSize(v);
    if (s.a[f + SUB] === 0) {
      const pfn = size === 4096 ? frames.alloc(ORDER_PAGE) : frames.hugetlbAlloc(Math.log2(size) - 12);
      if (pfn < 0) {
        frames.put(from);
        return this.copyEnd(f, -ENOMEM);
      }
      s.set(f + NEW, pfn);
    }
    frames.copy(s.a[f + NEW]! + s.a[f + SUB]!, from, ORDER_PAGE);
    frames.put(from);
    s.set(f + SUB, s.a[f + SUB]! + 1);
    if (s.a[f + SUB]! * 4096 < size) return this.copySource(f);
    vmas.anonVmaPrepare(v);
    return this.copyInstall(f);
  }

  /** mfill_atomic_pte_copy, the part under the mmap_lock. */
  private copyInstall(f: number): number {
    const { sim, frames, pt } = this.mm;
    const s = sim.agents.stack;
    const mm = this.mmOf(f);
    const to = s.a[f + START]! + s.a[f + DONE]!;
    if (pt.contended(mm, to, to + 1) || !sim.locks.read(this.mm.mmapLock(mm))) {
      s.set(f, this.copy.first + 2);
      return BLOCKED;
    }
    const at = s.a[f + START]! + s.a[f + DONE]!;
    const pfn = s.a[f + NEW]!;
    const v = this.destination(mm, at, 4096);
    const r = v < 0 ? -ENOENT : this.install(mm, v, at, pfn, (s.a[f + COPY_MODE]! & UFFDIO_COPY_MODE_WP) !== 0);
    sim.locks.unlockRead(this.mm.mmapLock(mm));
    if (r < 0) {
      frames.put(pfn);
      return this.copyEnd(f, r);
    }
    s.set(f + SUB, 0);
    s.set(f + DONE, s.a[f + DONE]! + this.pageSize(v));
    return this.copySource(f);
  }

  private copyEnd(f: number, error: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    const done = s[f + DONE]!;
    if (done === 0) return agents.ret(f, error);
    if ((s[f + COPY_MODE]! & UFFDIO_MODE_DONTWAKE) === 0) this.wakeRange(s[f + UFFD]!, s[f + START]!, s[f + START]! + done);
    return agents.ret(f, done);
  }

  /** Puts a fresh page, with one reference, into the file or the address space (mfill_atomic_install_pte). @returns 0 | -EEXIST */
  private install(mm: number, v: number, at: number, pfn: number, wp: boolean): number {
    const { vmas, files, frames, pt } = this.mm;
    const file = vmas.file(v);
    pt.walk(mm, at);
    if (!pt.none) return -EEXIST;
    const shared = (vmas.flags(v) & VM_SHARED) !== 0;
    if (file >= 0 && shared) {
      const pgoff = vmas.pageIndex(v, at);
      if (pgoff * 4096 >= files.size(file)) return -EFAULT;
      if (files.cache.find(file, pgoff) >= 0) return -EEXIST;
      frames.setFile(pfn);
      files.cache.put(file, pgoff, pfn);
      frames.addMapping(pfn);
    } else frames.newAnon(pfn);
    this.setEntry(mm, v, at, pfn, wp);
    return 0;
  }

  private setEntry(mm: number, v: number, at: number, pfn: number, wp: boolean): void {
    const { vmas, pt, zap } = this.mm;
    const writable = (vmas.flags(v) & VM_WRITE) !== 0 && !wp;
    const lo = writable ? zap.prot.lo(v) & ~PTE_RDONLY : zap.prot.lo(v);
    const hi = (zap.prot.hi(v) & ~HI_WRITE) | HI_DIRTY | (writable ? HI_WRITE : 0) | (wp ? HI_UFFD_WP : 0);
    const size = this.pageSize(v);
    if (size === 4096) pt.setEntry(mm, at, 3, pt.ensure(mm, at, 3), pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    else this.fault.hugetlb.set(mm, at, Math.log2(size) - 12, pfn, lo, hi);
  }

  /** ZEROPAGE, or CONTINUE with what the page cache holds. */
  private fill(f: number, minor: boolean): number {
    const { sim } = this.mm;
    const s = sim.agents.stack.a;
    const mm = this.mmOf(f);
    const start = s[f + START]!;
    const len = s[f + LEN]!;
    if (this.mm.pt.contended(mm, start, start + len) || !sim.locks.read(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    let done = 0;
    let error = this.validRange(s[f + UFFD]!, start, len);
    const v = error < 0 ? -1 : this.destination(mm, start, len);
    if (error === 0 && v < 0) error = -ENOENT;
    while (error === 0 && done < len) {
      error = minor ? this.continueOne(mm, v, start + done) : this.zeroOne(mm, v, start + done);
      if (error === 0) done += this.pageSize(v);
    }
    sim.locks.unlockRead(this.mm.mmapLock(mm));
    if (done > 0 && (s[f + MODE]! & UFFDIO_MODE_DONTWAKE) === 0) this.wakeRange(s[f + UFFD]!, start, start + done);
    return sim.agents.ret(f, done > 0 ? done : error);
  }

  private zeroOne(mm: number, v: number, at: number): number {
    const { vmas, frames, pt, zap } = this.mm;
    if ((vmas.flags(v) & VM_HUGETLB) !== 0) return -EINVAL;
    if (vmas.file(v) >= 0) {
      const pfn = frames.alloc(ORDER_PAGE);
      if (pfn < 0) return -ENOMEM;
      frames.clear(pfn, ORDER_PAGE);
      const r = this.install(mm, v, at, pfn, false);
      if (r < 0) frames.put(pfn);
      return r;
    }
    pt.walk(mm, at);
    if (!pt.none) return -EEXIST;
    const zero = frames.zeroPfn;
    pt.setEntry(mm, at, 3, pt.ensure(mm, at, 3), pfnLo(zero) | zap.prot.lo(v), pfnHi(zero) | zap.prot.hi(v) | HI_SPECIAL);
    return 0;
  }

  private continueOne(mm: number, v: number, at: number): number {
    const { vmas, files, frames, pt } = this.mm;
    const file = vmas.file(v);
    if (file < 0) return -EINVAL;
    const pfn = files.cache.find(file, vmas.pageIndex(v, at));
    if (pfn < 0) return -EFAULT;
    pt.walk(mm, at);
    if (!pt.none) return -EEXIST;
    frames.addMapping(pfn);
    this.setEntry(mm, v, at, pfn, false);
    return 0;
  }

  // ---- write protection ------------------------------------------------------------------------

  private wpStart(f: number): number {
    const { sim, vmas, zap, notifiers } = this.mm;
    const s = sim.agents.stack;
    const mm = this.mmOf(f);
    const start = s.a[f + START]!;
    const end = start + s.a[f + LEN]!;
    if (!sim.locks.read(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const v = this.destination(mm, start, end - start);
    let error = this.validRange(s.a[f + UFFD]!, start, end - start);
    if (error === 0 && (v < 0 || (vmas.flags(v) & VM_UFFD_WP) === 0)) error = -ENOENT;
    if (error < 0) {
      sim.locks.unlockRead(this.mm.mmapLock(mm));
      return sim.agents.ret(f, error);
    }
    const first = zap.firstPopulated(mm, start, end, 2);
    s.set(f + S_START, first);
    if (first < 0) return this.wpDone(f);
    return sim.agents.call(f, this.writeprotect.first + 1, notifiers.invalidateRangeStart, mm, first, end, MMU_NOTIFY_PROTECTION_VMA, 1);
  }

  /** change_protection with MM_CP_UFFD_WP or MM_CP_UFFD_WP_RESOLVE. */
  private wpChange(f: number): number {
    const { sim, pt, zap, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const mm = this.mmOf(f);
    const first = s[f + S_START]!;
    const end = s[f + START]! + s[f + LEN]!;
    const protect = (s[f + MODE]! & UFFDIO_WRITEPROTECT_MODE_WP) !== 0;
    if (pt.contended(mm, first, end)) return BLOCKED;
    for (let a = first; a < end; a = nextBoundary(a, pt.level)) {
      if (!pt.walk(mm, a)) continue;
      if (pt.leafLevel === 2 && (a % 0x200000 !== 0 || a + 0x200000 > end)) {
        zap.splitHugePmdPlain(mm, a);
        if (!pt.walk(mm, a)) continue;
      }
      const block = a - (a % LEVEL_SIZE[pt.leafLevel as 1 | 2 | 3]);
      const dirty = pt.hwDirty ? HI_DIRTY : 0;
      if (protect) pt.setEntry(mm, block, pt.leafLevel, pt.entry, pt.lo | PTE_RDONLY, (pt.hi & ~HI_WRITE) | HI_UFFD_WP | dirty);
      else if ((pt.hi & HI_UFFD_WP) !== 0) pt.setEntry(mm, block, pt.leafLevel, pt.entry, pt.lo, pt.hi & ~HI_UFFD_WP);
    }
    pt.tlb.flushRange(mm, first, end);
    return sim.agents.call(f, this.writeprotect.first + 2, notifiers.invalidateRangeEnd, mm, first, end, MMU_NOTIFY_PROTECTION_VMA, 1);
  }

  private wpDone(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack.a;
    sim.locks.unlockRead(this.mm.mmapLock(this.mmOf(f)));
    const stay = UFFDIO_WRITEPROTECT_MODE_WP | UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
    if ((s[f + MODE]! & stay) === 0) this.wakeRange(s[f + UFFD]!, s[f + START]!, s[f + START]! + s[f + LEN]!);
    return sim.agents.ret(f, 0);
  }

  private wakeNow(f: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    const error = this.validRange(s[f + UFFD]!, s[f + START]!, s[f + LEN]!);
    if (error === 0) this.wakeRange(s[f + UFFD]!, s[f + START]!, s[f + START]! + s[f + LEN]!);
    return agents.ret(f, error);
  }
}
