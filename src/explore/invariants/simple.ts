/** Invariants that one event breaks: the model tells the event, whoever caused it. */
import { hex, type Invariant } from "./invariant.js";

export const hostAlive: Invariant = {
  name: "host-alive",
  statement: "The host never crashes.",
  source: "every BUG(), oops and use of freed memory that the model knows is the event host_crash",
  on: {
    host_crash: (w, _agent, ring, at) =>
      `the host crashed in ${w.machine.sim.bus.nameOf(ring[at]!)}: ${w.machine.sim.bus.nameOf(ring[at + 1]!)}`,
  },
};

export const breakBeforeMake: Invariant = {
  name: "break-before-make",
  statement: "A live descriptor changes its address, size, type or attributes only by way of an invalid one.",
  source: "Arm ARM D8.16.1, using break-before-make when updating translation table entries",
  on: {
    break_before_make_violation: (_w, _agent, ring, at) =>
      `entry ${ring[at + 1]} of the table at ${hex(ring[at]!)} was changed while it was live`,
  },
};

/** Events carry addresses as two words: high, low. */
const wide = (ring: Float64Array, at: number): number => (ring[at]! >>> 0) * 4294967296 + (ring[at + 1]! >>> 0);

export const noStaleUse: Invariant = {
  name: "no-stale-translation",
  statement: "The guest never reaches a page through a translation that the tables no longer give.",
  source: "Documentation/mm/mmu_notifier.rst; Arm ARM D8.14 TLB maintenance requirements",
  on: {
    // regime 0: the guest's. A wider permission alone is the dirty log's affair.
    stale_translation: (_w, _agent, ring, at) =>
      ring[at + 2] === 0 && Math.floor(ring[at + 4]! / 4096) !== Math.floor(ring[at + 5]! / 4096)
        ? `an access to ${hex(wide(ring, at))} used the old page ${hex(ring[at + 4]!)}; ${ring[at + 6]} TLBI wait for a DSB`
        : undefined,
  },
};

export const memoryDisabled: Invariant = {
  name: "no-access-while-disabled",
  statement: "No access arrives at a device while its memory decode is off.",
  source: "vfio-pci: Invalidate mmaps and block MMIO access on disabled memory (abafbc551fdd); PCI Express Base 7.5.1.1.3",
  on: {
    pci_unclaimed: (w, _agent, ring, at) =>
      `${ring[at + 2] !== 0 ? "a write" : "a read"} at ${hex(ring[at]!)} found the decode of ${w.machine.sim.bus.nameOf(ring[at + 3]!)} off`,
  },
};
