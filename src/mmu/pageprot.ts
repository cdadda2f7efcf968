/** vm_page_prot and what depends on it: the attribute bits that a VMA gives to its entries (mm/mmap.c vma_set_page_prot). */
import type { Files } from "./files.js";
import { protHi, protLo } from "./pte.js";
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
    return protHi(this.vmas.flags(vma), this.vmas.pageProt(vma), this.writeNotify(vma));
  }

  /** vma_wants_writenotify: the driver has a pfn_mkwrite or page_mkwrite callback. */
  writeNotify(vma: number): boolean {
    const file = this.vmas.file(vma);
    return file >= 0 && this.files.vmOps(file)?.writeNotify === true;
  }
}
