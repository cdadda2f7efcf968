/**
 * One CPU's ring buffer: pages of events as the kernel's ring buffer writes them (kernel/trace/ring_buffer.c):
 * a page begins with its first time stamp and the bytes used; an event with 5 bits of length and 27 bits of
 * time since the event before; longer gaps get a time-extend event.
 */
import { PUT_PAIR, PUT_TEXT, PUT_U32, PUT_U64, PUT_U8, ZERO_WORD, type Layout } from "./layout.js";

export const PAGE = 4096;
const HEAD = 16;
/** Pages between two writes. */
const PAGES = 32;
const CHUNK = PAGE * PAGES;
/** Longest record: common fields, ten numbers, four texts. */
const LONGEST_RECORD = 1024;
const TIME_EXTEND = 30;
const MAX_DELTA = 2 ** 27;
/** Data of at most 28 words has its length in the head. */
const SHORT_BYTES = 112;
const TWO32 = 2 ** 32;
/** Texts are cut there: no kernel name is longer. */
export const LONGEST_TEXT = 200;

export class RingPages {
  private readonly bytes = new Uint8Array(CHUNK);
  private readonly words = new Uint32Array(this.bytes.buffer);
  /** Byte offset of the open page in the chunk, and of the next event in the chunk. */
  private page = 0;
  private at = HEAD;
  private last = 0;
  /** Pages written or open. */
  pages = 0;

  /**
   * @param pid common_pid of this CPU's only thread
   * @param flush gets a full chunk
   * @param text the bytes of an interned string with a NUL behind
   */
  constructor(
    private readonly pid: number,
    private readonly flush: (bytes: Uint8Array, length: number) => void,
    private readonly text: (id: number) => Uint8Array,
  ) {}

  /** Adds one event. @param time nanoseconds, not before the last one's */
  add(l: Layout, time: number, ring: Float64Array, record: number): void {
    if (this.pages === 0 || this.at - this.page > PAGE - LONGEST_RECORD) this.open(time);
    const { words, bytes } = this;
    let delta = time - this.last;
    if (delta >= MAX_DELTA) {
      const high = Math.floor(delta / MAX_DELTA);
      words[this.at >> 2] = ((delta % MAX_DELTA) << 5) | TIME_EXTEND;
      words[(this.at >> 2) + 1] = high;
      this.at += 8;
      delta = 0;
    }
    this.last = time;
    const head = this.at >> 2;
    // Texts make the length unknown until they are written; long records have it in a word of its own.
    const long = l.size > SHORT_BYTES || l.hasText;
    const start = this.at + (long ? 8 : 4);
    const w = start >> 2;
    words[w] = l.type;
    words[w + 1] = this.pid;
    let end = start + l.size;
    const { steps } = l;
    for (let i = 0; i < steps.length; i += 3) {
      const to = start + steps[i + 1]!;
      const from = record + steps[i + 2]!;
      switch (steps[i]) {
        case PUT_U64: {
          const v = ring[from]!;
          words[to >> 2] = v;
          words[(to >> 2) + 1] = v < TWO32 && v >= 0 ? 0 : Math.floor(v / TWO32);
          break;
        }
        case PUT_PAIR:
          words[to >> 2] = ring[from + 1]!;
          words[(to >> 2) + 1] = ring[from]!;
          break;
        case PUT_U32:
          words[to >> 2] = ring[from]!;
          break;
        case PUT_U8:
          bytes[to] = ring[from]!;
          break;
        case PUT_TEXT: {
          const text = this.text(ring[from]!);
          words[to >> 2] = (text.length << 16) | (end - start);
          const padded = (text.length + 3) & ~3;
          words[(end + padded - 4) >> 2] = 0;
          bytes.set(text, end);
          end += padded;
          break;
        }
        case ZERO_WORD:
          words[to >> 2] = 0;
      }
    }
    if (long) {
      words[head] = delta * 32;
      words[head + 1] = end - start + 4;
    } else words[head] = delta * 32 + (l.size >> 2);
    this.at = end;
  }

  private open(time: number): void {
    if (this.pages > 0) this.close();
    this.pages++;
    const w = this.page >> 2;
    this.words[w] = time;
    this.words[w + 1] = Math.floor(time / TWO32);
    this.at = this.page + HEAD;
    this.last = time;
  }

  /** Writes the bytes used and clears the rest of the page. */
  private close(): void {
    const w = this.page >> 2;
    this.words[w + 2] = this.at - this.page - HEAD;
    this.words[w + 3] = 0;
    this.bytes.fill(0, this.at, this.page + PAGE);
    this.page += PAGE;
    if (this.page === CHUNK) {
      this.flush(this.bytes, CHUNK);
      this.page = 0;
    }
  }

  /** Hands over what is left. */
  end(): void {
    if (this.pages === 0) return;
    this.close();
    if (this.page > 0) this.flush(this.bytes, this.page);
    this.page = 0;
  }
}
