/**
 * Emptying a range of stage 2 (arch/arm64/kvm/mmu.c unmap_stage2_range, hyp/pgtable.c
 * stage2_unmap_walker; before v5.10 virt/kvm/arm/mmu.c unmap_stage2_ptes … clear_stage2_pgd_entry),
 * and the end of a VM's tables.
 *
 * Order inside: entry cleared, TLB invalidated (or once at the end of the chunk), data cache cleaned;
 * only then does the caller return and the host reuse the page. A block that the range covers in
 * part goes completely; what is left of it faults back.
 */
import { DESC_TABLE, DESC_VALID, S2_MEMATTR_SHIFT } from "../arch/descriptors.js";
import { TABLE_WORDS } from "../arch/tables.js";
import type { MemoryCaches } from "./pgtablecache.js";
import type { PgtableMap } from "./pgtablemap.js";
import {
  entryIndex,
  entryStart,
  LEVEL_SIZE,
  MEMATTR_DEVICE_NGNRE,
  PUD_SIZE,
  ROOT_MASK,
  TABLE_MASK,
  type FrameTest,
  type Stage2Entries,
} from "./stage2walk.js";
import { TTL_UNKNOWN, type TlbFlush } from "./tlbflush.js";
import { stage2Unmap } from "./trace.js";

export class PgtableUnmap {
  private readonly walker: boolean;
  /** stage2_unmap_defer_tlb_flush(): leaves are flushed once, at the end of the walk. */
  private readonly deferLeaves: boolean;
  private readonly deferTables: boolean;
  /** An unmapped page needs nothing but its entry cleared: it is flushed later, and S2FWB keeps it clean. */
  private readonly clearsOnly: boolean;
  /** After an entry that is no table the walk goes one entry's size further, also from the middle of one. */
  private readonly strides: boolean;
  /** The running walk left an emptied table where it is. */
  private left = false;

  constructor(
    private readonly entries: Stage2Entries,
    private readonly caches: MemoryCaches,
    private readonly tlb: TlbFlush,
    private readonly map: PgtableMap,
    private readonly frames: FrameTest,
  ) {
    const d = entries.d;
    const canDefer = entries.fwb && entries.features.tlbiRange;
    this.walker = d.mapCode === "walker";
    this.deferLeaves = canDefer && d.unmapLeafTlbi === "deferred";
    this.deferTables = this.deferLeaves && d.unmapTableTlbi === "entry-level-or-deferred";
    this.strides = d.walkStep === "entry-size";
    this.clearsOnly = this.walker && this.deferLeaves;
  }

  /** Where a long operation that started at `at` may drop the lock: stage2_range_addr_end, stage2_pgd_addr_end. */
  chunkEnd(vm: number, at: number, end: number): number {
    const byTop = this.entries.d.walkChunk === "top-level-entry";
    const size = byTop ? LEVEL_SIZE[this.entries.vms.startLevel(vm)]! : PUD_SIZE;
    return Math.min(end, Math.floor(at / size) * size + size);
  }

  /** The event of unmap_stage2_range, once for the whole range. */
  announce(ipa: number, size: number): void {
    this.entries.sim.bus.emit(stage2Unmap, ipa, size);
  }

  /** Empties [ipa, end), one step of a long operation (kvm_pgtable_stage2_unmap). The caller holds mmu_lock. */
  chunk(vm: number, ipa: number, end: number): void {
    if (this.entries.vms.root(vm) === 0) return;
    this.walkChunk(vm, ipa, end);
    this.flushChunk(vm, ipa, end);
  }
  /**
   * Its two halves: the walk, and the flush that was put off to its end.
   * @param tables false: tables that it empties stay where they are @returns true if there is one
   */
  walkChunk(vm: number, ipa: number, end: number, tables = true): boolean {
    const entries = this.entries;
    const to = Math.min(end, entries.vms.ipaSize(vm));
    if (ipa >= to) return false;
    const at = entries.pageEntry(vm, ipa);
    if (at >= 0 && this.staysFilled(at, ipa, to)) {
      this.walkPages(vm, at & ~(TABLE_WORDS - 1), ipa, to);
      return false;
    }
    this.left = false;
    this.walk(vm, entries.tables.word(entries.vms.root(vm)), entries.vms.startLevel(vm), ROOT_MASK, ipa, to, tables);
    return this.left;
  }
  /** Whether a range lies in the table of its first address's entry, and does not empty it. */
  private staysFilled(at: number, from: number, to: number): boolean {
    const pages = (to - from) / 4096;
    return (at & (TABLE_WORDS - 1)) + 2 * pages <= TABLE_WORDS && this.entries.tables.refs.a[(at / TABLE_WORDS) | 0]! > 1 + pages;
  }
  flushChunk(vm: number, ipa: number, end: number): void {
    if (this.deferLeaves) this.tlb.flushRange(vm, ipa, end - ipa);
  }
  /** The flush of what a walk unmapped comes at its end. */
  get defers(): boolean {
    return this.deferLeaves;
  }

  /** @returns the address that it came to: `to`, or beyond (walkStep) */
  private walk(vm: number, table: number, level: number, mask: number, from: number, to: number, tables: boolean): number {
    const entries = this.entries;
    const size = LEVEL_SIZE[level]!;
    let ipa = from;
    while (ipa < to) {
      const start = entryStart(ipa, level);
      let next = Math.min(to, start + size);
      const at = table + 2 * entryIndex((ipa / 4294967296) | 0, ipa | 0, level, mask);
      const lo = entries.words.a[at]!;
      const hi = entries.words.a[at + 1]!;
      if ((lo & DESC_VALID) === 0) {
        if (this.strides) next = ipa + size;
        if ((lo | hi) !== 0) entries.write(vm, at, level, start, 0, 0);
      } else if (level < 3 && (lo & DESC_TABLE) !== 0) {
        if (level === 2) {
          const pages = entries.childWord(hi, lo);
          entries.cameTo(vm, ipa, pages);
          this.walkPages(vm, pages, ipa, next);
        } else next = this.walk(vm, entries.childWord(hi, lo), level + 1, TABLE_MASK, ipa, next, tables);
        if (tables) this.freeIfEmpty(vm, at, level, ipa, hi, lo);
        else if (entries.tables.count(entries.outputAddress(hi, lo)) === 1) this.left = true;
      } else {
        if (this.strides) next = ipa + size;
        this.unmapLeaf(vm, at, level, ipa, hi, lo);
      }
      ipa = next;
    }
    return ipa;
  }

  /** The same in a level-3 table, where every unmap of pages spends its time. */
  private walkPages(vm: number, table: number, from: number, to: number): void {
    const entries = this.entries;
    const words = entries.words.a;
    const pages = Math.ceil((to - from) / 4096);
    let at = table + 2 * ((from >>> 12) & TABLE_MASK);
    if (this.clearsOnly && entries.clearPages(vm, at, at + 2 * pages)) return;
    for (let i = 0; i < pages; i++, at += 2) {
      const lo = words[at]!;
      const hi = words[at + 1]!;
      if ((lo | hi) === 0) continue;
      if ((lo & DESC_VALID) === 0) entries.write(vm, at, 3, from + i * 4096, 0, 0);
      else this.unmapLeaf(vm, at, 3, from + i * 4096, hi, lo);
    }
  }

  private unmapLeaf(vm: number, at: number, level: number, ipa: number, hi: number, lo: number): void {
    const entries = this.entries;
    entries.write(vm, at, level, entryStart(ipa, level), 0, 0);
    if (!this.walker) this.tlb.publishTables();
    if (!this.deferLeaves) this.tlb.flushIpa(vm, ipa, level);
    if (this.needsClean(level, hi, lo)) entries.cleanDcache(entries.outputAddress(hi, lo), LEVEL_SIZE[level]!);
  }

  /** Whether the unmapped memory is cleaned to PoC: RAM without S2FWB, by the era's test of "RAM". */
  private needsClean(level: number, hi: number, lo: number): boolean {
    const entries = this.entries;
    if (entries.fwb) return false;
    switch (entries.d.unmapDeviceTest) {
      case "entry-attributes":
        // Blocks are never devices there; pages are if they have the bits of PAGE_S2_DEVICE.
        return level < 3 || entries.executable(hi, lo) || ((lo >>> S2_MEMATTR_SHIFT) & MEMATTR_DEVICE_NGNRE) === 0;
      case "pfn-valid":
        return level < 3 || this.frames.pfnValid(entries.outputAddress(hi, lo) / 4096);
      case "entry-cacheable":
        return entries.cacheable(lo);
    }
  }

  /** stage2_unmap_walker on the way up / clear_stage2_pmd_entry: a table whose page count is 1 is removed and freed. */
  private freeIfEmpty(vm: number, at: number, level: number, ipa: number, hi: number, lo: number): void {
    const entries = this.entries;
    const child = entries.outputAddress(hi, lo);
    if (entries.tables.count(child) !== 1) return;
    entries.write(vm, at, level, entryStart(ipa, level), 0, 0);
    if (!this.walker) this.tlb.publishTables();
    if (!this.deferTables) this.tlb.flushIpa(vm, ipa, entries.d.unmapTableTlbi === "no-hint" ? TTL_UNKNOWN : level);
    this.caches.release(child, level + 1);
  }

  /** unmap_stage2_range for callers that may not sleep, or hold the lock throughout: all chunks in one step. */
  range(vm: number, ipa: number, size: number): void {
    this.announce(ipa, size);
    const end = ipa + size;
    for (let at = ipa; at < end;) {
      const next = this.chunkEnd(vm, at, end);
      this.chunk(vm, at, next);
      at = next;
    }
  }

  /** kvm_free_stage2_pgd: unmap all (up to v5.9), or free the tree without any TLBI. Does nothing the second time. */
  teardown(vm: number): void {
    const entries = this.entries;
    const root = entries.vms.root(vm);
    if (root === 0) return;
    if (entries.d.teardown === "unmap") this.range(vm, 0, entries.vms.ipaSize(vm));
    entries.vms.dropRoot(vm);
    const level = entries.vms.startLevel(vm);
    const pages = entries.vms.rootPages(vm);
    const from = entries.tables.word(root);
    for (let at = from; at < from + pages * 1024; at += 2) {
      const lo = entries.words.a[at]!;
      const hi = entries.words.a[at + 1]!;
      if ((lo & DESC_VALID) === 0) continue;
      if ((lo & DESC_TABLE) !== 0) this.map.freeSubtree(vm, entries.outputAddress(hi, lo), level + 1);
      else entries.forgetLeaf(vm, level);
    }
    entries.tables.free(root, pages);
  }
}
