/**
 * The VMM's vocabulary: system calls and ioctls with their parameters in the order of the manual page
 * or of the UAPI structure. From this one table come the checks, the help and the reference.
 */
export type ParameterKind = "number" | "text" | "register" | "vcpu";

export interface Parameter {
  readonly name: string;
  readonly kind: ParameterKind;
  /** Value when it is left out; undefined: it must be given. */
  readonly fallback: bigint | undefined;
}

export interface CallDecl {
  readonly name: string;
  readonly parameters: readonly Parameter[];
  /** What it does and what its value is. */
  readonly doc: string;
  /** The call enters the guest: not allowed inside an expression. */
  readonly runs?: boolean;
  /** What a kernel thread does, not a process: it stands in \`kthread\` too, and an error is its value, not a failure. */
  readonly kernel?: boolean;
}

const number = (name: string, fallback?: number): Parameter => ({
  name,
  kind: "number",
  fallback: fallback === undefined ? undefined : BigInt(fallback),
});
const text = (name: string): Parameter => ({ name, kind: "text", fallback: undefined });
const vcpu: Parameter = { name: "vcpu", kind: "vcpu", fallback: 0n };
const register: Parameter = { name: "reg", kind: "register", fallback: undefined };
const decl = (name: string, parameters: readonly Parameter[], doc: string, runs = false): CallDecl => ({ name, parameters, doc, runs });

const kernel = (name: string, parameters: readonly Parameter[], doc: string): CallDecl => ({ name, parameters, doc, kernel: true });

const access = [1, 2, 4, 8].flatMap((bytes) => [
  decl(`read${8 * bytes}`, [number("addr")], `the VMM loads ${bytes} byte${bytes > 1 ? "s" : ""} at a host address; its value`),
  decl(`write${8 * bytes}`, [number("addr"), number("value")], `the VMM stores ${bytes} byte${bytes > 1 ? "s" : ""} at a host address`),
]);

export const CALLS: readonly CallDecl[] = [
  decl(
    "mmap",
    [
      number("addr", 0),
      number("length"),
      number("prot", 3),
      number("flags", 0x22),
      number("fd", -1),
      number("offset", 0),
      number("align", 0),
    ],
    "maps memory or a file; its value is the host address. align is a wish of ours: a free address that is a multiple of it",
  ),
  decl("munmap", [number("addr"), number("length")], "unmaps a host range"),
  decl("mprotect", [number("addr"), number("length"), number("prot")], "changes the protection of a host range"),
  decl("madvise", [number("addr"), number("length"), number("advice")], "advises about a host range: MADV_DONTNEED, MADV_HUGEPAGE, …"),
  decl(
    "mremap",
    [number("old_address"), number("old_size"), number("new_size"), number("flags", 0), number("new_address", 0)],
    "moves or resizes a mapping; its value is the new host address",
  ),
  decl("memfd_create", [text("name"), number("flags", 0)], "creates a memory file of size 0; its value is the file descriptor"),
  decl(
    "open",
    [text("name"), number("size")],
    "opens a modelled read-only file of that size (no file of yours is read), a platform device below /dev, or /sys/bus/pci/devices/BDF/resourceN, resourceN_wc (size is then the BAR's); its value is the file descriptor",
  ),
  decl("ftruncate", [number("fd"), number("length")], "sets the size of a memory file"),
  decl(
    "fallocate",
    [number("fd"), number("mode"), number("offset"), number("len")],
    "punches a hole into a memory file or a guest_memfd, or makes pages resident",
  ),
  kernel(
    "clear_flush_young",
    [number("addr"), number("length")],
    "the host forgets that pages were used, as reclaim does; its value is 1 if any was",
  ),
  kernel(
    "clear_young",
    [number("addr"), number("length")],
    "the same without a flush, as idle page tracking and the multi-gen LRU do; its value is 1 if any was",
  ),
  kernel("test_young", [number("addr"), number("length")], "asks whether a page was used since, as khugepaged does; its value is 1 or 0"),
  kernel("collapse_huge_page", [number("addr")], "khugepaged makes the 2 MiB block of addr one huge page; its value is 0 or -errno"),
  kernel("split_huge_page", [number("addr")], "the kernel splits the huge page of addr into small ones; its value is 0 or -errno"),
  kernel("migrate_pages", [number("addr")], "compaction moves the page of addr to another frame; its value is 0 or -errno"),
  kernel(
    "shrink_folio_list",
    [number("addr"), number("force", 1)],
    "reclaim swaps the page of addr out, with force=0 only if it is old; its value is 0 or -errno",
  ),
  kernel(
    "try_to_merge_two_pages",
    [number("addr"), number("other")],
    "KSM lets the page of other share the frame of addr if their contents are equal; its value is 0 or -errno",
  ),
  kernel(
    "ttm_bo_evict",
    [number("fd")],
    "a GPU driver moves the buffer of a file of /dev/ttm: it reserves it, takes its mappings away, and gives it other pages; its value is 0 or -errno",
  ),
  decl(
    "einj_error_inject",
    [number("addr")],
    "EINJ: an uncorrectable memory error in the 64 bytes of RAM around a host address (`apei`); who loads them takes a synchronous external abort",
  ),
  decl(
    "nr_hugepages",
    [number("size"), number("count")],
    "adds hugetlb pages of 64K, 2M, 32M or 1G to their pool; its value is the free ones",
  ),
  decl(
    "transparent_hugepage",
    [text("file"), text("value")],
    "writes a file of /sys/kernel/mm/transparent_hugepage: enabled (always, madvise, never) or shmem_enabled (never, always, within_size, advise, deny, force)",
  ),
  decl("fork", [], "makes a child that only waits; its value is the child"),
  decl("kill", [number("pid")], "ends a child"),
  decl(
    "exit_group",
    [],
    "the VMM's process ends: its address space, then its VMs and VFIO devices; with EBUSY while another thread is in a call. It is the last call",
  ),
  ...access,
  decl("dsb", [], "the VMM's thread executes DSB SY on its CPU"),
  decl("dmb", [], "the VMM's thread executes DMB SY on its CPU"),
  decl("buffer_drain", [number("cpu", 0)], "the store and gathering buffer of a physical CPU drains of its own accord, as hardware may"),
  decl(
    "buffer_leave",
    [number("cpu"), number("n", 0)],
    "the n-th store of a physical CPU's buffer leaves before the others, if it may: its value is 1, else 0",
  ),
  decl(
    "fabric_advance",
    [number("n", 0)],
    "the n-th request on its way takes a step, into the root complex or to its end point, if it may: its value is 1, else 0",
  ),
  decl("fabric_deliver", [], "everything on its way in interconnect and root complex arrives, as it does in time"),
  decl(
    "write_place",
    [number("fd"), number("offset"), number("size", 1)],
    "where the last write to a BAR is: WRITE_IN_BUFFER of a CPU, WRITE_IN_INTERCONNECT, WRITE_IN_ROOT_COMPLEX or WRITE_AT_ENDPOINT; its value",
  ),
  decl("dc_cvac", [number("addr"), number("length", 64)], "the VMM cleans the lines of a host range to the point of coherency, at EL0"),
  decl("dc_cvau", [number("addr"), number("length", 64)], "the VMM cleans them to the point of unification"),
  decl("dc_civac", [number("addr"), number("length", 64)], "the VMM cleans and invalidates them to the point of coherency"),
  decl("ic_ivau", [number("addr"), number("length", 64)], "the VMM invalidates the instruction cache lines of a host range"),
  decl(
    "arm_cacheflush",
    [number("addr"), number("length"), number("invalidate_only", 0)],
    "an Arm-private system call as proposed in 2015: the kernel cleans and invalidates a host range, or only invalidates it (EL0 cannot)",
  ),
  decl(
    "speculate",
    [number("addr"), number("length", 64)],
    "hardware reads lines speculatively through the linear map, or a word of a device through the VMM's mapping if that is Normal, as it may at any moment",
  ),
  decl(
    "speculate_guest",
    [number("va"), vcpu],
    "hardware reads ahead through a vCPU's translation, as it may where the resulting type is Normal: its value is 1 if it did, else 0",
  ),
  decl("evict", [number("addr"), number("length", 64)], "hardware evicts lines, written back if they are dirty, as it may at any moment"),
  ...[1, 2, 4, 8].flatMap((bytes) => [
    decl(
      `dma_read${8 * bytes}`,
      [number("addr"), number("snoop", 1), number("device", -1)],
      `a device reads ${bytes} byte${bytes > 1 ? "s" : ""} of memory that the VMM mapped for it, looking the caches up or not; its value. device is a vfio_open: its Device Control register must allow No Snoop`,
    ),
    decl(
      `dma_write${8 * bytes}`,
      [number("addr"), number("value"), number("snoop", 1), number("device", -1)],
      `a device writes ${bytes} byte${bytes > 1 ? "s" : ""}`,
    ),
  ]),
  decl(
    "migrate_host",
    [number("coherent", 0)],
    "the VM goes on on another host with empty caches, whose non-cacheable accesses look the caches up (1) or not (0)",
  ),
  decl("userfaultfd", [number("flags", 0)], "creates a userfaultfd with its API agreed; its value is the file descriptor"),
  decl(
    "UFFDIO_REGISTER",
    [number("fd"), number("start"), number("len"), number("mode", 1)],
    "registers a host range: UFFDIO_REGISTER_MODE_MISSING, _WP, _MINOR",
  ),
  decl("UFFDIO_UNREGISTER", [number("fd"), number("start"), number("len")], "unregisters a host range"),
  decl("uffd_read", [number("fd")], "waits for a fault and reads it; its value is the host address, cut to the page"),
  decl(
    "UFFDIO_COPY",
    [number("fd"), number("dst"), number("src"), number("len"), number("mode", 0)],
    "resolves a missing fault with a copy",
  ),
  decl("UFFDIO_ZEROPAGE", [number("fd"), number("start"), number("len"), number("mode", 0)], "resolves a missing fault with zero pages"),
  decl(
    "UFFDIO_CONTINUE",
    [number("fd"), number("start"), number("len"), number("mode", 0)],
    "resolves a minor fault with the page that the file has",
  ),
  decl(
    "UFFDIO_POISON",
    [number("fd"), number("start"), number("len"), number("mode", 0)],
    "makes the pages broken memory for whoever touches them",
  ),
  decl(
    "UFFDIO_WRITEPROTECT",
    [number("fd"), number("start"), number("len"), number("mode")],
    "write-protects (mode 1) or resolves a write-protect fault (mode 0)",
  ),
  decl("UFFDIO_WAKE", [number("fd"), number("start"), number("len")], "wakes who waits for these pages"),
  decl(
    "KVM_CREATE_VM",
    [number("ipa_bits", 0), number("mte", 0), number("eager_split", 0), number("dirty_ring", 0), number("vcpus", 0)],
    "creates a VM, with memory tagging if mte is not 0, with that chunk size for eager splitting, with dirty rings of so many bytes, with the next so many vCPUs (absent: all that the script names); its value is the VM, which later calls are about. Without this call there is a default one",
  ),
  decl(
    "kvm_destroy_vm",
    [number("vm", -1)],
    "the files of a VM (absent: the last created) and of its vCPUs are closed: the VM ends, with EBUSY while one of them runs",
  ),
  decl(
    "other_vms",
    [number("count")],
    "so many VMs of other processes come and go on the CPU of this thread; each enters its guest once, and takes a VMID",
  ),
  decl(
    "KVM_SET_USER_MEMORY_REGION",
    [number("slot"), number("flags", 0), number("guest_phys_addr"), number("memory_size"), number("userspace_addr")],
    "creates, moves, changes or (memory_size=0) deletes a memslot",
  ),
  decl(
    "KVM_SET_USER_MEMORY_REGION2",
    [
      number("slot"),
      number("flags", 0),
      number("guest_phys_addr"),
      number("memory_size"),
      number("userspace_addr", 0),
      number("guest_memfd_offset", 0),
      number("guest_memfd", -1),
    ],
    "the same; with flags=KVM_MEM_GUEST_MEMFD the slot's pages are those of a guest_memfd (from v6.8 on; guest_memfd from v6.18 on)",
  ),
  decl(
    "KVM_CREATE_GUEST_MEMFD",
    [number("size"), number("flags", 0)],
    "creates a guest_memfd of the VM: GUEST_MEMFD_FLAG_MMAP, GUEST_MEMFD_FLAG_INIT_SHARED (from v6.18 on); its value is the file descriptor",
  ),
  decl("KVM_CREATE_IRQCHIP", [], "gives the VM a GICv2, of which only the CPU interface is modelled"),
  decl(
    "KVM_ARM_SET_DEVICE_ADDR",
    [number("id"), number("addr")],
    "places the GICv2: id 0 the distributor, 1 the CPU interface, which KVM maps when a vCPU first runs",
  ),
  decl("KVM_GET_DIRTY_LOG", [number("slot")], "fetches and clears the dirty log of a slot: see `expect dirty`"),
  decl(
    "KVM_CLEAR_DIRTY_LOG",
    [number("slot"), number("first_page"), number("num_pages")],
    "clears a part of the dirty log (manual protect)",
  ),
  decl(
    "dirty_ring_collect",
    [vcpu],
    "the VMM takes what is new in a vCPU's dirty ring and marks it as collected; its value is the number of entries",
  ),
  decl("KVM_RESET_DIRTY_RINGS", [], "resets the entries that the VMM has collected from the dirty rings; its value is their number"),
  decl("KVM_ENABLE_CAP", [number("cap"), number("value", 1)], "enables a capability of the VM"),
  decl("KVM_CHECK_EXTENSION", [number("cap")], "asks for a capability; its value is the answer"),
  decl(
    "KVM_RUN",
    [vcpu, number("immediate_exit", 0)],
    "runs a vCPU again from where it stands, up to the end of its guest block; with immediate_exit=1 a pending MMIO access is completed and KVM_RUN fails with EINTR (from v4.11 on)",
    true,
  ),
  decl("KVM_GET_ONE_REG", [register], "reads a register of a vCPU: x0, vcpu1.esr_el1; its value"),
  decl("KVM_SET_ONE_REG", [register, number("value")], "writes a register of a vCPU"),
  decl(
    "KVM_SET_VCPU_EVENTS",
    [vcpu, number("ext_dabt_pending", 0), number("serror_pending", 0)],
    "makes an external data abort or an SError pending for a vCPU",
  ),
  decl("sched_setaffinity", [vcpu, number("cpu")], "moves a vCPU's thread to another physical CPU"),
  decl("vfio_open", [text("device")], "opens a device bound to vfio-pci, by its PCI address; its value is the file descriptor"),
  decl("VFIO_DEVICE_GET_REGION_INFO", [number("fd"), number("index")], "asks for a region; its value is the region's size"),
  decl("VFIO_DEVICE_RESET", [number("fd")], "resets the device, or a platform device with memory of its own"),
  decl(
    "VFIO_DEVICE_PCI_HOT_RESET",
    [number("fd"), number("groups", 1)],
    "resets everything behind the device's bridge, of which the caller names so many groups",
  ),
  decl(
    "VFIO_DEVICE_IOEVENTFD",
    [number("fd"), number("offset"), number("size"), number("data"), number("eventfd")],
    "the kernel writes data (1, 2 or 4 bytes) to a BAR whenever the eventfd, a number of the script's own, is signalled; eventfd -1 takes that away",
  ),
  decl("eventfd_signal", [number("eventfd")], "an eventfd is written to: by the VMM, or by KVM for a guest's store (KVM_IOEVENTFD)"),
  decl(
    "close",
    [number("fd")],
    "closes a VFIO device, which is reset when nothing maps it any more, or a guest_memfd, which guests lose when nothing maps it",
  ),
  decl(
    "VFIO_DEVICE_FEATURE_DMA_BUF",
    [number("fd"), number("offset"), number("length")],
    "a range of a BAR as a dma-buf, without a mapping (proposed): its value is the userspace_addr of a memslot with KVM_MEM_DMABUF",
  ),
  decl(
    "VFIO_DEVICE_FEATURE_MMAP_WC",
    [number("fd"), number("offset"), number("length")],
    "asks that mappings within a range of a BAR be write-combining (proposed: with vfioMmapType = as-asked; otherwise ENOTTY)",
  ),
  decl(
    "pread",
    [number("fd"), number("size"), number("offset"), number("buf", 0)],
    "reads a region of a device (1 to 8 bytes): bar0 + 8, pci_config + 4; its value. buf is where in host memory a BAR's bytes also go",
  ),
  decl("pwrite", [number("fd"), number("value"), number("size"), number("offset")], "writes a region of a device"),
  decl("pci_config_read", [number("fd"), number("offset"), number("size")], "reads the device's config space; its value"),
  decl("pci_config_write", [number("fd"), number("offset"), number("size"), number("value")], "writes the device's config space"),
  decl("pci_memory_enable", [number("fd"), number("on")], "sets or clears Memory Space Enable in the PCI command register"),
];

const byName = new Map(CALLS.map((c) => [c.name, c]));
export function findCall(name: string): CallDecl | undefined {
  return byName.get(name);
}
/** The parameter that an argument of a call is for: by its name, or by its place. */
export function parameterOf(decl: CallDecl, name: string | undefined, place: number): Parameter | undefined {
  return name === undefined ? decl.parameters[place] : decl.parameters.find((p) => p.name === name);
}
/** `mmap(addr, length, …)`, with what may be left out in brackets. */
export function signature(c: CallDecl): string {
  return `${c.name}(${c.parameters.map((p) => (p.fallback === undefined ? p.name : `[${p.name}]`)).join(", ")})`;
}
