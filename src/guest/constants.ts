/** Names that every script knows: flags of Linux system calls and KVM ioctls (generic and arm64 UAPI headers). */
const UAPI = {
  NULL: 0,
  PROT_NONE: 0,
  PROT_READ: 1,
  PROT_WRITE: 2,
  PROT_EXEC: 4,
  MAP_SHARED: 0x01,
  MAP_PRIVATE: 0x02,
  MAP_FIXED: 0x10,
  MAP_ANONYMOUS: 0x20,
  MAP_NORESERVE: 0x4000,
  MAP_POPULATE: 0x8000,
  MAP_HUGETLB: 0x40000,
  MAP_FIXED_NOREPLACE: 0x100000,
  MAP_HUGE_2MB: 21 << 26,
  MAP_HUGE_1GB: 30 * 2 ** 26,
  MADV_NORMAL: 0,
  MADV_DONTNEED: 4,
  MADV_FREE: 8,
  MADV_REMOVE: 9,
  MADV_DONTFORK: 10,
  MADV_MERGEABLE: 12,
  MADV_HUGEPAGE: 14,
  MADV_NOHUGEPAGE: 15,
  MADV_COLD: 20,
  MADV_PAGEOUT: 21,
  MADV_POPULATE_READ: 22,
  MADV_POPULATE_WRITE: 23,
  MADV_COLLAPSE: 25,
  MADV_HWPOISON: 100,
  MADV_DONTCACHE: 200,
  MREMAP_MAYMOVE: 1,
  MREMAP_FIXED: 2,
  MREMAP_DONTUNMAP: 4,
  FALLOC_FL_KEEP_SIZE: 1,
  FALLOC_FL_PUNCH_HOLE: 2,
  O_RDONLY: 0,
  UFFDIO_REGISTER_MODE_MISSING: 1,
  UFFDIO_REGISTER_MODE_WP: 2,
  UFFDIO_REGISTER_MODE_MINOR: 4,
  KVM_MEM_LOG_DIRTY_PAGES: 1,
  KVM_MEM_READONLY: 2,
  KVM_MEM_INCOHERENT: 8,
  KVM_MEM_DMABUF: 16,
  KVM_CAP_READONLY_MEM: 81,
  KVM_CAP_ARM_VM_IPA_SIZE: 165,
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: 168,
  KVM_CAP_ARM_NISV_TO_USER: 177,
  KVM_CAP_ARM_INJECT_EXT_DABT: 178,
  KVM_CAP_DIRTY_LOG_RING: 192,
  KVM_CAP_ARM_MTE: 205,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL: 223,
  KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP: 225,
  KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE: 228,
  KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED: 243,
} as const;

/** VFIO_PCI_INDEX_TO_OFFSET(index): where a region begins in the device's file. */
const region = (index: number): bigint => BigInt(index) << 40n;

const table = new Map<string, bigint>(Object.entries(UAPI).map(([k, v]) => [k, BigInt(v)]));
for (let n = 0; n < 6; n++) table.set(`bar${n}`, region(n));
["WRITE_AT_ENDPOINT", "WRITE_IN_BUFFER", "WRITE_IN_INTERCONNECT", "WRITE_IN_ROOT_COMPLEX"].forEach((name, n) => table.set(name, BigInt(n)));
table.set("pci_rom", region(6));
table.set("pci_config", region(7));

/** Name -> value. */
export const CONSTANTS: ReadonlyMap<string, bigint> = table;
