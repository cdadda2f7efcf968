/**
 * Bytes written at a place of a view, each function returning the place behind them: what ByteBuffer and TextBuffer are made of, and what a writer
 * of many short pieces calls itself, once it has asked for room for all of them. Places are whole numbers below 2^31: `| 0` says so, and spares
 * a test for overflow with each sum, a third of the time.
 */
const TWO31 = 2 ** 31;
const BILLION = 1e9;
const MINUS = 45;
const ZERO = 48;
/** Bytes that a number takes at most: a sign and 16 digits. */
export const DECIMAL_BYTES = 17;
/** Of 64 bits. */
export const HEX_BYTES = 16;
/** What copyWords may write behind the end, which the next writer takes. */
export const COPY_SLACK = 3;

/** "00" to "99", as two bytes: the first digit in the low one. */
const PAIRS = Uint16Array.from({ length: 100 }, (_, i) => (ZERO + Math.floor(i / 10)) | ((ZERO + (i % 10)) << 8));
const HEX_DIGITS = Uint8Array.from("0123456789abcdef", (c) => c.charCodeAt(0));
/** "00" to "ff". */
const HEX_PAIRS = Uint16Array.from({ length: 256 }, (_, i) => HEX_DIGITS[i >> 4]! | (HEX_DIGITS[i & 15]! << 8));

/** Bytes kept four to a word, the first in its low byte: a word at a time. @param length bytes */
export function copyWords(view: DataView, at: number, words: Int32Array, from: number, length: number): number {
  const end = (at + length) | 0;
  for (let i = from, to = at; to < end; to = (to + 4) | 0, i = (i + 1) | 0) view.setInt32(to, words[i]!, true);
  return end;
}

/** @param v a whole number between -2^53 and 2^53 */
export function putDecimal(view: DataView, at: number, v: number): number {
  if (v < 0) {
    view.setUint8(at, MINUS);
    return putDecimal(view, at + 1, -v);
  }
  if (v < TWO31) {
    const n = v | 0;
    return putDigits(view, at, n, decimalLength(n));
  }
  const high = Math.floor(v / BILLION);
  return putDigits(view, putDecimal(view, at, high), v - high * BILLION, 9);
}

/** Digits of a number below 2^31. */
function decimalLength(n: number): number {
  if (n < 10000) return n < 100 ? (n < 10 ? 1 : 2) : n < 1000 ? 3 : 4;
  if (n < 100000000) return n < 1000000 ? (n < 100000 ? 5 : 6) : n < 10000000 ? 7 : 8;
  return n < BILLION ? 9 : 10;
}

/** The last `count` digits of a number below 2^32, with leading zeros. */
export function putDigits(view: DataView, at: number, v: number, count: number): number {
  let n = v >>> 0;
  const end = (at + count) | 0;
  let i = end;
  while (i > ((at + 1) | 0)) {
    const q = (n / 100) >>> 0;
    i = (i - 2) | 0;
    view.setUint16(i, PAIRS[(n - Math.imul(q, 100)) | 0]!, true);
    n = q;
  }
  if (i > at) view.setUint8(at, ZERO + (n % 10));
  return end;
}

/** 64 bits in lower-case hexadecimal, with leading zeros up to `least` digits. */
export function putHex(view: DataView, at: number, hi: number, lo: number, least: number): number {
  const count = Math.max(hexLength(hi, lo), least);
  const end = (at + count) | 0;
  let to = end;
  let n = lo;
  for (let i = 0; i < count; i += 2) {
    if (i === 8) n = hi;
    else if (i === 16) n = 0;
    to = (to - 2) | 0;
    if (i + 1 < count) view.setUint16(to, HEX_PAIRS[n & 255]!, true);
    else view.setUint8(to + 1, HEX_DIGITS[n & 15]!);
    n >>>= 8;
  }
  return end;
}

/** Digits of 64 bits in hexadecimal. */
export function hexLength(hi: number, lo: number): number {
  return hi !== 0 ? 16 - (Math.clz32(hi) >> 2) : lo === 0 ? 1 : 8 - (Math.clz32(lo) >> 2);
}
