/**
 * MADV_COLLAPSE of a memory file (mm/khugepaged.c hpage_collapse_scan_file, collapse_file, retract_page_tables): the pages of an
 * aligned 2 MiB of the page cache become one huge page, the tables that mapped them go, and the caller's mapping gets one entry.
 *
 * What the kernel does page by page without letting others in (freezing references, copying, replacing in the cache) is one step;
 * between two pages' unmapping others run. Filesystems other than tmpfs have no huge pages here (READ_ONLY_THP_FOR_FS is off).
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EINVAL, ENOMEM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import type { HostFault } from "./fault.js";
import type { Files } from "./files.js";
import { ORDER_PAGE, ORDER_PMD, type Frames } from "./frames.js";
import type { MmapLocks } from "./gup.js";
import { scanPageCount } from "./hugepages.js";
import { nthMapping } from "./immap.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { PageLocks } from "./pagelock.js";
import { PMD_SIZE, type HostPageTables } from "./pagetable.js";
import type { PteMappedThp } from "./ptemappedthp.js";
import type { RetractTable } from "./retracttable.js";
import { SHMEM_HUGE_DENY } from "./thpsettings.js";
import { VM_UFFD_MISSING, VM_UFFD_WP } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

const MM = ARG;
const ADDR = ARG + 1;
const FILE = ARG + 2;
/** vm_pgoff of the block. */
const START = ARG + 3;
/** The new huge page. */
const NEW = ARG + 4;
/** The page of the block that is unmapped now, and how many mappings of it were looked at. */
const INDEX = ARG + 5;
const CURSOR = ARG + 6;
const AT_MM = ARG + 7;
const AT = ARG + 8;

const P_UNMAP_NEXT = 1;
const P_UNMAP_ONE = 2;
const P_COPY = 3;
const P_RETRACT = 4;
const P_TARGET_RETRACTED = 5;
const P_PTE_MAPPED = 6;
const P_DONE = 7;

export class CollapseFile {
  /** One aligned 2 MiB: (mm, addr) -> R0 0 | -errno (madvise_collapse_errno). Takes the mmap_lock itself. */
  readonly collapse: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly files: Files,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly notifiers: MmuNotifiers,
    private readonly fault: HostFault,
    private readonly retract: RetractTable,
    private readonly pteMapped: PteMappedThp,
    private readonly locks: MmapLocks,
    private readonly pages: PageLocks,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.collapse = agents.activity("collapseFile", "mm/khugepaged.c hpage_collapse_scan_file, collapse_file", 9, [
      ["scan", (f) => this.scan(f)],
      ["unmapNext", (f) => this.unmapNext(f)],
      ["tryToUnmapOne", (f) => this.unmapOne(f)],
      ["copy", (f) => this.copy(f)],
      ["retractPageTables", (f) => this.retractNext(f)],
      ["targetRetracted", (f) => this.targetRetracted(f)],
      ["collapsePteMappedThp", (f) => agents.call(f, this.collapse.first + P_DONE, this.pteMapped.activity, this.mm(f), this.addr(f))],
      ["done", (f) => agents.ret(f, agents.stack.a[f + R0]!)],
    ]);
  }

  private mm(f: number): number {
    return this.sim.agents.stack.a[f + MM]!;
  }
  private addr(f: number): number {
    return this.sim.agents.stack.a[f + ADDR]!;
  }

  // ---- collapse_file

  /** hpage_collapse_scan_file, without the mmap_lock, then the new page and the locks of the old ones. */
  private scan(f: number): number {
    const { sim, vmas, frames } = this;
    const { agents } = sim;
    const s = agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const lock = this.locks.mmapLock(mm);
    if (!sim.locks.read(lock)) return BLOCKED;
    const v = this.pteMapped.vmaOf(mm, addr);
    const file = v < 0 ? -1 : vmas.file(v);
    const start = v < 0 ? 0 : vmas.pageIndex(v, addr);
    sim.locks.unlockRead(lock);
    if (v < 0) return agents.ret(f, -EINVAL);
    s.set(f + FILE, file);
    s.set(f + START, start);
    if (this.d.collapseDenied && this.fault.thp.shmemHuge === SHMEM_HUGE_DENY) return agents.ret(f, -EINVAL);
    const seen = this.scanCache(file, start);
    if (seen > 0) return this.collapse.first + P_PTE_MAPPED;
    if (seen < 0) return agents.ret(f, seen);
    if (!this.pages.tryLockBlock(file, start)) return agents.ret(f, -EAGAIN); // SCAN_PAGE_LOCK
    const pfn = frames.alloc(ORDER_PMD);
    if (pfn < 0) return this.failed(f, -ENOMEM);
    s.set(f + NEW, pfn);
    return this.collapse.first + P_UNMAP_NEXT;
  }

  /** @returns 1 for a huge page (SCAN_PTE_MAPPED_HUGEPAGE), 0 for small ones and holes, -errno */
  private scanCache(file: number, start: number): number {
    const { frames, files } = this;
    const first = files.cache.next(file, start, start + 512);
    if (first < 0) return -EINVAL; // SCAN_TRUNCATED
    for (let p = first; p >= 0; p = files.cache.next(file, p + 1, start + 512)) {
      const pfn = files.cache.find(file, p);
      if (frames.isThp(pfn)) return 1;
      if (frames.isHwpoison(pfn) || frames.refcount(pfn) !== frames.mapcount(pfn) + 1) return scanPageCount(this.d);
    }
    return 0;
  }

  private failed(f: number, error: number): number {
    this.pages.unlockBlock();
    return this.sim.agents.ret(f, error);
  }

  /** try_to_unmap of each page that is mapped: S, clear, E for each of its mappings, under i_mmap_rwsem. */
  private unmapNext(f: number): number {
    const { frames, files, pt, vmas, sim } = this;
    const s = sim.agents.stack;
    const file = s.a[f + FILE]!;
    const from = s.a[f + INDEX]!;
    for (;;) {
      const index = s.a[f + INDEX]!;
      if (index === 512) return this.collapse.first + P_COPY;
      const pgoff = s.a[f + START]! + index;
      const pfn = files.cache.find(file, pgoff);
      const cursor = s.a[f + CURSOR]!;
      if (cursor === 0) {
        if (pfn < 0 || frames.mapcount(pfn) === 0) {
          s.set(f + INDEX, index + 1);
          continue;
        }
        if (!sim.locks.read(this.pages.rmapLock)) return index === from ? BLOCKED : this.collapse.first + P_UNMAP_NEXT;
      }
      const v = nthMapping(vmas, file, pgoff, pgoff + 1, cursor);
      if (v < 0) {
        sim.locks.unlockRead(this.pages.rmapLock);
        s.set(f + INDEX, index + 1);
        s.set(f + CURSOR, 0);
        continue;
      }
      s.set(f + CURSOR, cursor + 1);
      const mm = vmas.mm(v);
      const at = vmas.addressOf(v, pgoff);
      if (!pt.walk(mm, at) || pt.leafPfn !== pfn) continue;
      s.set(f + AT_MM, mm);
      s.set(f + AT, at);
      return this.range(f, P_UNMAP_ONE, this.notifiers.invalidateRangeStart);
    }
  }

  private range(f: number, then: number, what: Activity): number {
    const s = this.sim.agents.stack.a;
    const at = s[f + AT]!;
    return this.sim.agents.call(f, this.collapse.first + then, what, s[f + AT_MM]!, at, at + 4096, MMU_NOTIFY_CLEAR, 1);
  }

  /** try_to_unmap_one. */
  private unmapOne(f: number): number {
    const { frames, files, pt } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + AT_MM]!;
    const at = s[f + AT]!;
    if (pt.contended(mm, at, at + 1)) return BLOCKED;
    const pfn = files.cache.find(s[f + FILE]!, s[f + START]! + s[f + INDEX]!);
    if (pt.walk(mm, at) && pt.leafPfn === pfn) {
      if (pt.hwDirty) frames.setDirty(pfn);
      pt.clearFlush(mm, at, 3, pt.entry);
      frames.dropMapping(pfn);
    }
    return this.range(f, P_UNMAP_NEXT, this.notifiers.invalidateRangeEnd);
  }

  /** Nobody but the cache holds a page (page_ref_freeze): contents into the huge page, holes zeroed, the huge page into the cache. */
  private copy(f: number): number {
    const { frames, files } = this;
    const s = this.sim.agents.stack.a;
    const file = s[f + FILE]!;
    const start = s[f + START]!;
    const to = s[f + NEW]!;
    let holes = false;
    for (let i = 0; i < 512; i++) {
      const pfn = files.cache.find(file, start + i);
      if (pfn < 0) holes = true;
      if (pfn < 0 || frames.refcount(pfn) === 1) continue;
      frames.put(to);
      return this.failed(f, scanPageCount(this.d));
    }
    if (holes && this.d.fileCollapseHoles === "left-to-userfaultfd" && this.missingWanted(file, start)) {
      frames.put(to);
      return this.failed(f, -EINVAL); // SCAN_EXCEED_NONE_PTE
    }
    frames.setFile(to);
    for (let i = 0; i < 512; i++) {
      const from = files.cache.find(file, start + i);
      if (from < 0) frames.clear(to + i, ORDER_PAGE);
      else frames.copy(to + i, from, ORDER_PAGE);
      files.cache.put(file, start + i, to + i);
      if (from >= 0) frames.put(from);
      if (i > 0) frames.get(to); // page_ref_add(hpage, HPAGE_PMD_NR - 1)
    }
    frames.setDirty(to);
    return this.collapse.first + P_RETRACT;
  }

  /** Does a userfaultfd want to be told of pages that are missing in the block? */
  private missingWanted(file: number, start: number): boolean {
    const { vmas } = this;
    for (let n = 0; ; n++) {
      const v = nthMapping(vmas, file, start, start + 512, n);
      if (v < 0) return false;
      if ((vmas.flags(v) & VM_UFFD_MISSING) !== 0) return true;
    }
  }

  // ---- retract_page_tables

  /** Up to v6.5 MADV_COLLAPSE takes away the table of its own mapping only; later, those of every mapping. */
  private retractNext(f: number): number {
    return this.d.fileCollapseTable === "rcu" ? this.retractEach(f) : this.retractTarget(f);
  }

  private retractEach(f: number): number {
    const { sim, pt, vmas } = this;
    const s = sim.agents.stack;
    const start = s.a[f + START]!;
    let n = s.a[f + CURSOR]!;
    if (n === 0 && !sim.locks.read(this.pages.rmapLock)) return BLOCKED;
    for (;;) {
      const v = nthMapping(vmas, s.a[f + FILE]!, start, start + 1, n);
      if (v < 0) break;
      s.set(f + CURSOR, ++n);
      const at = vmas.addressOf(v, start);
      if (vmas.anonVma(v) !== 0 || at % PMD_SIZE !== 0 || at + PMD_SIZE > vmas.end(v) || (vmas.flags(v) & VM_UFFD_WP) !== 0) continue;
      pt.walk(vmas.mm(v), at);
      if (pt.level < 3) continue;
      return sim.agents.call(f, this.collapse.first + P_RETRACT, this.retract.activity, vmas.mm(v), at, -1);
    }
    sim.locks.unlockRead(this.pages.rmapLock);
    this.pages.unlockBlock();
    return this.collapse.first + P_PTE_MAPPED;
  }

  private retractTarget(f: number): number {
    const { sim, pt, vmas } = this;
    const mm = this.mm(f);
    const addr = this.addr(f);
    if (!sim.locks.write(this.pages.rmapLock)) return BLOCKED;
    const v = vmas.findVma(mm, addr);
    const same = v >= 0 && vmas.file(v) === sim.agents.stack.a[f + FILE] && this.fault.fileFault.suitable(v, addr);
    pt.walk(mm, addr);
    const mapped = pt.leafLevel === 2;
    const table = pt.level === 3 && same && vmas.anonVma(v) === 0;
    const lock = this.locks.mmapLock(mm);
    if (table && sim.locks.tryWrite(lock)) {
      if ((vmas.flags(v) & VM_UFFD_WP) === 0)
        return sim.agents.call(f, this.collapse.first + P_TARGET_RETRACTED, this.retract.activity, mm, addr, -1);
      sim.locks.unlockWrite(lock);
      return this.leaveTarget(f, -EINVAL);
    }
    if (!table) return this.leaveTarget(f, mapped ? 0 : -EINVAL); // SCAN_PMD_NONE, SCAN_PMD_NULL: the page is huge, the mapping gets it later
    this.unlockTarget();
    return this.collapse.first + P_PTE_MAPPED;
  }

  private unlockTarget(): void {
    this.sim.locks.unlockWrite(this.pages.rmapLock);
    this.pages.unlockBlock();
  }

  private leaveTarget(f: number, result: number): number {
    this.unlockTarget();
    return this.sim.agents.ret(f, result);
  }

  /** set_huge_pmd for the caller's mapping. */
  private targetRetracted(f: number): number {
    const mm = this.mm(f);
    const addr = this.addr(f);
    if (this.pt.contended(mm, addr, addr + 1)) return BLOCKED;
    const set = this.fault.fileFault.doSetPmd(mm, this.vmas.findVma(mm, addr), addr, this.sim.agents.stack.a[f + NEW]!, false);
    this.sim.locks.unlockWrite(this.locks.mmapLock(mm));
    return this.leaveTarget(f, set ? 0 : -EINVAL);
  }
}
