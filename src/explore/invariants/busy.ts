/** Whether an agent is inside some operation: states on its way are not states to be asked about. */
import type { Machine } from "../../machine.js";
import { PREV } from "../../sim/agents.js";

/** What passes through states in which a page is writable and not in the dirty log. */
export const LOGGING_BUSY = [
  "userMemAbort",
  "kvmVmIoctlGetDirtyLog",
  "kvmVmIoctlClearDirtyLog",
  "kvmSetMemoryRegion",
  "kvmVmIoctlResetDirtyPages",
];

/** By list of activities: for every phase of the machine, 1 if it is one of theirs. */
const phases = new WeakMap<Machine, Map<readonly string[], Uint8Array>>();

function phasesOf(m: Machine, activities: readonly string[]): Uint8Array {
  let known = phases.get(m);
  if (known === undefined) phases.set(m, (known = new Map()));
  let of = known.get(activities);
  if (of === undefined) {
    const { agents } = m.sim;
    const names = Array.from({ length: agents.phases }, (_, n) => agents.phaseName(n).split(":")[0]!);
    for (const name of activities)
      if (!names.includes(name)) throw new Error(`an invariant asks about an activity ${name} that nobody declares`);
    of = Uint8Array.from(names, (name) => (activities.includes(name) ? 1 : 0));
    known.set(activities, of);
  }
  return of;
}

/** True if one of these activities is on an agent's stack. */
export function isInside(m: Machine, agent: number, activities: readonly string[]): boolean {
  const { agents } = m.sim;
  const of = phasesOf(m, activities);
  const s = agents.stack.a;
  for (let f = agents.frame(agent); f >= 0; f = s[f + PREV]!) if (of[s[f]!] === 1) return true;
  return false;
}

/** True if one of these activities is on some agent's stack. */
export function inside(m: Machine, activities: readonly string[]): boolean {
  for (let a = 0; a < m.sim.agents.count; a++) if (isInside(m, a, activities)) return true;
  return false;
}
