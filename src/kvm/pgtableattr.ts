/**
 * Walks that change attributes of leaves and never the shape of the tables: write-protect, relax,
 * young and old (arch/arm64/kvm/hyp/pgtable.c stage2_attr_walker and its callers; before v5.10
 * stage2_wp_range, handle_access_fault, kvm_age_hva_handler in virt/kvm/arm/mmu.c), and the cache flush of a range.
 */
import { DESC_AF, DESC_TABLE, DESC_VALID, S2_S2AP_R, S2_S2AP_W } from "../arch/descriptors.js";
import { EAGAIN } from "../sim/errno.js";
import { entryIndex, entryStart, LEVEL_SIZE, ROOT_MASK, S2_XN, TABLE_MASK, type FrameTest, type Stage2Entries } from "./stage2walk.js";
import { TTL_UNKNOWN, type TlbFlush } from "./tlbflush.js";
import { PROT_R, PROT_W, PROT_X, stage2Relax, stage2Wrprotect } from "./trace.js";

const WRPROTECT = 0;
const AGE = 1;
const TEST_YOUNG = 2;
const FLUSH = 3;

export class PgtableAttributes {
  /** Scratch of a walk: a young leaf was met. */
  private young = false;
  private readonly walker: boolean;
  /** After an entry that is no table a walk goes one entry's size further, also from the middle of one. */
  private readonly strides: boolean;

  constructor(
    private readonly entries: Stage2Entries,
    private readonly tlb: TlbFlush,
    private readonly frames: FrameTest,
  ) {
    this.walker = entries.d.mapCode === "walker";
    this.strides = entries.d.walkStep === "entry-size";
  }

  /** Visits the valid leaves that meet [from, to), in address order. */
  private leavesIn(vm: number, op: number, from: number, to: number): void {
    const root = this.entries.vms.root(vm);
    if (root === 0 || from >= to) return;
    const level = this.entries.vms.startLevel(vm);
    this.visit(vm, op, this.entries.tables.word(root), level, ROOT_MASK, from, Math.min(to, this.entries.vms.ipaSize(vm)));
  }

  /** @returns the address that it came to: `to`, or beyond (walkStep) */
  private visit(vm: number, op: number, table: number, level: number, mask: number, from: number, to: number): number {
    if (level === 3) return this.pages(vm, op, table, mask, from, to);
    const entries = this.entries;
    const size = LEVEL_SIZE[level]!;
    let ipa = from;
    while (ipa < to) {
      const start = entryStart(ipa, level);
      let next = this.strides ? ipa + size : Math.min(to, start + size);
      const at = table + 2 * entryIndex((ipa / 4294967296) | 0, ipa | 0, level, mask);
      const lo = entries.words.a[at]!;
      if ((lo & DESC_VALID) !== 0) {
        const hi = entries.words.a[at + 1]!;
        if ((lo & DESC_TABLE) !== 0)
          next = this.visit(vm, op, entries.childWord(hi, lo), level + 1, TABLE_MASK, ipa, Math.min(to, start + size));
        else this.leaf(vm, op, at, level, start, hi, lo);
      }
      ipa = next;
    }
    return ipa;
  }

  private readonly pages = (vm: number, op: number, table: number, mask: number, from: number, to: number): number => {
    const { words } = this.entries;
    let at = table + 2 * entryIndex((from / 4294967296) | 0, from | 0, 3, mask);
    for (let ipa = entryStart(from, 3); ipa < to; ipa += 4096, at += 2) {
      const lo = words.a[at]!;
      if ((lo & DESC_VALID) !== 0) this.leaf(vm, op, at, 3, ipa, words.a[at + 1]!, lo);
    }
    return to;
  };

  private leaf(vm: number, op: number, at: number, level: number, ipa: number, hi: number, lo: number): void {
    const entries = this.entries;
    switch (op) {
      case WRPROTECT:
        if ((lo & S2_S2AP_W) !== 0) entries.write(vm, at, level, ipa, hi, lo & ~S2_S2AP_W);
        return;
      case AGE:
        if ((lo & DESC_AF) === 0) return;
        this.young = true;
        entries.write(vm, at, level, ipa, hi, lo & ~DESC_AF);
        return;
      case TEST_YOUNG:
        if ((lo & DESC_AF) !== 0) this.young = true;
        return;
      case FLUSH: {
        const pa = entries.outputAddress(hi, lo);
        const ram = this.walker ? entries.cacheable(lo) : this.frames.pfnValid(pa / 4096);
        if (ram) entries.cleanDcache(pa, LEVEL_SIZE[level]!);
      }
    }
  }

  /** kvm_pgtable_stage2_wrprotect / stage2_wp_range: takes the write permission of every leaf that meets the range. No TLBI. */
  wrprotect(vm: number, ipa: number, size: number): void {
    this.leavesIn(vm, WRPROTECT, ipa, ipa + size);
  }
  /** The event of stage2_wp_range, once for the whole range. */
  announceWrprotect(ipa: number, size: number): void {
    this.entries.sim.bus.emit(stage2Wrprotect, ipa, size);
  }

  /**
   * kvm_pgtable_stage2_relax_perms: adds permissions to the leaf that maps `ipa`, then its TLBI.
   * @returns 0, or -EAGAIN where the entry is not valid any more (v6.2+)
   */
  relax(vm: number, ipa: number, prot: number): number {
    const entries = this.entries;
    const d = entries.d;
    entries.sim.bus.emit(stage2Relax, ipa, prot & 31);
    const level = entries.find(vm, ipa);
    let ret = 0;
    if (level >= 0) this.addPermissions(vm, ipa, level, prot);
    else if (d.relaxInvalidEntry === "again") ret = -EAGAIN;
    if (ret !== 0 && d.relaxTlbi !== "local") return ret;
    if (d.relaxTlbi !== "broadcast") {
      this.tlb.flushIpaLocal(vm, ipa, level >= 0 ? level : d.relaxAgainHint === "none" ? TTL_UNKNOWN : 0);
    } else this.tlb.flushIpa(vm, ipa, level >= 0 ? level : 0);
    return ret;
  }

  private addPermissions(vm: number, ipa: number, level: number, prot: number): void {
    const entries = this.entries;
    let lo = entries.lo;
    let hi = entries.hi;
    if ((prot & PROT_R) !== 0) lo |= S2_S2AP_R;
    if ((prot & PROT_W) !== 0) lo |= S2_S2AP_W;
    if ((prot & PROT_X) !== 0) hi &= ~S2_XN;
    else if (entries.d.relaxExecute === "from-fault") hi |= S2_XN;
    if (lo === entries.lo && hi === entries.hi) return;
    if (entries.d.mapCacheMaintenance === "walker" && entries.executable(hi, lo) && !entries.executable(entries.hi, entries.lo)) {
      entries.invalidateIcache(entries.outputAddress(hi, lo), LEVEL_SIZE[level]!);
    }
    entries.write(vm, entries.word, level, entryStart(ipa, level), hi, lo);
  }

  /** kvm_pgtable_stage2_mkyoung / handle_access_fault: sets AF of the leaf that maps `ipa`. @returns true if there is one */
  mkyoung(vm: number, ipa: number): boolean {
    const entries = this.entries;
    const level = entries.find(vm, ipa);
    if (level < 0) return false;
    if ((entries.lo & DESC_AF) === 0) {
      entries.write(vm, entries.word, level, entryStart(ipa, level), entries.hi, entries.lo | DESC_AF);
    }
    this.tlb.publishTables();
    return true;
  }

  /**
   * kvm_pgtable_stage2_test_clear_young; up to v6.4 only the first leaf of the range.
   * @param makeOld clears AF, else only looks @returns true if a leaf was young. No TLBI.
   */
  age(vm: number, ipa: number, size: number, makeOld: boolean): boolean {
    this.young = false;
    const end = this.entries.d.agingRange === "first" ? ipa + Math.min(size, 1) : ipa + size;
    this.leavesIn(vm, makeOld ? AGE : TEST_YOUNG, ipa, end);
    return this.young;
  }

  /** kvm_pgtable_stage2_flush / stage2_flush_memslot: clean and invalidate to PoC what is RAM; nothing with S2FWB. */
  flush(vm: number, ipa: number, size: number): void {
    if (this.entries.fwb) return;
    this.leavesIn(vm, FLUSH, ipa, ipa + size);
  }
}
