/** madvise (mm/madvise.c). Each advice walks the VMAs of the range; a hole gives ENOMEM, the rest is still done. */
import { ARG, BLOCKED, R0, R1, type Activity } from "../sim/agents.js";
import { EACCES, EBUSY, EINVAL, ENOMEM } from "../sim/errno.js";
import { isPageAligned, pageAlign, type MmContext } from "./context.js";
import type { BreakKsm } from "./breakksm.js";
import { FILE_GUEST_MEMFD, FILE_SHMEM } from "./files.js";
import type { MemoryFailure } from "./hwpoison.js";
import { TO_COLD, TO_FREE, TO_PAGEOUT, type MadvisePages } from "./madvisepages.js";
import { MMU_NOTIFY_CLEAR } from "./notifiers.js";
import { LEVEL_SIZE, nextBoundary } from "./pagetable.js";
import { MT_NORMAL_NC, PTE_ATTRINDX_MASK } from "./pte.js";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, type Truncate } from "./truncate.js";
import type { VmaChange } from "./vmachange.js";
import {
  PAGE_PROT_WRITECOMBINE,
  VM_DONTCOPY,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_HUGEPAGE,
  VM_HUGETLB,
  VM_IO,
  VM_LOCKED,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_MERGEABLE,
  VM_MIXEDMAP,
  VM_NOHUGEPAGE,
  VM_PFNMAP,
  VM_RAND_READ,
  VM_SEQ_READ,
  VM_SHARED,
  VM_SPECIAL,
  VM_WIPEONFORK,
  VM_WRITE,
} from "./vmflags.js";
import { KEEP_MARKERS, RECLAIM_PT, widenHugetlb, type ZapVma } from "./zapvma.js";

export const MADV_NORMAL = 0;
export const MADV_RANDOM = 1;
export const MADV_SEQUENTIAL = 2;
export const MADV_WILLNEED = 3;
export const MADV_DONTNEED = 4;
export const MADV_FREE = 8;
export const MADV_REMOVE = 9;
export const MADV_DONTFORK = 10;
export const MADV_DOFORK = 11;
export const MADV_MERGEABLE = 12;
export const MADV_UNMERGEABLE = 13;
export const MADV_HUGEPAGE = 14;
export const MADV_NOHUGEPAGE = 15;
export const MADV_DONTDUMP = 16;
export const MADV_DODUMP = 17;
export const MADV_WIPEONFORK = 18;
export const MADV_KEEPONFORK = 19;
export const MADV_COLD = 20;
export const MADV_PAGEOUT = 21;
export const MADV_POPULATE_READ = 22;
export const MADV_POPULATE_WRITE = 23;
export const MADV_COLLAPSE = 25;
export const MADV_HWPOISON = 100;
/** As proposed in Mar 2015; the number is ours. */
export const MADV_DONTCACHE = 200;

const BLOCK = 0x200000;

const MM = ARG;
const START = ARG + 1;
const LEN = ARG + 2;
const ADVICE = ARG + 3;
/** Up to here the range is done. */
const DONE = ARG + 4;
const END = ARG + 5;
/** The part of the present VMA. */
const PART_START = ARG + 6;
const PART_END = ARG + 7;
/** -ENOMEM once a hole was met. */
const HOLE = ARG + 8;
const VMA = ARG + 9;
/** Of MADV_COLLAPSE, which takes the VMA's place: the last block's error. */
const LAST_FAIL = VMA;

const P_VISITED = 1;
const P_FREE = 2;
const P_FREED = 3;
const P_REMOVED = 4;
const P_COLLAPSED = 5;
const P_POISONED = 6;
const P_POPULATED = 7;
const P_UNMERGED = 8;

/** Whether the walk needs the mmap_lock, and how (madvise_need_mmap_write, madvise_lock). */
const LOCK_WRITE = 0;
const LOCK_READ = 1;
const LOCK_NONE = 2;

function lockOf(advice: number): number {
  switch (advice) {
    case MADV_REMOVE:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_FREE:
      return LOCK_READ;
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_COLLAPSE:
    case MADV_HWPOISON:
      return LOCK_NONE;
    default:
      return LOCK_WRITE;
  }
}

export class Madvise {
  /** (mm, addr, length, MADV_*) -> R0 0 | -errno: the system call. */
  readonly madvise: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly change: VmaChange,
    private readonly zapVma: ZapVma,
    private readonly truncate: Truncate,
    private readonly failure: MemoryFailure,
    private readonly breakKsm: BreakKsm,
    private readonly collapseFile: Activity,
    private readonly pages: MadvisePages,
  ) {
    this.madvise = mm.sim.agents.activity("madvise", "mm/madvise.c do_madvise", 10, [
      ["lock", (f) => this.lock(f)],
      ["visited", (f) => this.visited(f)],
      ["free", (f) => this.freePages(f)],
      ["freed", (f) => this.freed(f)],
      ["removed", (f) => this.removed(f)],
      ["collapsed", (f) => this.collapsed(f)],
      ["poisoned", (f) => this.poisoned(f)],
      ["populated", (f) => mm.sim.agents.ret(f, mm.sim.agents.stack.a[f + R0]!)],
      ["unmerged", (f) => this.unmerged(f)],
    ]);
  }

  /** madvise_behavior_valid. */
  private known(advice: number): boolean {
    const { d } = this.mm;
    switch (advice) {
      case MADV_NORMAL:
      case MADV_RANDOM:
      case MADV_SEQUENTIAL:
      case MADV_WILLNEED:
      case MADV_DONTNEED:
      case MADV_REMOVE:
      case MADV_DONTFORK:
      case MADV_DOFORK:
      case MADV_MERGEABLE:
      case MADV_UNMERGEABLE:
      case MADV_HUGEPAGE:
      case MADV_NOHUGEPAGE:
      case MADV_DONTDUMP:
      case MADV_DODUMP:
      case MADV_HWPOISON:
        return true;
      case MADV_FREE:
        return d.madviseFree;
      case MADV_WIPEONFORK:
      case MADV_KEEPONFORK:
        return d.madviseWipeOnFork;
      case MADV_COLD:
      case MADV_PAGEOUT:
        return d.madviseCold;
      case MADV_POPULATE_READ:
      case MADV_POPULATE_WRITE:
        return d.madvisePopulate;
      case MADV_COLLAPSE:
        return d.madviseCollapse;
      case MADV_DONTCACHE:
        return d.madviseDontcache;
      default:
        return false;
    }
  }

  private lock(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    const start = s.a[f + START]!;
    const len = pageAlign(s.a[f + LEN]!);
    const advice = s.a[f + ADVICE]!;
    const mode = lockOf(advice);
    const valid = this.known(advice) && isPageAligned(start) && start + len <= Number.MAX_SAFE_INTEGER;
    if (!valid) return this.refused(f, -EINVAL);
    if (len === 0) return this.refused(f, 0);
    if (mode === LOCK_WRITE && !sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    if (mode === LOCK_READ && !sim.locks.read(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    s.set(f + DONE, start);
    s.set(f + END, start + len);
    s.set(f + HOLE, 0);
    if (mode === LOCK_NONE) return this.withoutLock(f, advice);
    return this.nextVma(f);
  }

  private refused(f: number, result: number): number {
    this.mm.sim.agents.charge(this.mm.sim.costs.syscall);
    return this.mm.sim.agents.ret(f, result);
  }

  private withoutLock(f: number, advice: number): number {
    const { sim, huge } = this.mm;
    const s = sim.agents.stack.a;
    if (advice === MADV_COLLAPSE) return this.nextVma(f);
    if (advice === MADV_HWPOISON) return this.poisonNext(f);
    const write = advice === MADV_POPULATE_WRITE ? 1 : 0;
    return sim.agents.call(f, this.madvise.first + P_POPULATED, huge.populate, s[f + MM]!, s[f + START]!, s[f + END]!, write);
  }

  /** madvise_walk_vmas. */
  private nextVma(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    let start = s.a[f + DONE]!;
    const end = s.a[f + END]!;
    if (start >= end) return this.leave(f, s.a[f + HOLE]!);
    if (lockOf(s.a[f + ADVICE]!) !== LOCK_NONE) sim.locks.assertHeld(this.mm.mmapLock(s.a[f + MM]!)); // mmap_assert_locked
    const v = vmas.findVma(s.a[f + MM]!, start);
    if (v < 0) return this.leave(f, -ENOMEM);
    if (start < vmas.start(v)) {
      s.set(f + HOLE, -ENOMEM);
      start = vmas.start(v);
      if (start >= end) return this.leave(f, -ENOMEM);
    }
    const partEnd = Math.min(end, vmas.end(v));
    s.set(f + VMA, v);
    s.set(f + PART_START, start);
    s.set(f + PART_END, partEnd);
    s.set(f + DONE, partEnd);
    return this.visit(f, v, start, partEnd);
  }

  private visit(f: number, v: number, start: number, end: number): number {
    const { sim } = this.mm;
    switch (sim.agents.stack.a[f + ADVICE]!) {
      case MADV_DONTNEED:
        return this.dontneed(f, v, start, end);
      case MADV_FREE:
        return this.free(f, v, start, end);
      case MADV_REMOVE:
        return this.remove(f, v, start, end);
      case MADV_COLLAPSE:
        return this.collapseVma(f, v, start, end);
      case MADV_WILLNEED:
        // madvise_willneed, force_shm_swapin_readahead: what comes from swap is put on the lists.
        if (this.mm.vmas.file(v) < 0 || this.mm.files.kind(this.mm.vmas.file(v)) === FILE_SHMEM) this.mm.frames.lru?.lruAddDrain();
        return this.nextVma(f);
      case MADV_DONTCACHE:
        return this.dontcache(f, v, start, end);
      case MADV_COLD:
      case MADV_PAGEOUT:
        return this.coldOrPageout(f, v, start, end);
      default:
        return this.changeFlags(f, v, start, end);
    }
  }

  /** madvise_cold, madvise_pageout. */
  private coldOrPageout(f: number, v: number, start: number, end: number): number {
    const { sim, vmas, frames } = this.mm;
    // PFNMAP and locked VMAs are refused.
    if ((vmas.flags(v) & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB)) !== 0) return this.leave(f, -EINVAL);
    frames.lru?.lruAddDrain();
    const to = sim.agents.stack.a[f + ADVICE] === MADV_PAGEOUT ? TO_PAGEOUT : TO_COLD;
    return sim.agents.call(f, this.madvise.first + P_VISITED, this.pages.activity, vmas.mm(v), start, end, to);
  }

  /** The proposal's sketch, for whole private mappings: present pages change their type and leave the cache, later ones come so. */
  private dontcache(f: number, v: number, start: number, end: number): number {
    const { vmas, pt, phys } = this.mm;
    if ((vmas.flags(v) & (VM_SHARED | VM_SPECIAL | VM_HUGETLB)) !== 0) return this.leave(f, -EINVAL);
    if (start !== vmas.start(v) || end !== vmas.end(v)) return this.leave(f, -EINVAL);
    const mm = vmas.mm(v);
    vmas.setPageProt(v, PAGE_PROT_WRITECOMBINE);
    for (let a = start; a < end; a = nextBoundary(a, pt.level)) {
      if (!pt.walk(mm, a) || !pt.valid) continue;
      const size = LEVEL_SIZE[pt.leafLevel as 1 | 2 | 3];
      const at = a - (a % size);
      const lo = (pt.lo & ~PTE_ATTRINDX_MASK) | (MT_NORMAL_NC << 2);
      const pa = (pt.leafPfn - Math.floor((a % size) / 4096)) * 4096;
      pt.setEntry(mm, at, pt.leafLevel, pt.entry, lo, pt.hi);
      pt.tlb.flushRange(mm, at, at + size);
      phys.cache?.flush(pa, size);
    }
    return this.nextVma(f);
  }

  /** madvise_vma_behavior: the advices that only change flags. */
  private changeFlags(f: number, v: number, start: number, end: number): number {
    const { sim, vmas } = this.mm;
    const old = vmas.flags(v);
    const flags = this.newFlags(v, old, sim.agents.stack.a[f + ADVICE]!);
    if (flags < 0) return this.leave(f, -EINVAL);
    if (flags === old) return this.nextVma(f);
    // ksm_madvise
    if (sim.agents.stack.a[f + ADVICE] === MADV_UNMERGEABLE && vmas.anonVma(v) !== 0)
      return sim.agents.call(f, this.madvise.first + P_UNMERGED, this.breakKsm.unmergeKsmPages, vmas.mm(v), start, end);
    return sim.agents.call(f, this.madvise.first + P_VISITED, this.change.modifyFlags, v, start, end, flags);
  }

  private unmerged(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    if (s[f + R0]! < 0) return this.leave(f, s[f + R0]!);
    const v = s[f + VMA]!;
    const flags = vmas.flags(v) & ~VM_MERGEABLE;
    return sim.agents.call(f, this.madvise.first + P_VISITED, this.change.modifyFlags, v, s[f + PART_START]!, s[f + PART_END]!, flags);
  }

  /** @returns the flags that the advice asks for, or -1 where it is refused */
  private newFlags(v: number, old: number, advice: number): number {
    const { vmas, d } = this.mm;
    switch (advice) {
      case MADV_NORMAL:
        return old & ~(VM_RAND_READ | VM_SEQ_READ);
      case MADV_RANDOM:
        return (old & ~VM_SEQ_READ) | VM_RAND_READ;
      case MADV_SEQUENTIAL:
        return (old & ~VM_RAND_READ) | VM_SEQ_READ;
      case MADV_DONTFORK:
        return old | VM_DONTCOPY;
      case MADV_DOFORK:
        return (old & (this.mm.d.madviseDoforkRefused === "io" ? VM_IO : VM_SPECIAL)) !== 0 ? -1 : old & ~VM_DONTCOPY;
      case MADV_DONTDUMP:
        return old | VM_DONTDUMP;
      case MADV_DODUMP:
        return (old & VM_HUGETLB) === 0 && (old & VM_SPECIAL) !== 0 ? -1 : old & ~VM_DONTDUMP;
      case MADV_WIPEONFORK:
        return vmas.file(v) >= 0 || (old & VM_SHARED) !== 0 ? -1 : old | VM_WIPEONFORK;
      case MADV_KEEPONFORK:
        return old & ~VM_WIPEONFORK;
      case MADV_MERGEABLE:
        return (old & (VM_SHARED | VM_MAYSHARE | VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_HUGETLB | VM_MIXEDMAP)) !== 0
          ? old
          : old | VM_MERGEABLE;
      case MADV_UNMERGEABLE:
        return old & ~VM_MERGEABLE;
      default: {
        const special = (old & (VM_SPECIAL | VM_HUGETLB | VM_SHARED | VM_MAYSHARE)) !== 0;
        if (d.madviseHugepageSpecial === "EINVAL" && special) return -1;
        return advice === MADV_HUGEPAGE ? (old & ~VM_NOHUGEPAGE) | VM_HUGEPAGE : (old & ~VM_HUGEPAGE) | VM_NOHUGEPAGE;
      }
    }
  }

  private visited(f: number): number {
    const error = this.mm.sim.agents.stack.a[f + R0]!;
    return error < 0 ? this.leave(f, error) : this.nextVma(f);
  }

  /** madvise_dontneed_single_vma. */
  private dontneed(f: number, v: number, start: number, end: number): number {
    const { sim, vmas, files, d } = this.mm;
    const flags = vmas.flags(v);
    if ((flags & (VM_LOCKED | VM_PFNMAP)) !== 0) return this.leave(f, -EINVAL);
    if ((flags & VM_HUGETLB) !== 0) {
      if (!d.madviseDontneedHugetlb) return this.leave(f, -EINVAL);
      const size = files.hugetlbSize(vmas.file(v));
      if (start % size !== 0) return this.leave(f, -EINVAL);
      end -= end % size;
      if (end <= start) return this.nextVma(f);
    }
    const from = widenHugetlb(vmas, v, start, end, false);
    const to = widenHugetlb(vmas, v, start, end, true);
    const again = (flags & VM_HUGETLB) !== 0 && d.hugetlbZapAnnouncement === "again";
    const zap = again ? this.zapVma.zapHugetlb : this.zapVma.zapNotified;
    const type = MMU_NOTIFY_CLEAR | KEEP_MARKERS | (d.ptReclaim && (flags & VM_HUGETLB) === 0 ? RECLAIM_PT : 0);
    return sim.agents.call(f, this.madvise.first + P_VISITED, zap, vmas.mm(v), start, end, type, from, to);
  }

  /** madvise_free_single_vma: the pages stay until memory is short, which the model never is. */
  private free(f: number, v: number, start: number, end: number): number {
    const { sim, vmas, notifiers } = this.mm;
    if ((vmas.flags(v) & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB)) !== 0 || vmas.file(v) >= 0) return this.leave(f, -EINVAL);
    this.mm.frames.lru?.lruAddDrain();
    return sim.agents.call(f, this.madvise.first + P_FREE, notifiers.invalidateRangeStart, vmas.mm(v), start, end, MMU_NOTIFY_CLEAR, 1);
  }

  private freePages(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack.a;
    return sim.agents.call(f, this.madvise.first + P_FREED, this.pages.activity, s[f + MM]!, s[f + PART_START]!, s[f + PART_END]!, TO_FREE);
  }

  private freed(f: number): number {
    const { sim, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const [start, end] = [s[f + PART_START]!, s[f + PART_END]!];
    return sim.agents.call(f, this.madvise.first + P_VISITED, notifiers.invalidateRangeEnd, s[f + MM]!, start, end, MMU_NOTIFY_CLEAR, 1);
  }

  /** madvise_remove: a hole is punched with the mmap_lock dropped. */
  private remove(f: number, v: number, start: number, end: number): number {
    const { sim, vmas, files } = this.mm;
    const flags = vmas.flags(v);
    const file = vmas.file(v);
    if ((flags & VM_LOCKED) !== 0) return this.leave(f, -EINVAL);
    if (file < 0 || (files.kind(file) !== FILE_SHMEM && files.kind(file) !== FILE_GUEST_MEMFD)) return this.leave(f, -EINVAL);
    const needed = VM_SHARED | (this.mm.d.removeReadOnly ? VM_MAYWRITE : VM_WRITE);
    if ((flags & needed) !== needed) return this.leave(f, -EACCES);
    const offset = vmas.pageIndex(v, start) * 4096;
    sim.locks.unlockRead(this.mm.mmapLock(vmas.mm(v)));
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return sim.agents.call(f, this.madvise.first + P_REMOVED, this.truncate.fallocate, file, mode, offset, end - start);
  }

  private removed(f: number): number {
    const { sim } = this.mm;
    if (!sim.locks.read(this.mm.mmapLock(sim.agents.stack.a[f + MM]!))) return BLOCKED;
    return this.visited(f);
  }

  /** madvise_collapse: the whole blocks of the VMA's part of the range, one after the other. */
  private collapseVma(f: number, v: number, start: number, end: number): number {
    const s = this.mm.sim.agents.stack;
    if (!this.collapsible(v)) return this.leave(f, -EINVAL);
    this.mm.frames.lru?.lruAddDrainAll();
    const first = Math.ceil(start / BLOCK) * BLOCK;
    // hend - hstart, unsigned: a part inside one block counts as very many blocks that were not collapsed.
    if (first > Math.floor(end / BLOCK) * BLOCK && this.mm.d.collapseInsideBlock === "EINVAL") return this.leave(f, -EINVAL);
    s.set(f + PART_START, first);
    s.set(f + LAST_FAIL, 0);
    return this.collapseNext(f);
  }

  /**
   * thp_vma_allowable_order: a whole block lies in the VMA, aligned in its file too; an anonymous VMA must have had a page (anon_vma), a file must be in
   * memory (file_thp_enabled: CONFIG_READ_ONLY_THP_FOR_FS is not set).
   */
  private collapsible(v: number): boolean {
    const { vmas } = this.mm;
    if ((vmas.flags(v) & (VM_SPECIAL | VM_HUGETLB | VM_NOHUGEPAGE)) !== 0) return false;
    if (Math.floor(vmas.end(v) / BLOCK) * BLOCK - BLOCK < vmas.start(v)) return false;
    const file = vmas.file(v);
    return file < 0 ? vmas.anonVma(v) !== 0 : this.mm.files.kind(file) === FILE_SHMEM && (vmas.start(v) / 4096 - vmas.pgoff(v)) % 512 === 0;
  }

  private collapseNext(f: number): number {
    const { sim, huge, vmas, files } = this.mm;
    const s = sim.agents.stack;
    const at = s.a[f + PART_START]!;
    if (at + BLOCK > s.a[f + PART_END]!) return s.a[f + LAST_FAIL]! < 0 ? this.leave(f, s.a[f + LAST_FAIL]!) : this.nextVma(f);
    s.set(f + PART_START, at + BLOCK);
    const v = vmas.findVma(s.a[f + MM]!, at);
    const act = v >= 0 && files.kind(vmas.file(v)) === FILE_SHMEM ? this.collapseFile : huge.collapse;
    return sim.agents.call(f, this.madvise.first + P_COLLAPSED, act, s.a[f + MM]!, at);
  }

  /** A block that cannot be collapsed is the result of the VMA; the others are tried all the same. */
  private collapsed(f: number): number {
    const s = this.mm.sim.agents.stack;
    if (s.a[f + R0]! < 0) s.set(f + LAST_FAIL, s.a[f + R0]!);
    return this.collapseNext(f);
  }

  /** madvise_inject_error: each page is made present, then declared broken; of a huge page the one at the address, then what follows it. */
  private poisonNext(f: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack;
    const at = s.a[f + DONE]!;
    if (at >= s.a[f + END]!) return sim.agents.ret(f, 0);
    return sim.agents.call(f, this.madvise.first + P_POISONED, this.failure.poisonPage, s.a[f + MM]!, at);
  }

  private poisoned(f: number): number {
    const { sim, d } = this.mm;
    const s = sim.agents.stack;
    const error = s.a[f + R0]!;
    // What memory_failure said counted for nothing once; what get_user_pages says always did.
    if (error < 0 && (error !== -EBUSY || d.hwpoisonErrors === "returned")) return sim.agents.ret(f, error);
    s.set(f + DONE, s.a[f + DONE]! + (s.a[f + R1]! > 0 ? s.a[f + R1]! : 4096));
    return this.poisonNext(f);
  }

  private leave(f: number, result: number): number {
    const { sim } = this.mm;
    const s = sim.agents.stack.a;
    const lock = this.mm.mmapLock(s[f + MM]!);
    const mode = lockOf(s[f + ADVICE]!);
    if (mode === LOCK_READ) sim.locks.unlockRead(lock);
    else if (mode === LOCK_WRITE) sim.locks.unlockWrite(lock);
    return sim.agents.ret(f, result);
  }
}
