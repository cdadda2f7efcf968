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
  const told = tellingOf(
    {
      length: events.length,
      event: (n) => events[n]!.event,
      agent: (n) => events[n]!.agent,
      field: (n, name) => events[n]![name]!,
    },
    detail,
  );
  return told.map((n) => events[n]!);
}

/** Events in order, in whatever form. */
export interface Events {
  readonly length: number;
  event(n: number): string;
  /** Name or number. */
  agent(n: number): string | number;
  /** As in an EventRecord. */
  field(n: number, name: string): string | number | boolean;
}

/** A question about names, of which a trace has few: each is asked once. */
function answered(question: (name: string) => boolean): (name: string) => boolean {
  const known = new Map<string, boolean>();
  return (name) => {
    let answer = known.get(name);
    if (answer === undefined) known.set(name, (answer = question(name)));
    return answer;
  };
}

/** The numbers of those that `telling` leaves. */
export function tellingOf(events: Events, detail: Detail): number[] {
  const isShown = answered((event) => shown(event, detail));
  const isOfHost = answered((op) => HOST_TLBI.test(op));
  const out: number[] = [];
  // Whether an agent's last TLBI was one that the story shows: then its DSB is shown too.
  const guests = new Map<string | number, boolean>();
  for (let n = 0; n < events.length; n++) {
    const event = events.event(n);
    if (!isShown(event)) continue;
    if (detail !== "all") {
      if (event === "tlbi") {
        const ofGuest = !isOfHost(String(events.field(n, "op")));
        guests.set(events.agent(n), ofGuest);
        if (!ofGuest) continue;
      } else if (event === "dsb") {
        if (Number(events.field(n, "completed")) <= 0 || guests.get(events.agent(n)) === false) continue;
      } else if (event === "kvm_userspace_exit" && events.field(n, "reason") === EXIT_DEBUG && events.field(n, "errno") === 0) continue;
    }
    out.push(n);
  }
  return out;
}
