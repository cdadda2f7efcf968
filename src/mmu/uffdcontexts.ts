/**
 * What the descriptors of userfaultfds are: their address space, the messages of faults that wait in them, and who sleeps
 * (fs/userfaultfd.c userfaultfd_ctx, handle_userfault).
 *
 * A sleeping fault has dropped the mmap_lock; woken, it answers VM_FAULT_RETRY and is taken again.
 */
import { ARG } from "../sim/agents.js";
import { EINVAL } from "../sim/errno.js";
import { declareEvent } from "../sim/events.js";
import type { F64Pool } from "../sim/state.js";
import type { MmContext } from "./context.js";

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

export class UserfaultContexts {
  /** [0] contexts, [1] waiters ever, [2] arrivals. */
  private readonly globals: F64Pool;
  private readonly contexts: F64Pool;
  private readonly waiters: F64Pool;

  constructor(private readonly mm: MmContext) {
    const { state } = mm.sim;
    this.globals = state.f64("uffd.globals", 4);
    this.contexts = state.f64("uffd.contexts", 4 * CTX);
    this.waiters = state.f64("uffd.waiters", 4 * WAITER);
  }

  /** A new descriptor. @returns its number */
  create(mm: number, flags: number): number {
    const ctx = this.globals.a[0]!;
    this.globals.set(0, ctx + 1);
    this.contexts.ensure((ctx + 1) * CTX);
    this.contexts.set(ctx * CTX + C_STATE, STATE_NEW);
    this.contexts.set(ctx * CTX + C_MM, mm);
    this.contexts.set(ctx * CTX + C_FLAGS, flags);
    return ctx;
  }

  /** UFFDIO_API has been asked for. @returns false where it was before */
  handshake(ctx: number): boolean {
    if (this.contexts.a[ctx * CTX + C_STATE] !== STATE_NEW) return false;
    this.contexts.set(ctx * CTX + C_STATE, STATE_READY);
    return true;
  }

  /** The address space of the descriptor that an ioctl's frame has as its first argument. */
  mmOf(f: number): number {
    return this.contexts.a[this.mm.sim.agents.stack.a[f + ARG]! * CTX + C_MM]!;
  }

  /** validate_range, and the API handshake. @returns 0 | -EINVAL */
  validRange(ctx: number, start: number, len: number): number {
    const ready = this.contexts.a[ctx * CTX + C_STATE] === STATE_READY;
    return ready && start % 4096 === 0 && len % 4096 === 0 && len > 0 ? 0 : -EINVAL;
  }

  /** The oldest message that nobody has read is read: its waiter, or -1. */
  readMessage(ctx: number): number {
    let best = -1;
    for (let w = 0; w < this.globals.a[1]!; w++) {
      const at = w * WAITER;
      const a = this.waiters.a;
      if (a[at] === W_PENDING && a[at + 1] === ctx && (best < 0 || a[at + 4]! < a[best * WAITER + 4]!)) best = w;
    }
    if (best >= 0) this.waiters.set(best * WAITER, W_READ);
    return best;
  }
  address(w: number): number {
    return this.waiters.a[w * WAITER + 2]!;
  }
  /** UFFD_PAGEFAULT_FLAG_* */
  flags(w: number): number {
    return this.waiters.a[w * WAITER + 3]!;
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

  /** The sleepers of a context in [start, end) go on. */
  wakeRange(ctx: number, start: number, end: number): void {
    this.mm.sim.bus.emit(userfaultWake, ctx, start, end);
    for (let w = 0; w < this.globals.a[1]!; w++) {
      const at = w * WAITER;
      const a = this.waiters.a;
      const asleep = a[at] === W_PENDING || a[at] === W_READ;
      if (asleep && a[at + 1] === ctx && a[at + 2]! >= start && a[at + 2]! < end) this.waiters.set(at, W_WOKEN);
    }
  }
}
