/**
 * What a call of the script is as a call of the machine: names and arguments of the guest language on one side, those of
 * src/api/calls.ts on the other. Calls that take several calls of the machine, or none, are the interpreter's (run.ts).
 */
import type { CacheLineOp, Call as HostCall, CallResult, UserMemoryRegion } from "../api/calls.js";
import type { Expr } from "./ast.js";

/** Offset of a region in a VFIO device's file: its index times this. */
const REGION = 2 ** 40;
/** Index of the configuration space among a device's regions. */
export const CONFIG_REGION = 7;

/** Arguments of a call by the names of the guest language, checked when the script was compiled. */
export class CallArguments {
  constructor(private readonly values: ReadonlyMap<string, bigint | Expr>) {}
  big(key: string): bigint {
    return this.values.get(key) as bigint;
  }
  /** As a signed number. */
  number(key: string): number {
    const v = this.big(key);
    return Number(v >= 1n << 63n ? BigInt.asIntN(64, v) : v);
  }
  text(key: string): string {
    return (this.values.get(key) as { text: string }).text;
  }
  name(key: string): string {
    return (this.values.get(key) as { name: string }).name;
  }
  /** The argument "vcpu"; 0 if the call has none. */
  get vcpu(): number {
    const e = this.values.get("vcpu");
    return typeof e === "object" && e.kind === "name" ? Number(e.name.slice(4)) : 0;
  }
  /** Region and offset that an offset in a VFIO device's file means. */
  region(key: string, base = 0): { readonly index: number; readonly offset: number } {
    const at = this.number(key) + base;
    return { index: Math.floor(at / REGION), offset: at % REGION };
  }
}

type Of = (a: CallArguments, vm: number) => HostCall;

/** Calls that do one thing with every cache line of a range. */
const LINE_CALLS: Readonly<Record<string, CacheLineOp>> = {
  dc_cvac: "dc cvac",
  dc_cvau: "dc cvau",
  dc_civac: "dc civac",
  ic_ivau: "ic ivau",
  speculate: "speculate",
  evict: "evict",
};

const page =
  (call: "collapse_huge_page" | "split_huge_page" | "migrate_pages" | "einj_error_inject"): Of =>
  (a) => ({ call, addr: a.number("addr") });
const aging =
  (kind: 0 | 1 | 2): Of =>
  (a) => ({ call: "age", addr: a.number("addr"), length: a.number("length"), kind });
const userfault =
  (call: "uffd_register" | "uffd_zeropage" | "uffd_continue" | "uffd_poison" | "uffd_writeprotect"): Of =>
  (a) => ({ call, uffd: a.number("fd"), start: a.number("start"), len: a.number("len"), mode: a.number("mode") });
const userfaultRange =
  (call: "uffd_unregister" | "uffd_wake"): Of =>
  (a) => ({ call, uffd: a.number("fd"), start: a.number("start"), len: a.number("len") });
const barRange =
  (call: "VFIO_DEVICE_FEATURE_DMA_BUF" | "VFIO_DEVICE_FEATURE_MMAP_WC"): Of =>
  (a) => ({ call, fd: a.number("fd"), ...a.region("offset"), length: a.number("length") });
const region = (a: CallArguments): UserMemoryRegion => ({
  slot: a.number("slot"),
  flags: a.number("flags"),
  guestPhysAddr: a.number("guest_phys_addr"),
  memorySize: a.number("memory_size"),
  userspaceAddr: a.number("userspace_addr"),
});
const config = CONFIG_REGION * REGION;

const CALLS: Readonly<Record<string, Of>> = {
  // ---- memory of the VMM
  mmap: (a) => ({
    call: "mmap",
    addr: a.number("addr"),
    length: a.number("length"),
    prot: a.number("prot"),
    flags: a.number("flags"),
    fd: a.number("fd"),
    offset: a.number("offset"),
    ...(a.number("align") > 0 ? { align: a.number("align") } : {}),
  }),
  munmap: (a) => ({ call: "munmap", addr: a.number("addr"), length: a.number("length") }),
  mprotect: (a) => ({ call: "mprotect", addr: a.number("addr"), length: a.number("length"), prot: a.number("prot") }),
  madvise: (a) => ({ call: "madvise", addr: a.number("addr"), length: a.number("length"), advice: a.number("advice") }),
  mremap: (a) => ({
    call: "mremap",
    oldAddress: a.number("old_address"),
    oldSize: a.number("old_size"),
    newSize: a.number("new_size"),
    flags: a.number("flags"),
    newAddress: a.number("new_address"),
  }),
  memfd_create: (a) => ({ call: "memfd_create", flags: a.number("flags") }),
  open: (a) => ({ call: "open", name: a.text("name"), size: a.number("size") }),
  close: (a) => ({ call: "close", fd: a.number("fd") }),
  ftruncate: (a) => ({ call: "ftruncate", fd: a.number("fd"), length: a.number("length") }),
  fallocate: (a) => ({
    call: "fallocate",
    fd: a.number("fd"),
    mode: a.number("mode"),
    offset: a.number("offset"),
    length: a.number("len"),
  }),
  fork: () => ({ call: "fork" }),
  kill: (a) => ({ call: "kill", pid: a.number("pid") }),

  // ---- what kernel threads do
  clear_flush_young: aging(0),
  clear_young: aging(1),
  test_young: aging(2),
  collapse_huge_page: page("collapse_huge_page"),
  split_huge_page: page("split_huge_page"),
  migrate_pages: page("migrate_pages"),
  shrink_folio_list: (a) => ({ call: "shrink_folio_list", addr: a.number("addr"), force: a.big("force") !== 0n }),
  try_to_merge_two_pages: (a) => ({ call: "try_to_merge_two_pages", addr: a.number("addr"), other: a.number("other") }),
  ttm_bo_evict: (a) => ({ call: "ttm_bo_evict", fd: a.number("fd") }),
  transparent_hugepage: (a) => ({ call: "transparent_hugepage", file: a.text("file"), value: a.text("value") }),
  nr_hugepages: (a) => ({ call: "nr_hugepages", size: a.number("size"), count: a.number("count") }),

  einj_error_inject: page("einj_error_inject"),

  // ---- userfaultfd
  UFFDIO_REGISTER: userfault("uffd_register"),
  UFFDIO_UNREGISTER: userfaultRange("uffd_unregister"),
  UFFDIO_WAKE: userfaultRange("uffd_wake"),
  uffd_read: (a) => ({ call: "uffd_read", uffd: a.number("fd"), wait: true }),
  UFFDIO_COPY: (a) => ({
    call: "uffd_copy",
    uffd: a.number("fd"),
    dst: a.number("dst"),
    src: a.number("src"),
    len: a.number("len"),
    mode: a.number("mode"),
  }),
  UFFDIO_ZEROPAGE: userfault("uffd_zeropage"),
  UFFDIO_CONTINUE: userfault("uffd_continue"),
  UFFDIO_POISON: userfault("uffd_poison"),
  UFFDIO_WRITEPROTECT: userfault("uffd_writeprotect"),

  // ---- caches, buffers and what is on its way
  arm_cacheflush: (a) => ({
    call: "cache_line",
    op: a.number("invalidate_only") !== 0 ? "kernel dc ivac" : "kernel dc civac",
    addr: a.number("addr"),
    length: a.number("length"),
  }),
  migrate_host: (a) => ({ call: "migrate_host", coherent: a.number("coherent") !== 0 }),
  dsb: () => ({ call: "ordering", op: "dsb" }),
  dmb: () => ({ call: "ordering", op: "dmb" }),
  fabric_deliver: () => ({ call: "ordering", op: "fabric_deliver" }),
  fabric_advance: (a) => ({ call: "ordering", op: "fabric_advance", n: a.number("n") }),
  buffer_drain: (a) => ({ call: "ordering", op: "buffer_drain", cpu: a.number("cpu") }),
  buffer_leave: (a) => ({ call: "ordering", op: "buffer_leave", cpu: a.number("cpu"), n: a.number("n") }),
  speculate_guest: (a) => ({ call: "ordering", op: "speculate_guest", cpu: a.vcpu, n: a.number("va") }),
  write_place: (a) => {
    const { index: bar, offset } = a.region("offset");
    return { call: "write_place", fd: a.number("fd"), bar, offset, size: a.number("size") };
  },

  // ---- KVM
  KVM_SET_VCPU_EVENTS: (a) => ({
    call: "KVM_SET_VCPU_EVENTS",
    vcpu: a.vcpu,
    extDabtPending: a.number("ext_dabt_pending") !== 0,
    serrorPending: a.number("serror_pending") !== 0,
  }),
  KVM_SET_USER_MEMORY_REGION: (a, vm) => ({
    call: "KVM_SET_USER_MEMORY_REGION",
    vm,
    ...region(a),
  }),
  KVM_SET_USER_MEMORY_REGION2: (a, vm) => ({
    call: "KVM_SET_USER_MEMORY_REGION2",
    vm,
    ...region(a),
    guestMemfdOffset: a.number("guest_memfd_offset"),
    guestMemfd: a.number("guest_memfd"),
  }),
  KVM_CREATE_GUEST_MEMFD: (a, vm) => ({ call: "KVM_CREATE_GUEST_MEMFD", vm, size: a.number("size"), flags: a.number("flags") }),
  kvm_destroy_vm: (a, vm) => ({ call: "kvm_destroy_vm", vm: a.number("vm") < 0 ? vm : a.number("vm") }),
  other_vms: (a) => ({ call: "other_vms", count: a.number("count") }),
  exit_group: () => ({ call: "exit_group" }),
  KVM_CREATE_IRQCHIP: (_, vm) => ({ call: "KVM_CREATE_IRQCHIP", vm }),
  KVM_ARM_SET_DEVICE_ADDR: (a, vm) => ({ call: "KVM_ARM_SET_DEVICE_ADDR", vm, id: a.number("id"), addr: a.number("addr") }),
  KVM_GET_DIRTY_LOG: (a, vm) => ({ call: "KVM_GET_DIRTY_LOG", vm, slot: a.number("slot") }),
  KVM_CLEAR_DIRTY_LOG: (a, vm) => ({
    call: "KVM_CLEAR_DIRTY_LOG",
    vm,
    slot: a.number("slot"),
    firstPage: a.number("first_page"),
    numPages: a.number("num_pages"),
  }),
  dirty_ring_collect: (a) => ({ call: "dirty_ring_collect", vcpu: a.vcpu }),
  KVM_RESET_DIRTY_RINGS: (_, vm) => ({ call: "KVM_RESET_DIRTY_RINGS", vm }),
  KVM_ENABLE_CAP: (a, vm) => ({ call: "KVM_ENABLE_CAP", vm, cap: a.number("cap"), value: a.number("value") }),
  KVM_CHECK_EXTENSION: (a, vm) => ({ call: "KVM_CHECK_EXTENSION", vm, cap: a.number("cap") }),
  sched_setaffinity: (a) => ({ call: "sched_setaffinity", vcpu: a.vcpu, cpu: a.number("cpu") }),

  // ---- VFIO
  vfio_open: (a) => ({ call: "vfio_open", bdf: a.text("device") }),
  VFIO_DEVICE_GET_REGION_INFO: (a) => ({ call: "VFIO_DEVICE_GET_REGION_INFO", fd: a.number("fd"), index: a.number("index") }),
  VFIO_DEVICE_PCI_HOT_RESET: (a) => ({ call: "VFIO_DEVICE_PCI_HOT_RESET", fd: a.number("fd"), groups: a.number("groups") }),
  VFIO_DEVICE_RESET: (a) => ({ call: "VFIO_DEVICE_RESET", fd: a.number("fd") }),
  VFIO_DEVICE_IOEVENTFD: (a) => ({
    call: "VFIO_DEVICE_IOEVENTFD",
    fd: a.number("fd"),
    ...a.region("offset"),
    size: a.number("size"),
    value: BigInt.asUintN(64, a.big("data")),
    eventfd: a.number("eventfd"),
  }),
  eventfd_signal: (a) => ({ call: "eventfd_signal", eventfd: a.number("eventfd") }),
  VFIO_DEVICE_FEATURE_DMA_BUF: barRange("VFIO_DEVICE_FEATURE_DMA_BUF"),
  VFIO_DEVICE_FEATURE_MMAP_WC: barRange("VFIO_DEVICE_FEATURE_MMAP_WC"),
  pread: (a) => ({ call: "vfio_read", fd: a.number("fd"), ...a.region("offset"), size: a.number("size"), buffer: a.number("buf") }),
  pwrite: (a) => ({ call: "vfio_write", fd: a.number("fd"), ...a.region("offset"), size: a.number("size"), ...written(a) }),
  pci_config_read: (a) => ({ call: "vfio_read", fd: a.number("fd"), ...a.region("offset", config), size: a.number("size") }),
  pci_config_write: (a) => ({
    call: "vfio_write",
    fd: a.number("fd"),
    ...a.region("offset", config),
    size: a.number("size"),
    ...written(a),
  }),
};

const written = (a: CallArguments): { readonly value: bigint } => ({ value: BigInt.asUintN(64, a.big("value")) });

/** read8 … write64: an access of the VMM's. */
const ACCESS = /^(read|write)(8|16|32|64)$/;
/** dma_read8 … dma_write64: a device's. */
const DMA = /^dma_(read|write)(8|16|32|64)$/;

/** The one call of the machine that a call of the script is; undefined: it is several, or none. */
export function hostCall(name: string, a: CallArguments, vm: number): HostCall | undefined {
  const access = ACCESS.exec(name);
  if (access !== null) {
    const size = Number(access[2]) / 8;
    const of = { addr: a.number("addr"), size };
    return access[1] === "read" ? { call: "read", ...of } : { call: "write", ...of, value: BigInt.asUintN(8 * size, a.big("value")) };
  }
  const dma = DMA.exec(name);
  if (dma !== null) {
    const device = a.number("device");
    const size = Number(dma[2]) / 8;
    const of = { addr: a.number("addr"), size, snoop: a.number("snoop") !== 0, ...(device < 0 ? {} : { fd: device }) };
    return dma[1] === "read" ? { call: "dma_read", ...of } : { call: "dma_write", ...of, value: BigInt.asUintN(8 * size, a.big("value")) };
  }
  const op = LINE_CALLS[name];
  if (op !== undefined) return { call: "cache_line", op, addr: a.number("addr"), length: a.number("length") };
  return CALLS[name]?.(a, vm);
}

/** Calls whose value is what they read, no return value. */
const READS = /^(read|dma_read)(8|16|32|64)$|^pread$|^pci_config_read$/;

/** The value of a call in the script. */
export function valueOfCall(name: string, result: CallResult): bigint {
  if (name === "uffd_read") return BigInt(result.userfault?.address ?? result.ret);
  if (name === "VFIO_DEVICE_GET_REGION_INFO") return BigInt(result.region?.size ?? 0);
  return READS.test(name) ? (result.value ?? BigInt(result.ret)) : BigInt(result.ret);
}

/** Is the value of a call worth a word in the story? */
export function showsValue(name: string): boolean {
  return /^(mmap|mremap|VFIO_DEVICE_FEATURE_DMA_BUF|read|write_place|dma_read|uffd_read|pread|pci_config_read|KVM_CHECK_EXTENSION|KVM_GET_ONE_REG)/.test(
    name,
  );
}
