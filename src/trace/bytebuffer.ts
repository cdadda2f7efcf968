/** Bytes that grow: what the writers of text and of protocol buffers append to. */

/** Bytes that a number takes at most, or the padding of one. */
const NUMBER = 64;
const HEX_DIGITS = Uint8Array.from("0123456789abcdef", (c) => c.charCodeAt(0));
/** "00" to "ff", as two bytes: the first digit in the low one. */
const HEX_PAIRS = Uint16Array.from({ length: 256 }, (_, i) => HEX_DIGITS[i >> 4]! | (HEX_DIGITS[i & 15]! << 8));

/** Bytes that are written again and again: four in each word, the first in its low byte, the last word filled up with zeros. */
export interface Encoded {
  readonly words: Int32Array;
  /** Bytes. */
  readonly length: number;
}

/** @returns the text in UTF-8 */
export function encode(text: string): Encoded {
  return encodedBytes(Buffer.from(text));
}
export function encodedBytes(bytes: Uint8Array): Encoded {
  const words = new Int32Array((bytes.length + 3) >> 2);
  for (let i = 0; i < bytes.length; i++) words[i >> 2]! |= bytes[i]! << (8 * (i & 3));
  return { words, length: bytes.length };
}

export class ByteBuffer {
  bytes: Uint8Array;
  length = 0;
  /** Of `bytes`. */
  protected view: DataView;

  /** @param size in bytes, to begin with */
  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  /** There are n more bytes behind what was written. */
  protected room(n: number): void {
    if (this.length + n > this.bytes.length) this.grow(n);
  }
  private grow(n: number): void {
    const more = new Uint8Array(2 * (this.length + n));
    more.set(this.bytes.subarray(0, this.length));
    this.bytes = more;
    this.view = new DataView(more.buffer);
  }

  put(e: Encoded): void {
    this.putWords(e.words, 0, e.length);
  }
  /** Encoded bytes that begin with a word of their own. @param length bytes */
  putWords(words: Int32Array, from: number, length: number): void {
    // A word at a time: what it writes too much the next writer takes.
    this.room(length + 3);
    const { view } = this;
    const start = this.length;
    const end = start + length;
    this.length = end;
    for (let at = start, i = from; at < end; at += 4, i++) view.setInt32(at, words[i]!, true);
  }
  /** Bytes that come once. */
  append(bytes: Uint8Array): void {
    this.room(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** 64 bits as text in lower-case hexadecimal, with leading zeros up to `least` digits. */
  hex(hi: number, lo: number, least = 1): void {
    this.room(NUMBER);
    const { view } = this;
    const count = Math.max(hexLength(hi, lo), least);
    let at = (this.length += count);
    let n = lo;
    for (let i = 0; i < count; i += 2) {
      if (i === 8) n = hi;
      else if (i === 16) n = 0;
      at -= 2;
      if (i + 1 < count) view.setUint16(at, HEX_PAIRS[n & 255]!, true);
      else this.bytes[at + 1] = HEX_DIGITS[n & 15]!;
      n >>>= 8;
    }
  }
}

/** Digits of 64 bits in hexadecimal. */
export function hexLength(hi: number, lo: number): number {
  return hi !== 0 ? 16 - (Math.clz32(hi) >> 2) : lo === 0 ? 1 : 8 - (Math.clz32(lo) >> 2);
}
