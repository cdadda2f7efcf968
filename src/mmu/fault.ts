/**
 * mm/memory.c, handle_mm_fault and below. STUB with the final signatures; the body follows.
 */
import type { Activity } from "../sim/agents.js";

export * from "./vmfault.js";

export interface HostFaultShape {
  /** (mm, addr, flags) -> R0 VM_FAULT_* (0: mapped). Caller holds the mmap_lock for reading. */
  readonly handleMmFault: Activity;
}
