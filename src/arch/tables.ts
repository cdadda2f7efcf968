/**
 * Translation-table pages: a window of host RAM from which both the host's own tables and KVM's
 * stage-2 tables come, so that a descriptor's output address is a real physical address.
 *
 * words: interleaved, the low word of descriptor i at 2i, its high word at 2i + 1; a 4 KiB page is
 * 512 descriptors, 1024 words. Page n of the window holds words 1024n … 1024n + 1023.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { DESC_VALID, isTable } from "./descriptors.js";
import type { PhysicalMemory } from "./phys.js";
import { PAGE_SIZE, type Pa } from "./types.js";

/** Words of one table page. */
export const TABLE_WORDS = 1024;
/** meta: [0] pages ever handed out, [1 + order] head of the free list of 2^order pages (page + 1). */
const HIGH_WATER = 0;
const FREE = 1;
const MAX_ORDER = 4;
/** Words of `changes`. */
export const CHANGES = 0;
export const LINKS = 1;

export class TablePages {
  readonly words: I32Pool;
  /** page_count() of each table page: 1 when allocated; KVM adds one per non-zero entry. */
  readonly refs: I32Pool;
  readonly base: Pa;
  readonly size: number;
  private readonly next: I32Pool;
  private readonly meta: I32Pool;
  /** [CHANGES] counts changes of valid descriptors, [LINKS] those of table descriptors among them: a cached leaf or table older than its count may be stale. */
  readonly changes: I32Pool;
  /** Counts as [LINKS] does, and each time that a table is freed or state put back: for who remembers outside of the pools where a walk came to. */
  reshaped = 0;
  /** Of the descriptors that the last `clearPages` cleared, how many were valid. */
  clearedValid = 0;
  /** Page number of the window, its low 32 bits. */
  private readonly basePage: number;
  /** Pages in use now, for memory figures. */
  private readonly used: I32Pool;

  /**
   * @param base first byte of the window, aligned to 64 KiB (16 concatenated tables)
   * @param size bytes, at most 4 GiB; costs nothing until used
   */
  constructor(sim: Sim, phys: PhysicalMemory, { base, size }: { readonly base: number; readonly size: number }) {
    if (base % 65536 !== 0 || size % 65536 !== 0) throw new Error("the table window must be aligned to 64 KiB");
    this.base = base;
    this.basePage = (base / PAGE_SIZE) | 0;
    this.size = size;
    this.words = sim.state.i32("tables.words", TABLE_WORDS * 16);
    this.refs = sim.state.i32("tables.refs", 16);
    this.next = sim.state.i32("tables.next", 16);
    this.meta = sim.state.i32("tables.meta", FREE + MAX_ORDER + 1);
    this.used = sim.state.i32("tables.used", 1);
    this.changes = sim.state.i32("tables.changes", 2);
    phys.attachTables(this);
    sim.state.tally({ store: () => undefined, load: () => this.reshaped++ });
  }

  contains(pa: Pa): boolean {
    const off = pa - this.base;
    return off >= 0 && off < this.size;
  }

  /** Page number in the window: (PA - base) >> 12. */
  index(pa: Pa): number {
    return ((pa - this.base) / PAGE_SIZE) | 0;
  }
  /** Index in `words` of the low word of the descriptor at pa (a multiple of 8); the high word follows. */
  word(pa: Pa): number {
    return ((pa - this.base) / 4) | 0;
  }
  /**
   * Index in `words` of the table that a table descriptor (4 KiB granule) points to. In 32-bit arithmetic, which may
   * wrap: the difference of the page numbers does not.
   */
  tableWord(hi: number, lo: number): number {
    return (((hi << 20) | (lo >>> 12)) - this.basePage) << 10;
  }
  /** Physical address of window page n. */
  pageAddress(n: number): Pa {
    return this.base + n * PAGE_SIZE;
  }

  /** One cleared page with reference count 1. @returns its PA. @throws Error when the window is full. */
  alloc(): Pa {
    return this.allocOrder(0);
  }

  /** n cleared pages (1..16), naturally aligned: a concatenated stage-2 root. */
  allocContiguous(n: number): Pa {
    return this.allocOrder(orderOf(n));
  }

  private allocOrder(order: number): Pa {
    const head = this.meta.a[FREE + order]!;
    if (head !== 0) {
      const page = head - 1;
      this.meta.set(FREE + order, this.next.a[page]!);
      this.next.set(page, 0);
      this.clear(page, 1 << order);
      return this.taken(page, order);
    }
    return this.taken(this.fresh(order), order);
  }

  private taken(page: number, order: number): Pa {
    const n = 1 << order;
    for (let i = 0; i < n; i++) this.refs.set(page + i, 1);
    this.used.set(0, this.used.a[0]! + n);
    return this.pageAddress(page);
  }

  /** Pages never used before; those skipped for alignment become free single pages. */
  private fresh(order: number): number {
    const n = 1 << order;
    let page = this.meta.a[HIGH_WATER]!;
    const aligned = (page + n - 1) & -n;
    if ((aligned + n) * PAGE_SIZE > this.size) throw new Error("the window of translation tables is full");
    this.words.ensure((aligned + n) * TABLE_WORDS);
    this.refs.ensure(aligned + n);
    this.next.ensure(aligned + n);
    for (; page < aligned; page++) this.push(page, 0);
    this.meta.set(HIGH_WATER, aligned + n);
    return aligned;
  }

  private push(page: number, order: number): void {
    this.next.set(page, this.meta.a[FREE + order]!);
    this.meta.set(FREE + order, page + 1);
  }

  private clear(page: number, n: number): void {
    this.words.clear(page * TABLE_WORDS, n * TABLE_WORDS);
  }

  /** Gives pages back, as `alloc` or `allocContiguous(n)` gave them. Their words stay until reuse, as in real memory. */
  free(pa: Pa, n = 1): void {
    const page = this.index(pa);
    const order = orderOf(n);
    this.reshaped++;
    for (let i = 0; i < 1 << order; i++) this.refs.set(page + i, 0);
    this.used.set(0, this.used.a[0]! - (1 << order));
    this.push(page, order);
  }

  /** get_page() on the table page at pa. */
  get(pa: Pa): void {
    const page = this.index(pa);
    this.refs.set(page, this.refs.a[page]! + 1);
  }
  /** put_page() without freeing. @returns the count that is left. */
  put(pa: Pa): number {
    const page = this.index(pa);
    const left = this.refs.a[page]! - 1;
    this.refs.set(page, left);
    return left;
  }
  /** page_count() */
  count(pa: Pa): number {
    return this.refs.a[this.index(pa)]!;
  }

  /**
   * Stores a descriptor. A valid one that changes makes cached copies suspect (see `changes`).
   * The single writers of the host's and of the stage-2 tables go through here.
   */
  write(word: number, level: number, hi: number, lo: number): void {
    const words = this.words;
    const oldLo = words.a[word]!;
    if ((oldLo & DESC_VALID) !== 0 && (oldLo !== lo || words.a[word + 1] !== hi)) this.replaced(oldLo, level);
    words.set2(word, lo, hi);
  }
  /**
   * `write` of zeros to the page descriptors at the words [from, to) of one table, with its counts added once.
   * @returns how many of them were not zero; `clearedValid` tells how many were valid
   */
  clearPages(from: number, to: number): number {
    const words = this.words.a;
    let filled = 0;
    let valid = 0;
    for (let w = from; w < to; w += 2) {
      const lo = words[w]!;
      valid += lo & DESC_VALID;
      if ((lo | words[w + 1]!) !== 0) filled++;
    }
    this.clearedValid = valid;
    this.clearCounted(from, to, filled, valid);
    return filled;
  }
  /** The same for who has counted: `filled` of the descriptors are not zero, `valid` are valid. */
  clearCounted(from: number, to: number, filled: number, valid: number): void {
    // Mostly it is one page.
    if (filled !== 0 && to - from === 2) this.words.set2(from, 0, 0);
    else if (filled !== 0) this.words.clear(from, to - from);
    if (valid !== 0) this.changed(CHANGES, valid);
  }
  private replaced(oldLo: number, level: number): void {
    this.changed(CHANGES, 1);
    if (isTable(oldLo, level)) this.relinked();
  }
  /** A descriptor that pointed to a table may point to another one, or to none. */
  relinked(): void {
    this.reshaped++;
    this.changed(LINKS, 1);
  }
  /** Every cached copy is looked at again before it is believed: a number in its tag stands for other tables. */
  suspect(): void {
    this.changed(CHANGES, 1);
    this.relinked();
  }
  private changed(of: number, n: number): void {
    this.changes.set(of, (this.changes.a[of]! + n) | 0);
  }

  /** Does a valid descriptor of a table page in use point into this range of physical addresses? Looks at all of them. */
  references(base: Pa, size: number): boolean {
    const a = this.words.a;
    for (let page = 0; page < this.meta.a[HIGH_WATER]!; page++) {
      if (this.refs.a[page] === 0) continue;
      for (let w = page * TABLE_WORDS; w < (page + 1) * TABLE_WORDS; w += 2) {
        if ((a[w]! & 1) === 0) continue;
        const pa = (a[w + 1]! & 0xffff) * 4294967296 + ((a[w]! & ~0xfff) >>> 0);
        if (pa >= base && pa < base + size) return true;
      }
    }
    return false;
  }

  /** Pages in use now. */
  get pagesUsed(): number {
    return this.used.a[0]!;
  }
}

function orderOf(n: number): number {
  if (n < 1 || n > 1 << MAX_ORDER) throw new Error(`tables come in 1 to ${1 << MAX_ORDER} contiguous pages, not ${n}`);
  return 32 - Math.clz32(n - 1);
}
