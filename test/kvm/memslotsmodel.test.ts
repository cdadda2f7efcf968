import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EEXIST, EINVAL } from "../../src/sim/errno.js";
import { Fixture } from "./tablesfixture.js";

/** Memslots as a plain list. */
interface Slot {
  id: number;
  gfn: number;
  pages: number;
  page: number;
  flags: number;
}

const HVA = 0x7f00_0000_0000;
const BASE = 0x80000;
const call = fc.record({
  id: fc.nat(7),
  gfn: fc.nat(40),
  pages: fc.constantFrom(0, 1, 2, 5, 16),
  page: fc.constantFrom(0, 3, 8),
  flags: fc.constantFrom(0, 0, 1, 2),
});

/** What KVM_SET_USER_MEMORY_REGION does to the list, straight from the table of errnos. */
function update(slots: Slot[], c: Slot): number {
  const old = slots.find((s) => s.id === c.id);
  if (c.pages === 0) {
    if (old === undefined) return -EINVAL;
    slots.splice(slots.indexOf(old), 1);
    return 0;
  }
  const clash = slots.some((s) => s.id !== c.id && s.gfn < c.gfn + c.pages && c.gfn < s.gfn + s.pages);
  if (old === undefined) {
    if (clash) return -EEXIST;
    slots.push({ ...c });
    return 0;
  }
  if (old.page !== c.page || old.pages !== c.pages || ((old.flags ^ c.flags) & 2) !== 0) return -EINVAL;
  if (old.gfn !== c.gfn && clash) return -EEXIST;
  // Every update but an empty one puts the slot behind those with its host address.
  if (old.gfn !== c.gfn || old.flags !== c.flags) slots.push(...slots.splice(slots.indexOf(old), 1));
  Object.assign(old, c);
  return 0;
}

describe.each(["v5.4", "v6.12"])("%s: memslots against a plain list", (era) => {
  it("answer every call and every lookup alike", () => {
    fc.assert(
      fc.property(fc.array(call, { maxLength: 40 }), fc.nat(30), fc.integer({ min: 1, max: 8 }), (calls, from, length) => {
        const f = new Fixture(era);
        const slots: Slot[] = [];
        for (const c of calls) {
          const ret = f.slot(c.id, (BASE + c.gfn) * 4096, c.pages * 4096, HVA + c.page * 4096, c.flags);
          expect(ret).toBe(update(slots, c));
        }
        for (let gfn = 0; gfn < 60; gfn++) {
          const slot = f.memslots.find(f.vm, BASE + gfn);
          const model = slots.find((s) => s.gfn <= gfn && gfn < s.gfn + s.pages);
          expect(slot < 0 ? undefined : f.memslots.id(slot)).toBe(model?.id);
          if (model === undefined) continue;
          expect(f.memslots.gfnToHva(slot, BASE + gfn)).toBe(HVA + (model.page + gfn - model.gfn) * 4096);
          expect(f.memslots.gfnToHva(slot, BASE + gfn, true) < 0).toBe((model.flags & 2) !== 0);
          expect(f.memslots.byId(f.vm, model.id)).toBe(slot);
        }
        const start = HVA + from * 4096;
        const end = start + length * 4096;
        const met: number[] = [];
        for (let at = f.memslots.nextInHvaRange(f.vm, -1, start, end); at >= 0; at = f.memslots.nextInHvaRange(f.vm, at, start, end)) {
          met.push(f.memslots.id(f.memslots.at(f.vm, at)));
        }
        const hits = slots.filter((s) => s.page < from + length && from < s.page + s.pages);
        const order = era === "v5.4" ? hits.sort((a, b) => b.gfn - a.gfn) : hits.sort((a, b) => a.page - b.page);
        expect(met).toEqual(order.map((s) => s.id));
      }),
      { numRuns: 150, seed: 3 },
    );
  });
});
