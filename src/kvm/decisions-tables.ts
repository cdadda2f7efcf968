/**
 * Decisions of the stage-2 tables, TLB maintenance, VMIDs, memslots and dirty logging: where kernel
 * releases differ in what lies under the fault path.
 */
import { decision } from "../sim/decisions.js";

const MMU40 = "v4.0 arch/arm/kvm/mmu.c";
const MMU54 = "v5.4 virt/kvm/arm/mmu.c";
const PGTABLE = "arch/arm64/kvm/hyp/pgtable.c";
const MMU = "arch/arm64/kvm/mmu.c";
const MAIN = "virt/kvm/kvm_main.c";

/** Geometry and the bits of an entry. */
const geometryDecisions = {
  ipaSize: decision("IPA size of a VM: always 40 bits, or the type argument of KVM_CREATE_VM", ["fixed-40", "type-argument"], {
    "v4.0": ["fixed-40", "v4.0 arch/arm64/include/asm/kvm_arm.h VTCR_EL2_FLAGS; no capability 165"],
    "v4.20": ["type-argument", "v5.4 arch/arm64/kvm/reset.c kvm_arm_setup_stage2 (v4.20)"],
  }),
  ipaDefaultBelowLimit: decision(
    "type argument 0 on a host whose limit is below 40 bits: accepted (warning at boot only), or -EINVAL",
    ["warned", "einval"],
    {
      "v4.0": ["warned", "v5.4 arch/arm64/kvm/reset.c kvm_set_ipa_limit"],
      "v5.10.223": ["einval", "v5.10.223 arch/arm64/kvm/reset.c kvm_arm_setup_stage2 (stable)"],
      "v5.12": ["einval", "v5.12 arch/arm64/kvm/reset.c kvm_arm_setup_stage2"],
    },
  ),
  vtcrHardwareAccessFlag: decision(
    "VTCR_EL2.HA: never; on CPUs that have it; always (others ignore it); where configured and free of the erratum",
    ["never", "if-implemented", "always", "configured"],
    {
      "v4.0": ["never", "v4.0 arch/arm64/include/asm/kvm_arm.h VTCR_EL2_FLAGS"],
      "v4.10": ["if-implemented", "v4.10 arch/arm64/kvm/hyp/s2-setup.c __init_stage2_translation (v4.7)"],
      "v4.20": ["always", "v4.20 arch/arm64/kvm/reset.c kvm_arm_setup_stage2"],
      "v6.1.192": ["configured", "v6.1.192 arch/arm64/kvm (backport)"],
      "v6.6": ["configured", `v6.8 ${PGTABLE} kvm_get_vtcr`],
    },
  ),
  stage2Lpa2: decision("52-bit output addresses at 4 KiB pages: VTCR_EL2.DS, SH taken from VTCR_EL2", [false, true], {
    "v4.0": [false, "absent in every tree read before v6.8"],
    "v6.8": [true, `v6.8 ${PGTABLE} kvm_get_vtcr, kvm_lpa2_is_enabled`],
  }),
  stage2Fwb: decision("FEAT_S2FWB is used: HCR_EL2.FWB and MemAttr 0x6 for RAM", [false, true], {
    "v4.0": [false, "v4.0 arch/arm64/include/asm/memory.h MT_S2_NORMAL"],
    "v4.20": [true, "v5.4 arch/arm64/include/asm/pgtable-prot.h PAGE_S2_MEMATTR (v4.19)"],
  }),
  stage2PudBlocks: decision("stage 2 knows 1 GiB blocks", [false, true], {
    "v4.0": [false, `${MMU40}, v4.20 virt/kvm/arm/mmu.c: PMD blocks only`],
    "v5.4": [true, `${MMU54} stage2_set_pud_huge (v5.0)`],
  }),
} as const;

/** How entries are set, mapped, relaxed and removed. */
const walkerDecisions = {
  breakBeforeMake: decision(
    "replacing a present entry in the set code: written over and flushed after (bug C1), or cleared first",
    ["none", "clear-first"],
    {
      "v4.0": ["none", `${MMU40} stage2_set_pte, stage2_set_pmd_huge`],
      "v4.10": ["clear-first", 'v4.10 arch/arm/kvm/mmu.c "Enforce Break-Before-Make on Stage-2 page tables" (v4.7)'],
    },
  ),
  identicalEntry: decision("an entry set again with the same value: rewritten (bug C2), or left alone", ["rewrite", "skip"], {
    "v4.0": ["rewrite", `${MMU40}; v4.10 stage2_set_pte`],
    "v4.20": ["skip", '"Skip updating PMD/PTE entry if no change" (v4.19/v4.20); v5.4 stage2_set_pte'],
  }),
  blockOverTable: decision(
    "a block set where a page table stands: the table leaks (bug C3), a debug assertion, unmap and retry, or replaced by the walker",
    ["leak", "assert", "unmap-and-retry", "replace"],
    {
      "v4.0": ["leak", `${MMU40}, v4.20 stage2_set_pmd_huge (VM_BUG_ON only with CONFIG_DEBUG_VM)`],
      "v5.4": ["unmap-and-retry", `${MMU54} "Fix handling of stage2 huge mappings" (v5.1)`],
      "v5.10": ["replace", `v5.14 ${PGTABLE} stage2_map_walk_table_pre`],
    },
  ),
  permissionOnlyChange: decision("a map walk that meets an entry differing only in permissions (or not at all)", ["replace", "again"], {
    "v4.0": ["replace", "the set code; v5.11 stage2_map_walker_try_leaf tolerates only the identical entry"],
    "v5.12": ["again", `v5.12 ${PGTABLE} stage2_map_walker_try_leaf: -EAGAIN, nothing written`],
  }),
  sharedWalk: decision(
    "fault walks: alone under the lock, or parallel with compare-and-exchange and locked entries",
    ["exclusive", "locked-entry"],
    {
      "v4.0": ["exclusive", `${MMU40}; v6.1-rc7 ${PGTABLE}`],
      "v6.4": ["locked-entry", `v6.8 ${PGTABLE} stage2_try_break_pte (v6.2)`],
    },
  ),
  unlinkedTables: decision(
    "a table that a block has taken the place of: freed at once, or through RCU after the walks beside this one",
    ["at-once", "rcu"],
    {
      "v4.0": ["at-once", `v5.14 ${PGTABLE} stage2_map_walk_table_post: mmu_lock keeps every other walk out`],
      "v6.4": ["rcu", `v6.8 ${MMU} stage2_free_unlinked_table, stage2_free_unlinked_table_rcu_cb (v6.2)`],
    },
  ),
  preorderEntry: decision(
    "the map walk after a block took a table's place: reads the entry again, or goes down the old one (bug B9)",
    ["reload", "stale"],
    {
      "v4.0": [
        "reload",
        `v5.14 ${PGTABLE} stage2_map_walk_table_pre: the walk skips what is below; stale in v6.2 and v6.3, v6.4 "Reload PTE after invoking walker callback on preorder traversal"`,
      ],
    },
  ),
  relaxInvalidEntry: decision("relaxing permissions of an entry that is not there", ["nothing", "again"], {
    "v4.0": ["nothing", `v5.14 ${PGTABLE} stage2_attr_walker: 0`],
    "v6.4": ["again", `v6.8 ${PGTABLE} stage2_attr_walker: -EAGAIN (v6.2)`],
  }),
  relaxExecute: decision("execute bits of a relaxed entry: only added, or as the new fault says (bug C13)", ["only-added", "from-fault"], {
    "v4.0": ["only-added", `v5.14 ${PGTABLE} kvm_pgtable_stage2_relax_perms; from-fault in v6.19 to v7.1.5, fixed by v7.2.6`],
  }),
  unmapDeviceTest: decision("which unmapped entries need no data cache flush", ["entry-attributes", "pfn-valid", "entry-cacheable"], {
    "v4.0": ["entry-attributes", `${MMU40} unmap_ptes: PAGE_S2_DEVICE bits of the entry`],
    "v4.10": ["pfn-valid", `${MMU54} unmap_stage2_ptes: kvm_is_device_pfn (v4.4)`],
    "v5.10": ["entry-cacheable", `v5.14 ${PGTABLE} stage2_unmap_walker: stage2_pte_cacheable`],
  }),
  mapCacheMaintenance: decision(
    "cache maintenance of a new mapping: by the fault handler, or by the map walker between break and make",
    ["caller", "walker"],
    {
      "v4.0": ["caller", `${MMU40}, ${MMU54} user_mem_abort; read up to v5.12`],
      "v5.14": ["walker", `v5.14 ${PGTABLE} stage2_map_walker_try_leaf`],
    },
  ),
  agingRange: decision("leaves that the aging call-backs look at", ["first", "all"], {
    "v4.0": ["first", `${MMU54} kvm_age_hva_handler; v6.1-rc7 ${PGTABLE} kvm_pgtable_stage2_mkold`],
    "v6.6": ["all", `v6.8 ${PGTABLE} kvm_pgtable_stage2_test_clear_young (v6.5)`],
  }),
  walkStep: decision(
    "where a walk over a range goes on after an entry that is no table: at the entry's end, or one entry's size further on, past what lies between (bug)",
    ["entry-end", "entry-size"],
    {
      "v4.0": ["entry-end", `${MMU40} kvm_pgd_addr_end, kvm_pmd_addr_end; v5.8`],
      "v5.10": ["entry-size", `v5.10.7, v5.11 ${PGTABLE} __kvm_pgtable_visit`],
      "v5.10.223": [
        "entry-end",
        `v5.10.223 ${PGTABLE} __kvm_pgtable_visit: Fix range alignment when walking page tables (5.10.24); recorded`,
      ],
      "v5.12": ["entry-end", `v5.12.9 ${PGTABLE} __kvm_pgtable_visit`],
    },
  ),
  walkChunk: decision("after how much a long operation may drop mmu_lock", ["top-level-entry", "smallest-block-level"], {
    "v4.0": ["top-level-entry", `${MMU54} stage2_pgd_addr_end; v5.14 ${MMU} stage2_apply_range`],
    "v6.1": ["smallest-block-level", `v6.1-rc7 ${MMU} stage2_range_addr_end: 1 GiB at 4 KiB pages`],
  }),
  lostTable: decision("a long operation that finds its page table torn down after a lock drop", ["einval", "success"], {
    "v4.0": ["einval", `v6.12 ${MMU} stage2_apply_range`],
    "v6.12.117": ["success", `v6.12.117 ${MMU} (backport)`],
    "v7.2.12": ["success", `v7.2.12 ${MMU}`],
  }),
  eagerSplit: decision("blocks can be split eagerly when dirty logging starts (capability 228)", [false, true], {
    "v4.0": [false, "absent in v6.4"],
    "v6.6": [true, `v6.8 ${MMU} kvm_mmu_split_huge_pages (v6.5)`],
  }),
  teardown: decision("the end of a VM: unmap everything with TLBI, or free the tables without", ["unmap", "free-tables"], {
    "v4.0": ["unmap", `${MMU54} kvm_free_stage2_pgd`],
    "v5.10": ["free-tables", `v5.14 ${PGTABLE} kvm_pgtable_stage2_destroy`],
  }),
  ptdump: decision(
    "text of debugfs stage2_page_tables: absent; X for execute-never; NX and x; px and ux",
    ["absent", "reversed-x", "nx", "px-ux"],
    {
      "v4.0": ["absent", "no arch/arm64/kvm/ptdump.c before v6.12"],
      "v6.12": ["reversed-x", "v6.12, v6.17 arch/arm64/kvm/ptdump.c"],
      "v6.18.2": ["nx", "v6.18.2 arch/arm64/kvm/ptdump.c"],
      "v7.2.12": ["px-ux", "v7.0 arch/arm64/kvm/ptdump.c"],
    },
  ),
  ptdumpLastRange: decision("the last range of stage2_page_tables: never printed, or flushed at the end of the walk", ["lost", "printed"], {
    "v4.0": ["lost", "v6.12, v7.2.12 arch/arm64/kvm/ptdump.c kvm_ptdump_guest_show: no note_page_flush"],
    "v7.3.4": ["printed", "v7.3.4 arch/arm64/kvm/ptdump.c kvm_ptdump_guest_show: note_page_flush"],
  }),
} as const;

/** Which TLB invalidation belongs to which operation. */
const tlbDecisions = {
  tlbiLevelHint: decision("level hint (TTL) in TLBI operands: none; for levels 1 to 3; for 0 to 3", ["none", "nonzero", "zero-to-three"], {
    "v4.0": ["none", "v4.0, v5.4 arch/arm64/kvm/hyp/tlb.c"],
    "v5.10": ["nonzero", "v5.14 arch/arm64/include/asm/tlbflush.h __tlbi_level"],
    "v6.8": ["zero-to-three", "v6.8 arch/arm64/include/asm/tlbflush.h __tlbi_level"],
  }),
  mapOverTableTlbi: decision(
    "invalidation when a block replaces a table: whole VMID; the table's span from the fault address (bug C10); the span aligned",
    ["vmid", "range-unaligned", "range"],
    {
      "v4.0": ["vmid", `v5.14 ${PGTABLE} stage2_map_walk_table_pre`],
      "v6.6": ["range-unaligned", `v6.8 ${PGTABLE} stage2_try_break_pte (v6.6)`],
      "v6.9": ["range", 'v6.9 "Ensure target address is granule-aligned for range TLBI"'],
    },
  ),
  unmapLeafTlbi: decision(
    "unmapping leaves: one TLBI each, or one range flush at the end where S2FWB and FEAT_TLBIRANGE exist",
    ["each", "deferred"],
    {
      "v4.0": ["each", `${MMU54} unmap_stage2_ptes; v6.1-rc7 ${PGTABLE} stage2_unmap_walker`],
      "v6.6": ["deferred", `v6.8 ${PGTABLE} stage2_unmap_defer_tlb_flush (v6.6)`],
    },
  ),
  unmapTableTlbi: decision(
    "removing an emptied table: with the level of its entry; that or deferred (bugs C8, C11); without a hint, at once",
    ["entry-level", "entry-level-or-deferred", "no-hint"],
    {
      "v4.0": ["entry-level", `${MMU54} clear_stage2_pmd_entry; v5.14 ${PGTABLE} stage2_unmap_walker`],
      "v6.1.192": ["no-hint", "v6.1.192 (backport)"],
      "v6.6": ["entry-level-or-deferred", `v6.8 ${PGTABLE} stage2_unmap_put_pte`],
      "v6.9": ["no-hint", 'v6.9 "Don\'t pass a TLBI level hint when zapping table entries"'],
    },
  ),
  rangeTlbiLeftover: decision("level hint of the single page left over by a range flush: level 0 (bug C9), or none", ["level-0", "none"], {
    "v4.0": ["none", "no range flush before v6.6"],
    "v6.6": ["level-0", "v6.8 hyp/vhe/tlb.c __kvm_tlb_flush_vmid_range"],
    "v6.9": ["none", 'v6.9 "Use TLBI_TTL_UNKNOWN in __kvm_tlb_flush_vmid_range()"'],
  }),
  relaxTlbi: decision("TLBI after relaxing permissions", ["broadcast", "local-on-success", "local"], {
    "v4.0": ["broadcast", `v5.14 ${PGTABLE} kvm_pgtable_stage2_relax_perms; v6.4`],
    "v6.6": ["local-on-success", `v6.6.0 ${PGTABLE}: __kvm_tlb_flush_vmid_ipa_nsh (v6.5)`],
    "v6.8": ["local", `v6.8 ${PGTABLE}: __kvm_tlb_flush_vmid_ipa_nsh, also on -EAGAIN`],
  }),
  relaxAgainHint: decision("level hint of that TLBI when the entry had changed meanwhile", ["level", "none"], {
    "v4.0": ["level", `v6.8, v6.12 ${PGTABLE} kvm_pgtable_stage2_relax_perms`],
    "v6.12.117": ["none", `v6.12.117 ${PGTABLE} (backport)`],
    "v7.2.12": ["none", `v7.1.5 ${PGTABLE}`],
  }),
  memslotFlush: decision(
    "flush after write-protecting (part of) a memslot: the VMID, or the slot's range where FEAT_TLBIRANGE exists",
    ["vmid", "range"],
    {
      "v4.0": ["vmid", `${MMU54} kvm_mmu_wp_memory_region; v6.1-rc7 kvm_flush_remote_tlbs`],
      "v6.6": ["range", `v6.8 ${MMU} kvm_arch_flush_remote_tlbs_range (v6.6)`],
    },
  ),
  nvheLeadingBarrier: decision(
    "nVHE TLB flushes: own DSB ISHST first, or the barrier of the context switch",
    ["dsb-ishst", "context-switch"],
    {
      "v4.0": ["dsb-ishst", "v5.4 hyp/tlb.c; v6.1-rc7 hyp/nvhe/tlb.c"],
      "v6.4": [
        "context-switch",
        'v6.4, v6.8 hyp/nvhe/tlb.c __tlb_switch_to_guest: DSB ISH unless local; 7e1b2329c205 "nvhe: Synchronise with page table walker on TLBI"',
      ],
    },
  ),
  contextFlushIcache: decision(
    "a VM's vCPU that arrives on a CPU where another one ran: also invalidates the instruction cache",
    [false, true],
    {
      "v4.0": [false, "v5.4 hyp/tlb.c, v5.11 hyp/vhe/tlb.c __kvm_tlb_flush_local_vmid"],
      "v5.10.223": [true, "v5.10.223 hyp/vhe/tlb.c __kvm_flush_cpu_context (stable)"],
      "v5.12": [true, "v5.12 hyp/vhe/tlb.c __kvm_flush_cpu_context"],
    },
  ),
  contextFlush: decision("a CPU keeps track of the vCPU that ran last for each VM, and flushes when it changes", [false, true], {
    "v4.0": [false, "v4.0 arch/arm/kvm/arm.c kvm_arch_vcpu_load"],
    "v4.10": [true, "v4.10 arch/arm/kvm/arm.c kvm_arch_vcpu_load: last_vcpu_ran"],
  }),
  rolloverIcache: decision("VMID rollover also invalidates all instruction caches", [true, false], {
    "v4.0": [true, "v4.0 arch/arm64/kvm/hyp.S, v4.20 and v5.3 hyp/tlb.c __kvm_flush_vm_context: IC IALLUIS"],
    "v5.4": [false, "v5.4 hyp/tlb.c __kvm_flush_vm_context: only VPIPT instruction caches"],
  }),
  vmidAllocator: decision(
    "VMID allocation: a generation per VM, or the ASID-style allocator with reserved active VMIDs",
    ["generation", "asid-style"],
    {
      "v4.0": ["generation", "v5.4 virt/kvm/arm/arm.c update_vmid; v5.15"],
      "v6.1": ["asid-style", "v6.1-rc7 arch/arm64/kvm/vmid.c"],
    },
  ),
} as const;

/** Memslots. */
const memslotDecisions = {
  userMemslots: decision("number of memslots that userspace may use", [32, 512, 32767], {
    "v4.0": [32, "v4.0 arch/arm64/include/asm/kvm_host.h KVM_USER_MEM_SLOTS"],
    "v4.20": [512, "v5.4 arch/arm64/include/asm/kvm_host.h KVM_USER_MEM_SLOTS (v4.11)"],
    "v5.12": [32767, "v5.12 include/linux/kvm_host.h KVM_MEM_SLOTS_NUM SHRT_MAX"],
  }),
  memslotIpaLimit: decision("a slot that ends exactly at the IPA limit: refused (bug C12), or accepted", ["last-page-unusable", "exact"], {
    "v4.0": ["last-page-unusable", `${MMU40}, ${MMU54} kvm_arch_prepare_memory_region; v5.11`],
    "v5.10.223": ["exact", `v5.10.223 ${MMU} kvm_arch_prepare_memory_region: Fix exclusive limit for IPA size (5.10.24); recorded`],
    "v5.12": ["exact", `v5.12 ${MMU} kvm_arch_prepare_memory_region`],
  }),
  memslotWriteCheck: decision("a writable slot over a VMA without VM_WRITE", ["eperm", "accepted"], {
    "v4.0": ["eperm", `${MMU40}, ${MMU54} kvm_arch_prepare_memory_region`],
    "v5.6": ["accepted", "v5.6 virt/kvm/arm/mmu.c"],
  }),
  memslotMte: decision(
    "the VMA rule for slots of a VM with MTE: none; shared refused with mmap_lock leaked (bug B6); shared refused; VM_MTE_ALLOWED needed",
    ["none", "shared-leaks-lock", "shared", "mte-allowed"],
    {
      "v4.0": ["none", "no MTE; absent in v5.12"],
      "v5.14": ["shared-leaks-lock", `v5.14.2 ${MMU} kvm_arch_prepare_memory_region`],
      "v5.15": ["shared", `v5.15.16, v6.1-rc7 ${MMU}`],
      "v6.4": ["mte-allowed", `v6.4 ${MMU}`],
    },
  ),
  memslotCacheablePfnmap: decision("a slot over a cacheable PFNMAP VMA on a host without S2FWB and DIC", ["accepted", "einval"], {
    "v4.0": ["accepted", "memory type of the VMA not looked at"],
    "v6.17": ["einval", `v6.17 ${MMU} kvm_arch_prepare_memory_region`],
  }),
  memslotPublish: decision(
    "publishing new memslots: at once, or after active MMU-notifier invalidations ended",
    ["at-once", "waits-for-notifiers"],
    {
      "v4.0": ["at-once", `v5.4 ${MAIN} install_new_memslots`],
      "v5.15": ["waits-for-notifiers", `v6.1-rc7 ${MAIN} kvm_swap_active_memslots (v5.15)`],
    },
  ),
  memslotHvaOrder: decision("order in which a notifier meets slots that share host addresses", ["gfn-descending", "hva-tree"], {
    "v4.0": ["gfn-descending", `v5.4 ${MAIN} kvm_for_each_memslot: array sorted by base_gfn`],
    "v6.1": ["hva-tree", `v6.1-rc7 ${MAIN} kvm_for_each_memslot_in_hva_range: interval tree (v5.17)`],
  }),
} as const;

/** Dirty logging. */
const dirtyDecisions = {
  dirtyLogFlush: decision(
    "TLB flush between write-protecting and reporting dirty pages (skip: a fault injected by the user)",
    ["flush", "skip"],
    {
      "v4.0": ["flush", `v4.0, v5.4, v6.8 ${MAIN} kvm_get_dirty_log_protect`],
    },
  ),
  dirtyInitiallySet: decision("manual protect mode 2: a new bitmap is all ones and nothing is protected at first", [false, true], {
    "v4.0": [false, "v5.4: capability 168 is 1"],
    "v5.8": [true, `v5.8 ${MAIN} kvm_dirty_log_manual_protect_and_init_set (v5.7)`],
  }),
} as const;

export const kvmTableDecisions = {
  ...geometryDecisions,
  ...walkerDecisions,
  ...tlbDecisions,
  ...memslotDecisions,
  ...dirtyDecisions,
} as const;
/** The name under which decisions.ts spreads them. */
export const tableDecisions = kvmTableDecisions;
