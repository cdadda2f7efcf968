/** What the system calls on an address space share: the parts of the host's memory management and its locks. */
import type { PhysicalMemory } from "../arch/phys.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import type { Files } from "./files.js";
import type { Frames } from "./frames.js";
import type { GupShape } from "./gup.js";
import type { HugePagesShape } from "./hugepages.js";
import type { MmuNotifiers } from "./notifiers.js";
import type { PageLocks } from "./pagelock.js";
import type { HostPageTables } from "./pagetable.js";
import type { ThpSettings } from "./thpsettings.js";
import type { Vmas } from "./vmas.js";
import { VM_HUGETLB } from "./vmflags.js";
import type { Zap } from "./zap.js";

export interface MmContext {
  readonly sim: Sim;
  readonly d: MmRow;
  readonly phys: PhysicalMemory;
  readonly frames: Frames;
  readonly files: Files;
  readonly vmas: Vmas;
  readonly notifiers: MmuNotifiers;
  readonly pt: HostPageTables;
  readonly pages: PageLocks;
  readonly zap: Zap;
  readonly huge: HugePagesShape;
  readonly gup: GupShape;
  readonly thp: ThpSettings;
  /** The CPUs and the kernel have FEAT_MTE, and the release gives it to user space. */
  readonly mte: boolean;
  /** The mm's mmap_lock (mmap_sem before v5.8). */
  mmapLock(mm: number): number;
  /** A fresh address space. @returns its number, or -1 when none is left */
  createMm(): number;
  /** The page tables of an address space go, and its number becomes free. */
  destroyMm(mm: number): void;
  readonly mmLimit: number;
  isLive(mm: number): boolean;
}

export const PAGE_SIZE = 4096;
/** vm.mmap_min_addr. */
export const MMAP_MIN_ADDR = 0x10000;
/** mmap_base without randomisation: STACK_TOP minus the smallest stack gap (arch/arm64/mm/mmap.c MIN_GAP, 128 MiB). */
export const MMAP_BASE = 0x1000000000000 - 0x8000000;

/** PAGE_ALIGN. Exact below 2^53. */
export function pageAlign(bytes: number): number {
  return Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
}
/** vma_kernel_pagesize: bytes of the pages that a VMA is filled with. */
export function vmaKernelPageSize(vmas: Vmas, files: Files, v: number): number {
  return (vmas.flags(v) & VM_HUGETLB) !== 0 ? files.hugetlbSize(vmas.file(v)) : PAGE_SIZE;
}
export function isPageAligned(bytes: number): boolean {
  // Not by %, which for doubles is a call of the C library.
  return bytes - Math.floor(bytes / PAGE_SIZE) * PAGE_SIZE === 0;
}
