/**
 * Which events tell the story of a run. Everything can be seen with `--events all`; a person who
 * reads a trace wants the faults, what the kernel concluded, and what changed.
 */
import type { EventRecord } from "../sim/events.js";

const STORY = new Set([
  "kvm_guest_fault",
  "kvm_access_fault",
  "kvm_unmap_hva_range",
  "kvm_unmap_hva",
  "kvm_set_spte_hva",
  "kvm_mmio",
  "kvm_mmio_nisv",
  "kvm_userspace_exit",
  "kvm_hvc_arm64",
  "kvm_dirty_ring_push",
  "kvm_dirty_ring_exit",
  "guest_abort",
  "pfn_lookup",
  "mmu_retry",
  "stage2_set",
  "stage2_set_huge",
  "stage2_map",
  "stage2_relax",
  "stage2_unmap",
  "stage2_wrprotect",
  "stage2_split",
  "eager_map",
  "dcache_clean",
  "icache_inval",
  "stale_read",
  "write_lost",
  "dirty_line_dropped",
  "inject_pabt",
  "inject_dabt",
  "inject_sea",
  "inject_vabt",
  "inject_size",
  "inject_undef",
  "exception_injected",
  "exit_abandoned",
  "host_signal",
  "host_crash",
  "break_before_make_violation",
  "stale_translation",
  "vfio_mmap",
  "vfio_fault",
  "vfio_huge_fault",
  "vfio_zap",
  "vfio_memory_enable",
  "vfio_reset",
  "pci_reset",
  "device_reclaim",
  "late_write",
  "aer_event",
  "bus_unclaimed",
  "pci_unclaimed",
  "device_read",
  "device_write",
]);

/** What `--explain` adds: what was asked and what answered. */
const WHY = new Set(["memslot_lookup", "vma_lookup", "fault_vma", "host_walk", "decision", "branch"]);
/** Shown when they complete something: a TLBI, and the DSB that waited for one. */
const MAINTENANCE = new Set(["tlbi", "dsb"]);

export type Detail = "none" | "story" | "explain" | "all";

export function shown(event: string, detail: Detail): boolean {
  switch (detail) {
    case "none":
      return false;
    case "all":
      return true;
    case "explain":
      return STORY.has(event) || WHY.has(event) || MAINTENANCE.has(event);
    case "story":
      return STORY.has(event) || MAINTENANCE.has(event);
  }
}

/** TLBIs of a process's own addresses, which the host makes whenever it changes its page tables. */
const HOST_TLBI = /^r?va[al]*e[12]|^aside[12]/;

/** KVM_EXIT_DEBUG: the breakpoint behind a guest block, which is Faultline's and not the script's. */
const EXIT_DEBUG = 4;

/** Leaves out what says nothing in a story: the host's TLBIs for itself, a DSB that completes none, the exit at the end of a block. */
export function telling(events: readonly EventRecord[], detail: Detail): EventRecord[] {
  const wanted = events.filter((e) => shown(e.event, detail));
  if (detail === "all") return wanted;
  // Whether an agent's last TLBI was one that the story shows: then its DSB is shown too.
  const guests = new Map<string, boolean>();
  return wanted.filter((e) => {
    if (e.event === "tlbi") {
      const ofGuest = !HOST_TLBI.test(String(e["op"]));
      guests.set(e.agent, ofGuest);
      return ofGuest;
    }
    if (e.event === "dsb") return Number(e["completed"]) > 0 && guests.get(e.agent) !== false;
    return !(e.event === "kvm_userspace_exit" && e["reason"] === EXIT_DEBUG && e["errno"] === 0);
  });
}
