/** Results and flags of the fault handlers, with the kernel's values (include/linux/mm_types.h). */
export const VM_FAULT_OOM = 0x1;
export const VM_FAULT_SIGBUS = 0x2;
export const VM_FAULT_MAJOR = 0x4;
export const VM_FAULT_HWPOISON = 0x10;
export const VM_FAULT_HWPOISON_LARGE = 0x20;
export const VM_FAULT_SIGSEGV = 0x40;
/** The handler installed the entry itself. */
export const VM_FAULT_NOPAGE = 0x100;
export const VM_FAULT_LOCKED = 0x200;
/** The lock was dropped, or may not be held any more: do it again. */
export const VM_FAULT_RETRY = 0x400;
/** A huge mapping is not possible: try the next smaller one. */
export const VM_FAULT_FALLBACK = 0x800;
/** Any of these: the fault failed. */
export const VM_FAULT_ERROR =
  VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE | VM_FAULT_SIGSEGV | VM_FAULT_FALLBACK;

export const FAULT_FLAG_WRITE = 0x1;
/** The fault has answered VM_FAULT_RETRY once. */
export const FAULT_FLAG_TRIED = 0x20;
/** An exception of the VMM's own access, not GUP. */
export const FAULT_FLAG_USER = 0x40;
/** A copy of what others have too, which the entry does not let write: mm/ksm.c break_ksm. */
export const FAULT_FLAG_UNSHARE = 0x400;
/** The VMA's own lock is held and not the mmap_lock: drivers' handlers are refused (vmf_can_call_fault). */
export const FAULT_FLAG_VMA_LOCK = 0x1000;
