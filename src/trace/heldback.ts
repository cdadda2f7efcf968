/**
 * Output in which a place can be kept for what is known only later: the name of a phase, which the viewers want
 * where the phase begins. What comes after such a place is held back until it is filled, up to a limit.
 */
import type { ByteOutput } from "./jsonlines.js";

/** Held back in front of the oldest place at most; then that place stays empty. */
const HELD_BYTES = 1 << 22;
/** Written in pieces of at least so many bytes. */
const PIECE_BYTES = 1 << 16;
/** Bytes from which on a copy is called. */
const LONG = 256;

export class HeldBack {
  /** What is held: the parts lie in it in any order. */
  private arena = new Uint8Array(2 * PIECE_BYTES);
  private used = 0;
  /** By part, in order: where it lies in the arena, and how long it is. */
  private starts: number[] = [];
  private lengths: number[] = [];
  /** The number of parts before those, all of them written. */
  private written = 0;
  private bytes = 0;
  /** Places kept, oldest first: the number of the part, by a key of the caller's. */
  private readonly places = new Map<number, number>();
  private piece = new Uint8Array(2 * PIECE_BYTES);

  constructor(private readonly out: ByteOutput) {}

  /** @param bytes copied: of them the first `length` */
  add(bytes: Uint8Array, length = bytes.length): void {
    if (length === 0) return;
    this.starts.push(this.copy(bytes, length));
    this.lengths.push(length);
    if (this.bytes < PIECE_BYTES) return;
    const oldest = this.places.keys().next();
    if (this.bytes > HELD_BYTES && oldest.done !== true) this.places.delete(oldest.value);
    this.write();
  }
  /** Keeps a place here, and gives up the one that this key had. */
  keep(key: number): void {
    this.places.delete(key);
    this.places.set(key, this.written + this.starts.length);
    this.starts.push(0);
    this.lengths.push(0);
  }
  /** @returns whether there was a place; it is none any more */
  fill(key: number, bytes: Uint8Array, length = bytes.length): boolean {
    const at = this.places.get(key);
    if (at === undefined) return false;
    this.places.delete(key);
    this.starts[at - this.written] = this.copy(bytes, length);
    this.lengths[at - this.written] = length;
    return true;
  }
  giveUp(key: number): void {
    this.places.delete(key);
  }
  finish(): void {
    this.places.clear();
    this.write();
  }

  /** @returns where it lies in the arena */
  private copy(bytes: Uint8Array, length: number): number {
    const at = this.used;
    this.arena = grown(this.arena, at + length, at);
    copyBytes(bytes, 0, length, this.arena, at);
    this.used += length;
    this.bytes += length;
    return at;
  }

  /** Writes what no place holds back. */
  private write(): void {
    const oldest = this.places.values().next();
    const ready = oldest.done === true ? this.starts.length : oldest.value - this.written;
    if (ready === 0) return;
    const length = this.gather(0, ready);
    if (length > 0) this.out.write(this.piece, length);
    this.written += ready;
    this.bytes -= length;
    // What is still held moves to the arena's beginning.
    const rest = this.gather(ready, this.starts.length);
    const starts: number[] = [];
    this.lengths = this.lengths.slice(ready);
    for (let n = 0, at = 0; n < this.lengths.length; at += this.lengths[n++]!) starts.push(at);
    this.starts = starts;
    [this.arena, this.piece] = [this.piece, this.arena];
    this.used = rest;
  }

  /** Puts parts one after the other into the piece. @returns its length */
  private gather(from: number, to: number): number {
    let length = 0;
    for (let n = from; n < to; n++) length += this.lengths[n]!;
    this.piece = grown(this.piece, length, 0);
    for (let n = from, at = 0; n < to; n++) at = copyBytes(this.arena, this.starts[n]!, this.lengths[n]!, this.piece, at);
    return length;
  }
}

/** The array, or a larger one with its first bytes. */
function grown(bytes: Uint8Array<ArrayBuffer>, size: number, keep: number): Uint8Array<ArrayBuffer> {
  if (size <= bytes.length) return bytes;
  const more = new Uint8Array(2 * size);
  more.set(bytes.subarray(0, keep));
  return more;
}

/** Parts are short as a rule: a loop costs less than a call. @returns where the next begins */
function copyBytes(from: Uint8Array, start: number, length: number, to: Uint8Array, at: number): number {
  if (length > LONG) to.set(from.subarray(start, start + length), at);
  else for (let i = 0; i < length; i++) to[at + i] = from[start + i]!;
  return at + length;
}
