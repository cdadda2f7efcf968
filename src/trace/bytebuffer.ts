/** Bytes that grow: what the writers of text and of protocol buffers append to. */
import { copyWords, COPY_SLACK, HEX_BYTES, putHex } from "./putbytes.js";

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

/** As `copyWords`, of the whole text. */
export function putEncoded(view: DataView, at: number, e: Encoded): number {
  return copyWords(view, at, e.words, 0, e.length);
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

  /** @returns the bytes, with room for n more behind what was written: whoever writes them sets `length` */
  room(n: number): DataView {
    if (this.length + n > this.bytes.length) this.grow(n);
    return this.view;
  }
  private grow(n: number): void {
    const more = new Uint8Array(2 * (this.length + n));
    more.set(this.bytes.subarray(0, this.length));
    this.bytes = more;
    this.view = new DataView(more.buffer);
  }

  put(e: Encoded): void {
    this.length = putEncoded(this.room(e.length + COPY_SLACK), this.length, e);
  }
  /** Bytes that come once. */
  append(bytes: Uint8Array): void {
    this.room(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** 64 bits as text in lower-case hexadecimal, with leading zeros up to `least` digits. */
  hex(hi: number, lo: number, least = 1): void {
    this.length = putHex(this.room(Math.max(least, HEX_BYTES)), this.length, hi, lo, least);
  }
}
