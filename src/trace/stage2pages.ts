/**
 * How many pages stage 2 maps, from the descriptors that changed: leaves of 4 KiB, 2 MiB and 1 GiB counted as
 * 4 KiB pages. A table that is unlinked takes what it still maps with it.
 */
const VALID = 1;
const TABLE = 2;
const LAST_LEVEL = 3;
/** Output address of a descriptor: bits 47:12. */
const LOW_ADDRESS = 0xfffff000;
const HIGH_ADDRESS = 0xffff;

interface Table {
  pages: number;
  readonly children: Set<number>;
}

export class Stage2Pages {
  private readonly tables = new Map<number, Table>();
  total = 0;

  /** A descriptor of `table` changed. The words are of the event stage2_entry. */
  entry(table: number, level: number, oldHi: number, oldLo: number, newHi: number, newLo: number): void {
    const t = this.table(table);
    const delta = leafPages(level, newLo) - leafPages(level, oldLo);
    t.pages += delta;
    this.total += delta;
    const before = child(level, oldHi, oldLo);
    const after = child(level, newHi, newLo);
    if (before === after) return;
    if (before >= 0) {
      t.children.delete(before);
      this.drop(before);
    }
    if (after >= 0) t.children.add(after);
  }

  private table(at: number): Table {
    let t = this.tables.get(at);
    if (t === undefined) this.tables.set(at, (t = { pages: 0, children: new Set() }));
    return t;
  }

  private drop(at: number): void {
    const t = this.tables.get(at);
    if (t === undefined) return;
    this.tables.delete(at);
    this.total -= t.pages;
    for (const c of t.children) this.drop(c);
  }
}

function leafPages(level: number, lo: number): number {
  if ((lo & VALID) === 0) return 0;
  const leaf = level === LAST_LEVEL ? (lo & TABLE) !== 0 : (lo & TABLE) === 0;
  return leaf ? 512 ** (LAST_LEVEL - level) : 0;
}
/** The table that a descriptor points to, or -1. */
function child(level: number, hi: number, lo: number): number {
  if (level === LAST_LEVEL || (lo & (VALID | TABLE)) !== (VALID | TABLE)) return -1;
  return (hi & HIGH_ADDRESS) * 2 ** 32 + ((lo & LOW_ADDRESS) >>> 0);
}
