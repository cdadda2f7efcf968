/**
 * What KVM chooses for stage 2 (arch/arm64/kvm/reset.c, hyp/pgtable.c kvm_get_vtcr): the IPA size of
 * a VM and the VTCR_EL2 that announces its tables. The arithmetic of levels and concatenated roots
 * is the architecture's and lies in src/arch/geometry.ts.
 */
import type { CpuFeatures } from "../arch/features.js";
import { paRangeOf, stage2Geometry, VTCR_DS_HI, vtcrWord, type Stage2Geometry } from "../arch/geometry.js";
import { EINVAL } from "../sim/errno.js";

export { stage2Geometry, type Stage2Geometry };

/** The host's limit for IPA sizes in bits (kvm_set_ipa_limit): PARange, capped at 48 without LPA2 or 64 KiB pages. */
export function ipaLimit(features: Pick<CpuFeatures, "paBits" | "lpa2">, lpa2Used: boolean, pageShift = 12): number {
  const wide = pageShift === 16 || (features.lpa2 && lpa2Used);
  return wide ? features.paBits : Math.min(features.paBits, 48);
}

/** How KVM_CREATE_VM answers an IPA size. */
export interface IpaSizeRules {
  /** The type argument is looked at; else every VM has 40 bits and the argument must be 0. */
  readonly fromArgument: boolean;
  /** Type 0 (40 bits) beyond the host's limit is refused. */
  readonly defaultMustFit: boolean;
}

/**
 * The IPA size that a KVM_CREATE_VM type asks for (kvm_arm_setup_stage2).
 * @returns bits, or -EINVAL: unknown bits in the type, below 32, above the host's limit
 */
export function ipaBitsOfType(type: number, limit: number, rules: IpaSizeRules): number {
  if (!rules.fromArgument) return type === 0 ? 40 : -EINVAL;
  if (type < 0 || type > 0xff) return -EINVAL;
  if (type === 0) return limit < 40 && rules.defaultMustFit ? -EINVAL : 40;
  return type < 32 || type > limit ? -EINVAL : type;
}

/** What VTCR_EL2 depends on besides the geometry. */
export interface VtcrOptions {
  readonly paBits: number;
  /** VTCR_EL2.HA. */
  readonly hardwareAccessFlag: boolean;
  /** VTCR_EL2.DS. */
  readonly lpa2: boolean;
  /** 16-bit VMIDs: VTCR_EL2.VS. */
  readonly vmid16: boolean;
}

/** VTCR_EL2 as high and low word (kvm_get_vtcr). HD is never set: KVM does not use hardware dirty state. */
export function vtcr(geometry: Stage2Geometry, options: VtcrOptions): readonly [hi: number, lo: number] {
  const wide = options.lpa2 || geometry.pageShift === 16;
  const ps = paRangeOf(wide ? options.paBits : Math.min(options.paBits, 48));
  return [options.lpa2 ? VTCR_DS_HI : 0, vtcrWord(geometry, ps, options.vmid16, options.hardwareAccessFlag)];
}
