/** vm_page_prot and what depends on it: the attribute bits that a VMA gives to its entries (mm/mmap.c vma_set_page_prot). */
import type { Files } from "./files.js";
import { HI_WRITE, protHi, protLo, PTE_RDONLY } from "./pte.js";
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
    return this.files.vmOps(this.vmas.file(vma))?.writeNotify === true;
  }
}

/** pte_mkwrite(pte_mkdirty(pte)): the low word. */
export function writableLo(lo: number): number {
  return lo & ~PTE_RDONLY;
}
/** pte_wrprotect: a dirty entry keeps that in the software bit; see `wrprotectHi`. */
export function wrprotectLo(lo: number): number {
  return lo | PTE_RDONLY;
}
/** pte_wrprotect, the high word. @param dirty the software dirty bit, to be set if the entry was hardware-dirty */
export function wrprotectHi(hi: number, dirty: number): number {
  return (hi & ~HI_WRITE) | dirty;
}
