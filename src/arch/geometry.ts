/**
 * Geometry of translation: granules, levels, indices, start levels and concatenated roots
 * (Arm ARM D8.2; KVM's choices: arch/arm64/include/asm/stage2_pgtable.h, kvm_arm.h).
 *
 * Everything is a shift or a mask; addresses are pairs of words or numbers below 2^53.
 */
export type Granule = "4K" | "16K" | "64K";

/** log2 of the page size. */
export const GRANULE_SHIFT: Readonly<Record<Granule, number>> = { "4K": 12, "16K": 14, "64K": 16 };

/** Index bits of one full table: 9, 11 or 13. */
export function stride(pageShift: number): number {
  return pageShift - 3;
}

/** log2 of the bytes that one entry at a level covers; level 3 is a page, level -1 exists with LPA2. */
export function levelShift(level: number, pageShift = 12): number {
  return pageShift + (pageShift - 3) * (3 - level);
}
/** Bytes that one entry at a level covers. */
export function levelSize(level: number, pageShift = 12): number {
  return 2 ** levelShift(level, pageShift);
}

/** True where a block descriptor is allowed at this level without LPA2 or FEAT_LPA: 4K 1 and 2, else 2. */
export function blockAllowed(level: number, pageShift = 12): boolean {
  return level === 2 || (level === 1 && pageShift === 12);
}

/** Bits [shift + width - 1 : shift] of hi:lo, width at most 17. */
export function bitsAt(hi: number, lo: number, shift: number, width: number): number {
  const v = shift >= 32 ? hi >>> (shift - 32) : shift === 0 ? lo : (lo >>> shift) | (hi << (32 - shift));
  return v & ((1 << width) - 1);
}

/** Index into the table of a level, as a full table has it (a start level may have fewer or more bits). */
export function tableIndex(hi: number, lo: number, level: number, pageShift = 12): number {
  return bitsAt(hi, lo, levelShift(level, pageShift), pageShift - 3);
}

/** Stage-1 start level for an input size of 64 - TxSZ bits: 4 - ceil((isize - page) / stride). */
export function startLevel(isize: number, pageShift = 12): number {
  return 4 - Math.ceil((isize - pageShift) / (pageShift - 3));
}

/** Index bits at the start level, where the table is smaller than (or, concatenated, larger than) a page. */
export function startBits(isize: number, level: number, pageShift = 12): number {
  return isize - levelShift(level, pageShift);
}

/** What stage 2 looks like for an IPA size. */
export interface Stage2Geometry {
  readonly ipaBits: number;
  readonly pageShift: number;
  readonly levels: number;
  readonly startLevel: number;
  /** VTCR_EL2.SL0. */
  readonly sl0: number;
  /** Pages of the concatenated root, 1 to 16. */
  readonly rootPages: number;
  /** Levels of tables that a fault may need below the root: the minimum of KVM's page cache. */
  readonly cachePages: number;
}

/**
 * KVM's stage-2 geometry: stage2_pgtable_levels(ipa) = max(2, (ipa - 4 - 4) / (PAGE_SHIFT - 3)) levels,
 * so that up to 16 pages are concatenated at the root.
 */
export function stage2Geometry(ipaBits: number, pageShift = 12): Stage2Geometry {
  const levels = Math.max(2, Math.floor((ipaBits - 8) / (pageShift - 3)));
  const start = 4 - levels;
  const rootPages = Math.max(1, 2 ** (ipaBits - levelShift(start - 1, pageShift)));
  return { ipaBits, pageShift, levels, startLevel: start, sl0: (pageShift === 12 ? 2 : 3) - start, rootPages, cachePages: levels - 1 };
}

/** ID_AA64MMFR0_EL1.PARange and the PS / IPS fields: code -> bits. */
export const PA_BITS: readonly number[] = [32, 36, 40, 42, 44, 48, 52];

/** Address bits of a PS or IPS code; reserved codes act as the largest. */
export function paBitsOf(code: number): number {
  return PA_BITS[code] ?? 52;
}
/** Code of a number of physical address bits, rounded down to one that exists. */
export function paRangeOf(bits: number): number {
  let code = 0;
  for (let i = 0; i < PA_BITS.length; i++) if (PA_BITS[i]! <= bits) code = i;
  return code;
}

/** TCR_EL1.TG0 and VTCR_EL2.TG0: 00 4K, 01 64K, 10 16K. @returns the page shift; reserved acts as 4K. */
export function tg0Shift(code: number): number {
  return code === 1 ? 16 : code === 2 ? 14 : 12;
}
/** TCR_EL1.TG1: 01 16K, 10 4K, 11 64K. */
export function tg1Shift(code: number): number {
  return code === 1 ? 14 : code === 3 ? 16 : 12;
}

/** VTCR_EL2 fields. */
export const VTCR_T0SZ = 0x3f;
export const VTCR_SL0_SHIFT = 6;
export const VTCR_IRGN0_WBWA = 1 << 8;
export const VTCR_ORGN0_WBWA = 1 << 10;
export const VTCR_SH0_INNER = 3 << 12;
export const VTCR_TG0_SHIFT = 14;
export const VTCR_PS_SHIFT = 16;
export const VTCR_VS = 1 << 19;
export const VTCR_HA = 1 << 21;
export const VTCR_HD = 1 << 22;
export const VTCR_RES1 = 1 << 31;
/** Bits 32 and 33, in the high word. */
export const VTCR_DS_HI = 1 << 0;
export const VTCR_SL2_HI = 1 << 1;

/** VTCR_EL2's low word as KVM builds it (kvm_get_vtcr). @param paRange PS code @param vs 16-bit VMIDs @param ha hardware access flag */
export function vtcrWord(g: Stage2Geometry, paRange: number, vs: boolean, ha: boolean): number {
  const tg0 = g.pageShift === 12 ? 0 : g.pageShift === 16 ? 1 : 2;
  return (
    (64 - g.ipaBits) |
    (g.sl0 << VTCR_SL0_SHIFT) |
    VTCR_IRGN0_WBWA |
    VTCR_ORGN0_WBWA |
    VTCR_SH0_INNER |
    (tg0 << VTCR_TG0_SHIFT) |
    (paRange << VTCR_PS_SHIFT) |
    (vs ? VTCR_VS : 0) |
    (ha ? VTCR_HA : 0) |
    VTCR_RES1
  );
}

/**
 * The start level that VTCR_EL2 selects. @returns -2 when SL0 is reserved or inconsistent with T0SZ
 * (fewer than 1 or more than stride + 4 index bits): every access then is a level-0 translation fault.
 */
export function vtcrStartLevel(vtcrLo: number, vtcrHi: number): number {
  const pageShift = tg0Shift((vtcrLo >>> VTCR_TG0_SHIFT) & 3);
  const sl0 = (vtcrLo >>> VTCR_SL0_SHIFT) & 3;
  let level: number;
  if (pageShift === 12) level = (vtcrHi & VTCR_SL2_HI) !== 0 && sl0 === 0 ? -1 : sl0 === 3 ? 3 : 2 - sl0;
  else if (pageShift === 16 && sl0 === 3) return -2;
  else level = 3 - sl0;
  const bits = startBits(64 - (vtcrLo & VTCR_T0SZ), level, pageShift);
  return bits < 1 || bits > pageShift - 3 + 4 ? -2 : level;
}
