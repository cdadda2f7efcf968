/** What is explored with something removed: small scripts, each about some of the locks, checks and barriers. */

/** Releases with different code for the same thing (v5.14 and v6.1 without the level hint that is a bug of theirs); the last two CPUs without range TLBIs and without VHE. */
const VARIANTS = `variant v5.4
variant v6.1 { set unmapTableTlbi = no-hint }
variant v6.12
variant v6.12-norange { kernel v6.12 cpu cortex-a76 }
variant v6.12-nvhe { kernel v6.12 cpu cortex-a72 }
`;
const MEMORY = `let RAM = 0x80000000
let mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
madvise(mem, 2M, MADV_NOHUGEPAGE)
`;
/** The same memory as one huge page. */
const HUGE = `let RAM = 0x80000000
let mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
madvise(mem, 2M, MADV_HUGEPAGE)
write64(mem, 7)
`;
/** Two of them, which KSM may merge. */
const HUGES = `let RAM = 0x80000000
let mem = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
madvise(mem, 4M, MADV_HUGEPAGE)
madvise(mem, 4M, MADV_MERGEABLE)
write64(mem, 7)
write64(mem + 2M, 7)
`;
/** A slot without host addresses, and a mapping of its file. */
const GUEST_MEMFD = `variant v6.18.2
variant v7.2.12
let RAM = 0x80000000
let fd = KVM_CREATE_GUEST_MEMFD(8K, 3)
let mem = mmap(0, 8K, PROT_READ|PROT_WRITE, MAP_SHARED, fd)
KVM_SET_USER_MEMORY_REGION2(slot=1, flags=4, guest_phys_addr=RAM, memory_size=8K, userspace_addr=mem, guest_memfd=fd)
`;
const SLOT = "KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem)\n";
const LOGGED = "KVM_SET_USER_MEMORY_REGION(slot=1, flags=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem)\n";
const WRITTEN = "guest { mov x1, RAM; str x1, [x1] }\n";
const GUEST = "guest { mov x1, RAM; str x1, [x1]; ldr x2, [x1] }";
const BAR = `let BAR = 0x90000000
let dev = vfio_open(0000:00:06.0)
let bar = mmap(0, 4K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)
read32(bar)
KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=BAR, memory_size=4K, userspace_addr=bar)
`;
const BARS = `machine { devices ivshmem }
variant v5.14 { set unmapTableTlbi = no-hint }
variant v6.12
`;

const par = (...agents: readonly string[]): string => `par {\n${agents.map((a) => `  ${a}\n`).join("")}}\n`;
/** A thread of the VMM beside a vCPU. */
const beside = (call: string, before = `${MEMORY}${SLOT}${WRITTEN}`): string => `${VARIANTS}${before}${par(GUEST, `vmm { ${call} }`)}`;
const kernelBeside = (thread: string, call: string, before = `${MEMORY}${SLOT}${WRITTEN}`): string =>
  `${VARIANTS}${before}${par(GUEST, `kthread ${thread} { ${call} }`)}`;
const bar = (...agents: readonly string[]): string => `${BARS}${BAR}${par(...agents)}`;

const AGING = "kthread kswapd { clear_flush_young(mem, 4K) }";
const aged = (other: string, before = `${MEMORY}${SLOT}${WRITTEN}`, third = ""): string =>
  `variant v5.4\nvariant v6.12\n${before}${par(AGING, other, ...(third === "" ? [] : [third]))}`;
const WIDE = `let RAM = 0x80000000
let mem = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=4M)
madvise(mem, 4M, MADV_NOHUGEPAGE)
`;
const WIDE_SLOT = "KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=4M, userspace_addr=mem)\n";
/** Memory of a file in two blocks, the second a huge page. */
const FILE_VARIANTS = "variant v6.4 { set unmapTableTlbi = no-hint }\nvariant v6.12\n";
const FILE = `let RAM = 0x80000000
let fd = memfd_create("a")
ftruncate(fd, 4M)
let mem = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_SHARED, fd, align=4M)
write64(mem, 7)
write64(mem + 2M, 7)
madvise(mem + 2M, 2M, MADV_COLLAPSE)
`;
/** The first block is huge in the cache, and mapped by small entries. */
const PTE_MAPPED = `${FILE}madvise(mem, 2M, MADV_COLLAPSE)
mprotect(mem + 1M, 1M, PROT_READ)
write64(mem, 7)
mprotect(mem + 1M, 1M, PROT_READ|PROT_WRITE)
`;
const COLLAPSE = "vmm { madvise(mem, 2M, MADV_COLLAPSE) }";
/** A function that has FLR, behind a bridge. */
const NIC = `machine { devices nic }
variant v5.14 { set unmapTableTlbi = no-hint }
variant v6.12
let dev = vfio_open(0000:01:00.0)
let bar = mmap(0, 4K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar0)
read32(bar)
`;

/** Memory whose pages age, and beside it, in the same table of pages, room for what a driver maps. */
const ROOM = `${MEMORY}munmap(mem + 1M, 1M)\nKVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=1M, userspace_addr=mem)\n${WRITTEN}`;
const mapped = (header: string, open: string, rest: string, last = ""): string =>
  `${header}${ROOM}let file = ${open}\n${par(AGING, `vmm { let va = mmap(mem + 1M, 8K, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, file${rest})\n  ${last} }`)}`;

/** Stage 1 on: one block of 1 GiB of memory, so that TLBs hold stage-2 translations apart from stage-1 ones. */
export const STAGE1 = `let TABLE = 0x50000000
let table = mmap(0, 64K)
KVM_SET_USER_MEMORY_REGION(slot=3, guest_phys_addr=TABLE, memory_size=64K, userspace_addr=table)
write64(table + 8, 0x40000705)
write64(table + 16, 0x80000705)
KVM_SET_ONE_REG(mair_el1, 0x4404ff00)
KVM_SET_ONE_REG(tcr_el1, 0x200803519)
KVM_SET_ONE_REG(ttbr0_el1, TABLE)
KVM_SET_ONE_REG(sctlr_el1, 0x30d0199d)
`;

export const SCRIPTS: Readonly<Record<string, string>> = {
  unmap: beside("madvise(mem, 4K, MADV_DONTNEED)", `${MEMORY}${SLOT}`),
  dirty: beside("KVM_GET_DIRTY_LOG(slot=1)", `${MEMORY}${LOGGED}${WRITTEN}`),
  "dirty-stage1": beside("KVM_GET_DIRTY_LOG(slot=1)", `${MEMORY}${LOGGED}${STAGE1}${WRITTEN}`),
  "unmap-stage1": beside("madvise(mem, 2M, MADV_DONTNEED)", `${MEMORY}${SLOT}${STAGE1}${WRITTEN}`),
  clear: `${VARIANTS.replace("variant v5.4\n", "")}${MEMORY}KVM_ENABLE_CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1)\n${LOGGED}${WRITTEN}KVM_GET_DIRTY_LOG(slot=1)\n${par(GUEST, "vmm { KVM_CLEAR_DIRTY_LOG(slot=1, 0, 512) }")}`,
  relax: beside("madvise(mem, 4K, MADV_DONTNEED)", `${MEMORY}${LOGGED}guest { mov x1, RAM; ldr x2, [x1] }\n`),
  "one-cpu": `${VARIANTS}${MEMORY}${SLOT}sched_setaffinity(vcpu0, 1)\nsched_setaffinity(vcpu1, 1)\n${par(
    "guest vcpu0 { mov x1, RAM; str x1, [x1] }",
    "guest vcpu1 { mov x1, RAM; ldr x2, [x1] }",
  )}`,
  logging: beside(`KVM_SET_USER_MEMORY_REGION(slot=1, flags=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem)`),
  delete: beside("KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=0, userspace_addr=mem)"),
  "two-slots": `${VARIANTS}${MEMORY}${par(
    "vmm { KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=1M, userspace_addr=mem) }",
    "vmm second { KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=RAM + 1M, memory_size=1M, userspace_addr=mem + 1M) }",
  )}`,
  munmap: beside("munmap(mem, 4K)"),
  mprotect: beside("mprotect(mem, 4K, PROT_READ)"),
  mremap: beside("mremap(mem, 4K, 8K, MREMAP_MAYMOVE)"),
  mmap: `${VARIANTS}${MEMORY}${SLOT}${par(
    "vmm { mmap(mem, 4K, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) }",
    "vmm second { munmap(mem + 4K, 4K) }",
  )}`,
  nohuge: beside("madvise(mem, 4K, MADV_HUGEPAGE)"),
  fork: beside("fork()"),
  aging: kernelBeside("kswapd", "clear_flush_young(mem, 4K)"),
  reclaim: kernelBeside("kswapd", "shrink_folio_list(mem)"),
  migrate: kernelBeside("kcompactd", "migrate_pages(mem)"),
  collapse: kernelBeside("khugepaged", "collapse_huge_page(mem)", `${MEMORY}write64(mem, 7)\nmadvise(mem, 2M, MADV_HUGEPAGE)\n${SLOT}`),
  ksm: kernelBeside(
    "ksmd",
    "try_to_merge_two_pages(mem + 4K, mem)",
    `${MEMORY}madvise(mem, 2M, MADV_MERGEABLE)\nwrite64(mem, 7)\nwrite64(mem + 4K, 7)\n${SLOT}`,
  ),
  // Two pages of one huge page, which is split after all; and of two, beside somebody who splits and one who unmaps.
  "ksm-huge": kernelBeside("ksmd", "try_to_merge_two_pages(mem + 4K, mem + 8K)", `${HUGE}madvise(mem, 2M, MADV_MERGEABLE)\n${SLOT}`),
  "ksm-huge-two": `${VARIANTS}${HUGES}${SLOT}${par("kthread ksmd { try_to_merge_two_pages(mem, mem + 2M) }", GUEST)}`,
  "ksm-huge-split": `${VARIANTS}${HUGES}${SLOT}${par("kthread ksmd { try_to_merge_two_pages(mem, mem + 2M) }", "kthread kcompactd { split_huge_page(mem + 2M) }")}`,
  "ksm-huge-munmap": `${VARIANTS}${HUGES}${SLOT}${par("kthread ksmd { try_to_merge_two_pages(mem, mem + 2M) }", "vmm { munmap(mem + 2M, 2M) }")}`,
  "memory-off": bar("guest { ldr w0, [BAR]; ldr w1, [BAR] }", "vmm { pci_memory_enable(dev, 0) }"),
  "memory-off-read": bar("vmm reader { pread(dev, 4, bar2 + 0x100) }", "vmm { pci_memory_enable(dev, 0) }"),
  "memory-off-touch": bar("vmm reader { read32(bar) }", "vmm { pci_memory_enable(dev, 0) }"),
  reset: bar("guest { ldr w0, [BAR] }", "vmm { VFIO_DEVICE_RESET(dev) }"),
  "two-faults": `${BARS}${BAR}munmap(bar, 4K)\nmmap(bar, 4K, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, dev, bar2)\n${par(
    "guest { ldr w0, [BAR] }",
    "vmm reader { read32(bar) }",
  )}`,
  "unmap-bar": bar("guest { ldr w0, [BAR] }", "vmm { munmap(bar, 4K) }", "vmm off { pci_memory_enable(dev, 0) }"),
  eager: `machine { devices ivshmem }\nvariant v5.4\n${MEMORY}${SLOT}let dev = vfio_open(0000:00:06.0)\nlet bar = mmap(0, 4K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)\n${par(
    GUEST,
    "vmm { KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x90000000, memory_size=4K, userspace_addr=bar) }",
  )}`,
  split: `variant v6.12\n${MEMORY}madvise(mem, 2M, MADV_HUGEPAGE)\nKVM_CREATE_VM(eager_split=2M)\n${SLOT}${WRITTEN}${par(
    GUEST,
    "vmm { KVM_SET_USER_MEMORY_REGION(slot=1, flags=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem) }",
  )}`,
  userfault: `variant v6.12\n${MEMORY}let page = mmap(0, 4K)\nwrite64(page, 7)\nlet uffd = userfaultfd()\n${SLOT}${par(
    "vmm { UFFDIO_REGISTER(uffd, mem, 2M, UFFDIO_REGISTER_MODE_MISSING) }",
    "vmm second { mprotect(mem, 4K, PROT_READ) }",
  )}`,
  // Two walks of the reverse mapping, and tables that go.
  "two-migrations": `${VARIANTS}${MEMORY}${SLOT}${WRITTEN}${par("kthread kcompactd { migrate_pages(mem) }", "vmm { munmap(mem, 4K) }")}`,
  "split-page": kernelBeside("kcompactd", "split_huge_page(mem)", `${HUGE}${SLOT}`),
  populate: `${VARIANTS}${MEMORY}${SLOT}${par("vmm { madvise(mem, 8K, MADV_POPULATE_WRITE) }", "vmm second { munmap(mem + 4K, 4K) }")}`,
  "ksm-munmap": `${VARIANTS}${MEMORY}madvise(mem, 2M, MADV_MERGEABLE)\nwrite64(mem, 7)\nwrite64(mem + 4K, 7)\n${SLOT}${par(
    "kthread ksmd { try_to_merge_two_pages(mem + 4K, mem) }",
    "vmm { munmap(mem + 4K, 4K) }",
  )}`,
  dontneed: `${VARIANTS}${MEMORY}${SLOT}${WRITTEN}${par("vmm { madvise(mem, 8K, MADV_DONTNEED) }", "vmm second { munmap(mem, 4K) }")}`,
  remove: `${VARIANTS}let RAM = 0x80000000\nlet mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, align=2M)\n${SLOT}${WRITTEN}${par(
    "vmm { madvise(mem, 4K, MADV_REMOVE) }",
    "vmm second { munmap(mem, 4K) }",
  )}`,
  "two-clears": `${VARIANTS.replace("variant v5.4\n", "")}${MEMORY}KVM_ENABLE_CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1)\n${LOGGED}${WRITTEN}KVM_GET_DIRTY_LOG(slot=1)\n${par(
    GUEST,
    "vmm { KVM_CLEAR_DIRTY_LOG(slot=1, 0, 512) }",
    "vmm second { KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=0, userspace_addr=mem) }",
  )}`,
  "access-flag": `variant v5.4\nvariant v5.14 { set unmapTableTlbi = no-hint }\n${MEMORY}${SLOT}${WRITTEN}${par(
    GUEST,
    "kthread kswapd { clear_flush_young(mem, 4K) }",
    "vmm { madvise(mem, 4K, MADV_DONTNEED) }",
  )}`,
  resolve: `variant v6.12\n${MEMORY}let page = mmap(0, 4K)\nwrite64(page, 7)\nlet uffd = userfaultfd()\nUFFDIO_REGISTER(uffd, mem, 2M, UFFDIO_REGISTER_MODE_MISSING)\n${SLOT}${par(
    "vmm { UFFDIO_COPY(uffd, mem, page, 4K) }",
    "vmm second { munmap(mem, 4K) }",
  )}`,
  zeropage: `variant v6.12\n${MEMORY}let uffd = userfaultfd()\nUFFDIO_REGISTER(uffd, mem, 2M, UFFDIO_REGISTER_MODE_MISSING)\n${SLOT}${par(
    "vmm { UFFDIO_ZEROPAGE(uffd, mem, 4K) }",
    "vmm second { munmap(mem, 4K) }",
  )}`,
  "write-protect": `variant v6.12\n${MEMORY}write64(mem, 7)\nlet uffd = userfaultfd()\nUFFDIO_REGISTER(uffd, mem, 2M, UFFDIO_REGISTER_MODE_WP)\n${SLOT}${WRITTEN}${par(
    "vmm { UFFDIO_WRITEPROTECT(uffd, mem, 4K, 1) }",
    "vmm second { munmap(mem, 4K) }",
  )}`,
  unregister: `variant v6.12\n${MEMORY}let uffd = userfaultfd()\nUFFDIO_REGISTER(uffd, mem, 2M, UFFDIO_REGISTER_MODE_MISSING)\n${SLOT}${par(
    "vmm { UFFDIO_UNREGISTER(uffd, mem, 2M) }",
    "vmm second { mprotect(mem, 4K, PROT_READ) }",
  )}`,
  // Aging waits for mmu_lock under the lock of a page table, while somebody else unmaps under mmu_lock and then wants that lock.
  "age-unmap": aged("vmm { madvise(mem, 4K, MADV_DONTNEED) }"),
  "age-munmap": aged("vmm { munmap(mem, 2M) }"),
  "age-mprotect": aged("vmm { mprotect(mem, 4K, PROT_READ) }"),
  "age-mremap": aged("vmm { mremap(mem, 4K, 8K, MREMAP_MAYMOVE) }"),
  "age-fork": aged("vmm { fork() }"),
  "age-free": aged("vmm { madvise(mem, 4K, MADV_FREE) }"),
  "age-migrate": aged("kthread kcompactd { migrate_pages(mem) }"),
  "age-reclaim": aged("kthread second { shrink_folio_list(mem) }"),
  // v4.0 clears the entry before it tells the subscribers: of a page that the guest has not mapped.
  "age-migrate-first": `variant v4.0\n${MEMORY}write64(mem + 4K, 7)\n${SLOT}${WRITTEN}${par(AGING, "kthread kcompactd { migrate_pages(mem + 4K) }")}`,
  "age-reclaim-first": `variant v4.0\n${MEMORY}write64(mem + 4K, 7)\n${SLOT}${WRITTEN}${par(AGING, "kthread second { shrink_folio_list(mem + 4K) }")}`,
  "age-bar": mapped(
    "machine { devices ivshmem }\nvariant v5.4\nvariant v5.8\nvariant v5.14 { set unmapTableTlbi = no-hint }\nvariant v6.12\n",
    "vfio_open(0000:00:06.0)",
    ", bar2",
    "read32(mem + 1M)",
  ),
  "age-sysfs": mapped("machine { devices ivshmem }\nvariant v6.12\n", 'open("/sys/bus/pci/devices/0000:00:06.0/resource2", 0)', ""),
  "age-remap": mapped("variant v6.12\n", 'open("/dev/remap_ram", 8K)', ""),
  "age-vgpu": mapped("variant v6.12\n", 'open("/dev/vgpu", 8K)', "", "read32(mem + 1M)"),
  // Of two pages the driver maps the first, and refuses.
  "age-refused": mapped("variant v5.4\nvariant v6.12\n", 'open("/dev/insert_page", 8K)', ""),
  // A buffer that the GPU's driver moves: the fault gives mmap_lock up and waits for its reservation.
  "moved-buffer": `variant v5.4\nvariant v5.8\nlet fd = open("/dev/ttm", 4K)\nlet buf = mmap(0, 4K, PROT_READ|PROT_WRITE, MAP_SHARED, fd)\nread32(buf)\nKVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x90000000, memory_size=4K, userspace_addr=buf)\n${par(
    "guest { mov x1, 0x90000000; ldr w0, [x1] }",
    "kthread ttm { ttm_bo_evict(fd) }",
  )}`,
  "age-poison": aged("vmm { madvise(mem, 4K, MADV_HWPOISON) }"),
  "age-ksm": aged(
    "kthread ksmd { try_to_merge_two_pages(mem + 4K, mem) }",
    `${MEMORY}madvise(mem, 2M, MADV_MERGEABLE)\nwrite64(mem, 7)\nwrite64(mem + 4K, 7)\n${SLOT}${WRITTEN}`,
  ),
  // Pages that differ: the merge fails half way, and the first page is broken again.
  "ksm-differ": kernelBeside(
    "ksmd",
    "try_to_merge_two_pages(mem + 4K, mem)",
    `${MEMORY}madvise(mem, 2M, MADV_MERGEABLE)\nwrite64(mem, 7)\nwrite64(mem + 4K, 8)\n${SLOT}`,
  ),
  "age-unmerge": aged(
    "vmm { madvise(mem, 2M, MADV_UNMERGEABLE) }",
    `${MEMORY}madvise(mem, 2M, MADV_MERGEABLE)\nwrite64(mem, 7)\nwrite64(mem + 4K, 7)\n${SLOT}try_to_merge_two_pages(mem + 4K, mem)\nguest { mov x1, RAM; ldr x2, [x1] }\n`,
  ),
  "age-split": aged("kthread kcompactd { split_huge_page(mem) }", `${HUGE}${SLOT}${WRITTEN}`),
  "age-split-shared": aged("kthread kcompactd { split_huge_page(mem) }", `${HUGE}${SLOT}${WRITTEN}fork()\n`),
  "age-collapse": aged(
    "kthread khugepaged { collapse_huge_page(mem) }",
    `${MEMORY}write64(mem, 7)\nmadvise(mem, 2M, MADV_HUGEPAGE)\n${SLOT}${WRITTEN}`,
  ),
  "age-protect": `variant v6.12\n${MEMORY}write64(mem, 7)\nlet uffd = userfaultfd()\nUFFDIO_REGISTER(uffd, mem, 2M, UFFDIO_REGISTER_MODE_WP)\n${SLOT}${WRITTEN}${par(
    AGING,
    "vmm { UFFDIO_WRITEPROTECT(uffd, mem, 4K, 1) }",
  )}`,
  "age-fill": `variant v6.12\n${MEMORY}let page = mmap(0, 4K)\nwrite64(page, 7)\nwrite64(mem, 7)\nlet uffd = userfaultfd()\nUFFDIO_REGISTER(uffd, mem, 2M, UFFDIO_REGISTER_MODE_MISSING)\n${SLOT}${WRITTEN}${par(
    AGING,
    "kthread kcompactd { migrate_pages(mem) }",
    "vmm { UFFDIO_COPY(uffd, mem + 4K, page, 4K) }",
  )}`,
  "age-zero": `variant v6.12\n${MEMORY}write64(mem, 7)\nlet uffd = userfaultfd()\nUFFDIO_REGISTER(uffd, mem, 2M, UFFDIO_REGISTER_MODE_MISSING)\n${SLOT}${WRITTEN}${par(
    AGING,
    "kthread kcompactd { migrate_pages(mem) }",
    "vmm { UFFDIO_ZEROPAGE(uffd, mem + 4K, 4K) }",
  )}`,
  "age-fault": aged("kthread kcompactd { migrate_pages(mem) }", undefined, "vmm { write64(mem + 4K, 8) }"),
  "age-copy": aged(
    "kthread kcompactd { migrate_pages(mem) }",
    `${MEMORY}let zero = read64(mem + 4K)\n${SLOT}${WRITTEN}`,
    "vmm { write64(mem + 4K, 8) }",
  ),
  "age-move": `variant v6.12\n${MEMORY}write64(mem + 4K, 7)\nwrite64(mem + 8K, 7)\n${SLOT}guest { mov x1, RAM; str x1, [x1]; str x1, [x1, 4096]; str x1, [x1, 8192] }\n${par(
    "kthread kcompactd { migrate_pages(mem) }",
    "kthread kswapd { clear_flush_young(mem + 4K, 4K) }",
    "vmm { madvise(mem + 8K, 4K, MADV_DONTNEED) }",
  )}`,
  "age-target": `variant v6.12\n${WIDE}write64(mem + 2M, 7)\n${WIDE_SLOT}guest { mov x1, RAM; str x1, [x1] }\n${par(
    "kthread kswapd { clear_flush_young(mem + 2M, 4K) }",
    "vmm { mremap(mem, 4K, 4K, MREMAP_MAYMOVE|MREMAP_FIXED, mem + 2M + 8K) }",
  )}`,
  "age-range": `variant v6.12\n${WIDE}write64(mem + 2M, 7)\n${WIDE_SLOT}guest { mov x1, RAM; str x1, [x1]; str x1, [x1, 4096] }\n${par(
    AGING,
    "kthread second { clear_flush_young(mem, 4M) }",
    "vmm { madvise(mem + 4K, 4K, MADV_DONTNEED) }",
  )}`,
  "age-pmd": `variant v6.12\n${WIDE}write64(mem, 7)\nmadvise(mem, 4M, MADV_HUGEPAGE)\nwrite64(mem + 2M, 7)\n${WIDE_SLOT}guest { mov x1, RAM; str x1, [x1] }\n${par(
    "kthread kswapd { clear_flush_young(mem + 2M, 2M) }",
    "kthread khugepaged { collapse_huge_page(mem) }",
  )}`,
  "age-hugetlb": `variant v6.12\n${MEMORY}let huge = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB, align=4M)\nwrite64(huge, 7)\n${SLOT}${WRITTEN}${par(
    "kthread kswapd { clear_flush_young(huge, 2M) }",
    "vmm { madvise(mem, 4K, MADV_DONTNEED) }",
    "vmm second { write64(huge + 2M, 7) }",
  )}`,
  "age-truncate": `variant v6.12\nlet RAM = 0x80000000\nlet fd = memfd_create("a")\nftruncate(fd, 2M)\nlet mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE, fd, align=2M)\nlet zero = read64(mem)\n${SLOT}guest { mov x1, RAM; ldr x2, [x1] }\n${par(
    AGING,
    "vmm { fallocate(fd, 3, 0, 4K) }",
  )}`,
  "age-punch": `${VARIANTS}let RAM = 0x80000000\nlet mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, align=2M)\n${SLOT}${WRITTEN}${par(
    AGING,
    "vmm { madvise(mem, 4K, MADV_REMOVE) }",
  )}`,
  ring: `variant v6.12\nKVM_CREATE_VM(dirty_ring=4096)\n${MEMORY}${LOGGED}${WRITTEN}${par(
    GUEST,
    "vmm { dirty_ring_collect(); KVM_RESET_DIRTY_RINGS() }",
  )}`,
  "test-young": kernelBeside("kswapd", "test_young(mem, 4K)"),
  "no-hardware-af": `variant v5.14 { cpu cortex-a72  set unmapTableTlbi = no-hint }\n${MEMORY}${SLOT}${WRITTEN}${par(
    GUEST,
    "kthread kswapd { clear_flush_young(mem, 4K) }",
  )}`,
  caches: `variant v5.4 { cpu cortex-a72 }\nvariant v6.12 { cpu cortex-a72 }\n${MEMORY}${SLOT}${STAGE1.replace(/KVM_SET_ONE_REG\(sctlr_el1.*\n/, "")}${WRITTEN}${par(
    "guest { mov x1, 0x30d0199d; msr sctlr_el1, x1 }",
    "vmm { madvise(mem, 4K, MADV_DONTNEED) }",
  )}`,
  "two-removes": `${VARIANTS}let RAM = 0x80000000\nlet mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, align=2M)\nmadvise(mem + 4K, 4K, MADV_DONTFORK)\n${SLOT}${WRITTEN}${par(
    "vmm { madvise(mem, 8K, MADV_REMOVE) }",
    "vmm second { mprotect(mem + 4K, 4K, PROT_READ) }",
  )}`,
  "collapse-migrate": `${VARIANTS}${MEMORY}write64(mem, 7)\nmadvise(mem, 2M, MADV_HUGEPAGE)\n${SLOT}${par(
    "kthread khugepaged { collapse_huge_page(mem) }",
    "kthread kcompactd { migrate_pages(mem) }",
  )}`,
  "collapse-file": `${FILE_VARIANTS}${FILE}let other = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_SHARED, fd, align=2M)\nlet seven = read64(other)\n${SLOT}${WRITTEN}${par(GUEST, COLLAPSE)}`,
  "collapse-pte-mapped": `${FILE_VARIANTS}${PTE_MAPPED}${SLOT}${WRITTEN}${par(GUEST, COLLAPSE)}`,
  "age-collapse-file": `${FILE_VARIANTS}${FILE}${SLOT}${WRITTEN}${par(AGING, COLLAPSE)}`,
  "age-collapse-pte-mapped": `${FILE_VARIANTS}${PTE_MAPPED}${SLOT}${WRITTEN}${par(AGING, COLLAPSE)}`,
  "age-pmd-collapse-file": `${FILE_VARIANTS}${FILE}${WIDE_SLOT}${WRITTEN}${par("kthread kswapd { clear_flush_young(mem + 2M, 2M) }", COLLAPSE)}`,
  "split-file": `${FILE_VARIANTS}${PTE_MAPPED}${SLOT}${WRITTEN}${par(GUEST, "vmm { fallocate(fd, 3, 4K, 4K) }")}`,
  "age-split-file": `${FILE_VARIANTS}${PTE_MAPPED}${SLOT}${WRITTEN}${par(AGING, "vmm { fallocate(fd, 3, 4K, 4K) }")}`,
  "memory-on": `${BARS}${BAR}pci_memory_enable(dev, 0)\n${par("vmm { pci_memory_enable(dev, 1) }", "vmm reader { pread(dev, 4, bar2) }")}`,
  "function-reset": `${NIC}${par("vmm { VFIO_DEVICE_RESET(dev) }", "vmm reader { read32(bar) }")}`,
  "hot-reset": `${NIC}${par("vmm { VFIO_DEVICE_PCI_HOT_RESET(dev) }", "vmm reader { read32(bar) }")}`,
  // An eager mapping of a BAR, and behind it in the same slot memory that the VMM may not write: EPERM, and the slot is emptied again.
  "half-slot": `machine { devices ivshmem }\nvariant v5.4\n${MEMORY}let dev = vfio_open(0000:00:06.0)\nlet both = mmap(0, 8K, PROT_READ)\nlet bar = mmap(both, 4K, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, dev, bar2)\n${par(
    GUEST,
    "vmm { KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x90000000, memory_size=8K, userspace_addr=both) }",
  )}`,
  // The cache that the split of slot 1 has filled and not used is there when slot 2 is split.
  "split-cached": `variant v6.12\n${MEMORY}KVM_CREATE_VM(eager_split=2M)\nlet huge = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)\nmadvise(huge, 2M, MADV_HUGEPAGE)\nKVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x90000000, memory_size=2M, userspace_addr=huge)\n${SLOT}guest { mov x1, RAM; str x1, [x1]; mov x1, 0x90000000; str x1, [x1] }\n${LOGGED}${par(
    GUEST,
    "vmm { KVM_SET_USER_MEMORY_REGION(slot=2, flags=1, guest_phys_addr=0x90000000, memory_size=2M, userspace_addr=huge) }",
  )}`,
  // The vCPU's CPU keeps the translation that was good for reading.
  lifted: beside("KVM_GET_DIRTY_LOG(slot=1)", `${MEMORY}write64(mem, 7)\n${LOGGED}guest { mov x1, RAM; ldr x2, [x1] }\n`),
  // Two VMs on one CPU, and VMIDs of 8 bits run out: the second VM, which has not run yet, is given the number of the first.
  rollover: `variant v5.4 { cpu cortex-a72 }\nvariant v6.12 { cpu cortex-a72 }\nKVM_CREATE_VM(vcpus=1)\n${MEMORY}${SLOT}${WRITTEN}KVM_CREATE_VM(vcpus=1)\nlet other = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)\nmadvise(other, 2M, MADV_NOHUGEPAGE)\nKVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=other)\nother_vms(254)\nsched_setaffinity(vcpu0, 0)\nsched_setaffinity(vcpu1, 0)\n${par(
    "guest vcpu1 { mov x1, RAM; ldr x2, [x1] }",
    "guest vcpu0 { ldr x2, [x1] }",
  )}`,
  // The end of a VM, and of the VMM's process, beside reclaim.
  "vm-end": `variant v4.20\n${VARIANTS}${MEMORY}${SLOT}${WRITTEN}${par("vmm { kvm_destroy_vm() }", AGING)}`,
  exit: `variant v4.20\n${VARIANTS}${MEMORY}${SLOT}${WRITTEN}${par("vmm { exit_group() }", AGING)}`,
  "age-exit": aged("vmm { exit_group() }", undefined, "kthread kcompactd { migrate_pages(mem + 4K) }"),
  ioeventfd: `${NIC}VFIO_DEVICE_IOEVENTFD(dev, bar0 + 0x10, 4, 0x55, 9)\n${par("vmm { VFIO_DEVICE_RESET(dev) }", "vmm second { eventfd_signal(9) }")}`,
  "guest-memfd": `${GUEST_MEMFD}${par(GUEST, "vmm { fallocate(fd, 3, 0, 8K) }")}`,
  child: `${VARIANTS}${MEMORY}write64(mem, 7)\n${SLOT}${par("vmm { let child = fork()\n kill(child) }", "vmm second { write64(mem, 8) }")}`,
};
