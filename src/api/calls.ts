/**
 * What a VMM can ask of the modelled host, as data: system calls, KVM and VFIO ioctls. A call is begun
 * on an agent, runs phase by phase, and is finished; `par` and exploration interleave calls of
 * different agents. Results follow the kernel: `ret` >= 0, or -errno.
 */
import type { OrderingOp } from "../vfio/orderingcalls.js";

/** struct kvm_userspace_memory_region. */
export interface UserMemoryRegion {
  readonly slot: number;
  /** KVM_MEM_LOG_DIRTY_PAGES 1, KVM_MEM_READONLY 2. */
  readonly flags: number;
  readonly guestPhysAddr: number;
  /** Bytes; 0 deletes the slot. */
  readonly memorySize: number;
  readonly userspaceAddr: number;
}

/** struct kvm_userspace_memory_region2. */
export interface UserMemoryRegion2 extends UserMemoryRegion {
  /** Bytes into the file. */
  readonly guestMemfdOffset: number;
  /** File descriptor, with KVM_MEM_GUEST_MEMFD 4 in the flags. */
  readonly guestMemfd: number;
}

/** Bytes and addresses are plain numbers; values are bigint. */
export type Call =
  | {
      readonly call: "mmap";
      readonly addr?: number;
      readonly length: number;
      readonly prot?: number;
      readonly flags?: number;
      readonly fd?: number;
      readonly offset?: number;
      readonly align?: number;
    }
  | { readonly call: "munmap"; readonly addr: number; readonly length: number }
  | { readonly call: "mprotect"; readonly addr: number; readonly length: number; readonly prot: number }
  | { readonly call: "madvise"; readonly addr: number; readonly length: number; readonly advice: number }
  | {
      readonly call: "mremap";
      readonly oldAddress: number;
      readonly oldSize: number;
      readonly newSize: number;
      readonly flags?: number;
      readonly newAddress?: number;
    }
  | { readonly call: "memfd_create"; readonly size?: number; readonly flags?: number }
  /** A modelled read-only file, or a platform device by its name under /dev. */
  | { readonly call: "open"; readonly name?: string; readonly size: number }
  | { readonly call: "ftruncate"; readonly fd: number; readonly length: number }
  | { readonly call: "fallocate"; readonly fd: number; readonly mode: number; readonly offset: number; readonly length: number }
  /** What the host's page aging asks: clear_flush_young 0, clear_young 1, test_young 2. */
  | { readonly call: "age"; readonly addr: number; readonly length: number; readonly kind: 0 | 1 | 2 }
  /** What kernel threads do to the VMM's pages: khugepaged, kcompactd, kswapd, ksmd. */
  | { readonly call: "collapse_huge_page"; readonly addr: number }
  | { readonly call: "split_huge_page"; readonly addr: number }
  | { readonly call: "migrate_pages"; readonly addr: number }
  | { readonly call: "shrink_folio_list"; readonly addr: number; readonly force?: boolean }
  | { readonly call: "try_to_merge_two_pages"; readonly addr: number; readonly other: number }
  /**
   * error_inject of EINJ: an uncorrectable non-fatal memory error (type 0x10) in the line of 64 bytes that a host address of the
   * VMM's maps. 0; ENODEV without EINJ (MachineOptions.apei), EINVAL where no page of RAM is mapped, EADDRINUSE at the zero page (from v5.18 on).
   */
  | { readonly call: "einj_error_inject"; readonly addr: number }
  /** A GPU driver moves the buffer behind a file of /dev/ttm. */
  | { readonly call: "ttm_bo_evict"; readonly fd: number }
  /** sysfs nr_hugepages: adds hugetlb pages of a size to their pool. */
  | { readonly call: "nr_hugepages"; readonly size: number; readonly count: number }
  /** A write to a file of /sys/kernel/mm/transparent_hugepage: `enabled` or `shmem_enabled`. */
  | { readonly call: "transparent_hugepage"; readonly file: string; readonly value: string }
  | { readonly call: "fork" }
  | { readonly call: "kill"; readonly pid: number }
  | { readonly call: "read"; readonly addr: number; readonly size: number }
  | { readonly call: "write"; readonly addr: number; readonly size: number; readonly value: bigint }
  /** A barrier of the VMM on its CPU, or what hardware does of its own accord. See src/vfio/orderingcalls.ts. */
  | { readonly call: "ordering"; readonly op: OrderingOp; readonly cpu?: number; readonly n?: number }
  /** Where a write to a BAR has got to: its value is 0 end point, 1 buffer of a CPU, 2 interconnect, 3 root complex. */
  | { readonly call: "write_place"; readonly fd: number; readonly bar: number; readonly offset: number; readonly size: number }
  /**
   * Something with every cache line of a host range: the VMM's instructions at EL0; the kernel's for it ("kernel …",
   * an Arm-private system call as proposed in 2015); what hardware may do at any moment (speculate, evict).
   */
  | { readonly call: "cache_line"; readonly op: CacheLineOp; readonly addr: number; readonly length: number }
  /** A bus master's access to memory that the VMM mapped for it (VFIO type1), of 1 to 8 bytes. */
  | { readonly call: "dma_read"; readonly addr: number; readonly size: number; readonly snoop: boolean; readonly fd?: number }
  | {
      readonly call: "dma_write";
      readonly addr: number;
      readonly size: number;
      readonly snoop: boolean;
      readonly value: bigint;
      /** The device, opened by vfio_open: it leaves snooping out only where its Device Control register lets it. Any other if absent. */
      readonly fd?: number;
    }
  /** The VM is now on another host, whose interconnect makes non-cacheable accesses coherent or does not: empty caches. */
  | { readonly call: "migrate_host"; readonly coherent: boolean }
  | { readonly call: "userfaultfd"; readonly flags?: number }
  | { readonly call: "uffd_api"; readonly uffd: number }
  | { readonly call: "uffd_register"; readonly uffd: number; readonly start: number; readonly len: number; readonly mode: number }
  | { readonly call: "uffd_unregister"; readonly uffd: number; readonly start: number; readonly len: number }
  | { readonly call: "uffd_wake"; readonly uffd: number; readonly start: number; readonly len: number }
  | { readonly call: "uffd_read"; readonly uffd: number; readonly wait?: boolean }
  | {
      readonly call: "uffd_copy";
      readonly uffd: number;
      readonly dst: number;
      readonly src: number;
      readonly len: number;
      readonly mode?: number;
    }
  | { readonly call: "uffd_zeropage"; readonly uffd: number; readonly start: number; readonly len: number; readonly mode?: number }
  | { readonly call: "uffd_continue"; readonly uffd: number; readonly start: number; readonly len: number; readonly mode?: number }
  | { readonly call: "uffd_poison"; readonly uffd: number; readonly start: number; readonly len: number; readonly mode?: number }
  | { readonly call: "uffd_writeprotect"; readonly uffd: number; readonly start: number; readonly len: number; readonly mode: number }
  | { readonly call: "KVM_CREATE_VM"; readonly ipaBits?: number }
  /** The files of a VM and of its vCPUs are closed: kvm_destroy_vm. */
  | { readonly call: "kvm_destroy_vm"; readonly vm?: number }
  /** VMs of other processes come and go on this CPU: so many VMIDs are taken. */
  | { readonly call: "other_vms"; readonly count: number }
  /** The VMM's process ends: its address space, its VMs, its VFIO devices. */
  | { readonly call: "exit_group" }
  | ({ readonly call: "KVM_SET_USER_MEMORY_REGION"; readonly vm?: number } & UserMemoryRegion)
  | ({ readonly call: "KVM_SET_USER_MEMORY_REGION2"; readonly vm?: number } & UserMemoryRegion2)
  | { readonly call: "KVM_CREATE_GUEST_MEMFD"; readonly vm?: number; readonly size: number; readonly flags?: number }
  | { readonly call: "KVM_CREATE_VCPU"; readonly vm?: number }
  | { readonly call: "KVM_CREATE_IRQCHIP"; readonly vm?: number }
  | { readonly call: "KVM_ARM_SET_DEVICE_ADDR"; readonly vm?: number; readonly id: number; readonly addr: number }
  | {
      readonly call: "KVM_RUN";
      readonly vcpu: number;
      readonly maxInstructions?: number;
      readonly maxExits?: number;
      /** kvm_run.immediate_exit: a pending MMIO access is completed, and KVM_RUN returns -EINTR without entering the guest (v4.11 on). */
      readonly immediateExit?: boolean;
    }
  | { readonly call: "KVM_SET_VCPU_EVENTS"; readonly vcpu: number; readonly extDabtPending?: boolean; readonly serrorPending?: boolean }
  | { readonly call: "KVM_GET_DIRTY_LOG"; readonly vm?: number; readonly slot: number }
  | {
      readonly call: "KVM_CLEAR_DIRTY_LOG";
      readonly vm?: number;
      readonly slot: number;
      readonly firstPage: number;
      readonly numPages: number;
    }
  /** The VMM reads the dirty ring of a vCPU that it has mapped: new entries are marked as collected. */
  | { readonly call: "dirty_ring_collect"; readonly vcpu: number }
  | { readonly call: "KVM_RESET_DIRTY_RINGS"; readonly vm?: number }
  | { readonly call: "KVM_ENABLE_CAP"; readonly vm?: number; readonly cap: number; readonly value: number }
  | { readonly call: "KVM_CHECK_EXTENSION"; readonly vm?: number; readonly cap: number }
  | { readonly call: "sched_setaffinity"; readonly vcpu: number; readonly cpu: number }
  | { readonly call: "vfio_open"; readonly bdf: string }
  | { readonly call: "VFIO_DEVICE_GET_REGION_INFO"; readonly fd: number; readonly index: number }
  | { readonly call: "VFIO_DEVICE_RESET"; readonly fd: number }
  /** Every function behind the bridge of the device; so many of their groups are the caller's. */
  | { readonly call: "VFIO_DEVICE_PCI_HOT_RESET"; readonly fd: number; readonly groups: number }
  /** A write of this value to a BAR whenever the eventfd is signalled; eventfd -1 takes it away. */
  | {
      readonly call: "VFIO_DEVICE_IOEVENTFD";
      readonly fd: number;
      readonly index: number;
      readonly offset: number;
      readonly size: number;
      readonly value: bigint;
      readonly eventfd: number;
    }
  /** Somebody writes 1 to an eventfd: the VMM, or KVM for a guest's store (KVM_IOEVENTFD). */
  | { readonly call: "eventfd_signal"; readonly eventfd: number }
  /** close() of a VFIO device's file. */
  | { readonly call: "close"; readonly fd: number }
  /** As proposed: a range of a BAR without a mapping. */
  | {
      readonly call: "VFIO_DEVICE_FEATURE_DMA_BUF";
      readonly fd: number;
      readonly index: number;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly call: "VFIO_DEVICE_FEATURE_MMAP_WC";
      readonly fd: number;
      readonly index: number;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly call: "vfio_read";
      readonly fd: number;
      readonly index: number;
      readonly offset: number;
      readonly size: number;
      /** Host address that the bytes of a BAR are copied to; the result has them in any case. */
      readonly buffer?: number;
    }
  | {
      readonly call: "vfio_write";
      readonly fd: number;
      readonly index: number;
      readonly offset: number;
      readonly size: number;
      readonly value: bigint;
    };

export const CACHE_LINE_OPS = [
  "dc cvac",
  "dc cvau",
  "dc civac",
  "ic ivau",
  "kernel dc ivac",
  "kernel dc civac",
  "speculate",
  "evict",
] as const;
export type CacheLineOp = (typeof CACHE_LINE_OPS)[number];

export type CallName = Call["call"];
/** The arguments of one call. */
export type Args<N extends CallName> = Omit<Extract<Call, { call: N }>, "call">;

/** A signal that the VMM's thread got from its own access or from KVM_RUN. */
export interface SignalInfo {
  readonly name: "SIGBUS" | "SIGSEGV" | "SIGALRM";
  /** si_code: BUS_ADRERR 2, BUS_OBJERR 3, BUS_MCEERR_AR 4, SI_KERNEL 0x80; SEGV_MAPERR 1, SEGV_ACCERR 2. */
  readonly code: number;
  readonly addr: number;
}

/** Why KVM_RUN returned (kvm_run->exit_reason). BUDGET, SELF_BRANCH and CRASHED are Faultline's. */
export type ExitInfo =
  | { readonly reason: "MMIO"; readonly physAddr: number; readonly len: number; readonly isWrite: boolean; readonly data: bigint }
  | { readonly reason: "ARM_NISV"; readonly esrIss: number; readonly faultIpa: number }
  /** flags: KVM_EXIT_ARM_SEA_FLAG_GPA_VALID 1. gpa is that of the page. */
  | { readonly reason: "ARM_SEA"; readonly flags: number; readonly esr: number; readonly gva: bigint; readonly gpa: number }
  /** A guest_memfd gave no page: `ret` says why. */
  | { readonly reason: "MEMORY_FAULT"; readonly flags: number; readonly gpa: number; readonly size: number }
  | { readonly reason: "DEBUG" | "INTR" | "UNKNOWN" | "DIRTY_RING_FULL" | "SYSTEM_EVENT" | "OTHER" }
  /** The budget of instructions or exits of this call ended it. */
  | { readonly reason: "BUDGET" | "NO_PROGRESS" | "SELF_BRANCH" | "WFI" }
  /** The host crashed under it. */
  | { readonly reason: "CRASHED" };

export interface CallResult {
  /** >= 0, or -errno. */
  readonly ret: number;
  /** The value that a read gave. */
  readonly value?: bigint;
  readonly signal?: SignalInfo;
  readonly exit?: ExitInfo;
  /** Dirty pages of KVM_GET_DIRTY_LOG, ascending. */
  readonly pages?: readonly number[];
  readonly region?: RegionInfo;
  /** The message that uffd_read gave. */
  readonly userfault?: UserfaultInfo;
}

/** struct uffd_msg of a page fault. */
export interface UserfaultInfo {
  /** Host address, cut to the page. */
  readonly address: number;
  /** UFFD_PAGEFAULT_FLAG_WRITE 1, _WP 2, _MINOR 4. */
  readonly flags: number;
}

/** struct vfio_region_info, and where the BAR lies on the modelled bus. */
export interface RegionInfo {
  readonly ret: number;
  readonly index: number;
  readonly flags: number;
  readonly size: number;
  /** Offset in the device file: index << 40. */
  readonly offset: number;
  /** Physical address of a BAR; -1 for other regions. The model's knowledge, not the ioctl's. */
  readonly physAddr: number;
}
