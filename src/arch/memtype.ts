/**
 * The resulting memory type of an access: stage-1 attribute and stage-2 MemAttr combined
 * (Arm ARM D8.5.5 and D8.5.6; pseudo-code S2CombineS1MemAttrs, S2ApplyFWBMemAttrs, EffectiveShareability).
 *
 * A result is one number: bits 7:0 attribute in MAIR format, 9:8 shareability (0 non, 2 outer,
 * 3 inner), 10 XS. The type half is a table of 2 × 16 × 256 results, each filled when it is first asked for.
 */
import { ATTR_NC, ATTR_TAGGED, ATTR_WB, canonicalAttr, isDevice, isReserved, isWriteBack, xsOf } from "./mair.js";

export const SH_NSH = 0;
export const SH_OSH = 2;
export const SH_ISH = 3;

/** Bits of a packed result. */
export const RESULT_ATTR = 0xff;
export const RESULT_SH_SHIFT = 8;
export const RESULT_SH = 3 << RESULT_SH_SHIFT;
export const RESULT_XS = 0x400;

/** Cacheability of a stage-2 nibble: 1 NC, 2 WT, 3 WB (0, reserved, acts as NC). NC wins, then WT; hints come from stage 1. */
function combineNibble(s1: number, s2: number): number {
  if (s1 === 4 || s2 < 2) return 4;
  if (s2 === 3) return s1;
  // Write-through wins: 1xxx keeps "non-transient", bit 2 is what says write-back.
  return s1 & ~4;
}
/** FWB 0110: write-back whatever stage 1 says; a cacheable nibble keeps its hints and its transience. */
function forceWriteBack(s1: number): number {
  return s1 === 4 ? 0xf : s1 | 4;
}

/** A Tagged input stays Tagged only where the result is fully write-back, read-write allocate, non-transient. */
function tagged(attr: number, s1: number): number {
  return s1 === ATTR_TAGGED && attr === ATTR_WB ? ATTR_TAGGED : attr;
}

function combineWithoutFwb(s1: number, memAttr: number): number {
  const c = s1 === ATTR_TAGGED ? ATTR_WB : s1;
  if (memAttr < 4) return isDevice(s1) ? Math.min(s1 >> 2, memAttr) << 2 : memAttr << 2;
  if (isDevice(s1)) return s1;
  return tagged((combineNibble(c >> 4, memAttr >> 2) << 4) | combineNibble(c & 0xf, memAttr & 3), s1);
}

function combineWithFwb(s1: number, memAttr: number): number {
  const c = s1 === ATTR_TAGGED ? ATTR_WB : s1;
  if ((memAttr & 4) === 0) return isDevice(s1) ? Math.min(s1 >> 2, memAttr & 3) << 2 : (memAttr & 3) << 2;
  switch (memAttr & 3) {
    case 2:
      return isDevice(s1) ? ATTR_WB : tagged((forceWriteBack(c >> 4) << 4) | forceWriteBack(c & 0xf), s1);
    case 3:
      return s1;
    default: // 01, and 00 which is reserved and falls into it
      return isDevice(s1) ? s1 : ATTR_NC;
  }
}

/** Attribute in bits 7:0, XS (without FnXS) in bit 8; UNFILLED: nobody has asked yet. All of them are 20 ms, a machine asks for some ten. */
const UNFILLED = 0xffff;
const TABLE = new Uint16Array(2 * 16 * 256).fill(UNFILLED);

/** An entry of the table. @param s1 MAIR byte @param memAttr descriptor bits 5:2 */
function combined(s1: number, memAttr: number, fwb: boolean): number {
  const at = (fwb ? 0x1000 : 0) | (memAttr << 8) | s1;
  const entry = TABLE[at]!;
  return entry !== UNFILLED ? entry : (TABLE[at] = compute(s1, memAttr, fwb));
}
function compute(s1: number, memAttr: number, fwb: boolean): number {
  const c = canonicalAttr(s1);
  const attr = fwb ? combineWithFwb(c, memAttr) : combineWithoutFwb(c, memAttr);
  return attr | (xsOfResult(s1, attr, memAttr, fwb) << 8);
}

/** The resulting attribute byte. @param s1 MAIR byte @param memAttr descriptor bits 5:2 @param fwb HCR_EL2.FWB */
export function combineAttr(s1: number, memAttr: number, fwb: boolean): number {
  return combined(s1, memAttr, fwb) & 0xff;
}

/** The wider of two shareabilities; 1 is reserved and acts as non-shareable. */
export function combineShareability(a: number, b: number): number {
  if (a === SH_OSH || b === SH_OSH) return SH_OSH;
  return a === SH_ISH || b === SH_ISH ? SH_ISH : SH_NSH;
}
/** Device and fully non-cacheable locations are outer shareable whatever the descriptors say. */
export function effectiveShareability(attr: number, sh: number): number {
  return isDevice(attr) || attr === ATTR_NC ? SH_OSH : sh === 1 ? SH_NSH : sh;
}

/** XS of the result. @param fnxs stage-2 descriptor bit 11 (FEAT_XS) */
export function combineXs(s1: number, memAttr: number, fwb: boolean, fnxs: boolean): number {
  return fnxs ? 0 : combined(s1, memAttr, fwb) >> 8;
}

/** XS without FnXS: 0 where write-back is what stage 2 forces (FWB) or what both give; else stage 1's. */
function xsOfResult(s1: number, result: number, memAttr: number, fwb: boolean): number {
  if (fwb ? (memAttr & 7) === 6 : !isDevice(result) && isWriteBack(result)) return 0;
  return xsOf(s1);
}

/** Everything at once. @param s1sh, s2sh SH fields of the descriptors. @returns the packed result */
export function combine(s1: number, s1sh: number, memAttr: number, s2sh: number, fwb: boolean, fnxs: boolean): number {
  const entry = combined(s1, memAttr, fwb);
  const attr = entry & 0xff;
  const sh = effectiveShareability(attr, combineShareability(s1sh, s2sh));
  return attr | (sh << RESULT_SH_SHIFT) | (fnxs ? 0 : (entry >> 8) << 10);
}
/** The result of a regime with stage 1 alone. */
export function stage1Only(s1: number, s1sh: number): number {
  const attr = canonicalAttr(s1);
  return attr | (effectiveShareability(attr, s1sh) << RESULT_SH_SHIFT) | (xsOf(s1) !== 0 ? RESULT_XS : 0);
}

/** True for a stage-2 MemAttr without meaning (FEAT_MTE_PERM absent); with FWB bit 3 is RES0. */
export function isReservedMemAttr(memAttr: number, fwb: boolean): boolean {
  return fwb ? memAttr >= 8 || memAttr === 4 : memAttr === 4 || memAttr === 8 || memAttr === 12;
}

/** One row of the attribute table. */
export interface AttrRow {
  readonly s1attr: number;
  readonly s2memattr: number;
  readonly fwb: 0 | 1;
  readonly s1sh: number;
  readonly s2sh: number;
  readonly attr: number;
  readonly sh: number;
}

/** All legal combinations, in the order s1attr, s2memattr, fwb, s1sh, s2sh. FEAT_MTE2 and FEAT_XS present, FEAT_MTE_PERM absent. */
export function* attrTable(): Generator<AttrRow> {
  for (let s1attr = 0; s1attr < 256; s1attr++) {
    if (isReserved(s1attr)) continue;
    for (let s2memattr = 0; s2memattr < 16; s2memattr++) {
      for (const fwb of [0, 1] as const) {
        if (isReservedMemAttr(s2memattr, fwb === 1)) continue;
        for (const s1sh of [0, 2, 3]) {
          for (const s2sh of [0, 2, 3]) {
            const r = combine(s1attr, s1sh, s2memattr, s2sh, fwb === 1, false);
            yield { s1attr, s2memattr, fwb, s1sh, s2sh, attr: r & RESULT_ATTR, sh: (r >> RESULT_SH_SHIFT) & 3 };
          }
        }
      }
    }
  }
}
