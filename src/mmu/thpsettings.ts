/**
 * /sys/kernel/mm/transparent_hugepage: the settings that a page fault asks (mm/huge_memory.c enabled_store, mm/shmem.c
 * shmem_enabled_store).
 */
import { EINVAL, ENOENT } from "../sim/errno.js";
import { FaultlineError } from "../sim/errors.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { MmRow } from "./decisions.js";

/** `enabled`: huge pages of anonymous memory, and of drivers that offer them. */
export type ThpPolicy = "always" | "madvise" | "never";
const THP_ENABLED: readonly string[] = ["always", "madvise", "never"] satisfies ThpPolicy[];
export const THP_ALWAYS = 0;
export const THP_MADVISE = 1;

/** `shmem_enabled`: those of memory files. `deny` and `force` are above what the files' own mount says. */
export type ShmemPolicy = "never" | "always" | "within_size" | "advise" | "deny" | "force";
const SHMEM_ENABLED: readonly string[] = ["never", "always", "within_size", "advise", "deny", "force"] satisfies ShmemPolicy[];
export const SHMEM_HUGE_NEVER = 0;
export const SHMEM_HUGE_ALWAYS = 1;
export const SHMEM_HUGE_WITHIN_SIZE = 2;
export const SHMEM_HUGE_ADVISE = 3;
export const SHMEM_HUGE_DENY = 4;
export const SHMEM_HUGE_FORCE = 5;

const ENABLED = 0;
/** shmem_huge. */
const SHMEM = 1;
/** SHMEM_SB(shm_mnt)->huge: memfds and shared anonymous memory lie on that mount. */
const MOUNT = 2;

export class ThpSettings {
  private readonly w: I32Pool;

  /** @throws FaultlineError for a word that is none of a setting's. Without a `shmem_enabled` (up to v4.7) that setting is never. */
  constructor(
    sim: Sim,
    enabled: ThpPolicy,
    shmem: ShmemPolicy,
    private readonly d: MmRow,
  ) {
    this.w = sim.state.i32("thp.settings", 3);
    for (const [name, value, words] of [
      ["enabled", enabled, THP_ENABLED],
      ["shmem_enabled", shmem, SHMEM_ENABLED],
    ] as const)
      if (!words.includes(value)) throw new FaultlineError(`transparent_hugepage/${name} is one of ${words.join(", ")}, not ${value}`);
    this.store("enabled", enabled);
    this.store("shmem_enabled", shmem);
  }

  /** THP_*. */
  get enabled(): number {
    return this.w.a[ENABLED]!;
  }
  /** shmem_huge: a SHMEM_HUGE_*; only DENY and FORCE matter. */
  get shmemHuge(): number {
    return this.w.a[SHMEM]!;
  }
  /** SHMEM_SB(shm_mnt)->huge: SHMEM_HUGE_NEVER to SHMEM_HUGE_ADVISE. */
  get shmMnt(): number {
    return this.w.a[MOUNT]!;
  }

  /** Mappings of memory files are aligned as huge pages of theirs need it (shmem_get_unmapped_area). */
  get alignsShmem(): boolean {
    const { shmemHuge } = this;
    return shmemHuge !== SHMEM_HUGE_DENY && (shmemHuge === SHMEM_HUGE_FORCE || this.shmMnt !== SHMEM_HUGE_NEVER);
  }

  /** Writes a file of the directory. @returns 0, -ENOENT or -EINVAL */
  store(file: string, value: string): number {
    if (file === "enabled") {
      const n = THP_ENABLED.indexOf(value);
      if (n < 0) return -EINVAL;
      this.w.set(ENABLED, n);
      return 0;
    }
    if (file !== "shmem_enabled" || this.d.shmemHugePages === "none") return -ENOENT;
    const n = SHMEM_ENABLED.indexOf(value);
    if (n < 0) return -EINVAL;
    this.w.set(SHMEM, n);
    if (this.d.shmemEnabledMount === "others") {
      if (n < SHMEM_HUGE_DENY) this.w.set(MOUNT, n);
    } else if (n === SHMEM_HUGE_FORCE) this.w.set(MOUNT, SHMEM_HUGE_ALWAYS); // FORCE, which the faults take for no limit
    return 0;
  }
}
