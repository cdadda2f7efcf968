/** Protocol-buffer wire format: varints, fixed 64-bit numbers, texts, nested messages of any length. */
import { hexLength } from "./textbuffer.js";

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
/** Lengths of nested messages are written in so many bytes, padded: known only at their end. */
const LENGTH_BYTES = 4;
const TWO32 = 2 ** 32;
const TWO64 = 2n ** 64n;

export class ProtoWriter {
  bytes: Uint8Array;
  length = 0;

  /** @param size in bytes, to begin with */
  constructor(size = 1 << 17) {
    this.bytes = new Uint8Array(size);
  }

  private room(n: number): void {
    if (this.length + n <= this.bytes.length) return;
    const more = new Uint8Array(2 * (this.length + n));
    more.set(this.bytes.subarray(0, this.length));
    this.bytes = more;
  }
  private varint(v: number): void {
    this.room(10);
    let n = v;
    if (n < 2 ** 31) {
      // Without divisions.
      for (; n >= 128; n >>>= 7) this.bytes[this.length++] = (n & 127) | 128;
      this.bytes[this.length++] = n;
      return;
    }
    while (n >= 128) {
      this.bytes[this.length++] = (n % 128) | 128;
      n = Math.floor(n / 128);
    }
    this.bytes[this.length++] = n;
  }
  private key(field: number, wire: number): void {
    this.varint(field * 8 + wire);
  }
  /** @param v at least 0, at most 2^53 */
  uint(field: number, v: number): void {
    this.key(field, VARINT);
    this.varint(v);
  }
  /** A negative number, as int64: ten bytes. */
  int(field: number, v: number): void {
    this.key(field, VARINT);
    let n = BigInt(v) + TWO64;
    this.room(10);
    while (n >= 128n) {
      this.bytes[this.length++] = Number(n & 127n) | 128;
      n >>= 7n;
    }
    this.bytes[this.length++] = Number(n);
  }
  fixed64(field: number, v: number): void {
    this.key(field, FIXED64);
    this.room(8);
    for (let i = 0, part = v % TWO32; i < 8; i++, part = i === 4 ? Math.floor(v / TWO32) : part / 256)
      this.bytes[this.length++] = part & 255;
  }
  text(field: number, s: string): void {
    this.textBytes(field, Buffer.from(s));
  }
  textBytes(field: number, utf8: Uint8Array): void {
    this.key(field, LENGTH);
    this.varint(utf8.length);
    this.raw(utf8);
  }
  /** `0x` and 64 bits in hexadecimal. */
  hexText(field: number, hi: number, lo: number): void {
    const digits = hexLength(hi, lo);
    this.key(field, LENGTH);
    this.varint(2 + digits);
    this.room(2 + digits);
    const { bytes } = this;
    bytes[this.length++] = 0x30;
    bytes[this.length++] = 0x78;
    let at = (this.length += digits);
    let n = lo;
    for (let i = 0; i < digits; i++) {
      if (i === 8) n = hi;
      const digit = n & 15;
      bytes[--at] = digit < 10 ? 0x30 + digit : 0x57 + digit;
      n >>>= 4;
    }
  }
  /** Fields that were encoded before. */
  raw(encoded: Uint8Array): void {
    this.room(encoded.length);
    const { bytes } = this;
    let at = this.length;
    for (let i = 0; i < encoded.length; i++) bytes[at++] = encoded[i]!;
    this.length = at;
  }
  /** A nested message begins. @returns what `end` wants */
  begin(field: number): number {
    this.key(field, LENGTH);
    this.room(LENGTH_BYTES);
    this.length += LENGTH_BYTES;
    return this.length;
  }
  end(from: number): void {
    let n = this.length - from;
    for (let at = from - LENGTH_BYTES; at < from; at++, n >>>= 7) this.bytes[at] = (n & 127) | (at < from - 1 ? 128 : 0);
  }
  message(field: number, body: () => void): void {
    const from = this.begin(field);
    body();
    this.end(from);
  }
  /** What was written, copied; the writer is empty again. */
  taken(): Uint8Array {
    const bytes = this.bytes.slice(0, this.length);
    this.length = 0;
    return bytes;
  }
}
