/**
 * The reverse mapping (mm/rmap.c rmap_walk): every place where a page is mapped. An anonymous page lies
 * at one address in the mm that made it and in its forks; a file's page wherever a VMA of the file has it.
 */
import type { Files } from "./files.js";
import { FRAME_FILE, type Frames } from "./frames.js";
import type { HostPageTables } from "./pagetable.js";
import type { Vmas } from "./vmas.js";

export class Rmap {
  /** Of the last `next`: where the page may be mapped. */
  mm = 0;
  addr = 0;

  constructor(
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly files: Files,
  ) {}

  /**
   * The next candidate place of the page that (mm, addr) mapped when the walk began: sets `mm` and `addr`.
   * The caller looks whether the page, or its migration entry, is there.
   * @param cursor 0 to begin @returns the cursor to go on with, or 0 when there are no more
   */
  next(pfn: number, mm: number, addr: number, cursor: number): number {
    const vma = this.vmas.findVma(mm, addr);
    if (vma >= 0 && this.vmas.start(vma) <= addr && (this.frames.flags(pfn) & FRAME_FILE) !== 0) return this.nextOfFile(vma, addr, cursor);
    for (let m = cursor; m < this.pt.limit; m++) {
      if (this.pt.root(m) === 0) continue;
      this.mm = m;
      this.addr = addr;
      return m + 1;
    }
    return 0;
  }

  private nextOfFile(vma: number, addr: number, cursor: number): number {
    const { vmas } = this;
    const pgoff = vmas.pageIndex(vma, addr);
    let n = 0;
    for (let v = vmas.firstOfFile(vmas.file(vma)); v >= 0; v = vmas.nextOfFile(v)) {
      const at = vmas.addressOf(v, pgoff);
      if (at < vmas.start(v) || at >= vmas.end(v)) continue;
      if (n++ < cursor) continue;
      this.mm = vmas.mm(v);
      this.addr = at;
      return n;
    }
    return 0;
  }

  /** The page cache's entry of the page that (mm, addr) maps becomes another frame. The cache's reference goes with it. */
  replaceCached(mm: number, addr: number, from: number, to: number): void {
    const { vmas, files, frames } = this;
    const vma = vmas.findVma(mm, addr);
    if (vma < 0 || (frames.flags(from) & FRAME_FILE) === 0) return;
    const file = vmas.file(vma);
    const pgoff = vmas.pageIndex(vma, addr);
    if (files.cache.find(file, pgoff) !== from) return;
    frames.setFile(to);
    frames.get(to);
    files.cache.put(file, pgoff, to);
    frames.put(from);
  }
}
