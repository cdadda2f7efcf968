/**
 * collapse_pte_mapped_thp (mm/khugepaged.c): the page cache holds a huge page that a mapping shows by small entries, or not at
 * all; the table of those entries goes, and one entry comes in its place.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EINVAL } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import type { HostFault } from "./fault.js";
import { FILE_SHMEM, type Files } from "./files.js";
import type { Frames } from "./frames.js";
import type { MmapLocks } from "./gup.js";
import type { PageLocks } from "./pagelock.js";
import type { HostPageTables } from "./pagetable.js";
import { mapsPage, type RetractTable } from "./retracttable.js";
import { VM_UFFD_WP } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

const MM = ARG;
const ADDR = ARG + 1;
const FILE = ARG + 2;
/** vm_pgoff of the block. */
const START = ARG + 3;
const VMA = ARG + 4;

const P_PAGE_LOCK = 1;
const P_RETRACTED = 2;
const P_INSTALL = 3;

export class PteMappedThp {
  /** (mm, addr) -> R0 0 | -errno (madvise_collapse_errno). Takes the mmap_lock itself. */
  readonly activity: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly files: Files,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly fault: HostFault,
    private readonly retract: RetractTable,
    private readonly locks: MmapLocks,
    private readonly pages: PageLocks,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.activity = agents.activity("collapsePteMappedThp", "mm/khugepaged.c collapse_pte_mapped_thp", 5, [
      ["mmapLock", (f) => this.lockMmap(f)],
      ["pageLock", (f) => this.lockPage(f)],
      ["retracted", (f) => this.retracted(f)],
      ["setHugePmd", (f) => this.install(f)],
    ]);
  }

  /** The VMA of the block if it may be a huge mapping of a memory file, or -1 (hugepage_vma_revalidate). */
  vmaOf(mm: number, addr: number): number {
    const { vmas, files, fault } = this;
    const v = vmas.covering(mm, addr);
    if (v < 0 || files.kind(vmas.file(v)) !== FILE_SHMEM) return -1;
    return fault.huge.collapsible(vmas.flags(v)) && fault.fileFault.suitable(v, addr) ? v : -1;
  }

  /** mmap_write_lock, from v6.6 on mmap_read_lock. */
  private lockMmap(f: number): number {
    const lock = this.locks.mmapLock(this.sim.agents.stack.a[f + MM]!);
    const reads = this.d.fileCollapseTable === "rcu";
    if (!(reads ? this.sim.locks.read(lock) : this.sim.locks.write(lock))) return BLOCKED;
    return this.lockPage(f);
  }

  private unlock(f: number, result: number): number {
    const lock = this.locks.mmapLock(this.sim.agents.stack.a[f + MM]!);
    if (this.d.fileCollapseTable === "rcu") this.sim.locks.unlockRead(lock);
    else this.sim.locks.unlockWrite(lock);
    return this.sim.agents.ret(f, result);
  }

  /** i_mmap_lock_write, which came with the IPI (mm/khugepaged: take the right locks for page table retraction, v6.1-rc8). */
  private get locksMappings(): boolean {
    return this.d.fileCollapseTable === "ipi";
  }

  /** The checks, find_lock_page, and step 1: every entry maps the right page of the huge page. */
  private lockPage(f: number): number {
    const { pt, vmas, files, frames, sim } = this;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const lock = this.activity.first + P_PAGE_LOCK;
    const wait = s.a[f] === lock ? BLOCKED : lock;
    pt.walk(mm, addr);
    if (pt.leafLevel === 2) return this.unlock(f, 0); // SCAN_PMD_MAPPED
    const v = this.vmaOf(mm, addr);
    if (v < 0 || (vmas.flags(v) & VM_UFFD_WP) !== 0) return this.unlock(f, -EINVAL);
    if (this.locksMappings && vmas.anonVma(v) !== 0) return this.unlock(f, -EINVAL); // SCAN_VMA_CHECK
    const file = vmas.file(v);
    const start = vmas.pageIndex(v, addr);
    if (this.pages.blockLockedByOther(file, start)) return wait;
    const head = files.cache.find(file, start);
    if (head < 0 || !frames.isThp(head)) return this.unlock(f, -EINVAL);
    pt.walk(mm, addr);
    if (pt.level < 2) return this.unlock(f, -EINVAL); // SCAN_PMD_NULL
    const table = pt.level === 3;
    if (table && this.locksMappings && !sim.locks.write(this.pages.rmapLock)) return wait;
    s.set(f + VMA, v);
    s.set(f + START, start);
    s.set(f + FILE, file);
    this.pages.tryLockBlock(file, start);
    if (!table) return this.activity.first + P_INSTALL;
    if (!this.everyEntry(mm, addr, head, false)) return this.drop(f, -EINVAL);
    if (this.d.fileCollapseTable !== "rcu") this.everyEntry(mm, addr, head, true);
    const keep = this.d.fileCollapseTable === "rcu" ? head : -1;
    return sim.agents.call(f, this.activity.first + P_RETRACTED, this.retract.activity, mm, addr, keep);
  }

  /** Steps 1 and 2 over the table of addr. @param drop gives the mappings' references back, the entries stay @returns false at an entry of another page */
  private everyEntry(mm: number, addr: number, head: number, drop: boolean): boolean {
    const { pt, frames } = this;
    const table = pt.tableWord(pt.entryAt(mm, addr, 2));
    for (let i = 0; i < 512; i++) {
      const lo = pt.tables.words.a[table + 2 * i]!;
      const hi = pt.tables.words.a[table + 2 * i + 1]!;
      if ((lo | hi) === 0) continue;
      if (drop) frames.dropMapping(head + i);
      else if (!mapsPage(lo, hi, head + i)) return false;
    }
    return true;
  }

  private drop(f: number, result: number): number {
    this.pages.unlockBlock();
    if (this.locksMappings && this.sim.locks.heldForWrite(this.pages.rmapLock)) this.sim.locks.unlockWrite(this.pages.rmapLock);
    return this.unlock(f, result);
  }

  private retracted(f: number): number {
    if (this.sim.agents.stack.a[f + R0] === 0) return this.drop(f, -EINVAL);
    return this.activity.first + P_INSTALL;
  }

  /** Step 5, set_huge_pmd. */
  private install(f: number): number {
    const { pt } = this;
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]!;
    const addr = s[f + ADDR]!;
    if (pt.contended(mm, addr, addr + 1)) return BLOCKED;
    pt.walk(mm, addr);
    if (!pt.none || pt.level !== 2) return this.drop(f, -EINVAL);
    const head = this.files.cache.find(s[f + FILE]!, s[f + START]!);
    const set = this.fault.fileFault.doSetPmd(mm, s[f + VMA]!, addr, head, false);
    return this.drop(f, set ? 0 : -EINVAL);
  }
}
