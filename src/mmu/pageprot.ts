/** vm_page_prot and what depends on it: the attribute bits that a VMA gives to its entries (mm/mmap.c vma_set_page_prot). */
import type { Files } from "./files.js";
import { protHi, protLo } from "./pte.js";
import { VM_PFNMAP, VM_SHARED, VM_UFFD_WP, VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

export class PageProtection {
  constructor(
    private readonly vmas: Vmas,
    private readonly files: Files,
  ) {}

  /** Low-word attributes of vm_page_prot. */
  lo(vma: number): number {
    return protLo(this.vmas.flags(vma), this.vmas.pageProt(vma));
  }

  /** High-word attributes of vm_page_prot. */
  hi(vma: number): number {
    return this.hiOf(vma, this.vmas.flags(vma), this.vmas.pageProt(vma));
  }
  /** The same for who has read the VMA's flags and memory type. */
  hiOf(vma: number, vmFlags: number, pageProt: number): number {
    const sharedWrites = (vmFlags & (VM_WRITE | VM_SHARED)) === (VM_WRITE | VM_SHARED);
    return protHi(vmFlags, pageProt, sharedWrites && !this.writeNotify(vma));
  }

  /** vma_wants_writenotify: the driver has a pfn_mkwrite or page_mkwrite callback, or a userfaultfd wants to know of writes (userfaultfd_wp). */
  writeNotify(vma: number): boolean {
    if ((this.vmas.flags(vma) & (VM_UFFD_WP | VM_PFNMAP)) === VM_UFFD_WP) return true;
    return this.files.vmOps(this.vmas.file(vma))?.writeNotify === true;
  }
}
