import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Vmas } from "../../src/mmu/vmas.js";
import { VM_READ } from "../../src/mmu/vmflags.js";
import { Sim } from "../../src/sim/sim.js";

const PAGE = 0x1000;

function make(): Vmas {
  const sim = new Sim();
  sim.agents.add("vmm", "vmm", 0);
  const vmas = new Vmas(sim);
  vmas.ensureMm(0);
  vmas.ensureMm(1);
  return vmas;
}

function list(vmas: Vmas, mm: number): number[] {
  const out: number[] = [];
  for (let v = vmas.first(mm); v >= 0; v = vmas.next(v)) out.push(vmas.start(v));
  return out;
}

describe("VMAs", () => {
  it("stay in order of their addresses, each address space for itself, whatever comes and goes", () => {
    const op = fc.record({
      mm: fc.integer({ min: 0, max: 1 }),
      page: fc.integer({ min: 0, max: 300 }),
      probe: fc.integer({ min: 0, max: 310 }),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 400 }), (ops) => {
        const vmas = make();
        const model = [new Map<number, number>(), new Map<number, number>()];
        for (const { mm, page, probe } of ops) {
          const have = model[mm]!.get(page);
          if (have === undefined) {
            const v = vmas.alloc(mm, page * PAGE, (page + 1) * PAGE, VM_READ, page % 3 === 0 ? 1 : -1, page, 0);
            vmas.insert(v);
            model[mm]!.set(page, v);
          } else {
            vmas.remove(have);
            model[mm]!.delete(page);
          }
          const pages = [...model[mm]!.keys()].sort((a, b) => a - b);
          const want = pages.find((p) => p >= probe);
          expect(vmas.findVma(mm, probe * PAGE + 8)).toBe(want === undefined ? -1 : model[mm]!.get(want));
          expect(vmas.covering(mm, probe * PAGE)).toBe(model[mm]!.get(probe) ?? -1);
        }
        for (const mm of [0, 1]) {
          const pages = [...model[mm]!.keys()].sort((a, b) => a - b);
          expect(list(vmas, mm)).toEqual(pages.map((p) => p * PAGE));
          expect(vmas.count(mm)).toBe(pages.length);
          const back: number[] = [];
          for (let v = vmas.last(mm); v >= 0; v = vmas.prev(v)) back.push(vmas.start(v));
          expect(back.reverse()).toEqual(pages.map((p) => p * PAGE));
        }
        let files = 0;
        for (let v = vmas.firstOfFile(1); v >= 0; v = vmas.nextOfFile(v)) files++;
        expect(files).toBe([0, 1].reduce((n, mm) => n + [...model[mm]!.keys()].filter((p) => p % 3 === 0).length, 0));
      }),
      { numRuns: 60 },
    );
  });

  it("are found from the last one found: in it, in the gap below it, above it, in the next but one, behind the last", () => {
    const vmas = make();
    const at = (page: number): number => vmas.alloc(0, page * PAGE, (page + 1) * PAGE, VM_READ, -1, page, 0);
    const [a, b, c] = [at(2), at(5), at(9)] as const;
    for (const v of [a, b, c]) vmas.insert(v);
    const found = (last: number, page: number): number => {
      vmas.findVma(0, last * PAGE);
      return vmas.findVma(0, page * PAGE);
    };
    const want = [a, a, a, b, b, b, c, c, c, c, -1, -1];
    for (const last of [2, 5, 9]) expect(want.map((_, page) => found(last, page))).toEqual(want);
    vmas.findVma(0, 5 * PAGE);
    vmas.remove(b);
    expect(vmas.findVma(0, 5 * PAGE)).toBe(c);
    vmas.findVma(0, 9 * PAGE);
    vmas.remove(c);
    expect(vmas.findVma(0, 9 * PAGE)).toBe(-1);
  });

  it("form the one treap that their numbers and addresses give, each with the place that it hangs at", () => {
    const priority = (v: number): number => {
      const h = Math.imul(v ^ 0x5bd1e995, 0x9e3779b1);
      return Math.imul(h ^ (h >>> 15), 0x85ebca6b) >>> 0;
    };
    const [LEFT, RIGHT, LINK, DOUBLES] = [3, 4, 5, 8];
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 150 }), (pages) => {
        const vmas = make();
        const have = new Map<number, number>();
        for (const page of pages) {
          const old = have.get(page);
          if (old === undefined) {
            const v = vmas.alloc(0, page * PAGE, (page + 1) * PAGE, VM_READ, -1, page, 0);
            vmas.insert(v);
            have.set(page, v);
          } else {
            vmas.remove(old);
            have.delete(page);
          }
        }
        const { d, mms } = vmas as unknown as { d: { a: Float64Array }; mms: { a: Int32Array } };
        const order = [...have.keys()].sort((a, b) => a - b).map((page) => have.get(page)!);
        const expectTree = (t: number, link: number, from: number, to: number): void => {
          const top = order.slice(from, to).sort((a, b) => priority(b) - priority(a))[0];
          expect(t).toBe(top === undefined ? 0 : top + 1);
          if (top === undefined) return;
          const at = top * DOUBLES;
          expect(d.a[at + LINK]).toBe(link);
          const middle = order.indexOf(top);
          expectTree(d.a[at + LEFT]!, at + LEFT, from, middle);
          expectTree(d.a[at + RIGHT]!, at + RIGHT, middle + 1, to);
        };
        expectTree(mms.a[0]!, -1, 0, order.length);
      }),
      { numRuns: 200 },
    );
  });

  it("are found in logarithmic depth among 10,000", () => {
    const vmas = make();
    for (let i = 9999; i >= 0; i--) vmas.insert(vmas.alloc(0, 2 * i * PAGE, (2 * i + 1) * PAGE, VM_READ, -1, 2 * i, 0));
    expect(vmas.depth(0)).toBeLessThan(45);
    for (let i = 0; i < 10000; i += 7) {
      expect(vmas.start(vmas.findVma(0, 2 * i * PAGE + 5))).toBe(2 * i * PAGE);
      expect(vmas.covering(0, (2 * i + 1) * PAGE)).toBe(-1);
    }
  });

  it("share an anon_vma with a neighbour that differs in access only, and join only with the same one", () => {
    const vmas = make();
    const low = vmas.alloc(0, 0, PAGE, VM_READ, -1, 0, 0);
    const high = vmas.alloc(0, PAGE, 2 * PAGE, VM_READ | 2, -1, 1, 0);
    const far = vmas.alloc(0, 8 * PAGE, 9 * PAGE, VM_READ, -1, 8, 0);
    for (const v of [low, high, far]) vmas.insert(v);
    for (const v of [low, high, far]) vmas.anonVmaPrepare(v);
    expect(vmas.anonVma(low)).toBe(vmas.anonVma(high));
    expect(vmas.anonVma(far)).not.toBe(vmas.anonVma(low));
    expect(vmas.canMerge(low, VM_READ, -1, 1, 0, vmas.anonVma(far))).toBe(false);
    expect(vmas.canMerge(low, VM_READ, -1, 1, 0, 0)).toBe(true);
    expect(vmas.canMerge(low, VM_READ, -1, 2, 0, 0)).toBe(false);
  });
});
