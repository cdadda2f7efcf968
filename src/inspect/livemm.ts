/** The address spaces that live: the VMM's is 0, forked children have the others. */
import type { Machine } from "../machine.js";

export function isLive(machine: Machine, mm: number): boolean {
  return machine.mm.isLive(mm);
}
export function liveMms(machine: Machine): number[] {
  return Array.from({ length: machine.mm.mmLimit }, (_, mm) => mm).filter((mm) => isLive(machine, mm));
}
