/**
 * Where a release has what a phase stands for. A phase names its function where later releases have it; files moved, one was
 * split, and some functions had another name before. As functions.ts: nothing asks these but who tells.
 */
import { DECISIONS } from "../eras.js";
import { decision } from "../sim/decisions.js";
import { functionIn, FUNCTIONS } from "./functions.js";

const FOLDER = decision("the folder of KVM/arm64's mmu.c and arm.c", ["arch/arm/kvm", "virt/kvm/arm", "arch/arm64/kvm"], {
  "v4.0": ["arch/arm/kvm", "v4.0 arch/arm/kvm/mmu.c"],
  "v4.20": ["virt/kvm/arm", "v5.4 virt/kvm/arm/mmu.c; moved in v4.12 as far as known"],
  "v5.8": ["arch/arm64/kvm", "v5.8 arch/arm64/kvm/mmu.c"],
});
const VFIO = decision("vfio's device files", ["vfio.c", "vfio_main.c"], {
  "v4.0": ["vfio.c", "v5.14 drivers/vfio/vfio.c"],
  "v6.1": ["vfio_main.c", "v6.1 drivers/vfio/vfio_main.c"],
});

/** Functions of vfio_pci_core.c under the names that they, or what they were parts of, had in vfio_pci.c. */
const BEFORE_SPLIT: readonly (readonly [RegExp, string])[] = [
  [/\bvfio_pci_core_(mmap|enable|disable)\b/g, "vfio_pci_$1"],
  [/\b(vfio_pci_ioctl_\w+|vfio_pci_dev_set_hot_reset)\b/g, "vfio_pci_ioctl"],
];

/** A phase's source as a release has it. */
export function sourceIn(era: string, source: string): string {
  const moved = source
    .replace(/\b(?:virt\/kvm\/arm|arch\/arm64\/kvm)\/(?=(?:mmu|arm)\.c\b)/g, `${functionIn(era, FOLDER)}/`)
    .replace(/^drivers\/vfio\/vfio_main\.c\b/, `drivers/vfio/${functionIn(era, VFIO)}`);
  if (!moved.startsWith("drivers/vfio/pci/vfio_pci_core.c ")) return moved;
  const named = moved.replace(/\bvfio_pci_mmap_(?:page_)?fault\b/, functionIn(era, FUNCTIONS.vfioFault));
  const file = functionIn(era, DECISIONS.vfio.vfioModule);
  if (file === "vfio_pci_core") return named;
  return BEFORE_SPLIT.reduce((text, [now, then]) => text.replace(now, then), named).replace("vfio_pci_core.c", `${file}.c`);
}
