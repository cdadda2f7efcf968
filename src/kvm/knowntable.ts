/**
 * A stage-2 table that a walk came to, for the next one to begin in: while no table was freed, and no table entry
 * changed, an address of the same region has its entry there.
 */
import { TABLE_WORDS, type TablePages } from "../arch/tables.js";

export class KnownTable {
  /** Of which VM, from which address on, its first word; and `reshaped` then. */
  private vm = -1;
  private start = 0;
  private table = 0;
  private shape = 0;
  /** Bytes that the table maps. */
  private readonly size: number;

  /** @param shift log2 of the bytes that an entry maps: 12 or 21 */
  constructor(
    private readonly tables: TablePages,
    private readonly shift: number,
  ) {
    this.size = (TABLE_WORDS / 2) * 2 ** shift;
  }

  /** The entry of an address: the place of its low word, or -1 where it is not in this table. */
  entry(vm: number, ipa: number): number {
    const within = ipa - this.start;
    const known = within >= 0 && within < this.size && this.vm === vm && this.shape === this.tables.reshaped;
    return known ? (this.table + ((within >>> this.shift) << 1)) | 0 : -1;
  }
  /** A walk has come to the entry of an address. */
  cameTo(vm: number, ipa: number, at: number): void {
    this.vm = vm;
    this.start = ipa - (ipa & (this.size - 1));
    this.table = at & ~(TABLE_WORDS - 1);
    this.shape = this.tables.reshaped;
  }
}
