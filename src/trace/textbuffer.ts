/** Text as bytes that grow: numbers are written as digits into one buffer, so that no string is made per event. */
import { ByteBuffer } from "./bytebuffer.js";

const TWO32 = 2 ** 32;
const BILLION = 1e9;
const MINUS = 45;
const ZERO = 48;
const SPACE = 32;
/** Bytes that a number takes at most, or the padding of one. */
const NUMBER = 64;

/** "00" to "99", as two bytes: the first digit in the low one. */
const PAIRS = Uint16Array.from({ length: 100 }, (_, i) => (ZERO + Math.floor(i / 10)) | ((ZERO + (i % 10)) << 8));

export class TextBuffer extends ByteBuffer {
  text(s: string): void {
    this.append(Buffer.from(s));
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
    const { view } = this;
    let n = v >>> 0;
    const start = this.length;
    let at = start + count;
    this.length = at;
    while (at > start + 1) {
      const q = (n / 100) >>> 0;
      at -= 2;
      view.setUint16(at, PAIRS[n - q * 100]!, true);
      n = q;
    }
    if (at > start) this.bytes[start] = ZERO + (n % 10);
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
