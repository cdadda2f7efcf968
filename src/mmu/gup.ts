/** mm/gup.c. STUB with the final signatures; the body follows. */
import type { Activity } from "../sim/agents.js";

export const FOLL_WRITE = 0x1;
export const FOLL_HWPOISON = 0x100;

export interface GupShape {
  /** Plain. pfn of a present, non-special, permitted leaf with a struct page, or -1. Takes a reference on the frame (put it with frames.put). */
  gupFast(mm: number, addr: number, write: boolean): number;
  /** (mm, addr, FOLL_*) -> R0 pfn | -errno (-EFAULT, -EHWPOISON, -ENOMEM). Takes and drops mmap_lock itself; a reference on the frame is taken. */
  readonly getUserPagesUnlocked: Activity;
  /** (mm, addr, write 0|1) -> R0 0 | -errno. Caller holds mmap_lock for reading. */
  readonly fixupUserFault: Activity;
  /** Plain: the pfn behind a PFNMAP/IO address or -1 (nothing there). Sets `writable`, `leafLevel`. Caller holds mmap_lock. No reference taken. */
  followPfnmap(mm: number, addr: number): number;
  /** Of the last followPfnmap. */
  writable: boolean;
  leafLevel: number;
  /** Plain (KVM get_user_mapping_size): size in bytes of the host leaf at addr, 0 when nothing is mapped. */
  userMappingSize(mm: number, addr: number): number;
}
