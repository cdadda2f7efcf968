/** The pages of a guest_memfd (virt/kvm/guest_memfd.c): single ones, in the page cache, cleared before anybody sees them. */
import type { Files } from "./files.js";
import { VM_FAULT_OOM, VM_FAULT_SIGBUS } from "./vmfault.js";

/** The file can be mapped. */
export const GUEST_MEMFD_FLAG_MMAP = 1;
/** Its memory is shared with the host from the start: mappings may be touched. */
export const GUEST_MEMFD_FLAG_INIT_SHARED = 2;

/** kvm_gmem_get_folio, and the clearing that comes with the first use. @returns pfn, or -1: no memory */
export function gmemGetFolio(files: Files, file: number, pgoff: number): number {
  const found = files.cache.find(file, pgoff);
  return found >= 0 ? found : files.addFolio(file, pgoff);
}

/** kvm_gmem_fault_user_mapping, within the file. @returns pfn, or minus VM_FAULT_SIGBUS or VM_FAULT_OOM */
export function gmemFaultUserMapping(files: Files, file: number, pgoff: number): number {
  if ((files.guestMemfdFlags(file) & GUEST_MEMFD_FLAG_INIT_SHARED) === 0) return -VM_FAULT_SIGBUS;
  const pfn = gmemGetFolio(files, file, pgoff);
  return pfn < 0 ? -VM_FAULT_OOM : pfn;
}
