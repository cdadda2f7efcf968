/**
 * Who changes something holds its lock, and asks for locks in the kernel's order: what lockdep_assert_held,
 * mmap_assert_locked and lockdep check in a running kernel.
 *
 * memory, per agent and class of lock: readers it is + WRITER if it writes; per agent: 1 when it has, or has had, mmap_lock for writing
 * and has held it since. Last: what the VMAs were, as a hash.
 */
import type { Machine } from "../../machine.js";
import { NOT_HELD } from "../../sim/lockdep.js";
import { GROUP_VMAS } from "../groups.js";
import { inside, isInside } from "./busy.js";
import type { Invariant, OnEvent, Watch } from "./invariant.js";

const CLASSES = ["mmu_lock", "slots_lock", "mmap_lock", "memory_lock", "anon_vma_lock", "vma_lock", "device_lock"] as const;
type Class = (typeof CLASSES)[number];
const WRITER = 64;
const AGENTS = 32;
const WORDS = CLASSES.length + 1;
const WROTE = CLASSES.length;
const VMAS = AGENTS * WORDS;

/** Numbers of names are the bus's own. */
const classes = new WeakMap<Machine, Map<number, number>>();

/** The class of a lock, -1 one that is not watched. */
function classOf(m: Machine, name: number): number {
  let known = classes.get(m);
  if (known === undefined) classes.set(m, (known = new Map()));
  let cls = known.get(name);
  if (cls === undefined) {
    const text = m.sim.bus.nameOf(name);
    known.set(name, (cls = CLASSES.findIndex((c) => text.startsWith(c))));
  }
  return cls;
}

const holds = (w: Watch, agent: number, cls: Class): boolean =>
  agent >= AGENTS || w.memory.a[w.at + agent * WORDS + CLASSES.indexOf(cls)]! !== 0;

/** An event that comes only from who holds a lock. */
const under =
  (cls: Class, what: string, unless?: (m: Machine) => boolean): OnEvent =>
  (w, agent) =>
    holds(w, agent, cls) || unless?.(w.machine) === true ? undefined : `${w.machine.sim.agents.name(agent)} ${what} without ${cls}`;

const noMemoryLock = (m: Machine): boolean => m.vfioPci.d.vfioMemoryLock === "none";
/** The process's own faults, which from v6.4 on try the VMA's lock first (lock_vma_under_rcu). */
const OWN_FAULT = ["hostAccess"];
/** Who walks the mappings of a file holds its i_mmap_rwsem, which is no lock of its own here; an address space that ends has no other user. */
const FILE_WALK = ["unmapMappingRange", "exitMmap"];

const TRY_RESET = ["pciTryResetFunction"];
/** DESC_AF in the low word of an entry of the host. */
const ACCESS_FLAG = 1 << 10;

/** Entries of the host change under one of the locks that keep the tables from being freed; the access flag needs the table's lock alone. */
const hostEntry: OnEvent = (w, agent, ring, at) =>
  (ring[at + 4] === ring[at + 6] && ((ring[at + 5]! ^ ring[at + 7]!) & ~ACCESS_FLAG) === 0) ||
  holds(w, agent, "mmap_lock") ||
  holds(w, agent, "anon_vma_lock") ||
  (w.machine.era.mm.perVmaLock && inside(w.machine, OWN_FAULT)) ||
  inside(w.machine, FILE_WALK)
    ? undefined
    : `${w.machine.sim.agents.name(agent)} changed an entry of the host's tables without mmap_lock or anon_vma_lock`;

export const lockHeld: Invariant = {
  name: "lock-held",
  statement:
    "Stage-2 entries change under mmu_lock; memslots, copied dirty bits and harvested rings under slots_lock; VMAs under mmap_lock for writing, and are looked up under it; the host's entries under it or the lock of the reverse mapping, never while another agent holds the lock of their table, and aging holds that one itself; a table gives way to a huge page under the lock of the reverse mapping; tracked VMAs of a device are zapped under vma_lock; memory decode is switched and a device reset under memory_lock.",
  source:
    "Documentation/virt/kvm/locking.rst; Documentation/mm/process_addrs.rst; include/linux/mmap_lock.h mmap_assert_locked; drivers/vfio/pci: Invalidate mmaps and block MMIO access on disabled memory",
  words: VMAS + 1,
  on: {
    lock_acquired: (w, agent, ring, at) => {
      const cls = classOf(w.machine, ring[at]!);
      if (cls < 0 || agent >= AGENTS) return undefined;
      const p = w.at + agent * WORDS;
      w.memory.set(p + cls, w.memory.a[p + cls]! + (ring[at + 1] === 1 ? WRITER : 1));
      if (CLASSES[cls] === "mmap_lock" && ring[at + 1] === 1) w.memory.set(p + WROTE, 1);
      return undefined;
    },
    lock_released: (w, agent, ring, at) => {
      const cls = classOf(w.machine, ring[at]!);
      if (cls < 0 || agent >= AGENTS) return undefined;
      const p = w.at + agent * WORDS;
      w.memory.set(p + cls, Math.max(0, w.memory.a[p + cls]! - (ring[at + 1] === 1 ? WRITER : 1)));
      return undefined;
    },
    stage2_entry: under("mmu_lock", "changed a stage-2 entry"),
    memslots_published: under("slots_lock", "published memslots"),
    // From v6.4 on the process's own faults try the VMA's lock first (lock_vma_under_rcu).
    vma_lookup: under("mmap_lock", "looked up a VMA", (m) => m.era.mm.perVmaLock && inside(m, OWN_FAULT)),
    host_entry: hostEntry,
    kvm_dirty_ring_reset: under("slots_lock", "reset a dirty ring"),
    vfio_zap_vma: under("vma_lock", "zapped a tracked VMA"),
    lockdep_report: (w, agent, ring, at) =>
      ring[at] === NOT_HELD
        ? `${w.machine.sim.agents.name(agent)} touches what ${w.machine.sim.bus.nameOf(ring[at + 1]!)} guards without it`
        : undefined,
    pci_reset: (w, agent) => {
      const { agents } = w.machine.sim;
      if (!noMemoryLock(w.machine) && !holds(w, agent, "memory_lock")) return `${agents.name(agent)} reset a device without memory_lock`;
      return isInside(w.machine, agent, TRY_RESET) && !holds(w, agent, "device_lock")
        ? `${agents.name(agent)} reset a function without its device_lock`
        : undefined;
    },
    dirty_log_copied: under("slots_lock", "copied dirty bits"),
    vfio_memory_enable: under("memory_lock", "switched memory decode", noMemoryLock),
  },
  after: (w, agent) => {
    if (agent >= AGENTS) return undefined;
    const { agents } = w.machine.sim;
    const phase = agents.innermost(agent);
    if (phase >= 0 && agents.phaseName(phase) === VMA_WALK && !holds(w, agent, "mmap_lock"))
      return `${agents.name(agent)} walks VMAs without mmap_lock`;
    const p = w.at + agent * WORDS;
    const now = w.machine.sim.state.hashLo[GROUP_VMAS]!;
    const then = w.memory.a[w.at + VMAS]!;
    const wrote = w.memory.a[p + WROTE] === 1;
    // munmap goes on as a reader (v4.20 on): nobody else has come between.
    if (wrote && w.memory.a[p + CLASSES.indexOf("mmap_lock")] === 0) w.memory.set(p + WROTE, 0);
    if (now === then) return undefined;
    w.memory.set(w.at + VMAS, now);
    // The first step finds what there was before.
    return wrote || then === 0 ? undefined : `${w.machine.sim.agents.name(agent)} changed VMAs without mmap_lock for writing`;
  },
};

/** Slot creation goes from VMA to VMA here, without looking any up by its address. */
const VMA_WALK = "kvmSetMemoryRegion:prepare-vma";

const KINDS = ["against the kernel's order", "for reading once more", "which it holds already"];

export const lockOrder: Invariant = {
  name: "lock-order",
  statement: "No agent asks for a lock against the kernel's order of locks, nor for one that it holds.",
  source: "Documentation/locking/lockdep-design.rst; the order: Documentation/virt/kvm/locking.rst, mm/rmap.c, drivers/vfio/pci",
  on: {
    lockdep_report: (w, agent, ring, at) => {
      const { bus, agents } = w.machine.sim;
      if (ring[at] === NOT_HELD) return undefined;
      return `${agents.name(agent)} asks for ${bus.nameOf(ring[at + 1]!)} ${KINDS[ring[at]!]}, holding ${bus.nameOf(ring[at + 2]!)}`;
    },
  },
};
