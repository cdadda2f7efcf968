/** UFFDIO_COPY, ZEROPAGE, CONTINUE and POISON: pages for a registered VMA (mm/userfaultfd.c mfill_atomic). */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EEXIST, EFAULT, EINVAL, EIO, ENOENT, ENOMEM } from "../sim/errno.js";
import type { PhysicalMemory } from "../arch/phys.js";
import { vmaKernelPageSize, type MmContext } from "./context.js";
import { FRAME_HWPOISON, ORDER_PAGE } from "./frames.js";
import { FOLL_USER_READ } from "./gup.js";
import type { Hugetlb } from "./hugetlb.js";
import { HI_DIRTY, HI_SPECIAL, HI_UFFD_WP, HI_WRITE, MARKER_POISONED, noneMostly, pfnHi, pfnLo, PTE_RDONLY } from "./pte.js";
import type { UserfaultContexts } from "./uffdcontexts.js";
import { cutsHugePage, UFFDIO_CONTINUE_MODE_WP, UFFDIO_COPY_MODE_WP, UFFDIO_MODE_DONTWAKE } from "./uffdio.js";
import { VM_HUGETLB, VM_SHARED, VM_UFFD_WP, VM_WRITE } from "./vmflags.js";

const UFFD = ARG;
const START = ARG + 1;
// zeropage, continue, poison
const LEN = ARG + 2;
const MODE = ARG + 3;
// copy; SUB: bytes of the present page that are copied
const SRC = ARG + 2;
const COPY_LEN = ARG + 3;
const COPY_MODE = ARG + 4;
const DONE = ARG + 5;
const NEW = ARG + 6;
const SUB = ARG + 7;

/** Fills one page of a VMA. @returns 0 | -errno */
type FillOne = (mm: number, v: number, at: number, wp: boolean) => number;

export class UffdFill {
  /** UFFDIO_COPY: (uffd, dst, src, len, mode) -> bytes | -errno. */
  readonly copy: Activity;
  /** UFFDIO_ZEROPAGE: (uffd, start, len, mode) -> bytes | -errno. */
  readonly zeropage: Activity;
  /** UFFDIO_CONTINUE: (uffd, start, len, mode) -> bytes | -errno. */
  readonly continue: Activity;
  /** UFFDIO_POISON: (uffd, start, len, mode) -> bytes | -errno. */
  readonly poison: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly contexts: UserfaultContexts,
    private readonly hugetlb: Hugetlb,
    private readonly phys: PhysicalMemory,
  ) {
    const { agents } = mm.sim;
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
  }

  /** find_dst_vma: one VMA that holds the whole range and is registered, with whom ever. @returns VMA, or -1 */
  private destination(mm: number, start: number, len: number): number {
    const { vmas } = this.mm;
    const v = vmas.lookup(mm, start);
    return v >= 0 && start + len <= vmas.end(v) && vmas.uffd(v) >= 0 ? v : -1;
  }

  /** What mfill_atomic asks before it fills anything. @param known the modes that this ioctl has @returns VMA, or -errno */
  private target(f: number, start: number, len: number, mode: number, known: number): number {
    const { vmas, d } = this.mm;
    if (this.contexts.validRange(this.mm.sim.agents.stack.a[f + UFFD]!, start, len) < 0 || (mode & ~known) !== 0) return -EINVAL;
    const v = this.destination(this.contexts.mmOf(f), start, len);
    if (v < 0) return d.userfaultfdNoVma === "EINVAL" ? -EINVAL : -ENOENT;
    if ((mode & UFFDIO_COPY_MODE_WP) !== 0 && (vmas.flags(v) & VM_UFFD_WP) === 0) return -EINVAL;
    return v;
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
      if (cutsHugePage(this.mm, v, s[f + START]!, len)) return sim.agents.ret(f, -EINVAL);
    }
    if (done >= len) {
      if ((s[f + COPY_MODE]! & UFFDIO_MODE_DONTWAKE) === 0) this.contexts.wakeRange(ctx, s[f + START]!, s[f + START]! + done);
      return sim.agents.ret(f, done);
    }
    if (s[f + SUB] === 0) {
      const r = this.occupied(this.contexts.mmOf(f), s[f + START]! + done);
      if (r < 0) return this.copyEnd(f, r);
    }
    const from = s[f + SRC]! + done + s[f + SUB]!;
    return sim.agents.call(f, this.copy.first + 1, gup.getUserPagesUnlocked, this.contexts.mmOf(f), from, FOLL_USER_READ);
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
    const mm = this.contexts.mmOf(f);
    const at = s.a[f + START]! + s.a[f + DONE]!;
    const sub = s.a[f + SUB]!;
    const v = this.destination(mm, at, 4096);
    if (from < 0 || v < 0) {
      if (from >= 0) frames.put(from);
      if (sub > 0) frames.put(s.a[f + NEW]!);
      return this.copyEnd(f, from < 0 ? -EFAULT : -ENOENT);
    }
    const size = vmaKernelPageSize(this.mm.vmas, this.mm.files, v);
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
    const mm = this.contexts.mmOf(f);
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
    s.set(f + DONE, s.a[f + DONE]! + vmaKernelPageSize(this.mm.vmas, this.mm.files, v));
    return this.copySource(f);
  }

  private copyEnd(f: number, error: number): number {
    const { agents } = this.mm.sim;
    const s = agents.stack.a;
    const done = s[f + DONE]!;
    if (done === 0) return agents.ret(f, error);
    if ((s[f + COPY_MODE]! & UFFDIO_MODE_DONTWAKE) === 0) this.contexts.wakeRange(s[f + UFFD]!, s[f + START]!, s[f + START]! + done);
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
    if ((vmas.flags(v) & VM_HUGETLB) === 0) frames.lru?.lruCacheAdd(pfn);
    this.setEntry(mm, v, at, pfn, (vmas.flags(v) & VM_WRITE) !== 0, wp);
    return 0;
  }

  private setEntry(mm: number, v: number, at: number, pfn: number, write: boolean, wp: boolean): void {
    const { pt, zap } = this.mm;
    const writable = write && !wp;
    const lo = writable ? zap.prot.lo(v) & ~PTE_RDONLY : zap.prot.lo(v);
    const hi = (zap.prot.hi(v) & ~HI_WRITE) | HI_DIRTY | (writable ? HI_WRITE : 0) | (wp ? HI_UFFD_WP : 0);
    const size = vmaKernelPageSize(this.mm.vmas, this.mm.files, v);
    if (size === 4096) pt.setEntry(mm, at, 3, pt.ensure(mm, at, 3), pfnLo(pfn) | lo, pfnHi(pfn) | hi);
    else this.hugetlb.set(mm, at, Math.log2(size) - 12, pfn, lo, hi);
  }

  /** ZEROPAGE, CONTINUE with what the page cache holds, or POISON. */
  private fill(f: number, one: FillOne): number {
    const { sim, vmas, d } = this.mm;
    const s = sim.agents.stack.a;
    const mm = this.contexts.mmOf(f);
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
    if (error === 0 && cutsHugePage(this.mm, v, start, len)) error = -EINVAL;
    // mm/userfaultfd.c mfill_atomic (v6.9; before that of what is copied only): the VMA gets its anon_vma.
    if (error === 0 && (vmas.flags(v) & VM_SHARED) === 0) vmas.anonVmaPrepare(v);
    while (error === 0 && done < len) {
      error = one(mm, v, start + done, (mode & UFFDIO_CONTINUE_MODE_WP) !== 0);
      if (error === 0) done += vmaKernelPageSize(this.mm.vmas, this.mm.files, v);
    }
    sim.locks.unlockRead(this.mm.mmapLock(mm));
    if (done > 0 && (mode & UFFDIO_MODE_DONTWAKE) === 0) this.contexts.wakeRange(s[f + UFFD]!, start, start + done);
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
    if (hugetlb) this.hugetlb.setMarker(mm, at, Math.log2(vmaKernelPageSize(this.mm.vmas, this.mm.files, v)) - 12, MARKER_POISONED, 0);
    else pt.setEntry(mm, at, 3, pt.ensure(mm, at, 3), MARKER_POISONED, 0);
    return 0;
  };
}
