/** mmap (mm/mmap.c do_mmap and mmap_region; mm/vma.c). */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EACCES, EBADF, EEXIST, EINVAL, ENODEV, ENOMEM, EOVERFLOW, EPERM } from "../sim/errno.js";
import { isPageAligned, MMAP_MIN_ADDR, PAGE_SIZE, pageAlign, type MmContext } from "./context.js";
import { FILE_DEVICE, FILE_GUEST_MEMFD, FILE_HUGETLB, FILE_REGULAR, FILE_SHMEM } from "./files.js";
import { HUGETLB_ORDERS, ORDER_PMD } from "./frames.js";
import { GUEST_MEMFD_FLAG_MMAP } from "./guestmemfd.js";
import type { Munmap } from "./munmap.js";
import { MMU_NOTIFY_UNMAP } from "./notifiers.js";
import { TASK_SIZE } from "./pagetable.js";
import { shmemUnmappedArea, thpUnmappedArea, unmappedArea } from "./unmappedarea.js";
import type { VmaChange } from "./vmachange.js";
import { MAX_MAP_COUNT } from "./vmas.js";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_HUGE_SHIFT,
  MAP_HUGETLB,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  PAGE_PROT_NORMAL,
  PAGE_PROT_TAGGED,
  PROT_EXEC,
  PROT_MTE,
  PROT_READ,
  PROT_WRITE,
  VM_DONTEXPAND,
  VM_EXEC,
  VM_HUGETLB,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_MTE,
  VM_MTE_ALLOWED,
  VM_NORESERVE,
  VM_READ,
  VM_SHARED,
  VM_WRITE,
} from "./vmflags.js";

const MM = ARG;
const ADDR = ARG + 1;
const LEN = ARG + 2;
const MODE = ARG + 3;
const FD = ARG + 4;
const OFFSET = ARG + 5;
/** The VM_* of the mapping. ADDR, LEN, FD, OFFSET and this one are what it is to have, once `keep` was called. */
const FLAGS = ARG + 6;
const VMA = ARG + 7;
const ERROR = ARG + 8;
/** This call created the file (shared anonymous memory, MAP_HUGETLB) and drops its own reference at the end. */
const OWN_FILE = ARG + 9;

const FLAGS_SHIFT = 256;
const ALIGN_SHIFT = 2 ** 40;

/**
 * The fourth argument of the mmap activity: PROT_*, MAP_* and a wish of ours for the alignment of a free address.
 * @param align a power of two from 4096 on
 */
export function mmapMode(prot: number, flags: number, align = PAGE_SIZE): number {
  const log = align === PAGE_SIZE ? 12 : Math.log2(align);
  if (!Number.isInteger(log) || log < 12 || log > 46) throw new Error(`an alignment is a power of two from 4096 on, not ${align}`);
  return (prot & 0xff) + (flags >>> 0) * FLAGS_SHIFT + log * ALIGN_SHIFT;
}

/** The MAP_* of an mmapMode, as 32 bits. */
function mapFlags(mode: number): number {
  return Math.floor(mode / FLAGS_SHIFT) | 0;
}

/** log2 of MAP_HUGETLB's page size in 4 KiB pages (MAP_HUGE_SHIFT); 2 MiB where the flags name none. */
function hugetlbOrder(flags: number): number {
  const log = flags >>> MAP_HUGE_SHIFT;
  return log === 0 ? ORDER_PMD : log - 12;
}

/** VM_READ, VM_WRITE, VM_EXEC (and VM_MTE) of PROT_* (calc_vm_prot_bits). */
export function protFlags(prot: number, mte: boolean): number {
  let flags = 0;
  if ((prot & PROT_READ) !== 0) flags |= VM_READ;
  if ((prot & PROT_WRITE) !== 0) flags |= VM_WRITE;
  if ((prot & PROT_EXEC) !== 0) flags |= VM_EXEC;
  if (mte && (prot & PROT_MTE) !== 0) flags |= VM_MTE;
  return flags;
}

export class Mmap {
  /** (mm, addr, length, mmapMode, file or -1, offset) -> R0 address | -errno: the system call. */
  readonly mmap: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly change: VmaChange,
    private readonly munmap: Munmap,
  ) {
    this.mmap = mm.sim.agents.activity("mmap", "mm/mmap.c do_mmap, mmap_region", 10, [
      ["lock", (f) => this.lock(f)],
      ["mmapRegion", (f) => this.unmapped(f)],
      ["deviceMapped", (f) => this.deviceMapped(f)],
      ["undo", (f) => this.undo(f)],
      ["undone", (f) => this.undone(f)],
      ["populated", (f) => this.mm.sim.agents.ret(f, this.mm.sim.agents.stack.a[f + ADDR]!)],
    ]);
  }

  private lock(f: number): number {
    const { sim } = this.mm;
    const mm = sim.agents.stack.a[f + MM]! | 0;
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    return this.doMmap(f, mm);
  }

  private unmapped(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    if (s[f + R0]! < 0) return this.leave(f, s[f + R0]!);
    const mm = s[f + MM]! | 0;
    const addr = s[f + ADDR]!;
    const next = vmas.findVma(mm, addr);
    return this.region(f, mm, next, addr, s[f + LEN]!, s[f + MODE]!, s[f + FLAGS]! | 0, s[f + FD]! | 0, s[f + OFFSET]!);
  }

  /** For the phases that come after another activity: what the mapping is to be. */
  private keep(f: number, addr: number, len: number, mode: number, flags: number, file: number, offset: number): void {
    const s = this.mm.sim.agents.stack;
    s.set3(f + ADDR, addr, len, mode);
    s.set3(f + FD, file, offset, flags);
  }

  /** Address, flags, the file's rules; then mmap_region, once what was there is gone. */
  private readonly doMmap = (f: number, mm: number): number => {
    const { sim, files, vmas } = this.mm;
    const s = sim.agents.stack;
    const mode = s.a[f + MODE]!;
    const prot = mode & 0xff;
    const flags = mapFlags(mode);
    let offset = s.a[f + OFFSET]!;
    const anonymous = (flags & MAP_ANONYMOUS) !== 0;
    let file = anonymous ? -1 : s.a[f + FD]!;
    let len = s.a[f + LEN]!;
    if (!isPageAligned(offset)) return this.leave(f, -EINVAL);
    if (!anonymous && files.kindOfFd(file) === 0) return this.leave(f, -EBADF);
    if (!anonymous && (flags & MAP_HUGETLB) !== 0 && files.kind(file) !== FILE_HUGETLB) return this.leave(f, -EINVAL);
    if (anonymous && (flags & MAP_HUGETLB) !== 0 && !(HUGETLB_ORDERS as readonly number[]).includes(hugetlbOrder(flags)))
      return this.leave(f, -EINVAL);
    if (len === 0) return this.leave(f, -EINVAL);
    const granule = this.granule(file, flags, anonymous);
    len = Math.ceil(len / granule) * granule;
    if (len > TASK_SIZE) return this.leave(f, -ENOMEM);
    if (!anonymous && offset + len > Number.MAX_SAFE_INTEGER) return this.leave(f, -EOVERFLOW);
    if (vmas.count(mm) > MAX_MAP_COUNT) return this.leave(f, -ENOMEM);
    const addr = this.address(mm, s.a[f + ADDR]!, len, mode, granule, file, offset);
    if (addr < 0) return this.leave(f, addr);

    const type = flags & (MAP_SHARED | MAP_PRIVATE);
    let vmFlags = protFlags(prot, this.mm.mte) | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
    if (type === MAP_SHARED) vmFlags |= VM_SHARED | VM_MAYSHARE;
    else if (type !== MAP_PRIVATE) return this.leave(f, -EINVAL);
    if ((flags & MAP_NORESERVE) !== 0) vmFlags |= VM_NORESERVE;
    const kind = files.kind(file);
    if (kind === FILE_REGULAR && type === MAP_SHARED) {
      if ((prot & PROT_WRITE) !== 0) return this.leave(f, -EACCES);
      vmFlags &= ~(VM_MAYWRITE | VM_SHARED);
    }
    if (kind === FILE_GUEST_MEMFD) {
      // SB_I_NOEXEC, then kvm_gmem_mmap.
      if ((prot & PROT_EXEC) !== 0) return this.leave(f, -EPERM);
      vmFlags &= ~VM_MAYEXEC;
      if ((files.guestMemfdFlags(file) & GUEST_MEMFD_FLAG_MMAP) === 0) return this.leave(f, -ENODEV);
      if (type !== MAP_SHARED) return this.leave(f, -EINVAL);
    }
    if (kind === FILE_DEVICE && files.vmOps(file) === undefined) return this.leave(f, -ENODEV);
    if (this.mm.mte && (anonymous || kind === FILE_SHMEM)) vmFlags |= VM_MTE_ALLOWED;
    if ((vmFlags & VM_MTE) !== 0 && (vmFlags & VM_MTE_ALLOWED) === 0) return this.leave(f, -EINVAL);
    if (kind === FILE_HUGETLB || (flags & MAP_HUGETLB) !== 0) vmFlags |= VM_HUGETLB | VM_DONTEXPAND;

    let owns = false;
    if (anonymous && (flags & MAP_HUGETLB) !== 0) {
      file = files.createHugetlb(len, hugetlbOrder(flags));
      owns = true;
    } else if (anonymous && type === MAP_SHARED) {
      // shmem_zero_setup: a file of its own behind every shared anonymous mapping.
      file = files.createMemfd(len);
      owns = true;
    }
    if (file < 0) offset = addr;
    else if (owns) {
      offset = 0;
      s.set(f + OWN_FILE, 1);
      s.set(f + FD, file);
    }
    const next = vmas.findVma(mm, addr);
    if (next >= 0 && vmas.start(next) < addr + len) {
      this.keep(f, addr, len, mode, vmFlags, file, offset);
      return sim.agents.call(f, this.mmap.first + 1, this.munmap.doMunmap, mm, addr, addr + len, 0);
    }
    return this.region(f, mm, next, addr, len, mode, vmFlags, file, offset);
  };

  /** What address and length must be multiples of: the page, or the huge page of a hugetlb mapping. */
  private granule(file: number, flags: number, anonymous: boolean): number {
    if (this.mm.files.kind(file) === FILE_HUGETLB) return this.mm.files.hugetlbSize(file);
    return anonymous && (flags & MAP_HUGETLB) !== 0 ? PAGE_SIZE * 2 ** hugetlbOrder(flags) : PAGE_SIZE;
  }

  /** get_unmapped_area. */
  private address(mm: number, hint: number, len: number, mode: number, granule: number, file: number, offset: number): number {
    const { vmas, d } = this.mm;
    const anonymous = file < 0;
    const flags = mapFlags(mode);
    const noreplace = (flags & MAP_FIXED_NOREPLACE) !== 0 && d.mapFixedNoreplace;
    if ((flags & MAP_FIXED) !== 0 || noreplace) {
      if (hint > TASK_SIZE - len) return -ENOMEM;
      if (Math.floor(hint / granule) * granule !== hint) return -EINVAL;
      if (noreplace && vmas.overlaps(mm, hint, hint + len)) return -EEXIST;
      return hint;
    }
    const align = Math.max(granule, 2 ** Math.floor(mode / ALIGN_SHIFT));
    const wish = hint === 0 ? 0 : Math.max(pageAlign(hint), MMAP_MIN_ADDR);
    const thp = d.anonMmapThpAligned;
    const aligns = thp === "large" || (thp === "multiples" && hint === 0 && len % 0x200000 === 0);
    if (anonymous && (flags & (MAP_SHARED | MAP_HUGETLB)) === 0 && align <= 0x200000 && aligns) {
      const addr = thpUnmappedArea(vmas, mm, wish, len);
      if (addr > 0) return addr;
    }
    const addr = unmappedArea(vmas, mm, wish, len, align);
    const shmem = anonymous ? (flags & (MAP_SHARED | MAP_HUGETLB)) === MAP_SHARED : this.mm.files.kind(file) === FILE_SHMEM;
    if (!shmem || addr < 0 || addr === wish || align > PAGE_SIZE || !this.mm.thp.alignsShmem) return addr;
    if (wish !== 0 && d.shmemAlignHint === "never") return addr;
    return shmemUnmappedArea(vmas, mm, addr, len, wish, anonymous ? 0 : offset);
  }

  /** mmap_region, after what was there is gone: what its frame says, and where. @param next the VMA above, or -1 */
  private region(
    f: number,
    mm: number,
    next: number,
    addr: number,
    len: number,
    mode: number,
    flags: number,
    file: number,
    offset: number,
  ): number {
    const { sim, vmas, files } = this.mm;
    const pgoff = offset / PAGE_SIZE;
    const pageProt = (flags & VM_MTE) !== 0 ? PAGE_PROT_TAGGED : PAGE_PROT_NORMAL;
    const prev = vmas.before(mm, next);
    if (this.change.mergeMmap(prev, next, addr, addr + len, flags, file, pgoff, pageProt) >= 0)
      return this.mapped(f, mm, addr, len, mode, flags);
    if ((flags & VM_HUGETLB) !== 0 && (flags & VM_NORESERVE) === 0) {
      const error = files.reserveHugetlb(file, this.hugePagesToReserve(file, flags, offset, len));
      if (error < 0) return this.leave(f, error);
    }
    const v = vmas.alloc(mm, addr, addr + len, flags, file, pgoff, pageProt);
    files.get(file);
    const ops = files.vmOps(file);
    if (ops !== undefined) {
      this.keep(f, addr, len, mode, flags, file, offset);
      sim.agents.stack.set(f + VMA, v);
      return sim.agents.call(f, this.mmap.first + 2, ops.mmap, mm, v);
    }
    vmas.insertBetween(mm, v, prev, next);
    return this.mapped(f, mm, addr, len, mode, flags);
  }

  /** Pages of a hugetlb mapping that nobody has reserved or faulted in yet (region_chg): a shared file counts each page once. */
  private hugePagesToReserve(file: number, flags: number, offset: number, len: number): number {
    const { files } = this.mm;
    const size = files.hugetlbSize(file);
    const pages = len / size;
    if ((flags & VM_MAYSHARE) === 0) return pages;
    let missing = 0;
    for (let i = 0; i < pages; i++) if (files.cache.find(file, (offset + i * size) / PAGE_SIZE) < 0) missing++;
    return Math.max(0, missing - files.reservedHugetlb(file));
  }

  private deviceMapped(f: number): number {
    const { sim, vmas, notifiers } = this.mm;
    const s = sim.agents.stack;
    const v = s.a[f + VMA]! | 0;
    if (s.a[f + R0] === 0) {
      vmas.insert(v);
      return this.mapped(f, s.a[f + MM]! | 0, s.a[f + ADDR]!, s.a[f + LEN]!, s.a[f + MODE]!, s.a[f + FLAGS]! | 0);
    }
    // Undo any partial mapping done by the driver.
    s.set(f + ERROR, s.a[f + R0]!);
    return sim.agents.call(
      f,
      this.mmap.first + 3,
      notifiers.invalidateRangeStart,
      vmas.mm(v),
      vmas.start(v),
      vmas.end(v),
      MMU_NOTIFY_UNMAP,
      1,
    );
  }

  private undo(f: number): number {
    const { sim, vmas, notifiers, zap } = this.mm;
    const v = sim.agents.stack.a[f + VMA]! | 0;
    if (this.mm.pt.contended(vmas.mm(v), vmas.start(v), vmas.end(v))) return BLOCKED;
    zap.zapRange(vmas.mm(v), vmas.start(v), vmas.end(v));
    return sim.agents.call(
      f,
      this.mmap.first + 4,
      notifiers.invalidateRangeEnd,
      vmas.mm(v),
      vmas.start(v),
      vmas.end(v),
      MMU_NOTIFY_UNMAP,
      1,
    );
  }

  private undone(f: number): number {
    const { sim, vmas, files } = this.mm;
    const v = sim.agents.stack.a[f + VMA]! | 0;
    files.put(vmas.file(v));
    vmas.free(v);
    return this.leave(f, sim.agents.stack.a[f + ERROR]!);
  }

  private mapped(f: number, mm: number, addr: number, len: number, mode: number, flags: number): number {
    const { sim, huge } = this.mm;
    if ((mapFlags(mode) & MAP_POPULATE) === 0) return this.leave(f, addr);
    this.leaveFile(f);
    sim.locks.unlockWrite(this.mm.mmapLock(mm));
    sim.agents.stack.set(f + ADDR, addr);
    const write = (flags & (VM_WRITE | VM_SHARED)) === VM_WRITE ? 1 : 0;
    return sim.agents.call(f, this.mmap.first + 5, huge.populate, mm, addr, addr + len, write);
  }

  private leaveFile(f: number): void {
    const s = this.mm.sim.agents.stack.a;
    if (s[f + OWN_FILE] !== 0) this.mm.files.put(s[f + FD]!);
  }

  private leave(f: number, result: number): number {
    const { sim } = this.mm;
    this.leaveFile(f);
    sim.locks.unlockWrite(this.mm.mmapLock(sim.agents.stack.a[f + MM]! | 0));
    return sim.agents.ret(f, result);
  }
}
