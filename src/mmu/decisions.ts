/**
 * Where releases of the kernel differ in host memory management. Sources: commit, or file and
 * function with the release that was read, or the recordings of that release.
 */
import { decision, type Row } from "../sim/decisions.js";

export const mmDecisions = {
  hostTlbiRange: decision(
    "Does the host flush a range of its user mappings with the range instructions, where the CPU has FEAT_TLBIRANGE?",
    [true, false],
    {
      "v4.0": [false, "arch/arm64/include/asm/tlbflush.h __flush_tlb_range, v4.0"],
      "v5.10": [true, "d1d3aa98b1d4 arm64: tlb: Use the TLBI RANGE feature in arm64, v5.9"],
    },
  ),
  tlbiRangeScale: decision(
    "The operations of a TLBI over a range, of the host and of KVM: an odd page, then rising scales; or falling scales, then the page that is left?",
    ["rising", "falling"],
    {
      "v4.0": ["rising", "arch/arm64/include/asm/tlbflush.h __flush_tlb_range, v5.9; __flush_tlb_range_op, v6.6.0"],
      "v6.8": ["falling", "e2768b798a19 arm64/mm: Modify range-based tlbi to decrement scale; __flush_tlb_range_op, v6.8.1"],
    },
  ),
  notifierChangePte: decision(
    "Is change_pte called when a copied page replaces the old one between range_start and range_end?",
    [true, false],
    {
      "v4.0": [true, "mm/memory.c wp_page_copy, set_pte_at_notify, v4.0"],
      "v6.12": [false, "mm: replace set_pte_at_notify() with just set_pte_at(), v6.10; absent in v6.12"],
    },
  ),
  notifierClearYoung: decision("Is there a clear_young callback (idle page tracking ages without a flush)?", [true, false], {
    "v4.0": [false, "include/linux/mmu_notifier.h, v4.0"],
    "v4.10": [true, "1d7715c676a1 mmu-notifier: add clear_young callback, v4.3"],
  }),
  singlePageReclaim: decision(
    "How reclaim of one page is announced (try_to_unmap_one): after the fact with invalidate_page, or as a range around it.",
    ["invalidatePage", "range"],
    {
      "v4.0": ["invalidatePage", "mm/rmap.c try_to_unmap_one, v4.0"],
      "v4.20": ["range", "369ea8242c0f mm/rmap: update to new mmu_notifier semantic, v4.13"],
    },
  ),
  notifierEventTypes: decision("Does a range carry the reason of the change (enum mmu_notifier_event)?", [true, false], {
    "v4.0": [false, "include/linux/mmu_notifier.h, v4.0"],
    "v5.4": [true, "6f4f13e8d9e2 mm/mmu_notifier: contextual information for event triggering invalidation, v5.2"],
  }),
  vmaSplitEvent: decision(
    "When a VMA is cut inside a 2 MiB block that it holds whole: is the PMD split announced only for a huge page, or whatever is mapped there?",
    ["hugeOnly", "always"],
    {
      "v4.0": ["hugeOnly", "mm/huge_memory.c split_huge_page_address and the split_huge_page_pmd macro test pmd_trans_huge first, v4.0"],
      "v4.10": ["always", "mm/huge_memory.c split_huge_pmd_address, __split_huge_pmd, v4.7; recorded v5.4 to v7.2"],
    },
  ),
  anonVmaMerge: decision("May a range that has had anonymous pages join a neighbouring VMA that has had none?", ["refused", "joins"], {
    "v4.0": ["refused", "mm/mmap.c is_mergeable_anon_vma: list_is_singular, v4.0; recorded v6.12.117"],
    "v6.17": ["joins", "879bca0a2c4f mm/vma: fix incorrectly disallowed anonymous VMA merges, v6.16"],
  }),
  mmapMergeFirst: decision("Which neighbour may a new mapping join whatever the other is?", ["prev", "next"], {
    "v4.0": ["prev", "mm/mmap.c mmap_region: vma_merge, v5.14"],
    "v6.1": ["next", "mm/mmap.c mmap_region: can_vma_merge_before, then can_vma_merge_after with its anon_vma, v6.1; recorded v6.1.192"],
    "v6.12": ["prev", "mm/vma.c vma_merge_new_range, v6.12"],
  }),
  munmapStartCutNewPiece: decision(
    "munmap in the middle of a VMA: which piece is the new VMA (vm_ops->open) at the cut at its start?",
    ["upper", "lower"],
    {
      "v4.0": ["upper", "mm/mmap.c do_munmap, __split_vma(…, start, 0)"],
      "v6.6": ["lower", "mm/mmap.c do_vmi_align_munmap, __split_vma(vmi, vma, start, 1), v6.6.0; 0 in v6.5"],
    },
  ),
  munmapEndCutNewPiece: decision("munmap in the middle of a VMA: which piece is the new VMA at the cut at its end?", ["lower", "upper"], {
    "v4.0": ["lower", "mm/mmap.c do_munmap, __split_vma(…, end, 1)"],
    "v6.4": ["upper", "mm/mmap.c do_vmi_align_munmap, __split_vma(vmi, next, end, 0), v6.4"],
  }),
  munmapDowngrade: decision("Does munmap hold the mmap_lock only for reading while it clears the entries?", [true, false], {
    "v4.0": [false, "mm/mmap.c do_munmap, v4.0"],
    "v4.20": [true, "dd2283f2605e mm: mmap: zap pages with read mmap_sem in munmap, v4.20"],
  }),
  mprotectNotifierSpan: decision(
    "mprotect announces from the first populated entry of this level to the end of the table's span: nothing populated, nothing announced.",
    ["pmd", "pud"],
    {
      "v4.0": ["pmd", "mm/mprotect.c change_pmd_range, v4.0"],
      "v6.12": ["pud", "mm/mprotect: push mmu notifier to PUDs, v6.12"],
    },
  ),
  hugeZeroPageWrite: decision(
    "A write to a read-touched 2 MiB block (the huge zero page): replaced by a 2 MiB page at once, or split into zero pages first?",
    ["replace", "split"],
    {
      "v4.0": ["replace", "mm/huge_memory.c do_huge_pmd_wp_page, v4.0"],
      "v5.8": ["split", "3917c80280c9 thp: change CoW semantics for anon-THP, v5.8; recorded v6.1.192, v6.12.117"],
      "v6.13": ["replace", "mm: huge_memory: do_huge_zero_wp_pmd, v6.13; recorded v6.18.2"],
    },
  ),
  hugePfnmap: decision("Can a PFN mapping be a 2 MiB leaf (huge_fault is called for it, vmf_insert_pfn_pmd)?", [true, false], {
    "v4.0": [false, "no huge_fault; DAX only from v4.11"],
    "v6.12": [true, "vfio/pci: implement huge_fault support; mm: Huge pfnmap for arm64, v6.12"],
  }),
  perVmaLock: decision(
    "Does a fault of the VMM's own access run under the VMA's lock first and fall back to the mmap_lock?",
    [true, false],
    {
      "v4.0": [false, "arch/arm64/mm/fault.c do_page_fault, v5.4"],
      "v6.4": [true, "cd7f176aea5f arm64/mm: try VMA lock-based page fault handling first, v6.4"],
    },
  ),
  anonMmapThpAligned: decision("Is a large anonymous mapping without an address aligned to 2 MiB?", ["never", "large", "multiples"], {
    "v4.0": ["never", "mm/mmap.c get_unmapped_area, v4.0"],
    "v6.8": ["large", "efa7df3e3bb5 mm: align larger anonymous mappings on THP boundaries, v6.7"],
    "v6.12": ["multiples", "d4148aeab412 mm, mmap: limit THP alignment of anonymous mappings to PMD-aligned sizes, v6.12"],
  }),
  mapFixedNoreplace: decision("Is MAP_FIXED_NOREPLACE known (EEXIST over a mapping)? Before, the address is only a hint.", [true, false], {
    "v4.0": [false, "mm/mmap.c do_mmap, v4.0"],
    "v4.20": [true, "a4ff8e8620d3 mm: introduce MAP_FIXED_NOREPLACE, v4.17"],
  }),
  prefaultedEntries: decision(
    "The access flag of entries that a read fault of a file makes, where the CPU would set it: of the pages around, and of the page of the fault.",
    ["young", "others-old", "faulted-folio-old", "other-folios-old"],
    {
      "v4.0": ["young", "mm/memory.c do_set_pte, v4.0"],
      "v5.14": ["others-old", "46bdb4277f98 mm: Allow architectures to request 'old' entries when prefaulting, 0388f9c74330 arm64, v5.12"],
      "v6.6": ["faulted-folio-old", "3bd786f76de2 mm: convert do_set_pte() to set_pte_range(), v6.6: the test is the wrong way round"],
      "v6.12": ["other-folios-old", "4cd7ba16a0af mm: fix old/young bit handling in the faulting path, v6.11"],
    },
  ),
  madviseFree: decision("Is MADV_FREE known?", [true, false], {
    "v4.0": [false, "mm/madvise.c madvise_behavior_valid, v4.0"],
    "v4.10": [true, "854e9ed09ded mm: support madvise(MADV_FREE), v4.5"],
  }),
  madviseWipeOnFork: decision("Are MADV_WIPEONFORK and MADV_KEEPONFORK known?", [true, false], {
    "v4.0": [false, "mm/madvise.c madvise_behavior_valid, v4.0"],
    "v4.20": [true, "d2cd9ede6e19 mm,fork: introduce MADV_WIPEONFORK, v4.14"],
  }),
  madvisePopulate: decision("Are MADV_POPULATE_READ and MADV_POPULATE_WRITE known?", [true, false], {
    "v4.0": [false, "recorded v5.4: EINVAL"],
    "v5.14": [true, "4ca9b3859dac mm/madvise: introduce MADV_POPULATE_(READ|WRITE), v5.14"],
  }),
  madviseCollapse: decision("Is MADV_COLLAPSE known?", [true, false], {
    "v4.0": [false, "mm/madvise.c madvise_behavior_valid, v5.14"],
    "v6.1": [true, "7d8faaf15545 mm/madvise: introduce MADV_COLLAPSE sync hugepage collapse, v6.1"],
  }),
  collapseInsideBlock: decision("MADV_COLLAPSE of a range that holds no whole block.", ["EINVAL", "nothing"], {
    "v4.0": ["EINVAL", "mm/khugepaged.c madvise_collapse, v6.1: hend - hstart is negative; recorded v6.18.5"],
    "v7.2.12": ["nothing", "recorded v7.2.12 (the step lies between v6.18 and v7.2)"],
  }),
  madviseDoforkRefused: decision("VMAs whose VM_DONTCOPY MADV_DOFORK does not take away.", ["io", "special"], {
    "v4.0": ["io", "mm/madvise.c madvise_behavior, v4.0; recorded v6.18.5"],
    "v7.2.12": [
      "special",
      "mm/madvise.c madvise_vma_behavior: VM_SPECIAL, v7.0; recorded v7.2.12: EINVAL for hugetlb, which is VM_DONTEXPAND",
    ],
  }),
  madviseDontneedHugetlb: decision("Does MADV_DONTNEED work on hugetlb VMAs (else EINVAL)?", [true, false], {
    "v4.0": [false, "mm/madvise.c can_madv_lru_vma, v5.4"],
    "v6.1": [true, "90e7e7f5ef3f mm: enable MADV_DONTNEED for hugetlb mappings, v5.18"],
  }),
  ptReclaim: decision("Does MADV_DONTNEED free the PTE tables that it leaves empty?", [true, false], {
    "v4.0": [false, "mm/memory.c zap_pte_range, v5.4"],
    "v7.2.12": [true, "9c8c02df3f87 mm: make PT_RECLAIM depends on MMU_GATHER_RCU_TABLE_FREE, v7.0 (x86-64 alone from v6.14)"],
  }),
  madviseHugepageSpecial: decision("MADV_HUGEPAGE and MADV_NOHUGEPAGE on a special or shared VMA.", ["EINVAL", "allowed"], {
    "v4.0": ["EINVAL", "mm/huge_memory.c hugepage_madvise, VM_NO_THP, v4.0"],
    "v4.10": ["allowed", "mm/khugepaged.c hugepage_madvise, v4.8 (still refused in v4.5)"],
  }),
  mremapDontunmap: decision("Is MREMAP_DONTUNMAP known?", [true, false], {
    "v4.0": [false, "mm/mremap.c, v5.4"],
    "v5.8": [true, "e346b3813067 mm/mremap: add MREMAP_DONTUNMAP to mremap(), v5.7"],
  }),
  mremapDontunmapFiles: decision("MREMAP_DONTUNMAP of a mapping that is shared or has a file.", ["EINVAL", "allowed"], {
    "v4.0": ["EINVAL", "mm/mremap.c vma_to_resize: vma_is_anonymous, VM_SHARED, v5.8"],
    "v5.14": ["allowed", "a4609387859f mm: Extend MREMAP_DONTUNMAP to non-anonymous mappings, v5.13"],
  }),
  mremapZeroLengthPrivate: decision("mremap with old_len 0 of a private mapping.", ["duplicates", "EINVAL"], {
    "v4.0": ["duplicates", "mm/mremap.c vma_to_resize, v4.0"],
    "v4.20": ["EINVAL", "dba58d3b8c50 mm/mremap: fail map duplication attempts for private mappings, v4.14"],
  }),
  mremapZeroLengthAnnounced: decision(
    "mremap with old_len 0: is the move of no pages announced, as a range without an address?",
    [true, false],
    {
      "v4.0": [true, "mm/mremap.c move_page_tables, v4.0 to v5.17"],
      "v5.10.223": [
        false,
        "mm/mremap.c move_page_tables, v5.10.223: avoid pointless invalidate_range_start/end on mremap(old_size=0) (5.10.111)",
      ],
      "v6.1": [false, "mm/mremap.c move_page_tables, v6.1"],
    },
  ),
  mremapHugetlb: decision("mremap of a hugetlb mapping.", ["EINVAL", "moves"], {
    "v4.0": ["EINVAL", "mm/mremap.c vma_to_resize, v5.14"],
    "v6.1": ["moves", "550a7d60bd5e mm, hugepages: add mremap() support for hugepage backed vma, v5.16"],
  }),
  madviseCold: decision("Are MADV_COLD and MADV_PAGEOUT known?", [true, false], {
    "v4.0": [false, "mm/madvise.c madvise_behavior_valid, v4.0"],
    "v5.4": [true, "9c276cc65a58 mm: introduce MADV_COLD; 1a4e58cce84e mm: introduce MADV_PAGEOUT, v5.4"],
  }),
  madviseColdShared: decision(
    "MADV_COLD, MADV_PAGEOUT: when is a huge page taken for one that other processes map too, and left alone? More than one mapping of this page, of any, of the first; a guess from the first and from their number; or those that are known.",
    ["page", "folio", "first", "likely", "processes"],
    {
      "v4.0": ["page", "mm/madvise.c madvise_cold_or_pageout_pte_range: page_mapcount, v5.10.198, v6.1; recorded v6.1.192"],
      "v6.4": ["folio", "the same: folio_mapcount, v6.4"],
      "v6.6": ["first", "the same: folio_estimated_sharers, v6.5, v6.8"],
      "v6.12": ["likely", "the same: folio_likely_mapped_shared, v6.11.11, v6.14; recorded v6.12.117"],
      "v6.17": ["processes", "the same: folio_maybe_mapped_shared, v6.18.2; recorded 6.17.13, 7.2.12"],
    },
  ),
  madviseFreeShared: decision("The same of MADV_FREE.", ["page", "folio", "first", "likely", "processes"], {
    "v4.0": [
      "page",
      "mm/madvise.c madvise_free_pte_range, mm/huge_memory.c madvise_free_huge_pmd: page_mapcount, v5.4, v5.10.198; recorded",
    ],
    "v6.1": ["folio", "the same: folio_mapcount, total_mapcount, v6.1, v6.4"],
    "v6.1.192": ["first", "recorded: as v6.6"],
    "v6.6": ["first", "the same: folio_estimated_sharers, v6.5, v6.8"],
    "v6.12": ["likely", "the same: folio_likely_mapped_shared, v6.11.11, v6.14; recorded v6.12.117"],
    "v6.17": ["processes", "the same: folio_maybe_mapped_shared, v6.18.2; recorded 6.17.13, 7.2.12"],
  }),
  madviseWholeHuge: decision(
    "MADV_FREE, MADV_COLD, MADV_PAGEOUT of all of a huge page that small entries map: is it split all the same, or kept?",
    ["split", "kept"],
    {
      "v4.0": ["split", "mm/madvise.c madvise_free_pte_range, madvise_cold_or_pageout_pte_range, v6.9; recorded v6.1.192"],
      "v6.12": [
        "kept",
        "mm/madvise.c madvise_folio_pte_batch, v6.11.11; recorded v6.12.117. An entry that is not split off is left alone, no more the rest of its table",
      ],
    },
  ),
  mprotectBatch: decision(
    "mprotect of small entries of a huge page: are they set one by one, so that the last of sixteen makes them contiguous again, or as a batch, where all sixteen must be in it?",
    ["single", "batch"],
    {
      "v4.0": ["single", "mm/mprotect.c change_pte_range: ptep_modify_prot_commit, v6.12, v6.14; recorded v6.12.117"],
      "v6.17": ["batch", "mm/mprotect.c modify_prot_commit_ptes, v6.18.2; recorded 6.18.15, 7.2.12"],
    },
  ),
  pageoutReferences: decision(
    "MADV_PAGEOUT of a huge page without swap: is it asked whether it was used since the last time, by the guest too, and kept whole if so, or split in any case?",
    ["asked", "ignored"],
    {
      "v4.0": ["asked", "mm/vmscan.c reclaim_pages: ignore_references false, v5.10.198, v6.1; recorded v6.1.192"],
      "v6.12": ["ignored", "mm/vmscan.c reclaim_folio_list: ignore_references, v6.11.11; recorded v6.12.117"],
    },
  ),
  forkOpen: decision(
    "fork: is vm_ops->open of the child's VMA called after its entries were copied, or before?",
    ["afterCopy", "beforeCopy"],
    {
      "v4.0": ["afterCopy", "kernel/fork.c dup_mmap, v5.4"],
      "v6.9": ["beforeCopy", "35e351780fa9 fork: defer linking file vma until vma is fully initialized, v6.9"],
    },
  ),
  forkHugetlb: decision(
    "fork: are the entries of every hugetlb mapping copied, or those of mappings that have had private pages (the others fault in again)?",
    ["copied", "lazy"],
    {
      "v4.0": ["copied", "mm/memory.c copy_page_range tests VM_HUGETLB, v4.0"],
      "v6.1": ["lazy", "mm/memory.c vma_needs_copy: hugetlb: lazy page table copies in fork(), v6.0; recorded v6.12.117"],
    },
  ),
  userMte: decision("Does the kernel give memory tagging to user space (PROT_MTE, VM_MTE)?", [true, false], {
    "v4.0": [false, "arch/arm64/include/asm/mman.h, v5.4"],
    "v5.10": [true, "9f3419315f3c arm64: mte: Add PROT_MTE support to mmap() and mprotect(), v5.10"],
  }),
  // ---- the fault handler and GUP
  mprotectRestoresWrite: decision(
    "mprotect to writable: which pages that only this process has are made writable at once, and not at the next write fault: none, small dirty ones, or all, 2 MiB pages too?",
    ["never", "dirtyPtes", "exclusive"],
    {
      "v4.0": ["never", "mm/mprotect.c change_pte_range, v5.4"],
      "v6.1": [
        "dirtyPtes",
        "64fe24a3e05e mm/mprotect: try avoiding write faults for exclusive anonymous pages when changing protection, v6.0; recorded v6.1.192",
      ],
      "v6.4": [
        "exclusive",
        "mm/huge_memory: try avoiding write faults when changing PMD protection; mm/mprotect: allow clean exclusive anon pages to be writable, v6.2",
      ],
    },
  ),
  thpSplit: decision(
    "Splitting a 2 MiB page of anonymous memory: without its page lock, pages keeping the references that they have; or under its lock, frozen, and refused where anybody but the caller has one?",
    ["splitting", "freeze"],
    {
      "v4.0": [
        "splitting",
        "mm/huge_memory.c __split_huge_page_splitting; mm/ksm.c page_trans_compound_anon_split before trylock_page, v4.0",
      ],
      "v4.10": ["freeze", "e9b61f19858a thp: reintroduce split_huge_page(), v4.5"],
    },
  ),
  thpSplitDirty: decision(
    "The entries that a split 2 MiB page of anonymous memory leaves: dirty as the block was, where they may be written, either, or clean?",
    ["writable", "clean", "carried-or-writable", "carried"],
    {
      "v4.0": ["writable", "mm/huge_memory.c __split_huge_pmd_locked: no pte_mkdirty; arm64 pte_mkwrite clears PTE_RDONLY, v5.4"],
      "v6.1.192": ["clean", "143937ca51cc arm64, mm: avoid always making PTE dirty in pte_mkwrite() (stable); recorded"],
      "v6.4": [
        "carried-or-writable",
        "5436d6556937 mm/huge_memory: revert 'Partly revert mm/thp: carry over dirty bit when thp splits on pmd', v6.4; pte_mkwrite as before, v6.6.0",
      ],
      "v6.8": ["carried", "143937ca51cc arm64, mm: avoid always making PTE dirty in pte_mkwrite(), v6.7"],
    },
  ),
  anonSplitAnnouncement: decision(
    "Split of an anonymous huge page: is each of its mappings announced for the split of its entry and again for the migration entries, or once?",
    ["twice", "once"],
    {
      "v4.0": [
        "twice",
        "mm/rmap.c try_to_unmap_one, try_to_migrate_one: split_huge_pmd_address before the range, v6.14; recorded 6.12.117",
      ],
      "v6.17": ["once", "mm/rmap.c try_to_migrate_one: split_huge_pmd_locked in the walk, v6.18.2; recorded 6.17.13, 6.18.15"],
    },
  ),
  splitEndsAtPmd: decision(
    "Split of an anonymous huge page: does the walk over its mappings end at the first that is 2 MiB, so that the split fails where another process maps it too?",
    [false, true],
    {
      "v4.0": [false, "mm/rmap.c try_to_migrate_one, v6.14"],
      "v6.17": [true, "mm/rmap.c try_to_migrate_one, v6.18.2, v6.19; 60fbb14396d5; recorded 6.17.13, 6.18.15"],
      "v7.2.12": [
        false,
        "mm/rmap.c try_to_migrate_one, v7.1.5: fix early failure try_to_migrate() when split huge pmd for shared THP; recorded",
      ],
    },
  ),
  hwpoisonUnsplit: decision("MADV_HWPOISON of a huge page that cannot be split", ["EBUSY", "EHWPOISON"], {
    "v4.0": ["EBUSY", "mm/memory-failure.c memory_failure, v5.14, v6.10"],
    "v6.12": ["EHWPOISON", "mm/memory-failure.c memory_failure, v6.11.11, v7.1.5; recorded 6.17.13"],
  }),
  splitZeroPages: decision(
    "Split of an anonymous huge page: which of its pages that hold zeroes alone give way to the shared zero page? (intact: no broken ones, and marks of a userfaultfd stay.)",
    ["none", "all", "intact"],
    {
      "v4.0": ["none", "mm/migrate.c remove_migration_pte, v6.11.11"],
      "v6.12": ["all", "mm/migrate.c try_to_map_unused_to_zeropage, v6.12, v6.14; b1f202060afe"],
      "v6.12.117": ["intact", "as v6.18.2; recorded"],
      "v6.17": ["intact", "mm/migrate.c try_to_map_unused_to_zeropage, v6.18.2, v7.1.5; 9658d698a8a8; recorded 6.17.13"],
    },
  ),
  splitPoison: decision(
    "Split of an anonymous huge page for a broken page that a small entry maps: a migration entry, as of the others, or the poison entry at once, so that nothing is left to unmap and announce?",
    ["migration", "poison"],
    {
      "v4.0": ["migration", "mm/rmap.c try_to_unmap_one, v5.10.223; recorded. v5.14 to v5.17 ask PageHWPoison of the first page"],
      "v6.1": ["poison", "mm/rmap.c try_to_migrate_one: PageHWPoison(subpage), v5.19; recorded v6.1.192"],
    },
  ),
  rmapRangeEnd: decision(
    "The range in which a huge page is taken out of a VMA that begins behind its first page: a huge page's size from there on, as far as the VMA goes, or up to the page's end?",
    ["whole-size", "page-end"],
    {
      "v4.0": ["whole-size", "mm/rmap.c try_to_unmap_one: min(vm_end, address + page_size), v5.4; v5.12"],
      "v5.10.223": [
        "page-end",
        "mm/rmap.c vma_address_end, v5.10.223: fix vma_address() if virtual address below file offset (5.10.47); recorded",
      ],
      "v5.14": ["page-end", "mm/rmap.c try_to_migrate_one: vma_address_end, v5.13"],
    },
  ),
  hugetlbZapAnnouncement: decision(
    "munmap and MADV_DONTNEED of hugetlb memory: does __unmap_hugepage_range announce the range again inside the caller's announcement?",
    ["again", "once"],
    {
      "v4.0": ["again", "mm/hugetlb.c __unmap_hugepage_range, v4.0; recorded v6.1.192"],
      "v6.4": ["once", "369258ce41c6 hugetlb: remove duplicate mmu notifications, v6.2"],
    },
  ),
  thpCow: decision(
    "A write to a 2 MiB page shared after fork: copied as a whole, or split and copied page by page?",
    ["copyHuge", "split"],
    {
      "v4.0": ["copyHuge", "mm/huge_memory.c do_huge_pmd_wp_page, v5.4"],
      "v5.8": ["split", "3917c80280c9 thp: change CoW semantics for anon-THP, v5.8"],
    },
  ),
  cowReuse: decision("When may a write fault keep the page instead of copying it?", ["mapcount", "refcount", "exclusive"], {
    "v4.0": ["mapcount", "mm/memory.c do_wp_page, reuse_swap_page, v5.4"],
    "v5.10": ["refcount", "09854ba94c6a mm: do_wp_page() simplification, v5.9"],
    "v6.1": ["exclusive", "6c287605fd56 mm: remember exclusively mapped anonymous pages with PG_anon_exclusive, v5.19"],
  }),
  cowReuseHope: decision(
    "With how many references beyond the first does a write fault still hope that a page is its process's alone, and empty the CPU's batches if it is on no list: two, or one for a batch if it is on none?",
    ["two", "one-of-a-batch"],
    {
      "v4.0": ["two", "mm/memory.c wp_can_reuse_anon_folio: folio_ref_count > 3, v7.2.12 (v5.18)"],
      "v7.3.4": ["one-of-a-batch", "mm/memory.c wp_can_reuse_anon_folio: maybe_in_lru_cache, v7.3.4"],
    },
  ),
  lazyfreeBatch: decision(
    "A page of MADV_FREE on its way to the list of pages to be freed first, in a CPU's batch: no such batch, or one whose pages are still on their old list (PageLRU), or on none?",
    ["none", "on-lru", "off-lru"],
    {
      "v4.0": ["none", "mm/madvise.c madvise_free_pte_range: deactivate_page of active pages, v4.5.7 to v4.11"],
      "v4.20": ["on-lru", "mm/swap.c mark_page_lazyfree: PageLRU, v4.12"],
      "v6.12": ["off-lru", "mm/swap.c folio_mark_lazyfree: folio_test_clear_lru, v6.11.11; folio_batch_add_and_move, v6.12"],
      "v6.12.117": ["on-lru", "mm/swap.c folio_mark_lazyfree as in v6.17 (stable); recorded"],
      "v6.17": ["on-lru", "mm: revert 'mm/gup: clear the LRU flag of a page before adding to LRU batch', v6.17"],
    },
  ),
  lruGen: decision(
    "Are the pages' lists in generations (lru_gen_enabled), so that MADV_COLD moves every page and no second access does?",
    [true, false],
    {
      "v4.0": [false, "none before v6.1; CONFIG_LRU_GEN_ENABLED is off unless asked for, as in Debian's 6.1.192"],
      "v6.12.117": [true, "mm/swap.c folio_deactivate; CONFIG_LRU_GEN_ENABLED=y in Debian's 6.12.117; recorded"],
      "v7.2.12": [true, "mm/swap.c folio_deactivate; recorded with Debian's 7.2.12"],
    },
  ),
  lruBatchPages: decision("How many pages of a CPU go to an LRU list together (PAGEVEC_SIZE).", [14, 15, 31], {
    "v4.0": [14, "include/linux/pagevec.h, v4.0 to v4.15"],
    "v4.20": [15, "include/linux/pagevec.h, v4.16 to v6.8"],
    "v6.9": [31, "include/linux/pagevec.h, v6.9"],
  }),
  movedPageLru: decision(
    "A page that move_pages has given: into the CPU's batch of fresh pages, or straight to its LRU list?",
    ["batch", "list"],
    {
      "v4.0": ["batch", "mm/migrate.c putback_lru_page, v4.0"],
      "v5.14": ["list", "d479960e44f2 mm: disable LRU pagevec during the migration temporarily, v5.13"],
    },
  ),
  lruDrains: decision(
    "Besides madvise: what empties the running CPU's batches for the LRU lists, the unmapping of memory (munmap, MADV_DONTNEED, the end of a process), its populating, or both?",
    ["unmap", "unmap-populate", "populate"],
    {
      "v4.0": ["unmap", "lru_add_drain in mm/mmap.c unmap_region, exit_mmap, mm/memory.c zap_page_range, v4.0"],
      "v6.1": ["unmap-populate", "mm/gup.c populate_vma_page_range, faultin_vma_page_range: lru_add_drain, v5.19; not in v5.17"],
      "v6.17": ["populate", "mm: remove unnecessary calls to lru_add_drain, v6.14: none in mm/memory.c, mm/mmap.c, mm/vma.c"],
    },
  ),
  ksmReuse: decision("May a write fault keep a page of KSM that nobody else maps or holds (it is KSM's no more then)?", [true, false], {
    "v4.0": [false, "mm/memory.c do_wp_page: PageAnon && !PageKsm, v4.0"],
    "v5.4": [true, "52d1e606ee73 mm: reuse only-pte-mapped KSM page in do_wp_page(), v5.1"],
    "v5.10": [false, "09854ba94c6a mm: do_wp_page() simplification, v5.9"],
  }),
  ksmSameHugePage: decision(
    "Two pages of one huge page, which KSM's own two references keep from being split: left, or split for the next round once one of them is given back?",
    ["left", "split"],
    {
      "v4.0": ["left", "mm/ksm.c cmp_and_merge_page, v4.16"],
      "v4.20": ["split", "77da2ba0648a mm/ksm: fix interaction with THP, v4.17"],
    },
  ),
  ksmBreak: decision(
    "The entry that MADV_UNMERGEABLE, mremap and a failed merge leave where a page of KSM was: as after a write, or read-only and clean?",
    ["write", "unshare"],
    {
      "v4.0": ["write", "mm/ksm.c break_ksm: FAULT_FLAG_WRITE, v4.0"],
      "v6.4": ["unshare", "mm/ksm: fix KSM COW breaking with userfaultfd-wp via FAULT_FLAG_UNSHARE, v6.2"],
    },
  ),
  cowReuseLarge: decision(
    "When may a write fault keep a small mapping's page of a 2 MiB page that is not marked as exclusive: where this is the only mapping that is left, never, or where nobody else maps or holds any of it?",
    ["lone", "never", "whole"],
    {
      "v4.0": ["lone", "mm/memory.c do_wp_page: folio_ref_count of the whole, v5.10.198, v6.1, v6.6; recorded v5.10.223, v6.1.192"],
      "v6.8": ["never", "mm/memory.c wp_can_reuse_anon_folio: never for a large folio, v6.8, v6.12"],
      "v6.17": ["whole", "mm: Copy-on-Write (COW) reuse support for PTE-mapped THP, v6.15; recorded v6.18.5"],
    },
  ),
  gupReadBreaksCow: decision("Does GUP for reading break copy-on-write (so a read fault of the guest allocates the page)?", [true, false], {
    "v4.0": [false, "mm/gup.c __get_user_pages, v5.4"],
    "v5.8": [true, "17839856fd58 gup: document and work around COW can break either way issue, v5.8"],
    "v5.10": [false, "a308c71bf1e6 mm/gup: Remove enfornced COW mechanism, v5.9"],
  }),
  followPfn: decision("What a PFNMAP lookup understands: page entries only, or leaves of every level.", ["pageOnly", "anyLeaf"], {
    "v4.0": ["pageOnly", "mm/memory.c follow_pfn, follow_pte, v5.4"],
    "v6.12": ["anyLeaf", "6da8e9634bb7 mm: new follow_pfnmap API, v6.12"],
  }),
  collapseNeedsWritable: decision("Does MADV_COLLAPSE of anonymous memory need one writable entry at least (else EINVAL)?", [true, false], {
    "v4.0": [true, "mm/khugepaged.c hpage_collapse_scan_pmd, SCAN_PAGE_RO, v6.12"],
    "v6.18.2": [false, "mm: enable khugepaged anonymous collapse on non-writable regions, v6.18; recorded v7.2.12"],
  }),
  collapsePageCount: decision("MADV_COLLAPSE of a page that somebody holds a reference to (SCAN_PAGE_COUNT).", ["EINVAL", "EAGAIN"], {
    "v4.0": ["EINVAL", "mm/khugepaged.c madvise_collapse_errno, v6.1"],
    "v6.1.192": ["EAGAIN", "mm/MADV_COLLAPSE: set EAGAIN on unexpected page refcount (stable)"],
    "v6.4": ["EAGAIN", "ae63c898f400 mm/MADV_COLLAPSE: set EAGAIN on unexpected page refcount, v6.2"],
  }),
  fileCollapseHoles: decision(
    "Collapse of a file's memory: are holes filled with zeros, also where a userfaultfd wants to be told of missing pages?",
    ["filled", "left-to-userfaultfd"],
    {
      "v4.0": ["filled", "mm/khugepaged.c collapse_file, v6.1"],
      "v6.4": ["left-to-userfaultfd", "mm/khugepaged: skip shmem with userfaultfd, v6.4"],
    },
  ),
  fileCollapseNotifies: decision(
    "Collapse of a file's memory: are the subscribers told when a page table is taken out (collapse_pte_mapped_thp, retract_page_tables)?",
    [true, false],
    {
      "v4.0": [false, "mm/khugepaged.c collapse_and_free_pmd, v6.1-rc7"],
      "v5.10.223": [true, "f268f6cf875f mm/khugepaged: invoke MMU notifiers in shmem/file collapse paths (5.10.159)"],
      "v6.1.192": [true, "f268f6cf875f mm/khugepaged: invoke MMU notifiers in shmem/file collapse paths, v6.1-rc8"],
      "v6.4": [true, "f268f6cf875f mm/khugepaged: invoke MMU notifiers in shmem/file collapse paths, v6.1-rc8"],
    },
  ),
  fileCollapseTable: decision(
    "When is such a table freed: at once; after an IPI that every CPU has taken (with its entries still in it); or after an RCU grace period, its entries cleared, in every mapping, under the mmap_lock for reading or without?",
    ["at-once", "ipi", "rcu"],
    {
      "v4.0": ["at-once", "mm/khugepaged.c collapse_and_free_pmd, v6.1-rc7: pmdp_collapse_flush, pte_free"],
      "v5.10.223": ["ipi", "2ba99c5e0881 mm/khugepaged: fix GUP-fast interaction by sending IPI (5.10.159)"],
      "v6.1.192": ["ipi", "2ba99c5e0881 mm/khugepaged: fix GUP-fast interaction by sending IPI, v6.1-rc8"],
      "v6.4": ["ipi", "2ba99c5e0881 mm/khugepaged: fix GUP-fast interaction by sending IPI, v6.1-rc8"],
      "v6.6": [
        "rcu",
        "mm/khugepaged: retract_page_tables() without mmap or vma lock; collapse_pte_mapped_thp() with mmap_read_lock(); mm/pgtable: add pte_free_defer() for pgtable as page, v6.6",
      ],
    },
  ),
  shmemHugePages: decision(
    "Huge pages of memory files made by a page fault, as shmem_enabled allows; within_size: up to which page must the file reach?",
    ["none", "block-before", "block", "any-order"],
    {
      "v4.0": ["none", "mm/shmem.c shmem_getpage_gfp, v4.7"],
      "v4.10": ["block-before", "mm/shmem.c shmem_getpage_gfp (800d8c63b2e9 shmem: add huge pages support, v4.8)"],
      "v5.15": ["block", "mm/shmem.c shmem_is_huge (5e6e5a12a44c huge tmpfs: shmem_is_huge(vma, inode, index), v5.15)"],
      "v7.2.12": ["any-order", "mm/shmem.c shmem_get_orders_within_size asked for all orders, v6.19; 7.2.12 recorded"],
    },
  ),
  shmemHugeSuitable: decision("Does a fault make a huge page of a memory file only where its VMA can map it whole?", [false, true], {
    "v4.0": [false, "mm/shmem.c shmem_alloc_hugepage, v4.8"],
    "v6.12": [true, "mm/shmem.c shmem_suitable_orders, v6.11"],
  }),
  shmemEnabledMount: decision(
    "What is written to shmem_enabled reaches the mount of memory files: force alone, which stays there, or all but force and deny?",
    ["force", "others"],
    {
      "v4.0": ["force", "mm/shmem.c shmem_enabled_store, v4.8"],
      "v4.20": ["others", "435c0b87d661 mm, shmem: fix handling /sys/kernel/mm/transparent_hugepage/shmem_enabled, v4.13"],
    },
  ),
  shmemAlignHint: decision(
    "A mapping of a memory file with an address as a hint is aligned for huge pages: never, or where it did not get that address?",
    ["never", "not-honoured"],
    {
      "v4.0": ["never", "mm/shmem.c shmem_get_unmapped_area, v4.8"],
      "v5.6": ["not-honoured", "991589974d9c mm/shmem.c: thp, shmem: fix conflict of above-47bit hint address and PMD alignment, v5.5"],
    },
  ),
  fallocateHuge: decision(
    "Huge pages that fallocate makes of a memory file: as a fault would; as if the file reached to the end of what is allocated; by the length that is left; wherever a block lies within",
    ["as-fault", "to-its-end", "by-length", "block"],
    {
      "v4.0": ["as-fault", "mm/shmem.c shmem_fallocate, v4.8"],
      "v6.12": ["to-its-end", "mm/shmem.c shmem_huge_global_enabled, v6.12: write_end"],
      "v6.17": ["by-length", "mm/shmem.c shmem_mapping_size_orders, v6.14"],
      "v6.18.2": ["block", "69e0a3b49003 mm: shmem: fix the strategy for the tmpfs 'huge=' options, v6.18"],
    },
  ),
  fileHoleSplits: decision("A hole that takes a part of a file's huge page: its pages become zero, or is it split first?", [false, true], {
    "v4.0": [false, "mm/shmem.c shmem_undo_range, v4.8"],
    "v5.8": [true, "71725ed10c40 mm: huge tmpfs: try to split_huge_page() when punching hole, v5.7"],
  }),
  collapseDenied: decision("shmem_enabled deny keeps MADV_COLLAPSE from memory files", [false, true], {
    "v4.0": [false, "mm/shmem.c shmem_is_huge, v6.1: collapse comes first"],
    "v6.4": [true, "mm/shmem.c shmem_is_huge, v6.2: DENY comes first"],
  }),
  filePmdHead: decision(
    "A fault maps a huge page of the page cache as a whole whichever of its pages it needs, or the first only?",
    ["any", "first"],
    {
      "v4.0": ["any", "mm/memory.c do_set_pmd, v4.8"],
      "v6.8": ["first", "mm/memory.c do_set_pmd, v6.8: the page must be the head"],
      "v6.12": ["any", "ab1ffc86cb5b mm/memory: don't require head page for do_set_pmd(), v6.10"],
    },
  ),
  filePmdNohugepage: decision(
    "A fault on a huge page of the page cache in a VMA with MADV_NOHUGEPAGE: mapped as a whole all the same, or page by page?",
    ["whole", "pages"],
    {
      "v4.0": ["whole", "mm/memory.c do_set_pmd, v6.1; recorded v6.1.192"],
      "v6.12": [
        "pages",
        "2b0f922323cc mm: don't install PMD mappings when THPs are disabled by the hw/process/vma, v6.12; recorded v6.12.117",
      ],
    },
  ),
  fileSplitAnnouncement: decision(
    "Split of a file's huge page: is each mapping's block announced for the split of its entry and again for the unmapping, or once?",
    ["twice", "once"],
    {
      "v4.0": ["twice", "mm/rmap.c try_to_unmap_one: split_huge_pmd_address before the range, v6.1; recorded v6.1.192"],
      "v6.12": ["once", "mm/rmap: integrate PMD-mapped folio splitting into pagewalk loop, v6.11; recorded v6.12.117"],
    },
  ),
  userfaultfd: decision("Is there userfaultfd?", [true, false], {
    "v4.0": [false, "fs/userfaultfd.c is absent"],
    "v4.10": [true, "86039bd3b4e6 userfaultfd: add new syscall, v4.3"],
  }),
  userfaultfdWp: decision("Can a userfaultfd write-protect pages on arm64?", [true, false], {
    "v4.0": [false, "arch/arm64/Kconfig without HAVE_ARCH_USERFAULTFD_WP"],
    "v6.12": [true, "arm64/mm: Add uffd write-protect support, v6.10"],
  }),
  userfaultfdMinor: decision("Can a userfaultfd be told of pages that are in the page cache but not mapped?", [true, false], {
    "v4.0": [false, "fs/userfaultfd.c, v5.12"],
    "v5.14": [true, "7677f7fd8be7 userfaultfd: add minor fault registration mode, v5.13; shmem v5.14"],
  }),
  hwpoisonErrors: decision(
    "Is what memory_failure answers MADV_HWPOISON's result (-EBUSY: the zero page), or nothing?",
    ["ignored", "returned"],
    {
      "v4.0": ["ignored", "mm/madvise.c madvise_hwpoison, v4.5"],
      "v4.10": ["returned", "23a003bfd23e mm/madvise: pass return code of memory_failure() to userspace, v4.6"],
    },
  ),
  hwpoisonFileHuge: decision(
    "A broken page of a memory file's huge page: refused (-EBUSY), or split as an anonymous one is?",
    ["refused", "split"],
    {
      "v4.0": ["refused", "mm/memory-failure.c try_to_split_thp_page: PageAnon, v5.10.223; recorded; v5.15"],
      "v6.1": ["split", "mm/memory-failure.c try_to_split_thp_page, v5.16; recorded v6.1.192"],
    },
  ),
  seaSignal: decision(
    "do_sea: the SIGBUS for an access of the VMM's own that ends in a synchronous external abort: with si_code 0; BUS_OBJERR; BUS_OBJERR unless APEI claims the abort.",
    ["noCode", "objerr", "unlessClaimed"],
    {
      "v4.0": ["noCode", "arch/arm64/mm/fault.c fault_info: do_bad, v4.0, v4.12; do_sea, v4.13, v4.16"],
      "v4.20": ["objerr", "arch/arm64/mm/fault.c do_sea: what APEI answers is not looked at, v4.18, v5.6"],
      "v5.8": ["unlessClaimed", "arch/arm64/mm/fault.c do_sea, v5.8, v7.1.5"],
    },
  ),
  ghesSea: decision(
    "A synchronous external abort that firmware has an error record of: nobody looks; claimed, and a worker gives up the page; claimed, and the task does so itself, for which it gets BUS_MCEERR_AR.",
    ["none", "worker", "task"],
    {
      "v4.0": ["none", "drivers/acpi/apei/ghes.c: no ghes_notify_sea up to v4.12"],
      "v4.20": ["worker", "drivers/acpi/apei/ghes.c ghes_handle_memory_failure: memory_failure_queue, v4.13, v4.20, v5.8, v6.14"],
      "v6.17": ["task", "drivers/acpi/apei/ghes.c memory_failure_cb, v6.17, v7.1.5"],
    },
  ),
  einjZeroPage: decision("EINJ of a memory error in the zero page.", ["injected", "EADDRINUSE"], {
    "v4.0": ["injected", "drivers/acpi/apei/einj.c einj_error_inject, v4.0, v5.17"],
    "v6.1": ["EADDRINUSE", "drivers/acpi/apei/einj.c einj_error_inject: is_zero_pfn, v5.19, v7.1.5"],
  }),
  hwpoisonAgain: decision("MADV_HWPOISON of the zero page, which is marked as broken already.", ["nothing", "EHWPOISON"], {
    "v4.0": ["nothing", "mm/memory-failure.c memory_failure: TestSetPageHWPoison, v5.10.223; recorded"],
    "v5.14": ["EHWPOISON", "mm/memory-failure.c memory_failure, v5.14; 6.1.192 recorded"],
  }),
  hwpoisonKsm: decision(
    "A broken page of KSM: left where it is mapped (-EBUSY), or taken out of every place that it was merged into?",
    ["refused", "unmapped"],
    {
      "v4.0": ["refused", "mm/memory-failure.c hwpoison_user_mappings: can't handle KSM pages, v4.0"],
      "v6.4": ["unmapped", "4248d0083ec5 mm: ksm: support hwpoison for ksm page, v6.4"],
    },
  ),
  madviseFreePoison: decision(
    "Does MADV_FREE take the entries of broken pages out of the tables, so that later faults find zeros?",
    [true, false],
    {
      "v4.0": [false, "mm/madvise.c madvise_free_pte_range: entries of the swap alone; 5.10.223 recorded"],
      "v6.1": [true, "mm/madvise: free hwpoison and swapin error entry in madvise_free_pte_range, v5.19; recorded v6.1.192, v7.2.12"],
    },
  ),
  hwpoisonZeroPage: decision(
    "A zero page that is declared broken: tried to be made a page that can be given up, which empties all CPUs' batches for the LRU lists, or refused at once?",
    ["shaken", "refused"],
    {
      "v4.0": ["shaken", "mm/memory-failure.c get_any_page: shake_page, v7.2.12"],
      "v7.3.4": ["refused", "mm/memory-failure.c get_any_page: is_kernel_owned_page (PageReserved), v7.3.4"],
    },
  ),
  hwpoisonFilePage: decision(
    "A broken page of a memory file or a hugetlb file: taken out of the file, so that later faults find zeros, or kept, so that they find it broken?",
    ["removed", "kept"],
    {
      "v4.0": ["removed", "mm/memory-failure.c me_pagecache_clean, generic_error_remove_page, v5.14"],
      "v6.1": [
        "kept",
        "a76054266661 mm: shmem: don't truncate page if memory failure happens, v5.16; 8625147cafaa hugetlbfs: don't delete error page from pagecache, v6.1",
      ],
    },
  ),
  truncatedPoison: decision(
    "Does a truncation take the entries of broken pages, and of private pages in the swap, out of the tables (a hole does of hugetlb, and as holePoison says)?",
    [true, false],
    {
      "v4.0": [false, "mm/memory.c zap_pte_range: entries that name no page are left where there are details, v5.4"],
      "v5.10.223": [true, "5abfd71d936a mm: don't skip swap entry even if zap_details specified (5.10.111); recorded"],
      "v6.1": [true, "5abfd71d936a mm: don't skip swap entry even if zap_details specified, v5.18"],
    },
  ),
  removeReadOnly: decision("Does MADV_REMOVE punch a hole through a shared mapping that was made read-only?", [true, false], {
    "v4.0": [false, "mm/madvise.c madvise_remove, v6.6.17: VM_SHARED | VM_WRITE"],
    "v6.8": [true, "mm/madvise.c madvise_remove, v6.7.3: vma_is_shared_maywrite; recorded on v6.18 and v7.2.12"],
  }),
  holePoison: decision("Does a hole in a memory file take the entries of broken pages out of the tables?", [true, false], {
    "v4.0": [
      false,
      "mm/memory.c zap_pte_range: entries that name no page are left where there are details, v5.4; is_hwpoison_entry, v5.18",
    ],
    "v5.10.223": [true, "mm/memory.c zap_pte_range, v5.10.223: should_zap_cows is asked of entries of the swap alone; recorded"],
  }),
  userfaultfdFiles: decision(
    "Can a userfaultfd be told of pages of memfds, shared memory and hugetlb, or of anonymous memory only?",
    [true, false],
    {
      "v4.0": [false, "fs/userfaultfd.c userfaultfd_register: vm_ops, v4.10"],
      "v4.20": [true, "cac673292b9b userfaultfd: shmem: allow registration of shared memory ranges, v4.11; 1a1aad8a9b7b hugetlbfs"],
    },
  ),
  userfaultfdUserMode: decision("Is UFFD_USER_MODE_ONLY known?", [true, false], {
    "v4.0": [false, "fs/userfaultfd.c userfaultfd: O_CLOEXEC and O_NONBLOCK only, v5.8"],
    "v5.11": [true, "37cd0575b851 userfaultfd: add UFFD_USER_MODE_ONLY, v5.11"],
  }),
  userfaultfdRetries: decision(
    "How often may one access or one get_user_pages sleep in a userfaultfd: again where the page is still missing, or once, then it fails (SIGBUS, EFAULT)?",
    ["once", "always"],
    {
      "v4.0": ["once", "fs/userfaultfd.c handle_userfault: FAULT_FLAG_ALLOW_RETRY, which the second try has no more, v5.4"],
      "v5.8": ["always", "4064b9827063 mm: allow VM_FAULT_RETRY for multiple times, v5.7"],
    },
  ),
  userfaultfdNoVma: decision("UFFDIO_COPY or _ZEROPAGE where no single registered VMA holds the range.", ["EINVAL", "ENOENT"], {
    "v4.0": ["EINVAL", "mm/userfaultfd.c __mcopy_atomic, v4.10"],
    "v4.20": ["ENOENT", "27d02568f529 userfaultfd: mcopy_atomic: return -ENOENT when no compatible VMA found, v4.11"],
  }),
  userfaultfdWriteprotect: decision(
    "Are UFFDIO_WRITEPROTECT and UFFDIO_COPY_MODE_WP known (EINVAL before; then ENOENT where nothing can be registered for it)?",
    [true, false],
    {
      "v4.0": [false, "fs/userfaultfd.c userfaultfd_ioctl, v5.4"],
      "v5.8": [true, "63b2d4174c4a userfaultfd: wp: add the writeprotect API to userfaultfd ioctl, v5.7"],
    },
  ),
  userfaultfdContinueWp: decision("Is UFFDIO_CONTINUE_MODE_WP known?", [true, false], {
    "v4.0": [false, "fs/userfaultfd.c userfaultfd_continue: UFFDIO_CONTINUE_MODE_DONTWAKE only, v6.1"],
    "v6.4": [true, "0289184476c8 mm: userfaultfd: add UFFDIO_CONTINUE_MODE_WP to install WP PTEs, v6.4"],
  }),
  userfaultfdPoison: decision("Is UFFDIO_POISON known?", [true, false], {
    "v4.0": [false, "fs/userfaultfd.c userfaultfd_ioctl, v6.4"],
    "v6.6": [true, "fc71884a5f59 mm: userfaultfd: add new UFFDIO_POISON ioctl, v6.6"],
  }),
  userfaultfdUnregisterOther: decision("UFFDIO_UNREGISTER of a range that another userfaultfd has registered.", ["allowed", "EINVAL"], {
    "v4.0": ["allowed", "fs/userfaultfd.c userfaultfd_unregister asks whether there is one, not which, v6.12"],
    "v6.17": ["EINVAL", "userfaultfd: prevent unregistering VMAs through a different userfaultfd, v6.17"],
  }),
  userfaultfdRegisterLess: decision(
    "UFFDIO_REGISTER again without UFFDIO_REGISTER_MODE_WP of what the same userfaultfd has registered with it.",
    ["allowed", "EBUSY"],
    {
      "v4.0": ["allowed", "mm/userfaultfd.c userfaultfd_register, v7.2.12"],
      "v7.3.4": ["EBUSY", "mm/userfaultfd.c userfaultfd_register: no mode switch that drops VM_UFFD_WP, v7.3.4"],
    },
  ),
  mremapUserfaultfd: decision("Is a mapping that mremap has moved still registered with its userfaultfd?", ["kept", "dropped"], {
    "v4.0": ["kept", "mm/mremap.c move_vma, copy_vma, v4.10"],
    "v5.4": ["dropped", "3cfd22be0ad6 userfaultfd: clear flag if remap event not enabled, v5.0"],
  }),
  mremapUserfaultfdMerge: decision(
    "A mapping that is registered no more once mremap has moved it: joins a neighbour of the same registration, which that then loses as a whole (bug), or none.",
    ["same-registration", "never"],
    {
      "v4.0": ["same-registration", "mm/vma.c copy_vma, mm/userfaultfd.c mremap_userfaultfd_prep, v7.2.12"],
      "v7.3.4": ["never", "mm/vma.c vma_merge_copied_range: vma_has_uffd_without_event_remap, v7.3.4"],
    },
  ),
  mremapUffdWp: decision("Do moved entries keep the mark of a page that a userfaultfd has write-protected?", ["kept", "cleared"], {
    "v4.0": ["kept", "mm/mremap.c move_ptes, v6.12"],
    "v6.12.117": ["cleared", "0cef0bb836e3 mm: clear uffd-wp PTE/PMD state on mremap() (stable)"],
    "v6.13": ["cleared", "0cef0bb836e3 mm: clear uffd-wp PTE/PMD state on mremap(), v6.13"],
  }),
  perVmaLockFiles: decision(
    "Do faults of file mappings start under the VMA's lock too (a driver's plain handler is refused there)?",
    [true, false],
    {
      "v4.0": [false, "no per-VMA locks; v6.4 lock_vma_under_rcu takes anonymous VMAs only"],
      "v6.8": [true, "12214eba1992 mm: handle read faults under the VMA lock and relatives, v6.7; recorded v6.12.117"],
    },
  ),
  madviseDontcache: decision(
    "Is there a MADV_DONTCACHE that makes a mapping non-cacheable (proposed Mar 2015, in no release)?",
    [true, false],
    { "v4.0": [false, "mm/madvise.c madvise_behavior_valid; sketched by Paolo Bonzini, Mar 2015"] },
  ),
  vmForceCached: decision(
    "Do drivers of coherent device memory mark their VMAs VM_FORCE_CACHED (proposed Jan 2025, in no release)?",
    [true, false],
    {
      "v4.0": [
        false,
        "drivers/vfio/pci/nvgrace-gpu/main.c nvgrace_gpu_mmap; review of KVM: arm64: Allow cacheable stage 2 mapping using VMA flags",
      ],
    },
  ),
} as const;

/** What a kernel release answers to each of them. */
export type MmRow = Row<typeof mmDecisions>;
