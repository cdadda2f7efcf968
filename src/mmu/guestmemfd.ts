/** The pages of a guest_memfd (virt/kvm/guest_memfd.c): single ones, in the page cache, cleared before anybody sees them. */
import type { Files } from "./files.js";
import { ORDER_PAGE, type Frames } from "./frames.js";
import { VM_FAULT_OOM, VM_FAULT_SIGBUS } from "./vmfault.js";

/** The file can be mapped. */
export const GUEST_MEMFD_FLAG_MMAP = 1;
/** Its memory is shared with the host from the start: mappings may be touched. */
export const GUEST_MEMFD_FLAG_INIT_SHARED = 2;

export class GuestMemfdPages {
  constructor(
    private readonly frames: Frames,
    private readonly files: Files,
  ) {}

  /** kvm_gmem_get_folio, and the clearing that comes with the first use. @returns pfn, or -1: no memory */
  getFolio(file: number, pgoff: number): number {
    const { frames, files } = this;
    const found = files.cache.find(file, pgoff);
    if (found >= 0) return found;
    const pfn = frames.alloc(ORDER_PAGE);
    if (pfn < 0) return -1;
    frames.clear(pfn, ORDER_PAGE);
    frames.setFile(pfn);
    frames.lru?.lruCacheAdd(pfn);
    files.cache.put(file, pgoff, pfn);
    return pfn;
  }

  /** kvm_gmem_fault_user_mapping, within the file. @returns pfn, or minus VM_FAULT_SIGBUS or VM_FAULT_OOM */
  faultUserMapping(file: number, pgoff: number): number {
    if ((this.files.guestMemfdFlags(file) & GUEST_MEMFD_FLAG_INIT_SHARED) === 0) return -VM_FAULT_SIGBUS;
    const pfn = this.getFolio(file, pgoff);
    return pfn < 0 ? -VM_FAULT_OOM : pfn;
  }
}
