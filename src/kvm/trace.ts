/**
 * The events of KVM: the kernel's trace points under their own names and field names
 * (include/trace/events/kvm.h, arch/arm64/kvm/trace_arm.h, trace_handle_exit.h), and ours for what
 * the kernel cannot show: every decision of the fault path, every change of stage 2.
 *
 * Fields of kind hex are one number (addresses and syndromes below 2^53); hex64 are two words.
 */
import { declareEvent, type EventBus } from "../sim/events.js";

export { breakBeforeMakeViolation } from "../arch/events.js";

// ---------------------------------------------------------------- the kernel's trace points

export const kvmEntry = declareEvent("kvm", "kvm_entry", "the vCPU is about to enter the guest", [{ name: "vcpu_pc", kind: "hex64" }]);

/** Exit types of kvm_exit (ARM_EXCEPTION_*). */
export const EXIT_IRQ = 0;
export const EXIT_EL1_SERROR = 1;
/** ARM_EXCEPTION_EL1_SERROR. */
export const EXIT_SERROR = 1;
export const EXIT_TRAP = 2;
export const kvmExit = declareEvent("kvm", "kvm_exit", "the guest was left", [
  { name: "ret", kind: "dec" },
  { name: "esr_ec", kind: "hex" },
  { name: "vcpu_pc", kind: "hex64" },
]);

export const kvmGuestFault = declareEvent("kvm", "kvm_guest_fault", "a stage-2 abort reached kvm_handle_guest_abort", [
  { name: "vcpu_pc", kind: "hex64" },
  { name: "hsr", kind: "hex64" },
  { name: "hxfar", kind: "hex64" },
  { name: "ipa", kind: "hex" },
]);

export const kvmAccessFault = declareEvent("kvm", "kvm_access_fault", "an access-flag fault is fixed", [{ name: "ipa", kind: "hex" }]);

export const kvmIrqLine = declareEvent("kvm", "kvm_irq_line", "an interrupt line is driven from userspace", [
  { name: "type", kind: "dec" },
  { name: "vcpu_idx", kind: "dec" },
  { name: "irq_num", kind: "dec" },
  { name: "level", kind: "dec" },
]);

export const kvmMmioEmulate = declareEvent("kvm", "kvm_mmio_emulate", "an instruction is decoded for MMIO (never on the data abort path)", [
  { name: "vcpu_pc", kind: "hex64" },
  { name: "instr", kind: "hex" },
  { name: "cpsr", kind: "hex" },
]);

export const kvmMmioNisv = declareEvent("kvm", "kvm_mmio_nisv", "an MMIO access without a valid syndrome", [
  { name: "vcpu_pc", kind: "hex64" },
  { name: "esr", kind: "hex64" },
  { name: "far", kind: "hex64" },
  { name: "ipa", kind: "hex" },
]);

/** Types of kvm_mmio (KVM_TRACE_MMIO_*). */
export const MMIO_UNSATISFIED_READ = 0;
export const MMIO_READ = 1;
export const MMIO_WRITE = 2;
export const kvmMmio = declareEvent("kvm", "kvm_mmio", "an MMIO access", [
  { name: "type", kind: "enum", values: ["unsatisfied-read", "read", "write"] },
  { name: "len", kind: "dec", unit: "bytes" },
  { name: "gpa", kind: "hex" },
  { name: "val", kind: "hex64" },
]);

export const kvmUserspaceExit = declareEvent("kvm", "kvm_userspace_exit", "KVM_RUN returns", [
  { name: "reason", kind: "dec" },
  { name: "errno", kind: "dec" },
]);

export const kvmUnmapHvaRange = declareEvent("kvm", "kvm_unmap_hva_range", "an MMU notifier empties a host range", [
  { name: "start", kind: "hex" },
  { name: "end", kind: "hex" },
]);
export const kvmUnmapHva = declareEvent("kvm", "kvm_unmap_hva", "an MMU notifier empties one host page (up to v4.x)", [
  { name: "hva", kind: "hex" },
]);
export const kvmSetSpteHva = declareEvent("kvm", "kvm_set_spte_hva", "an MMU notifier replaces a host page (up to v6.9)", [
  { name: "hva", kind: "hex" },
]);
export const kvmAgeHva = declareEvent("kvm", "kvm_age_hva", "an MMU notifier makes a host range old", [
  { name: "start", kind: "hex" },
  { name: "end", kind: "hex" },
]);
export const kvmTestAgeHva = declareEvent("kvm", "kvm_test_age_hva", "an MMU notifier asks whether a host page is young", [
  { name: "hva", kind: "hex" },
]);

export const kvmSetWayFlush = declareEvent("kvm", "kvm_set_way_flush", "a trapped set/way operation", [
  { name: "vcpu_pc", kind: "hex64" },
  { name: "cache", kind: "bool" },
]);
export const kvmToggleCache = declareEvent("kvm", "kvm_toggle_cache", "the guest switched its caches", [
  { name: "vcpu_pc", kind: "hex64" },
  { name: "was", kind: "bool" },
  { name: "now", kind: "bool" },
]);

export const kvmWfxArm64 = declareEvent("kvm", "kvm_wfx_arm64", "a trapped WFI or WFE", [
  { name: "vcpu_pc", kind: "hex64" },
  { name: "is_wfe", kind: "bool" },
]);
export const kvmHvcArm64 = declareEvent("kvm", "kvm_hvc_arm64", "a hypervisor call", [
  { name: "vcpu_pc", kind: "hex64" },
  { name: "r0", kind: "hex64" },
  { name: "imm", kind: "hex" },
]);

export const kvmDirtyRingPush = declareEvent("kvm", "kvm_dirty_ring_push", "a page entered a vCPU's dirty ring", [
  { name: "index", kind: "dec" },
  { name: "dirty_index", kind: "hex" },
  { name: "reset_index", kind: "hex" },
  { name: "slot", kind: "dec" },
  { name: "offset", kind: "hex" },
]);
export const kvmDirtyRingReset = declareEvent("kvm", "kvm_dirty_ring_reset", "harvested dirty ring entries were reset", [
  { name: "index", kind: "dec" },
  { name: "dirty_index", kind: "hex" },
  { name: "reset_index", kind: "hex" },
]);
export const kvmDirtyRingExit = declareEvent("kvm", "kvm_dirty_ring_exit", "a vCPU leaves KVM_RUN because its dirty ring is full", [
  { name: "vcpu", kind: "dec" },
]);

// ---------------------------------------------------------------- what the kernel cannot show

export const guestAbort = declareEvent("faultline", "guest_abort", "kvm_handle_guest_abort returned", [
  { name: "ret", kind: "dec" },
  { name: "mmio", kind: "bool", unit: "an MMIO exit for userspace" },
]);
export const memslotLookup = declareEvent(
  "faultline",
  "memslot_lookup",
  "gfn_to_memslot and gfn_to_hva_memslot_prot in kvm_handle_guest_abort",
  [
    { name: "gfn", kind: "hex" },
    { name: "slot", kind: "dec", unit: "slot number, -1 none" },
    { name: "hva", kind: "hex", unit: "0 for an error hva" },
    { name: "writable", kind: "bool" },
  ],
);
/** The VMA's part in the fault; the lookup itself is the event vma_lookup of src/mmu. */
export const faultVma = declareEvent("faultline", "fault_vma", "what user_mem_abort takes from the VMA", [
  { name: "hva", kind: "hex" },
  { name: "flags", kind: "hex", unit: "VM_* in the project's numbering" },
  { name: "page_prot", kind: "dec", unit: "PAGE_PROT_*" },
  { name: "size", kind: "hex", unit: "bytes of the mapping so far" },
]);
export const pfnSource = ["fast-gup", "slow-gup", "follow", "fixup-follow", "arithmetic", "none", "guest-memfd"] as const;
export const pfnLookup = declareEvent("faultline", "pfn_lookup", "the gfn to pfn lookup returned", [
  { name: "pfn", kind: "hex" },
  { name: "error", kind: "bool" },
  { name: "errno", kind: "dec", unit: "of an error pfn, else 0" },
  { name: "writable", kind: "bool" },
  { name: "source", kind: "enum", values: pfnSource },
]);
export const userMappingSize = declareEvent(
  "faultline",
  "user_mapping_size",
  "KVM measured the host leaf behind an address (get_user_mapping_size)",
  [
    { name: "hva", kind: "hex" },
    { name: "size", kind: "hex", unit: "bytes, 0 nothing mapped" },
  ],
);
export const decisionTaken = declareEvent("faultline", "decision", "an era decision answered on the fault path", [
  { name: "name", kind: "name" },
  { name: "value", kind: "name" },
]);
export const branchTaken = declareEvent("faultline", "branch", "a branch of kvm_handle_guest_abort or user_mem_abort was taken", [
  { name: "function", kind: "name" },
  { name: "branch", kind: "name" },
]);
export const mmuRetry = declareEvent("faultline", "mmu_retry", "an invalidation raced with the fault: the guest faults again", [
  { name: "vm", kind: "dec" },
  { name: "snapshot", kind: "dec" },
  { name: "now", kind: "dec" },
  { name: "in_progress", kind: "dec" },
]);

export const stage2Set = declareEvent("faultline", "stage2_set", "one stage-2 page entry is set (page-table code up to v5.9)", [
  { name: "ipa", kind: "hex" },
  { name: "size", kind: "hex" },
  { name: "pa", kind: "hex" },
  { name: "s2ap", kind: "dec" },
  { name: "memattr", kind: "dec" },
  { name: "xn", kind: "dec" },
  { name: "af", kind: "dec" },
  { name: "iomap", kind: "bool" },
]);
export const stage2SetHuge = declareEvent("faultline", "stage2_set_huge", "a stage-2 block is set (page-table code up to v5.9)", [
  { name: "ipa", kind: "hex" },
  { name: "size", kind: "hex" },
  { name: "pa", kind: "hex" },
  { name: "s2ap", kind: "dec" },
  { name: "memattr", kind: "dec" },
  { name: "xn", kind: "dec" },
]);
/** Protection bits of stage 2 in events and in the interface between fault path and page tables. */
export const PROT_X = 1;
export const PROT_W = 2;
export const PROT_R = 4;
export const PROT_DEVICE = 8;
export const PROT_NORMAL_NC = 16;
/** The page is a device mapping of the old "set" code: a present entry is an error. */
export const PROT_IOMAP = 32;
export const stage2Map = declareEvent("faultline", "stage2_map", "kvm_pgtable_stage2_map (v5.10+) is called", [
  { name: "ipa", kind: "hex" },
  { name: "size", kind: "hex" },
  { name: "pa", kind: "hex" },
  { name: "prot", kind: "dec" },
]);
export const stage2Relax = declareEvent("faultline", "stage2_relax", "kvm_pgtable_stage2_relax_perms is called", [
  { name: "ipa", kind: "hex" },
  { name: "prot", kind: "dec" },
]);
export const stage2Unmap = declareEvent("faultline", "stage2_unmap", "a range of stage 2 is unmapped", [
  { name: "ipa", kind: "hex" },
  { name: "size", kind: "hex" },
]);
export const stage2Wrprotect = declareEvent("faultline", "stage2_wrprotect", "a range of stage 2 is write-protected", [
  { name: "ipa", kind: "hex" },
  { name: "size", kind: "hex" },
]);
export const stage2Split = declareEvent("faultline", "stage2_split", "the blocks of a range are split into pages", [
  { name: "ipa", kind: "hex" },
  { name: "size", kind: "hex" },
]);
/** Written by the one function that changes a stage-2 entry. */
export const stage2Entry = declareEvent("faultline", "stage2_entry", "a stage-2 descriptor changed", [
  { name: "table", kind: "hex" },
  { name: "index", kind: "dec" },
  { name: "level", kind: "dec" },
  { name: "ipa", kind: "hex" },
  { name: "old", kind: "hex64" },
  { name: "new", kind: "hex64" },
]);
export const eagerMap = declareEvent("faultline", "eager_map", "device memory is mapped at memslot creation (kvm_phys_addr_ioremap)", [
  { name: "ipa", kind: "hex" },
  { name: "size", kind: "hex" },
  { name: "pa", kind: "hex" },
  { name: "writable", kind: "bool" },
]);

export const injectPabt = declareEvent("faultline", "inject_pabt", "kvm_inject_pabt", [{ name: "far", kind: "hex64" }]);
export const injectDabt = declareEvent("faultline", "inject_dabt", "kvm_inject_dabt", [{ name: "far", kind: "hex64" }]);
export const injectSea = declareEvent("faultline", "inject_sea", "kvm_inject_sea (v6.17+)", [
  { name: "iabt", kind: "dec" },
  { name: "far", kind: "hex64" },
]);
export const injectVabt = declareEvent("faultline", "inject_vabt", "kvm_inject_vabt: a virtual SError", [{ name: "far", kind: "hex64" }]);
export const injectSize = declareEvent("faultline", "inject_size", "kvm_inject_size_fault", [{ name: "far", kind: "hex64" }]);
export const injectUndef = declareEvent("faultline", "inject_undef", "kvm_inject_undefined", [{ name: "far", kind: "hex64" }]);
/** The registers that the injection wrote, when it was committed. */
export const exceptionInjected = declareEvent(
  "faultline",
  "exception_injected",
  "an injected exception was committed to the guest's registers",
  [
    { name: "esr", kind: "hex64" },
    { name: "far", kind: "hex64" },
    { name: "elr", kind: "hex64" },
    { name: "spsr", kind: "hex" },
    { name: "vector", kind: "hex64" },
  ],
);
export const exitAbandoned = declareEvent("faultline", "exit_abandoned", "EL2 could not translate FAR_EL2 again: the guest re-executes", [
  { name: "far", kind: "hex64" },
]);
export const hostSignal = declareEvent("faultline", "host_signal", "the kernel sends a signal to the vCPU thread", [
  { name: "signal", kind: "dec" },
  { name: "code", kind: "dec" },
  { name: "address", kind: "hex" },
  { name: "lsb", kind: "dec" },
]);

/** Names that the fault path says in its events, interned once per machine. */
export type Names<K extends string> = Readonly<Record<K, number>>;

/** Interns a list of names: `names.x` is then a number that `emit` takes. */
export function internNames<const K extends readonly string[]>(bus: EventBus, list: K): Names<K[number]> {
  return Object.freeze(Object.fromEntries(list.map((n) => [n, bus.name(n)]))) as Names<K[number]>;
}
