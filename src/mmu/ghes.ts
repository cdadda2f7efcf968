/**
 * A synchronous external abort of a memory error, firmware first (arch/arm64/kernel/acpi.c apei_claim_sea,
 * drivers/acpi/apei/ghes.c): where firmware left an error record, the kernel claims the abort and gives up the page.
 */
import { R0, R2, type Activity } from "../sim/agents.js";
import { EHWPOISON, EOPNOTSUPP } from "../sim/errno.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { MmRow } from "./decisions.js";
import type { MemoryFailure } from "./hwpoison.js";
import type { Sim } from "../sim/sim.js";

/** si_code of the SIGBUS: BUS_MCEERR_AR; SI_KERNEL, of force_sig. */
export const BUS_MCEERR_AR = 4;
export const SI_KERNEL = 0x80;

export class Ghes {
  /** (mm, addr, pfn) -> R0 0 | -errno, R2 the si_addr_lsb of a signal: memory_failure of the frame that a claim gave. (mm, addr) maps it. */
  readonly memoryFailure: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    failure: MemoryFailure,
    private readonly d: MmRow,
  ) {
    this.memoryFailure = failure.hardwareError;
  }

  /** ghes_notify_sea. @returns the frame that the record of the running agent's abort names, -1: nobody claims it */
  claim(): number {
    const { errors } = this.phys;
    if (errors === undefined || this.d.ghesSea === "none") return -1;
    const pa = errors.takeRecord();
    return pa < 0 ? -1 : Math.floor(pa / 4096);
  }

  /**
   * What the task gets when memory_failure has returned to the frame f. A worker has no task to signal: the next access
   * finds the page broken. @returns si_code of a SIGBUS, 0: none
   */
  signal(f: number): number {
    if (this.d.ghesSea !== "task") return 0;
    const s = this.sim.agents.stack.a;
    const ret = s[f + R0]!;
    if (s[f + R2] !== 0) return BUS_MCEERR_AR;
    return ret === 0 || ret === -EHWPOISON || ret === -EOPNOTSUPP ? 0 : SI_KERNEL;
  }
}
