/** The events of the processing element, the TLBs and the bus: what a logic analyser between core and memory would show. */
import { declareEvent } from "../sim/events.js";

/** A 64-bit guest virtual address missed the combined TLB; a walk follows. */
export const tlbMiss = declareEvent("faultline", "tlb_miss", "an address missed the TLB; a table walk follows", [
  { name: "va", kind: "hex64" },
  { name: "vmid", kind: "dec" },
  { name: "asid", kind: "dec" },
  { name: "kind", kind: "enum", values: ["read", "write", "fetch", "maintenance", "host-read", "host-write"] },
]);
export const stage1Walk = declareEvent("faultline", "stage1_walk", "the stage-1 walk of an access ended", [
  { name: "va", kind: "hex64" },
  { name: "level", kind: "dec" },
  { name: "descriptor", kind: "hex64" },
  { name: "ipa", kind: "hex" },
  { name: "result", kind: "enum", values: ["ok", "fault", "stage2-fault", "external-abort"] },
]);
export const stage2Walk = declareEvent("faultline", "stage2_walk", "a stage-2 walk ended", [
  { name: "ipa", kind: "hex" },
  { name: "level", kind: "dec" },
  { name: "descriptor", kind: "hex64" },
  { name: "pa", kind: "hex" },
  { name: "result", kind: "enum", values: ["ok", "fault"] },
]);
export const memoryAbort = declareEvent("faultline", "memory_abort", "an access ended in an abort", [
  { name: "esr", kind: "hex" },
  { name: "va", kind: "hex64" },
  { name: "ipa", kind: "hex" },
  { name: "el", kind: "dec" },
]);
export const tlbiIssued = declareEvent("faultline", "tlbi", "a TLB invalidation was issued; it is complete after a DSB of its scope", [
  { name: "op", kind: "name" },
  { name: "vmid", kind: "dec" },
  { name: "operand", kind: "hex64" },
]);
export const tlbiWithoutDsb = declareEvent("faultline", "tlbi_without_dsb", "a TLBI was never completed by a DSB of its CPU", [
  { name: "cpu", kind: "dec" },
  { name: "op", kind: "name" },
  { name: "vmid", kind: "dec" },
  { name: "operand", kind: "hex64" },
]);
export const dsbDone = declareEvent("faultline", "dsb", "a data synchronisation barrier completed", [
  {
    name: "type",
    kind: "enum",
    values: ["0", "oshld", "oshst", "osh", "4", "nshld", "nshst", "nsh", "8", "ishld", "ishst", "ish", "12", "ld", "st", "sy"],
  },
  { name: "completed", kind: "dec", unit: "TLBI" },
]);
export const staleTranslation = declareEvent(
  "faultline",
  "stale_translation",
  "a cached translation was used that the tables no longer hold",
  [
    { name: "va", kind: "hex64" },
    { name: "regime", kind: "enum", values: ["guest", "host"] },
    { name: "ipa", kind: "hex" },
    { name: "pa", kind: "hex" },
    { name: "now", kind: "hex" },
    { name: "pending", kind: "dec", unit: "TLBI without DSB" },
  ],
);
export const breakBeforeMakeViolation = declareEvent(
  "faultline",
  "break_before_make_violation",
  "a live descriptor was changed in a way that needs break-before-make",
  [
    { name: "table", kind: "hex" },
    { name: "index", kind: "dec" },
    { name: "old", kind: "hex64" },
    { name: "new", kind: "hex64" },
  ],
);
export const dcacheClean = declareEvent("faultline", "dcache_clean", "data cache maintenance by address", [
  { name: "pa", kind: "hex" },
  { name: "size", kind: "hex" },
  { name: "by", kind: "enum", values: ["guest", "kernel", "vmm"] },
  { name: "op", kind: "enum", values: ["clean-poc", "clean-pou", "invalidate", "clean-invalidate"] },
]);
export const icacheInval = declareEvent("faultline", "icache_inval", "instruction cache invalidation", [
  { name: "pa", kind: "hex" },
  { name: "size", kind: "hex" },
  { name: "by", kind: "enum", values: ["guest", "kernel", "vmm"] },
]);
export const deviceRead = declareEvent("faultline", "device_read", "a read reached a device window", [
  { name: "pa", kind: "hex" },
  { name: "size", kind: "dec" },
  { name: "value", kind: "hex64" },
]);
export const deviceWrite = declareEvent("faultline", "device_write", "a write reached a device window", [
  { name: "pa", kind: "hex" },
  { name: "size", kind: "dec" },
  { name: "value", kind: "hex64" },
]);
export const busUnclaimed = declareEvent("faultline", "bus_unclaimed", "nothing on the bus answers this physical address", [
  { name: "pa", kind: "hex" },
  { name: "size", kind: "dec" },
  { name: "write", kind: "bool" },
]);
