/**
 * Bytes behind a memory BAR, sparse: a block of 256 bytes exists from the first store into it that is not zero, so that
 * a store to each page of a large BAR does not touch as much memory as the BAR has.
 * A directory has one word for each 2 MiB of the BAR, a table 8192 words, a block 64 words of data.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

const BLOCK = 256;
const BLOCK_WORDS = BLOCK / 4;
const TABLE_SHIFT = 13;
const TABLE_WORDS = 1 << TABLE_SHIFT;

export class BarStorage {
  /** What the last read returned: bits 31..0 and 63..32. */
  lo = 0;
  hi = 0;
  private readonly directories: I32Pool;
  private readonly tables: I32Pool;
  private readonly data: I32Pool;
  /** [0] directory words, [1] tables, [2] blocks in use. Table and block numbers in the pools are + 1. */
  private readonly used: I32Pool;

  constructor(sim: Sim) {
    this.directories = sim.state.i32("bars.directories", 16);
    this.tables = sim.state.i32("bars.tables", 0);
    this.data = sim.state.i32("bars.data", BLOCK_WORDS);
    this.used = sim.state.i32("bars.used", 3);
  }

  /** Reserves storage for a BAR. @returns its handle, the first word of its directory. */
  add(size: number): number {
    const first = this.used.a[0]!;
    const words = Math.ceil(size / (BLOCK * TABLE_WORDS));
    this.used.set(0, first + words);
    this.directories.ensure(first + words);
    return first;
  }

  /** Number of blocks of 256 bytes that have data. */
  get blocks(): number {
    return this.used.a[2]!;
  }

  /** First data word of the block at an offset, or -1 while it is all zero. */
  private block(bar: number, offset: number): number {
    const n = (offset / BLOCK) | 0;
    const table = this.directories.a[bar + (n >>> TABLE_SHIFT)]!;
    if (table === 0) return -1;
    const block = this.tables.a[Math.imul(table - 1, TABLE_WORDS) + (n & (TABLE_WORDS - 1))]!;
    return block === 0 ? -1 : Math.imul(block - 1, BLOCK_WORDS);
  }

  /** A block where there is none. */
  private makeBlock(bar: number, offset: number): number {
    const n = (offset / BLOCK) | 0;
    const d = bar + (n >>> TABLE_SHIFT);
    if (this.directories.a[d] === 0) {
      const t = this.used.a[1]! + 1;
      this.used.set(1, t);
      this.tables.ensure(t * TABLE_WORDS);
      this.directories.set(d, t);
    }
    const b = this.used.a[2]! + 1;
    this.used.set(2, b);
    this.data.ensure(b * BLOCK_WORDS);
    this.tables.set((this.directories.a[d]! - 1) * TABLE_WORDS + (n & (TABLE_WORDS - 1)), b);
    return (b - 1) * BLOCK_WORDS;
  }

  /** The aligned 32-bit word that contains an offset. */
  word(bar: number, offset: number): number {
    const block = this.block(bar, offset);
    return block < 0 ? 0 : this.data.a[block + ((offset & (BLOCK - 1)) >> 2)]!;
  }

  /** As `block`, made where it is absent and something else than zero is to be written. */
  private blockFor(bar: number, offset: number, value: number): number {
    const block = this.block(bar, offset);
    return block >= 0 || value === 0 ? block : this.makeBlock(bar, offset);
  }

  private setWord(bar: number, offset: number, value: number): void {
    const block = this.blockFor(bar, offset, value);
    if (block >= 0) this.data.set(block + ((offset & (BLOCK - 1)) >> 2), value);
  }

  /** Both words of an aligned 64-bit one, which lie in one block. */
  private setWords(bar: number, offset: number, lo: number, hi: number): void {
    const block = this.blockFor(bar, offset, lo | hi);
    if (block >= 0) this.data.set2(block + ((offset & (BLOCK - 1)) >> 2), lo, hi);
  }

  /** Up to four bytes from any offset, zero-extended to 32 bits. */
  private part(bar: number, offset: number, size: number): number {
    const shift = (offset & 3) * 8;
    let v = this.word(bar, offset) >>> shift;
    if ((offset & 3) + size > 4) v |= this.word(bar, offset + 4) << (32 - shift);
    return size >= 4 ? v | 0 : v & ((1 << (8 * size)) - 1);
  }

  private setPart(bar: number, offset: number, size: number, value: number): void {
    const shift = (offset & 3) * 8;
    if (size >= 4 && shift === 0) return this.setWord(bar, offset, value);
    const mask = size >= 4 ? -1 : (1 << (8 * size)) - 1;
    this.setWord(bar, offset, (this.word(bar, offset) & ~(mask << shift)) | ((value & mask) << shift));
    if ((offset & 3) + size <= 4) return;
    const up = 32 - shift;
    this.setWord(bar, offset + 4, (this.word(bar, offset + 4) & ~(mask >>> up)) | ((value & mask) >>> up));
  }

  /** Reads 1, 2, 4 or 8 bytes at any alignment into lo, hi. */
  read(bar: number, offset: number, size: number): void {
    this.lo = this.part(bar, offset, size < 4 ? size : 4);
    this.hi = size > 4 ? this.part(bar, offset + 4, size - 4) : 0;
  }

  /** Writes 1, 2, 4 or 8 bytes at any alignment. */
  write(bar: number, offset: number, size: number, lo: number, hi: number): void {
    if (size === 8 && (offset & 7) === 0) return this.setWords(bar, offset, lo, hi);
    this.setPart(bar, offset, size < 4 ? size : 4, lo);
    if (size > 4) this.setPart(bar, offset + 4, size - 4, hi);
  }
}
