/**
 * Where releases of vfio-pci differ, with the whole history of each point (drivers/vfio/pci/, "VFIO n" = section n
 * of the reference on vfio-pci). A release that is not named in a history keeps its predecessor's value.
 */
import { decision } from "../sim/decisions.js";

export const vfioDecisions = {
  vfioModule: decision("the module that has the mmap and fault code, and with it the functions' names", ["vfio_pci", "vfio_pci_core"], {
    "v4.0": ["vfio_pci", "v5.14.2 drivers/vfio/pci/vfio_pci.c vfio_pci_mmap"],
    "v5.15": ["vfio_pci_core", "v6.1 drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_mmap (split in v5.15)"],
  }),
  vfioRegionLookup: decision(
    "mmap of a region index beyond the fixed regions: looked up among the device-specific ones, or refused by a test of its own first",
    ["fixedRegionsOnly", "deviceSpecific", "indexTestedFirst"],
    {
      "v4.0": ["fixedRegionsOnly", "v4.0 vfio_pci.c vfio_pci_mmap: region index must be below the ROM region"],
      "v4.10": ["deviceSpecific", "v5.4 vfio_pci.c vfio_pci_mmap: regions added by the device driver have their own mmap handler"],
      "v5.10.223": ["indexTestedFirst", "v5.10.223 vfio_pci.c vfio_pci_mmap: Add missing range check in vfio_pci_mmap (5.10.32)"],
      "v5.12": [
        "indexTestedFirst",
        "v5.12, v5.14.2 vfio_pci.c vfio_pci_mmap: index beyond the device's regions is EINVAL before all other tests",
      ],
    },
  ),
  vfioSubPageBar: decision(
    "a memory BAR smaller than a page that starts on a page boundary can be mmapped (the rest of the page is reserved)",
    [false, true],
    {
      "v4.0": [false, "v4.0 vfio_pci.c VFIO_DEVICE_GET_REGION_INFO: size >= PAGE_SIZE"],
      "v4.10": [true, "v5.4 vfio_pci.c vfio_pci_probe_mmaps: dummy resource for the rest of the page"],
    },
  ),
  vfioMmapLength: decision("the BAR length against which mmap tests offset + length", ["exact", "pageAligned"], {
    "v4.0": ["exact", "v4.0 vfio_pci.c vfio_pci_mmap: phys_len = pci_resource_len"],
    "v4.10": ["pageAligned", "v5.4 vfio_pci.c vfio_pci_mmap: phys_len = PAGE_ALIGN(pci_resource_len)"],
  }),
  vfioMsixMmap: decision("the pages of a BAR that hold the MSI-X table", ["excluded", "sparse", "mappable"], {
    "v4.0": ["excluded", "v4.0 vfio_pci.c vfio_pci_mmap: EINVAL where the range meets the table"],
    "v4.10": ["sparse", "VFIO 1: still refused up to v4.15, announced by a sparse mmap capability"],
    "v4.20": ["mappable", "v5.4 vfio_pci.c: whole BAR mappable, capability VFIO_REGION_INFO_CAP_MSIX_MAPPABLE"],
  }),
  vfioPtes: decision("when the host page-table entries of a BAR VMA come into being", ["atMmap", "wholeVmaAtFault", "perFault"], {
    "v4.0": ["atMmap", "v4.0 vfio_pci.c vfio_pci_mmap: remap_pfn_range"],
    "v5.8": ["wholeVmaAtFault", "vfio-pci: Fault mmaps to enable vma tracking (11c4cd07ba11)"],
    "v6.12": [
      "perFault",
      "v6.12 vfio_pci_core.c vfio_pci_mmap_huge_fault: one page or block for each fault (v6.10 vfio_pci_mmap_fault: one page)",
    ],
  }),
  vfioPgoff: decision("vm_pgoff of a BAR VMA after mmap", ["pfn", "fileOffset"], {
    "v4.0": ["pfn", "v4.0 vfio_pci.c vfio_pci_mmap: vm_pgoff = (resource start >> PAGE_SHIFT) + pgoff"],
    "v6.12": ["fileOffset", "v6.12 vfio_pci_core.c vfio_pci_core_mmap: left as mmap set it (v6.10)"],
  }),
  vfioMmapType: decision(
    "memory type of a BAR's mapping in user space (all but noncached are proposals of the reviews of Oct 2023 and Feb 2024, in no release)",
    ["noncached", "device", "writecombine", "writecombine-if-prefetchable", "as-asked"],
    { "v4.0": ["noncached", "v4.0 vfio_pci.c vfio_pci_mmap: pgprot_noncached"] },
  ),
  vfioAllowAnyUncached: decision("BAR VMAs get VM_ALLOW_ANY_UNCACHED: a guest may map them Normal-NC", [false, true], {
    "v4.0": [false, "the flag does not exist"],
    "v6.9": [true, "v6.9 vfio_pci_core.c vfio_pci_core_mmap: vm_flags_set(VM_ALLOW_ANY_UNCACHED | …)"],
  }),
  vfioMarksPtes: decision(
    "BAR VMAs mark their page-table entries for KVM with the uffd-wp bit, which PFNMAP mappings do not use (considered in the review of Feb 2024, in no release)",
    [false, true],
    { "v4.0": [false, "v6.9 vfio_pci_core.c vfio_pci_core_mmap: a VMA flag instead; arm64 has the bit from v6.10 on"] },
  ),
  vfioCoherentMemory: decision(
    "a region of coherent device memory: mapped like any BAR, or by nvgrace-gpu's own mmap with the default (cacheable) protection",
    ["bar", "cacheable"],
    {
      "v4.0": ["bar", "no such driver; absent in v6.8"],
      "v6.9": ["cacheable", "drivers/vfio/pci/nvgrace-gpu/main.c nvgrace_gpu_mmap"],
    },
  ),
  vfioTrackedFault: decision("a fault in a VMA that another fault has filled meanwhile", ["mapsAgain", "returns"], {
    "v5.8": ["mapsAgain", "v5.8.1 vfio_pci.c vfio_pci_mmap_fault: no test; remap_pfn_range meets entries that are not empty (BUG)"],
    "v5.10.223": ["returns", "v5.10.223 vfio_pci.c vfio_pci_mmap_fault: Handle concurrent vma faults (5.10.50)"],
    "v5.14": ["returns", "vfio/pci: Handle concurrent vma faults"],
  }),
  vfioHugeFault: decision(
    "how a fault of a higher order chooses its block",
    ["none", "faultAddressOnly", "faultAddressAndPfn", "alignedDown"],
    {
      "v4.0": ["none", "no huge_fault callback"],
      "v6.12": ["faultAddressOnly", "v6.12.0 vfio_pci_mmap_huge_fault: the address itself must be aligned; the pfn is not tested"],
      "v6.12.117": ["alignedDown", "v6.12.117 vfio_pci_mmap_huge_fault: backport of 'Align huge faults to order'"],
      "v6.13": ["faultAddressAndPfn", "vfio/pci: Fallback huge faults for unaligned pfn (v6.13.2)"],
      "v6.17": ["alignedDown", "vfio/pci: Align huge faults to order"],
    },
  ),
  vfioOpenZaps: decision("vm_ops.open of a BAR VMA (fork, split) clears the new VMA's entries", [false, true], {
    "v4.0": [false, "no open callback"],
    "v5.8": [true, "v5.8.1 vfio_pci.c vfio_pci_mmap_open: zap_vma_ptes"],
    "v6.12": [false, "v6.12 vfio_pci_core.c: no open callback"],
  }),
  vfioMemoryLock: decision("how everything that makes a BAR unreachable keeps accesses away", ["none", "zapThenLock", "lockThenZap"], {
    "v4.0": ["none", "v5.4 vfio_pci_config.c: no memory_lock, mappings stay"],
    "v5.8": [
      "zapThenLock",
      "vfio-pci: Invalidate mmaps and block MMIO access on disabled memory (abafbc551fdd): tracked VMAs, mmap_lock, then memory_lock",
    ],
    "v6.12": ["lockThenZap", "v6.12 vfio_pci_core.c vfio_pci_zap_and_down_write_memory_lock: down_write, then unmap_mapping_range"],
  }),
  vfioPowerState: decision("what the device's power state and the low-power feature do to BAR mappings", ["untested", "tested"], {
    "v4.0": ["untested", "v5.14.2 vfio_pci_config.c vfio_pm_config_write: pci_set_power_state without zap or test"],
    "v6.1": ["tested", "v6.1 vfio_pci_config.c vfio_lock_and_set_power_state; __vfio_pci_memory_enabled needs a state below D3hot"],
  }),
  vfioPowerRestore: decision("what comes back after D3hot to D0 of a function that loses its state there", ["bars", "state"], {
    "v4.0": ["bars", "v4.0 drivers/pci/pci.c pci_raw_set_power_state: pci_restore_bars"],
    "v5.4": ["state", "v5.4 vfio_pci.c vfio_pci_set_power_state: pci_save_state before, pci_restore_state after"],
  }),
  vfioRegionRw: decision(
    "read() and write() of a BAR while memory is disabled",
    ["reachesHardware", "eioLockedWhole", "eioLockedPerAccess"],
    {
      "v4.0": ["reachesHardware", "v5.4 vfio_pci_rdwr.c vfio_pci_bar_rw"],
      "v5.8": ["eioLockedWhole", "v5.8.1 vfio_pci_rdwr.c vfio_pci_bar_rw: memory_lock held over the whole copy"],
      "v5.10": ["eioLockedPerAccess", "vfio-pci: Avoid recursive read-lock usage"],
    },
  ),
  vfioRegionRwWidth: decision("the widest single access that read() and write() of a BAR make, in bytes", [4, 8], {
    "v4.0": [4, "v5.4 vfio_pci_rdwr.c do_io_rw"],
    "v6.12": [8, "vfio/pci: Support 8-byte PCI loads and stores (v6.11)"],
  }),
  vfioIoeventfd: decision("ioeventfds of BARs, and their write while memory is disabled", ["absent", "reachesHardware", "dropped"], {
    "v4.0": ["absent", "v4.0 uapi vfio.h has no VFIO_DEVICE_IOEVENTFD"],
    "v4.20": ["reachesHardware", "v5.8.1 vfio_pci_rdwr.c vfio_pci_ioeventfd_handler does not test"],
    "v5.10": ["dropped", "v5.11 vfio_pci_rdwr.c vfio_pci_ioeventfd_do_write: test_mem"],
  }),
  vfioIoeventfdWidth: decision("the widest write of an ioeventfd, in bytes", [4, 8], {
    "v4.0": [4, "v5.8.1, v7.2.12 vfio_pci_rdwr.c vfio_pci_ioeventfd: eight bytes are EINVAL"],
    "v7.3.4": [8, "v7.3.4 vfio_pci_rdwr.c vfio_pci_ioeventfd: no such test; vfio_pci_ioeventfd_do_write: vfio_pci_core_iowrite64"],
  }),
  vfioBarClaim: decision("when a BAR's resource is requested and iomapped", ["atFirstUse", "atOpen"], {
    "v4.0": ["atFirstUse", "v4.0 vfio_pci.c vfio_pci_mmap, vfio_pci_rdwr.c"],
    "v7.2.12": ["atOpen", "v7.1.5 vfio_pci_core.c: done when the device is opened; mmap, read and write report the kept result"],
  }),
} as const;
