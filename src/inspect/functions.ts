/**
 * The kernel functions that an explanation names, where their names changed: as decisions are written, but nothing asks
 * them except who explains.
 */
import { answer } from "../eras.js";
import { decision, type Decision } from "../sim/decisions.js";

const KVM = "virt/kvm/kvm_main.c";

export const FUNCTIONS = {
  vmaLookup: decision("the VMA that covers an address", ["find_vma_intersection", "vma_lookup"], {
    "v4.0": ["find_vma_intersection", `v5.4 virt/kvm/arm/mmu.c user_mem_abort, ${KVM} hva_to_pfn`],
    "v5.14": ["vma_lookup", `v5.14 arch/arm64/kvm/mmu.c user_mem_abort, ${KVM} hva_to_pfn`],
  }),
  pfn: decision("the pfn of a guest page", ["__gfn_to_pfn_memslot, hva_to_pfn", "__kvm_faultin_pfn, hva_to_pfn"], {
    "v4.0": ["__gfn_to_pfn_memslot, hva_to_pfn", `v5.4, v6.12 ${KVM}`],
    "v6.13": ["__kvm_faultin_pfn, hva_to_pfn", `v6.13 ${KVM} kvm_follow_pfn`],
  }),
  secondWalk: decision(
    "who walks the host's table once fast GUP has failed",
    ["GUP", "GUP, follow_pfn", "GUP, follow_pte", "GUP, follow_pfnmap_start"],
    {
      "v4.0": ["GUP", `v4.0 ${KVM} hva_to_pfn: PFNMAP by arithmetic`],
      "v4.10": ["GUP, follow_pfn", `v5.4 ${KVM} hva_to_pfn_remapped`],
      "v5.12": ["GUP, follow_pte", `v5.12 ${KVM} hva_to_pfn_remapped`],
      "v6.12": ["GUP, follow_pfnmap_start", `v6.12 ${KVM} hva_to_pfn_remapped`],
    },
  ),
  retry: decision("have notifiers run since the snapshot", ["mmu_notifier_retry", "mmu_invalidate_retry"], {
    "v4.0": ["mmu_notifier_retry", "v5.14 include/linux/kvm_host.h"],
    "v6.1": ["mmu_invalidate_retry", "v6.1 include/linux/kvm_host.h"],
  }),
  vfioFault: decision("vfio-pci's handler of a page fault", ["vfio_pci_mmap_fault", "vfio_pci_mmap_page_fault"], {
    "v4.0": ["vfio_pci_mmap_fault", "v5.8 drivers/vfio/pci/vfio_pci.c"],
    "v6.12": ["vfio_pci_mmap_page_fault", "v6.12 drivers/vfio/pci/vfio_pci_core.c"],
  }),
} as const;

/** Its name in a release. */
export function functionIn(era: string, d: Decision): string {
  return String(answer(d, era)!.value);
}
