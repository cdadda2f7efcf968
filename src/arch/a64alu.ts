/**
 * Arithmetic on 64-bit values held as two 32-bit words, for the data-processing instructions that the
 * interpreter's hot switch does not do by itself. Results go into `lo` and `hi`, read at once.
 */
import { PSTATE_C, PSTATE_N, PSTATE_V, PSTATE_Z } from "./registers.js";

export class Alu {
  lo = 0;
  hi = 0;

  /** Shifts or rotates. @param type 0 LSL, 1 LSR, 2 ASR, 3 ROR @param n 0..63 */
  shiftX(lo: number, hi: number, type: number, n: number): void {
    if (n === 0) {
      this.lo = lo;
      this.hi = hi;
      return;
    }
    const wide = n >= 32;
    const k = n & 31;
    switch (type) {
      case 0:
        if (wide) this.out(0, lo << k);
        else this.out(lo << k, (hi << k) | (lo >>> (32 - k)));
        return;
      case 1:
        if (wide) this.out(hi >>> k, 0);
        else this.out((lo >>> k) | (hi << (32 - k)), hi >>> k);
        return;
      case 2:
        if (wide) this.out(hi >> k, hi >> 31);
        else this.out((lo >>> k) | (hi << (32 - k)), hi >> k);
        return;
      default: {
        const a = wide ? hi : lo;
        const b = wide ? lo : hi;
        if (k === 0) this.out(a, b);
        else this.out((a >>> k) | (b << (32 - k)), (b >>> k) | (a << (32 - k)));
      }
    }
  }
  /** The same on 32 bits. @param n 0..31 */
  shiftW(v: number, type: number, n: number): number {
    switch (type) {
      case 0:
        return v << n;
      case 1:
        return (v >>> n) | 0;
      case 2:
        return v >> n;
      default:
        return n === 0 ? v : (v >>> n) | (v << (32 - n));
    }
  }

  /** Extends a register by option (uxtb … sxtx), then shifts left. */
  extend(lo: number, hi: number, option: number, shift: number): void {
    let l = lo;
    let h = 0;
    switch (option) {
      case 0:
        l = lo & 0xff;
        break;
      case 1:
        l = lo & 0xffff;
        break;
      case 2:
        break;
      case 4:
        l = (lo << 24) >> 24;
        h = l >> 31;
        break;
      case 5:
        l = (lo << 16) >> 16;
        h = l >> 31;
        break;
      case 6:
        h = lo >> 31;
        break;
      default:
        h = hi;
    }
    this.shiftX(l, h, 0, shift);
  }

  private out(lo: number, hi: number): void {
    this.lo = lo | 0;
    this.hi = hi | 0;
  }

  /** Low 64 bits of a product. */
  mul(al: number, ah: number, bl: number, bh: number): void {
    const a0 = al & 0xffff;
    const a1 = al >>> 16;
    const b0 = bl & 0xffff;
    const b1 = bl >>> 16;
    const mid = a1 * b0 + ((a0 * b0) >>> 16);
    const mid2 = a0 * b1 + (mid & 0xffff);
    const carry = a1 * b1 + Math.floor(mid / 65536) + Math.floor(mid2 / 65536);
    this.lo = Math.imul(al, bl);
    this.hi = (carry + Math.imul(al, bh) + Math.imul(ah, bl)) | 0;
  }

  /** Unsigned or signed quotient; division by zero gives zero (Arm ARM UDIV, SDIV). Not on a hot path. */
  div(al: number, ah: number, bl: number, bh: number, signed: boolean): void {
    if (bl === 0 && bh === 0) {
      this.out(0, 0);
      return;
    }
    if (ah === 0 && bh === 0) {
      this.out(Math.floor((al >>> 0) / (bl >>> 0)), 0);
      return;
    }
    const a = signed ? (BigInt(ah) << 32n) | BigInt(al >>> 0) : (BigInt(ah >>> 0) << 32n) | BigInt(al >>> 0);
    const b = signed ? (BigInt(bh) << 32n) | BigInt(bl >>> 0) : (BigInt(bh >>> 0) << 32n) | BigInt(bl >>> 0);
    const q = a / b;
    this.out(Number(BigInt.asIntN(32, q)), Number(BigInt.asIntN(32, q >> 32n)));
  }

  /** Signed or unsigned less-than. */
  less(al: number, ah: number, bl: number, bh: number, signed: boolean): boolean {
    if (ah !== bh) return signed ? ah < bh : ah >>> 0 < bh >>> 0;
    return al >>> 0 < bl >>> 0;
  }

  /** SBFM, BFM, UBFM on 64 bits: a rotate and two masks. @param kind 0 signed, 1 insert, 2 unsigned */
  bitfieldX(lo: number, hi: number, oldLo: number, oldHi: number, immr: number, imms: number, kind: number): void {
    const insert = imms < immr;
    const width = insert ? imms + 1 : imms - immr + 1;
    const at = insert ? 64 - immr : 0;
    // The field, at the bottom.
    this.shiftX(lo, hi, 1, insert ? 0 : immr);
    const maskLo = width >= 32 ? -1 : (1 << width) - 1;
    const maskHi = width >= 64 ? -1 : width > 32 ? (1 << (width - 32)) - 1 : 0;
    let fl = this.lo & maskLo;
    let fh = this.hi & maskHi;
    if (kind === 0) {
      const sign = width > 32 ? (fh >>> (width - 33)) & 1 : (fl >>> (width - 1)) & 1;
      if (sign !== 0) {
        fl |= ~maskLo;
        fh |= ~maskHi;
      }
    }
    this.shiftX(fl, fh, 0, at);
    if (kind !== 1) return;
    fl = this.lo;
    fh = this.hi;
    this.shiftX(maskLo, maskHi, 0, at);
    this.out((oldLo & ~this.lo) | fl, (oldHi & ~this.hi) | fh);
  }
  /** The same on 32 bits. */
  bitfieldW(v: number, old: number, immr: number, imms: number, kind: number): number {
    const insert = imms < immr;
    const width = insert ? imms + 1 : imms - immr + 1;
    const at = insert ? 32 - immr : 0;
    const mask = width >= 32 ? -1 : (1 << width) - 1;
    let f = (insert ? v : v >>> immr) & mask;
    if (kind === 0 && ((f >>> (width - 1)) & 1) !== 0) f |= ~mask;
    f <<= at;
    return kind === 1 ? (old & ~(mask << at)) | f : f | 0;
  }

  reverseBits(v: number): number {
    let r = v;
    r = ((r >>> 1) & 0x55555555) | ((r & 0x55555555) << 1);
    r = ((r >>> 2) & 0x33333333) | ((r & 0x33333333) << 2);
    r = ((r >>> 4) & 0x0f0f0f0f) | ((r & 0x0f0f0f0f) << 4);
    return this.reverseBytes(r);
  }
  reverseBytes(v: number): number {
    return (v << 24) | ((v & 0xff00) << 8) | ((v >>> 8) & 0xff00) | (v >>> 24);
  }
  reverseBytes16(v: number): number {
    return ((v & 0x00ff00ff) << 8) | ((v >>> 8) & 0x00ff00ff);
  }
}

/** N and Z of a 64-bit result. */
export function flagsNz(lo: number, hi: number): number {
  return (hi & PSTATE_N) | ((lo | hi) === 0 ? PSTATE_Z : 0);
}
/** C and V in their places, of which each is bit 31 of a word. */
function flagsCv(c: number, v: number): number {
  return ((c >>> 2) & PSTATE_C) | ((v >>> 3) & PSTATE_V);
}
/** NZCV of a + b on 64 bits, given the upper words and the sum. */
export function addFlagsX(ah: number, bh: number, lo: number, hi: number): number {
  return flagsNz(lo, hi) | flagsCv((ah & bh) | ((ah | bh) & ~hi), (ah ^ hi) & (bh ^ hi));
}
/** NZCV of a - b on 64 bits, given the upper words and the difference. C: no borrow. */
export function subFlagsX(ah: number, bh: number, lo: number, hi: number): number {
  return flagsNz(lo, hi) | flagsCv((ah & ~bh) | ((ah | ~bh) & ~hi), (ah ^ bh) & (ah ^ hi));
}
/** NZCV of a + b on 32 bits. */
export function addFlagsW(a: number, b: number): number {
  const r = (a + b) | 0;
  return addFlagsX(a, b, r, r);
}
/** NZCV of a - b on 32 bits. */
export function subFlagsW(a: number, b: number): number {
  const r = (a - b) | 0;
  return subFlagsX(a, b, r, r);
}

/** Does a condition hold for these flags? */
export function holds(condition: number, pstate: number): boolean {
  const n = pstate < 0;
  const z = (pstate & PSTATE_Z) !== 0;
  const c = (pstate & PSTATE_C) !== 0;
  const v = (pstate & PSTATE_V) !== 0;
  let result: boolean;
  switch (condition >> 1) {
    case 0:
      result = z;
      break;
    case 1:
      result = c;
      break;
    case 2:
      result = n;
      break;
    case 3:
      result = v;
      break;
    case 4:
      result = c && !z;
      break;
    case 5:
      result = n === v;
      break;
    case 6:
      result = n === v && !z;
      break;
    default:
      return true;
  }
  return (condition & 1) !== 0 ? !result : result;
}
