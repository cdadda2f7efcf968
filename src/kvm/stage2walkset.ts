/**
 * The "set" code of v4.0 to v5.9 (v4.0 arch/arm/kvm/mmu.c, v5.4 virt/kvm/arm/mmu.c): one entry is
 * written over the old one, with every permission anew; no separate way to relax.
 *
 * stage2_set_pte, stage2_set_pmd_huge, stage2_set_pud_huge, stage2_dissolve_pmd, stage2_dissolve_pud.
 */
import { DESC_TABLE, DESC_VALID, leafHi, memAttrOf, s2apOf, tableLo, xnOf } from "../arch/descriptors.js";
import { EFAULT } from "../sim/errno.js";
import type { MemoryCaches } from "./pgtablecache.js";
import type { PgtableUnmap } from "./pgtableunmap.js";
import { entryIndex, entryStart, LEVEL_SIZE, PMD_SIZE, PUD_SIZE, ROOT_MASK, TABLE_MASK, type Stage2Entries } from "./stage2walk.js";
import type { TlbFlush } from "./tlbflush.js";
import { PROT_DEVICE, PROT_IOMAP, PROT_X, stage2Set, stage2SetHuge } from "./trace.js";

/** The host crashed inside: sim.crash was called and every frame is gone; the phase must return RETURN. */
export const STAGE2_CRASHED = -4096;
/** With SET_BREAK: a present entry was cleared and flushed, and the new one is to be written by SET_MAKE. */
export const STAGE2_BROKEN = -4097;

/** How much `set` does: all of it, up to the cleared entry, or from there. */
export const SET_ALL = 0;
export const SET_BREAK = 1;
export const SET_MAKE = 2;

export class Stage2Set {
  /** Where `descend` ended: place and level, or -1 when a table was missing and there is no cache. */
  private at = -1;

  constructor(
    private readonly entries: Stage2Entries,
    private readonly caches: MemoryCaches,
    private readonly tlb: TlbFlush,
    private readonly unmap: PgtableUnmap,
  ) {}

  /** Execute permission of a new entry: RAM always in eras without execute-never, or with DIC; devices only if asked (or before XN). */
  private effectiveProt(prot: number): number {
    if ((prot & PROT_DEVICE) !== 0) return prot;
    const { d, features } = this.entries;
    return !d.executeNever || features.dic ? prot | PROT_X : prot;
  }

  /**
   * Installs one entry: a PUD or PMD block if `size` is one that the era knows, else a page.
   * @param logging KVM_S2FLAG_LOGGING_ACTIVE: blocks in the way are dissolved
   * @param part SET_*
   * @returns 0; -EFAULT where a page marked IOMAP meets a present entry; STAGE2_CRASHED; STAGE2_BROKEN
   */
  set(vm: number, cache: number, ipa: number, size: number, pa: number, prot: number, logging: boolean, part = SET_ALL): number {
    const effective = this.effectiveProt(prot);
    if (size === PMD_SIZE) return this.setHuge(vm, cache, ipa, 2, pa, effective, part);
    if (size === PUD_SIZE && this.entries.d.stage2PudBlocks) return this.setHuge(vm, cache, ipa, 1, pa, effective, part);
    return this.setPte(vm, cache, ipa, pa, effective, logging, part);
  }

  /** stage2_set_pte. Without a cache and without a table it does nothing (kvm_set_spte_hva). */
  private setPte(vm: number, cache: number, ipa: number, pa: number, prot: number, logging: boolean, part: number): number {
    const entries = this.entries;
    const hi = entries.leafHi(prot, pa);
    const lo = entries.leafLo(prot, pa, 3);
    const iomap = (prot & PROT_IOMAP) !== 0;
    if (part !== SET_MAKE) entries.sim.bus.emit(stage2Set, ipa, 4096, pa, s2apOf(lo), memAttrOf(lo), xnOf(hi), 1, iomap ? 1 : 0);
    if (logging) this.dissolve(vm, ipa);
    const found = this.descend(vm, cache, ipa, 3);
    if (found !== 0) return found < 0 ? found : 0;
    const at = this.at;
    const oldLo = entries.words.a[at]!;
    const oldHi = entries.words.a[at + 1]!;
    const present = (oldLo & DESC_VALID) !== 0;
    if (iomap && present) return -EFAULT;
    if (present && entries.d.identicalEntry === "skip" && oldLo === lo && oldHi === hi) return 0;
    return this.replace(vm, at, 3, ipa, present, hi, lo, part);
  }

  /** stage2_set_pmd_huge, stage2_set_pud_huge. */
  private setHuge(vm: number, cache: number, ipa: number, level: number, pa: number, prot: number, part: number): number {
    const entries = this.entries;
    const start = entryStart(ipa, level);
    const hi = entries.leafHi(prot, pa);
    const lo = entries.leafLo(prot, pa, level);
    if (part !== SET_MAKE) entries.sim.bus.emit(stage2SetHuge, start, LEVEL_SIZE[level]!, pa, s2apOf(lo), memAttrOf(lo), xnOf(hi));
    for (;;) {
      const found = this.descend(vm, cache, ipa, level);
      if (found !== 0) return found < 0 ? found : 0;
      const at = this.at;
      const oldLo = entries.words.a[at]!;
      const oldHi = entries.words.a[at + 1]!;
      const present = (oldLo & DESC_VALID) !== 0;
      if (present && entries.d.identicalEntry === "skip" && oldLo === lo && oldHi === hi) return 0;
      if (present && (oldLo & DESC_TABLE) !== 0) {
        if (entries.d.blockOverTable === "assert") {
          entries.sim.crash(
            level === 2 ? "stage2_set_pmd_huge" : "stage2_set_pud_huge",
            "a page table where a block of the same pfn was expected",
          );
          return STAGE2_CRASHED;
        }
        if (entries.d.blockOverTable !== "leak") {
          // "Fix handling of stage2 huge mappings": the upper table may have gone too, so look again.
          this.unmap.range(vm, start, LEVEL_SIZE[level]!);
          continue;
        }
      }
      return this.replace(vm, at, level, ipa, present, hi, lo, part);
    }
  }

  /** kvm_set_pte / kvm_set_pmd with the era's break-before-make. @returns 0 or STAGE2_BROKEN */
  private replace(vm: number, at: number, level: number, ipa: number, present: boolean, hi: number, lo: number, part: number): number {
    const start = entryStart(ipa, level);
    if (present && this.entries.d.breakBeforeMake === "none") {
      this.write(vm, at, level, start, hi, lo);
      this.tlb.flushIpa(vm, ipa, level);
      return 0;
    }
    if (present) {
      this.write(vm, at, level, start, 0, 0);
      this.tlb.flushIpa(vm, ipa, level);
      if (part === SET_BREAK) return STAGE2_BROKEN;
    }
    this.write(vm, at, level, start, hi, lo);
    return 0;
  }

  private write(vm: number, at: number, level: number, start: number, hi: number, lo: number): void {
    this.entries.write(vm, at, level, start, hi, lo);
    this.tlb.publishTables();
  }

  /**
   * stage2_get_pud, stage2_get_pmd and the PTE table: goes down to the entry of `level`, adding tables.
   * @returns 0 with `at` set; 1 if a table is missing and there is no cache; STAGE2_CRASHED
   */
  private descend(vm: number, cache: number, ipa: number, target: number): number {
    const entries = this.entries;
    const ihi = (ipa / 4294967296) | 0;
    const ilo = ipa | 0;
    let level = entries.vms.startLevel(vm);
    let at = entries.tables.word(entries.vms.root(vm)) + 2 * entryIndex(ihi, ilo, level, ROOT_MASK);
    while (level < target) {
      let lo = entries.words.a[at]!;
      let hi = entries.words.a[at + 1]!;
      if ((lo & DESC_VALID) === 0) {
        if (cache < 0) return 1;
        const table = this.caches.take(cache, level + 1);
        if (table === 0) return this.bug("mmu_memory_cache_alloc", "the cache of table pages is empty");
        lo = tableLo(table);
        hi = leafHi(table, 0);
        this.write(vm, at, level, entryStart(ipa, level), hi, lo);
      } else if ((lo & DESC_TABLE) === 0) {
        return this.bug("stage2_get_pmd", "a block entry was followed as if it were a table");
      }
      level++;
      at = entries.childWord(hi, lo) + 2 * entryIndex(ihi, ilo, level, TABLE_MASK);
    }
    this.at = at;
    return 0;
  }

  private bug(where: string, reason: string): number {
    this.entries.sim.crash(where, reason);
    return STAGE2_CRASHED;
  }

  /** stage2_dissolve_pud, stage2_dissolve_pmd: while logging, a block that covers the page is cleared, with its TLBI. */
  private dissolve(vm: number, ipa: number): void {
    const entries = this.entries;
    const level = entries.find(vm, ipa);
    if (level < 0 || level === 3) return;
    this.write(vm, entries.word, level, entryStart(ipa, level), 0, 0);
    this.tlb.flushIpa(vm, ipa, level);
  }
}
