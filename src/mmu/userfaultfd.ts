/**
 * The system call userfaultfd and its ioctls (fs/userfaultfd.c): faults of registered ranges become messages for a
 * thread of the VMM, and the faulting thread sleeps (uffdcontexts.ts) until that thread has filled the page (uffdfill.ts,
 * uffdwriteprotect.ts).
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, EINVAL, ENOSYS, EPERM } from "../sim/errno.js";
import type { PhysicalMemory } from "../arch/phys.js";
import { vmaKernelPageSize, type MmContext } from "./context.js";
import type { HostFault } from "./fault.js";
import { FILE_HUGETLB, FILE_SHMEM } from "./files.js";
import { UserfaultContexts } from "./uffdcontexts.js";
import { UffdFill } from "./uffdfill.js";
import { UFFD_USER_MODE_ONLY, UFFDIO_REGISTER_MODE_MINOR, UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP } from "./uffdio.js";
import { UffdWriteprotect } from "./uffdwriteprotect.js";
import type { VmaChange } from "./vmachange.js";
import { VM_MAYWRITE, VM_UFFD_FLAGS, VM_UFFD_MINOR, VM_UFFD_MISSING, VM_UFFD_WP } from "./vmflags.js";

const REASONS = [VM_UFFD_MISSING, VM_UFFD_WP, VM_UFFD_MINOR] as const;

const UFFD = ARG;
// register, unregister, wake
const START = ARG + 1;
const LEN = ARG + 2;
const MODE = ARG + 3;
const AT = ARG + 4;
const VMA = ARG + 5;

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
  readonly copy: Activity;
  readonly zeropage: Activity;
  readonly continue: Activity;
  readonly poison: Activity;
  readonly writeprotect: Activity;
  /** UFFDIO_WAKE: (uffd, start, len) -> 0 | -errno. */
  readonly wake: Activity;
  /** read of one message: (uffd, wait 0|1) -> R0 1, R1 address, R2 flags | -EAGAIN; blocks when asked to wait. */
  readonly read: Activity;

  private readonly contexts: UserfaultContexts;
  private readonly protection: UffdWriteprotect;

  constructor(
    private readonly mm: MmContext,
    private readonly change: VmaChange,
    fault: HostFault,
    phys: PhysicalMemory,
  ) {
    const { agents } = mm.sim;
    this.contexts = fault.userfaults = new UserfaultContexts(mm);
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
    const fill = new UffdFill(mm, this.contexts, fault.hugetlb, phys);
    this.copy = fill.copy;
    this.zeropage = fill.zeropage;
    this.continue = fill.continue;
    this.poison = fill.poison;
    this.protection = new UffdWriteprotect(mm, this.contexts, fault.hugetlb);
    this.writeprotect = this.protection.writeprotect;
    this.wake = agents.activity("uffdioWake", `${fs} userfaultfd_wake`, 3, [["wake", (f) => this.wakeNow(f)]]);
    this.read = agents.activity("uffdRead", `${fs} userfaultfd_read`, 2, [["read", (f) => this.readNow(f)]]);
  }

  exists(ctx: number): boolean {
    return this.contexts.exists(ctx);
  }

  // ---- the file descriptor

  private createNow(f: number): number {
    const { sim, d } = this.mm;
    const s = sim.agents.stack.a;
    sim.agents.charge(sim.costs.syscall);
    if (!d.userfaultfd) return sim.agents.ret(f, -ENOSYS);
    const flags = s[f + ARG + 1]!;
    if ((flags & ~(d.userfaultfdUserMode ? UFFD_USER_MODE_ONLY : 0)) !== 0) return sim.agents.ret(f, -EINVAL);
    return sim.agents.ret(f, this.contexts.create(s[f + ARG]!, flags));
  }

  private apiNow(f: number): number {
    const { agents } = this.mm.sim;
    return agents.ret(f, this.contexts.handshake(agents.stack.a[f + UFFD]!) ? 0 : -EINVAL);
  }

  private readNow(f: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    const w = this.contexts.readMessage(s[f + UFFD]!);
    if (w >= 0) return agents.ret(f, 1, this.contexts.address(w), this.contexts.flags(w));
    return s[f + ARG + 1] !== 0 ? BLOCKED : agents.ret(f, -EAGAIN);
  }

  // ---- register, unregister

  private unlockWrite(f: number, r: number): number {
    const { sim } = this.mm;
    sim.locks.unlockWrite(this.mm.mmapLock(this.contexts.mmOf(f)));
    return sim.agents.ret(f, r);
  }

  private registerCheck(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack;
    const ctx = s.a[f + UFFD]!;
    const mm = this.contexts.mmOf(f);
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const start = s.a[f + START]!;
    const end = start + s.a[f + LEN]!;
    const mode = s.a[f + MODE]!;
    const modes = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR;
    if (this.contexts.validRange(ctx, start, end - start) < 0 || mode === 0 || (mode & ~modes) !== 0) return this.unlockWrite(f, -EINVAL);
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
    return v >= 0 && vmas.start(v) < end && start % vmaKernelPageSize(this.mm.vmas, this.mm.files, v) === 0 ? v : -1;
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
      if (end <= vmas.end(v) && end % vmaKernelPageSize(this.mm.vmas, this.mm.files, v) !== 0) return -EINVAL;
      const other = vmas.uffd(v);
      if (other >= 0 && other !== ctx) return -EBUSY;
      const drops = (vmas.flags(v) & VM_UFFD_WP) !== 0 && (mode & UFFDIO_REGISTER_MODE_WP) === 0;
      if (drops && d.userfaultfdRegisterLess === "EBUSY") return -EBUSY;
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
      const v = s.a[f + AT]! < end ? vmas.findVma(this.contexts.mmOf(f), s.a[f + AT]!) : -1;
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
    const mm = this.contexts.mmOf(f);
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const start = s.a[f + START]!;
    const end = start + s.a[f + LEN]!;
    if (this.contexts.validRange(ctx, start, end - start) < 0) return this.unlockWrite(f, -EINVAL);
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
      const v = s.a[f + AT]! < end ? vmas.findVma(this.contexts.mmOf(f), s.a[f + AT]!) : -1;
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
      if ((flags & VM_UFFD_MISSING) !== 0) this.contexts.wakeRange(vmas.uffd(v), from, to);
      if ((flags & VM_UFFD_WP) !== 0) return sim.agents.call(f, this.unregister.first + 2, this.protection.range, v, from, to, 0);
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

  private wakeNow(f: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    const error = this.contexts.validRange(s[f + UFFD]!, s[f + START]!, s[f + LEN]!);
    if (error === 0) this.contexts.wakeRange(s[f + UFFD]!, s[f + START]!, s[f + START]! + s[f + LEN]!);
    return agents.ret(f, error);
  }
}
