/**
 * The reverse mapping (mm/rmap.c rmap_walk): every place where a page is mapped. A file's page: wherever a VMA of the file has
 * it. An anonymous page has kept the number (page->index) that it was made under, as its VMA keeps its numbering through
 * mremap and fork: wherever a VMA with anonymous pages has that number. A page of KSM has no number of its own: wherever it
 * was merged (mm/ksm.c rmap_walk_ksm; here the tables are looked through).
 */
import type { Files } from "./files.js";
import { FRAME_FILE, FRAME_SWAPCACHE, type Frames } from "./frames.js";
import { nextBoundary, type HostPageTables } from "./pagetable.js";
import { SWP_MARKER, SWP_SWAP, swapEntryPfn, swapEntryType } from "./pte.js";
import type { Vmas } from "./vmas.js";

/** Places are counted as mm * MM_PAGES + page + 1. */
const MM_PAGES = 2 ** 37;

export class Rmap {
  /** Of the last `next`: where the page may be mapped. */
  mm = 0;
  addr = 0;
  /** Of the last `nextPart`: where the part ends. */
  end = 0;

  constructor(
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly files: Files,
  ) {}

  /** The file of a page that (mm, addr) maps, or -1: it is anonymous. */
  fileOf(pfn: number, mm: number, addr: number): number {
    if ((this.frames.flags(pfn) & FRAME_FILE) === 0) return -1;
    const vma = this.vmas.lookup(mm, addr);
    return vma < 0 ? -1 : this.vmas.file(vma);
  }

  /** page->index of the page that (mm, addr) maps. */
  indexOf(mm: number, addr: number): number {
    const vma = this.vmas.lookup(mm, addr);
    return vma < 0 ? Math.floor(addr / 4096) : this.vmas.pageIndex(vma, addr);
  }

  /**
   * The next candidate place of a page: sets `mm` and `addr`. The caller looks whether the page, or its migration entry, is there.
   * @param file of `fileOf` @param index of `indexOf` @param cursor 0 to begin @returns the cursor to go on with, or 0 when there are no more
   */
  next(pfn: number, file: number, index: number, cursor: number): number {
    if (file >= 0) return this.nextOfFile(file, index, cursor);
    return this.nextAnon(this.frames.isKsm(pfn) ? pfn : -1, index, 1, cursor);
  }

  /**
   * The next VMA with anonymous pages that has some of the numbers [index, index + pages): sets `mm`, `addr` and `end`, its part.
   * @param cursor 0 to begin @returns the cursor to go on with, or 0 when there are no more
   */
  nextPart(index: number, pages: number, cursor: number): number {
    return this.nextAnon(-1, index, pages, cursor);
  }

  /** @param merged a page of KSM, which is where an entry names it; -1: the numbers tell */
  private nextAnon(merged: number, index: number, pages: number, cursor: number): number {
    const { vmas } = this;
    let from = (cursor % MM_PAGES) * 4096;
    for (let mm = Math.floor(cursor / MM_PAGES); mm < this.pt.limit; mm++, from = 0) {
      if (this.pt.root(mm) === 0) continue;
      for (let v = vmas.findVma(mm, from); v >= 0; v = vmas.next(v)) {
        if (vmas.anonVma(v) === 0) continue;
        const at = merged >= 0 ? this.firstNamed(mm, v, merged, from) : Math.max(vmas.start(v), vmas.addressOf(v, index));
        const end = merged >= 0 ? at + 4096 : Math.min(vmas.end(v), vmas.addressOf(v, index + pages));
        if (at < from || at >= end) continue;
        this.mm = mm;
        this.addr = at;
        this.end = end;
        return mm * MM_PAGES + at / 4096 + 1;
      }
    }
    return 0;
  }

  /** The first address of a VMA, from `from` on, whose entry names a page; -1 without one. */
  private firstNamed(mm: number, v: number, pfn: number, from: number): number {
    const { pt, vmas } = this;
    for (let a = Math.max(from, vmas.start(v)); a < vmas.end(v); a = nextBoundary(a, pt.level)) {
      pt.walk(mm, a);
      if (pt.none) continue;
      if (pt.leafLevel >= 0 ? pt.leafPfn === pfn : swapEntryType(pt.lo) !== SWP_MARKER && swapEntryPfn(pt.lo, pt.hi) === pfn) return a;
    }
    return -1;
  }

  private nextOfFile(file: number, pgoff: number, cursor: number): number {
    const { vmas } = this;
    let n = 0;
    for (let v = vmas.firstOfFile(file); v >= 0; v = vmas.nextOfFile(v)) {
      const at = vmas.addressOf(v, pgoff);
      if (at < vmas.start(v) || at >= vmas.end(v)) continue;
      if (n++ < cursor) continue;
      this.mm = vmas.mm(v);
      this.addr = at;
      return n;
    }
    return 0;
  }

  /** page_mapcount: leaves that show a page, in all address spaces, those of its whole huge page too. @param file of `fileOf` @param index of `indexOf` */
  entriesOf(pfn: number, file: number, index: number): number {
    let n = 0;
    for (let c = this.next(pfn, file, index, 0); c !== 0; c = this.next(pfn, file, index, c))
      if (this.pt.walk(this.mm, this.addr) && this.pt.leafPfn === pfn) n++;
    return n;
  }

  /** Does any address space map the page by a page entry? (mm, addr) maps it. */
  pteMapped(pfn: number, mm: number, addr: number): boolean {
    const { pt } = this;
    pt.walk(mm, addr);
    const level: number = pt.leafLevel;
    if (level !== 2 || this.frames.mapcount(pfn) <= 1) return level === 3;
    const file = this.fileOf(pfn, mm, addr);
    const index = this.indexOf(mm, addr);
    for (let c = this.next(pfn, file, index, 0); c !== 0; c = this.next(pfn, file, index, c))
      if (pt.walk(this.mm, this.addr) && pt.leafLevel === 3 && pt.leafPfn === pfn) return true;
    return false;
  }

  /** The last walk stopped at a swap entry of the page. */
  namesSwapped(pfn: number): boolean {
    const { pt } = this;
    return pt.leafLevel < 0 && !pt.none && swapEntryType(pt.lo) === SWP_SWAP && swapEntryPfn(pt.lo, pt.hi) === pfn;
  }

  /** page_swapcount: swap entries of an anonymous page. Each has a reference of its own here, as the swap cache has one for all there. */
  swapEntries(pfn: number, index: number): number {
    if ((this.frames.flags(pfn) & FRAME_SWAPCACHE) === 0) return 0;
    let n = 0;
    for (let c = this.next(pfn, -1, index, 0); c !== 0; c = this.next(pfn, -1, index, c)) {
      this.pt.walk(this.mm, this.addr);
      if (this.namesSwapped(pfn)) n++;
    }
    return n;
  }

  /** The page cache's entry of a page becomes another frame. The cache's reference goes with it. */
  replaceCached(file: number, pgoff: number, from: number, to: number): void {
    const { files, frames } = this;
    if (file < 0 || files.cache.find(file, pgoff) !== from) return;
    frames.setFile(to);
    frames.get(to);
    files.cache.put(file, pgoff, to);
    frames.put(from);
  }
}

/** page_trans_huge_mapcount == 1, FOLIO_MM_IDS_SHARED: no other address space maps any part of the THP whose page is walked at addr by a small entry. */
export function mappedOnlyHere(pt: HostPageTables, frames: Frames, mm: number, addr: number): boolean {
  const head = frames.head(pt.leafPfn);
  const first = addr - (addr % 4096) - (pt.leafPfn - head) * 4096;
  let mapped = 0;
  for (let i = 0; i < 512; i++) if (pt.walk(mm, first + i * 4096) && pt.leafPfn === head + i) mapped++;
  pt.walk(mm, addr);
  return frames.mapcount(head) === mapped;
}
