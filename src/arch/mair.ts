/**
 * MAIR_ELx attribute bytes: the complete decode of all 256 values (Arm ARM D24.2.105 MAIR_EL1).
 *
 * high nibble outer, low nibble inner. A Normal nibble n: 4 is Non-cacheable; bits 3:2 are 00
 * write-through transient, 01 write-back transient, 10 write-through, 11 write-back; bit 1 allocates
 * on reads, bit 0 on writes.
 */

/** Device subtypes, weakest guarantees last: the order of "stronger". */
export const DEVICE_nGnRnE = 0;
export const DEVICE_nGnRE = 1;
export const DEVICE_nGRE = 2;
export const DEVICE_GRE = 3;
export const DEVICE_NAMES = ["nGnRnE", "nGnRE", "nGRE", "GRE"] as const;

/** Bytes that software uses. */
export const ATTR_nGnRnE = 0x00;
export const ATTR_nGnRE = 0x04;
export const ATTR_nGRE = 0x08;
export const ATTR_GRE = 0x0c;
export const ATTR_NC = 0x44;
export const ATTR_WT_RA = 0xaa;
export const ATTR_WB = 0xff;
export const ATTR_TAGGED = 0xf0;

/** True for a Device byte (a canonical one, or with XS = 0). */
export function isDevice(attr: number): boolean {
  return (attr & 0xf0) === 0;
}
/** Inner and outer write-back, whatever the hints. */
export function isWriteBack(attr: number): boolean {
  return attr === ATTR_TAGGED || (((attr >> 6) & 1) !== 0 && ((attr >> 2) & 1) !== 0 && (attr & 0xf0) !== 0x40 && (attr & 0x0f) !== 0x04);
}
/** True for Normal memory that is neither inner nor outer Non-cacheable. */
export function isCacheable(attr: number): boolean {
  return (attr & 0xf0) !== 0 && attr !== 0x40 && attr >> 4 !== 4 && (attr & 0xf) !== 4;
}
/**
 * True where exclusives and LSE atomics are architecturally guaranteed, given a shareable location:
 * write-back both, read and write allocate, non-transient (Arm ARM B2.9).
 */
export function supportsAtomics(attr: number): boolean {
  return attr === ATTR_WB || attr === ATTR_TAGGED;
}

/** True for a byte without meaning, given the features (UNPREDICTABLE; treated as 0x00 here). */
export function isReserved(attr: number, xs = true, mte = true): boolean {
  const hi = attr >> 4;
  const lo = attr & 0xf;
  if (hi === 0) return (lo & 2) !== 0 || ((lo & 1) !== 0 && !xs);
  if (lo !== 0) return false;
  if (hi === 4 || hi === 0xa) return !xs;
  return hi === 0xf ? !mte : true;
}

/**
 * The byte without its XS and tag forms: reserved -> 00, 01 -> 00, 05 -> 04, 09 -> 08, 0D -> 0C,
 * 40 -> 44, A0 -> AA; F0 stays F0.
 */
export function canonicalAttr(attr: number, xs = true, mte = true): number {
  if (isReserved(attr, xs, mte)) return ATTR_nGnRnE;
  if ((attr & 0xf0) === 0) return attr & 0xc;
  if (attr === 0x40) return ATTR_NC;
  if (attr === 0xa0) return ATTR_WT_RA;
  return attr;
}

/** The XS attribute: 0 for the encodings that say so, for tagged memory and for write-back both. */
export function xsOf(attr: number): number {
  if ((attr & 0xf0) === 0) return (attr & 1) ^ 1;
  if (attr === 0x40 || attr === 0xa0) return 0;
  return isWriteBack(attr) ? 0 : 1;
}

/** A byte taken apart, for people. */
export interface DecodedAttr {
  readonly attr: number;
  readonly type: "Device" | "Normal" | "Tagged" | "reserved";
  /** "nGnRE" …, or "outer/inner" as "WB.RW/NC". */
  readonly text: string;
  readonly xs: 0 | 1;
}

const NIBBLES = [
  "?",
  "WTt.W",
  "WTt.R",
  "WTt.RW",
  "NC",
  "WBt.W",
  "WBt.R",
  "WBt.RW",
  "WT",
  "WT.W",
  "WT.R",
  "WT.RW",
  "WB",
  "WB.W",
  "WB.R",
  "WB.RW",
];

/** Decodes one of the 256 bytes. */
export function decodeAttr(attr: number, xs = true, mte = true): DecodedAttr {
  const x = xsOf(attr) as 0 | 1;
  if (isReserved(attr, xs, mte)) return { attr, type: "reserved", text: "–", xs: 1 };
  if ((attr & 0xf0) === 0) return { attr, type: "Device", text: DEVICE_NAMES[(attr >> 2) & 3]!, xs: x };
  if (attr === ATTR_TAGGED) return { attr, type: "Tagged", text: "WB.RW/WB.RW", xs: 0 };
  const c = canonicalAttr(attr);
  return { attr, type: "Normal", text: `${NIBBLES[c >> 4]}/${NIBBLES[c & 0xf]}`, xs: x };
}

/** Byte n of MAIR_EL1. */
export function mairByte(mairHi: number, mairLo: number, index: number): number {
  return ((index < 4 ? mairLo : mairHi) >>> ((index & 3) * 8)) & 0xff;
}
