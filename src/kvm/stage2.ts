/**
 * Stage 2 of all VMs, as the fault path, the notifiers, memslots and dirty logging use it: one object
 * in front of the era's page-table code. The caller holds the VM's mmu_lock throughout.
 *
 * src/kvm/stage2walk.ts      the entries: descriptors, the single writer, the walk to a leaf
 * src/kvm/stage2walkset.ts   v4.0 – v5.9: stage2_set_pte and friends
 * src/kvm/pgtablemap.ts      v5.10+: map
 * src/kvm/pgtableattr.ts     relax, write-protect, young/old, cache flush
 * src/kvm/pgtableunmap.ts    unmap, teardown
 * src/kvm/pgtablesplit.ts    v6.5+: eager split
 * src/kvm/pgtablesteps.ts    the walks of the fault path step by step, while agents are interleaved
 */
import type { CacheMaintenance } from "../arch/cachemaintenance.js";
import type { CpuFeatures } from "../arch/features.js";
import type { TablePages } from "../arch/tables.js";
import type { TlbMaintenance } from "../arch/tlbi.js";
import { PAGE_SIZE } from "../arch/types.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { kvmDecisions } from "./decisions.js";
import { PgtableAttributes } from "./pgtableattr.js";
import { MemoryCaches } from "./pgtablecache.js";
import { PgtableMap } from "./pgtablemap.js";
import { PgtableSteps } from "./pgtablesteps.js";
import { PgtableSplit } from "./pgtablesplit.js";
import { PgtableUnmap } from "./pgtableunmap.js";
import { Stage2Entries, type FrameTest } from "./stage2walk.js";
import { Stage2Set } from "./stage2walkset.js";
import { TlbFlush } from "./tlbflush.js";
import type { Vms } from "./vm.js";

export { STAGE2_CRASHED } from "./stage2walkset.js";
export { CACHE_CAPACITY, NO_CACHE } from "./pgtablecache.js";
export { PMD_SIZE, PUD_SIZE } from "./stage2walk.js";

/** install(): dirty logging is active for the slot; the set code dissolves blocks in the way. */
export const INSTALL_LOGGING = 1;

export class Stage2 {
  readonly entries: Stage2Entries;
  readonly caches: MemoryCaches;
  readonly tlb: TlbFlush;
  readonly mapper: PgtableMap;
  readonly unmapper: PgtableUnmap;
  readonly attributes: PgtableAttributes;
  readonly splitter: PgtableSplit;
  readonly steps: PgtableSteps;
  private readonly setter: Stage2Set;
  private readonly setCode: boolean;

  constructor(
    readonly sim: Sim,
    tables: TablePages,
    readonly vms: Vms,
    maintenance: TlbMaintenance,
    features: CpuFeatures,
    readonly d: Row<typeof kvmDecisions>,
    frames: FrameTest,
    /** What KVM's cache maintenance does. */
    readonly cacheOps: CacheMaintenance,
    /** tlbiRangeScale of the host's decisions. */
    fallingScales: boolean,
  ) {
    this.entries = new Stage2Entries(sim, tables, vms, features, d, cacheOps);
    this.caches = new MemoryCaches(sim, tables);
    this.tlb = new TlbFlush(sim, maintenance, cacheOps, vms, features, d, fallingScales);
    this.mapper = new PgtableMap(this.entries, this.caches, this.tlb);
    this.unmapper = new PgtableUnmap(this.entries, this.caches, this.tlb, this.mapper, frames);
    this.attributes = new PgtableAttributes(this.entries, this.tlb, frames);
    this.splitter = new PgtableSplit(this.entries, this.caches, this.tlb);
    this.setter = new Stage2Set(this.entries, this.caches, this.tlb, this.unmapper);
    this.steps = new PgtableSteps(this.entries, this.caches, this.tlb, this.mapper, this.attributes, this.setter);
    this.setCode = d.mapCode === "set";
  }

  /** HCR_EL2.FWB: this kernel uses S2FWB on this CPU. */
  get fwb(): boolean {
    return this.entries.fwb;
  }

  /**
   * Installs a mapping by the era's own code: stage2_set_pte / _pmd_huge / _pud_huge (by size; an odd size
   * sets a page), or kvm_pgtable_stage2_map.
   * @param cache of table pages, or NO_CACHE @param gfn of the first page @param size bytes
   * @param pfn where it lies: page numbers, because an argument above 2^31 is allocated at each call
   * @param prot PROT_* of trace.ts @param flags INSTALL_*
   * @returns 0; -EFAULT where a PROT_IOMAP page meets a present entry; -EAGAIN, -ENOMEM, -EINVAL, -ERANGE
   *   from the map walk; STAGE2_CRASHED after a host crash (return RETURN from the phase)
   */
  install(vm: number, cache: number, gfn: number, size: number, pfn: number, prot: number, flags = 0): number {
    if (this.setCode) return this.setter.set(vm, cache, gfn * PAGE_SIZE, size, pfn * PAGE_SIZE, prot, (flags & INSTALL_LOGGING) !== 0);
    return this.mapper.map(vm, cache, gfn * PAGE_SIZE, size, pfn * PAGE_SIZE, prot);
  }

  /** kvm_pgtable_stage2_relax_perms, with its TLBI. @returns 0 or -EAGAIN */
  relax(vm: number, ipa: number, prot: number): number {
    return this.attributes.relax(vm, ipa, prot);
  }

  /** unmap_stage2_range in one step. Long operations that may drop the lock use `unmapper.chunk`. */
  unmapRange(vm: number, ipa: number, size: number): void {
    this.unmapper.range(vm, ipa, size);
  }

  /** stage2_wp_range in one step; no TLBI. */
  wrprotectRange(vm: number, ipa: number, size: number): void {
    this.attributes.announceWrprotect(ipa, size);
    this.attributes.wrprotect(vm, ipa, size);
  }

  /** Sets the access flag of the leaf that maps `ipa`. @returns true if there is one */
  mkyoung(vm: number, ipa: number): boolean {
    return this.attributes.mkyoung(vm, ipa);
  }

  /** Test, and with `makeOld` clear, the access flags of a range. @returns true if one was set */
  age(vm: number, ipa: number, size: number, makeOld: boolean): boolean {
    return this.attributes.age(vm, ipa, size, makeOld);
  }

  /** stage2_flush_memslot / kvm_pgtable_stage2_flush of a range. */
  flushRange(vm: number, ipa: number, size: number): void {
    this.attributes.flush(vm, ipa, size);
  }

  /**
   * kvm_pgtable_get_leaf / stage2_get_leaf_entry: walks to `ipa`.
   * @returns the leaf's level (its words in `leafHi`, `leafLo`), or -1; then `stopLevel` is where the walk ended
   */
  leaf(vm: number, ipa: number): number {
    return this.entries.find(vm, ipa);
  }
  get leafHi(): number {
    return this.entries.hi;
  }
  get leafLo(): number {
    return this.entries.lo;
  }
  get stopLevel(): number {
    return this.entries.stopLevel;
  }

  /** stage2_is_exec: an executable leaf maps `ipa`. @param level 0 for any, else the leaf must be of this level */
  isExec(vm: number, ipa: number, level = 0): boolean {
    const found = this.entries.find(vm, ipa);
    return found >= 0 && (level === 0 || found === level) && this.entries.executable(this.entries.hi, this.entries.lo);
  }

  /** kvm_flush_remote_tlbs: all of a VM's translations. */
  flushRemoteTlbs(vm: number): void {
    this.tlb.flushVmid(vm);
  }

  /** kvm_free_stage2_pgd, kvm_uninit_stage2_mmu. */
  teardown(vm: number): void {
    this.unmapper.teardown(vm);
  }
}
