/**
 * VMA flags (include/linux/mm.h VM_*), renumbered into 31 bits: the kernel's own numbers exceed 32
 * bits (VM_MTE, VM_ALLOW_ANY_UNCACHED are bits 32 to 39 of a 64-bit word). The names are the kernel's.
 * Also: PROT_* and MAP_* of the system calls, with their real values.
 */
export const VM_READ = 1 << 0;
export const VM_WRITE = 1 << 1;
export const VM_EXEC = 1 << 2;
export const VM_SHARED = 1 << 3;
export const VM_MAYREAD = 1 << 4;
export const VM_MAYWRITE = 1 << 5;
export const VM_MAYEXEC = 1 << 6;
export const VM_MAYSHARE = 1 << 7;
/** The PTEs map page frames that may have no struct page (remap_pfn_range, vmf_insert_pfn). */
export const VM_PFNMAP = 1 << 8;
/** Memory-mapped I/O or similar. */
export const VM_IO = 1 << 9;
export const VM_MIXEDMAP = 1 << 10;
/** mremap cannot grow it, and it does not merge. */
export const VM_DONTEXPAND = 1 << 11;
export const VM_DONTDUMP = 1 << 12;
/** Not copied on fork (MADV_DONTFORK). */
export const VM_DONTCOPY = 1 << 13;
export const VM_HUGETLB = 1 << 14;
export const VM_HUGEPAGE = 1 << 15;
export const VM_NOHUGEPAGE = 1 << 16;
export const VM_MTE = 1 << 17;
export const VM_MTE_ALLOWED = 1 << 18;
/** KVM may map it Normal-NC although the host maps it as Device (v6.9). */
export const VM_ALLOW_ANY_UNCACHED = 1 << 19;
export const VM_LOCKED = 1 << 20;
export const VM_MERGEABLE = 1 << 21;
export const VM_NORESERVE = 1 << 22;
/** The child of a fork sees zeroes (MADV_WIPEONFORK). */
export const VM_WIPEONFORK = 1 << 23;
export const VM_RAND_READ = 1 << 24;
export const VM_SEQ_READ = 1 << 25;
export const VM_GROWSDOWN = 1 << 26;
/** Registered with a userfaultfd: absent pages, write-protected pages, pages that are only in the page cache. */
export const VM_UFFD_MISSING = 1 << 27;
export const VM_UFFD_WP = 1 << 28;
export const VM_UFFD_MINOR = 1 << 29;
/** KVM is to map the pages cacheable (proposed Jan 2025, in no release). */
export const VM_FORCE_CACHED = 1 << 30;
/** __VM_UFFD_FLAGS */
export const VM_UFFD_FLAGS = VM_UFFD_MISSING | VM_UFFD_WP | VM_UFFD_MINOR;

/** A VMA with one of these never merges with a neighbour (mm.h VM_SPECIAL). */
export const VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP;
/** The three bits that mprotect changes. */
export const VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC;

/** True where a write makes a private copy (mm.h is_cow_mapping). */
export function isCowMapping(flags: number): boolean {
  return (flags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE;
}

export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const PROT_MTE = 0x20;

export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
export const MAP_POPULATE = 0x8000;
export const MAP_HUGETLB = 0x40000;
/** Bits 31:26 of the flags with MAP_HUGETLB: log2 of the page size in bytes, 0 for the default. */
export const MAP_HUGE_SHIFT = 26;
export const MAP_FIXED_NOREPLACE = 0x100000;

/** The memory type that a VMA's page protection (vm_page_prot) asks of its PTEs. */
export const PAGE_PROT_NORMAL = 0;
/** pgprot_noncached: Device-nGnRnE, never executable. */
export const PAGE_PROT_NONCACHED = 1;
/** pgprot_writecombine: Normal non-cacheable. */
export const PAGE_PROT_WRITECOMBINE = 2;
/** pgprot_device: Device-nGnRE, never executable. */
export const PAGE_PROT_DEVICE = 4;
/** Normal, with tags (PROT_MTE). */
export const PAGE_PROT_TAGGED = 3;

const NAMES: readonly (readonly [number, string])[] = [
  [VM_READ, "READ"],
  [VM_WRITE, "WRITE"],
  [VM_EXEC, "EXEC"],
  [VM_SHARED, "SHARED"],
  [VM_MAYREAD, "MAYREAD"],
  [VM_MAYWRITE, "MAYWRITE"],
  [VM_MAYEXEC, "MAYEXEC"],
  [VM_MAYSHARE, "MAYSHARE"],
  [VM_PFNMAP, "PFNMAP"],
  [VM_IO, "IO"],
  [VM_MIXEDMAP, "MIXEDMAP"],
  [VM_DONTEXPAND, "DONTEXPAND"],
  [VM_DONTDUMP, "DONTDUMP"],
  [VM_DONTCOPY, "DONTCOPY"],
  [VM_HUGETLB, "HUGETLB"],
  [VM_HUGEPAGE, "HUGEPAGE"],
  [VM_NOHUGEPAGE, "NOHUGEPAGE"],
  [VM_MTE, "MTE"],
  [VM_MTE_ALLOWED, "MTE_ALLOWED"],
  [VM_ALLOW_ANY_UNCACHED, "ALLOW_ANY_UNCACHED"],
  [VM_LOCKED, "LOCKED"],
  [VM_MERGEABLE, "MERGEABLE"],
  [VM_NORESERVE, "NORESERVE"],
  [VM_WIPEONFORK, "WIPEONFORK"],
  [VM_RAND_READ, "RAND_READ"],
  [VM_SEQ_READ, "SEQ_READ"],
  [VM_GROWSDOWN, "GROWSDOWN"],
  [VM_UFFD_MISSING, "UFFD_MISSING"],
  [VM_UFFD_WP, "UFFD_WP"],
  [VM_UFFD_MINOR, "UFFD_MINOR"],
];

/** The names of the set flags, in bit order: for people. */
export function vmFlagNames(flags: number): string[] {
  return NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
}
