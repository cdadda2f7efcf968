/**
 * Where kernel releases differ on KVM's side of the fault path, each as a named decision with its
 * whole history. Order: guest abort, user_mem_abort, pfn lookup, caches, MMIO, injection, notifiers,
 * eager mapping, capabilities. "read" in a source says in which trees the code was read.
 */
import { decision } from "../sim/decisions.js";
import { tableDecisions } from "./decisions-tables.js";

const MMU40 = "v4.0 arch/arm/kvm/mmu.c";
const MMU54 = "v5.4 virt/kvm/arm/mmu.c";
const MMU56 = "v5.6 virt/kvm/arm/mmu.c";
const MMU = "arch/arm64/kvm/mmu.c";
const INJECT = "arch/arm64/kvm/inject_fault.c";
const MMIO = "arch/arm64/kvm/mmio.c";
const MAIN = "virt/kvm/kvm_main.c";

/** kvm_handle_guest_abort and what stands before it. */
const guestAbortDecisions = {
  ipaRangeCheck: decision(
    "kvm_handle_guest_abort: which abort class is tested against the IPA limits (beyond the host: size fault; beyond the VM: external abort)",
    ["none", "translation", "permission"],
    {
      "v4.0": ["none", `${MMU40} kvm_handle_guest_abort`],
      "v6.1": ["translation", `v6.1-rc7 ${MMU} kvm_handle_guest_abort; "Inject exception on out-of-IPA-range translation fault"`],
      "v6.8": ["permission", `v6.8 ${MMU} kvm_handle_guest_abort (bug: the wrong class is tested)`],
      "v6.9": ["translation", `v6.9 ${MMU}; "Fix out-of-IPA space translation fault handling"`],
    },
  ),
  ipaLimit: decision("where the VM's IPA limit is taken from in the range check", ["phys-shift", "vtcr-t0sz"], {
    "v4.0": ["phys-shift", `${MMU40} (fixed 40 bits); kvm_phys_size, read up to v6.12`],
    "v6.17": ["vtcr-t0sz", `v6.17 ${MMU} kvm_handle_guest_abort`],
  }),
  externalAbort: decision(
    "where a synchronous external abort or parity error of the guest is looked at, and what an unclaimed one becomes",
    ["mmio-decode", "before-trace-ea-bit", "before-trace-data-only", "before-trace", "after-ipa-check", "first"],
    {
      "v4.0": ["mmio-decode", "v4.0 arch/arm/kvm/mmio.c decode_hsr: EA bit -> data abort"],
      "v4.10": ["before-trace-ea-bit", "v4.10 arch/arm/kvm/mmu.c kvm_handle_guest_abort: data abort with ESR.EA -> SError (v4.9)"],
      "v4.20": [
        "before-trace-data-only",
        `v4.20 virt/kvm/arm/mmu.c, ${MMU54} kvm_handle_guest_abort: unclaimed data abort -> SError, instruction abort falls through`,
      ],
      "v5.10": ["before-trace", `v5.9 ${MMU} kvm_handle_guest_abort: "Handle data and instruction external aborts the same way"`],
      "v6.1": ["after-ipa-check", `v6.1-rc7 ${MMU} kvm_handle_guest_abort`],
      "v6.17": ["first", `v6.17 ${MMU} kvm_handle_guest_abort: kvm_handle_guest_sea`],
    },
  ),
  seaToUser: decision("capability 245: an external abort that the host does not own goes to userspace (exit 41)", [false, true], {
    "v4.0": [false, "absent in v6.18"],
    "v7.2.12": [true, `v6.19, v7.0.0 ${MMU} kvm_handle_guest_sea`],
  }),
  hcrTea: decision("HCR_EL2.TEA, where the CPU has FEAT_RAS: the guest's synchronous external aborts go to EL2", [false, true], {
    "v4.0": [false, "v4.0 - v4.15 arch/arm64/include/asm/kvm_emulate.h vcpu_reset_hcr, kvm_arm.h HCR_GUEST_FLAGS"],
    "v4.20": [true, "v4.16, v4.20 arch/arm64/include/asm/kvm_emulate.h vcpu_reset_hcr; v7.1.5 sys_regs.c vcpu_set_hcr"],
  }),
  hpfarValidity: decision("HPFAR_EL2 is used only when architecturally valid; otherwise the VM is bugged", ["trusted", "checked"], {
    "v4.0": ["trusted", `${MMU40} kvm_handle_guest_abort`],
    "v6.17": ["checked", `v6.17 ${MMU}; fb8a3eba9c81 "Only read HPFAR_EL2 when value is architecturally valid"`],
  }),
  hpfarRecompute: decision(
    "when EL2 recomputes the IPA with an address translation instruction",
    ["permission-not-s1ptw", "when-invalid"],
    {
      "v4.0": ["permission-not-s1ptw", "v4.0 arch/arm64/kvm/hyp.S; read up to v6.12 hyp/include/hyp/fault.h __get_fault_info"],
      "v6.17": ["when-invalid", "v6.17 hyp/include/hyp/fault.h __hpfar_valid (v6.15+)"],
    },
  ),
  accessFlagFaults: decision("access-flag faults are an accepted class (else -EFAULT)", [false, true], {
    "v4.0": [false, `${MMU40} kvm_handle_guest_abort`],
    "v4.10": [true, `v4.10 arch/arm/kvm/mmu.c handle_access_fault (v4.1)`],
  }),
  exclusiveFaults: decision(
    "FSC 0x35 (unsupported exclusive or atomic) is an accepted class and becomes an injected data abort",
    [false, true],
    {
      "v4.0": [false, "absent in v6.19"],
      "v7.2.12": [true, `v7.0.0 ${MMU} kvm_handle_guest_abort`],
    },
  ),
  hcrPtw: decision("HCR_EL2.PTW: a stage-1 walk into memory that stage 2 maps as Device is a permission fault", [false, true], {
    "v4.0": [false, "v4.0 arch/arm64/include/asm/kvm_arm.h HCR_GUEST_FLAGS; absent in v5.8"],
    "v5.10": [true, "v5.14 arch/arm64/include/asm/kvm_arm.h HCR_GUEST_FLAGS (v5.9)"],
  }),
  execNoSlot: decision(
    "an instruction fetch from an address without memslot (exit-to-user: proposed in Dec 2019, no kernel ABI)",
    ["inject-pabt", "exit-to-user"],
    {
      "v4.0": ["inject-pabt", `${MMU40} kvm_handle_guest_abort; the same in every tree read`],
    },
  ),
  execNoSlotPath: decision(
    "how that injection is reached: at once, through -ENOEXEC, or as an external abort",
    ["direct", "enoexec", "sea"],
    {
      "v4.0": ["direct", `${MMU40} kvm_handle_guest_abort`],
      "v5.5": ["enoexec", `the Dec 2019 fix; ${MMU56} kvm_handle_guest_abort`],
      "v6.17": ["sea", `v6.17 ${MMU} kvm_handle_guest_abort: kvm_inject_sea_iabt`],
    },
  ),
  s1ptwNoSlot: decision(
    "a stage-1 walk that finds no memslot: in the MMIO decode (needs ISV, so -ENOSYS), or its own step before",
    ["mmio-decode", "own-step"],
    {
      "v4.0": ["mmio-decode", "v4.0 arch/arm/kvm/mmio.c decode_hsr; v5.4 virt/kvm/arm/mmio.c"],
      "v5.10": ["own-step", `v5.9 ${MMU} kvm_handle_guest_abort: "Move S1PTW S2 fault logic out of io_mem_abort()"`],
    },
  ),
  cacheOpNoSlot: decision("cache maintenance (ESR.CM) by an address without memslot", ["mmio", "skip-also-readonly", "skip"], {
    "v4.0": ["mmio", `${MMU40} kvm_handle_guest_abort`],
    "v4.10": ["skip-also-readonly", `v4.10 arch/arm/kvm/mmu.c; "Handle out-of-RAM cache maintenance as a NOP"; ${MMU54}`],
    "v5.10": ["skip", `v5.9 ${MMU} kvm_handle_guest_abort: "Don't skip cache maintenance for read-only memslots"`],
  }),
  accessFlagLock: decision("mmu_lock mode of handle_access_fault", ["write", "read"], {
    "v4.0": ["write", "v5.4 virt/kvm/arm/mmu.c handle_access_fault (spinlock); v6.1-rc7 (write lock)"],
    "v6.4": ["read", `v6.8 ${MMU} handle_access_fault (v6.3)`],
  }),
  permissionReadFault: decision("a permission fault that is neither write nor exec", ["efault", "silent", "warn"], {
    "v4.0": ["efault", `${MMU40} user_mem_abort "Unexpected L2 read permission error"`],
    "v6.17": ["silent", `v6.17 ${MMU} user_mem_abort: check removed`],
    "v6.18.2": ["warn", `v6.18.2 ${MMU} kvm_handle_guest_abort`],
  }),
  writeFault: decision("what counts as a write fault (kvm_is_write_fault)", ["wnr", "wnr-or-data-s1ptw", "any-s1ptw", "permission-s1ptw"], {
    "v4.0": ["wnr", `${MMU40} kvm_is_write_fault`],
    "v4.10": ["wnr-or-data-s1ptw", "v4.9 kvm_emulate.h kvm_vcpu_dabt_iswrite; 60e21a0ef54c"],
    "v5.10": ["any-s1ptw", `v5.14 kvm_emulate.h; c4ad98e4b72c "Assume write fault on S1PTW permission fault on instruction fetch"`],
    "v5.10.223": ["permission-s1ptw", "v5.10.223 kvm_emulate.h kvm_is_write_fault: Fix S1PTW handling on RO memslots (5.10.164); recorded"],
    "v6.1.192": ["permission-s1ptw", "v6.1.192 kvm_emulate.h kvm_is_write_fault (backport)"],
    "v6.4": ["permission-s1ptw", "v6.8 kvm_emulate.h kvm_is_write_fault (v6.2)"],
  }),
  execFault: decision("what counts as an exec fault", ["never", "iabt", "iabt-not-s1ptw"], {
    "v4.0": ["never", `${MMU40} user_mem_abort: stage-2 RAM is always executable`],
    "v4.20": ["iabt", "v4.20 virt/kvm/arm/mmu.c user_mem_abort"],
    "v5.10": ["iabt-not-s1ptw", "v5.14 kvm_emulate.h kvm_vcpu_trap_is_exec_fault"],
  }),
  poison: decision("a poisoned page: -EFAULT, or SIGBUS to the thread and return 0", ["efault", "sigbus"], {
    "v4.0": ["efault", `${MMU40} user_mem_abort: any error pfn`],
    "v4.20": ["sigbus", "v5.4 virt/kvm/arm/mmu.c kvm_send_hwpoison_signal (v4.13)"],
  }),
  poisonVma: decision("the VMA whose size the SIGBUS reports", ["after-unlock", "known-size"], {
    "v4.0": ["after-unlock", `${MMU54} user_mem_abort: reads the VMA after mmap_sem was dropped (bug)`],
    "v5.6": ["known-size", `${MMU56} "Re-check VMA on detecting a poisoned page"`],
  }),
} as const;

/** user_mem_abort. */
const userMemAbortDecisions = {
  memcacheTopup: decision(
    "where the table cache is filled: after the VMA lookup and unlock, or before it",
    ["after-unlock", "before-vma"],
    {
      "v4.0": ["after-unlock", `${MMU40} user_mem_abort; read up to v6.1-rc7`],
      "v6.1.192": ["before-vma", `v6.1.192 ${MMU} user_mem_abort (backport)`],
      "v6.4": ["before-vma", `v6.4 ${MMU} user_mem_abort (v6.3)`],
    },
  ),
  memcacheTopupWhen: decision(
    "for which faults the table cache is filled: all; no permission fault but a write while logging (bug: an instruction fetch may break a block too); or none but any while logging",
    ["always", "unless-permission", "unless-permission-unlogged"],
    {
      "v4.0": ["always", `${MMU40} user_mem_abort`],
      "v5.10": ["unless-permission", `v5.14 ${MMU} user_mem_abort: not for permission faults, except a write while logging (v5.10)`],
      "v7.3.4": ["unless-permission-unlogged", `v7.3.4 ${MMU} prepare_mmu_memcache: every fault while logging; a write in v7.2.12`],
    },
  ),
  seqSnapshot: decision(
    "where the invalidation sequence is read: after mmap_lock was dropped (bug), or while it is held",
    ["after-unlock", "inside-mmap-lock"],
    {
      "v4.0": ["after-unlock", `${MMU40} user_mem_abort; read up to v6.1-rc7`],
      "v6.1.192": ["inside-mmap-lock", `v6.1.192 ${MMU} user_mem_abort (backport)`],
      "v6.4": ["inside-mmap-lock", `v6.4 ${MMU} "Retry fault if vma_lookup() results become invalid" (v6.3)`],
    },
  ),
  invalidateRetry: decision(
    "under mmu_lock a fault compares the invalidation count and sequence with its snapshot (skip: a fault injected by the user)",
    ["check", "skip"],
    {
      "v4.0": ["check", `${MMU40} user_mem_abort: mmu_notifier_retry; v6.8 ${MMU}: mmu_invalidate_retry`],
    },
  ),
  hugetlbBlock: decision("block sizes of hugetlb VMAs", ["pmd", "kernel-page-size", "page-shift"], {
    "v4.0": ["pmd", `${MMU40} user_mem_abort: is_vm_hugetlb_page and not logging`],
    "v4.20": ["kernel-page-size", `v4.20 virt/kvm/arm/mmu.c vma_kernel_pagesize; contiguous sizes stay odd (v5.4)`],
    "v5.10": ["page-shift", `v5.14 ${MMU} get_vma_page_shift: CONT_PTE -> page, CONT_PMD -> PMD (v5.10)`],
  }),
  slotFitsBlock: decision("which blocks are tested against the slot", ["thp-congruence", "congruent-and-inside"], {
    "v4.0": ["thp-congruence", `${MMU40}, v4.20: hugetlb not tested at all, THP only for congruence modulo PMD (bugs C4, C5)`],
    "v5.4": ["congruent-and-inside", `${MMU54} fault_supports_stage2_huge_mapping (v5.1)`],
  }),
  pfnmapBlockSize: decision(
    "size taken from a PFNMAP VMA: a page; a page that no later step enlarges; or by arithmetic on vm_pgoff and the VMA, up to PUD",
    ["page", "forced-page", "vma-arithmetic"],
    {
      "v4.0": ["page", `${MMU40} user_mem_abort`],
      "v5.5": ["forced-page", "the Dec 2019 fix: VM_PFNMAP sets force_pte"],
      "v5.14": ["vma-arithmetic", `v5.14 ${MMU} get_vma_page_shift`],
      "v6.1.192": ["page", `v6.1.192 ${MMU} get_vma_page_shift: PFNMAP case removed`],
      "v6.12.117": ["page", `v6.12.115 ${MMU} get_vma_page_shift: PFNMAP case removed`],
      "v7.2.12": ["page", `v7.2.11 ${MMU}: PFNMAP case removed`],
    },
  ),
  thpAdjustDevices: decision("transparent_hugepage_adjust is also tried for device pages", [true, false], {
    "v4.0": [true, `${MMU40} user_mem_abort: looks up a struct page that does not exist (bug A1)`],
    "v5.10": [
      false,
      `v5.14 ${MMU} user_mem_abort: not for device pfns. Before, the Dec 2019 fix spares PFNMAP VMAs alone (force_pte; read in v5.4.y with it)`,
    ],
    "v6.12.117": [true, `v6.12.115 ${MMU} user_mem_abort: looks at the host leaf only`],
    "v7.2.12": [true, `v7.2.11 ${MMU} user_mem_abort: looks at the host leaf only`],
  }),
  thpAdjust: decision(
    "how a huge host page behind a page-sized VMA is recognised",
    ["compound", "compound-map", "thp-map", "thp-map-files", "user-table"],
    {
      "v4.0": ["compound", `${MMU40} transparent_hugepage_adjust: PageTransCompound, hugetlb not excluded`],
      "v4.10": [
        "compound-map",
        "arch/arm/kvm/mmu.c transparent_hugepage_adjust: PageTransCompoundMap, hugetlb not excluded (127393fbe597, v4.6)",
      ],
      "v4.20": [
        "thp-map",
        "virt/kvm/arm/mmu.c transparent_hugepage_adjust: hugetlb excluded (KVM: arm/arm64: Ensure only THP is candidate for adjustment)",
      ],
      "v5.4": ["thp-map-files", "include/linux/page-flags.h PageTransCompoundMap: page cache THP too (169226f7e0d2, v5.4)"],
      "v5.15": ["user-table", `v6.1-rc7 ${MMU} get_user_mapping_size (v5.15)`],
    },
  ),
  userTableWalk: decision("the walk of the user page table for the THP size", ["unprotected", "irqs-off"], {
    "v4.0": ["unprotected", `v6.1-rc7 ${MMU} get_user_mapping_size: asserts that the entry is there (bug B2)`],
    "v6.1.192": ["irqs-off", `v6.1.192 ${MMU} (backport)`],
    "v6.4": ["irqs-off", `v6.4 ${MMU} "Disable interrupts while walking userspace PTs": vanished entry -> -EAGAIN`],
  }),
  permissionKeepsGranule: decision("a permission fault on a block keeps the block's size although the VMA says page", [false, true], {
    "v4.0": [false, `${MMU40}; v5.14 user_mem_abort`],
    "v5.15": [true, `v6.1-rc7 ${MMU} user_mem_abort`],
  }),
  faultLock: decision("mode of mmu_lock in user_mem_abort", ["spin", "read-for-logged-writes", "read"], {
    "v4.0": ["spin", `${MMU40}; v5.14 user_mem_abort`],
    "v6.1": ["read-for-logged-writes", `v6.1-rc7 ${MMU}: rwlock; read for write permission faults on pages while logging`],
    "v6.4": ["read", `v6.8 ${MMU} user_mem_abort (v6.2)`],
  }),
  deviceTest: decision("what makes a pfn device memory", ["no-struct-page", "not-linear-map", "vma-and-not-linear-map"], {
    "v4.0": ["no-struct-page", `${MMU40} kvm_is_device_pfn: !pfn_valid; read up to v5.12`],
    "v5.14": ["not-linear-map", `v5.14 ${MMU} kvm_is_device_pfn: !pfn_is_map_memory`],
    "v6.17": ["vma-and-not-linear-map", `v6.17 ${MMU} user_mem_abort: PFNMAP or MIXEDMAP, and not in the linear map`],
  }),
  deviceType: decision(
    "stage-2 type of device memory (nc-for-all is the first version of the series of Sep 2023, follows-vma and pte-bit, the entry's uffd-wp bit, are alternatives of its reviews: in no release)",
    ["nGnRE", "nc-if-vma-allows", "nc-for-all", "follows-vma", "pte-bit"],
    {
      "v4.0": ["nGnRE", `${MMU40} PAGE_S2_DEVICE; read up to v6.8`],
      "v6.9": ["nc-if-vma-allows", `v6.9 ${MMU} user_mem_abort: VM_ALLOW_ANY_UNCACHED -> Normal-NC`],
    },
  ),
  cacheablePfnmap: decision(
    "device pfns in a VMA with a cacheable page protection: device all the same, or Normal-WB with S2FWB and DIC",
    ["device", "write-back", "write-back-if-flagged"],
    {
      // write-back-if-flagged: the VM_FORCE_CACHED of the review of Jan 2025, in no release.
      "v4.0": ["device", "never looked at vm_page_prot before v6.17"],
      "v6.17": ["write-back", `v6.17 ${MMU} user_mem_abort: kvm_vma_is_cacheable; -EFAULT without S2FWB and DIC`],
    },
  ),
  cowPfnmap: decision("a PFNMAP VMA that is a COW mapping (asked for in the review of Jan 2025, not in any release)", ["allow", "refuse"], {
    "v4.0": ["allow", `no is_cow_mapping under arch/arm64/kvm in any tree read (v6.17.0, v6.18.2)`],
  }),
  execOnDevice: decision(
    "an instruction fetch from device memory (exit-to-user: proposed in Dec 2019, no kernel ABI)",
    ["map-executable", "inject-pabt", "exit-to-user"],
    {
      "v4.0": ["map-executable", `${MMU40}: no exec distinction; ${MMU54} user_mem_abort: the exec bit is set for device pages too`],
      "v5.5": ["inject-pabt", "the Dec 2019 fix: -ENOEXEC before the lock"],
    },
  ),
  executeNever: decision("RAM is mapped execute-never until it is fetched from", [false, true], {
    "v4.0": [false, `${MMU40}: no XN for RAM; v4.10`],
    "v4.20": [true, "v4.20 virt/kvm/arm/mmu.c user_mem_abort (v4.16)"],
  }),
  execInherited: decision("an executable entry found at another level makes the new entry executable", [false, true], {
    "v4.0": [false, "no execute-never"],
    "v4.20": [true, `${MMU54} stage2_is_exec ignores the size (bug C7)`],
    "v5.8": [false, `v5.8 ${MMU} stage2_is_exec compares the size`],
  }),
  mapCode: decision(
    "the page-table code behind the fault: entries set one at a time, or the walker with map and relax",
    ["set", "walker"],
    {
      "v4.0": ["set", `${MMU40} stage2_set_pte, stage2_set_pmd_huge; read up to v5.8`],
      "v5.10": ["walker", "v5.14 arch/arm64/kvm/hyp/pgtable.c (v5.10)"],
    },
  ),
  mteVma: decision("the VMA rule for VMs with MTE", ["not-shared", "mte-allowed"], {
    "v4.0": ["not-shared", `v5.14 ${MMU} user_mem_abort: shared VMA -> -EFAULT`],
    "v6.4": ["mte-allowed", `v6.8 ${MMU} user_mem_abort: VM_MTE_ALLOWED or -EFAULT`],
  }),
  mteCheck: decision("where that rule is tested", ["under-mmu-lock", "before-lock"], {
    "v4.0": ["under-mmu-lock", `v5.14 ${MMU} user_mem_abort: sanitise_mte_tags`],
    "v7.2.12": ["before-lock", `v7.1.5 ${MMU}`],
  }),
  dirtyMark: decision(
    "when and for what the dirty bit is set: page mappings before the entry; any mapping before it; after success under the lock; after unlocking",
    ["pages-before-set", "before-map", "after-map", "after-unlock"],
    {
      "v4.0": ["pages-before-set", `${MMU40} user_mem_abort: mark_page_dirty in the page branch only`],
      "v5.10": ["before-map", `v5.11 ${MMU} user_mem_abort`],
      "v5.12": ["after-map", `v5.12 ${MMU} "Mark the page dirty only if the fault is handled successfully"`],
      "v6.12": ["after-unlock", `v6.12 ${MMU} user_mem_abort`],
    },
  ),
  dirtyGfn: decision("whose bit: the gfn before the THP adjust, or the head of the final block", ["lookup-gfn", "block-head"], {
    "v4.0": ["lookup-gfn", `${MMU40}; read up to v7.0.0`],
    "v7.2.12": ["block-head", `v7.1.5 ${MMU}`],
  }),
  releasePage: decision("when the page reference is dropped", ["after-unlock", "under-lock"], {
    "v4.0": ["after-unlock", `${MMU40} user_mem_abort: kvm_release_pfn_clean`],
    "v6.13": ["under-lock", `v6.13 ${MMU} user_mem_abort: kvm_release_faultin_page`],
  }),
  errorLeaksPage: decision(
    "the early errors (exec on device, unsupported cacheable PFNMAP) return without dropping the page (bug A13)",
    [false, true],
    {
      "v4.0": [false, "no such error before v5.5"],
      "v5.5": [true, `v6.9 - v6.17 ${MMU} user_mem_abort`],
      "v6.18.2": [false, `v6.18.2 ${MMU} "Fix page leak in user_mem_abort()"`],
    },
  ),
  steps: decision(
    "user_mem_abort as one function, or taken apart: pfn, device decision and permissions before the lock",
    ["one-function", "taken-apart"],
    {
      "v4.0": ["one-function", `${MMU40} user_mem_abort`],
      "v7.2.12": ["taken-apart", `v7.1.5 ${MMU}`],
    },
  ),
} as const;

/** gfn -> pfn (virt/kvm/kvm_main.c). */
const pfnDecisions = {
  remappedVma: decision("which VMAs take the remapped path after GUP failed", ["pfnmap", "io-or-pfnmap"], {
    "v4.0": ["pfnmap", `v4.0 ${MAIN} hva_to_pfn`],
    "v4.10": ["io-or-pfnmap", `v4.10 ${MAIN} hva_to_pfn (v4.8)`],
  }),
  pfnmapLookup: decision(
    "the pfn of a PFNMAP page: vm_pgoff arithmetic without looking, or the host entry with one fixup",
    ["arithmetic", "follow"],
    {
      "v4.0": ["arithmetic", `v4.0 ${MAIN} hva_to_pfn`],
      "v4.10": ["follow", `v4.10 ${MAIN} hva_to_pfn_remapped; add6a0cd1c5b "try to fix up page faults before giving up" (v4.8)`],
    },
  ),
  pfnmapWritable: decision(
    "writability of a PFNMAP page: as the fault; always; the host entry's write bit",
    ["write-fault", "always", "host-entry"],
    {
      "v4.0": ["write-fault", `v4.0 ${MAIN} hva_to_pfn: as slow GUP left it`],
      "v4.10": ["always", `v5.4, v5.8 ${MAIN} hva_to_pfn_remapped (bug A4)`],
      "v5.10.223": [
        "host-entry",
        `v5.10.223 ${MAIN} hva_to_pfn_remapped: bd2fae8da794 "do not assume PTE is writable after follow_pfn" (5.10.19); recorded`,
      ],
      "v5.12": ["host-entry", `v5.12 ${MAIN} "do not assume PTE is writable after follow_pfn"`],
    },
  ),
  pfnmapReference: decision(
    "a struct page behind a PFNMAP address: referenced blindly; refused if its count is zero; not referenced",
    ["blind", "unless-zero", "none"],
    {
      "v4.0": ["blind", `v5.12 ${MAIN} hva_to_pfn_remapped`],
      "v5.10.223": ["unless-zero", `v5.10.223 ${MAIN} kvm_try_get_pfn: f8be156be163 (stable)`],
      "v5.14": ["unless-zero", `v5.14 ${MAIN}; f8be156be163 "KVM: do not allow mapping valid but non-reference-counted pages" (v5.13)`],
      "v6.13": ["none", `v6.13 ${MAIN}`],
    },
  ),
  pfnmapWriteRetry: decision(
    "a write fault that finds a read-only PFNMAP leaf calls the VMA's fault handler once more (proposed Aug 2026)",
    [false, true],
    {
      "v4.0": [false, `no tree read (v4.0 - v7.3.4) does`],
    },
  ),
} as const;

/** Cache maintenance at fault time. */
const cacheDecisions = {
  dcacheAtFault: decision(
    "data cache clean of the page: only if the guest runs uncached or the slot is tagged; always; unless a permission fault; in the walker",
    ["guest-uncached", "always", "unless-permission", "walker"],
    {
      // always: "Enforce unconditional flush to PoC when mapping to stage-2", v4.11 to v4.15 (v4.10.17 has it too), between two eras.
      "v4.0": ["guest-uncached", `${MMU40} coherent_cache_guest_page; v4.10 arch/arm64/include/asm/kvm_mmu.h __coherent_cache_guest_page`],
      "v4.20": ["unless-permission", `${MMU54} user_mem_abort: clean_dcache_guest_page`],
      "v5.14": ["walker", "v5.14 hyp/pgtable.c stage2_map_walker_try_leaf"],
    },
  ),
  dcacheS2fwb: decision("S2FWB makes that clean a no-op", [false, true], {
    "v4.0": [false, "no S2FWB support"],
    "v4.20": [true, "v5.4 kvm_mmu.h __clean_dcache_guest_page (v4.19)"],
  }),
  dcacheDevice: decision("device pages are cleaned too: a crash, as the kernel has no mapping of them (bug A1)", [true, false], {
    "v4.0": [true, `${MMU40}, ${MMU54} user_mem_abort`],
    "v5.5": [false, "the Dec 2019 fix"],
  }),
  icacheAtFault: decision(
    "instruction cache invalidation: always; on an exec fault; in the walker when the entry is executable",
    ["always", "exec-fault", "walker"],
    {
      "v4.0": ["always", `${MMU40} coherent_cache_guest_page`],
      "v4.20": ["exec-fault", `${MMU54} user_mem_abort: invalidate_icache_guest_page`],
      "v5.14": ["walker", "v5.14 hyp/pgtable.c stage2_map_walker_try_leaf"],
    },
  ),
  trapVmRegisters: decision(
    "guests that start uncached have their translation registers trapped until the caches are on (HCR_EL2.TVM)",
    ["always", "without-s2fwb"],
    {
      "v4.0": ["always", "v4.0, v5.4 arch/arm64/include/asm/kvm_arm.h HCR_GUEST_FLAGS"],
      "v5.6": ["without-s2fwb", "v5.6 arch/arm64/include/asm/kvm_emulate.h vcpu_reset_hcr"],
    },
  ),
} as const;

/** The MMIO path. */
const mmioDecisions = {
  nisvToUser: decision("capability 177: an access without syndrome can be handed to userspace (exit 28)", [false, true], {
    "v4.0": [false, "v4.0, v5.4 virt/kvm/arm/mmio.c: -ENOSYS; KVM_ENABLE_CAP EINVAL"],
    "v5.6": [true, "v5.6 virt/kvm/arm/mmio.c io_mem_abort (v5.5)"],
  }),
  injectDabtCap: decision("capability 178: userspace can pend an external data abort", [false, true], {
    "v4.0": [false, "v5.4 arch/arm64/kvm/guest.c"],
    "v5.6": [true, "v5.6 virt/kvm/arm/arm.c (v5.5)"],
  }),
  nisvTrace: decision("trace point kvm_mmio_nisv", [false, true], {
    "v4.0": [false, "absent in v6.1"],
    "v6.8": [true, `v6.8 ${MMIO} io_mem_abort`],
  }),
  mmioPcAdvance: decision("when the PC steps over an MMIO instruction", ["decode", "completion"], {
    "v4.0": ["decode", "v4.0 arch/arm/kvm/mmio.c decode_hsr: kvm_skip_instr before the exit"],
    "v5.4": ["completion", "v5.4 virt/kvm/arm/mmio.c kvm_handle_mmio_return"],
  }),
  vcpuEvents: decision(
    "exceptions of KVM_SET_VCPU_EVENTS: by injectWhen; or the registers are written at once and a pending MMIO access is forgotten",
    ["pended", "committed"],
    {
      "v4.0": ["pended", "v5.6, v6.14 arch/arm64/kvm/guest.c __kvm_arm_vcpu_set_events"],
      "v6.17": [
        "committed",
        'v6.18.2 arch/arm64/kvm/guest.c commit_pending_events; efa1368ba9f4 "Commit exceptions from KVM_SET_VCPU_EVENTS immediately" (v6.17)',
      ],
    },
  ),
  mmioReturn: decision("an access is completed at every KVM_RUN that finds exit reason MMIO, or once", ["every-run", "once"], {
    "v4.0": ["every-run", "v4.0, v4.20, v5.2.1 virt/kvm/arm/mmio.c kvm_handle_mmio_return"],
    "v5.4": ["once", `v5.3.1 virt/kvm/arm/mmio.c; 2113c5f62b74 "Only skip MMIO insn once" (v5.3)`],
  }),
  immediateExit: decision(
    "kvm_run.immediate_exit: not known; KVM_RUN returns before vcpu_load, or after it and by way of vcpu_put",
    ["ignored", "before-load", "after-load"],
    {
      "v4.0": ["ignored", "v4.10.17 arch/arm/kvm/arm.c kvm_arch_vcpu_ioctl_run: no such field"],
      "v4.20": ["before-load", `v4.20, v5.12.9 kvm_arch_vcpu_ioctl_run; 460df4c1fc7c "race-free exit from KVM_RUN" (v4.11)`],
      "v5.14": ["after-load", "v5.14, v7.1.5 arch/arm64/kvm/arm.c kvm_arch_vcpu_ioctl_run (v5.13)"],
    },
  ),
  mmioDestination: decision("where the completion takes register and size from", ["saved", "esr"], {
    "v4.0": ["saved", "v4.0, v5.4: vcpu->arch.mmio_decode"],
    "v5.6": ["esr", "v5.6 virt/kvm/arm/mmio.c kvm_handle_mmio_return"],
  }),
  mmioTruncate: decision("a load into a W register is cut to 32 bits at completion", [false, true], {
    "v4.0": [false, "v5.4 virt/kvm/arm/mmio.c kvm_handle_mmio_return"],
    "v5.6": [true, "v5.6 virt/kvm/arm/mmio.c"],
  }),
  mmioSignExtend: decision("the sign extension of a load: masked away again by the endianness step, or kept", ["lost", "kept"], {
    "v4.0": ["lost", `v4.0 - v7.1.5 kvm_handle_mmio_return (bug D11)`],
    "v7.2.12": ["kept", `v7.2.6 ${MMIO} kvm_handle_mmio_return`],
  }),
  mmioPendingException: decision("completion of an access for which userspace pended an exception", ["completes", "skipped"], {
    "v4.0": ["completes", "v5.4; v6.12.0 kvm_handle_mmio_return"],
    "v6.1.192": ["skipped", `v6.1.192 ${MMIO} (backport)`],
    "v6.12.117": ["skipped", `v6.12.117 ${MMIO} (backport)`],
    "v6.13": ["skipped", `v6.13 ${MMIO} kvm_handle_mmio_return; e735a5da6442 "Don't retire aborted MMIO instruction"`],
  }),
} as const;

/** Exceptions given to the guest. */
const injectDecisions = {
  injectEntry: decision("the functions that inject aborts: kvm_inject_pabt and kvm_inject_dabt, or kvm_inject_sea", ["pabt-dabt", "sea"], {
    "v4.0": ["pabt-dabt", `v4.0 ${INJECT}`],
    "v6.17": ["sea", `v6.17 ${INJECT} kvm_inject_sea`],
  }),
  injectS1ptwFsc: decision("FSC of an abort injected for a stage-1 walk", ["external-abort", "walk-level"], {
    "v4.0": ["external-abort", `v4.0 - v6.17 ${INJECT}: 0x10`],
    "v6.18.2": ["walk-level", `v6.18.2 ${INJECT} inject_abt64: 0x14 + level, nothing if the walk no longer meets the descriptor`],
  }),
  injectEsrUpper: decision("ESR_EL1[63:32] of an injected abort", ["zero", "ones"], {
    "v4.0": ["zero", `v4.0 ${INJECT}; 32-bit variable up to v5.18`],
    "v6.1": ["ones", `v6.1-rc7 ${INJECT}: a signed class constant is sign-extended (bug D12)`],
    "v6.12": ["zero", `v6.12 ${INJECT}`],
  }),
  injectDabtClass: decision(
    "class of an injected data abort: 0x24/0x25, or the v4.0 slip that ORs the unshifted class into the FSC",
    ["correct", "unshifted"],
    {
      "v4.0": ["unshifted", `v4.0 ${INJECT} inject_abt64 (bug D1)`],
      "v4.10": ["correct", `v4.10 ${INJECT} "Fix EC field in inject_abt64"`],
    },
  ),
  injectVector: decision("vector of an injected exception: always VBAR + 0x200, or by the guest's mode", ["el1-sp1", "by-mode"], {
    "v4.0": ["el1-sp1", `v4.0 ${INJECT}`],
    "v4.10": ["by-mode", `v5.4 ${INJECT} get_except_vector`],
  }),
  injectPstate: decision("PSTATE of an injected exception: exactly 0x3c5, or computed", ["fixed", "computed"], {
    "v4.0": ["fixed", `v4.0, v5.4 ${INJECT} PSTATE_FAULT_BITS_64 (bug D10)`],
    "v5.6": ["computed", `v5.6 ${INJECT} get_except64_pstate`],
  }),
  injectWhen: decision(
    "registers are written at once; pended until guest entry; pended, and committed before KVM_RUN returns",
    ["at-once", "at-entry", "before-exit"],
    {
      "v4.0": ["at-once", `v4.0, v5.4 ${INJECT}`],
      "v5.11": ["at-entry", "v5.11, v5.12 arch/arm64/kvm/hyp/exception.c (bug D9)"],
      "v5.14": ["before-exit", `v5.14; 26778aaa134a "Commit pending PC adjustemnts before returning to userspace"`],
    },
  ),
  injectIl: decision("ESR_EL1.IL of an injected abort: the trapped instruction's, or always 1", ["copied", "one"], {
    "v4.0": ["copied", `v4.0 ${INJECT} kvm_vcpu_trap_il_is32bit`],
    "v7.2.12": ["one", `v7.2.6 ${INJECT}`],
  }),
  serror: decision("how a virtual SError reaches the guest", ["none", "vse", "vsesr", "immediate-if-unmasked"], {
    "v4.0": ["none", `v4.0 ${INJECT}: no SError for aborts`],
    "v4.10": ["vse", `v4.10 ${INJECT} kvm_inject_vabt: HCR_EL2.VSE alone (v4.9)`],
    "v4.20": ["vsesr", `v4.20, v5.4 ${INJECT} kvm_inject_vabt: VSESR_EL2, HCR_EL2.VSE (v4.16)`],
    "v6.17": ["immediate-if-unmasked", `v6.17 ${INJECT} kvm_inject_serror_esr`],
  }),
} as const;

/** MMU notifier callbacks. */
const notifierDecisions = {
  invalidateCounts: decision(
    "when sequence and in-progress count move: for every event of the mm, or only if a slot overlaps",
    ["always", "overlap"],
    {
      "v4.0": ["always", `v4.0 - v5.14 ${MAIN} kvm_mmu_notifier_invalidate_range_start`],
      "v5.15": ["overlap", `v6.1-rc7 ${MAIN} kvm_handle_hva_range: on_lock (v5.15)`],
    },
  ),
  invalidateTrace: decision(
    "kvm_unmap_hva_range is emitted in arch code under mmu_lock if stage 2 exists, or first of all",
    ["arch-code", "first"],
    {
      "v4.0": ["arch-code", `${MMU54} kvm_unmap_hva_range; read up to v5.12`],
      "v5.14": ["first", `v5.14 ${MAIN} kvm_mmu_notifier_invalidate_range_start`],
    },
  ),
  invalidateUnit: decision("stage 2 is unmapped once per page of the range, or once per slot", ["page", "slot"], {
    "v4.0": ["page", `${MMU40} kvm_unmap_hva_handler`],
    "v4.20": ["slot", "v4.12 arch/arm/kvm/mmu.c, v4.20 virt/kvm/arm/mmu.c handle_hva_to_gpa"],
  }),
  changePte: decision("the change_pte callback installs a replaced page read-only", [true, false], {
    "v4.0": [true, `${MMU40} kvm_set_spte_hva; read up to v6.9`],
    "v6.12": [false, `v6.12 ${MAIN}: callback gone (v6.10)`],
  }),
  changePteCount: decision(
    "change_pte and the sequence: increments it; relies on the surrounding events; skipped while nothing is in progress",
    ["increments", "inside-range", "skipped-when-idle"],
    {
      "v4.0": ["increments", `v4.0 - v5.12 ${MAIN} kvm_mmu_notifier_change_pte`],
      "v5.14": ["inside-range", `v5.14 ${MAIN}`],
      "v5.15": ["skipped-when-idle", `v6.1-rc7 ${MAIN} (v5.15)`],
    },
  ),
  changePteInvalidSlots: decision("change_pte also serves slots that are being deleted", [true, false], {
    "v4.0": [true, `v6.1-rc7 ${MMU} kvm_set_spte_gfn`],
    "v6.1.192": [false, `v6.1.192 ${MAIN} (backport)`],
    "v6.4": [false, `v6.4 ${MAIN} kvm_change_spte_gfn; absent in v6.3`],
  }),
  ageHandlers: decision("clear_flush_young and clear_young: stub; both", ["stub", "both"], {
    "v4.0": ["stub", "v4.0 arch/arm64/include/asm/kvm_host.h kvm_age_hva returns 0; no clear_young"],
    "v4.10": ["both", `v4.10 arch/arm/kvm/mmu.c kvm_age_hva`],
  }),
  testYoung: decision("test_young passes an empty range and always says no, or asks the page", ["empty-range", "page"], {
    "v4.0": ["empty-range", `v4.0 stub; ${MMU54} kvm_test_age_hva (bug B7)`],
    "v5.6": ["page", `${MMU56} "Fix young bit from mmu notifier"`],
  }),
  notifierRelease: decision("the release callback: empty, or drops the whole stage 2", ["empty", "frees"], {
    "v4.0": ["empty", "v4.0 arch/arm/kvm/mmu.c kvm_arch_flush_shadow_all"],
    "v4.10": ["frees", `${MMU54} kvm_arch_flush_shadow_all; 293f293637b5 "Unmap shadow pagetables properly" (v4.9)`],
  }),
  stage2FreeLock: decision("freeing the whole stage 2: without mmu_lock (bug), or under it", ["none", "held"], {
    "v4.0": ["none", "v4.0 arch/arm/kvm/mmu.c kvm_free_stage2_pgd"],
    "v4.20": ["held", `${MMU54} kvm_free_stage2_pgd; 8b3405e345b5 "Fix locking for kvm_free_stage2_pgd" (v4.11)`],
  }),
} as const;

/** Eager mapping at memslot creation. */
const eagerDecisions = {
  eagerDeviceMapping: decision("KVM_SET_USER_MEMORY_REGION maps PFNMAP VMAs into stage 2 at once", [true, false], {
    "v4.0": [true, `${MMU40} kvm_arch_prepare_memory_region: kvm_phys_addr_ioremap; read up to v5.12`],
    "v5.14": [false, `v5.14 ${MMU} kvm_arch_prepare_memory_region`],
  }),
  eagerTranslation: decision(
    "how eager mapping finds the page (host-table: proposed in Dec 2019, one translation for both ways)",
    ["vm-pgoff", "host-table"],
    {
      "v4.0": ["vm-pgoff", `${MMU40} kvm_arch_prepare_memory_region: host page tables not consulted; the same in every tree`],
    },
  ),
  eagerMmapLock: decision("the VMA walk of memslot creation holds mmap_sem", [false, true], {
    "v4.0": [false, `${MMU40}, v4.10 kvm_arch_prepare_memory_region (bug B5; v4.10.17 has the fix)`],
    "v4.20": [true, "v4.11 arch/arm/kvm/mmu.c, v4.20 virt/kvm/arm/mmu.c kvm_arch_prepare_memory_region"],
  }),
} as const;

/** guest_memfd, where capability 234 says that there is one (capGuestMemfd). */
const guestMemfdDecisions = {
  gmemPermissionFault: decision("a permission fault on a guest_memfd slot maps the page again, or relaxes its entry", ["map", "relax"], {
    "v4.0": ["map", `v6.18.2 ${MMU} gmem_abort; no guest_memfd on arm64 before v6.18`],
    "v7.2.12": ["relax", `v7.1.5 ${MMU} gmem_abort`],
  }),
  gmemBindOverlap: decision("a memslot over a part of a guest_memfd that another one has", ["EINVAL", "EEXIST"], {
    "v4.0": ["EINVAL", "v6.18.2, v7.1.5 virt/kvm/guest_memfd.c kvm_gmem_bind; no guest_memfd on arm64 before v6.18"],
    "v7.2.12": ["EEXIST", "v7.2.6 virt/kvm/guest_memfd.c kvm_gmem_bind"],
  }),
  gmemFlagChange: decision("a guest_memfd slot may lose its flag by a change of flags (bug)", [true, false], {
    "v4.0": [true, `v6.18.2 ${MAIN} kvm_set_memory_region; no guest_memfd on arm64 before v6.18`],
    "v7.2.12": [false, `v7.0.0, v7.1.5 ${MAIN} kvm_set_memory_region`],
  }),
  gmemMte: decision(
    "a guest_memfd slot in a VM with memory tagging: as the VMAs at its host address say, or EINVAL",
    ["by-vma", "EINVAL"],
    {
      "v4.0": ["by-vma", `v6.18.2, v7.1.5 ${MMU} kvm_arch_prepare_memory_region; no guest_memfd on arm64 before v6.18`],
      "v7.2.12": ["EINVAL", `v7.2.12 ${MMU} kvm_arch_prepare_memory_region`],
    },
  ),
} as const;

/** What KVM_CHECK_EXTENSION answers. */
const capDecisions = {
  capIpaSize: decision("capability 165 (ARM_VM_IPA_SIZE)", [false, true], {
    "v4.0": [false, "v4.0: fixed 40 bits"],
    "v4.20": [true, "v4.20 arch/arm64/kvm/reset.c"],
  }),
  capManualProtect: decision(
    "value of capability 168 (MANUAL_DIRTY_LOG_PROTECT2): 0 absent, 1 manual protect, 3 with initially-all-set",
    [0, 1, 3],
    {
      "v4.0": [0, "absent before v5.2"],
      "v5.4": [1, `v5.4 ${MAIN} kvm_vm_ioctl_check_extension_generic`],
      "v5.8": [3, `v5.8 ${MAIN} (v5.7)`],
    },
  ),
  capDirtyRing: decision("capabilities 192, 223 and 225 (dirty ring) on arm64", [false, true], {
    "v4.0": [false, "absent in v6.1"],
    "v6.4": [true, "v6.4 arch/arm64/kvm/Kconfig"],
  }),
  capEagerSplit: decision("capabilities 228 and 229 (eager split chunk size)", [false, true], {
    "v4.0": [false, "absent in v6.4"],
    "v6.6": [true, "v6.8 arch/arm64/kvm/arm.c (v6.5)"],
  }),
  capCacheablePfnmap: decision("capability 243 (ARM_CACHEABLE_PFNMAP_SUPPORTED)", [false, true], {
    "v4.0": [false, "absent in v6.13"],
    "v6.17": [true, "v6.17 arch/arm64/kvm/arm.c"],
  }),
  capGuestMemfd: decision("capability 234 (GUEST_MEMFD): by VM type, or always", ["absent", "by-type", "always"], {
    "v4.0": ["absent", "absent before v6.8"],
    "v6.8": ["by-type", `v6.8 ${MAIN}; arm64 has no such VM type`],
    "v6.18.2": ["always", `v6.18.2 ${MAIN}`],
  }),
  mteSupport: decision("VMs can have memory tagging (capability 205)", [false, true], {
    "v4.0": [false, "absent in v5.12"],
    "v5.14": [true, "v5.14 arch/arm64/kvm/arm.c KVM_CAP_ARM_MTE"],
  }),
  guestCtr: decision(
    "CTR_EL0 that the guest reads: the CPU's, or the sanitised one with IDC implied by the cache hierarchy",
    ["cpu", "sanitised"],
    {
      "v4.0": ["cpu", "v4.0; recordings up to v6.1.192"],
      "v6.4": ["sanitised", "v6.3.8 asm/kvm_arm.h HCR_GUEST_FLAGS: HCR_TID2, sys_regs.c access_ctr; recordings from v6.12.117 on"],
    },
  ),
} as const;

/** Ways out of the incoherency of uncached guest mappings that were proposed in Mar 2015 and are in no release. */
const proposedDecisions = {
  guestMair: decision(
    "MAIR_EL1 as the guest writes it, or every attribute replaced by Normal-WB in the trapped write (RFC of Mar 2015, in no release)",
    ["as-written", "write-back"],
    { "v4.0": ["as-written", "RFC/RFT arm64: KVM: work around incoherency with uncached guest mappings, Ard Biesheuvel, Feb 2015"] },
  ),
  memslotDmabuf: decision(
    "memslots backed by a dma-buf of a VFIO device instead of a VMA (KVM_MEM_DMABUF; proposed Oct 2023, in no release)",
    ["einval", "vfio"],
    { "v4.0": ["einval", "KVM_MEM_* of include/uapi/linux/kvm.h; guest_memfd of v6.8 is not on arm64 before v6.17 and takes no dma-buf"] },
  ),
  memslotIncoherent: decision(
    "the memslot flag KVM_MEM_INCOHERENT: pages are cleaned and invalidated when they are mapped and when the dirty log is fetched (proposed Mar 2015, in no release)",
    ["einval", "clean"],
    {
      "v4.0": [
        "einval",
        "KVM_MEM_* of include/uapi/linux/kvm.h; the internal KVM_MEMSLOT_INCOHERENT of v4.0 is set for read-only slots only",
      ],
    },
  ),
  stage2Memory: decision(
    "stage-2 type of RAM, or Normal-NC so that a guest that maps cacheable is coherent with masters that do not snoop (proposed Mar 2015, in no release)",
    ["write-back", "non-cacheable"],
    { "v4.0": ["write-back", `${MMU40} PAGE_S2; every release since`] },
  ),
} as const;

/** The decisions that the fault path asks. */
export const faultPathDecisions = {
  ...guestAbortDecisions,
  ...userMemAbortDecisions,
  ...pfnDecisions,
  ...cacheDecisions,
  ...mmioDecisions,
  ...injectDecisions,
  ...notifierDecisions,
  ...eagerDecisions,
  ...capDecisions,
  ...proposedDecisions,
} as const;

/** All decisions of src/kvm. */
export const kvmDecisions = { ...faultPathDecisions, ...guestMemfdDecisions, ...tableDecisions } as const;
