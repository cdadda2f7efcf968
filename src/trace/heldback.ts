/**
 * Output in which a place can be kept for what is known only later: the name of a phase, which the viewers want
 * where the phase begins. What comes after such a place is held back until it is filled, up to a limit.
 */
import type { ByteOutput } from "./jsonlines.js";

/** Held back in front of the oldest place at most; then that place stays empty. */
const HELD_BYTES = 1 << 22;
/** Written in pieces of at least so many bytes. */
const PIECE_BYTES = 1 << 16;

export class HeldBack {
  private parts: (Uint8Array | undefined)[] = [];
  /** The number of parts before `parts`, all of them written. */
  private written = 0;
  private bytes = 0;
  /** Places kept, oldest first: the number of the part, by a key of the caller's. */
  private readonly places = new Map<number, number>();

  constructor(private readonly out: ByteOutput) {}

  /** @param bytes the caller does not change them any more */
  add(bytes: Uint8Array): void {
    this.parts.push(bytes);
    this.bytes += bytes.length;
    if (this.bytes < PIECE_BYTES) return;
    const oldest = this.places.keys().next();
    if (this.bytes > HELD_BYTES && oldest.done !== true) this.places.delete(oldest.value);
    this.write();
  }
  /** Keeps a place here, and gives up the one that this key had. */
  keep(key: number): void {
    this.places.delete(key);
    this.places.set(key, this.written + this.parts.length);
    this.parts.push(undefined);
  }
  /** @returns whether there was a place; it is none any more */
  fill(key: number, bytes: Uint8Array): boolean {
    const at = this.places.get(key);
    if (at === undefined) return false;
    this.places.delete(key);
    this.parts[at - this.written] = bytes;
    this.bytes += bytes.length;
    return true;
  }
  giveUp(key: number): void {
    this.places.delete(key);
  }
  finish(): void {
    this.places.clear();
    this.write();
  }

  /** Writes what no place holds back. */
  private write(): void {
    const oldest = this.places.values().next();
    const ready = oldest.done === true ? this.parts.length : oldest.value - this.written;
    const piece = Buffer.concat(this.parts.slice(0, ready).filter((p) => p !== undefined));
    if (piece.length > 0) this.out.write(piece, piece.length);
    this.parts = this.parts.slice(ready);
    this.written += ready;
    this.bytes -= piece.length;
  }
}
