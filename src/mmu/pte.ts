/**
 * The host's stage-1 descriptors as Linux lays them out for user mappings
 * (arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h, pgtable.h).
 *
 * low word                                  | high word (bit - 32)
 * 0 VALID, 1 TYPE (1: table or page)        | 0..15  output address 47:32
 * 4:2 AttrIndx, 6 AP[1] EL0 may access      | 18 GP
 * 7 AP[2] read-only, 9:8 SH, 10 AF, 11 nG   | 19 DBM = PTE_WRITE (software: may be written)
 * 31:12 output address                      | 20 CONT, 21 PXN, 22 UXN
 *                                           | 23 PTE_DIRTY, 24 PTE_SPECIAL, 26 PTE_PROT_NONE (software)
 *
 * "Writable and dirty" is WRITE without RDONLY; "writable and clean" has both. A read-only page has
 * RDONLY without WRITE. A present entry that nobody may use has PROT_NONE instead of VALID.
 */
import {
  PAGE_PROT_DEVICE,
  PAGE_PROT_NONCACHED,
  PAGE_PROT_TAGGED,
  PAGE_PROT_WRITECOMBINE,
  VM_EXEC,
  VM_PFNMAP,
  VM_READ,
  VM_UFFD_WP,
  VM_WRITE,
} from "./vmflags.js";

export const PTE_VALID = 1 << 0;
export const PTE_TABLE_OR_PAGE = 1 << 1;
export const TYPE_MASK = 3;
export const TYPE_BLOCK = 1;
export const TYPE_TABLE = 3;
export const TYPE_PAGE = 3;
export const PTE_ATTRINDX_MASK = 7 << 2;
export const PTE_USER = 1 << 6;
export const PTE_RDONLY = 1 << 7;
export const PTE_SHARED = 3 << 8;
export const PTE_AF = 1 << 10;
export const PTE_NG = 1 << 11;

/** High word. */
export const HI_ADDR = 0xffff;
export const HI_GP = 1 << 18;
export const HI_WRITE = 1 << 19;
export const HI_CONT = 1 << 20;
export const HI_PXN = 1 << 21;
export const HI_UXN = 1 << 22;
export const HI_DIRTY = 1 << 23;
export const HI_SPECIAL = 1 << 24;
/** pte_mkuffd_wp. The kernel's bit is 58, where older ones have PROT_NONE; here it is 57. */
export const HI_UFFD_WP = 1 << 25;
export const HI_PROT_NONE = 1 << 26;

/** MAIR indexes of Linux (memory.h MT_*, v5.13 and later; one layout is used for every era). */
export const MT_NORMAL = 0;
export const MT_NORMAL_TAGGED = 1;
export const MT_NORMAL_NC = 2;
export const MT_DEVICE_nGnRnE = 3;
export const MT_DEVICE_nGnRE = 4;
/** MAIR_EL1/EL2 of the host for these indexes (low word; proc.S MAIR_EL1_SET): ff, f0, 44, 00, 04. */
export const HOST_MAIR_LO = 0x0044f0ff;
export const HOST_MAIR_HI = 0x00000004;

/** AttrIndx by PAGE_PROT_*; longer than that: a small array lies in V8's heap, where it moves. */
const ATTR_OF_PROT = (() => {
  const t = new Int32Array(32).fill(MT_NORMAL);
  t[PAGE_PROT_DEVICE] = MT_DEVICE_nGnRE;
  t[PAGE_PROT_NONCACHED] = MT_DEVICE_nGnRnE;
  t[PAGE_PROT_WRITECOMBINE] = MT_NORMAL_NC;
  t[PAGE_PROT_TAGGED] = MT_NORMAL_TAGGED;
  return t;
})();

/** Swap-like entries: VALID and PROT_NONE clear, type in bits 7:3 of the low word, pfn from bit 8 on (__swp_type, __swp_offset). */
/** A page in the swap cache; the offset is its frame. */
export const SWP_SWAP = 1;
export const SWP_HWPOISON = 31;
export const SWP_MIGRATION_READ = 30;
export const SWP_MIGRATION_WRITE = 29;
/** A pte marker, where nothing is mapped: with HI_UFFD_WP a protected page of a file (PTE_MARKER_UFFD_WP); else MARKER_POISONED. */
export const SWP_MARKER = 28;
/** The low word of PTE_MARKER_POISONED: UFFDIO_POISON. */
export const MARKER_POISONED = (SWP_MARKER << 3) | (2 << 8);
/** The low word of PTE_MARKER_UFFD_WP; its high word is HI_UFFD_WP. */
export const MARKER_UFFD_WP = (SWP_MARKER << 3) | (1 << 8);

/** Low word of a swap-like entry. */
export function swapEntryLo(type: number, pfn: number): number {
  return (type << 3) | ((pfn & 0xffffff) << 8);
}
/** High word of a swap-like entry, without HI_UFFD_WP (pte_swp_mkuffd_wp). */
export function swapEntryHi(pfn: number): number {
  return Math.floor(pfn / 0x1000000) & 0x1ffffff;
}
export function swapEntryType(lo: number): number {
  return (lo >>> 3) & 31;
}
/** is_migration_entry, of an entry that is not empty. */
export function isMigrationEntry(lo: number): boolean {
  const type = swapEntryType(lo);
  return type === SWP_MIGRATION_READ || type === SWP_MIGRATION_WRITE;
}
export function swapEntryPfn(lo: number, hi: number): number {
  return (hi & 0x1ffffff) * 0x1000000 + (lo >>> 8);
}

/** is_hwpoison_entry, is_poisoned_swp_entry. */
export function namesPoison(lo: number, hi: number): boolean {
  return (lo & PTE_VALID) === 0 && (hi & HI_PROT_NONE) === 0 && (swapEntryType(lo) === SWP_HWPOISON || lo === MARKER_POISONED);
}

/** pte_marker_uffd_wp: the mark of a protected page where nothing is mapped. */
export function isUffdWpMarker(lo: number, hi: number): boolean {
  return lo === MARKER_UFFD_WP && hi === HI_UFFD_WP;
}

/** pte_none_mostly: nothing, or the mark of a protected page. */
export function noneMostly(lo: number, hi: number): boolean {
  return (lo | hi) === 0 || isUffdWpMarker(lo, hi);
}

/** pte_mkuffd_wp: the high word of a present entry that is to be protected; its low word gets PTE_RDONLY. */
export function uffdWpHi(hi: number): number {
  return (hi & ~HI_WRITE) | HI_UFFD_WP;
}

/** pte_dirty: by software, or by hardware: writable and not read-only. */
export function pteDirty(lo: number, hi: number): boolean {
  return (hi & HI_DIRTY) !== 0 || ((hi & HI_WRITE) !== 0 && (lo & PTE_RDONLY) === 0);
}

/**
 * Low-word attributes of vm_page_prot for a VMA, without output address: protection_map[flags] plus
 * the memory type. Private mappings never get the write permission here: that is what makes COW.
 */
export function protLo(vmFlags: number, pageProt: number): number {
  const base = PTE_RDONLY | PTE_SHARED | PTE_AF | PTE_NG | (ATTR_OF_PROT[pageProt]! << 2) | PTE_TABLE_OR_PAGE;
  return (vmFlags & (VM_READ | VM_WRITE | VM_EXEC)) === 0 ? base : base | PTE_USER | PTE_VALID;
}

/** High-word attributes of vm_page_prot. @param writable a shared writable VMA that does not want to know of first writes (vma_wants_writenotify) */
export function protHi(vmFlags: number, pageProt: number, writable: boolean): number {
  let hi = HI_PXN;
  if ((vmFlags & VM_EXEC) === 0 || pageProt === PAGE_PROT_NONCACHED || pageProt === PAGE_PROT_WRITECOMBINE || pageProt === PAGE_PROT_DEVICE)
    hi |= HI_UXN;
  if (writable) hi |= HI_WRITE;
  if ((vmFlags & (VM_READ | VM_WRITE | VM_EXEC)) === 0) hi |= HI_PROT_NONE;
  // No userfaultfd registers a PFNMAP: there the bit is free for another meaning (a proposal of Feb 2024).
  if ((vmFlags & (VM_PFNMAP | VM_UFFD_WP)) === (VM_PFNMAP | VM_UFFD_WP)) hi |= HI_UFFD_WP;
  return hi;
}

/** High word of a page's output address. */
export function pfnHi(pfn: number): number {
  return (pfn / 1048576) | 0;
}
/** Low word of a page's output address. */
export function pfnLo(pfn: number): number {
  return pfn << 12;
}
/** Page frame number of a descriptor's output address. */
export function descPfn(lo: number, hi: number): number {
  return (hi & HI_ADDR) * 1048576 + (lo >>> 12);
}

/** The bits that pte_modify takes from the new protection (low word); the rest stays. */
export const MODIFY_LO = PTE_USER | PTE_RDONLY | PTE_VALID;
export const MODIFY_HI = HI_PXN | HI_UXN | HI_PROT_NONE | HI_WRITE | HI_GP;
