/**
 * Eager splitting of blocks into pages (v6.5+: arch/arm64/kvm/mmu.c kvm_mmu_split_huge_pages,
 * hyp/pgtable.c stage2_split_walker, kvm_pgtable_stage2_create_unlinked): done when dirty logging
 * starts, so that the first write to each page does not pay for it.
 */
import { DESC_TABLE, DESC_VALID, leafHi, tableLo } from "../arch/descriptors.js";
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EINVAL, ENOMEM } from "../sim/errno.js";
import type { MemoryCaches } from "./pgtablecache.js";
import {
  entryIndex,
  entryStart,
  INVALID_LOCKED,
  LEVEL_SIZE,
  PMD_SIZE,
  PUD_SIZE,
  ROOT_MASK,
  TABLE_MASK,
  type Stage2Entries,
} from "./stage2walk.js";
import type { TlbFlush } from "./tlbflush.js";
import { stage2Split } from "./trace.js";

/** Supported chunk sizes of capability 228 as shifts (capability 229): 4 KiB, 2 MiB, 1 GiB. */
export const SPLIT_BLOCK_SIZES = (1 << 12) | (1 << 21) | (1 << 30);

/** Frame of splitHugePages. */
const VM = ARG;
const ADDR = ARG + 1;
const END = ARG + 2;

export class PgtableSplit {
  /**
   * kvm_mmu_split_huge_pages(vm, start, end): the caller holds mmu_lock for writing and holds it again
   * after; it is dropped to fill the cache. R0: 0 always (splitting is best effort).
   */
  readonly splitHugePages: Activity;

  constructor(
    private readonly entries: Stage2Entries,
    private readonly caches: MemoryCaches,
    private readonly tlb: TlbFlush,
  ) {
    this.splitHugePages = entries.sim.agents.activity("kvmMmuSplitHugePages", "arch/arm64/kvm/mmu.c kvm_mmu_split_huge_pages", 3, [
      ["announce", (f) => this.announce(f)],
      ["chunk", (f) => this.chunk(f)],
      ["topup", (f) => this.topup(f)],
    ]);
  }

  private announce(f: number): number {
    const { agents, bus } = this.entries.sim;
    const s = agents.stack.a;
    const vm = s[f + VM]!;
    if (this.entries.vms.splitChunk(vm) === 0 || !this.entries.d.eagerSplit) return agents.ret(f, 0);
    bus.emit(stage2Split, s[f + ADDR]!, s[f + END]! - s[f + ADDR]!);
    return this.splitHugePages.first + 1;
  }

  private chunk(f: number): number {
    const { agents, locks } = this.entries.sim;
    const s = agents.stack;
    const vms = this.entries.vms;
    const vm = s.a[f + VM]!;
    const chunk = vms.splitChunk(vm);
    if (vms.splitCache(vm) < splitPageTables(chunk)) {
      locks.unlockWrite(vms.mmuLock(vm));
      return this.splitHugePages.first + 2;
    }
    const at = s.a[f + ADDR]!;
    const end = s.a[f + END]!;
    const next = Math.min(end, Math.floor(at / chunk) * chunk + chunk);
    if (this.split(vm, at, next) !== 0 || next === end) return agents.ret(f, 0);
    s.set(f + ADDR, next);
    return this.splitHugePages.first + 1;
  }

  /** The cache is filled with mmu_lock dropped. */
  private topup(f: number): number {
    const { agents, locks, costs } = this.entries.sim;
    const vms = this.entries.vms;
    const vm = agents.stack.a[f + VM]!;
    if (!locks.write(vms.mmuLock(vm))) return BLOCKED;
    const want = splitPageTables(vms.splitChunk(vm));
    const have = vms.splitCache(vm);
    if (have < want) {
      agents.charge(costs.tableAlloc * (want - have));
      vms.setSplitCache(vm, want);
    }
    if (vms.root(vm) === 0) return agents.ret(f, this.entries.d.lostTable === "success" ? 0 : -EINVAL);
    return this.splitHugePages.first + 1;
  }

  /** kvm_pgtable_stage2_split of [from, to). @returns 0 or -ENOMEM when the cache cannot serve the next block */
  split(vm: number, from: number, to: number): number {
    const root = this.entries.vms.root(vm);
    const level = this.entries.vms.startLevel(vm);
    const ret = root === 0 ? 0 : this.walk(vm, this.entries.tables.word(root), level, ROOT_MASK, from, to);
    this.tlb.publishTables();
    return ret;
  }

  private walk(vm: number, table: number, level: number, mask: number, from: number, to: number): number {
    const entries = this.entries;
    if (level === 3) return 0;
    const size = LEVEL_SIZE[level]!;
    for (let ipa = from; ipa < to;) {
      const next = Math.min(to, entryStart(ipa, level) + size);
      const at = table + 2 * entryIndex((ipa / 4294967296) | 0, ipa | 0, level, mask);
      if ((entries.words.a[at]! & (DESC_VALID | DESC_TABLE)) === DESC_VALID) {
        const ret = this.splitBlock(vm, at, level, ipa);
        if (ret !== 0) return ret;
      }
      // The walker reads the entry again: the new table is descended into, so an L1 block splits recursively.
      const lo = entries.words.a[at]!;
      if ((lo & DESC_VALID) !== 0 && (lo & DESC_TABLE) !== 0) {
        const ret = this.walk(vm, entries.childWord(entries.words.a[at + 1]!, lo), level + 1, TABLE_MASK, ipa, next);
        if (ret !== 0) return ret;
      }
      ipa = next;
    }
    return 0;
  }

  /** stage2_split_walker: a populated table takes the block's place; break by IPA with level hint, no cache maintenance. */
  private splitBlock(vm: number, at: number, level: number, ipa: number): number {
    const entries = this.entries;
    const full = level === 1 ? 513 : 1;
    const have = entries.vms.splitCache(vm);
    if (have < 1) return -ENOMEM;
    const toPages = have >= full;
    entries.vms.setSplitCache(vm, have - (toPages ? full : 1));
    const hi = entries.words.a[at + 1]!;
    const lo = entries.words.a[at]!;
    const start = entryStart(ipa, level);
    const prot = entries.protOf(hi, lo);
    const child = this.populate(vm, level + 1, start, entries.outputAddress(hi, lo), prot, toPages);
    entries.write(vm, at, level, start, 0, INVALID_LOCKED);
    this.tlb.flushIpa(vm, ipa, level);
    entries.write(vm, at, level, start, leafHi(child, 0), tableLo(child));
    return 0;
  }

  /** kvm_pgtable_stage2_create_unlinked: a table of leaves for one block of the level above. */
  private populate(vm: number, level: number, ipa: number, pa: number, prot: number, toPages: boolean): number {
    const entries = this.entries;
    const table = this.caches.page(level);
    const size = LEVEL_SIZE[level]!;
    let at = entries.tables.word(table);
    for (let i = 0; i < 512; i++, at += 2) {
      const address = ipa + i * size;
      const phys = pa + i * size;
      if (level < 3 && toPages) {
        const child = this.populate(vm, level + 1, address, phys, prot, true);
        entries.write(vm, at, level, address, leafHi(child, 0), tableLo(child));
      } else {
        entries.write(vm, at, level, address, entries.leafHi(prot, phys), entries.leafLo(prot, phys, level));
      }
    }
    return table;
  }
}

/** kvm_mmu_split_nr_page_tables: tables that splitting a range of this size can need. */
export function splitPageTables(bytes: number): number {
  return Math.ceil(bytes / PUD_SIZE) + Math.ceil(bytes / PMD_SIZE);
}
