/**
 * userfaultfd (fs/userfaultfd.c, mm/userfaultfd.c): faults of registered ranges become messages for a
 * thread of the VMM, and the faulting thread sleeps until that thread has filled the page.
 *
 * A sleeping fault has dropped the mmap_lock; woken, it answers VM_FAULT_RETRY and is taken again.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, EIO, ENOENT, ENOMEM, ENOSYS, EPERM } from "../sim/errno.js";
import { declareEvent } from "../sim/events.js";
import type { F64Pool } from "../sim/state.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { MmContext } from "./context.js";
import { FILE_HUGETLB, FILE_SHMEM } from "./files.js";
import type { HostFault } from "./fault.js";
import { FRAME_HWPOISON, ORDER_PAGE } from "./frames.js";
import { MMU_NOTIFY_PROTECTION_VMA } from "./notifiers.js";
import { LEVEL_SIZE, nextBoundary, PMD_SIZE } from "./pagetable.js";
import {
  HI_DIRTY,
  HI_SPECIAL,
  HI_UFFD_WP,
  HI_WRITE,
  MARKER_POISONED,
  MARKER_UFFD_WP,
  noneMostly,
  pfnHi,
  pfnLo,
  PTE_RDONLY,
  pteDirty,
  SWP_SWAP,
  swapEntryType,
} from "./pte.js";
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
export const UFFDIO_CONTINUE_MODE_WP = 2;
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
const VMA = ARG + 5;
// uffdWpRange
const WP_VMA = ARG;
const WP_START = ARG + 1;
const WP_END = ARG + 2;
const PROTECT = ARG + 3;
const FIRST = ARG + 4;
// copy; SUB: bytes of the present page that are copied
const SRC = ARG + 2;
const COPY_LEN = ARG + 3;
const COPY_MODE = ARG + 4;
const DONE = ARG + 5;
const NEW = ARG + 6;
const SUB = ARG + 7;

/** Fills one page of a VMA. @returns 0 | -errno */
type FillOne = (mm: number, v: number, at: number, wp: boolean) => number;

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
  /** UFFDIO_POISON: (uffd, start, len, mode) -> bytes | -errno. */
  readonly poison: Activity;
  /** read of one message: (uffd, wait 0|1) -> R0 1, R1 address, R2 flags | -EAGAIN; blocks when asked to wait. */
  readonly read: Activity;

  /** (VMA, start, end, protect 0|1): change_protection with MM_CP_UFFD_WP or MM_CP_UFFD_WP_RESOLVE. */
  private readonly wpRange: Activity;

  /** [0] contexts, [1] waiters ever, [2] arrivals. */
  private readonly globals: F64Pool;
  private readonly contexts: F64Pool;
  private readonly waiters: F64Pool;

  constructor(
    private readonly mm: MmContext,
    private readonly change: VmaChange,
    private readonly fault: HostFault,
    private readonly phys: PhysicalMemory,
  ) {
    const { state, agents } = mm.sim;
    this.globals = state.f64("uffd.globals", 4);
    this.contexts = state.f64("uffd.contexts", 4 * CTX);
    this.waiters = state.f64("uffd.waiters", 4 * WAITER);
    const fs = "fs/userfaultfd.c";
    this.create = agents.activity("userfaultfd", `${fs} userfaultfd`, 2, [["create", (f) => this.createNow(f)]]);
    this.api = agents.activity("uffdioApi", `${fs} userfaultfd_api`, 1, [["api", (f) => this.apiNow(f)]]);
    this.register = agents.activity("uffdioRegister", `${fs} userfaultfd_register`, 6, [
      ["check", (f) => this.registerCheck(f)],
      ["next", (f) => this.registerNext(f)],
    ]);
    this.unregister = agents.activity("uffdioUnregister", `${fs} userfaultfd_unregister`, 6, [
      ["check", (f) => this.unregisterCheck(f)],
      ["next", (f) => this.unregisterNext(f)],
      ["clearVma", (f) => this.clearVma(f)],
    ]);
    this.copy = agents.activity("uffdioCopy", "mm/userfaultfd.c mfill_atomic_copy", 8, [
      ["source", (f) => this.copySource(f)],
      ["copy", (f) => this.copyPage(f)],
      ["install", (f) => this.copyInstall(f)],
    ]);
    this.zeropage = agents.activity("uffdioZeropage", "mm/userfaultfd.c mfill_atomic_zeropage", 6, [
      ["fill", (f) => this.fill(f, this.zeroOne)],
    ]);
    this.continue = agents.activity("uffdioContinue", "mm/userfaultfd.c mfill_atomic_continue", 6, [
      ["fill", (f) => this.fill(f, this.continueOne)],
    ]);
    this.poison = agents.activity("uffdioPoison", "mm/userfaultfd.c mfill_atomic_poison", 6, [
      ["fill", (f) => this.fill(f, this.poisonOne)],
    ]);
    this.writeprotect = agents.activity("uffdioWriteprotect", "mm/userfaultfd.c mwriteprotect_range", 6, [
      ["start", (f) => this.wpStart(f)],
      ["next", (f) => this.wpNext(f)],
    ]);
    this.wpRange = agents.activity("uffdWpRange", "mm/userfaultfd.c uffd_wp_range", 5, [
      ["start", (f) => this.changeStart(f)],
      ["change", (f) => this.changeEntries(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.wake = agents.activity("uffdioWake", `${fs} userfaultfd_wake`, 3, [["wake", (f) => this.wakeNow(f)]]);
    this.read = agents.activity("uffdRead", `${fs} userfaultfd_read`, 2, [["read", (f) => this.readNow(f)]]);
    fault.userfaults = this;
  }

  // ---- the faulting side -----------------------------------------------------------------------

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
    if ((s[f + ARG + 1]! & ~(d.userfaultfdUserMode ? UFFD_USER_MODE_ONLY : 0)) !== 0) return sim.agents.ret(f, -EINVAL);
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
    s.set(f + AT, start);
    return this.registerNext(f);
  }

  /** vma_can_userfault. */
  private canUserfault(v: number, modes: number): boolean {
    const { vmas, files, d } = this.mm;
    const file = vmas.file(v);
    if (file < 0) return (modes & UFFDIO_REGISTER_MODE_MINOR) === 0;
    const kind = files.kind(file);
    return d.userfaultfdFiles && (kind === FILE_SHMEM || kind === FILE_HUGETLB);
  }

  /** The modes that a VMA is registered with. */
  private modesOf(v: number): number {
    const flags = this.mm.vmas.flags(v);
    let modes = 0;
    for (let i = 0; i < REASONS.length; i++) if ((flags & REASONS[i]!) !== 0) modes |= 1 << i;
    return modes;
  }

  /** The first VMA of the range, or -1; a huge page must not be cut at its start. */
  private firstVma(mm: number, start: number, end: number): number {
    const { vmas } = this.mm;
    const v = vmas.findVma(mm, start);
    return v >= 0 && vmas.start(v) < end && start % this.pageSize(v) === 0 ? v : -1;
  }

  private canRegister(ctx: number, mm: number, start: number, end: number, mode: number): number {
    const { vmas, d } = this.mm;
    if ((mode & UFFDIO_REGISTER_MODE_WP) !== 0 && !d.userfaultfdWp) return -EINVAL;
    if ((mode & UFFDIO_REGISTER_MODE_MINOR) !== 0 && !d.userfaultfdMinor) return -EINVAL;
    let v = this.firstVma(mm, start, end);
    if (v < 0) return -EINVAL;
    for (; v >= 0 && vmas.start(v) < end; v = vmas.next(v)) {
      if (!this.canUserfault(v, mode)) return -EINVAL;
      if ((vmas.flags(v) & VM_MAYWRITE) === 0) return -EPERM;
      if (end <= vmas.end(v) && end % this.pageSize(v) !== 0) return -EINVAL;
      const other = vmas.uffd(v);
      if (other >= 0 && other !== ctx) return -EBUSY;
    }
    return 0;
  }

  /** The VMAs of the range get their flags and context, one after the other; they split where they must. */
  private registerNext(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    if (s.a[f + R0]! < 0) return this.unlockWrite(f, s.a[f + R0]!);
    const end = s.a[f + START]! + s.a[f + LEN]!;
    const mode = s.a[f + MODE]!;
    const ctx = s.a[f + UFFD]!;
    for (;;) {
      // A VMA that has joined its neighbour may reach beyond the range.
      const v = s.a[f + AT]! < end ? vmas.findVma(this.mmOf(f), s.a[f + AT]!) : -1;
      if (v < 0 || vmas.start(v) >= end) return this.unlockWrite(f, 0);
      const from = Math.max(s.a[f + AT]!, vmas.start(v));
      const to = Math.min(end, vmas.end(v));
      s.set(f + AT, to);
      // Registered for this and more: nothing is taken away.
      if (vmas.uffd(v) === ctx && (this.modesOf(v) & mode) === mode) continue;
      let flags = vmas.flags(v) & ~VM_UFFD_FLAGS;
      for (let i = 0; i < REASONS.length; i++) if ((mode & (1 << i)) !== 0) flags |= REASONS[i]!;
      return sim.agents.call(f, this.register.first + 1, this.change.modifyFlags, v, from, to, flags, ctx + 1);
    }
  }

  private unregisterCheck(f: number): number {
    const { sim, vmas, d } = this.mm;
    const s = sim.agents.stack;
    const ctx = s.a[f + UFFD]!;
    const mm = this.mmOf(f);
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const start = s.a[f + START]!;
    const end = start + s.a[f + LEN]!;
    if (this.validRange(ctx, start, end - start) < 0) return this.unlockWrite(f, -EINVAL);
    let v = this.firstVma(mm, start, end);
    if (v < 0) return this.unlockWrite(f, -EINVAL);
    for (; v >= 0 && vmas.start(v) < end; v = vmas.next(v)) {
      const other = vmas.uffd(v) >= 0 && vmas.uffd(v) !== ctx;
      if (!this.canUserfault(v, this.modesOf(v)) || (other && d.userfaultfdUnregisterOther === "EINVAL"))
        return this.unlockWrite(f, -EINVAL);
    }
    s.set(f + AT, start);
    return this.unregisterNext(f);
  }

  /** Who waits for an absent page of the VMA goes on; what was write-protected is so no more (uffd_wp_range). */
  private unregisterNext(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    if (s.a[f + R0]! < 0) return this.unlockWrite(f, s.a[f + R0]!);
    const end = s.a[f + START]! + s.a[f + LEN]!;
    for (;;) {
      const v = s.a[f + AT]! < end ? vmas.findVma(this.mmOf(f), s.a[f + AT]!) : -1;
      if (v < 0 || vmas.start(v) >= end) return this.unlockWrite(f, 0);
      const from = Math.max(s.a[f + AT]!, vmas.start(v));
      const to = Math.min(end, vmas.end(v));
      s.set(f + AT, from);
      s.set(f + VMA, v);
      if (vmas.uffd(v) < 0) {
        s.set(f + AT, to);
        continue;
      }
      const flags = vmas.flags(v);
      if ((flags & VM_UFFD_MISSING) !== 0) this.wakeRange(vmas.uffd(v), from, to);
      if ((flags & VM_UFFD_WP) !== 0) return sim.agents.call(f, this.unregister.first + 2, this.wpRange, v, from, to, 0);
      return this.clearVma(f);
    }
  }

  /** userfaultfd_clear_vma. */
  private clearVma(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    const v = s.a[f + VMA]!;
    const from = s.a[f + AT]!;
    const to = Math.min(s.a[f + START]! + s.a[f + LEN]!, vmas.end(v));
    s.set(f + AT, to);
    return sim.agents.call(f, this.unregister.first + 1, this.change.modifyFlags, v, from, to, vmas.flags(v) & ~VM_UFFD_FLAGS);
  }

  // ---- filling pages ---------------------------------------------------------------------------

  /** find_dst_vma: one VMA that holds the whole range and is registered, with whom ever. @returns VMA, or -1 */
  private destination(mm: number, start: number, len: number): number {
    const { vmas } = this.mm;
    const v = vmas.findVma(mm, start);
    return v >= 0 && vmas.start(v) <= start && start + len <= vmas.end(v) && vmas.uffd(v) >= 0 ? v : -1;
  }

  private pageSize(v: number): number {
    const { vmas, files } = this.mm;
    return (vmas.flags(v) & VM_HUGETLB) !== 0 ? files.hugetlbSize(vmas.file(v)) : 4096;
  }

  /** What mfill_atomic asks before it fills anything. @param known the modes that this ioctl has @returns VMA, or -errno */
  private target(f: number, start: number, len: number, mode: number, known: number): number {
    const { vmas, d } = this.mm;
    if (this.validRange(this.mm.sim.agents.stack.a[f + UFFD]!, start, len) < 0 || (mode & ~known) !== 0) return -EINVAL;
    const v = this.destination(this.mmOf(f), start, len);
    if (v < 0) return d.userfaultfdNoVma === "EINVAL" ? -EINVAL : -ENOENT;
    if ((mode & UFFDIO_COPY_MODE_WP) !== 0 && (vmas.flags(v) & VM_UFFD_WP) === 0) return -EINVAL;
    return v;
  }

  private cutsHugePage(v: number, start: number, len: number): boolean {
    const size = this.pageSize(v);
    return start % size !== 0 || len % size !== 0;
  }

  /** The source is read as copy_from_user reads it, without the destination's lock, page by page. */
  private copySource(f: number): number {
    const { sim, gup } = this.mm;
    const s = sim.agents.stack.a;
    const ctx = s[f + UFFD]!;
    const done = s[f + DONE]!;
    const len = s[f + COPY_LEN]!;
    if (done === 0 && s[f + SUB] === 0) {
      sim.agents.charge(sim.costs.syscall);
      const known = UFFDIO_MODE_DONTWAKE | (this.mm.d.userfaultfdWriteprotect ? UFFDIO_COPY_MODE_WP : 0);
      const v = this.target(f, s[f + START]!, len, s[f + COPY_MODE]!, known);
      if (v < 0) return sim.agents.ret(f, v);
      if (this.cutsHugePage(v, s[f + START]!, len)) return sim.agents.ret(f, -EINVAL);
    }
    if (done >= len) {
      if ((s[f + COPY_MODE]! & UFFDIO_MODE_DONTWAKE) === 0) this.wakeRange(ctx, s[f + START]!, s[f + START]! + done);
      return sim.agents.ret(f, done);
    }
    if (s[f + SUB] === 0) {
      const r = this.occupied(this.mmOf(f), s[f + START]! + done);
      if (r < 0) return this.copyEnd(f, r);
    }
    return sim.agents.call(f, this.copy.first + 1, gup.getUserPagesUnlocked, this.mmOf(f), s[f + SRC]! + done + s[f + SUB]!, 0);
  }

  /** What is refused before the source is looked at: a THP, a huge page that is there already. @returns 0 | -ENOENT | -EEXIST */
  private occupied(mm: number, at: number): number {
    const { pt, vmas, files } = this.mm;
    const v = this.destination(mm, at, 4096);
    if (v < 0) return -ENOENT;
    pt.walk(mm, at);
    if ((vmas.flags(v) & VM_HUGETLB) === 0) return pt.level < 3 && !pt.none ? -EEXIST : 0;
    const cached = (vmas.flags(v) & VM_SHARED) !== 0 && files.cache.find(vmas.file(v), vmas.pageIndex(v, at)) >= 0;
    return cached || !noneMostly(pt.lo, pt.hi) ? -EEXIST : 0;
  }

  private copyPage(f: number): number {
    const { sim, frames, vmas } = this.mm;
    const s = sim.agents.stack;
    const from = s.a[f + R0]!;
    const mm = this.mmOf(f);
    const at = s.a[f + START]! + s.a[f + DONE]!;
    const sub = s.a[f + SUB]!;
    const v = this.destination(mm, at, 4096);
    if (from < 0 || v < 0) {
      if (from >= 0) frames.put(from);
      if (sub > 0) frames.put(s.a[f + NEW]!);
      return this.copyEnd(f, from < 0 ? -EFAULT : -ENOENT);
    }
    const size = this.pageSize(v);
    if (sub === 0) {
      const pfn = size === 4096 ? frames.alloc(ORDER_PAGE) : frames.hugetlbAlloc(Math.log2(size) - 12);
      if (pfn < 0) {
        frames.put(from);
        return this.copyEnd(f, -ENOMEM);
      }
      s.set(f + NEW, pfn);
    }
    // The source need not be aligned to a page.
    const offset = (s.a[f + SRC]! + sub) % 4096;
    const bytes = Math.min(4096 - offset, size - sub);
    if (sub % 4096 === 0 && bytes === 4096) frames.copy(s.a[f + NEW]! + sub / 4096, from, ORDER_PAGE);
    else this.copyPart(s.a[f + NEW]! * 4096 + sub, from * 4096 + offset, bytes);
    frames.put(from);
    s.set(f + SUB, sub + bytes);
    if (sub + bytes < size) return this.copySource(f);
    vmas.anonVmaPrepare(v);
    return this.copyInstall(f);
  }

  private copyPart(to: number, from: number, bytes: number): void {
    const { phys } = this;
    const step = to % 8 === 0 && from % 8 === 0 && bytes % 8 === 0 ? 8 : 1;
    for (let i = 0; i < bytes; i += step) {
      phys.read(from + i, step);
      phys.write(to + i, step, phys.lo, phys.hi);
    }
    this.mm.sim.agents.charge(this.mm.sim.costs.pageCopy);
  }

  /** mfill_atomic_pte_copy, the part under the mmap_lock. */
  private copyInstall(f: number): number {
    const { sim, frames, pt } = this.mm;
    const s = sim.agents.stack;
    const mm = this.mmOf(f);
    const at = s.a[f + START]! + s.a[f + DONE]!;
    if (pt.contended(mm, at, at + 1) || !sim.locks.read(this.mm.mmapLock(mm))) {
      s.set(f, this.copy.first + 2);
      return BLOCKED;
    }
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

  /** mfill_file_over_size; a private mapping of hugetlb is not asked. */
  private overSize(v: number, at: number): boolean {
    const { vmas, files } = this.mm;
    const file = vmas.file(v);
    return file >= 0 && vmas.pageIndex(v, at) * 4096 >= files.size(file);
  }

  /** Puts a fresh page, with one reference, into the file or the address space (mfill_atomic_install_pte). @returns 0 | -EFAULT | -EEXIST */
  private install(mm: number, v: number, at: number, pfn: number, wp: boolean): number {
    const { vmas, files, frames, pt } = this.mm;
    const file = vmas.file(v);
    const inFile = file >= 0 && (vmas.flags(v) & VM_SHARED) !== 0;
    const pgoff = vmas.pageIndex(v, at);
    if ((inFile || (vmas.flags(v) & VM_HUGETLB) === 0) && this.overSize(v, at)) return -EFAULT;
    if (inFile && files.cache.find(file, pgoff) >= 0) return -EEXIST;
    pt.walk(mm, at);
    if (!noneMostly(pt.lo, pt.hi)) return -EEXIST;
    if (inFile) {
      frames.setFile(pfn);
      files.cache.put(file, pgoff, pfn);
      frames.addMapping(pfn);
    } else frames.newAnon(pfn);
    this.setEntry(mm, v, at, pfn, (vmas.flags(v) & VM_WRITE) !== 0, wp);
    return 0;
  }

  private setEntry(mm: number, v: number, at: number, pfn: number, write: boolean, wp: boolean): void {
    const { pt, zap } = this.mm;
    const writable = write && !wp;
    const lo = writable ? zap.prot.lo(v) & ~PTE_RDONLY : zap.prot.lo(v);
    const hi = (zap.prot.hi(v) & ~HI_WRITE) | HI_DIRTY | (writable ? HI_WRITE : 0) | (wp ? HI_UFFD_WP : 0);
    const size = this.pageSize(v);
    if (size === 4096) pt.setEntry(mm, at, 3, pt.ensure(mm, at, 3), pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    else this.fault.hugetlb.set(mm, at, Math.log2(size) - 12, pfn, lo, hi);
  }

  /** ZEROPAGE, CONTINUE with what the page cache holds, or POISON. */
  private fill(f: number, one: FillOne): number {
    const { sim, vmas, d } = this.mm;
    const s = sim.agents.stack.a;
    const mm = this.mmOf(f);
    const start = s[f + START]!;
    const len = s[f + LEN]!;
    const mode = s[f + MODE]!;
    const minor = one === this.continueOne;
    // An ioctl that the release has not (userfaultfd_ioctl).
    if ((minor && !d.userfaultfdMinor) || (one === this.poisonOne && !d.userfaultfdPoison)) return sim.agents.ret(f, -EINVAL);
    if (this.mm.pt.contended(mm, start, start + len) || !sim.locks.read(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    let done = 0;
    const known = UFFDIO_MODE_DONTWAKE | (minor && d.userfaultfdContinueWp ? UFFDIO_CONTINUE_MODE_WP : 0);
    const v = this.target(f, start, len, mode, known);
    let error = v < 0 ? v : 0;
    if (error === 0 && this.cutsHugePage(v, start, len)) error = -EINVAL;
    // mm/userfaultfd.c mfill_atomic (v6.9; before that of what is copied only): the VMA gets its anon_vma.
    if (error === 0 && (vmas.flags(v) & VM_SHARED) === 0) vmas.anonVmaPrepare(v);
    while (error === 0 && done < len) {
      error = one(mm, v, start + done, (mode & UFFDIO_CONTINUE_MODE_WP) !== 0);
      if (error === 0) done += this.pageSize(v);
    }
    sim.locks.unlockRead(this.mm.mmapLock(mm));
    if (done > 0 && (mode & UFFDIO_MODE_DONTWAKE) === 0) this.wakeRange(s[f + UFFD]!, start, start + done);
    return sim.agents.ret(f, done > 0 ? done : error);
  }

  /** mfill_atomic_pte_zeropage: the zero page in private memory, a page of zeros in shared memory. */
  private readonly zeroOne: FillOne = (mm, v, at) => {
    const { vmas, frames, pt, zap } = this.mm;
    if ((vmas.flags(v) & VM_HUGETLB) !== 0) return -EINVAL;
    if ((vmas.flags(v) & VM_SHARED) !== 0) {
      const pfn = frames.alloc(ORDER_PAGE);
      if (pfn < 0) return -ENOMEM;
      frames.clear(pfn, ORDER_PAGE);
      const r = this.install(mm, v, at, pfn, false);
      if (r < 0) frames.put(pfn);
      return r;
    }
    if (this.overSize(v, at)) return -EFAULT;
    pt.walk(mm, at);
    if (!pt.none) return -EEXIST;
    const zero = frames.zeroPfn;
    pt.setEntry(mm, at, 3, pt.ensure(mm, at, 3), pfnLo(zero) | zap.prot.lo(v), pfnHi(zero) | zap.prot.hi(v) | HI_SPECIAL);
    return 0;
  };

  /** mfill_atomic_pte_continue, hugetlb_mfill_atomic_pte: a private mapping gets the file's page for reading. */
  private readonly continueOne: FillOne = (mm, v, at, wp) => {
    const { vmas, files, frames, pt } = this.mm;
    const file = vmas.file(v);
    const flags = vmas.flags(v);
    // Of a memory file shmem_get_folio_gfp answers, also for a page that is allocated beyond its end.
    if (file < 0 || ((flags & VM_HUGETLB) === 0 && this.overSize(v, at))) return -EINVAL;
    pt.walk(mm, at);
    if (pt.level < 3 && !pt.none && (flags & VM_HUGETLB) === 0) return -EEXIST;
    const pfn = files.cache.find(file, vmas.pageIndex(v, at));
    if (pfn < 0) return -EFAULT;
    if ((frames.flags(pfn) & FRAME_HWPOISON) !== 0) return -EIO;
    if (!noneMostly(pt.lo, pt.hi)) return -EEXIST;
    frames.addMapping(pfn);
    this.setEntry(mm, v, at, pfn, (flags & (VM_WRITE | VM_SHARED)) === (VM_WRITE | VM_SHARED), wp);
    return 0;
  };

  /** mfill_atomic_pte_poison. */
  private readonly poisonOne: FillOne = (mm, v, at) => {
    const { vmas, pt } = this.mm;
    const hugetlb = (vmas.flags(v) & VM_HUGETLB) !== 0;
    if (!hugetlb && this.overSize(v, at)) return -EFAULT;
    pt.walk(mm, at);
    if (!pt.none) return -EEXIST;
    if (hugetlb) this.fault.hugetlb.setMarker(mm, at, Math.log2(this.pageSize(v)) - 12, MARKER_POISONED, 0);
    else pt.setEntry(mm, at, 3, pt.ensure(mm, at, 3), MARKER_POISONED, 0);
    return 0;
  };

  // ---- write protection ------------------------------------------------------------------------

  private wpStart(f: number): number {
    const { sim, d } = this.mm;
    const s = sim.agents.stack;
    const start = s.a[f + START]!;
    const mode = s.a[f + MODE]!;
    if (!sim.locks.read(this.mm.mmapLock(this.mmOf(f)))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const modes = UFFDIO_WRITEPROTECT_MODE_WP | UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
    const bad = !d.userfaultfdWriteprotect || (mode & ~modes) !== 0 || mode === modes;
    if (bad || this.validRange(s.a[f + UFFD]!, start, s.a[f + LEN]!) < 0) return this.wpLeave(f, -EINVAL);
    s.set(f + AT, start);
    return this.wpNext(f);
  }

  private wpLeave(f: number, r: number): number {
    this.mm.sim.locks.unlockRead(this.mm.mmapLock(this.mmOf(f)));
    return this.mm.sim.agents.ret(f, r);
  }

  /** mwriteprotect_range: one VMA after the other, until one is not registered for it; holes are passed over. */
  private wpNext(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    const start = s.a[f + START]!;
    const end = start + s.a[f + LEN]!;
    const mode = s.a[f + MODE]!;
    const at = s.a[f + AT]!;
    const v = at < end ? vmas.findVma(this.mmOf(f), at) : -1;
    if (v < 0 || vmas.start(v) >= end) {
      if (s.a[f + VMA] === 0) return this.wpLeave(f, -ENOENT);
      if (mode === 0) this.wakeRange(s.a[f + UFFD]!, start, end);
      return this.wpLeave(f, 0);
    }
    if ((vmas.flags(v) & VM_UFFD_WP) === 0) return this.wpLeave(f, -ENOENT);
    if (this.cutsHugePage(v, start, end - start)) return this.wpLeave(f, -EINVAL);
    const to = Math.min(end, vmas.end(v));
    s.set(f + AT, to);
    s.set(f + VMA, 1); // one was found
    const protect = mode & UFFDIO_WRITEPROTECT_MODE_WP;
    return sim.agents.call(f, this.writeprotect.first + 1, this.wpRange, v, Math.max(at, vmas.start(v)), to, protect);
  }

  /** change_pud_range: announced from the first populated entry on; a file's pages are marked also where there is none (change_prepare). */
  private changeStart(f: number): number {
    const { sim, vmas, zap, notifiers, d } = this.mm;
    const s = sim.agents.stack;
    const v = s.a[f + WP_VMA]!;
    const start = s.a[f + WP_START]!;
    const end = s.a[f + WP_END]!;
    const everywhere = (vmas.flags(v) & VM_HUGETLB) !== 0 || (vmas.file(v) >= 0 && s.a[f + PROTECT] !== 0);
    const first = everywhere ? start : zap.firstPopulated(vmas.mm(v), start, end, d.mprotectNotifierSpan === "pmd" ? 2 : 1);
    if (first < 0) return sim.agents.ret(f, 0);
    s.set(f + FIRST, first);
    return sim.agents.call(f, this.wpRange.first + 1, notifiers.invalidateRangeStart, vmas.mm(v), first, end, MMU_NOTIFY_PROTECTION_VMA, 1);
  }

  private changeEntries(f: number): number {
    const { sim, pt, vmas, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const v = s[f + WP_VMA]!;
    const mm = vmas.mm(v);
    const first = s[f + FIRST]!;
    const end = s[f + WP_END]!;
    if (pt.contended(mm, first, end)) return BLOCKED;
    this.changeRange(mm, v, first, end, s[f + PROTECT] !== 0);
    pt.tlb.flushRange(mm, first, end);
    return sim.agents.call(f, this.wpRange.first + 2, notifiers.invalidateRangeEnd, mm, first, end, MMU_NOTIFY_PROTECTION_VMA, 1);
  }

  /** change_pte_range, change_huge_pmd, hugetlb_change_protection. */
  private changeRange(mm: number, v: number, start: number, end: number, protect: boolean): void {
    const { pt, vmas, zap } = this.mm;
    const hugetlb = (vmas.flags(v) & VM_HUGETLB) !== 0;
    const marks = protect && vmas.file(v) >= 0;
    for (let a = start; a < end;) {
      pt.walk(mm, a);
      // A huge page of a file is protected page by page (pgtable_split_needed).
      if (pt.leafLevel === 2 && !hugetlb && (marks || a % PMD_SIZE !== 0 || a + PMD_SIZE > end)) {
        zap.splitHugePmdPlain(mm, a);
        pt.walk(mm, a);
      }
      if (!pt.none) {
        this.changeEntry(mm, v, a - (a % LEVEL_SIZE[pt.level as 1 | 2 | 3]), protect, hugetlb);
        a = nextBoundary(a, pt.level);
      } else if (!marks) a = nextBoundary(a, pt.level);
      else {
        if (hugetlb) this.fault.hugetlb.setMarker(mm, a, Math.log2(this.pageSize(v)) - 12, MARKER_UFFD_WP, HI_UFFD_WP);
        else pt.setEntry(mm, a, 3, pt.ensure(mm, a, 3), MARKER_UFFD_WP, HI_UFFD_WP);
        a += this.pageSize(v);
      }
    }
  }

  /** The entry of the last walk. */
  private changeEntry(mm: number, v: number, at: number, protect: boolean, hugetlb: boolean): void {
    const { pt, vmas, zap } = this.mm;
    const { level, entry } = pt;
    let { lo, hi } = pt;
    if (pt.leafLevel < 0) {
      // A page in swap keeps the mark; the mark alone goes; poison stays.
      if (!protect && lo === MARKER_UFFD_WP) pt.setEntry(mm, at, level, entry, 0, 0);
      else if (swapEntryType(lo) === SWP_SWAP) pt.setEntry(mm, at, level, entry, lo, protect ? hi | HI_UFFD_WP : hi & ~HI_UFFD_WP);
      return;
    }
    if (pt.hwDirty) hi |= HI_DIRTY;
    if (protect) {
      lo |= PTE_RDONLY;
      hi = (hi & ~HI_WRITE) | HI_UFFD_WP;
    } else {
      hi &= ~HI_UFFD_WP;
      // MM_CP_TRY_CHANGE_WRITABLE: can_change_pte_writable, can_change_pmd_writable.
      const flags = vmas.flags(v);
      const may = (flags & VM_SHARED) !== 0 ? pteDirty(lo, hi) : zap.protect.mine(lo, hi);
      if ((flags & VM_WRITE) !== 0 && !hugetlb && may) hi |= HI_WRITE;
      if ((hi & (HI_WRITE | HI_DIRTY)) === (HI_WRITE | HI_DIRTY)) lo &= ~PTE_RDONLY;
    }
    if (lo !== pt.lo || hi !== pt.hi) pt.setEntry(mm, at, level, entry, lo, hi);
  }

  private wakeNow(f: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    const error = this.validRange(s[f + UFFD]!, s[f + START]!, s[f + LEN]!);
    if (error === 0) this.wakeRange(s[f + UFFD]!, s[f + START]!, s[f + START]! + s[f + LEN]!);
    return agents.ret(f, error);
  }
}
