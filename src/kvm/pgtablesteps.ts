/**
 * The walks of the fault path step by step, while agents are interleaved: kvm_pgtable_stage2_map,
 * kvm_pgtable_stage2_relax_perms (arch/arm64/kvm/hyp/pgtable.c) and stage2_set_pte (v5.4 virt/kvm/arm/mmu.c). The work is
 * done by the functions that do it straight through (pgtablemap.ts, pgtableattr.ts, stage2walkset.ts).
 *
 * A walk stops where somebody else can look on:
 *
 * between break and make          | the hardware walker of any vCPU finds the invalid entry; a parallel walk finds it locked
 * at the table that it came to    | parallel walks (v6.2 on, mmu_lock held for reading): another one may put a block in that
 *                                 | table's place, and unlink it; only RCU keeps it from being freed
 *
 * The hardware's own walk is one step of a vCPU: a DSB waits for the walks that were under way when its TLBI was issued.
 */
import { DESC_TABLE, DESC_VALID } from "../arch/descriptors.js";
import { ARG, RETURN, type Activity } from "../sim/agents.js";
import { EAGAIN, ENOMEM } from "../sim/errno.js";
import type { PgtableAttributes } from "./pgtableattr.js";
import type { MemoryCaches } from "./pgtablecache.js";
import type { PgtableMap } from "./pgtablemap.js";
import { entryIndex, INVALID_LOCKED, LEVEL_SIZE, ROOT_MASK, TABLE_MASK, type Stage2Entries } from "./stage2walk.js";
import { SET_BREAK, SET_MAKE, STAGE2_BROKEN, STAGE2_CRASHED, type Stage2Set } from "./stage2walkset.js";
import type { TlbFlush } from "./tlbflush.js";

/** Beside PROT_* in the last argument of `set`: dirty logging is active for the slot. */
export const SET_LOGGING = 1 << 16;

const VM = ARG;
const CACHE = ARG + 1;
const IPA = ARG + 2;
const SIZE = ARG + 3;
const PA = ARG + 4;
const PROT = ARG + 5;
/** The entry that the walk stands at, and its level. */
const AT = ARG + 6;
const LEVEL = ARG + 7;
/** What it held before it was broken. */
const OLD_HI = ARG + 8;
const OLD_LO = ARG + 9;

export class PgtableSteps {
  /** (vm, cache, ipa, size, pa, PROT_*) -> R0 as PgtableMap.map. The caller holds mmu_lock. */
  readonly map: Activity;
  /** (vm, -, ipa, -, -, PROT_*) -> R0 as PgtableAttributes.relax. */
  readonly relax: Activity;
  /** (vm, cache, ipa, size, pa, PROT_* | SET_LOGGING) -> R0 as Stage2Set.set. */
  readonly set: Activity;

  constructor(
    private readonly entries: Stage2Entries,
    private readonly caches: MemoryCaches,
    private readonly tlb: TlbFlush,
    private readonly mapper: PgtableMap,
    private readonly attributes: PgtableAttributes,
    private readonly setter: Stage2Set,
  ) {
    const { agents } = entries.sim;
    this.map = agents.activity("kvmPgtableStage2Map", "arch/arm64/kvm/hyp/pgtable.c kvm_pgtable_stage2_map", 10, [
      ["walk", this.walk],
      ["visit", this.visit],
      ["make", this.make],
    ]);
    this.relax = agents.activity("kvmPgtableStage2RelaxPerms", "arch/arm64/kvm/hyp/pgtable.c kvm_pgtable_stage2_relax_perms", 8, [
      ["walk", this.walkToLeaf],
      ["visit", this.relaxLeaf],
    ]);
    this.set = agents.activity("stage2SetPte", "virt/kvm/arm/mmu.c stage2_set_pte, stage2_set_pmd_huge", 6, [
      ["break", (f) => this.setEntry(f, false)],
      ["make", (f) => this.setEntry(f, true)],
    ]);
  }

  /** KVM_PGTABLE_WALK_SHARED: others walk beside this one. */
  private shared(vm: number): boolean {
    const { sim, vms, d } = this.entries;
    return d.sharedWalk === "locked-entry" && !sim.locks.heldForWrite(vms.mmuLock(vm));
  }

  private end(f: number, ret: number): number {
    const { sim } = this.entries;
    this.tlb.publishTables();
    // kvm_pgtable_walk_end
    if (this.shared(sim.agents.stack.a[f + VM]!)) sim.rcu.readUnlock();
    return sim.agents.ret(f, ret);
  }

  // ---- map

  private readonly walk = (f: number): number => {
    const { sim } = this.entries;
    const s = sim.agents.stack.a;
    const vm = s[f + VM]!;
    const wrong = this.mapper.begin(vm, s[f + IPA]!, s[f + SIZE]!, s[f + PA]!, s[f + PROT]!);
    if (wrong !== 0) return sim.agents.ret(f, wrong);
    // kvm_pgtable_walk_begin
    if (this.shared(vm)) sim.rcu.readLock();
    return this.descend(f);
  };

  /** From the root to the entry that has to change first. */
  private descend(f: number): number {
    const entries = this.entries;
    const stack = entries.sim.agents.stack;
    const vm = stack.a[f + VM]!;
    const level = entries.vms.startLevel(vm);
    stack.set(f + LEVEL, level);
    stack.set(f + AT, entries.tables.word(entries.vms.root(vm)) + 2 * this.index(stack.a[f + IPA]!, level, ROOT_MASK));
    this.follow(f);
    return this.shared(vm) ? this.map.first + 1 : this.visit(f);
  }

  private index(ipa: number, level: number, mask: number): number {
    return entryIndex((ipa / 4294967296) | 0, ipa | 0, level, mask);
  }

  /** Follows table entries from where the walk stands, as far as no leaf fits. */
  private follow(f: number): void {
    const entries = this.entries;
    const stack = entries.sim.agents.stack;
    const ipa = stack.a[f + IPA]!;
    for (;;) {
      const at = stack.a[f + AT]!;
      const level = stack.a[f + LEVEL]!;
      const lo = entries.words.a[at]!;
      if (this.isTarget(f, level) || (lo & (DESC_VALID | DESC_TABLE)) !== (DESC_VALID | DESC_TABLE)) return;
      stack.set(f + LEVEL, level + 1);
      stack.set(f + AT, entries.childWord(entries.words.a[at + 1]!, lo) + 2 * this.index(ipa, level + 1, TABLE_MASK));
    }
  }

  private isTarget(f: number, level: number): boolean {
    const s = this.entries.sim.agents.stack.a;
    return level === 3 || this.mapper.blockFits(level, s[f + SIZE]!, s[f + IPA]! | 0, s[f + PA]!);
  }

  /** The table that the walk stands in was freed meanwhile: what it reads and writes there belongs to somebody else. */
  private freed(f: number): boolean {
    const { tables, sim } = this.entries;
    return tables.refs.a[sim.agents.stack.a[f + AT]! >> 10] === 0;
  }
  private usedFreed(where: string): number {
    this.entries.sim.crash(where, "a stage-2 table was used after it was freed");
    return RETURN;
  }

  /** __kvm_pgtable_visit: the entry is read, and broken if it is valid. */
  private readonly visit = (f: number): number => {
    const entries = this.entries;
    const stack = entries.sim.agents.stack;
    const s = stack.a;
    if (this.freed(f)) return this.usedFreed("__kvm_pgtable_visit");
    // A table may have come to where none was.
    this.follow(f);
    const vm = s[f + VM]!;
    const at = s[f + AT]!;
    const level = s[f + LEVEL]!;
    const lo = entries.words.a[at]!;
    const hi = entries.words.a[at + 1]!;
    if ((lo & (DESC_VALID | INVALID_LOCKED)) === INVALID_LOCKED) return this.end(f, -EAGAIN);
    const valid = (lo & DESC_VALID) !== 0;
    if (this.isTarget(f, level)) {
      const stays = valid ? this.mapper.stays(this.leafHi(f), this.leafLo(f, level), hi, lo) : 1;
      if (stays <= 0) return stays === 0 ? this.next(f, level) : this.end(f, stays);
    } else if (this.caches.count(s[f + CACHE]!) === 0) return this.end(f, -ENOMEM);
    stack.set(f + OLD_HI, hi);
    stack.set(f + OLD_LO, lo);
    if (!valid) return this.make(f);
    this.mapper.breakEntry(vm, at, level, s[f + IPA]!, hi, lo);
    return this.map.first + 2;
  };

  private leafHi(f: number): number {
    const s = this.entries.sim.agents.stack.a;
    return this.entries.leafHi(s[f + PROT]!, s[f + PA]!);
  }
  private leafLo(f: number, level: number): number {
    const s = this.entries.sim.agents.stack.a;
    return this.entries.leafLo(s[f + PROT]!, s[f + PA]!, level);
  }

  /** stage2_make_pte: of a leaf, or of a table whose entry is visited next. */
  private readonly make = (f: number): number => {
    const entries = this.entries;
    const stack = entries.sim.agents.stack;
    const s = stack.a;
    const vm = s[f + VM]!;
    const at = s[f + AT]!;
    const level = s[f + LEVEL]!;
    const ipa = s[f + IPA]!;
    if (!this.isTarget(f, level)) {
      const child = this.caches.take(s[f + CACHE]!, level + 1);
      this.mapper.makeTable(vm, at, level, ipa, child);
      return this.visit(f);
    }
    this.mapper.makeLeaf(vm, at, level, ipa, this.leafHi(f), this.leafLo(f, level), s[f + PA]!);
    const lo = s[f + OLD_LO]! | 0;
    if (level < 3 && (lo & (DESC_VALID | DESC_TABLE)) === (DESC_VALID | DESC_TABLE)) {
      const table = entries.outputAddress(s[f + OLD_HI]! | 0, lo);
      this.mapper.freeUnlinked(vm, table, level + 1);
      // The walk goes on with the entry as it was before the callback changed it: in the table that has just been freed.
      if (entries.d.preorderEntry === "stale" && entries.tables.count(table) === 0) return this.usedFreed("__kvm_pgtable_visit");
    }
    return this.next(f, level);
  };

  /** The entry of `level` is done: the rest of the range, or the end. */
  private next(f: number, level: number): number {
    const stack = this.entries.sim.agents.stack;
    const s = stack.a;
    const size = LEVEL_SIZE[level]!;
    if (s[f + SIZE]! <= size) return this.end(f, 0);
    stack.set(f + IPA, s[f + IPA]! + size);
    stack.set(f + PA, s[f + PA]! + size);
    stack.set(f + SIZE, s[f + SIZE]! - size);
    return this.descend(f);
  }

  // ---- relax

  private readonly walkToLeaf = (f: number): number => {
    const entries = this.entries;
    const { sim } = entries;
    const stack = sim.agents.stack;
    const vm = stack.a[f + VM]!;
    if (!this.shared(vm)) return this.relaxed(f);
    sim.rcu.readLock();
    entries.find(vm, stack.a[f + IPA]!);
    stack.set(f + AT, entries.word);
    return this.relax.first + 1;
  };

  private readonly relaxLeaf = (f: number): number => (this.freed(f) ? this.usedFreed("stage2_attr_walker") : this.relaxed(f));

  private relaxed(f: number): number {
    const { sim } = this.entries;
    const s = sim.agents.stack.a;
    const ret = this.attributes.relax(s[f + VM]!, s[f + IPA]!, s[f + PROT]!);
    if (this.shared(s[f + VM]!)) sim.rcu.readUnlock();
    return sim.agents.ret(f, ret);
  }

  // ---- set

  private setEntry(f: number, broken: boolean): number {
    const { agents } = this.entries.sim;
    const s = agents.stack.a;
    const prot = s[f + PROT]!;
    const logging = (prot & SET_LOGGING) !== 0;
    const part = broken ? SET_MAKE : SET_BREAK;
    const ret = this.setter.set(s[f + VM]!, s[f + CACHE]!, s[f + IPA]!, s[f + SIZE]!, s[f + PA]!, prot & ~SET_LOGGING, logging, part);
    if (ret === STAGE2_CRASHED) return RETURN;
    return ret === STAGE2_BROKEN ? this.set.first + 1 : agents.ret(f, ret);
  }
}
