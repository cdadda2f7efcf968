/**
 * A page that the hardware declares broken (mm/memory-failure.c): it is taken out of every address
 * space, and whoever touches it again gets a SIGBUS. madvise(MADV_HWPOISON) injects one.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EBUSY, EHWPOISON } from "../sim/errno.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import { FRAME_FILE, FRAME_HUGETLB, FRAME_HWPOISON, type Frames } from "./frames.js";
import type { Gup } from "./gup.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import { vmaKernelPageSize } from "./context.js";
import type { MmRow } from "./decisions.js";
import { FILE_GUEST_MEMFD, FILE_REGULAR, type Files } from "./files.js";
import type { Hugetlb } from "./hugetlb.js";
import type { HostPageTables } from "./pagetable.js";
import { descPfn, SWP_HWPOISON, swapEntryHi, swapEntryLo } from "./pte.js";
import type { PageLocks } from "./pagelock.js";
import type { Rmap } from "./rmap.js";
import type { SplitHugePmd } from "./splithuge.js";
import type { Vmas } from "./vmas.js";

export const memoryFailureEvent = declareEvent("faultline", "memory_failure", "a page frame was declared broken", [
  { name: "pfn", kind: "hex" },
]);

/** si_addr_lsb of a page. */
const PAGE_LSB = 12;

const MM = ARG;
const ADDR = ARG + 1;
const PFN = ARG + 2;
/** Of the walk over all mappings; the address space and the range of the leaf that is taken out. */
const CURSOR = ARG + 3;
const START = ARG + 4;
const END = ARG + 5;
const AT_MM = ARG + 6;
/** Of getPage: bytes of the compound page (page_size(compound_head)). */
const BYTES = ARG + 7;
/** Whose page it is, as the reverse mapping asks for it. */
const FILE = ARG + 8;
const INDEX = ARG + 9;

export class MemoryFailure {
  /**
   * (mm, addr) -> R0 0 | -errno, R1 bytes of the page that was broken (the huge page's, before it is split). The page behind addr is faulted in, declared broken, taken out of every
   * address space (S, a poison entry, E) and never used again; a THP is split first, in every process that maps it. -EBUSY for the zero
   * page. Takes the mmap_lock itself.
   */
  readonly poisonPage: Activity;
  /**
   * (mm, addr, pfn) -> the same, and R2 the si_addr_lsb of the BUS_MCEERR_AR that a task is due which runs this because of its own
   * access (MF_ACTION_REQUIRED), 0: none. Hardware has found the frame broken, which (mm, addr) maps.
   */
  readonly hardwareError: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly notifiers: MmuNotifiers,
    private readonly gup: Gup,
    private readonly split: SplitHugePmd,
    private readonly pages: PageLocks,
    private readonly rmap: Rmap,
    private readonly vmas: Vmas,
    private readonly files: Files,
    private readonly hugetlb: Hugetlb,
    private readonly d: MmRow,
  ) {
    this.poisonPage = sim.agents.activity("memoryFailure", "mm/memory-failure.c memory_failure, hwpoison_user_mappings", 10, [
      ["getPage", (f) => this.getPage(f)],
      ["poison", (f) => this.poison(f)],
      ["unmapNext", (f) => this.unmapNext(f)],
      ["tryToUnmapOne", (f) => this.unmapOne(f)],
      ["rmapLock", (f) => this.lockRmap(f)],
      ["getHwpoisonPage", (f) => this.getHwpoisonPage(f)],
      ["errorRemoveFolio", (f) => this.errorRemoveFolio(f)],
      ["errorRemoved", (f) => this.errorRemoved(f)],
    ]);
    this.hardwareError = sim.agents.from(this.poisonPage, 5);
  }

  /** get_hwpoison_page: hardware names the frame, no address. */
  private getHwpoisonPage(f: number): number {
    const s = this.sim.agents.stack;
    const pfn = s.a[f + PFN]!;
    this.frames.get(pfn);
    s.set(f + R0, pfn);
    return this.poison(f);
  }

  private getPage(f: number): number {
    const s = this.sim.agents.stack.a;
    return this.sim.agents.call(f, this.poisonPage.first + 1, this.gup.getUserPagesUnlocked, s[f + MM]!, s[f + ADDR]!, 0);
  }

  private poison(f: number): number {
    const { frames } = this;
    const { agents } = this.sim;
    const s = agents.stack;
    const pfn = s.a[f + R0]!;
    if (pfn < 0) return agents.ret(f, pfn);
    if (frames.isReserved(pfn)) return agents.ret(f, this.reserved(pfn));
    s.set(f + PFN, pfn);
    s.set(f + CURSOR, 0);
    s.set(f + BYTES, 2 ** frames.orderOf(pfn) * 4096);
    s.set(f + FILE, this.rmap.fileOf(pfn, s.a[f + MM]!, s.a[f + ADDR]!));
    s.set(f + INDEX, this.rmap.indexOf(s.a[f + MM]!, s.a[f + ADDR]!));
    if (frames.isHwpoison(pfn)) return this.again(f, pfn);
    this.sim.bus.emit(memoryFailureEvent, pfn);
    frames.lru?.lruAddDrainAll(); // shake_page
    if (frames.isThp(pfn) && (frames.flags(pfn) & FRAME_FILE) !== 0 && this.d.hwpoisonFileHuge === "refused") {
      frames.put(pfn);
      return agents.ret(f, -EBUSY);
    }
    if (!frames.isThp(pfn)) return this.lockRmap(f);
    // A transparent huge page is split first, so that only the broken page is lost.
    frames.setHwpoison(pfn);
    return agents.call(f, this.poisonPage.first + 4, this.split.splitHugePage, s.a[f + MM]!, s.a[f + ADDR]!, 1);
  }

  /** The zero page cannot be given up, but is marked as broken all the same: asked again it is said to be so already. */
  private reserved(pfn: number): number {
    const { frames, d } = this;
    if (frames.isThp(pfn) || !frames.isHwpoison(pfn)) {
      if (!frames.isThp(pfn)) frames.setFlags(pfn, FRAME_HWPOISON);
      // The huge zero page is not PageReserved.
      if (frames.isThp(pfn) || d.hwpoisonZeroPage === "shaken") frames.lru?.lruAddDrainAll();
      return -EBUSY;
    }
    return d.hwpoisonAgain === "EHWPOISON" ? -EHWPOISON : 0;
  }

  /** A page that was marked as broken and could not be unmapped (TestSetPageHWPoison). */
  private again(f: number, pfn: number): number {
    this.frames.put(pfn);
    return this.sim.agents.ret(f, this.d.hwpoisonAgain === "EHWPOISON" ? -EHWPOISON : 0, this.sim.agents.stack.a[f + BYTES]!);
  }

  /** rmap_walk holds the lock over all mappings of the page. */
  private lockRmap(f: number): number {
    const { frames } = this;
    const page = this.sim.agents.stack.a[f + PFN]!;
    if (frames.isThp(page)) {
      // try_to_split_thp_page failed: somebody else holds it or has its lock. It stays mapped, marked as broken.
      frames.put(page);
      if (this.d.hwpoisonUnsplit !== "EHWPOISON") return this.sim.agents.ret(f, -EBUSY);
      return this.sim.agents.ret(f, -EHWPOISON, 0, PAGE_LSB); // kill_procs_now
    }
    if (this.d.hwpoisonKsm === "refused" && frames.isKsm(page)) {
      frames.setFlags(page, FRAME_HWPOISON);
      frames.put(page);
      return this.sim.agents.ret(f, -EBUSY);
    }
    if (this.sim.locks.read(this.pages.rmapLock)) return this.unmapNext(f);
    const lock = this.poisonPage.first + 4;
    return this.sim.agents.stack.a[f] === lock ? BLOCKED : lock;
  }

  /** try_to_unmap: for every mapping of the page. */
  private unmapNext(f: number): number {
    const { frames, pt, rmap } = this;
    const s = this.sim.agents.stack;
    const pfn = s.a[f + PFN]!;
    frames.setFlags(pfn, FRAME_HWPOISON);
    for (;;) {
      const cursor = rmap.next(pfn, s.a[f + FILE]!, s.a[f + INDEX]!, s.a[f + CURSOR]!);
      if (cursor === 0) break;
      s.set(f + CURSOR, cursor);
      const here = pt.walk(rmap.mm, rmap.addr) && pt.leafPfn === pfn;
      // An anonymous page is announced wherever it may be, until nobody maps it any more.
      if (!here && (s.a[f + FILE]! >= 0 || frames.isKsm(pfn) || frames.mapcount(pfn) === 0)) continue;
      const size = here ? pt.leafSize : 4096;
      const start = rmap.addr - (rmap.addr % size);
      s.set(f + AT_MM, rmap.mm);
      s.set(f + START, start);
      s.set(f + END, start + size);
      return this.sim.agents.call(
        f,
        this.poisonPage.first + 3,
        this.notifiers.invalidateRangeStart,
        rmap.mm,
        start,
        start + size,
        MMU_NOTIFY_CLEAR,
        1,
      );
    }
    // kill_procs: a clean page is read again.
    const lsb = this.clean(pfn, s.a[f + MM]!, s.a[f + ADDR]!) ? 0 : PAGE_LSB + frames.orderOf(pfn);
    this.removeFromFile(s.a[f + MM]!, s.a[f + ADDR]!, pfn);
    this.sim.locks.unlockRead(this.pages.rmapLock);
    if (this.files.kind(s.a[f + FILE]!) === FILE_GUEST_MEMFD) return this.poisonPage.first + 6;
    frames.put(pfn); // the reference of getPage
    return this.sim.agents.ret(f, 0, s.a[f + BYTES]!, lsb);
  }

  /** A guest_memfd keeps the page, and takes it from the guests: MF_DELAYED, which truncate_error_folio takes for a failure. */
  private errorRemoveFolio(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    return agents.call(f, this.poisonPage.first + 7, this.files.guestMemfd.errorRemoveFolio, s[f + FILE]!, s[f + INDEX]!);
  }
  private errorRemoved(f: number): number {
    const s = this.sim.agents.stack.a;
    this.frames.put(s[f + PFN]!);
    return this.sim.agents.ret(f, -EBUSY, s[f + BYTES]!, PAGE_LSB);
  }

  /** me_pagecache_clean, me_huge_page: truncate_error_page, where the page does not stay in the file for later faults to find. */
  private removeFromFile(mm: number, addr: number, pfn: number): void {
    const { frames, files, vmas } = this;
    const of = frames.flags(pfn);
    if ((of & FRAME_FILE) === 0 || files.kind(this.rmap.fileOf(pfn, mm, addr)) === FILE_GUEST_MEMFD) return;
    if (!this.clean(pfn, mm, addr) && this.d.hwpoisonFilePage === "kept") return;
    const v = vmas.findVma(mm, addr);
    const file = vmas.file(v);
    const pgoff = vmas.pageIndex(v, addr - (addr % vmaKernelPageSize(vmas, files, v)));
    if (files.cache.find(file, pgoff) === frames.head(pfn)) frames.put(files.cache.remove(file, pgoff));
  }

  /** A clean page of a file on disk is only unmapped (TTU_IGNORE_HWPOISON), and read again. */
  private clean(pfn: number, mm: number, addr: number): boolean {
    if ((this.frames.flags(pfn) & FRAME_FILE) === 0) return false;
    return this.files.kind(this.vmas.file(this.vmas.findVma(mm, addr))) === FILE_REGULAR;
  }

  private unmapOne(f: number): number {
    const { frames, pt, vmas } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + AT_MM]!;
    const start = s.a[f + START]!;
    const end = s.a[f + END]!;
    const pfn = s.a[f + PFN]!;
    if (pt.contended(mm, start, end)) return BLOCKED;
    if (pt.walk(mm, start) && pt.leafPfn === frames.head(pfn)) {
      const { entry, leafLevel } = pt;
      const first = descPfn(pt.lo, pt.hi);
      const lo = this.clean(pfn, s.a[f + MM]!, s.a[f + ADDR]!) ? 0 : swapEntryLo(SWP_HWPOISON, first);
      const hi = lo === 0 ? 0 : swapEntryHi(first);
      if ((frames.flags(pfn) & FRAME_HUGETLB) !== 0) {
        const order = this.hugetlb.order(vmas.findVma(mm, start));
        this.hugetlb.clear(mm, start, order);
        this.hugetlb.setMarker(mm, start, order, lo, hi);
      } else {
        pt.clearFlush(mm, start, leafLevel, entry);
        if (lo !== 0) pt.setEntry(mm, start, leafLevel, entry, lo, hi);
      }
      frames.dropMapping(first);
    }
    return this.sim.agents.call(f, this.poisonPage.first + 2, this.notifiers.invalidateRangeEnd, mm, start, end, MMU_NOTIFY_CLEAR, 1);
  }
}
