/** Text as bytes that grow: numbers are written as digits into one buffer, so that no string is made per event. */
import { ByteBuffer } from "./bytebuffer.js";
import { DECIMAL_BYTES, putDecimal, putDigits } from "./putbytes.js";

const SPACE = 32;

export class TextBuffer extends ByteBuffer {
  text(s: string): void {
    this.append(Buffer.from(s));
  }

  /** @param v a whole number between -2^53 and 2^53 */
  decimal(v: number): void {
    this.length = putDecimal(this.room(DECIMAL_BYTES), this.length, v);
  }

  /** The last `count` digits of a 32-bit number, with leading zeros. */
  digits(v: number, count: number): void {
    this.length = putDigits(this.room(count), this.length, v, count);
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
