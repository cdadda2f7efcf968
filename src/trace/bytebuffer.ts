/** Bytes that grow: what the writers of text and of protocol buffers append to. */

/** Bytes that a number takes at most, or the padding of one. */
const NUMBER = 64;
const HEX_DIGITS = Uint8Array.from("0123456789abcdef", (c) => c.charCodeAt(0));

export class ByteBuffer {
  bytes: Uint8Array;
  length = 0;

  /** @param size in bytes, to begin with */
  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  /** There are n more bytes behind what was written. */
  protected room(n: number): void {
    if (this.length + n <= this.bytes.length) return;
    const more = new Uint8Array(2 * (this.length + n));
    more.set(this.bytes.subarray(0, this.length));
    this.bytes = more;
  }

  put(encoded: Uint8Array): void {
    this.putPart(encoded, 0, encoded.length);
  }
  /** Of what is encoded, what lies between two places. */
  putPart(encoded: Uint8Array, from: number, to: number): void {
    this.room(to - from);
    const { bytes } = this;
    let at = this.length;
    let i = from;
    // Parts are short: a loop costs less than the call of a copy; V8 looks at both arrays anew in each turn of it.
    for (; i + 4 <= to; i += 4) {
      bytes[at] = encoded[i]!;
      bytes[at + 1] = encoded[i + 1]!;
      bytes[at + 2] = encoded[i + 2]!;
      bytes[at + 3] = encoded[i + 3]!;
      at += 4;
    }
    for (; i < to; i++) bytes[at++] = encoded[i]!;
    this.length = at;
  }

  /** 64 bits as text in lower-case hexadecimal, with leading zeros up to `least` digits. */
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
}

/** Digits of 64 bits in hexadecimal. */
export function hexLength(hi: number, lo: number): number {
  return hi !== 0 ? 16 - (Math.clz32(hi) >> 2) : lo === 0 ? 1 : 8 - (Math.clz32(lo) >> 2);
}
