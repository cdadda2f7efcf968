/** Reading a tree of translation tables of the host's window, entry by entry, in the order of addresses: for dumps. */
import { HI_OA } from "../arch/descriptors.js";
import type { TablePages } from "../arch/tables.js";

/** Bytes that an entry maps, by level (4 KiB granule). */
export const ENTRY_SIZE = [2 ** 39, 2 ** 30, 2 ** 21, 4096] as const;

/** An entry that is no table and not empty. */
export interface TableEntry {
  readonly address: number;
  readonly level: number;
  readonly hi: number;
  readonly lo: number;
}

export function outputOf(hi: number, lo: number): number {
  return (hi & HI_OA) * 4294967296 + ((lo & ~0xfff) >>> 0);
}

/** @param entries of the entry level: 512, or more where tables are concatenated */
export function* tableEntries(tables: TablePages, root: number, level: number, entries = 512): Generator<TableEntry> {
  yield* walk(tables, root, level, 0, entries);
}

function* walk(tables: TablePages, pa: number, level: number, base: number, entries: number): Generator<TableEntry> {
  const words = tables.words.a;
  const from = tables.word(pa);
  for (let i = 0; i < entries; i++) {
    const lo = words[from + 2 * i]!;
    const hi = words[from + 2 * i + 1]!;
    if ((lo | hi) === 0) continue;
    const address = base + i * ENTRY_SIZE[level as 0 | 1 | 2 | 3];
    if (level < 3 && (lo & 3) === 3) yield* walk(tables, outputOf(hi, lo), level + 1, address, 512);
    else yield { address, level, hi, lo };
  }
}
