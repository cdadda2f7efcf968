/**
 * The map walk of the page-table code of v5.10 and later (arch/arm64/kvm/hyp/pgtable.c:
 * kvm_pgtable_stage2_map, stage2_map_walker_try_leaf, stage2_map_walk_leaf, stage2_map_walk_table_pre).
 *
 * The caller holds mmu_lock. Parallel faults hold it for reading. Straight through a walk is one step, in which no
 * locked entry is ever met, but it is written as the kernel writes it; while agents are interleaved pgtablesteps.ts
 * goes through the same functions step by step.
 */
import { DESC_TABLE, DESC_VALID, leafHi, S2_S2AP_R, S2_S2AP_W, tableLo } from "../arch/descriptors.js";
import { PAGE_SIZE } from "../arch/types.js";
import { EAGAIN, EINVAL, ENOMEM, ERANGE } from "../sim/errno.js";
import type { MemoryCaches } from "./pgtablecache.js";
import {
  entryIndex,
  entryStart,
  INVALID_LOCKED,
  LEVEL_SIZE,
  PMD_SIZE,
  ROOT_MASK,
  S2_XN,
  TABLE_MASK,
  type Stage2Entries,
} from "./stage2walk.js";
import type { TlbFlush } from "./tlbflush.js";
import { PROT_DEVICE, PROT_NORMAL_NC, PROT_X, stage2Map } from "./trace.js";

/** KVM_PTE_LEAF_ATTR_S2_PERMS, low and high word. */
const PERMS_LO = S2_S2AP_R | S2_S2AP_W;
const PERMS_HI = S2_XN;

export class PgtableMap {
  private readonly locked: boolean;
  private readonly rcuFrees: boolean;
  private readonly freeTable: number;
  private readonly again: boolean;
  private readonly maintain: boolean;
  private readonly cleanNeeded: boolean;
  // kvm_pgtable_walk_data and stage2_map_data of the walk under way: where it is, where it ends, and what is mapped there.
  private addr = 0;
  private end = 0;
  private phys = 0;
  /** What the last tryLeaf mapped: how far the walk advances. */
  private step = 0;

  constructor(
    private readonly entries: Stage2Entries,
    private readonly caches: MemoryCaches,
    private readonly tlb: TlbFlush,
  ) {
    const d = entries.d;
    this.locked = d.sharedWalk === "locked-entry";
    this.rcuFrees = d.unlinkedTables === "rcu";
    const { rcu } = entries.sim;
    this.freeTable = rcu.callback((vm, table, level) => this.freeSubtree(vm, table, level));
    this.again = d.permissionOnlyChange === "again";
    this.maintain = d.mapCacheMaintenance === "walker";
    this.cleanNeeded = !entries.fwb;
  }

  /** stage2_set_prot_attr: combinations that no entry can have. */
  private badProt(prot: number): boolean {
    const uncached = prot & (PROT_DEVICE | PROT_NORMAL_NC);
    return uncached !== 0 && (uncached === (PROT_DEVICE | PROT_NORMAL_NC) || (prot & PROT_X) !== 0);
  }

  /**
   * kvm_pgtable_stage2_map: maps [ipa, ipa + size) to [pa, pa + size), with blocks where they fit.
   * @param cache where tables come from, or NO_CACHE
   * @returns 0; -EAGAIN where an entry differs in permissions only (nothing was written there);
   *   -ENOMEM without a page for a table; -EINVAL for an impossible prot; -ERANGE beyond the IPA space
   */
  readonly map = (vm: number, cache: number, ipa: number, size: number, pa: number, prot: number): number => {
    let ret = this.begin(vm, ipa, size, pa, prot);
    if (ret !== 0) return ret;
    // One entry of a table that the last walk came to: there is no way down, and nothing after it.
    const page = size === PAGE_SIZE ? this.entries.pageEntry(vm, ipa) : -1;
    const block = size === PMD_SIZE && aligned(size, ipa, pa) ? this.entries.blockEntry(vm, ipa) : -1;
    if (page >= 0) ret = this.mapLeaf(vm, page, 3, ipa, pa, prot);
    else if (block >= 0) ret = this.mapLeaf(vm, block, 2, ipa, pa, prot);
    else {
      this.addr = ipa;
      this.phys = pa;
      this.end = endOf(ipa, size);
      ret = this.mapRange(vm, cache, prot);
    }
    this.tlb.publishTables();
    return ret;
  };

  /** The walk from `addr` to `end`. */
  private mapRange(vm: number, cache: number, prot: number): number {
    while (this.addr < this.end) {
      const ret = this.mapOne(vm, cache, prot);
      if (ret !== 0) return ret;
      this.addr += this.step;
      this.phys += this.step;
    }
    return 0;
  }

  /** What comes before the walk. @returns 0, -EINVAL or -ERANGE */
  begin(vm: number, ipa: number, size: number, pa: number, prot: number): number {
    const entries = this.entries;
    entries.sim.bus.emit(stage2Map, ipa, size, pa, prot & 31);
    if (this.badProt(prot)) return -EINVAL;
    return endOf(ipa, size) > entries.vms.ipaSize(vm) ? -ERANGE : 0;
  }

  /** Descends to where one leaf fits and tries it there. Sets `step` to the bytes that it maps. */
  private mapOne(vm: number, cache: number, prot: number): number {
    const entries = this.entries;
    const ipa = this.addr;
    const pa = this.phys;
    const ihi = (ipa / 4294967296) | 0;
    const ilo = ipa | 0;
    const left = this.end - ipa;
    let level = 3;
    let at = left < PMD_SIZE ? entries.pageEntry(vm, ipa) : -1;
    if (at < 0) {
      level = entries.vms.startLevel(vm);
      at = entries.tables.word(entries.vms.root(vm)) + 2 * entryIndex(ihi, ilo, level, ROOT_MASK);
    }
    for (;;) {
      const lo = entries.words.a[at]!;
      const hi = entries.words.a[at + 1]!;
      if (level === 3 || this.blockFits(level, left, ilo, pa)) {
        this.step = LEVEL_SIZE[level]!;
        return this.mapLeaf(vm, at, level, ipa, pa, prot);
      }
      let chi = hi;
      let clo = lo;
      if ((lo & DESC_VALID) === 0 || (lo & DESC_TABLE) === 0) {
        const child = this.newTable(vm, cache, at, level, ipa, hi, lo);
        if (child < 0) return child;
        chi = leafHi(child, 0);
        clo = tableLo(child);
      }
      level++;
      at = entries.childWord(chi, clo) + 2 * entryIndex(ihi, ilo, level, TABLE_MASK);
      if (level === 3) entries.cameTo(vm, ipa, at);
      else if (level === 2) entries.cameToBlock(vm, ipa, at);
    }
  }

  /** kvm_block_mapping_supported: the level has blocks, the range is long enough, both addresses are aligned. */
  blockFits(level: number, left: number, ilo: number, pa: number): boolean {
    if (level === 0) return false;
    const size = LEVEL_SIZE[level]!;
    return left >= size && aligned(size, ilo, pa);
  }

  /** A leaf of this level fits: where there is a table it takes its place. */
  private mapLeaf(vm: number, at: number, level: number, ipa: number, pa: number, prot: number): number {
    const words = this.entries.words.a;
    const lo = words[at]!;
    const hi = words[(at + 1) | 0]!;
    const isTable = level < 3 && (lo & (DESC_VALID | DESC_TABLE)) === (DESC_VALID | DESC_TABLE);
    return isTable ? this.replaceTable(vm, at, level, ipa, hi, lo, pa, prot) : this.tryLeaf(vm, at, level, ipa, hi, lo, pa, prot);
  }

  /** stage2_map_walker_try_leaf. */
  private tryLeaf(vm: number, at: number, level: number, ipa: number, oldHi: number, oldLo: number, pa: number, prot: number): number {
    const entries = this.entries;
    const hi = entries.leafHi(prot, pa);
    const lo = entries.leafLo(prot, pa, level);
    if ((oldLo | oldHi) === 0) {
      // The kernel locks an empty entry too; as nobody can look in between, that write is not modelled.
      this.maintainCaches(level, hi, lo, pa);
      entries.fill(vm, at, level, ipa, hi, lo);
      return 0;
    }
    if ((oldLo & DESC_VALID) !== 0) {
      const stays = this.stays(hi, lo, oldHi, oldLo);
      if (stays <= 0) return stays;
    }
    this.breakEntry(vm, at, level, ipa, oldHi, oldLo);
    this.makeLeaf(vm, at, level, ipa, hi, lo, pa);
    return 0;
  }

  /** Whether a valid entry is left as it is. @returns 0: it says the same; -EAGAIN: other permissions at most; 1: it must change */
  stays(hi: number, lo: number, oldHi: number, oldLo: number): number {
    if (this.again) return ((oldLo ^ lo) & ~PERMS_LO) === 0 && ((oldHi ^ hi) & ~PERMS_HI) === 0 ? -EAGAIN : 1;
    return oldLo === lo && oldHi === hi ? 0 : 1;
  }

  /** stage2_make_pte of a leaf, with the cache maintenance before. The entry is invalid. */
  makeLeaf(vm: number, at: number, level: number, ipa: number, hi: number, lo: number, pa: number): void {
    this.maintainCaches(level, hi, lo, pa);
    this.entries.write(vm, at, level, ipa, hi, lo);
  }
  private maintainCaches(level: number, hi: number, lo: number, pa: number): void {
    if (!this.maintain) return;
    const entries = this.entries;
    if (this.cleanNeeded && entries.cacheable(lo)) entries.cleanDcache(pa, LEVEL_SIZE[level]!);
    if (entries.executable(hi, lo)) entries.invalidateIcache(pa, LEVEL_SIZE[level]!);
  }

  /** stage2_try_break_pte (v6.2+: locked invalid entry) / stage2_put_pte: break, then the TLBI of what was there. */
  breakEntry(vm: number, at: number, level: number, ipa: number, oldHi: number, oldLo: number): void {
    if ((oldLo | oldHi) === 0) return;
    this.entries.write(vm, at, level, ipa, 0, this.locked ? INVALID_LOCKED : 0);
    if ((oldLo & DESC_VALID) === 0) return;
    if (level < 3 && (oldLo & DESC_TABLE) !== 0) this.flushTable(vm, level, ipa);
    else this.tlb.flushIpa(vm, ipa, level);
  }

  /** The TLBI after a table entry was broken to make room for a block. */
  private flushTable(vm: number, level: number, ipa: number): void {
    const size = LEVEL_SIZE[level]!;
    switch (this.entries.d.mapOverTableTlbi) {
      case "vmid":
        return this.tlb.flushVmid(vm);
      case "range-unaligned":
        return this.tlb.flushRange(vm, ipa, size);
      case "range":
        return this.tlb.flushRange(vm, entryStart(ipa, level), size);
    }
  }

  /** stage2_map_walk_leaf where no leaf fits: a new table; an existing block is broken, its rest faults back later. */
  private newTable(vm: number, cache: number, at: number, level: number, ipa: number, oldHi: number, oldLo: number): number {
    const child = this.caches.take(cache, level + 1);
    if (child === 0) return -ENOMEM;
    this.breakEntry(vm, at, level, ipa, oldHi, oldLo);
    this.makeTable(vm, at, level, ipa, child);
    return child;
  }

  /** stage2_make_pte of a table entry. */
  makeTable(vm: number, at: number, level: number, ipa: number, child: number): void {
    this.entries.write(vm, at, level, ipa, leafHi(child, 0), tableLo(child));
  }

  /** stage2_map_walk_table_pre: a block takes the place of a table, whose subtree is freed. */
  private replaceTable(vm: number, at: number, level: number, ipa: number, oldHi: number, oldLo: number, pa: number, prot: number): number {
    const ret = this.tryLeaf(vm, at, level, ipa, oldHi, oldLo, pa, prot);
    if (ret === 0) this.freeUnlinked(vm, this.entries.outputAddress(oldHi, oldLo), level + 1);
    return ret;
  }

  /** free_unlinked_table: where walks go on beside each other, once those that are under way have ended (call_rcu). */
  freeUnlinked(vm: number, table: number, level: number): void {
    if (this.rcuFrees) this.entries.sim.rcu.call(this.freeTable, vm, table, level);
    else this.freeSubtree(vm, table, level);
  }

  /** kvm_pgtable_stage2_free_unlinked: frees a detached table and what lies below. No TLBI. */
  freeSubtree(vm: number, table: number, level: number): void {
    const entries = this.entries;
    const words = entries.words.a;
    const from = entries.tables.word(table);
    for (let at = from; at < from + 1024; at += 2) {
      const lo = words[at]!;
      if ((lo & DESC_VALID) === 0) continue;
      if (level < 3 && (lo & DESC_TABLE) !== 0) this.freeSubtree(vm, entries.outputAddress(words[at + 1]!, lo), level + 1);
      else entries.forgetLeaf(vm, level);
    }
    this.caches.release(table, level);
  }
}

/** Both addresses are multiples of a block's size. */
function aligned(size: number, ipa: number, pa: number): boolean {
  return ((ipa | pa) & (size - 1)) === 0;
}

/** Where the last page of a range ends. */
function endOf(ipa: number, size: number): number {
  const rest = size & (PAGE_SIZE - 1);
  return ipa + (rest === 0 ? size : size - rest + PAGE_SIZE);
}
