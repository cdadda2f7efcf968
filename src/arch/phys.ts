/**
 * The physical address space: RAM, the window of translation tables, and device windows.
 *
 * RAM is sparse: a cleared page is a state and no data. Data exists from the first non-zero store, by run of
 * 32 bytes (a "line" of this file, no cache's); a page with more than eight becomes a full page. Index structures
 * cost only where memory is touched: pageindex.ts says what each page holds, by a reference
 *
 *   0 all zero · r < 0 full page ~r · r > 0 in lines: r odd, r >> 1 is the entry of the only one; r even, record r >> 1
 *
 * recs [8r .. 8r + 7]        entries: line << 7 | number of the line in its page, 0: unused
 * lines[8 l ..], full[1024 f ..]   data words, little endian
 */
import { BRACKETS } from "./brackets.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import { busUnclaimed, deviceRead, deviceWrite } from "./events.js";
import type { MemoryErrors } from "./memoryerrors.js";
import { CHUNK_PAGES, NO_LINE, PageIndex, REF_LINES, RUN_PAGES, TAG_BITS } from "./pageindex.js";
import type { TablePages } from "./tables.js";
import { joinWords, PAGE_SIZE, type Pa, type Pfn } from "./types.js";
import { FaultlineError } from "../sim/errors.js";

const LINE_WORDS = 8;
const LINE_WORDS_SHIFT = 3;
const LINE_BYTES = 4 * LINE_WORDS;
const LINE_SHIFT = 5;
const TAG_MASK = (1 << TAG_BITS) - 1;
const RECORD_LINES = 8;
/** Words of a cache's line of 64 bytes. */
const CACHE_LINE_WORDS = 16;
const PAGE_WORDS = 1024;
/** Pages of a block of 2 MiB. */
const PMD_PAGES = 512;

/** meta words: how many of each were ever made, and the heads of the free lists (0: empty). */
const LINES = 0;
const LINE_FREE = 1;
const RECS = 2;
const REC_FREE = 3;
const FULLS = 4;
const FULL_FREE = 5;

/** The data cache in front of RAM, where caches are modelled (cache.ts). */
export interface MemoryCache {
  /** A read or write by the type of its translation. @param marks its C_FLAGS (tlb.ts) */
  load(pa: Pa, size: number, marks: number): void;
  store(pa: Pa, size: number, marks: number, lo: number, hi: number, lo2: number, hi2: number): void;
  /** A cacheable read or write of the kernel through its linear map. */
  read(pa: Pa, size: number): void;
  write(pa: Pa, size: number, lo: number, hi: number, lo2: number, hi2: number): void;
  /** clear_page and copy_page through the linear map. */
  clearPages(pfn: Pfn, count: number): void;
  copyPage(dst: Pfn, src: Pfn): void;
  /** dcache_clean_inval_poc by the kernel. */
  flush(pa: Pa, size: number): void;
}

/** What answers in a device window. It holds the PhysicalMemory and puts read data into its `lo` and `hi`. */
export interface BusDevice {
  /** A read of 1, 2, 4 or 8 bytes at an offset in the window. */
  read(offset: number, size: number): void;
  /** A write of 1, 2, 4 or 8 bytes. */
  write(offset: number, size: number, lo: number, hi: number): void;
}

export class PhysicalMemory {
  readonly ramBase: Pa;
  readonly ramSize: number;
  /** The same in pages, which fit into 31 bits. */
  private readonly firstPage: Pfn;
  private readonly pages: number;
  /** Of the page index: `ref = dir.a[slot]` as above, for a slot that is not negative. Read directly on a TLB hit. */
  readonly dir: I32Pool;
  /** Data of full pages: page ~ref at words ~ref << 10. */
  readonly full: I32Pool;
  private readonly index: PageIndex;
  private readonly recs: I32Pool;
  private readonly lines: I32Pool;
  private readonly meta: I32Pool;
  /** Window n: base (-1: absent) and size at 2n, 2n + 1. */
  private readonly windows: F64Pool;
  private readonly devices: BusDevice[] = [];
  private lastWindow = 0;
  private tables: TablePages | undefined;
  /**
   * What stands between the CPUs and RAM. Without it RAM is the one copy; with it `read`, `write`,
   * `clearPages` and `copyPage` are the kernel's, through its cacheable linear map, and `readMemory` and
   * `writeMemory` reach RAM itself.
   */
  cache: MemoryCache | undefined;
  /** The errors in RAM, where the machine can have some. */
  errors: MemoryErrors | undefined;
  /** Nothing stands before RAM, and all of it is good: every access may go to a page's data directly. */
  direct = true;
  /** What the last read gave: bits 63:0 in hi:lo, of a 16-byte read bits 127:64 in hi2:lo2. */
  lo = 0;
  hi = 0;
  lo2 = 0;
  hi2 = 0;

  constructor(
    private readonly sim: Sim,
    { ramBase, ramSize }: { readonly ramBase: number; readonly ramSize: number },
  ) {
    if (ramBase % PAGE_SIZE !== 0 || ramSize % PAGE_SIZE !== 0 || ramSize > 2 ** 40 || ramBase + ramSize > 2 ** 43)
      throw new FaultlineError("RAM must be whole pages, at most 1 TiB, below 8 TiB");
    this.ramBase = ramBase;
    this.ramSize = ramSize;
    this.firstPage = ramBase / PAGE_SIZE;
    this.pages = ramSize / PAGE_SIZE;
    const s = sim.state;
    this.index = new PageIndex(s, ramSize / PAGE_SIZE);
    this.dir = this.index.dir;
    this.recs = s.i32("phys.recs", 64);
    this.lines = s.i32("phys.lines", 256);
    this.full = s.i32("phys.full", PAGE_WORDS * 4);
    this.full.counted = true;
    this.meta = s.i32("phys.meta", 6);
    this.windows = s.f64("phys.windows", 16);
  }

  attachTables(tables: TablePages): void {
    if (tables.base < this.ramBase + this.ramSize && tables.base + tables.size > this.ramBase)
      throw new Error("the table window lies inside RAM");
    this.tables = tables;
  }

  /** True for RAM, the window of translation tables included. */
  isRam(pa: Pa): boolean {
    const off = pa - this.ramBase;
    return (off >= 0 && off < this.ramSize) || (this.tables !== undefined && this.tables.contains(pa));
  }

  // ---- device windows

  /** Adds a device window. @param base -1: not on the bus yet. @returns its number. */
  addWindow(base: Pa, size: number, device: BusDevice): number {
    const n = this.devices.push(device) - 1;
    this.windows.ensure(2 * n + 2);
    this.windows.set(2 * n, base);
    this.windows.set(2 * n + 1, size);
    return n;
  }
  /** Moves a window (a BAR was reprogrammed) or takes it off the bus (base -1). */
  placeWindow(n: number, base: Pa, size = this.windows.a[2 * n + 1]!): void {
    this.windows.set(2 * n, base);
    this.windows.set(2 * n + 1, size);
  }
  /** The window that claims pa, or -1. */
  windowAt(pa: Pa): number {
    const w = this.windows.a;
    let n = this.lastWindow;
    if (n < this.devices.length && inWindow(w, n, pa)) return n;
    for (n = 0; n < this.devices.length; n++) {
      if (!inWindow(w, n, pa)) continue;
      this.lastWindow = n;
      return n;
    }
    return -1;
  }

  // ---- page slots

  /** The slot that an access may use directly: none while a cache stands before RAM, or where a line of the page is lost. */
  directSlot(pa: Pa): number {
    return this.directSlotAt((pa / 4294967296) | 0, pa | 0);
  }
  /** The same of an address in two words. */
  directSlotAt(hi: number, lo: number): number {
    if (BRACKETS && this.direct !== true && !this.isGood(joinWords(hi, lo))) return -1;
    const page = (((hi << 20) | (lo >>> 12)) - this.firstPage) | 0;
    return hi >>> 11 === 0 && page >>> 0 < this.pages ? this.index.slot(page) : -1;
  }
  private isGood(pa: Pa): boolean {
    return this.cache === undefined && this.errors?.inPage(pa) !== true;
  }

  /** The slot of a RAM page (pageindex.ts), made if needed. @returns -1 when pa is not RAM. */
  slot(pa: Pa): number {
    const off = pa - this.ramBase;
    return off >= 0 && off < this.ramSize ? this.index.slot((off / PAGE_SIZE) | 0) : -1;
  }
  /** The reference of a RAM page by its slot in a narrow chunk that is still in use. @param paLo low word of its address */
  narrowRef(slot: number, paLo: number): number {
    return this.index.refAt(slot, (paLo - this.ramBase) >> 12);
  }
  /** The slot of a RAM page in a wide chunk, from now on. */
  wideSlot(pa: Pa): number {
    return this.index.widen(((pa - this.ramBase) / PAGE_SIZE) | 0, this.freeLine);
  }

  /** A page becomes all zero; its data goes back to the free lists. */
  clearPage(pfn: Pfn): void {
    this.clearPages(pfn, 1);
  }

  /** A run of pages of RAM becomes all zero (a huge page): what was never touched is not looked at. */
  clearPages(pfn: Pfn, count: number): void {
    let page = pfn - this.firstPage;
    const end = page + count;
    if (page < 0 || end > this.pages) return;
    if (BRACKETS && this.direct !== true) {
      this.errors?.overwrite(pfn * PAGE_SIZE, count * PAGE_SIZE);
      if (this.cache !== undefined) {
        this.cache.clearPages(pfn, count);
        return;
      }
    }
    if (count === 1) {
      const chunk = this.index.chunkOf(page);
      if (chunk < 0) this.index.clearPage(chunk, page);
      else if (chunk > 0) this.clearSlot(chunk + (page & (CHUNK_PAGES - 1)));
      return;
    }
    if (count === PMD_PAGES && (page & (PMD_PAGES - 1)) === 0) {
      this.clearBlock(page);
      return;
    }
    while (page < end) {
      const next = Math.min(end, (page | (CHUNK_PAGES - 1)) + 1);
      const chunk = this.index.chunkOf(page);
      if (chunk < 0) this.index.clear(chunk, page, next);
      else if (chunk > 0) this.clearWide(chunk + (page & (CHUNK_PAGES - 1)), next - page);
      page = next;
    }
  }

  /** The same of an aligned block: eight chunks, whose words of `mid` lie side by side. */
  private clearBlock(page: number): void {
    const mid = this.index.mid.a;
    const at = this.index.midAt(page);
    for (let i = at; i < at + PMD_PAGES / CHUNK_PAGES; i += 4) {
      if ((mid[i]! | mid[i + 1]! | mid[i + 2]! | mid[i + 3]!) === 0) continue;
      for (let k = i; k < i + 4; k++) this.clearChunk(mid[k]!);
    }
  }
  private clearChunk(chunk: number): void {
    if (chunk < 0) this.index.clearAll(chunk);
    else if (chunk > 0) this.clearWide(chunk, CHUNK_PAGES);
  }

  private clearWide(slot: number, pages: number): void {
    const dir = this.dir.a;
    for (let i = slot; i < slot + pages; i++) if (dir[i] !== 0) this.clearSlot(i);
  }

  private clearSlot(slot: number): void {
    const ref = this.dir.a[slot]!;
    if (ref === 0) return;
    if (ref > 0) this.freeLines(ref);
    else this.release(this.full, ~ref, PAGE_WORDS, FULL_FREE);
    this.dir.set(slot, 0);
  }

  /** Entries of a page in lines, some of a record's empty. */
  private entries(ref: number): number {
    return (ref & 1) !== 0 ? 1 : RECORD_LINES;
  }
  /** One of them: line << TAG_BITS | its number in the page, 0: empty. */
  private entry(ref: number, k: number): number {
    return (ref & 1) !== 0 ? ref >> 1 : this.recs.a[(ref >> 1) * RECORD_LINES + k]!;
  }

  private freeLines(ref: number): void {
    for (let k = 0; k < this.entries(ref); k++) {
      const e = this.entry(ref, k);
      if (e !== 0) this.freeLine(e >>> TAG_BITS);
    }
    if ((ref & 1) === 0) this.release(this.recs, ref >> 1, RECORD_LINES, REC_FREE);
  }

  private readonly freeLine = (line: number): void => {
    this.release(this.lines, line, LINE_WORDS, LINE_FREE);
  };

  /** Copies a page as copy-on-write does. Cleared pages and lines stay cleared. */
  copyPage(dst: Pfn, src: Pfn): void {
    if (dst === src || !this.inRam(dst * PAGE_SIZE) || !this.inRam(src * PAGE_SIZE)) return;
    if (BRACKETS && this.direct !== true) {
      this.errors?.overwrite(dst * PAGE_SIZE, PAGE_SIZE);
      if (this.cache !== undefined) {
        this.cache.copyPage(dst, src);
        return;
      }
    }
    this.clearPage(dst);
    const page = dst - this.ramBase / PAGE_SIZE;
    const ref = this.refOf(src);
    if (ref < 0) {
      const slot = this.index.widen(page, this.freeLine);
      const f = this.take(this.full, FULLS, FULL_FREE, PAGE_WORDS);
      this.full.move(f << 10, ~ref << 10, PAGE_WORDS);
      this.dir.set(slot, ~f);
    } else if (ref > 0) {
      for (let k = 0; k < this.entries(ref); k++) {
        const e = this.entry(ref, k);
        if (e === 0) continue;
        const line = this.newLine(page, e & TAG_MASK);
        this.lines.move(line * LINE_WORDS, (e >>> TAG_BITS) * LINE_WORDS, LINE_WORDS);
      }
    }
  }

  /** The reference of a page of RAM. */
  private refOf(pfn: Pfn): number {
    return this.index.ref(pfn - this.ramBase / PAGE_SIZE);
  }

  /** True when every byte of the page is zero and holds no data. */
  isClear(pfn: Pfn): boolean {
    // A line may hold what memory does not have yet.
    return this.cache === undefined && (!this.inRam(pfn * PAGE_SIZE) || this.refOf(pfn) === 0);
  }

  /** Takes a zeroed unit of `size` words from a pool. Units are numbered from 1 (full pages from 0: unit + 1 is kept). */
  private take(pool: I32Pool, count: number, free: number, size: number): number {
    const head = this.meta.a[free]!;
    if (head !== 0) {
      const unit = head - 1;
      const at = unit * size;
      this.meta.set(free, pool.a[at]!);
      pool.clear(at, size);
      return unit;
    }
    const unit = this.meta.a[count]! + 1;
    this.meta.set(count, unit);
    pool.ensure((unit + 1) * size);
    return unit;
  }

  private release(pool: I32Pool, unit: number, size: number, free: number): void {
    pool.set(unit * size, this.meta.a[free]!);
    this.meta.set(free, unit + 1);
  }

  // ---- reading

  /**
   * Reads 1, 2, 4, 8 or 16 bytes into lo, hi (lo2, hi2), zero-extended. The access must not cross a page.
   * A device sees at most 8 bytes at a time. An address that nothing claims gives all ones and an event.
   */
  read(pa: Pa, size: number): void {
    if (BRACKETS && this.cache !== undefined && this.inRam(pa)) this.cache.read(pa, size);
    else this.readMemory(pa, size);
  }

  /** A read by the type of its translation. @param marks its C_FLAGS (tlb.ts) */
  readBy(pa: Pa, size: number, marks: number): void {
    if (BRACKETS && this.cache !== undefined) this.cache.load(pa, size, marks);
    else this.readMemory(pa, size);
  }
  writeBy(pa: Pa, size: number, marks: number, lo: number, hi = 0, lo2 = 0, hi2 = 0): void {
    if (BRACKETS && this.cache !== undefined) this.cache.store(pa, size, marks, lo, hi, lo2, hi2);
    else this.writeMemory(pa, size, lo, hi, lo2, hi2);
  }

  private inRam(pa: Pa): boolean {
    const off = pa - this.ramBase;
    return off >= 0 && off < this.ramSize;
  }

  /** `read` of memory itself, whatever the cache holds. */
  readMemory(pa: Pa, size: number): void {
    const off = pa - this.ramBase;
    if (off >= 0 && off < this.ramSize) {
      this.readRef(this.index.ref((off / PAGE_SIZE) | 0), pa & 4095, size);
      return;
    }
    this.readElsewhere(pa, size);
  }

  private readElsewhere(pa: Pa, size: number): void {
    const tables = this.tables;
    if (tables !== undefined && tables.contains(pa)) {
      this.readTables(tables, pa, size);
    } else if (size === 16) {
      this.readWindow(pa + 8, 8);
      const lo2 = this.lo;
      const hi2 = this.hi;
      this.readWindow(pa, 8);
      this.lo2 = lo2;
      this.hi2 = hi2;
    } else this.readWindow(pa, size);
  }

  private readTables(tables: TablePages, pa: Pa, size: number): void {
    const page = tables.index(pa);
    if ((page + 1) * PAGE_WORDS > tables.words.a.length) this.lo = this.hi = this.lo2 = this.hi2 = 0;
    else this.readWords(tables.words.a, page << 10, pa & 4095, size);
  }

  private readWindow(pa: Pa, size: number): void {
    this.lo = this.hi = -1;
    const n = this.windowAt(pa);
    if (n < 0) {
      this.trim(size);
      this.sim.bus.emit(busUnclaimed, pa, size, 0);
      return;
    }
    this.devices[n]!.read(pa - this.windows.a[2 * n]!, size);
    this.trim(size);
    this.sim.agents.charge(this.sim.costs.deviceAccess);
    this.sim.bus.emit(deviceRead, pa, size, this.hi, this.lo);
  }

  private trim(size: number): void {
    if (size < 8) this.hi = 0;
    if (size < 4) this.lo &= size === 1 ? 0xff : 0xffff;
  }

  /** Reads from a page by its reference: what the TLB-hit path calls when it is no full page. */
  readRef(ref: number, o: number, size: number): void {
    if (ref < 0) {
      this.readWords(this.full.a, ~ref << 10, o, size);
      return;
    }
    if (ref === 0) {
      this.lo = this.hi = this.lo2 = this.hi2 = 0;
      return;
    }
    if ((o & (LINE_BYTES - 1)) + size > LINE_BYTES) {
      this.readBytes(ref, o, size);
      return;
    }
    const tag = o >> LINE_SHIFT;
    const line = this.lineOf(ref, tag);
    if (line === 0) this.lo = this.hi = this.lo2 = this.hi2 = 0;
    else this.readWords(this.lines.a, (line - tag) * LINE_WORDS, o, size);
  }

  /** The line that holds line number `tag` of a page in lines, or 0. */
  private lineOf(ref: number, tag: number): number {
    if ((ref & 1) !== 0) return ((ref >> 1) & TAG_MASK) === tag ? ref >> (TAG_BITS + 1) : 0;
    const recs = this.recs.a;
    const at = (ref >> 1) * RECORD_LINES;
    for (let k = at; k < at + RECORD_LINES; k++) {
      const e = recs[k]!;
      if (e !== 0 && (e & TAG_MASK) === tag) return e >>> TAG_BITS;
    }
    return 0;
  }

  /** An access that crosses lines of a page in line form: two halves of bytes. */
  private readBytes(ref: number, o: number, size: number): void {
    let lo = 0;
    let hi = 0;
    let lo2 = 0;
    let hi2 = 0;
    for (let i = 0; i < size; i++) {
      this.readRef(ref, o + i, 1);
      const b = this.lo << ((i & 3) * 8);
      if (i < 4) lo |= b;
      else if (i < 8) hi |= b;
      else if (i < 12) lo2 |= b;
      else hi2 |= b;
    }
    this.lo = lo;
    this.hi = hi;
    this.lo2 = lo2;
    this.hi2 = hi2;
  }

  /** Reads bytes o .. o + size of a page whose word 0 is a[base]. */
  private readWords(a: Int32Array, base: number, o: number, size: number): void {
    const i = base + (o >> 2);
    const shift = (o & 3) * 8;
    this.hi = 0;
    if (size <= 4) {
      let w = a[i]! >>> shift;
      if (shift + size * 8 > 32) w |= a[i + 1]! << (32 - shift);
      this.lo = size === 4 ? w | 0 : w & (size === 1 ? 0xff : 0xffff);
      return;
    }
    if (shift === 0) {
      this.lo = a[i]!;
      this.hi = a[i + 1]!;
      if (size === 16) {
        this.lo2 = a[i + 2]!;
        this.hi2 = a[i + 3]!;
      }
      return;
    }
    const up = 32 - shift;
    this.lo = (a[i]! >>> shift) | (a[i + 1]! << up);
    this.hi = (a[i + 1]! >>> shift) | (a[i + 2]! << up);
    if (size === 16) {
      this.lo2 = (a[i + 2]! >>> shift) | (a[i + 3]! << up);
      this.hi2 = (a[i + 3]! >>> shift) | (a[i + 4]! << up);
    }
  }

  // ---- writing

  /** Writes 1, 2, 4, 8 or 16 bytes; must not cross a page. A write that nothing claims is dropped with an event. */
  write(pa: Pa, size: number, lo: number, hi = 0, lo2 = 0, hi2 = 0): void {
    if (BRACKETS && this.cache !== undefined && this.inRam(pa)) this.cache.write(pa, size, lo, hi, lo2, hi2);
    else this.writeMemory(pa, size, lo, hi, lo2, hi2);
  }

  /** `write` of memory itself, whatever the cache holds. */
  writeMemory(pa: Pa, size: number, lo: number, hi = 0, lo2 = 0, hi2 = 0): void {
    const off = pa - this.ramBase;
    if (off >= 0 && off < this.ramSize) {
      this.writePage((off / PAGE_SIZE) | 0, pa & 4095, size, lo, hi, lo2, hi2);
      return;
    }
    const tables = this.tables;
    if (tables !== undefined && tables.contains(pa)) {
      tables.words.ensure((tables.index(pa) + 1) * PAGE_WORDS);
      tables.relinked();
      this.writeWords(tables.words, tables.index(pa) << 10, pa & 4095, size, lo, hi, lo2, hi2);
    } else if (size === 16) {
      this.writeWindow(pa, 8, lo, hi);
      this.writeWindow(pa + 8, 8, lo2, hi2);
    } else this.writeWindow(pa, size, lo, hi);
  }

  /** A store to a device window, a request of its own. */
  private writeWindow(pa: Pa, size: number, lo: number, hi: number): void {
    const n = this.windowAt(pa);
    if (n >= 0) {
      const { deviceWrite: accepted, tlp, tlpDword } = this.sim.costs;
      this.sim.agents.charge(accepted + tlp + tlpDword * ((size + 3) >> 2));
    }
    this.deliverTo(n, pa, size, lo, hi);
  }

  /** Data of a request, 1 to 8 bytes, reaches a device window: who sent the request has paid for it. */
  deliver(pa: Pa, size: number, lo: number, hi: number): void {
    this.deliverTo(this.windowAt(pa), pa, size, lo, hi);
  }
  private deliverTo(n: number, pa: Pa, size: number, lo: number, hi: number): void {
    if (size < 8) hi = 0;
    if (size < 4) lo &= size === 1 ? 0xff : 0xffff;
    if (n < 0) {
      this.sim.bus.emit(busUnclaimed, pa, size, 1);
      return;
    }
    this.sim.bus.emit(deviceWrite, pa, size, hi, lo);
    this.devices[n]!.write(pa - this.windows.a[2 * n]!, size, lo, hi);
  }

  /** Writes into a RAM page by its number; its chunk is widened for what a narrow one has no room for. */
  private writePage(page: number, o: number, size: number, lo: number, hi: number, lo2: number, hi2: number): void {
    const chunk = this.index.chunk(page);
    if (chunk < 0 && (o & (LINE_BYTES - 1)) + size <= LINE_BYTES) {
      const tag = o >> LINE_SHIFT;
      let line = this.index.lineOf(chunk, page, tag);
      if (line === 0) {
        if (allZero(size, lo, hi, lo2, hi2)) return;
        line = this.narrowLine(chunk, page, tag);
      }
      if (line !== 0) {
        this.writeWords(this.lines, (line - tag) * LINE_WORDS, o, size, lo, hi, lo2, hi2);
        return;
      }
    }
    this.writeSlot(this.index.widen(page, this.freeLine), o, size, lo, hi, lo2, hi2);
  }

  /**
   * A write into a page by its slot in a narrow chunk, whose line has a place already. @param paLo low word of the page's address
   * @returns false, and nothing is written, when the page needs more than that, or the chunk is no longer in use
   */
  writeNarrow(slot: number, paLo: number, o: number, size: number, lo: number, hi: number, lo2: number, hi2: number): boolean {
    if ((o & (LINE_BYTES - 1)) + size > LINE_BYTES) return false;
    const { index } = this;
    const page = (paLo - this.ramBase) >> 12;
    const tag = o >> LINE_SHIFT;
    const has = index.tagAt(slot, page);
    const line = index.lineAt(slot, page);
    if (has !== tag) {
      if (has !== NO_LINE || line === 0) return false;
      if (allZero(size, lo, hi, lo2, hi2)) return true;
      index.setTagAt(slot, page, tag);
      this.clearLine(line << LINE_WORDS_SHIFT);
    }
    this.writeWords(this.lines, (line - tag) << LINE_WORDS_SHIFT, o, size, lo, hi, lo2, hi2);
    return true;
  }

  /** Without a loop, each turn of which V8 begins with a look at the array. */
  private clearLine(at: number): void {
    if (this.sim.state.recording) {
      this.lines.clear(at, LINE_WORDS);
      return;
    }
    const { a } = this.lines;
    a[at] = a[(at + 1) | 0] = a[(at + 2) | 0] = a[(at + 3) | 0] = 0;
    a[(at + 4) | 0] = a[(at + 5) | 0] = a[(at + 6) | 0] = a[(at + 7) | 0] = 0;
  }

  /** Gives a page of a narrow chunk its line. @returns 0 when it has another, or there are too many */
  private narrowLine(chunk: number, page: number, tag: number): number {
    const { index } = this;
    let line = index.line(chunk, page);
    if (line === 0) {
      const first = this.meta.a[LINES]! + 1;
      if (first + RUN_PAGES > REF_LINES) return 0;
      this.lines.ensure((first + RUN_PAGES) * LINE_WORDS);
      this.meta.set(LINES, first + RUN_PAGES - 1);
      index.setLines(chunk, page, first);
      line = index.line(chunk, page);
    }
    if (!index.setTag(chunk, page, tag)) return 0;
    this.clearLine(line << LINE_WORDS_SHIFT);
    return line;
  }

  /** Gives a page that lacks it a line, in which chunk ever. */
  private newLine(page: number, tag: number): number {
    const chunk = this.index.chunk(page);
    const line = chunk < 0 ? this.narrowLine(chunk, page, tag) : 0;
    return line !== 0 ? line : this.addLine(this.index.widen(page, this.freeLine), tag);
  }

  /** Writes into a RAM page by its slot in a wide chunk. */
  readonly writeSlot = (slot: number, o: number, size: number, lo: number, hi: number, lo2 = 0, hi2 = 0): void => {
    const ref = this.dir.a[slot]!;
    if (ref < 0) {
      this.writeWords(this.full, ~ref << 10, o, size, lo, hi, lo2, hi2);
      return;
    }
    if ((o & (LINE_BYTES - 1)) + size > LINE_BYTES) {
      for (let i = 0; i < size; i++) {
        const w = i < 4 ? lo : i < 8 ? hi : i < 12 ? lo2 : hi2;
        this.writeSlot(slot, o + i, 1, (w >>> ((i & 3) * 8)) & 0xff, 0);
      }
      return;
    }
    const tag = o >> LINE_SHIFT;
    let line = ref === 0 ? 0 : this.lineOf(ref, tag);
    if (line === 0) {
      if (allZero(size, lo, hi, lo2, hi2)) return;
      line = this.addLine(slot, tag);
      if (line === 0) {
        this.promote(slot, ref);
        this.writeSlot(slot, o, size, lo, hi, lo2, hi2);
        return;
      }
    }
    this.writeWords(this.lines, (line - tag) * LINE_WORDS, o, size, lo, hi, lo2, hi2);
  };

  /** Gives a page that is zero or in lines a new one. @returns 0 when it has eight already */
  private addLine(slot: number, tag: number): number {
    const ref = this.dir.a[slot]!;
    if (ref === 0) {
      const line = this.take(this.lines, LINES, LINE_FREE, LINE_WORDS);
      const entry = (line << TAG_BITS) | tag;
      this.dir.set(slot, line < REF_LINES ? (entry << 1) | 1 : this.newRecord(entry) << 1);
      return line;
    }
    let rec = ref >> 1;
    if ((ref & 1) !== 0) {
      rec = this.newRecord(ref >> 1);
      this.dir.set(slot, rec << 1);
    }
    const at = rec * RECORD_LINES;
    for (let k = at; k < at + RECORD_LINES; k++) {
      if (this.recs.a[k] !== 0) continue;
      const line = this.take(this.lines, LINES, LINE_FREE, LINE_WORDS);
      this.recs.set(k, (line << TAG_BITS) | tag);
      return line;
    }
    return 0;
  }
  private newRecord(entry: number): number {
    const rec = this.take(this.recs, RECS, REC_FREE, RECORD_LINES);
    this.recs.set(rec * RECORD_LINES, entry);
    return rec;
  }

  /** Makes a page in lines, in a wide chunk, a full one. @returns its number in `full` */
  fullPage(slot: number): number {
    this.promote(slot, this.dir.a[slot]!);
    return ~this.dir.a[slot]!;
  }

  /** A page in line form becomes a full page. */
  private promote(slot: number, ref: number): void {
    const f = this.take(this.full, FULLS, FULL_FREE, PAGE_WORDS);
    for (let k = 0; k < this.entries(ref); k++) {
      const e = this.entry(ref, k);
      if (e === 0) continue;
      const from = (e >>> TAG_BITS) * LINE_WORDS;
      const to = (f << 10) + (e & TAG_MASK) * LINE_WORDS;
      for (let i = 0; i < LINE_WORDS; i++) this.full.set(to + i, this.lines.a[from + i]!);
    }
    this.freeLines(ref);
    this.dir.set(slot, ~f);
  }

  private writeWords(pool: I32Pool, base: number, o: number, size: number, lo: number, hi: number, lo2: number, hi2: number): void {
    const i = (base + (o >> 2)) | 0;
    const shift = (o & 3) * 8;
    if (size === 8 && shift === 0) pool.set2(i, lo, hi);
    else if (size === 4 && shift === 0) pool.set(i, lo);
    else if (size === 16 && shift === 0) {
      pool.set2(i, lo, hi);
      pool.set2(i + 2, lo2, hi2);
    } else this.writeBytes(pool, i, shift, size, lo, hi, lo2, hi2);
  }
  private writeBytes(pool: I32Pool, i: number, shift: number, size: number, lo: number, hi: number, lo2: number, hi2: number): void {
    for (let b = 0; b < size; b++) {
      const w = b < 4 ? lo : b < 8 ? hi : b < 12 ? lo2 : hi2;
      const at = i + ((shift + b * 8) >> 5);
      const s = (shift + b * 8) & 31;
      pool.set(at, (pool.a[at]! & ~(0xff << s)) | (((w >>> ((b & 3) * 8)) & 0xff) << s));
    }
  }

  /** Zeroes the 64-byte line at pa (DC ZVA's block). */
  zeroLine(pa: Pa): void {
    for (let i = 0; i < 64; i += 8) this.write(pa + i, 8, 0, 0);
  }

  // ---- lines, for the caches

  /** Copies the 64-byte line at pa from memory to 16 words of a cache. */
  readLine(pa: Pa, to: I32Pool, at: number): void {
    for (let i = 0; i < CACHE_LINE_WORDS; i += 2) {
      this.readMemory(pa + 4 * i, 8);
      to.set2(at + i, this.lo, this.hi);
    }
  }
  /** Copies 16 words of a cache to the 64-byte line at pa in memory. */
  writeLine(pa: Pa, from: Int32Array, at: number): void {
    for (let i = 0; i < CACHE_LINE_WORDS; i += 2) this.writeMemory(pa + 4 * i, 8, from[at + i]!, from[at + i + 1]!);
  }

  /** Bytes of memory that hold page data now, as allocated. */
  dataBytes(): number {
    return (this.lines.a.length + this.full.a.length + this.recs.a.length) * 4;
  }
}

/** Are the bytes of a write all zero? */
function allZero(size: number, lo: number, hi: number, lo2: number, hi2: number): boolean {
  if (size === 8) return (lo | hi) === 0;
  if (size < 4) return (lo & (size === 1 ? 0xff : 0xffff)) === 0;
  return (lo | (size < 8 ? 0 : hi) | (size < 16 ? 0 : lo2 | hi2)) === 0;
}

function inWindow(w: Float64Array, n: number, pa: number): boolean {
  const base = w[2 * n]!;
  return base >= 0 && pa >= base && pa < base + w[2 * n + 1]!;
}
