/** Protocol-buffer wire format: varints, fixed 64-bit numbers, texts, nested messages of any length. */
import { ByteBuffer, encode } from "./bytebuffer.js";
import { hexLength } from "./putbytes.js";

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
/** Lengths of nested messages are written in so many bytes, padded: known only at their end. */
const LENGTH_BYTES = 4;
const TWO32 = 2 ** 32;
const TWO64 = 2n ** 64n;
const HEX_PREFIX = encode("0x");

export class ProtoWriter extends ByteBuffer {
  constructor(size = 1 << 17) {
    super(size);
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
    const utf8 = Buffer.from(s);
    this.key(field, LENGTH);
    this.varint(utf8.length);
    this.append(utf8);
  }
  /** `0x` and 64 bits in hexadecimal. */
  hexText(field: number, hi: number, lo: number): void {
    this.key(field, LENGTH);
    this.varint(HEX_PREFIX.length + hexLength(hi, lo));
    this.put(HEX_PREFIX);
    this.hex(hi, lo);
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
