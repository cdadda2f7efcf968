/**
 * mm/memory.c, handle_mm_fault and below. STUB with the final signatures; the body follows.
 */
import type { Activity } from "../sim/agents.js";

export const VM_FAULT_OOM = 0x1;
export const VM_FAULT_SIGBUS = 0x2;
export const VM_FAULT_HWPOISON = 0x10;
export const VM_FAULT_HWPOISON_LARGE = 0x20;
export const VM_FAULT_SIGSEGV = 0x40;
export const VM_FAULT_NOPAGE = 0x100;
export const VM_FAULT_LOCKED = 0x200;
export const VM_FAULT_RETRY = 0x400;
export const VM_FAULT_FALLBACK = 0x800;
/** Any of these: the fault failed (mm_types.h VM_FAULT_ERROR). */
export const VM_FAULT_ERROR = 0x1 | 0x2 | 0x10 | 0x20 | 0x40 | 0x800;

export const FAULT_FLAG_WRITE = 0x1;
/** The fault came from the VMM's own access (EL0 exception), not from GUP. */
export const FAULT_FLAG_USER = 0x40;
/** Tried under the per-VMA lock first (v6.4+): falling-back huge attempts are made twice. */
export const FAULT_FLAG_VMA_LOCK = 0x1000;

export interface HostFaultShape {
  /** (mm, addr, flags) -> R0 VM_FAULT_* (0: mapped). Caller holds the mmap_lock for reading. */
  readonly handleMmFault: Activity;
}
