/**
 * Open files as far as mappings need them: memfd (shmem), regular read-only files, hugetlbfs, shared
 * anonymous memory, and device files whose driver brings its own VMA operations.
 *
 * A file's resident pages are its page cache (pagecache.ts): page offset -> frame. The caches hold one
 * reference on each frame.
 */
import type { Activity } from "../sim/agents.js";
import { ENOMEM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import { ORDER_PAGE, type Frames } from "./frames.js";
import { PageCache } from "./pagecache.js";

/** memfd_create, and MAP_SHARED | MAP_ANONYMOUS. */
export const FILE_SHMEM = 1;
/** A regular file, opened read-only, with contents that only its seed decides. */
export const FILE_REGULAR = 2;
export const FILE_HUGETLB = 3;
/** A character device: mappings are its driver's business. */
export const FILE_DEVICE = 4;
/** KVM_CREATE_GUEST_MEMFD (virt/kvm/guest_memfd.c): memory that guests and, where its flags say so, mappings share. */
export const FILE_GUEST_MEMFD = 5;

const KIND_NAMES = ["free", "memfd", "regular", "hugetlb", "device", "guest_memfd"] as const;

/** log2 of a hugetlb page in 4 KiB pages where nothing else is asked: 2 MiB. */
const HUGETLB_ORDER = 9;

/** struct vm_operations_struct and the file's mmap, of one driver. Constant, one object per device file. */
export interface VmOperations {
  /** f_op->mmap: (mm, vma) -> R0 0 | -errno. The VMA is not in the tree yet; the driver sets its flags. */
  readonly mmap: Activity;
  /** (mm, vma, addr, write) -> R0 VM_FAULT_*. */
  readonly fault: Activity;
  /** `fault` in one step where nothing in it waits. @returns VM_FAULT_*, or -1: it would wait, and nothing has happened */
  readonly faultNow?: (mm: number, vma: number, addr: number) => number;
  /** (mm, vma, addr, order) -> R0 VM_FAULT_*, FALLBACK for the next smaller order. */
  readonly hugeFault?: Activity;
  /** (mm, vma): a VMA came into being by a split or a fork; it is not in the tree yet. */
  readonly open?: Activity;
  /** (mm, vma): a VMA goes away. */
  readonly close?: Activity;
  /** The driver has a pfn_mkwrite callback: shared entries start without write permission and the first write asks it. */
  readonly writeNotify?: boolean;
}

/** kvm_gmem_fops, as far as this room calls it. */
export interface GuestMemfdOperations {
  /** (file, mode, offset, length) -> R0 0 | -errno; the generic checks of fallocate(2) are done. */
  readonly fallocate: Activity;
  /** a_ops->error_remove_folio: (file, page offset) -> R0 0. The page is broken, and stays in the file. */
  readonly errorRemoveFolio: Activity;
  /** The last reference goes with a VMA. */
  release(file: number): void;
}

const KIND = 0;
const SEED = 1;
/** References: one while open, one per VMA. */
const REFS = 2;
/** hugetlb: log2 of the page size in 4 KiB pages. */
const ORDER = 3;
/** hugetlb: pages reserved in the pool and not used yet. */
const RESERVED = 4;
/** Device file: its driver's operations, the number that declareDriver gave; 0 in others. */
const OPS = 5;
/** fallocate has made pages resident up to here, in pages: beyond the size with FALLOC_FL_KEEP_SIZE. */
const REACH = 6;
/** guest_memfd: GUEST_MEMFD_FLAG_*; the VM that it belongs to; 1 once its descriptor is closed. */
const GMEM_FLAGS = 7;
const GMEM_VM = 8;
const GMEM_CLOSED = 9;
const GOING = 2;
const WORDS = 10;

export class Files {
  readonly cache: PageCache;
  private readonly w: I32Pool;
  private readonly sizes: F64Pool;
  /** [0] files ever created, [1 + order] hugetlb pages of that order that are reserved and not used yet. */
  private readonly globals: I32Pool;
  /** Static configuration: the drivers' operations from 1 on, in the order in which the machine was built. */
  private readonly drivers: (VmOperations | undefined)[] = [undefined];
  /** Set by KVM, which alone makes such files. */
  guestMemfd!: GuestMemfdOperations;

  constructor(
    sim: Sim,
    private readonly frames: Frames,
  ) {
    this.cache = new PageCache(sim);
    this.w = sim.state.i32("files.words", 16 * WORDS);
    this.sizes = sim.state.f64("files.sizes", 16);
    this.globals = sim.state.i32("files.globals", 32);
  }

  private create(kind: number, size: number): number {
    const file = this.globals.a[0]!;
    this.globals.set(0, file + 1);
    this.w.ensure((file + 1) * WORDS);
    this.sizes.ensure(file + 1);
    this.w.set(Math.imul(file, WORDS) + KIND, kind);
    this.w.set(Math.imul(file, WORDS) + REFS, 1);
    this.sizes.set(file, size);
    return file;
  }

  /** memfd_create, then ftruncate to `size` bytes. */
  createMemfd(size = 0): number {
    return this.create(FILE_SHMEM, size);
  }
  /** Opens a read-only regular file of `size` bytes whose contents follow from the seed. */
  openReadOnly(size: number, seed = 0): number {
    const file = this.create(FILE_REGULAR, size);
    this.w.set(Math.imul(file, WORDS) + SEED, seed);
    return file;
  }
  /** memfd_create(MFD_HUGETLB). @param order log2 of the page size in 4 KiB pages: 4, 9, 13 or 18. The size is rounded up to it */
  createHugetlb(size: number, order = HUGETLB_ORDER): number {
    const page = 4096 * 2 ** order;
    const file = this.create(FILE_HUGETLB, Math.ceil(size / page) * page);
    this.w.set(Math.imul(file, WORDS) + ORDER, order);
    return file;
  }
  /** KVM_CREATE_GUEST_MEMFD. @param flags GUEST_MEMFD_FLAG_* */
  createGuestMemfd(vm: number, size: number, flags: number): number {
    const file = this.create(FILE_GUEST_MEMFD, size);
    this.w.set(Math.imul(file, WORDS) + GMEM_FLAGS, flags);
    this.w.set(Math.imul(file, WORDS) + GMEM_VM, vm);
    return file;
  }
  /** GUEST_MEMFD_FLAG_*. */
  guestMemfdFlags(file: number): number {
    return this.w.a[Math.imul(file, WORDS) + GMEM_FLAGS]!;
  }
  guestMemfdVm(file: number): number {
    return this.w.a[Math.imul(file, WORDS) + GMEM_VM]!;
  }
  /** FILE_* behind a file descriptor, 0 if it is none (any more). */
  kindOfFd(fd: number): number {
    const kind = this.kind(fd);
    return kind === FILE_GUEST_MEMFD && this.w.a[Math.imul(fd, WORDS) + GMEM_CLOSED] !== 0 ? 0 : kind;
  }
  /** The descriptor of a guest_memfd goes. @returns true if nothing else holds the file */
  closeGuestMemfd(file: number): boolean {
    const last = this.w.a[Math.imul(file, WORDS) + REFS] === 1;
    this.w.set(Math.imul(file, WORDS) + GMEM_CLOSED, last ? GOING : 1);
    return last;
  }
  /** The last reference is gone, and what it held will be soon (get_file_active). */
  guestMemfdGoing(file: number): boolean {
    return this.w.a[Math.imul(file, WORDS) + GMEM_CLOSED] === GOING;
  }

  /** Names a driver's operations, once, when the machine is built. @returns its number */
  declareDriver(ops: VmOperations): number {
    const known = this.drivers.indexOf(ops);
    return known >= 0 ? known : this.drivers.push(ops) - 1;
  }
  /** Opens a device file. */
  openDevice(ops: VmOperations): number {
    const file = this.create(FILE_DEVICE, 0);
    this.w.set(Math.imul(file, WORDS) + OPS, this.declareDriver(ops));
    return file;
  }

  /** FILE_*, 0 if there is no such file. */
  kind(file: number): number {
    return file >= 0 && file < this.globals.a[0]! ? this.w.a[Math.imul(file, WORDS) + KIND]! : 0;
  }
  /** The same of a file that is there: is it a device? */
  isDevice(file: number): boolean {
    return this.w.a[Math.imul(file, WORDS) + KIND] === FILE_DEVICE;
  }
  kindName(file: number): string {
    return file < 0 ? "anonymous" : KIND_NAMES[this.kind(file)]!;
  }
  /** i_size, in bytes. */
  size(file: number): number {
    return this.sizes.a[file]!;
  }
  setSize(file: number, size: number): void {
    this.sizes.set(file, size);
  }
  /** The driver's operations of a device file; undefined of another, and where there is none. @param file or -1 */
  vmOps(file: number): VmOperations | undefined {
    return file < 0 ? undefined : this.drivers[this.w.a[Math.imul(file, WORDS) + OPS]!];
  }
  get count(): number {
    return this.globals.a[0]!;
  }

  /** get_file: one more VMA or descriptor holds it. */
  get(file: number): void {
    if (file < 0) return;
    this.w.set(Math.imul(file, WORDS) + REFS, this.w.a[Math.imul(file, WORDS) + REFS]! + 1);
  }

  /** fput, also close(2): the last one drops the pages of a memory file. */
  put(file: number): void {
    if (file < 0) return;
    const refs = this.w.a[Math.imul(file, WORDS) + REFS]! - 1;
    this.w.set(Math.imul(file, WORDS) + REFS, refs);
    if (refs > 0) return;
    if (this.kind(file) === FILE_DEVICE) return;
    if (this.kind(file) === FILE_GUEST_MEMFD) this.guestMemfd.release(file);
    this.dropPages(file, 0, this.reach(file, this.size(file)));
    this.unreserve(file, this.w.a[Math.imul(file, WORDS) + RESERVED]!);
    for (let i = 0; i < WORDS; i++) this.w.set(Math.imul(file, WORDS) + i, 0);
    this.sizes.set(file, 0);
  }

  /** No page of a file whose size is or was `size` is resident from here on. */
  reach(file: number, size: number): number {
    return Math.max(Math.ceil(size / 4096), this.w.a[Math.imul(file, WORDS) + REACH]!);
  }
  setReach(file: number, page: number): void {
    this.w.set(Math.imul(file, WORDS) + REACH, page);
  }

  /** filemap_add_folio of a fresh page, which is cleared: the cache has its reference. @returns pfn, or -1: no memory */
  addFolio(file: number, pgoff: number): number {
    const { frames } = this;
    const pfn = frames.alloc(ORDER_PAGE);
    if (pfn < 0) return -1;
    frames.clear(pfn, ORDER_PAGE);
    frames.setFile(pfn);
    frames.lru?.lruCacheAdd(pfn);
    this.cache.put(file, pgoff, pfn);
    return pfn;
  }

  /** truncate_inode_pages_range: resident pages with offsets in [from, to) leave the cache. */
  dropPages(file: number, from: number, to: number): void {
    for (let p = this.cache.next(file, from, to); p >= 0; p = this.cache.next(file, p + 1, to)) {
      this.frames.put(this.cache.remove(file, p));
    }
  }

  /**
   * The contents of a regular file: one 32-bit word at a byte offset (a multiple of 4).
   * It starts like an ELF executable; the rest is mixed from seed and offset.
   */
  contentWord(file: number, offset: number): number {
    if (offset >= this.size(file)) return 0;
    if (offset < 16) return ELF_START[offset >> 2]!;
    let h = Math.imul(offset ^ 0x2545f491, 0x9e3779b1) ^ Math.imul(this.w.a[Math.imul(file, WORDS) + SEED]! + 1, 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
    return h ^ (h >>> 13);
  }

  /** log2 of the page size in 4 KiB pages. */
  hugetlbOrder(file: number): number {
    return this.w.a[Math.imul(file, WORDS) + ORDER]!;
  }
  /** Page size in bytes. */
  hugetlbSize(file: number): number {
    return 4096 * 2 ** this.w.a[Math.imul(file, WORDS) + ORDER]!;
  }
  /**
   * hugetlb_reserve_pages, simplified: a mapping takes as many pages of the pool as the file has not yet reserved or used.
   * @param pages of the file's page size @returns 0 or -ENOMEM
   */
  reserveHugetlb(file: number, pages: number): number {
    const order = this.hugetlbOrder(file);
    if (pages > this.hugetlbAvailable(order)) return -ENOMEM;
    this.globals.set(1 + order, this.globals.a[1 + order]! + pages);
    this.w.set(Math.imul(file, WORDS) + RESERVED, this.w.a[Math.imul(file, WORDS) + RESERVED]! + pages);
    return 0;
  }
  private unreserve(file: number, pages: number): void {
    if (pages === 0) return;
    const order = this.hugetlbOrder(file);
    this.globals.set(1 + order, this.globals.a[1 + order]! - pages);
    this.w.set(Math.imul(file, WORDS) + RESERVED, this.w.a[Math.imul(file, WORDS) + RESERVED]! - pages);
  }
  /** Pages of this order in the pool that nobody has reserved. */
  hugetlbAvailable(order: number): number {
    return this.frames.hugetlbFree(order) - this.globals.a[1 + order]!;
  }
  /** Reservations that are left. */
  reservedHugetlb(file: number): number {
    return this.w.a[Math.imul(file, WORDS) + RESERVED]!;
  }
}

/** e_ident of a 64-bit little-endian ELF file with the GNU ABI. */
const ELF_START = [0x464c457f, 0x03010102, 0, 0] as const;
