/** Text as bytes that grow: numbers are written as digits into one buffer, so that no string is made per event. */

const TWO32 = 2 ** 32;
const BILLION = 1e9;
const MINUS = 45;
const ZERO = 48;
const SPACE = 32;
/** Bytes that a number takes at most, or the padding of one. */
const NUMBER = 64;

/** "00" to "99". */
const PAIRS = Uint8Array.from({ length: 200 }, (_, i) => ZERO + (i % 2 === 0 ? Math.floor(i / 20) : Math.floor(i / 2) % 10));
const HEX_DIGITS = Uint8Array.from("0123456789abcdef", (c) => c.charCodeAt(0));

export class TextBuffer {
  bytes: Uint8Array;
  length = 0;

  /** @param size to begin with */
  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  private room(n: number): void {
    if (this.length + n <= this.bytes.length) return;
    const more = new Uint8Array(2 * (this.length + n));
    more.set(this.bytes.subarray(0, this.length));
    this.bytes = more;
  }

  put(text: Uint8Array): void {
    this.putPart(text, 0, text.length);
  }
  /** Of a text, what lies between two places. */
  putPart(text: Uint8Array, from: number, to: number): void {
    this.room(to - from);
    const { bytes } = this;
    let at = this.length;
    // Texts are short: a loop costs less than the call of a copy.
    for (let i = from; i < to; i++) bytes[at++] = text[i]!;
    this.length = at;
  }
  text(s: string): void {
    this.put(Buffer.from(s));
  }

  /** @param v a whole number between -2^53 and 2^53 */
  decimal(v: number): void {
    this.room(NUMBER);
    let n = v;
    if (n < 0) {
      this.bytes[this.length++] = MINUS;
      n = -n;
    }
    if (n >= TWO32) {
      const high = Math.floor(n / BILLION);
      this.decimal(high);
      this.digits(n - high * BILLION, 9);
      return;
    }
    let count = 1;
    for (let limit = 10; n >= limit && count < 10; limit *= 10) count++;
    this.digits(n, count);
  }

  /** The last `count` digits of a 32-bit number, with leading zeros. */
  digits(v: number, count: number): void {
    this.room(NUMBER);
    const { bytes } = this;
    let n = v >>> 0;
    const start = this.length;
    let at = start + count;
    this.length = at;
    while (at > start + 1) {
      const q = (n / 100) | 0;
      const pair = (n - q * 100) << 1;
      n = q;
      bytes[--at] = PAIRS[pair + 1]!;
      bytes[--at] = PAIRS[pair]!;
    }
    if (at > start) bytes[start] = ZERO + (n % 10);
  }

  /** 64 bits in lower-case hexadecimal, with leading zeros up to `least` digits. */
  hex(hi: number, lo: number, least = 1): void {
    this.room(NUMBER);
    const { bytes } = this;
    const count = Math.max(hexLength(hi, lo), least);
    let at = (this.length += count);
    let n = lo;
    for (let i = 0; i < count; i++) {
      if (i === 8) n = hi;
      else if (i === 16) n = 0;
      bytes[--at] = HEX_DIGITS[n & 15]!;
      n >>>= 4;
    }
  }

  /** Spaces in front of what was written since `from`, up to a width. */
  padLeft(from: number, width: number): void {
    const missing = width - (this.length - from);
    if (missing <= 0) return;
    this.room(missing);
    this.bytes.copyWithin(from + missing, from, this.length);
    this.bytes.fill(SPACE, from, from + missing);
    this.length += missing;
  }
}

/** Digits of 64 bits in hexadecimal. */
export function hexLength(hi: number, lo: number): number {
  return hi !== 0 ? 16 - (Math.clz32(hi) >> 2) : lo === 0 ? 1 : 8 - (Math.clz32(lo) >> 2);
}
