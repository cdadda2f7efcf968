/** The VMM's own loads and stores. STUB with the final signatures; the body follows. */
import type { Activity } from "../sim/agents.js";

/** hostAccess results: R0 0, or one of these (negative). */
export const HOST_SIGSEGV = -11;
/** -(7 * 256 + si_code): BUS_ADRERR 2, BUS_MCEERR_AR 4. */
export const HOST_SIGBUS_ADRERR = -(7 * 256 + 2);
export const HOST_SIGBUS_MCEERR_AR = -(7 * 256 + 4);

export interface UserAccessShape {
  /** (mm, hva, size 1|2|4|8, write 0|1, lo, hi) -> R0 0 | HOST_*, R1 lo, R2 hi (int32). */
  readonly hostAccess: Activity;
}
