/**
 * The stage-2 tables themselves: composing descriptors, the one function that changes an entry, and
 * the walk to a leaf (struct kvm_pgtable, kvm_pgtable_get_leaf; stage2_get_leaf_entry).
 *
 * A place in a table is the index of the descriptor's low word in `tables.words`; the high word
 * follows. 4 KiB granule: level 0 entries map 512 GiB, 1: 1 GiB, 2: 2 MiB, 3: 4 KiB.
 */
import {
  DESC_AF,
  DESC_SH_SHIFT,
  DESC_TABLE,
  DESC_VALID,
  HI_OA,
  HI_UXN,
  S2_MEMATTR_SHIFT,
  S2_S2AP_R,
  S2_S2AP_W,
  SH_INNER,
} from "../arch/descriptors.js";
import { BY_KERNEL, CLEAN_INVALIDATE, type CacheMaintenance } from "../arch/cachemaintenance.js";
import { breakBeforeMakeViolation } from "../arch/events.js";
import type { CpuFeatures } from "../arch/features.js";
import { TABLE_WORDS, type TablePages } from "../arch/tables.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { kvmDecisions } from "./decisions.js";
import { PROT_DEVICE, PROT_NORMAL_NC, PROT_R, PROT_W, PROT_X, stage2Entry } from "./trace.js";
import { KnownTable } from "./knowntable.js";
import type { Vms } from "./vm.js";

/** Bytes that an entry maps, by level. */
export const LEVEL_SIZE: readonly number[] = [2 ** 39, 2 ** 30, 2 ** 21, 4096];
export const PMD_SIZE = 2 ** 21;
export const PUD_SIZE = 2 ** 30;

/** KVM_PTE_LEAF_ATTR_HI_S2_XN: bit 54, in the high word. (XNX encodings 01 and 11 are for nested guests only.) */
export const S2_XN = HI_UXN;
/** KVM_INVALID_PTE_LOCKED: an invalid entry whose break-before-make is under way (v6.2+). */
export const INVALID_LOCKED = 1 << 10;

/** Normal write-back without and with S2FWB, Normal non-cacheable, Device-nGnRE. */
export const MEMATTR_NORMAL = 0xf;
export const MEMATTR_FWB_NORMAL = 0x6;
export const MEMATTR_NORMAL_NC = 0x5;
export const MEMATTR_DEVICE_NGNRE = 0x1;

/** log2 of the words of a table page. */
const TABLE_SHIFT = 10;

/** Bits of a live entry that may change without break-before-make: S2AP, AF; XN, DBM, software bits. */
const FREE_LO = S2_S2AP_R | S2_S2AP_W | DESC_AF;
const FREE_HI = (3 << 21) | (1 << 19) | (0xf << 23);

/** Index of an entry at a level; `mask` is wider at the entry level. */
export function entryIndex(hi: number, lo: number, level: number, mask: number): number {
  if (level === 3) return (lo >>> 12) & mask;
  if (level === 2) return ((lo >>> 21) | (hi << 11)) & mask;
  if (level === 1) return ((lo >>> 30) | (hi << 2)) & mask;
  return (hi >>> 7) & mask;
}
/** First address that the entry of `level` which maps `ipa` covers. */
export function entryStart(ipa: number, level: number): number {
  if (level === 3) return ipa - (ipa & 4095);
  if (level === 0) return Math.floor(ipa / 549755813888) * 549755813888;
  return ipa - ((ipa | 0) & (LEVEL_SIZE[level]! - 1));
}
function isLeaf(lo: number, level: number): boolean {
  return (lo & DESC_VALID) !== 0 && (level === 3 || (lo & DESC_TABLE) === 0);
}
/** Entry-level tables have up to 16 concatenated pages. */
export const ROOT_MASK = 0x1fff;
export const TABLE_MASK = 0x1ff;

/** What the walkers ask of the host's frames: struct page behind a pfn (pfn_valid). */
export interface FrameTest {
  pfnValid(pfn: number): boolean;
}

export class Stage2Entries {
  readonly words: I32Pool;
  /** HCR_EL2.FWB is used by this kernel on this CPU. */
  readonly fwb: boolean;
  /** Low and high word of a page entry by PROT_* bits, without the address; blocks clear DESC_TABLE. */
  readonly attrLo = new Int32Array(32);
  readonly attrHi = new Int32Array(32);
  /** Per VM: leaves at levels 0..3. */
  private readonly leaves: I32Pool;

  /** Where the last `find` ended: at which level, leaf or invalid; its place and words. */
  stopLevel = 0;
  word = 0;
  lo = 0;
  hi = 0;
  /** The tables of the last level, and of the one before, that the last walks to one came to. */
  private readonly pages: KnownTable;
  private readonly blocks: KnownTable;

  constructor(
    readonly sim: Sim,
    readonly tables: TablePages,
    readonly vms: Vms,
    readonly features: CpuFeatures,
    readonly d: Row<typeof kvmDecisions>,
    private readonly cacheOps: CacheMaintenance,
  ) {
    this.words = tables.words;
    this.fwb = features.s2fwb && d.stage2Fwb;
    this.leaves = sim.state.i32("kvm.stage2.leaves", 4);
    this.pages = new KnownTable(tables, 12);
    this.blocks = new KnownTable(tables, 21);
    const normal = this.fwb ? MEMATTR_FWB_NORMAL : MEMATTR_NORMAL;
    const sh = features.lpa2 && d.stage2Lpa2 ? 0 : SH_INNER << DESC_SH_SHIFT;
    for (let prot = 0; prot < 32; prot++) {
      const memAttr = (prot & PROT_DEVICE) !== 0 ? MEMATTR_DEVICE_NGNRE : (prot & PROT_NORMAL_NC) !== 0 ? MEMATTR_NORMAL_NC : normal;
      let lo = DESC_VALID | DESC_TABLE | DESC_AF | sh | (memAttr << S2_MEMATTR_SHIFT);
      if ((prot & PROT_R) !== 0) lo |= S2_S2AP_R;
      if ((prot & PROT_W) !== 0) lo |= S2_S2AP_W;
      this.attrLo[prot] = lo;
      this.attrHi[prot] = (prot & PROT_X) !== 0 ? 0 : S2_XN;
    }
  }

  // ------------------------------------------------------------------------------- the writer

  /**
   * The only place where a stage-2 entry changes (`fill` where it was empty): keeps the page count of its table (1 + non-zero
   * entries) and the leaf counts, tells a missing break-before-make, emits `stage2_entry`.
   * @param word place of the entry @param ipa first address that it maps
   */
  write(vm: number, word: number, level: number, ipa: number, hi: number, lo: number): void {
    const words = this.words.a;
    const oldLo = words[word]!;
    const oldHi = words[word + 1]!;
    const tables = this.tables;
    const page = word >> TABLE_SHIFT;
    if ((oldLo & lo & DESC_VALID) !== 0) {
      if (((oldLo ^ lo) & ~FREE_LO) !== 0 || ((oldHi ^ hi) & ~FREE_HI) !== 0) this.notBroken(word, oldHi, oldLo, hi, lo);
    } else {
      const entries = ((lo | hi) !== 0 ? 1 : 0) - ((oldLo | oldHi) !== 0 ? 1 : 0);
      if (entries !== 0) tables.refs.set(page, tables.refs.a[page]! + entries);
    }
    const wasLeaf = isLeaf(oldLo, level);
    if (wasLeaf !== isLeaf(lo, level)) this.count(vm, level, wasLeaf ? -1 : 1);
    tables.write(word, level, hi, lo);
    this.written(word, level, ipa, oldHi, oldLo, hi, lo);
  }

  /** `write` to an entry that is empty: there is nothing to break, and nothing to take from the counts. */
  fill(vm: number, word: number, level: number, ipa: number, hi: number, lo: number): void {
    const { refs, words } = this.tables;
    const page = word >> TABLE_SHIFT;
    refs.set(page, (refs.a[page]! + 1) | 0);
    if (isLeaf(lo, level)) this.count(vm, level, 1);
    words.set2(word, lo, hi);
    this.written(word, level, ipa, 0, 0, hi, lo);
  }

  private written(word: number, level: number, ipa: number, oldHi: number, oldLo: number, hi: number, lo: number): void {
    const { sim, tables } = this;
    sim.agents.charge(sim.costs.tableWrite);
    if (sim.bus.unheard()) return;
    sim.bus.emit(stage2Entry, tables.pageAddress(word >> TABLE_SHIFT), (word & (TABLE_WORDS - 1)) >> 1, level, ipa, oldHi, oldLo, hi, lo);
  }

  /**
   * `write` of zeros to the page entries at the words [from, to) of one table, where nobody is told of each: its counts, the
   * cost and the numbers of the events are added once. @returns false if somebody listens: nothing was done
   */
  clearPages(vm: number, from: number, to: number): boolean {
    const { sim, tables } = this;
    if (sim.bus.listening) return false;
    const filled = tables.clearPages(from, to);
    if (filled === 0) return true;
    const page = from >> TABLE_SHIFT;
    tables.refs.set(page, tables.refs.a[page]! - filled);
    this.count(vm, 3, -tables.clearedValid);
    sim.agents.charge(filled * sim.costs.tableWrite);
    sim.bus.passOver(filled);
    return true;
  }

  private notBroken(word: number, oldHi: number, oldLo: number, hi: number, lo: number): void {
    const table = this.tables.pageAddress(word >> TABLE_SHIFT);
    this.sim.bus.emit(breakBeforeMakeViolation, table, (word & (TABLE_WORDS - 1)) >> 1, oldHi, oldLo, hi, lo);
  }

  private count(vm: number, level: number, n: number): void {
    const at = (vm << 2) | level;
    this.leaves.ensure((at + 1) | 0);
    this.leaves.set(at, (this.leaves.a[at]! + n) | 0);
  }

  /** Leaves of a freed subtree that nobody cleared entry by entry. */
  forgetLeaf(vm: number, level: number): void {
    this.count(vm, level, -1);
  }

  /** Leaf entries of a VM at a level. */
  leafCount(vm: number, level: number): number {
    return this.leaves.a[vm * 4 + level] ?? 0;
  }

  // ------------------------------------------------------------------------------ descriptors

  /** High word of a leaf at `pa`. */
  leafHi(prot: number, pa: number): number {
    return this.attrHi[prot & 31]! | ((pa / 4294967296) & HI_OA);
  }
  /** Low word of a leaf at `pa`. */
  leafLo(prot: number, pa: number, level: number): number {
    const lo = this.attrLo[prot & 31]! | (pa & ~0xfff);
    return level === 3 ? lo : lo & ~DESC_TABLE;
  }
  /** Output address of a descriptor. */
  outputAddress(hi: number, lo: number): number {
    return (hi & HI_OA) * 4294967296 + ((lo & ~0xfff) >>> 0);
  }
  /** Place of the first entry of the table that a table descriptor points to. */
  childWord(hi: number, lo: number): number {
    return this.tables.tableWord(hi, lo);
  }
  /** stage2_pte_cacheable(): Normal write-back. */
  cacheable(lo: number): boolean {
    return ((lo >>> S2_MEMATTR_SHIFT) & 0xf) === (this.fwb ? MEMATTR_FWB_NORMAL : MEMATTR_NORMAL);
  }
  /** stage2_pte_executable(): a valid entry without XN. */
  executable(hi: number, lo: number): boolean {
    return (lo & DESC_VALID) !== 0 && (hi & S2_XN) === 0;
  }
  /** The PROT_* bits of an entry (kvm_pgtable_stage2_pte_prot, with the memory type). */
  protOf(hi: number, lo: number): number {
    let prot = 0;
    if ((lo & S2_S2AP_R) !== 0) prot |= PROT_R;
    if ((lo & S2_S2AP_W) !== 0) prot |= PROT_W;
    if ((hi & S2_XN) === 0) prot |= PROT_X;
    const memAttr = (lo >>> S2_MEMATTR_SHIFT) & 0xf;
    if (memAttr === MEMATTR_DEVICE_NGNRE) prot |= PROT_DEVICE;
    else if (memAttr === MEMATTR_NORMAL_NC) prot |= PROT_NORMAL_NC;
    return prot;
  }

  // --------------------------------------------------------------------------------- the walk

  /** The last-level entry of an address, if it lies in the table that the last walk came to; else -1. */
  pageEntry(vm: number, ipa: number): number {
    return this.pages.entry(vm, ipa);
  }
  /** A walk has come to the last-level entry of an address. */
  cameTo(vm: number, ipa: number, at: number): void {
    this.pages.cameTo(vm, ipa, at);
  }
  /** The same of an entry of 2 MiB. */
  blockEntry(vm: number, ipa: number): number {
    return this.blocks.entry(vm, ipa);
  }
  cameToBlock(vm: number, ipa: number, at: number): void {
    this.blocks.cameTo(vm, ipa, at);
  }

  /**
   * Walks to the leaf that maps `ipa`. Fills word, lo, hi, stopLevel.
   * @returns the leaf's level, or -1 where the entry is invalid or the address beyond the tables
   */
  find(vm: number, ipa: number): number {
    const known = this.pageEntry(vm, ipa);
    return known < 0 ? this.findFromRoot(vm, ipa) : this.stopAt(known, 3);
  }
  private findFromRoot(vm: number, ipa: number): number {
    const root = this.vms.root(vm);
    if (root === 0 || ipa >= this.vms.ipaSize(vm)) return -1;
    const ihi = (ipa / 4294967296) | 0;
    const ilo = ipa | 0;
    const words = this.words.a;
    let level = this.vms.startLevel(vm);
    let at = this.tables.word(root) + 2 * entryIndex(ihi, ilo, level, ROOT_MASK);
    for (;;) {
      const lo = words[at]!;
      if (level === 3 || (lo & (DESC_VALID | DESC_TABLE)) !== (DESC_VALID | DESC_TABLE)) return this.stopAt(at, level);
      level++;
      at = this.childWord(words[at + 1]!, lo) + 2 * entryIndex(ihi, ilo, level, TABLE_MASK);
      if (level === 3) this.cameTo(vm, ipa, at);
    }
  }
  private stopAt(at: number, level: number): number {
    const words = this.words.a;
    const lo = words[at]!;
    this.word = at;
    this.lo = lo;
    this.hi = words[(at + 1) | 0]!;
    this.stopLevel = level;
    return (lo & DESC_VALID) === 0 ? -1 : level;
  }

  // ------------------------------------------------------------------------ cache maintenance

  /** dcache_clean_inval_poc() of host memory. @param size bytes */
  cleanDcache(pa: number, size: number): void {
    const sim = this.sim;
    sim.agents.charge(sim.costs.cacheLine * (size / 64));
    this.cacheOps.dcache(pa, size, CLEAN_INVALIDATE, BY_KERNEL);
  }
  /** icache_inval_pou() of host memory. @param size bytes */
  invalidateIcache(pa: number, size: number): void {
    const sim = this.sim;
    sim.agents.charge(sim.costs.cacheLine * (size / 64));
    this.cacheOps.icache(pa, size, BY_KERNEL);
  }
}
