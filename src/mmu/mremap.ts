/** mremap (mm/mremap.c). A move tells the notifiers of the old range twice and of the new one never. */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EFAULT, EINVAL, ENOMEM } from "../sim/errno.js";
import { isPageAligned, pageAlign, vmaKernelPageSize, type MmContext } from "./context.js";
import type { BreakKsm } from "./breakksm.js";
import type { Munmap } from "./munmap.js";
import { MMU_NOTIFY_UNMAP } from "./notifiers.js";
import { TASK_SIZE } from "./pagetable.js";
import { unmappedArea } from "./unmappedarea.js";
import type { VmaChange } from "./vmachange.js";
import { MAX_MAP_COUNT } from "./vmas.js";
import {
  VM_DONTEXPAND,
  VM_HUGETLB,
  VM_LOCKED,
  VM_MAYSHARE,
  VM_MERGEABLE,
  VM_PFNMAP,
  VM_SHARED,
  VM_UFFD_FLAGS,
  VM_UFFD_WP,
} from "./vmflags.js";

export const MREMAP_MAYMOVE = 1;
export const MREMAP_FIXED = 2;
export const MREMAP_DONTUNMAP = 4;

const MM = ARG;
const ADDR = ARG + 1;
const OLD_LEN = ARG + 2;
const NEW_LEN = ARG + 3;
const FLAGS = ARG + 4;
const NEW_ADDR = ARG + 5;
const NEW_VMA = ARG + 6;

const P_TARGET_CLEARED = 1;
const P_TAIL_CUT = 2;
const P_OPENED = 3;
const P_SPLIT = 4;
const P_MOVED = 6;
const P_UNMAPPED = 7;
const P_SHRUNK = 8;
const P_UNMERGED = 9;

export class Mremap {
  /** (mm, old address, old length, new length, MREMAP_*, new address) -> R0 address | -errno: the system call. */
  readonly mremap: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly change: VmaChange,
    private readonly munmap: Munmap,
    private readonly breakKsm: BreakKsm,
  ) {
    this.mremap = mm.sim.agents.activity("mremap", "mm/mremap.c", 7, [
      ["lock", (f) => this.lock(f)],
      ["targetCleared", (f) => this.cutTail(f)],
      ["tailCut", (f) => this.tailCut(f)],
      ["vmaCopied", (f) => this.movePageTables(f)],
      ["splitHugePmd", (f) => this.splitNext(f)],
      ["moveEntries", (f) => this.moveEntries(f)],
      ["entriesMoved", (f) => this.unmapOld(f)],
      ["oldUnmapped", (f) => this.leave(f, mm.sim.agents.stack.a[f + NEW_ADDR]!)],
      ["shrunk", (f) => this.shrunk(f)],
      ["unmerged", (f) => this.unmerged(f)],
    ]);
  }

  private lock(f: number): number {
    const { sim, vmas, d } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const addr = s.a[f + ADDR]!;
    const flags = s.a[f + FLAGS]!;
    const oldLen = pageAlign(s.a[f + OLD_LEN]!);
    const newLen = pageAlign(s.a[f + NEW_LEN]!);
    const known = MREMAP_MAYMOVE | MREMAP_FIXED | (d.mremapDontunmap ? MREMAP_DONTUNMAP : 0);
    if ((flags & ~known) !== 0 || (flags & (MREMAP_MAYMOVE | MREMAP_FIXED)) === MREMAP_FIXED) return this.leave(f, -EINVAL);
    const dontunmap = (flags & MREMAP_DONTUNMAP) !== 0;
    if (dontunmap && ((flags & MREMAP_MAYMOVE) === 0 || oldLen !== newLen)) return this.leave(f, -EINVAL);
    if (!isPageAligned(addr) || newLen === 0) return this.leave(f, -EINVAL);
    s.set(f + OLD_LEN, oldLen);
    s.set(f + NEW_LEN, newLen);
    if (d.mremapHugetlb === "moves") {
      // The look-up came with the moves of hugetlb.
      const v = vmas.covering(mm, addr);
      if (v < 0) return this.leave(f, -EFAULT);
      if ((vmas.flags(v) & VM_HUGETLB) !== 0 && !this.alignHugetlb(f, v)) return this.leave(f, -EINVAL);
    }
    if ((flags & MREMAP_FIXED) !== 0) return this.mremapTo(f);
    if (dontunmap) return this.cutTail(f);
    if (s.a[f + OLD_LEN]! >= s.a[f + NEW_LEN]!) return this.shrink(f);
    return this.grow(f, vmas.findVma(mm, addr));
  }

  /** Lengths are rounded up to the huge page; addresses must be its multiples, the new one also where nobody asked for it. Nothing grows. */
  private alignHugetlb(f: number, v: number): boolean {
    const s = this.mm.sim.agents.stack;
    const size = this.mm.files.hugetlbSize(this.mm.vmas.file(v));
    s.set(f + OLD_LEN, Math.ceil(s.a[f + OLD_LEN]! / size) * size);
    s.set(f + NEW_LEN, Math.ceil(s.a[f + NEW_LEN]! / size) * size);
    return s.a[f + ADDR]! % size === 0 && s.a[f + NEW_ADDR]! % size === 0 && s.a[f + NEW_LEN]! <= s.a[f + OLD_LEN]!;
  }

  /** MREMAP_FIXED: what is at the target goes first. */
  private mremapTo(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    const to = s[f + NEW_ADDR]!;
    const len = s[f + NEW_LEN]!;
    const from = s[f + ADDR]!;
    if (!isPageAligned(to) || len > TASK_SIZE || to > TASK_SIZE - len) return this.leave(f, -EINVAL);
    if (from + s[f + OLD_LEN]! > to && to + len > from) return this.leave(f, -EINVAL);
    if (vmas.count(s[f + MM]!) + 2 >= MAX_MAP_COUNT - 3) return this.leave(f, -ENOMEM);
    return sim.agents.call(f, this.mremap.first + P_TARGET_CLEARED, this.munmap.doMunmap, s[f + MM]!, to, to + len, 0);
  }

  /** MREMAP_FIXED to a smaller size: the tail goes first. */
  private cutTail(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack;
    if (s.a[f + R0]! < 0) return this.leave(f, s.a[f + R0]!);
    const addr = s.a[f + ADDR]!;
    const oldLen = s.a[f + OLD_LEN]!;
    const newLen = s.a[f + NEW_LEN]!;
    if (oldLen <= newLen) return this.tailCut(f);
    if (addr + oldLen > TASK_SIZE) return this.leave(f, -EINVAL);
    s.set(f + OLD_LEN, newLen);
    return sim.agents.call(f, this.mremap.first + P_TAIL_CUT, this.munmap.doMunmap, s.a[f + MM]!, addr + newLen, addr + oldLen, 0);
  }

  private tailCut(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    if (s.a[f + R0]! < 0) return this.leave(f, s.a[f + R0]!);
    const v = vmas.findVma(s.a[f + MM]!, s.a[f + ADDR]!);
    const error = this.vmaToResize(f, v);
    if (error < 0) return this.leave(f, error);
    const fixed = (s.a[f + FLAGS]! & MREMAP_FIXED) !== 0;
    return fixed ? this.moveVma(f, v) : this.moveAnywhere(f, v);
  }

  /** vma_to_resize (check_prep_vma): may this VMA be moved or grow? @returns 0 or -errno */
  private vmaToResize(f: number, v: number): number {
    const { sim, vmas, d } = this.mm;
    const s = sim.agents.stack.a;
    const addr = s[f + ADDR]!;
    const oldLen = s[f + OLD_LEN]!;
    const newLen = s[f + NEW_LEN]!;
    if (v < 0 || vmas.start(v) > addr) return -EFAULT;
    const flags = vmas.flags(v);
    if (oldLen === 0 && d.mremapZeroLengthPrivate === "EINVAL" && (flags & (VM_SHARED | VM_MAYSHARE)) === 0) return -EINVAL;
    if ((s[f + FLAGS]! & MREMAP_DONTUNMAP) !== 0) {
      if ((flags & (VM_DONTEXPAND | VM_PFNMAP)) !== 0) return -EINVAL;
      if (d.mremapDontunmapFiles === "EINVAL" && (vmas.file(v) >= 0 || (flags & VM_SHARED) !== 0)) return -EINVAL;
    }
    if ((flags & VM_HUGETLB) !== 0 && d.mremapHugetlb === "EINVAL") return -EINVAL;
    if (oldLen > vmas.end(v) - addr) return -EFAULT;
    if (newLen === oldLen) return 0;
    if ((flags & (VM_DONTEXPAND | VM_PFNMAP)) !== 0) return -EFAULT;
    return 0;
  }

  /** The tail is unmapped; the address stays. */
  private shrink(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack;
    const addr = s.a[f + ADDR]!;
    s.set(f + NEW_ADDR, addr);
    if (s.a[f + OLD_LEN] === s.a[f + NEW_LEN]) return this.leave(f, addr);
    const end = addr + s.a[f + OLD_LEN]!;
    // do_munmap's own test of its range.
    if (end > TASK_SIZE) return this.leave(f, -EINVAL);
    return sim.agents.call(f, this.mremap.first + P_SHRUNK, this.munmap.doMunmap, s.a[f + MM]!, addr + s.a[f + NEW_LEN]!, end, 0);
  }

  private shrunk(f: number): number {
    const s = this.mm.sim.agents.stack.a;
    return this.leave(f, s[f + R0]! < 0 ? s[f + R0]! : s[f + ADDR]!);
  }

  private grow(f: number, v: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    const error = this.vmaToResize(f, v);
    if (error < 0) return this.leave(f, error);
    const addr = s[f + ADDR]!;
    const oldEnd = addr + s[f + OLD_LEN]!;
    const newEnd = addr + s[f + NEW_LEN]!;
    const room = newEnd <= TASK_SIZE && !vmas.overlaps(s[f + MM]!, oldEnd, newEnd);
    if (oldEnd === vmas.end(v) && s[f + OLD_LEN] !== 0 && room) {
      vmas.adjust(v, vmas.start(v), newEnd);
      return this.leave(f, addr);
    }
    if ((s[f + FLAGS]! & MREMAP_MAYMOVE) === 0) return this.leave(f, -ENOMEM);
    return this.moveAnywhere(f, v);
  }

  private moveAnywhere(f: number, v: number): number {
    const { sim, vmas, files } = this.mm;
    const s = sim.agents.stack;
    const align = vmaKernelPageSize(vmas, files, v);
    const hint = (s.a[f + FLAGS]! & MREMAP_DONTUNMAP) !== 0 ? s.a[f + NEW_ADDR]! : 0;
    const to = unmappedArea(vmas, s.a[f + MM]!, hint, s.a[f + NEW_LEN]!, align);
    if (to < 0) return this.leave(f, to);
    s.set(f + NEW_ADDR, to);
    return this.moveVma(f, v);
  }

  /** move_vma: pages of KSM do not move, where they would be found at an address that KSM does not know (ksm_madvise). */
  private moveVma(f: number, v: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + MM]!;
    if (vmas.count(mm) >= MAX_MAP_COUNT - 3) return this.leave(f, -ENOMEM);
    const from = s[f + ADDR]!;
    if ((vmas.flags(v) & VM_MERGEABLE) !== 0 && vmas.anonVma(v) !== 0)
      return sim.agents.call(f, this.mremap.first + P_UNMERGED, this.breakKsm.unmergeKsmPages, mm, from, from + s[f + OLD_LEN]!);
    return this.copyVma(f, v);
  }

  private unmerged(f: number): number {
    const s = this.mm.sim.agents.stack.a;
    if (s[f + R0]! < 0) return this.leave(f, s[f + R0]!);
    return this.copyVma(f, this.mm.vmas.findVma(s[f + MM]!, s[f + ADDR]!));
  }

  private copyVma(f: number, v: number): number {
    const { sim, vmas, files } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    const to = s.a[f + NEW_ADDR]!;
    const len = s.a[f + NEW_LEN]!;
    const file = vmas.file(v);
    const anon = vmas.anonVma(v);
    // An anonymous VMA without a page takes the numbering of its new place.
    const untouched = file < 0 && anon === 0;
    const pgoff = untouched ? to / 4096 : vmas.pageIndex(v, s.a[f + ADDR]!);
    // mremap_userfaultfd_prep: without UFFD_FEATURE_EVENT_REMAP the moved mapping is registered no more.
    const dropped = this.mm.d.mremapUserfaultfd === "dropped" && (vmas.flags(v) & VM_UFFD_FLAGS) !== 0;
    const flags = dropped ? vmas.flags(v) & ~VM_UFFD_FLAGS : vmas.flags(v);
    const uffd = dropped ? -1 : vmas.uffd(v);
    let n = -1;
    if (!dropped || this.mm.d.mremapUserfaultfdMerge === "same-registration") {
      const next = vmas.findVma(mm, to);
      n = this.change.mergeNew(vmas.before(mm, next), next, to, to + len, vmas.flags(v), file, pgoff, vmas.pageProt(v), anon, vmas.uffd(v));
    }
    if (n >= 0) {
      if (vmas.anonVma(n) === 0) vmas.setAnonVma(n, anon);
      if (dropped) {
        vmas.setFlags(n, flags);
        vmas.setUffd(n, -1);
      }
      s.set(f + NEW_VMA, n);
      return this.movePageTables(f);
    }
    n = vmas.alloc(mm, to, to + len, flags, file, pgoff, vmas.pageProt(v));
    vmas.setAnonVma(n, anon);
    if (uffd >= 0) vmas.setUffd(n, uffd);
    files.get(file);
    vmas.insert(n);
    s.set(f + NEW_VMA, n);
    const open = files.vmOps(file)?.open;
    if (open !== undefined) return sim.agents.call(f, this.mremap.first + P_OPENED, open, mm, n);
    return this.movePageTables(f);
  }

  /** move_page_tables: told as an UNMAP of the old range. */
  private movePageTables(f: number): number {
    const { sim, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const from = s[f + ADDR]!;
    const len = s[f + OLD_LEN]!;
    if (len === 0 && !this.mm.d.mremapZeroLengthAnnounced) return this.leave(f, s[f + NEW_ADDR]!);
    return sim.agents.call(
      f,
      this.mremap.first + P_SPLIT,
      notifiers.invalidateRangeStart,
      s[f + MM]!,
      from,
      from + len,
      MMU_NOTIFY_UNMAP,
      1,
    );
  }

  /** A huge entry that cannot move as one is split first, inside the event of the move. */
  private splitNext(f: number): number {
    const { sim, zap, huge } = this.mm;
    const s = sim.agents.stack.a;
    const at = zap.moveNeedsSplit(s[f + MM]!, s[f + ADDR]!, s[f + NEW_ADDR]!, s[f + OLD_LEN]!);
    if (at < 0) return this.moveEntries(f);
    return sim.agents.call(f, this.mremap.first + P_SPLIT, huge.splitHugePmd, s[f + MM]!, at);
  }

  private moveEntries(f: number): number {
    const { sim, vmas, zap, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const from = s[f + ADDR]!;
    const len = s[f + OLD_LEN]!;
    const { pt } = this.mm;
    if (pt.contended(s[f + MM]!, from, from + len) || pt.contended(s[f + MM]!, s[f + NEW_ADDR]!, s[f + NEW_ADDR]! + len)) return BLOCKED;
    // uffd_supports_page_table_move: what was registered is cleared of its marks.
    const v = vmas.findVma(s[f + MM]!, from);
    const clearUffdWp = this.mm.d.mremapUffdWp === "cleared" && (vmas.flags(v) & VM_UFFD_WP) !== 0;
    zap.movePageTables(s[f + MM]!, from, s[f + NEW_ADDR]!, len, clearUffdWp);
    return sim.agents.call(f, this.mremap.first + P_MOVED, notifiers.invalidateRangeEnd, s[f + MM]!, from, from + len, MMU_NOTIFY_UNMAP, 1);
  }

  private unmapOld(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    const from = s.a[f + ADDR]!;
    // do_munmap refuses an empty range, and nobody asks.
    if (s.a[f + OLD_LEN] === 0) return this.leave(f, s.a[f + NEW_ADDR]!);
    if ((s.a[f + FLAGS]! & MREMAP_DONTUNMAP) !== 0) {
      const old = vmas.findVma(s.a[f + MM]!, from);
      vmas.setFlags(old, vmas.flags(old) & ~VM_LOCKED);
      // The whole VMA moved: it has no page left (unlink_anon_vmas).
      if (vmas.start(old) === from && vmas.end(old) === from + s.a[f + OLD_LEN]!) vmas.setAnonVma(old, 0);
      return this.leave(f, s.a[f + NEW_ADDR]!);
    }
    return sim.agents.call(f, this.mremap.first + P_UNMAPPED, this.munmap.doMunmap, s.a[f + MM]!, from, from + s.a[f + OLD_LEN]!, 0);
  }

  private leave(f: number, result: number): number {
    const { sim } = this.mm;
    sim.locks.unlockWrite(this.mm.mmapLock(sim.agents.stack.a[f + MM]!));
    return sim.agents.ret(f, result);
  }
}
