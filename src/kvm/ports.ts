/**
 * What the fault path asks of the machine around it, as far as it is not a class of this room: the
 * CPU that runs guest code and the processing element.
 */

/** Interprets guest code on the running agent's physical CPU (src/arch/cpu.ts). */
export interface GuestCpu {
  /** Runs vCPU v for at most `budget` instructions. @returns RUN_* */
  run(v: number, budget: number): number;
  /** Instructions that the last run executed, with the one that it ended in. */
  readonly executed: number;
}

/** Address translation by the processing element (src/arch/pe.ts). */
export interface GuestPe {
  /** The IPA of a guest VA by AT S1E1R, PAR_EL1 untouched; -1 when stage 1 (or a stage-2 fault on its walk) says no. */
  translateIpa(v: number, vaHi: number, vaLo: number): number;
  /** Acts before each instruction of a guest (weak mode); undefined: nothing happens between instructions. */
  readonly hardware: { act(v: number): void } | undefined;
  /** Takes the physical SError that is pending on the running CPU. @returns READ_SERROR, READ_UNCONTAINED; 0: there is none */
  takeSerror(): number;
}

/** The memslots of all VMs (memslots.ts). */
export interface MemslotsPort {
  /** gfn_to_memslot: the slot that contains gfn, valid or not, or -1. */
  find(vm: number, gfn: number): number;
  id(slot: number): number;
  baseGfn(slot: number): number;
  npages(slot: number): number;
  userspaceAddr(slot: number): number;
  flags(slot: number): number;
}
export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;
/** The slot's pages are those of a guest_memfd (KVM_SET_USER_MEMORY_REGION2). */
export const KVM_MEM_GUEST_MEMFD = 1 << 2;
/** As proposed in Mar 2015; the number is ours. */
export const KVM_MEM_INCOHERENT = 1 << 3;
/** As proposed in Oct 2023: userspace_addr names a place in a dma-buf, and there is no VMA; the number is ours. */
export const KVM_MEM_DMABUF = 1 << 4;
/** What lies behind such a memslot: the exporter. */
export interface DmaBufPort {
  /** The page frame, or -1: revoked. */
  pfnAt(name: number): number;
}
/** The files behind memslots with KVM_MEM_GUEST_MEMFD (guestmemfd.ts). */
export interface GuestMemfdPort {
  /** kvm_gmem_bind. @returns 0 or -errno */
  bind(vm: number, slot: number, fd: number, offset: number): number;
  /** KVM_MEMSLOT_GMEM_ONLY */
  gmemOnly(slot: number): boolean;
}
/** Being deleted or moved: faults see no slot. */
export const KVM_MEMSLOT_INVALID = 1 << 16;
