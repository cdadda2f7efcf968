/**
 * Lock classes and the order in which the kernel takes them, as lockdep would report a departure from it
 * (kernel/locking/lockdep.c; the order: "Lock ordering in mm" at the top of mm/rmap.c,
 * Documentation/virt/kvm/locking.rst, the comments on lock order in drivers/vfio/pci).
 *
 * All locks of one kind are one class, as there. The order is declared, not learned: a report depends on
 * what an agent holds now and never on what ran before, so equal states report the same.
 */
import { declareEvent } from "./events.js";

export const lockdepReport = declareEvent(
  "faultline",
  "lockdep_report",
  "a lock was asked for against the kernel's order, or by who holds it, or what it guards changed without it",
  [
    { name: "kind", kind: "enum", values: ["inversion", "recursion", "self_deadlock", "not_held"] },
    { name: "lock", kind: "name" },
    { name: "held", kind: "name", unit: "the lock held meanwhile" },
  ],
);

export const INVERSION = 0;
/** A reader that reads again: it deadlocks as soon as a writer waits in between. */
export const RECURSION = 1;
/** Nobody can ever give the lock back. */
export const SELF_DEADLOCK = 2;
/** lockdep_assert_held: what the lock guards was touched by who does not hold it. */
export const NOT_HELD = 3;

/** Outermost first. A lock of a class may be taken while locks of earlier classes are held. */
export const LOCK_ORDER = ["slots_lock", "mmap_lock", "vma_lock", "memory_lock", "device_lock", "page_table_lock", "mmu_lock"] as const;

/** The place of a lock's class in the order, by the lock's name ("mmap_lock.1", "memory_lock 0000:00:04.0"); -1: a class without one. */
export function lockRank(name: string): number {
  const cls = /^[a-z_]+/.exec(name)?.[0] ?? "";
  return (LOCK_ORDER as readonly string[]).indexOf(cls);
}
