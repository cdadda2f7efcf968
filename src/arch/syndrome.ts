/**
 * Syndromes: ESR_ELx of aborts, FAR and HPFAR (Arm ARM D24.2.40 ESR_EL2, D24.2.60 HPFAR_EL2).
 * EC 31:26 · IL 25 · ISS 24:0. One place builds them, one place takes them apart.
 */

export const ESR_ELx_EC_SHIFT = 26;
export const ESR_ELx_IL = 1 << 25;
export const EC_IABT_LOW = 0x20;
export const EC_IABT_CUR = 0x21;
export const EC_DABT_LOW = 0x24;
export const EC_DABT_CUR = 0x25;

// ---- data abort ISS
export const ISS_ISV = 1 << 24;
export const ISS_SAS_SHIFT = 22;
export const ISS_SSE = 1 << 21;
export const ISS_SRT_SHIFT = 16;
export const ISS_SF = 1 << 15;
export const ISS_AR = 1 << 14;
export const ISS_FNV = 1 << 10;
export const ISS_EA = 1 << 9;
export const ISS_CM = 1 << 8;
export const ISS_S1PTW = 1 << 7;
export const ISS_WNR = 1 << 6;
export const ISS_FSC = 0x3f;
/** The fields that are valid only with ISV. */
export const ISS_ISV_FIELDS = 0x1ffc000;

// ---- fault status codes; OR the level (0..3) into the first four
export const FSC_ADDRESS_SIZE = 0x00;
export const FSC_TRANSLATION = 0x04;
export const FSC_ACCESS_FLAG = 0x08;
export const FSC_PERMISSION = 0x0c;
export const FSC_SEA = 0x10;
export const FSC_TAG_CHECK = 0x11;
export const FSC_SEA_WALK = 0x14;
export const FSC_SEA_WALK_LM1 = 0x13;
export const FSC_PARITY = 0x18;
export const FSC_ALIGNMENT = 0x21;
export const FSC_ADDRESS_SIZE_LM1 = 0x29;
export const FSC_TRANSLATION_LM1 = 0x2b;
export const FSC_TLB_CONFLICT = 0x30;
export const FSC_ATOMIC_UPDATE = 0x31;
export const FSC_UNSUPPORTED_ATOMIC = 0x35;

/** FSC of a walk fault: class and level; level -1 (LPA2) has codes of its own. */
export function fscAt(kind: number, level: number): number {
  if (level >= 0) return kind | level;
  return kind === FSC_ADDRESS_SIZE ? FSC_ADDRESS_SIZE_LM1 : kind === FSC_SEA_WALK ? FSC_SEA_WALK_LM1 : FSC_TRANSLATION_LM1;
}

/**
 * ISS template of a load or store, as the decoder gives it to the PE: valid only for one general
 * register without write-back. @param sas log2 of the size @param srt register, 31 XZR
 */
export function accessIss(sas: number, sse: boolean, srt: number, sf: boolean, ar: boolean): number {
  return ISS_ISV | (sas << ISS_SAS_SHIFT) | (sse ? ISS_SSE : 0) | (srt << ISS_SRT_SHIFT) | (sf ? ISS_SF : 0) | (ar ? ISS_AR : 0);
}

/** ESR of a data abort. @param iss ISV fields and CM, S1PTW, WnR @param fsc fault status */
export function dataAbort(ec: number, iss: number, fsc: number): number {
  return (ec << ESR_ELx_EC_SHIFT) | ESR_ELx_IL | iss | fsc;
}
/** ESR of an instruction abort: only S1PTW, EA and FSC. */
export function instructionAbort(ec: number, iss: number, fsc: number): number {
  return (ec << ESR_ELx_EC_SHIFT) | ESR_ELx_IL | (iss & (ISS_S1PTW | ISS_EA)) | fsc;
}

/** HPFAR_EL2 from an IPA: FIPA in bits 43:4 (47:4 with 52-bit addresses). The two words, given the IPA's. */
export function hpfarLo(ipaHi: number, ipaLo: number): number {
  return ((ipaHi << 24) | (ipaLo >>> 8)) & ~0xf;
}
export function hpfarHi(ipaHi: number): number {
  return ipaHi >>> 8;
}
/** IPA of the faulting page from HPFAR_EL2: (HPFAR & ~0xf) << 8; bit 63 (NS) ignored. */
export function ipaOfHpfar(hi: number, lo: number): number {
  return gfnOfHpfar(hi, lo) * 4096;
}
/** The same as a page number. */
export function gfnOfHpfar(hi: number, lo: number): number {
  return (hi & 0xfff) * (1 << 28) + (lo >>> 4);
}

const CLASS_NAMES = ["address size fault", "translation fault", "access flag fault", "permission fault"];
const FSC_NAMES: Readonly<Record<number, string>> = {
  0x10: "synchronous external abort",
  0x11: "synchronous tag check fault",
  0x13: "synchronous external abort on walk, level -1",
  0x18: "synchronous parity or ECC error",
  0x1b: "synchronous parity or ECC error on walk, level -1",
  0x21: "alignment fault",
  0x23: "granule protection fault on walk, level -1",
  0x28: "granule protection fault",
  0x29: "address size fault, level -1",
  0x2b: "translation fault, level -1",
  0x30: "TLB conflict abort",
  0x31: "unsupported atomic hardware update",
  0x34: "lockdown fault",
  0x35: "unsupported exclusive or atomic access",
};

/** The name of a fault status code. */
export function fscName(fsc: number): string {
  if (fsc < 0x10) return `${CLASS_NAMES[fsc >> 2]}, level ${fsc & 3}`;
  if (fsc >= 0x14 && fsc <= 0x17) return `synchronous external abort on walk, level ${fsc & 3}`;
  if (fsc >= 0x1c && fsc <= 0x1f) return `synchronous parity or ECC error on walk, level ${fsc & 3}`;
  if (fsc >= 0x24 && fsc <= 0x27) return `granule protection fault on walk, level ${fsc & 3}`;
  return FSC_NAMES[fsc] ?? `reserved 0x${fsc.toString(16)}`;
}

/** Exception class names as the kernel prints them (kvm_arm_exception_class). */
export const EC_NAMES: Readonly<Record<number, string>> = {
  0x00: "UNKNOWN",
  0x01: "WFx",
  0x07: "FP_ASIMD",
  0x0d: "BTI",
  0x0e: "ILL",
  0x15: "SVC64",
  0x16: "HVC64",
  0x17: "SMC64",
  0x18: "SYS64",
  0x20: "IABT_LOW",
  0x21: "IABT_CUR",
  0x22: "PC_ALIGN",
  0x24: "DABT_LOW",
  0x25: "DABT_CUR",
  0x26: "SP_ALIGN",
  0x2f: "SERROR",
  0x3c: "BRK64",
};

/** An ESR taken apart. Fields that the class does not have are absent. */
export interface DecodedSyndrome {
  readonly ec: number;
  readonly ecName: string;
  readonly il: boolean;
  readonly iss: number;
  readonly fsc?: number;
  readonly fscName?: string;
  /** 0..3, where the status has a level. */
  readonly level?: number;
  readonly s1ptw?: boolean;
  readonly ea?: boolean;
  readonly fnv?: boolean;
  readonly wnr?: boolean;
  readonly cm?: boolean;
  readonly isv?: boolean;
  /** Access size in bytes, with ISV. */
  readonly size?: number;
  readonly sse?: boolean;
  readonly srt?: number;
  readonly sf?: boolean;
  readonly ar?: boolean;
}

/** Takes an ESR apart, for people and tests. */
export function decodeSyndrome(esr: number): DecodedSyndrome {
  const ec = (esr >>> 26) & 0x3f;
  const iss = esr & 0x1ffffff;
  const head = { ec, ecName: EC_NAMES[ec] ?? `0x${ec.toString(16)}`, il: (esr & ESR_ELx_IL) !== 0, iss };
  const data = ec === EC_DABT_LOW || ec === EC_DABT_CUR;
  if (!data && ec !== EC_IABT_LOW && ec !== EC_IABT_CUR) return head;
  const fsc = iss & ISS_FSC;
  const levelled = fsc < 0x10 || (fsc >= 0x14 && fsc < 0x18) || (fsc >= 0x1c && fsc < 0x20);
  const abort = {
    ...head,
    fsc,
    fscName: fscName(fsc),
    ...(levelled ? { level: fsc & 3 } : {}),
    s1ptw: (iss & ISS_S1PTW) !== 0,
    ea: (iss & ISS_EA) !== 0,
    fnv: (iss & ISS_FNV) !== 0,
  };
  if (!data) return abort;
  const isv = (iss & ISS_ISV) !== 0;
  return {
    ...abort,
    wnr: (iss & ISS_WNR) !== 0,
    cm: (iss & ISS_CM) !== 0,
    isv,
    ...(isv
      ? {
          size: 1 << ((iss >> ISS_SAS_SHIFT) & 3),
          sse: (iss & ISS_SSE) !== 0,
          srt: (iss >> ISS_SRT_SHIFT) & 0x1f,
          sf: (iss & ISS_SF) !== 0,
          ar: (iss & ISS_AR) !== 0,
        }
      : {}),
  };
}

/** Is the status that of an external abort or parity error (kvm_vcpu_abt_issea)? 0x10, 0x13 - 0x18, 0x1b - 0x1f. */
export function isExternalAbort(fsc: number): boolean {
  return (fsc & 0x30) === 0x10 && fsc !== 0x11 && fsc !== 0x12 && fsc !== 0x19 && fsc !== 0x1a;
}
