/** Words of the userfaultfd interface (include/uapi/linux/userfaultfd.h), and what its ioctls ask of huge pages. */
import { vmaKernelPageSize, type MmContext } from "./context.js";

/** userfaultfd(2): only faults of user mode; those inside KVM and system calls give SIGBUS. */
export const UFFD_USER_MODE_ONLY = 1;
export const UFFDIO_REGISTER_MODE_MISSING = 1;
export const UFFDIO_REGISTER_MODE_WP = 2;
export const UFFDIO_REGISTER_MODE_MINOR = 4;
/** COPY, ZEROPAGE, CONTINUE: do not wake. */
export const UFFDIO_MODE_DONTWAKE = 1;
export const UFFDIO_COPY_MODE_WP = 2;
export const UFFDIO_CONTINUE_MODE_WP = 2;
export const UFFDIO_WRITEPROTECT_MODE_WP = 1;
export const UFFDIO_WRITEPROTECT_MODE_DONTWAKE = 2;
/** Flags of a message (uffd_msg.arg.pagefault.flags). */
export const UFFD_PAGEFAULT_FLAG_WRITE = 1;
export const UFFD_PAGEFAULT_FLAG_WP = 2;
export const UFFD_PAGEFAULT_FLAG_MINOR = 4;

/** Does the range begin or end within a huge page of the VMA? */
export function cutsHugePage(mm: MmContext, v: number, start: number, len: number): boolean {
  const size = vmaKernelPageSize(mm.vmas, mm.files, v);
  return start % size !== 0 || len % size !== 0;
}
