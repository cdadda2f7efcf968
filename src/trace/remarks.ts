/**
 * What an event means, in a few plain words computed from its fields. A remark never knows what comes
 * after it: it says what this step did, and with which numbers.
 */
import { errnoName } from "../sim/errno.js";
import type { EventRecord } from "../sim/events.js";
import { hex, size } from "./fields.js";

type Remark = (e: EventRecord) => string;

const a = (number: number): string => (number === 8 ? "an 8" : `a ${number}`);
const n = (e: EventRecord, field: string): number => Number(e[field] ?? 0);
const s = (e: EventRecord, field: string): string => String(e[field] ?? "");

/** The lower half of a 64-bit register: some eras write the upper half of ESR_EL1 too. */
export function low32(hex: string): number {
  return Number(BigInt.asUintN(32, BigInt(hex === "" ? 0 : hex)));
}

/** ESR_ELx of an abort: who, what, why. */
export function syndromeText(esr: number): string {
  const ec = Math.floor(esr / 0x4000000) & 0x3f;
  const iss = esr & 0x1ffffff;
  const fetch = ec === 0x20 || ec === 0x21;
  if (!fetch && ec !== 0x24 && ec !== 0x25) return exceptionClass(ec);
  const walk = (iss & 0x80) !== 0;
  const maintenance = !fetch && (iss & 0x100) !== 0;
  const write = !fetch && (iss & 0x40) !== 0;
  const isv = !fetch && (iss & 0x1000000) !== 0;
  const bytes = isv ? ` of ${1 << ((iss >> 22) & 3)} byte${(iss >> 22) & 3 ? "s" : ""}` : "";
  // KVM injects external aborts without WnR, whatever the access was.
  const injected = ec === 0x25 && (iss & 0x3f) >= 0x10 && (iss & 0x3f) < 0x18;
  const who = fetch ? "fetch" : injected ? "data access" : maintenance ? "cache maintenance" : write ? `store${bytes}` : `load${bytes}`;
  return `${who}${walk ? ", in its stage-1 walk" : ""}: ${faultStatus(iss & 0x3f)}`;
}

function exceptionClass(ec: number): string {
  switch (ec) {
    case 0x00:
      return "undefined instruction";
    case 0x01:
      return "WFI or WFE";
    case 0x15:
      return "SVC";
    case 0x16:
      return "HVC";
    case 0x18:
      return "trapped system register";
    case 0x22:
      return "PC alignment fault";
    case 0x26:
      return "SP alignment fault";
    case 0x2f:
      return "SError";
    case 0x3c:
      return "BRK";
    default:
      return `exception class ${hex(ec)}`;
  }
}

/** Fault status code of an abort. */
export function faultStatus(fsc: number): string {
  const level = fsc & 3;
  switch (fsc >> 2) {
    case 0:
      return `address size fault, level ${level}`;
    case 1:
      return `translation fault, level ${level}`;
    case 2:
      return `access flag fault, level ${level}`;
    case 3:
      return `permission fault, level ${level}`;
    case 5:
      return `external abort on a walk, level ${level}`;
  }
  if (fsc === 0x10) return "external abort";
  if (fsc === 0x21) return "alignment fault";
  if (fsc === 0x35) return "unsupported exclusive or atomic";
  return `fault status ${hex(fsc)}`;
}

const MEMATTR: Readonly<Record<number, string>> = {
  0: "Device-nGnRnE",
  1: "Device-nGnRE",
  5: "Normal-NC",
  6: "Normal-WB",
  15: "Normal-WB",
};
const S2AP = ["no access", "read-only", "write-only", "read-write"];

export function protText(prot: number): string {
  const rwx = `${prot & 4 ? "r" : ""}${prot & 2 ? "w" : ""}${prot & 1 ? "x" : ""}` || "none";
  return `${rwx}, ${prot & 8 ? "Device-nGnRE" : prot & 16 ? "Normal-NC" : "Normal"}`;
}

function errnoText(ret: number): string {
  return ret < 0 ? `-${errnoName(ret)}` : String(ret);
}

const vmFault = (ret: number): string => {
  const names: Readonly<Record<number, string>> = {
    0x1: "OOM",
    0x2: "SIGBUS",
    0x10: "HWPOISON",
    0x100: "NOPAGE",
    0x400: "RETRY",
    0x800: "FALLBACK",
  };
  return names[ret] ?? hex(ret);
};

const leafSet = (e: EventRecord): string =>
  `${size(n(e, "size"))} ${MEMATTR[n(e, "memattr")] ?? `memattr ${n(e, "memattr")}`}, ${S2AP[n(e, "s2ap")] ?? ""}${n(e, "xn") === 0 ? ", executable" : ""}`;

const REMARKS: Readonly<Record<string, Remark>> = {
  kvm_guest_fault: (e) => syndromeText(low32(s(e, "hsr"))),
  kvm_unmap_hva_range: (e) => `MMU notifier: ${size(n(e, "end") - n(e, "start"))} of host memory go away`,
  kvm_set_spte_hva: () => "MMU notifier: a host page is replaced",
  kvm_access_fault: () => "the access flag is set",
  kvm_mmio: (e) => `${n(e, "len")}-byte ${s(e, "type").replace("unsatisfied-", "")} for the VMM to answer`,
  kvm_mmio_nisv: () => "no valid syndrome: KVM cannot tell what was accessed",
  kvm_userspace_exit: (e) => (n(e, "errno") === 0 ? `KVM_RUN returns` : `KVM_RUN fails: ${errnoName(n(e, "errno"))}`),
  guest_abort: (e) => {
    const ret = n(e, "ret");
    return ret === 1 ? "handled: back into the guest" : ret === 0 ? "an exit for the VMM" : `KVM_RUN will fail: ${errnoName(ret)}`;
  },
  memslot_lookup: (e) => (n(e, "slot") < 0 ? "no memslot" : `memslot ${n(e, "slot")}${e["writable"] === true ? "" : ", read-only"}`),
  vma_lookup: (e) => (e["found"] === false ? "no VMA" : `VMA of ${size(n(e, "end") - n(e, "start"))}`),
  pfn_lookup: (e) =>
    Number(e["error"]) !== 0 ? "no page to be had" : `pa ${hex(n(e, "pfn") * 4096)}, ${e["writable"] === true ? "writable" : "read-only"}`,
  host_walk: (e) =>
    n(e, "leaf_level") <= 0 ? "no host entry" : `host entry at level ${n(e, "leaf_level")}${e["writable"] === true ? "" : ", read-only"}`,
  decision: (e) => `this era: ${s(e, "name")} = ${s(e, "value")}`,
  branch: (e) => `${s(e, "function")}: ${s(e, "branch")}`,
  mmu_retry: () => "an invalidation came in between: fault again",
  stage2_set: leafSet,
  stage2_set_huge: leafSet,
  stage2_map: (e) => `${size(n(e, "size"))} ${protText(n(e, "prot"))}`,
  stage2_relax: (e) => `permissions added: ${protText(n(e, "prot"))}`,
  stage2_unmap: (e) => `${size(n(e, "size"))} of guest memory unmapped`,
  stage2_wrprotect: (e) => `${size(n(e, "size"))} write-protected`,
  stage2_split: (e) => `blocks of ${size(n(e, "size"))} split into pages`,
  stage2_entry: (e) => (n(e, "new") === 0 ? "entry cleared" : n(e, "old") === 0 ? "entry written" : "entry changed"),
  break_before_make_violation: () => "a live entry was replaced without break-before-make",
  stale_translation: () => "a translation that the tables no longer hold was used",
  eager_map: (e) => `the whole device range, ${size(n(e, "size"))}`,
  dcache_clean: (e) =>
    n(e, "size") === 64 && s(e, "op").includes("invalidate")
      ? `a line of data cache ${s(e, "op") === "invalidate" ? "invalidated" : "cleaned and invalidated"}`
      : `${size(n(e, "size"))} of data cache cleaned`,
  stale_read: (e) =>
    `stale: read from ${s(e, "from") === "line" ? `the line that a ${s(e, "filled")} had filled` : s(e, "from") === "memory" ? "memory behind a dirty line" : "the instruction cache"}; ${s(e, "writer")} has written ${s(e, "newest")} ${s(e, "from") === "line" ? "to memory" : "to the cache"}`,
  write_lost: (e) => `${n(e, "bytes")} bytes that ${s(e, "writer")} had written to memory are overwritten by a dirty line (${s(e, "why")})`,
  dirty_line_dropped: (e) => `what ${s(e, "writer")} had stored only in this line is gone`,
  icache_inval: (e) => `${size(n(e, "size"))} of instruction cache invalidated`,
  inject_pabt: () => "prefetch abort into the guest",
  inject_dabt: () => "data abort into the guest",
  inject_sea: (e) => `external ${n(e, "iabt") === 1 ? "prefetch" : "data"} abort into the guest`,
  inject_vabt: () => "SError into the guest",
  inject_size: () => "address size fault into the guest",
  inject_undef: () => "undefined instruction into the guest",
  exception_injected: (e) => `vector ${hex(Number(e["vector"]) % 0x800)}: ${syndromeText(low32(s(e, "esr")))}`,
  exit_abandoned: () => "EL2 could not translate the address: the guest tries again",
  host_signal: (e) => `signal ${n(e, "signal")} for the vCPU thread`,
  host_crash: (e) => `HOST CRASH: ${s(e, "reason")}`,
  tlbi: (e) => `TLB invalidation ${s(e, "op")}`,
  dsb: (e) => (n(e, "completed") > 0 ? `${n(e, "completed")} TLB invalidation${n(e, "completed") > 1 ? "s" : ""} complete` : "barrier"),
  vfio_mmap: (e) => (n(e, "ret") === 0 ? "the BAR is mapped in the VMM" : `the BAR is not mapped: ${errnoText(n(e, "ret"))}`),
  vfio_fault: (e) => `vfio-pci's fault handler: ${vmFault(n(e, "ret"))}`,
  vfio_huge_fault: (e) => `vfio-pci's huge fault handler: ${vmFault(n(e, "ret"))}`,
  vfio_zap: () => "vfio-pci takes the BAR mappings away",
  late_write: (e) => `LATE: ${n(e, "bytes")} bytes that CPU ${n(e, "cpu")} wrote before the reset arrive after it`,
  device_reclaim: (e) => {
    const broken = ["no_page_table_reference", "no_buffered_write", "no_transaction_in_flight", "clean_post_reset_state"].filter(
      (c) => n(e, c) === 0,
    );
    return broken.length === 0 ? "all four conditions hold" : `BROKEN: ${broken.join(", ")}`;
  },
  aer_event: (e) => `AER: ${n(e, "write") !== 0 ? "a posted write" : "a read"} that nobody took`,
  device_read: (e) => `the device answers ${a(n(e, "size"))}-byte read`,
  device_write: (e) => `${a(n(e, "size"))}-byte write reaches the device`,
  bar_read: (e) => `${s(e, "device")} BAR${n(e, "bar")} answers ${s(e, "value")}`,
  bar_write: (e) => `${s(e, "device")} BAR${n(e, "bar")} takes ${s(e, "value")}`,
  bus_unclaimed: () => "nothing answers at this address",
  page_alloc: () => "a page of RAM is allocated",
  page_clear: () => "and cleared",
  page_copy: () => "and copied",
};

/** The remark of an event; "" if there is nothing to add to its fields. */
export function remark(e: EventRecord): string {
  return REMARKS[e.event]?.(e) ?? "";
}
