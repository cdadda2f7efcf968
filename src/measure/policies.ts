/**
 * Policies: named sets of decisions and machine options, so that two ways to do a thing can be compared under one kernel.
 * A script's own variants are policies too: `on NAME { … }` then holds what the VMM does otherwise.
 */
import type { ThpPolicy } from "../mmu/thpsettings.js";
import type { EraRow } from "../eras.js";

export interface Policy {
  readonly name: string;
  readonly doc: string;
  /** Decisions that it replaces in an era; a reason where the era cannot do it. */
  decisions(era: EraRow): Readonly<Record<string, string>> | { readonly impossible: string };
  /** /sys/kernel/mm/transparent_hugepage/enabled. */
  readonly thp?: ThpPolicy;
}

export const POLICIES: readonly Policy[] = [
  { name: "default", doc: "the kernel as it was released", decisions: () => ({}) },
  {
    name: "eager",
    doc: "KVM_SET_USER_MEMORY_REGION maps PFNMAP VMAs into stage 2 at once, page by page (as up to v5.5)",
    decisions: () => ({ eagerDeviceMapping: "true" }),
  },
  {
    name: "demand",
    doc: "device memory is mapped by stage-2 faults, 4 KiB each",
    // Before v5.5 a page is all that a PFNMAP VMA can give, and the THP check that follows is the era's own.
    decisions: ({ kvm }) => ({
      eagerDeviceMapping: "false",
      ...(kvm.thpAdjust === "user-table" || kvm.pfnmapBlockSize === "vma-arithmetic" ? { pfnmapBlockSize: "forced-page" } : {}),
    }),
  },
  {
    name: "block",
    doc: "device memory is mapped by stage-2 faults, in blocks where addresses and VMA allow it (from v5.14)",
    decisions: ({ kvm }) =>
      kvm.pfnmapBlockSize === "vma-arithmetic" || (kvm.thpAdjust === "user-table" && kvm.thpAdjustDevices)
        ? { eagerDeviceMapping: "false" }
        : { impossible: "no block mappings of device memory in this kernel (from v5.14)" },
  },
  { name: "thp", doc: "transparent huge pages: enabled=always", decisions: () => ({}), thp: "always" },
  { name: "nothp", doc: "transparent huge pages: enabled=never", decisions: () => ({}), thp: "never" },
  {
    name: "eager-split",
    doc: "blocks are split when dirty logging starts, where the VM has a chunk size for it (from v6.5)",
    decisions: () => ({ eagerSplit: "true" }),
  },
  {
    name: "split-on-fault",
    doc: "blocks are split by the faults that follow, whatever the VM asked for",
    decisions: () => ({ eagerSplit: "false" }),
  },
  {
    name: "nc",
    doc: "stage 2 maps BARs Normal-NC, so that the guest chooses (as from v6.9)",
    decisions: () => ({ deviceType: "nc-if-vma-allows", vfioAllowAnyUncached: "true" }),
  },
  {
    name: "ngnre",
    doc: "stage 2 maps BARs Device-nGnRE, whatever the guest says (as up to v6.8)",
    decisions: () => ({ deviceType: "nGnRE", vfioAllowAnyUncached: "false" }),
  },
];

export const policyNames = (): readonly string[] => POLICIES.map((p) => p.name);
export const findPolicy = (name: string): Policy | undefined => POLICIES.find((p) => p.name === name);

/** A policy of the user's own. @param set checked decisions */
export function ownPolicy(name: string, set: Readonly<Record<string, string>>): Policy {
  return { name, doc: "given on the command line", decisions: () => set };
}
