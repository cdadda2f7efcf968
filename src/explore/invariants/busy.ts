/** Whether an agent is inside some operation: states on its way are not states to be asked about. */
import type { Machine } from "../../machine.js";

/** What passes through states in which a page is writable and not in the dirty log. */
export const LOGGING_BUSY = [
  "userMemAbort",
  "kvmVmIoctlGetDirtyLog",
  "kvmVmIoctlClearDirtyLog",
  "kvmSetMemoryRegion",
  "kvmVmIoctlResetDirtyPages",
];

/** True if one of these activities is on some agent's stack. */
export function inside(m: Machine, activities: readonly string[]): boolean {
  const { agents } = m.sim;
  for (let a = 0; a < agents.count; a++)
    if (agents.busy(a) && agents.backtrace(a).some((phase) => activities.includes(phase.slice(0, phase.indexOf(":"))))) return true;
  return false;
}
