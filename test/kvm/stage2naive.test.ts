/**
 * Stage 2 of two VMs against plain lists of leaves and tables: blocks of 1 GiB and 2 MiB, walks over long ranges, memory types, caches
 * of table pages that run out, eager splits, walks step by step. After every step, also after one that was undone, the tables hold
 * what the lists hold, page counts and leaf counts are right, and every lookup finds its leaf.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { splitPageTables } from "../../src/kvm/pgtablesplit.js";
import { SET_LOGGING } from "../../src/kvm/pgtablesteps.js";
import { INSTALL_LOGGING, STAGE2_CRASHED } from "../../src/kvm/stage2.js";
import { PROT_DEVICE, PROT_IOMAP, PROT_NORMAL_NC, PROT_R, PROT_W, PROT_X } from "../../src/kvm/trace.js";
import { EAGAIN, EFAULT, EINVAL, ENOMEM, ERANGE } from "../../src/sim/errno.js";
import { BAR, Fixture, GIB, MIB, RAM } from "./tablesfixture.js";

const PAGE = 4096;
const BLOCK = 2 * MIB;
const SIZES = [2 ** 39, GIB, BLOCK, PAGE];

interface Leaf {
  readonly ipa: number;
  readonly size: number;
  readonly pa: number;
  prot: number;
  young: boolean;
}
const levelOf = (size: number): number => SIZES.indexOf(size);
const meets = (l: { readonly ipa: number; readonly size: number }, from: number, to: number): boolean =>
  l.ipa < to && l.ipa + l.size > from;
const down = (a: number, size: number): number => Math.floor(a / size) * size;

/** What differs between releases, asked of the decisions by name. */
interface Rules {
  readonly set: boolean;
  readonly again: boolean;
  readonly relaxAgain: boolean;
  readonly agesAll: boolean;
  readonly noExecute: boolean;
}

/** One VM. A table is named by its level and what it maps; the entry level is not among them. */
class Model {
  leaves: Leaf[] = [];
  tables = new Map<string, { readonly ipa: number; readonly size: number }>();
  constructor(
    private readonly rules: Rules,
    private readonly top: number,
    private readonly ipaSize: number,
    /** Pages of the caches: of faults, and of eager splits. */
    public cache = 0,
    public split = 0,
  ) {}
  copy(): Model {
    const m = new Model(this.rules, this.top, this.ipaSize, this.cache, this.split);
    m.leaves = this.leaves.map((l) => ({ ...l }));
    m.tables = new Map(this.tables);
    return m;
  }

  at(ipa: number): Leaf | undefined {
    return this.leaves.find((l) => meets(l, ipa, ipa + 1));
  }
  private drop(from: number, to: number): void {
    this.leaves = this.leaves.filter((l) => !meets(l, from, to));
  }
  /** The table whose entries are of `level`. */
  private key(level: number, ipa: number): string {
    return `${level} ${down(ipa, SIZES[level - 1]!)}`;
  }
  private has(level: number, ipa: number): boolean {
    return this.tables.has(this.key(level, ipa));
  }
  private add(level: number, ipa: number): void {
    const size = SIZES[level - 1]!;
    this.tables.set(this.key(level, ipa), { ipa: down(ipa, size), size });
  }
  /** Everything under one entry goes: what a block replaces, or a table. */
  private clear(ipa: number, size: number): void {
    this.drop(ipa, ipa + size);
    for (const [k, t] of this.tables) if (t.ipa >= ipa && t.ipa + t.size <= ipa + size) this.tables.delete(k);
  }
  /** Goes down to the entries of `level`, with tables where none are. @returns false if the cache runs out */
  private descend(ipa: number, level: number): boolean {
    for (let l = this.top + 1; l <= level; l++) {
      if (this.has(l, ipa)) continue;
      if (this.cache === 0) return false;
      this.cache--;
      const old = this.at(ipa);
      if (old !== undefined) this.drop(old.ipa, old.ipa + old.size);
      this.add(l, ipa);
    }
    return true;
  }
  private put(ipa: number, size: number, pa: number, prot: number): void {
    this.clear(ipa, size);
    this.leaves.push({ ipa, size, pa, prot, young: true });
  }

  install(ipa: number, size: number, pa: number, prot: number, logging: boolean): number {
    return this.rules.set ? this.setOne(ipa, size, pa, prot, logging) : this.map(ipa, size, pa, prot);
  }

  /** kvm_pgtable_stage2_map */
  private map(ipa: number, size: number, pa: number, prot: number): number {
    const device = (prot & PROT_DEVICE) !== 0;
    const nc = (prot & PROT_NORMAL_NC) !== 0;
    if ((device && nc) || ((device || nc) && (prot & PROT_X) !== 0)) return -EINVAL;
    const end = ipa + Math.ceil(size / PAGE) * PAGE;
    if (end > this.ipaSize) return -ERANGE;
    for (let at = ipa, to = pa; at < end;) {
      const unit = [GIB, BLOCK, PAGE].find((s) => at % s === 0 && to % s === 0 && end - at >= s)!;
      if (!this.descend(at, levelOf(unit))) return -ENOMEM;
      const old = this.at(at);
      const kept = prot & 31;
      if (old?.size === unit && old.pa === to) {
        const type = PROT_DEVICE | PROT_NORMAL_NC;
        const same = old.young && ((old.prot ^ kept) & type) === 0;
        if (this.rules.again && same) return -EAGAIN;
        if (!this.rules.again && same && old.prot === kept) {
          at += unit;
          to += unit;
          continue;
        }
      }
      this.put(at, unit, to, kept);
      at += unit;
      to += unit;
    }
    return 0;
  }

  /** stage2_set_pte, stage2_set_pmd_huge, stage2_set_pud_huge */
  private setOne(ipa: number, size: number, pa: number, prot: number, logging: boolean): number {
    const unit = size === GIB || size === BLOCK ? size : PAGE;
    const old = this.at(ipa);
    if (unit === PAGE && logging && old !== undefined && old.size > PAGE) this.drop(old.ipa, old.ipa + old.size);
    const over = this.at(ipa);
    if (over !== undefined && over.size > unit) return STAGE2_CRASHED;
    if (unit !== PAGE) {
      // A table where the block belongs: everything under it is unmapped, and what that empties goes.
      if (this.has(levelOf(unit) + 1, ipa)) this.unmap(ipa, ipa + unit);
    }
    if (!this.descend(ipa, levelOf(unit))) return STAGE2_CRASHED;
    const there = this.at(ipa);
    if (unit === PAGE && there !== undefined && (prot & PROT_IOMAP) !== 0) return -EFAULT;
    const kept = prot & 31;
    if (there?.pa === pa && there.young && there.prot === kept) return 0;
    this.put(ipa, unit, pa, kept);
    return 0;
  }

  unmap(from: number, to: number): void {
    this.drop(from, to);
    for (const level of [3, 2, 1])
      for (const [k, t] of this.tables) {
        if (!k.startsWith(`${level} `) || !meets(t, from, Math.min(to, this.ipaSize))) continue;
        const leaf = this.leaves.some((l) => meets(l, t.ipa, t.ipa + t.size));
        const below = [...this.tables].some(([, u]) => u.size < t.size && u.ipa >= t.ipa && u.ipa < t.ipa + t.size);
        if (!leaf && !below) this.tables.delete(k);
      }
  }
  wrprotect(from: number, to: number): void {
    for (const l of this.leaves) if (meets(l, from, to)) l.prot &= ~PROT_W;
  }
  age(from: number, to: number, makeOld: boolean): boolean {
    const end = this.rules.agesAll ? to : from + 1;
    let young = false;
    for (const l of this.leaves) {
      if (!meets(l, from, end)) continue;
      if (l.young) young = true;
      if (makeOld) l.young = false;
    }
    return young;
  }
  relax(ipa: number, prot: number): number {
    const l = this.at(ipa);
    if (l === undefined) return this.rules.relaxAgain ? -EAGAIN : 0;
    if (this.rules.noExecute) l.prot &= ~PROT_X;
    l.prot |= prot;
    return 0;
  }
  young(ipa: number): boolean {
    const l = this.at(ipa);
    if (l !== undefined) l.young = true;
    return l !== undefined;
  }

  /** kvm_mmu_split_huge_pages */
  splitHuge(from: number, to: number, chunk: number): void {
    this.leaves.sort((x, y) => x.ipa - y.ipa);
    if (chunk === 0) return;
    for (let at = from; at < to;) {
      this.split = Math.max(this.split, splitPageTables(chunk));
      const next = Math.min(to, down(at, chunk) + chunk);
      if (!this.splitRange(at, next)) return;
      at = next;
    }
  }
  /** Block by block, by rising address. @returns false if the cache runs out */
  private splitRange(from: number, to: number): boolean {
    for (;;) {
      const l = this.leaves.find((x) => x.size > PAGE && meets(x, from, to));
      if (l === undefined) return true;
      const whole = l.size === GIB ? 513 : 1;
      if (this.split < 1) return false;
      const pages = this.split >= whole;
      this.split -= pages ? whole : 1;
      const into = pages ? PAGE : BLOCK;
      this.drop(l.ipa, l.ipa + l.size);
      this.add(levelOf(l.size) + 1, l.ipa);
      if (l.size === GIB && pages) for (let i = 0; i < 512; i++) this.add(3, l.ipa + i * BLOCK);
      for (let a = 0; a < l.size; a += into) this.leaves.push({ ipa: l.ipa + a, size: into, pa: l.pa + a, prot: l.prot, young: true });
      this.leaves.sort((x, y) => x.ipa - y.ipa);
    }
  }

  text(): string[] {
    return this.leaves.sort((a, b) => a.ipa - b.ipa).map(leafText);
  }
}
const leafText = (l: Leaf): string =>
  `${l.ipa.toString(16)}+${l.size.toString(16)}->${l.pa.toString(16)} ${l.prot}${l.young ? "" : " old"}`;

// ---- steps

/** Around the borders of a gigabyte, far away, and at the end of the IPA space. */
const BASES = [GIB - BLOCK, GIB, GIB + BLOCK, 2 * GIB, 2 * GIB + 600 * MIB, 2 ** 36, 2 ** 40 - GIB, 2 ** 40 - BLOCK];
const size = fc.constantFrom(
  PAGE,
  PAGE,
  PAGE,
  PAGE,
  PAGE,
  PAGE,
  2 * PAGE,
  BLOCK,
  BLOCK,
  BLOCK,
  BLOCK + PAGE,
  2 * BLOCK,
  700 * PAGE,
  GIB,
  GIB,
);
const perms = fc.constantFrom(PROT_R, PROT_R | PROT_W, PROT_R | PROT_X, PROT_R | PROT_W | PROT_X);
const types = fc.constantFrom(0, 0, 0, PROT_DEVICE, PROT_NORMAL_NC, PROT_DEVICE | PROT_IOMAP);
const prot = fc.tuple(perms, types).map(([p, t]) => (t === 0 ? p : (p & ~PROT_X) | t));
/** A run keeps to a few places. */
function stepIn(bases: readonly number[]) {
  const ipa = fc.tuple(fc.constantFrom(...bases), fc.constantFrom(0, 0, 0, 1, 511)).map(([base, page]) => base + page * PAGE);
  const range = { ipa, size: fc.oneof({ weight: 9, arbitrary: size }, { weight: 1, arbitrary: fc.constant(4 * GIB) }) };
  const simple = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        op: fc.constantFrom("install" as const, "install" as const, "steps" as const),
        ipa,
        size,
        pa: fc.constantFrom(RAM, RAM + GIB, BAR),
        /** The frame is as far into its block as the address. */
        congruent: fc.constantFrom(true, true, true, false),
        prot,
        logging: fc.boolean(),
        /** Pages that the cache has at least. */
        cache: fc.constantFrom(2, 2, 2, 2, 40, 1, 0),
      }),
    },
    { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("unmap" as const, "halves" as const), ...range }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("wrprotect" as const), ...range }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("age" as const), ...range, makeOld: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("relax" as const), ipa, prot: perms }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("young" as const), ipa }) },
    {
      weight: 2,
      arbitrary: fc.record({
        op: fc.constant("split" as const),
        ipa,
        size: fc.constantFrom(PAGE, BLOCK, 700 * PAGE),
        chunk: fc.constantFrom(PAGE, BLOCK, BLOCK, 0),
      }),
    },
  );
  return fc.record({
    vm: fc.constantFrom(0, 0, 0, 1),
    undone: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
    warm: fc.boolean(),
    op: simple,
  });
}
type Step = ReturnType<typeof stepIn> extends fc.Arbitrary<infer T> ? T : never;
type Op = Step["op"];
const run = fc
  .shuffledSubarray(BASES, { minLength: 1, maxLength: 2 })
  .chain((bases) => fc.array(stepIn(bases), { maxLength: 40, size: "max" }));

/** With FEAT_S2FWB and range TLBIs, or without; four levels of tables, or three; with bug C13 of v7.1. */
const choice = fc.record({
  cpu: fc.constantFrom("max", "cortex-a72"),
  bits: fc.constantFrom(0, 0, 44),
  noExecute: fc.boolean(),
});
type Choice = typeof choice extends fc.Arbitrary<infer T> ? T : never;

/** `expect` only where something differs: it costs more than all the rest. */
function same(got: readonly unknown[], want: readonly unknown[]): void {
  if (got.join() !== want.join()) expect(got).toEqual(want);
}

class Pair {
  readonly f: Fixture;
  readonly vms: readonly [number, number];
  readonly caches: readonly number[];
  models: Model[];
  private readonly roots: number;

  constructor(era: string, { cpu, bits, noExecute }: Choice) {
    const set = noExecute && era === "v7.2.12" ? { relaxExecute: "from-fault" } : {};
    this.f = new Fixture(era, { cpu, type: bits, set });
    const { f } = this;
    this.vms = [f.vm, f.vms.create(0, bits)];
    this.caches = this.vms.map(() => f.stage2.caches.create());
    const d = f.row.kvm;
    const rules: Rules = {
      set: d.mapCode === "set",
      again: d.permissionOnlyChange === "again",
      relaxAgain: d.relaxInvalidEntry === "again",
      agesAll: d.agingRange === "all",
      noExecute: d.relaxExecute === "from-fault",
    };
    this.models = this.vms.map((vm) => new Model(rules, f.vms.startLevel(vm), f.vms.ipaSize(vm)));
    this.roots = f.tables.pagesUsed;
    f.sim.state.startRecording();
  }

  /** On both sides. @returns what the code and the model answer */
  do(n: number, o: Op): readonly [unknown, unknown] {
    const { f } = this;
    const vm = this.vms[n]!;
    const cache = this.caches[n]!;
    const m = this.models[n]!;
    const s2 = f.stage2;
    switch (o.op) {
      case "install":
      case "steps": {
        if (o.cache > m.cache) s2.caches.topup(cache, o.cache, (m.cache = o.cache));
        // The callers of the old code come with the head of a block.
        const set = f.row.kvm.mapCode === "set";
        const size = o.congruent || set ? o.size : Math.min(o.size, 2 * BLOCK);
        const unit = set && (o.size === GIB || o.size === BLOCK) ? o.size : PAGE;
        const ipa = down(o.ipa, unit);
        const pa = down(down(o.pa, GIB) + (o.ipa % GIB) + (o.congruent ? 0 : PAGE), unit);
        // A crash ends the run: few of them are wanted.
        if (set && o.cache > 0 && m.copy().install(ipa, size, pa, o.prot, o.logging) === STAGE2_CRASHED) return [0, 0];
        const want = m.install(ipa, size, pa, o.prot, o.logging);
        if (o.op === "install" || want === STAGE2_CRASHED)
          return [s2.install(vm, cache, ipa / PAGE, size, pa / PAGE, o.prot, o.logging ? INSTALL_LOGGING : 0), want];
        if (set) return [f.run(s2.steps.set, vm, cache, ipa, size, pa, o.prot | (o.logging ? SET_LOGGING : 0)), want];
        return [f.run(s2.steps.map, vm, cache, ipa, size, pa, o.prot), want];
      }
      case "unmap":
        s2.unmapRange(vm, o.ipa, o.size);
        m.unmap(o.ipa, o.ipa + o.size);
        return [0, 0];
      case "halves": {
        const to = s2.unmapper.chunkEnd(vm, o.ipa, o.ipa + o.size);
        const left = s2.unmapper.walkChunk(vm, o.ipa, to, false);
        const before = m.tables.size;
        m.unmap(o.ipa, to);
        s2.unmapper.walkChunk(vm, o.ipa, to);
        return [left, m.tables.size < before];
      }
      case "wrprotect":
        s2.wrprotectRange(vm, o.ipa, o.size);
        m.wrprotect(o.ipa, o.ipa + o.size);
        return [0, 0];
      case "age":
        return [s2.age(vm, o.ipa, o.size, o.makeOld), m.age(o.ipa, o.ipa + o.size, o.makeOld)];
      case "relax":
        return [s2.relax(vm, o.ipa, o.prot), m.relax(o.ipa, o.prot)];
      case "young":
        return [s2.mkyoung(vm, o.ipa), m.young(o.ipa)];
      case "split": {
        const chunk = f.row.kvm.eagerSplit ? o.chunk : 0;
        f.vms.setSplitChunk(vm, chunk);
        f.sim.locks.write(f.vms.mmuLock(vm));
        f.run(s2.splitter.splitHugePages, vm, o.ipa, o.ipa + o.size);
        f.sim.locks.unlockWrite(f.vms.mmuLock(vm));
        m.splitHuge(o.ipa, o.ipa + o.size, chunk);
        return [0, 0];
      }
    }
  }

  private text(vm: number): string[] {
    const { entries } = this.f.stage2;
    return this.f.dump
      .leaves(vm)
      .map((l) => leafText({ ipa: l.ipa, size: l.size, pa: l.pa, prot: entries.protOf(l.hi, l.lo), young: l.af !== 0 }));
  }

  check(): void {
    const { f } = this;
    const { entries } = f.stage2;
    this.vms.forEach((vm, n) => {
      const m = this.models[n]!;
      same(this.text(vm), m.text());
      const tree = f.dump.tree(vm);
      for (const t of tree) if (t.refs !== t.entries + 1) throw new Error(`a table counts ${t.refs} with ${t.entries} entries`);
      const tables = tree.filter((t) => t.level > f.vms.startLevel(vm)).map((t) => `${t.level} ${t.ipa}`);
      same(tables.sort(), [...m.tables.keys()].sort());
      const levels = [1, 2, 3].map((level) => entries.leafCount(vm, level));
      same(levels, [1, 2, 3].map((level) => m.leaves.filter((l) => levelOf(l.size) === level).length)); // prettier-ignore
      same([f.stage2.caches.count(this.caches[n]!), f.vms.splitCache(vm)], [m.cache, m.split]);
      // Every second lookup comes from the table of the one before.
      const lookups = BASES.flatMap((base) => [base, base + PAGE, base + 511 * PAGE]);
      const found = lookups.map((at) => ((level) => [level, level < 0 ? 0 : entries.outputAddress(entries.hi, entries.lo)])(f.stage2.leaf(vm, at))); // prettier-ignore
      same(found, lookups.map((at) => ((l) => (l === undefined ? [-1, 0] : [levelOf(l.size), l.pa]))(m.at(at)))); // prettier-ignore
    });
    expect(f.tables.pagesUsed).toBe(this.roots + this.models.reduce((n, m) => n + m.tables.size, 0));
    expect(f.sim.rcu.pending).toBe(0);
  }
}

const ERAS = (process.env["ERAS"] ?? "v5.4,v5.14,v6.1,v6.12,v7.2.12").split(",");
const RUNS = Number(process.env["RUNS"] ?? 5);
const SEED = Number(process.env["SEED"] ?? 1);

describe("stage 2 against plain lists", () => {
  it.each(ERAS)("%s", { timeout: 1e6 }, (era) => {
    fc.assert(
      fc.property(choice, run, (chosen, steps) => {
        const pair = new Pair(era, chosen);
        const { state } = pair.f.sim;
        let violations = 0;
        pair.f.sim.bus.on("break_before_make_violation", () => violations++);
        for (const { vm, undone, warm, op } of steps) {
          // The table that a walk came to last is the one that the step begins in.
          if (warm) pair.f.stage2.leaf(pair.vms[vm]!, op.ipa);
          if (undone) {
            const hash = state.hash();
            const mark = state.mark();
            const kept = pair.models.map((m) => m.copy());
            pair.do(vm, op);
            state.rollback(mark);
            pair.models = kept;
            expect(state.hash()).toBe(hash);
            pair.check();
            continue;
          }
          const [got, want] = pair.do(vm, op);
          expect(got).toEqual(want);
          if (want === STAGE2_CRASHED) return;
          pair.check();
        }
        expect(violations).toBe(0);
        pair.vms.forEach((vm) => pair.f.stage2.teardown(vm));
        expect(pair.f.tables.pagesUsed).toBe(0);
      }),
      { numRuns: RUNS, seed: SEED },
    );
  });
});
