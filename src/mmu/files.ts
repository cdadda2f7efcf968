/**
 * Open files as far as mappings need them: memfd (shmem), regular read-only files, hugetlbfs, shared
 * anonymous memory, and device files whose driver brings its own VMA operations.
 *
 * A file's resident pages are its page cache (pagecache.ts): page offset -> frame. The caches hold one
 * reference on each frame.
 */
import type { Activity } from "../sim/agents.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import { PageCache } from "./pagecache.js";

/** memfd_create, and MAP_SHARED | MAP_ANONYMOUS. */
export const FILE_SHMEM = 1;
/** A regular file, opened read-only, with contents that only its seed decides. */
export const FILE_REGULAR = 2;
export const FILE_HUGETLB = 3;
/** A character device: mappings are its driver's business. */
export const FILE_DEVICE = 4;

const KIND_NAMES = ["free", "memfd", "regular", "hugetlb", "device"] as const;

/** Bytes of one hugetlb page. */
export const HUGETLB_SIZE = 0x200000;

/** struct vm_operations_struct and the file's mmap, of one driver. Constant, one object per device file. */
export interface VmOperations {
  /** f_op->mmap: (mm, vma) -> R0 0 | -errno. The VMA is not in the tree yet; the driver sets its flags. */
  readonly mmap: Activity;
  /** (mm, vma, addr, write) -> R0 VM_FAULT_*. */
  readonly fault: Activity;
  /** (mm, vma, addr, order) -> R0 VM_FAULT_*, FALLBACK for the next smaller order. */
  readonly hugeFault?: Activity;
  /** (mm, vma): a VMA came into being by a split or a fork; it is not in the tree yet. */
  readonly open?: Activity;
  /** (mm, vma): a VMA goes away. */
  readonly close?: Activity;
  /** The driver has a pfn_mkwrite callback: shared entries start without write permission and the first write asks it. */
  readonly writeNotify?: boolean;
}

const KIND = 0;
const SEED = 1;
/** References: one while open, one per VMA. */
const REFS = 2;
/** mmu_notifier-free invalidate lock of a truncation. */
const RESERVED = 3;
const WORDS = 4;

export class Files {
  readonly cache: PageCache;
  private readonly w: I32Pool;
  private readonly sizes: F64Pool;
  /** [0] files ever created, [1] hugetlb pages in the pool, [2] of those reserved or in use. */
  private readonly globals: I32Pool;
  /** Static configuration: the operations of device files, by file. */
  private readonly ops: (VmOperations | undefined)[] = [];

  constructor(sim: Sim, hugetlbPages = 16) {
    this.cache = new PageCache(sim);
    this.w = sim.state.i32("files.words", 16 * WORDS);
    this.sizes = sim.state.f64("files.sizes", 16);
    this.globals = sim.state.i32("files.globals", 4);
    this.globals.set(1, hugetlbPages);
  }

  private create(kind: number, size: number, seed: number): number {
    const file = this.globals.a[0]!;
    this.globals.set(0, file + 1);
    this.w.ensure((file + 1) * WORDS);
    this.sizes.ensure(file + 1);
    this.w.set(file * WORDS + KIND, kind);
    this.w.set(file * WORDS + SEED, seed);
    this.w.set(file * WORDS + REFS, 1);
    this.sizes.set(file, size);
    return file;
  }

  /** memfd_create, then ftruncate to `size` bytes. */
  createMemfd(size: number): number {
    return this.create(FILE_SHMEM, size, 0);
  }
  /** Opens a read-only regular file of `size` bytes whose contents follow from the seed. */
  openReadOnly(size: number, seed = 0): number {
    return this.create(FILE_REGULAR, size, seed);
  }
  /** memfd_create(MFD_HUGETLB) with 2 MiB pages; size is rounded up to them. */
  createHugetlb(size: number): number {
    return this.create(FILE_HUGETLB, Math.ceil(size / HUGETLB_SIZE) * HUGETLB_SIZE, 0);
  }
  /** Opens a device file. Files keep their number for the whole run: the operations are static. */
  openDevice(ops: VmOperations): number {
    const file = this.create(FILE_DEVICE, 0, 0);
    this.ops[file] = ops;
    return file;
  }

  /** FILE_*, 0 if there is no such file. */
  kind(file: number): number {
    return file >= 0 && file < this.globals.a[0]! ? this.w.a[file * WORDS + KIND]! : 0;
  }
  kindName(file: number): string {
    return KIND_NAMES[this.kind(file)]!;
  }
  /** i_size, in bytes. */
  size(file: number): number {
    return this.sizes.a[file]!;
  }
  setSize(file: number, size: number): void {
    this.sizes.set(file, size);
  }
  /** The driver's operations of a device file. */
  vmOps(file: number): VmOperations | undefined {
    return file < 0 ? undefined : this.ops[file];
  }
  get count(): number {
    return this.globals.a[0]!;
  }

  /** get_file and fput. A file without references loses its pages: see `HostMm.fput`. @returns the references left */
  ref(file: number, by: number): number {
    const refs = this.w.a[file * WORDS + REFS]! + by;
    this.w.set(file * WORDS + REFS, refs);
    return refs;
  }

  /**
   * The contents of a regular file: one 32-bit word at a byte offset (a multiple of 4).
   * It starts like an ELF executable; the rest is mixed from seed and offset.
   */
  contentWord(file: number, offset: number): number {
    if (offset >= this.size(file)) return 0;
    if (offset < 16) return ELF_START[offset >> 2]!;
    let h = Math.imul(offset ^ 0x2545f491, 0x9e3779b1) ^ Math.imul(this.w.a[file * WORDS + SEED]! + 1, 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
    return h ^ (h >>> 13);
  }

  /** hugetlb_reserve_pages: takes n huge pages out of the pool. @returns false if there are not so many. */
  reserveHugetlb(n: number): boolean {
    const used = this.globals.a[2]!;
    if (used + n > this.globals.a[1]!) return false;
    this.globals.set(2, used + n);
    return true;
  }
  unreserveHugetlb(n: number): void {
    this.globals.set(2, this.globals.a[2]! - n);
  }
  /** Pages that a file holds out of the hugetlb pool. */
  reservedOf(file: number): number {
    return this.w.a[file * WORDS + RESERVED]!;
  }
  setReservedOf(file: number, n: number): void {
    this.w.set(file * WORDS + RESERVED, n);
  }
}

/** e_ident of a 64-bit little-endian ELF file with the GNU ABI. */
const ELF_START = [0x464c457f, 0x03010102, 0, 0] as const;
