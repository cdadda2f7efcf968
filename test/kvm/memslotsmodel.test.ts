import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EEXIST, EFAULT, EINVAL } from "../../src/sim/errno.js";
import { Fixture } from "./tablesfixture.js";

/** Memslots of two VMs as plain lists, with the pages that are dirty; after every call, also after one that was undone, all lookups agree. */
interface Slot {
  id: number;
  gfn: number;
  pages: number;
  page: number;
  flags: number;
  dirty: ReadonlySet<number>;
}

const LOG = 1;
const READONLY = 2;
const HVA = 0x7f00_0000_0000;
/** First frame beyond the IPA space of 40 bits. */
const LIMIT = 2 ** 28;
/** Frames are counted from here; those from 40 on lie at the end of the IPA space. */
const BASE = 0x80000;
const NEAR_LIMIT = LIMIT - 20 - BASE - 40;
const gfnOf = (n: number): number => BASE + n + (n < 40 ? 0 : NEAR_LIMIT);
const call = fc.record({
  id: fc.oneof(fc.nat(7), fc.constantFrom(20, 100, 300)),
  gfn: fc.nat(59).map(gfnOf),
  pages: fc.constantFrom(0, 1, 2, 5, 16, 70),
  page: fc.constantFrom(0, 3, 8, 20, 100),
  flags: fc.constantFrom(0, 0, LOG, LOG, READONLY),
});
/** A call about a slot that there is: another flag, another place, an end. */
const change = fc.record({
  which: fc.nat(100),
  gfn: fc.oneof(fc.constant(-1), fc.nat(59).map(gfnOf)),
  flags: fc.constantFrom(-1, 0, LOG),
  gone: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
});
const step = fc.record({
  vm: fc.nat(1),
  undone: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
  call: fc.option(call, { freq: 2 }),
  change,
  /** Pages of slots that the guest writes before. */
  writes: fc.array(fc.tuple(fc.nat(100), fc.nat(69)), { maxLength: 3 }),
});
type Call = Omit<Slot, "dirty">;

/** What KVM_SET_USER_MEMORY_REGION does to the list, straight from the table of errnos. */
function update(slots: Slot[], c: Call, exact: boolean): number {
  const old = slots.find((s) => s.id === c.id);
  if (c.pages === 0) {
    if (old === undefined) return -EINVAL;
    slots.splice(slots.indexOf(old), 1);
    return 0;
  }
  if (old !== undefined && (old.page !== c.page || old.pages !== c.pages || ((old.flags ^ c.flags) & READONLY) !== 0)) return -EINVAL;
  if (old !== undefined && old.gfn === c.gfn && old.flags === c.flags) return 0;
  const clash = slots.some((s) => s.id !== c.id && s.gfn < c.gfn + c.pages && c.gfn < s.gfn + s.pages);
  if (old?.gfn !== c.gfn && clash) return -EEXIST;
  const beyond = exact ? c.gfn + c.pages > LIMIT : c.gfn + c.pages >= LIMIT;
  // Every update but an empty one puts the slot behind those with its host address, also one that is taken back.
  if (old !== undefined && (!beyond || old.gfn !== c.gfn)) slots.push(...slots.splice(slots.indexOf(old), 1));
  if (beyond) return -EFAULT;
  const dirty = old !== undefined && (old.flags & c.flags & LOG) !== 0 ? old.dirty : new Set<number>();
  if (old === undefined) slots.push({ ...c, dirty });
  else Object.assign(old, c, { dirty });
  return 0;
}

/** `expect` only where something differs: it costs more than all the rest. */
function same(got: readonly unknown[], want: readonly unknown[]): void {
  if (got.join() !== want.join()) expect(got).toEqual(want);
}

function check(f: Fixture, vm: number, slots: readonly Slot[], byTree: boolean): void {
  const m = f.memslots;
  expect(m.count(vm)).toBe(slots.length);
  for (let n = 0; n < 80; n++) {
    const gfn = gfnOf(n);
    const slot = m.find(vm, gfn);
    const model = slots.find((s) => s.gfn <= gfn && gfn < s.gfn + s.pages);
    if ((slot < 0 ? undefined : m.id(slot)) !== model?.id) expect([gfn, slot < 0 ? undefined : m.id(slot)]).toEqual([gfn, model?.id]);
    if (model === undefined) continue;
    const hva = HVA + (model.page + gfn - model.gfn) * 4096;
    const readonly = (model.flags & READONLY) !== 0;
    same([m.gfnToHva(slot, gfn), m.gfnToHva(slot, gfn, true), m.hvaToGfn(slot, hva)], [hva, readonly ? -1 : hva, gfn]);
    same([m.byId(vm, model.id), m.flags(slot), f.dirtyLog.isDirty(slot, gfn - model.gfn)], [slot, model.flags, model.dirty.has(gfn - model.gfn)]); // prettier-ignore
  }
  for (const [from, length] of [
    [0, 1],
    [2, 3],
    [7, 1],
    [15, 30],
    [24, 1],
    [90, 100],
    [160, 9],
    [0, 200],
  ] as const) {
    // prettier-ignore
    const start = HVA + from * 4096;
    const end = start + length * 4096;
    const met: number[] = [];
    for (let at = m.nextInHvaRange(vm, -1, start, end); at >= 0; at = m.nextInHvaRange(vm, at, start, end)) met.push(m.id(m.at(vm, at)));
    const hits = slots.filter((s) => s.page < from + length && from < s.page + s.pages);
    same(
      met,
      (byTree ? hits.sort((a, b) => a.page - b.page) : hits.sort((a, b) => b.gfn - a.gfn)).map((s) => s.id),
    );
  }
}

describe.each(["v5.4", "v5.14", "v6.1", "v6.12", "v7.2.12"])("%s: memslots against plain lists", (era) => {
  it("answer every call and every lookup alike", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
        const f = new Fixture(era);
        const { state } = f.sim;
        const vms = [f.vm, f.vms.create(0, 0)];
        let lists: Slot[][] = [[], []];
        const exact = f.row.kvm.memslotIpaLimit === "exact";
        const byTree = f.row.kvm.memslotHvaOrder === "hva-tree";
        state.startRecording();
        for (const s of steps) {
          const vm = vms[s.vm]!;
          const kept = lists.map((l) => l.map((x) => ({ ...x })));
          const slots = lists[s.vm]!;
          const mark = state.mark();
          const hash = state.hash();
          for (const [n, page] of s.writes) {
            const slot = slots[n % slots.length];
            if (slot === undefined) break;
            const rel = page % slot.pages;
            f.dirtyLog.markPageDirty(vm, f.memslots.byId(vm, slot.id), slot.gfn + rel);
            if ((slot.flags & LOG) !== 0) slot.dirty = new Set([...slot.dirty, rel]);
          }
          const old = slots[s.change.which % slots.length];
          const { gfn, flags, gone } = s.change;
          const changed = old && {
            ...old,
            pages: gone ? 0 : old.pages,
            gfn: gfn < 0 ? old.gfn : gfn,
            flags: flags < 0 ? old.flags : flags,
          };
          const c: Call = s.call ?? changed ?? { id: 1, gfn: BASE, pages: 5, page: 3, flags: 0 };
          const ret = f.run(f.regions.setUserMemoryRegion, vm, c.id, c.flags, c.gfn * 4096, c.pages * 4096, HVA + c.page * 4096);
          same([ret], [update(slots, c, exact)]);
          if (s.undone) {
            state.rollback(mark);
            lists = kept;
            expect(state.hash()).toBe(hash);
          }
          vms.forEach((v, n) => check(f, v, lists[n]!, byTree));
        }
      }),
      { numRuns: Number(process.env["RUNS"] ?? 20), seed: Number(process.env["SEED"] ?? 3) },
    );
  });
});
