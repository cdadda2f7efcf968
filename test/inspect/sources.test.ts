import { expect, test } from "vitest";
import { sourceIn } from "../../src/inspect/sources.js";

test.each([
  ["v4.10", "arch/arm64/kvm/mmu.c user_mem_abort", "arch/arm/kvm/mmu.c user_mem_abort"],
  ["v5.6", "arch/arm64/kvm/arm.c kvm_arch_vcpu_ioctl_run", "virt/kvm/arm/arm.c kvm_arch_vcpu_ioctl_run"],
  ["v5.8", "virt/kvm/arm/mmu.c kvm_phys_addr_ioremap", "arch/arm64/kvm/mmu.c kvm_phys_addr_ioremap"],
  ["v5.4", "virt/kvm/kvm_main.c hva_to_pfn", "virt/kvm/kvm_main.c hva_to_pfn"],
  ["v5.4", "arch/arm64/kvm/sys_regs.c kvm_handle_sys_reg", "arch/arm64/kvm/sys_regs.c kvm_handle_sys_reg"],
  ["v5.14", "drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_mmap", "drivers/vfio/pci/vfio_pci.c vfio_pci_mmap"],
  ["v5.8", "drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_reset", "drivers/vfio/pci/vfio_pci.c vfio_pci_ioctl"],
  ["v6.1", "drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_reset", "drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_reset"],
  ["v5.8", "drivers/vfio/vfio_main.c vfio_device_fops_release", "drivers/vfio/vfio.c vfio_device_fops_release"],
])("under %s %s is %s", (era, source, there) => {
  expect(sourceIn(era, source)).toBe(there);
});
