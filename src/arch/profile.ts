/** What an implementation may do with an exclusive or atomic access whose type does not support it. */
export const UNSUPPORTED_ATOMICS = ["work", "fault35", "sea", "nop"] as const;
export type UnsupportedAtomics = (typeof UNSUPPORTED_ATOMICS)[number];

/**
 * How the machine treats cases that the architecture leaves open, or that the emulated machine under
 * the recordings did differently. The default is architectural; `RECORDED` departs like that machine.
 */
export interface MachineProfile {
  /** False: DC and IC by address never fault and do nothing to memory. */
  readonly cacheMaintenanceFaults: boolean;
  /** False: an unaligned access or DC ZVA with stage 1 off raises no alignment fault. */
  readonly mmuOffAlignmentFaults: boolean;
  /** PAR_EL1.SH after AT with stage 1 off: "architectural" 10 (Device is outer shareable), "raw" 00. */
  readonly parShareability: "architectural" | "raw";
  /**
   * Level in the FSC of a stage-2 fault on a stage-1 walk: that of the stage-2 entry (the architecture),
   * or that of the stage-1 table being read, as in the recordings on `max` and `cortex-a76`.
   */
  readonly walkFaultLevel: "stage2" | "stage1";
  /**
   * Exclusives and LSE atomics whose resulting type is not shareable Normal write-back: "work" (done
   * non-atomically, as in the recordings), "fault35" (abort with FSC 0x35, to the level whose attributes are
   * the cause), "sea" (synchronous external abort), or "nop" (an atomic does nothing, a store-exclusive
   * never succeeds). Arm ARM B2.2.1 leaves the choice to the implementation.
   */
  readonly unsupportedAtomics: UnsupportedAtomics;
  /**
   * A fetch from memory that a translation calls Device and lets execute (CONSTRAINED UNPREDICTABLE): it
   * works, as Normal Non-cacheable, or it is a permission fault of the stage that says Device.
   */
  readonly fetchFromDevice: "works" | "permission-fault";
  /**
   * HPFAR_EL2 after a stage-2 permission fault of the access itself, where the architecture calls it
   * UNKNOWN: "written" with the IPA, or "stale" (left alone). KVM recomputes it in both cases.
   */
  readonly hpfarOnPermission: "written" | "stale";
  /**
   * FEAT_ETS2 (2), FEAT_ETS3 (3) or neither (0): is the fault of an access ordered after the accesses before
   * it? Asked in weak mode only; nothing else does an access early.
   */
  readonly ets: 0 | 2 | 3;
}

export const ARCHITECTURAL: MachineProfile = Object.freeze({
  cacheMaintenanceFaults: true,
  mmuOffAlignmentFaults: true,
  parShareability: "architectural",
  walkFaultLevel: "stage2",
  unsupportedAtomics: "work",
  fetchFromDevice: "works",
  hpfarOnPermission: "stale",
  ets: 0,
});

/** The machine under the recorded kernels. */
export const RECORDED: MachineProfile = Object.freeze({
  cacheMaintenanceFaults: false,
  mmuOffAlignmentFaults: false,
  parShareability: "raw",
  walkFaultLevel: "stage1",
  unsupportedAtomics: "work",
  fetchFromDevice: "works",
  hpfarOnPermission: "written",
  ets: 0,
});

/** The machine that recorded a CPU's scenarios: for neoverse-v1 a later one, with the architecture's level and shareability. */
export function recordedProfile(cpu: string): MachineProfile {
  return cpu === "neoverse-v1" ? { ...RECORDED, walkFaultLevel: "stage2", parShareability: "architectural" } : RECORDED;
}
