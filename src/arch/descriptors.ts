/**
 * Bits of VMSAv8-64 descriptors, stage 1 and stage 2 (Arm ARM D8.3), as pairs of words.
 * Names follow arch/arm64/include/asm/pgtable-hwdef.h and kvm_pgtable.h where those have one.
 */
import { joinWords } from "./types.js";

// ---- low word, both stages
export const DESC_VALID = 1 << 0;
/** Bit 1: table at levels < 3, page at level 3; clear: block. */
export const DESC_TABLE = 1 << 1;
export const DESC_TYPE = 3;
export const DESC_AF = 1 << 10;
export const DESC_SH_SHIFT = 8;
/** Block is being changed in size (FEAT_BBM). */
export const DESC_NT = 1 << 16;
export const SH_NON = 0;
export const SH_OUTER = 2;
export const SH_INNER = 3;

// ---- low word, stage 1
export const S1_ATTRINDX_SHIFT = 2;
/** AP[1]: EL0 may access. */
export const S1_AP_EL0 = 1 << 6;
/** AP[2]: read-only. */
export const S1_AP_RDONLY = 1 << 7;
export const S1_NG = 1 << 11;

// ---- low word, stage 2
export const S2_MEMATTR_SHIFT = 2;
export const S2_S2AP_R = 1 << 6;
export const S2_S2AP_W = 1 << 7;
export const S2_FNXS = 1 << 11;

// ---- high word (bit n of the descriptor is bit n - 32 here)
export const HI_GP = 1 << 18;
export const HI_DBM = 1 << 19;
export const HI_CONTIG = 1 << 20;
/** Stage 1: PXN. Stage 2: XN[0] (FEAT_XNX). */
export const HI_PXN = 1 << 21;
/** Stage 1: UXN. Stage 2: XN[1]. */
export const HI_UXN = 1 << 22;
export const HI_S2_XN_SHIFT = 21;
/** Bits 58:55, for software. */
export const HI_SW_SHIFT = 23;
// hierarchical attributes of stage-1 table descriptors
export const HI_PXNTABLE = 1 << 27;
export const HI_UXNTABLE = 1 << 28;
/** APTable[0]: no EL0 access below. */
export const HI_APTABLE_NOEL0 = 1 << 29;
/** APTable[1]: no write access below. */
export const HI_APTABLE_RO = 1 << 30;

/** Bits 47:32 of an output address, in the high word. */
export const HI_OA = 0xffff;

/** Output address of a 4 KiB-granule table or page descriptor, bits 47:12. */
export function outputAddress(hi: number, lo: number): number {
  return joinWords(hi & HI_OA, lo & ~0xfff);
}

/** Its bits 51:32 at any granule, with those that 64K (52-bit) or LPA2 keep low. */
export function outputAddressHi(hi: number, lo: number, pageShift: number, lpa2: boolean): number {
  // The constant first: of a field's truth V8 asks everything else that it could be.
  if (lpa2 === true && pageShift !== 16) return (hi & 0x3ffff) | (((lo >>> 8) & 3) << 18);
  return pageShift === 16 ? (hi & HI_OA) | (((lo >>> 12) & 0xf) << 16) : hi & HI_OA;
}

/** Output address of a leaf or table at any granule: bits 51:shift. @param shift log2 of what the entry covers (of the page for a table) */
export function outputAddressAt(hi: number, lo: number, shift: number, pageShift: number, lpa2: boolean): number {
  const high = outputAddressHi(hi, lo, pageShift, lpa2);
  return shift < 32 ? joinWords(high, lo & (-1 << shift)) : joinWords(high & (-1 << (shift - 32)), 0);
}

/** Low word of a leaf: block at levels 1 and 2, page at level 3. @param attrs AF, SH, AP, MemAttr … */
export function leafLo(pa: number, level: number, attrs: number): number {
  return (pa & ~0xfff) | attrs | (level === 3 ? DESC_VALID | DESC_TABLE : DESC_VALID);
}
/** High word of a leaf. @param attrs XN, DBM, contiguous, software bits, already shifted */
export function leafHi(pa: number, attrs: number): number {
  return ((pa / 4294967296) & HI_OA) | attrs;
}
/** Low word of a table descriptor; its high word is `leafHi(pa, 0)`. */
export function tableLo(pa: number): number {
  return (pa & ~0xfff) | DESC_VALID | DESC_TABLE;
}

/** Attribute bits of a stage-2 leaf's low word. @param s2ap bit 0 read, bit 1 write */
export function stage2Lo(memAttr: number, s2ap: number, sh: number, af: boolean): number {
  return (memAttr << S2_MEMATTR_SHIFT) | (s2ap << 6) | (sh << DESC_SH_SHIFT) | (af ? DESC_AF : 0);
}
/** XN[1:0] of a stage-2 leaf, in the high word. */
export function stage2Xn(xn: number): number {
  return xn << HI_S2_XN_SHIFT;
}

/** True for a valid table descriptor at this level. */
export function isTable(lo: number, level: number): boolean {
  return level < 3 && (lo & DESC_TYPE) === DESC_TYPE;
}
/** True for a valid leaf: block (levels 1, 2) or page (level 3). */
export function isLeaf(lo: number, level: number): boolean {
  return level === 3 ? (lo & DESC_TYPE) === DESC_TYPE : (lo & DESC_TYPE) === DESC_VALID;
}
export function memAttrOf(lo: number): number {
  return (lo >>> S2_MEMATTR_SHIFT) & 0xf;
}
export function s2apOf(lo: number): number {
  return (lo >>> 6) & 3;
}
export function shOf(lo: number): number {
  return (lo >>> DESC_SH_SHIFT) & 3;
}
/** XN[1:0] of a stage-2 leaf. */
export function xnOf(hi: number): number {
  return (hi >>> HI_S2_XN_SHIFT) & 3;
}
