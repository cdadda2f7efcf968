/**
 * What the fault path asks of the machine around it, as far as it is not a class of this room: the
 * CPU that runs guest code and the processing element.
 */

/** Reasons why `GuestCpu.run` came back. */
export const RUN_BUDGET = 0;
/** An abort or trap for EL2, latched in ESR_EL2, FAR_EL2 and HPFAR_EL2. */
export const RUN_EL2 = 1;
/** The PC reached STOP_PC. */
export const RUN_BREAKPOINT = 2;
export const RUN_WFI = 3;
/** A branch to itself: the guest makes no progress. */
export const RUN_SELF_BRANCH = 4;

/** Interprets guest code on the running agent's physical CPU (src/arch/cpu.ts). */
export interface GuestCpu {
  /** Runs vCPU v for at most `budget` instructions. @returns RUN_* */
  run(v: number, budget: number): number;
}

/** Address translation by the processing element (src/arch/pe.ts). */
export interface GuestPe {
  /** AT: fills PAR_EL1. @returns 0, or that it ended in an exception. */
  at(v: number, op: number, vaHi: number, vaLo: number): number;
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
/** Being deleted or moved: faults see no slot. */
export const KVM_MEMSLOT_INVALID = 1 << 16;
