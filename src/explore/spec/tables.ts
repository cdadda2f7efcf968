/**
 * A tree of VMSAv8-64 tables read word by word, 4 KiB granule: the specification's own reader, from the Arm ARM
 * (D8.3 translation table descriptor formats) and arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h.
 *
 * bit of a descriptor | stage 1 (host)            | stage 2
 * 0, 1                | valid; table (page at level 3) or block
 * 5:2                 | AttrIndx                  | MemAttr
 * 6                   | AP[1]                     | S2AP read
 * 7                   | AP[2] read-only           | S2AP write
 * 47:12               | output address
 * 51                  | DBM: Linux' PTE_WRITE     |
 * 58                  | PTE_PROT_NONE             |
 */
export interface TableLeaf {
  /** First address that it maps, how many bytes, to which page (physical address / 4096). */
  at: number;
  size: number;
  page: number;
  low: number;
  high: number;
}

const BYTES = [2 ** 39, 2 ** 30, 2 ** 21, 2 ** 12] as const;
const ADDRESS_HIGH = 0xffff;
const PROT_NONE = 1 << 26;

/** Whether the host's entry lets its user write: PTE_WRITE, dirty or not. */
export const hostWrites = (leaf: TableLeaf): boolean => (leaf.high & (1 << 19)) !== 0;
export const guestWrites = (leaf: TableLeaf): boolean => (leaf.low & (1 << 7)) !== 0;
/** MemAttr[3:0] of a stage-2 leaf. */
export const guestMemAttr = (leaf: TableLeaf): number => (leaf.low >>> 2) & 15;

/** A window of physical memory that holds tables: its words, and the address of the first. */
export interface TableMemory {
  readonly words: Int32Array;
  readonly base: number;
}

/**
 * The leaves of a tree, by rising address.
 * @param root physical address of the table at `level` @param entries of the root (concatenated tables have more than 512)
 */
export function leavesOf({ words, base }: TableMemory, root: number, level: number, entries = 512): TableLeaf[] {
  const out: TableLeaf[] = [];
  const table = (address: number, lvl: number, from: number, count: number): void => {
    const first = (address - base) / 4;
    for (let n = 0; n < count; n++) {
      const low = words[first + 2 * n]!;
      const high = words[first + 2 * n + 1]!;
      if ((low | high) === 0) continue;
      const next = (high & ADDRESS_HIGH) * 2 ** 32 + ((low & ~0xfff) >>> 0);
      const at = from + n * BYTES[lvl]!;
      if ((low & 1) === 0 ? (high & PROT_NONE) === 0 : lvl === 3 && (low & 2) === 0) continue;
      if (lvl < 3 && (low & 3) === 3) table(next, lvl + 1, at, 512);
      else out.push({ at, size: BYTES[lvl]!, page: next / 4096, low, high });
    }
  };
  if (root !== 0) table(root, level, 0, entries);
  return out;
}
