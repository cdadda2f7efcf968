/** Protocol-buffer wire format: varints, fixed 64-bit numbers, texts, nested messages of any length. */

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
/** Lengths of nested messages are written in so many bytes, padded: known only at their end. */
const LENGTH_BYTES = 4;
const TWO32 = 2 ** 32;
const TWO64 = 2n ** 64n;

export class ProtoWriter {
  bytes = new Uint8Array(1 << 17);
  length = 0;

  private room(n: number): void {
    if (this.length + n <= this.bytes.length) return;
    const more = new Uint8Array(2 * (this.length + n));
    more.set(this.bytes.subarray(0, this.length));
    this.bytes = more;
  }
  private varint(v: number): void {
    this.room(10);
    let n = v;
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
    this.room(utf8.length);
    this.bytes.set(utf8, this.length);
    this.length += utf8.length;
  }
  message(field: number, body: () => void): void {
    this.key(field, LENGTH);
    this.room(LENGTH_BYTES);
    const at = this.length;
    this.length += LENGTH_BYTES;
    body();
    let n = this.length - at - LENGTH_BYTES;
    for (let i = 0; i < LENGTH_BYTES; i++, n >>>= 7) this.bytes[at + i] = (n & 127) | (i < LENGTH_BYTES - 1 ? 128 : 0);
  }
  clear(): void {
    this.length = 0;
  }
}
