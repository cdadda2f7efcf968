/**
 * CPU models: the optional features of the architecture that the fault path asks, and what a guest
 * reads in the identification registers. The four profiles are the CPUs of the recordings
 * (recordings/README.md); a profile of the user's own is a base plus changed features, and its
 * identification registers follow.
 */

import { closest } from "fastest-levenshtein";
import { FaultlineError } from "../sim/errors.js";

/** A 64-bit value as two words, high first. */
export type Words = readonly [hi: number, lo: number];

/** The switches of a profile. */
export interface FeatureSwitches {
  /** Virtualization Host Extensions: KVM runs at EL2 with its host. */
  readonly vhe: boolean;
  /** FEAT_S2FWB: stage 2 can force write-back. */
  readonly s2fwb: boolean;
  /** CTR_EL0.IDC, or implied by the cache hierarchy: no data clean to PoU needed. */
  readonly idc: boolean;
  /** CTR_EL0.DIC: no instruction invalidation needed. */
  readonly dic: boolean;
  /** FEAT_XNX: separate execute-never for EL1 and EL0 at stage 2. */
  readonly xnx: boolean;
  /** FEAT_HAFDBS: hardware access flag and dirty state. */
  readonly hafdbs: boolean;
  /** FEAT_TLBIRANGE. */
  readonly tlbiRange: boolean;
  /** FEAT_TLBIOS: outer-shareable TLB maintenance. */
  readonly tlbiOs: boolean;
  /** FEAT_XS: the nXS forms of TLBI and DSB. */
  readonly xs: boolean;
  /** FEAT_TTL: level hint in TLBI operands. */
  readonly ttl: boolean;
  /** FEAT_LPA2: 52-bit addresses with 4 KiB pages. */
  readonly lpa2: boolean;
  /** FEAT_LSE: single-instruction atomics. */
  readonly lse: boolean;
  /** FEAT_LRCPC: LDAPR. */
  readonly rcpc: boolean;
  /** FEAT_PAN. */
  readonly pan: boolean;
  /** FEAT_UAO. */
  readonly uao: boolean;
  /** FEAT_DIT. */
  readonly dit: boolean;
  /** FEAT_BTI: PSTATE.BTYPE and guarded pages. */
  readonly bti: boolean;
  /** FEAT_MTE2. */
  readonly mte: boolean;
  /** FEAT_RAS. */
  readonly ras: boolean;
  /** FEAT_SSBS. */
  readonly ssbs: boolean;
}

/** Identification registers as the guest reads them where nothing narrows them. */
export interface IdRegisters {
  readonly MIDR_EL1: Words;
  readonly REVIDR_EL1: Words;
  /** As the system sees it: IDC set also where only the cache hierarchy implies it. */
  readonly CTR_EL0: Words;
  readonly DCZID_EL0: Words;
  readonly CLIDR_EL1: Words;
  readonly CCSIDR_EL1: Words;
  readonly ID_AA64PFR0_EL1: Words;
  readonly ID_AA64PFR1_EL1: Words;
  readonly ID_AA64DFR0_EL1: Words;
  readonly ID_AA64ISAR0_EL1: Words;
  readonly ID_AA64ISAR1_EL1: Words;
  readonly ID_AA64MMFR0_EL1: Words;
  readonly ID_AA64MMFR1_EL1: Words;
  readonly ID_AA64MMFR2_EL1: Words;
}

export interface CpuFeatures extends FeatureSwitches {
  readonly name: string;
  /** Implemented physical address bits (ID_AA64MMFR0_EL1.PARange). */
  readonly paBits: number;
  /** 8 or 16. */
  readonly vmidBits: number;
  readonly id: IdRegisters;
  /** CTR_EL0 as the CPU itself holds it: without IDC where that is only implied (kernels that do not trap the read show this). */
  readonly ctrRaw: Words;
}

const NONE: Words = [0, 0];

/** [register, bit, width, value when on]: the field that announces a feature. */
const ID_FIELDS: Readonly<Partial<Record<keyof FeatureSwitches, readonly [keyof IdRegisters, number, number, number]>>> = {
  vhe: ["ID_AA64MMFR1_EL1", 8, 4, 1],
  xnx: ["ID_AA64MMFR1_EL1", 28, 4, 1],
  hafdbs: ["ID_AA64MMFR1_EL1", 0, 4, 2],
  pan: ["ID_AA64MMFR1_EL1", 20, 4, 2],
  s2fwb: ["ID_AA64MMFR2_EL1", 40, 4, 1],
  ttl: ["ID_AA64MMFR2_EL1", 48, 4, 1],
  uao: ["ID_AA64MMFR2_EL1", 4, 4, 1],
  lpa2: ["ID_AA64MMFR0_EL1", 28, 4, 1],
  tlbiRange: ["ID_AA64ISAR0_EL1", 56, 4, 2],
  lse: ["ID_AA64ISAR0_EL1", 20, 4, 2],
  rcpc: ["ID_AA64ISAR1_EL1", 20, 4, 1],
  dit: ["ID_AA64PFR0_EL1", 48, 4, 1],
  ras: ["ID_AA64PFR0_EL1", 28, 4, 1],
  bti: ["ID_AA64PFR1_EL1", 0, 4, 1],
  ssbs: ["ID_AA64PFR1_EL1", 4, 4, 2],
  idc: ["CTR_EL0", 28, 1, 1],
  dic: ["CTR_EL0", 29, 1, 1],
};

const PA_RANGES = [32, 36, 40, 42, 44, 48, 52];

function field(w: Words, bit: number, width: number): number {
  const word = bit >= 32 ? w[0] : w[1];
  return (word >>> (bit & 31)) & ((1 << width) - 1);
}
function withField(w: Words, bit: number, width: number, value: number): Words {
  const mask = ((1 << width) - 1) << (bit & 31);
  const bits = value << (bit & 31);
  return bit >= 32 ? [(w[0] & ~mask) | bits, w[1]] : [w[0], (w[1] & ~mask) | bits];
}

/** Splits a hexadecimal literal, so that the tables read as in the README. */
function words(hex: string): Words {
  const digits = hex.replaceAll("_", "").slice(2).padStart(16, "0");
  return [parseInt(digits.slice(0, 8), 16) | 0, parseInt(digits.slice(8), 16) | 0];
}

/** What a guest reads where the recordings do not say: 64-byte lines, two cache levels, ZVA of 64 bytes. */
const COMMON: Pick<IdRegisters, "REVIDR_EL1" | "DCZID_EL0" | "CLIDR_EL1" | "CCSIDR_EL1" | "ID_AA64DFR0_EL1"> = {
  REVIDR_EL1: NONE,
  DCZID_EL0: [0, 4],
  CLIDR_EL1: words("0x0a200023"),
  CCSIDR_EL1: words("0x701fe00a"),
  ID_AA64DFR0_EL1: words("0x10305006"),
};

const MAX: CpuFeatures = {
  name: "max",
  vhe: true,
  s2fwb: true,
  idc: true,
  dic: false,
  xnx: true,
  hafdbs: true,
  tlbiRange: true,
  tlbiOs: true,
  xs: true,
  ttl: true,
  lpa2: true,
  lse: true,
  rcpc: true,
  pan: true,
  uao: true,
  dit: true,
  bti: true,
  mte: true,
  ras: true,
  ssbs: true,
  paBits: 52,
  vmidBits: 16,
  ctrRaw: words("0x8444c004"),
  id: {
    ...COMMON,
    MIDR_EL1: words("0xf0510"),
    CTR_EL0: words("0x9444c004"),
    ID_AA64PFR0_EL1: words("0x1101001020110222"),
    ID_AA64PFR1_EL1: words("0x21"),
    ID_AA64ISAR0_EL1: words("0x1221111110212120"),
    ID_AA64ISAR1_EL1: words("0x0111111101211052"),
    ID_AA64MMFR0_EL1: words("0x32310201126"),
    ID_AA64MMFR1_EL1: words("0x11010211122"),
    ID_AA64MMFR2_EL1: words("0x1021011010011011"),
  },
};

const CORTEX_A76: CpuFeatures = {
  ...MAX,
  name: "cortex-a76",
  s2fwb: false,
  tlbiRange: false,
  tlbiOs: false,
  xs: false,
  ttl: false,
  lpa2: false,
  uao: true,
  dit: false,
  bti: false,
  mte: false,
  paBits: 40,
  vmidBits: 16,
  id: {
    ...COMMON,
    MIDR_EL1: words("0x414fd0b1"),
    CTR_EL0: words("0x9444c004"),
    ID_AA64PFR0_EL1: words("0x1100000010110112"),
    ID_AA64PFR1_EL1: words("0x20"),
    ID_AA64ISAR0_EL1: words("0x0000100010211120"),
    ID_AA64ISAR1_EL1: words("0x00100001"),
    ID_AA64MMFR0_EL1: words("0x101122"),
    ID_AA64MMFR1_EL1: words("0x10212122"),
    ID_AA64MMFR2_EL1: words("0x1011"),
  },
};

const NEOVERSE_V1: CpuFeatures = {
  ...MAX,
  name: "neoverse-v1",
  dic: true,
  tlbiRange: false,
  tlbiOs: false,
  xs: false,
  ttl: false,
  lpa2: false,
  bti: false,
  mte: false,
  paBits: 48,
  vmidBits: 16,
  ctrRaw: words("0xb444c004"),
  id: {
    ...COMMON,
    MIDR_EL1: words("0x411fd402"),
    CTR_EL0: words("0xb444c004"),
    ID_AA64PFR0_EL1: words("0x1101000020110112"),
    ID_AA64PFR1_EL1: words("0x20"),
    ID_AA64ISAR0_EL1: words("0x0011111110212120"),
    ID_AA64ISAR1_EL1: words("0x00211052"),
    ID_AA64MMFR0_EL1: words("0x101125"),
    ID_AA64MMFR1_EL1: words("0x10212122"),
    ID_AA64MMFR2_EL1: words("0x220011100001011"),
  },
};

const CORTEX_A72: CpuFeatures = {
  ...MAX,
  name: "cortex-a72",
  vhe: false,
  s2fwb: false,
  idc: false,
  xnx: false,
  hafdbs: false,
  tlbiRange: false,
  tlbiOs: false,
  xs: false,
  ttl: false,
  lpa2: false,
  lse: false,
  rcpc: false,
  pan: false,
  uao: false,
  dit: false,
  bti: false,
  mte: false,
  ras: false,
  ssbs: false,
  paBits: 44,
  vmidBits: 8,
  id: {
    ...COMMON,
    MIDR_EL1: words("0x410fd083"),
    CTR_EL0: words("0x8444c004"),
    ID_AA64PFR0_EL1: words("0x1000000000000222"),
    ID_AA64PFR1_EL1: NONE,
    ID_AA64ISAR0_EL1: words("0x11120"),
    ID_AA64ISAR1_EL1: NONE,
    ID_AA64MMFR0_EL1: words("0x1124"),
    ID_AA64MMFR1_EL1: NONE,
    ID_AA64MMFR2_EL1: NONE,
  },
};

/** The bundled profiles, by name. */
export const CPU_PROFILES: Readonly<Record<string, CpuFeatures>> = Object.freeze({
  max: Object.freeze(MAX),
  "cortex-a72": Object.freeze(CORTEX_A72),
  "cortex-a76": Object.freeze(CORTEX_A76),
  "neoverse-v1": Object.freeze(NEOVERSE_V1),
});

/** What may be changed in a profile of one's own. */
export type FeatureOverrides = Partial<FeatureSwitches> & { readonly name?: string; readonly paBits?: number; readonly vmidBits?: number };

/** A profile or feature was asked for that is not there. `nearest` is the closest known name. */
export class UnknownCpuError extends FaultlineError {
  constructor(
    readonly cpu: string,
    readonly nearest: string,
    readonly known: readonly string[],
    what = "CPU",
  ) {
    super(`no ${what} named ${cpu}; did you mean ${nearest}? known: ${known.join(", ")}`);
    this.name = "UnknownCpuError";
  }
}

/** The known name closest to what was written. */
export function nearestName(name: string, known: readonly string[]): string {
  return known.length === 0 ? "" : closest(name.toLowerCase(), known);
}

/** The switches that a profile of one's own can change. */
export const CPU_FEATURES: readonly string[] = Object.freeze(
  Object.keys(MAX).filter((k) => typeof MAX[k as keyof CpuFeatures] === "boolean"),
);

/**
 * A profile written as `BASE[,+feature][,-feature][,paBits=N][,vmidBits=N]`, like `max,-s2fwb,+dic`.
 * @throws UnknownCpuError for a base or feature that is not there, Error for a part that cannot be read
 */
function writtenProfile(text: string): CpuFeatures {
  const [base = "", ...parts] = text.split(",").map((p) => p.trim());
  const overrides: Record<string, boolean | number | string> = { name: text };
  for (const part of parts) {
    const number = /^(paBits|vmidBits)=(\d+)$/.exec(part);
    const sign = part[0];
    if (number !== null) overrides[number[1]!] = Number(number[2]);
    else if (sign !== "+" && sign !== "-") {
      throw new FaultlineError(`"${part}" in the CPU "${text}": expected +feature, -feature, paBits=N or vmidBits=N`);
    } else {
      const name = part.slice(1);
      const feature = CPU_FEATURES.find((f) => f.toLowerCase() === name.toLowerCase());
      if (feature === undefined) throw new UnknownCpuError(name, nearestName(name, CPU_FEATURES), CPU_FEATURES, "CPU feature");
      overrides[feature] = sign === "+";
    }
  }
  return customProfile(base, overrides as FeatureOverrides);
}

/** A bundled profile, or one written as base and features. @throws UnknownCpuError */
export function cpuProfile(name: string): CpuFeatures {
  if (name.includes(",")) return writtenProfile(name);
  const found = Object.hasOwn(CPU_PROFILES, name) ? CPU_PROFILES[name] : undefined;
  if (found !== undefined) return found;
  const known = Object.keys(CPU_PROFILES);
  throw new UnknownCpuError(name, nearestName(name, known), known);
}

/** A profile of one's own: a base with some features changed; its identification registers follow the changes. */
export function customProfile(base: CpuFeatures | string, overrides: FeatureOverrides): CpuFeatures {
  const from = typeof base === "string" ? cpuProfile(base) : base;
  const paBits = overrides.paBits ?? from.paBits;
  if (!PA_RANGES.includes(paBits)) throw new FaultlineError(`paBits must be one of ${PA_RANGES.join(", ")}, not ${paBits}`);
  const vmidBits = overrides.vmidBits ?? from.vmidBits;
  if (vmidBits !== 8 && vmidBits !== 16) throw new FaultlineError(`vmidBits must be 8 or 16, not ${vmidBits}`);
  const id: Record<keyof IdRegisters, Words> = { ...from.id };
  for (const [key, on] of Object.entries(overrides)) {
    const at = ID_FIELDS[key as keyof FeatureSwitches];
    if (at === undefined || typeof on !== "boolean") continue;
    const [register, bit, width, value] = at;
    // A profile that announces the feature with another value keeps that one.
    if (on && field(id[register], bit, width) !== 0 && !(key === "lpa2" && field(id[register], bit, width) === 0xf)) continue;
    id[register] = withField(id[register], bit, width, on ? value : 0);
  }
  id.ID_AA64MMFR0_EL1 = withField(id.ID_AA64MMFR0_EL1, 0, 4, PA_RANGES.indexOf(paBits));
  id.ID_AA64MMFR1_EL1 = withField(id.ID_AA64MMFR1_EL1, 4, 4, vmidBits === 16 ? 2 : 0);
  let ctrRaw = from.ctrRaw;
  if (overrides.dic !== undefined) ctrRaw = withField(ctrRaw, 29, 1, overrides.dic ? 1 : 0);
  if (overrides.idc === false) ctrRaw = withField(ctrRaw, 28, 1, 0);
  return Object.freeze({ ...from, ...overrides, name: overrides.name ?? from.name, paBits, vmidBits, id: Object.freeze(id), ctrRaw });
}
