import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { leafHi, tableLo } from "../../src/arch/descriptors.js";
import { cpuProfile, customProfile } from "../../src/arch/features.js";
import { tlbiOp } from "../../src/arch/tlbi.js";
import { Rig } from "./rig.js";

/** Low-word bits of a user page: page, Normal, EL0, inner shareable, AF, nG. */
const USER = 0x3 | 0x40 | 0x300 | 0x400 | 0x800;
const RDONLY = 0x80;
const AF = 0x400;
const DBM = 1 << 19;

/** A host address space built by hand in the rig's table window. */
class Mm {
  readonly root: number;
  constructor(
    readonly m: Rig,
    readonly asid: number,
  ) {
    this.root = m.tables.alloc();
  }
  entry(hva: number, level: number): number {
    let table = this.root;
    for (let l = 0; ; l++) {
      const index = Math.floor(hva / 2 ** (39 - 9 * l)) % 512;
      const word = this.m.tables.word(table) + index * 2;
      if (l === level) return word;
      if ((this.m.tables.words.a[word]! & 1) === 0) {
        const t = this.m.tables.alloc();
        this.m.tables.write(word, l, leafHi(t, 0), tableLo(t));
      }
      table = (this.m.tables.words.a[word + 1]! & 0xffff) * 4294967296 + ((this.m.tables.words.a[word]! & ~0xfff) >>> 0);
    }
  }
  map(hva: number, pa: number, lo = USER, hi = 0, level = 3): void {
    this.m.tables.write(this.entry(hva, level), level, leafHi(pa, hi), ((pa & ~0xfff) | lo) & (level === 3 ? -1 : ~2));
  }
  unmap(hva: number, level = 3): void {
    this.m.tables.write(this.entry(hva, level), level, 0, 0);
  }
  look(hva: number, write = false): number {
    return this.m.pe.hostLookup(this.root, this.asid, hva, write);
  }
}

const HVA = 0x7f1234567000;

describe("the host's own accesses", () => {
  it("walk four levels to pages and blocks and fault without an entry", () => {
    const m = new Rig();
    const mm = new Mm(m, 1);
    expect(mm.look(HVA + 5)).toBe(-1);
    mm.map(HVA, 0x41234000);
    expect(mm.look(HVA + 5)).toBe(0x41234005);
    mm.map(0x7f1200000000, 0x42200000, USER, 0, 2);
    expect(mm.look(0x7f1200123456)).toBe(0x42323456);
    mm.map(0x7f8000000000, 0x40000000, USER, 0, 1);
    expect(mm.look(0x7f8012345678)).toBe(0x52345678);
    mm.map(0x7fff00000000, 0x8000000000);
    expect(mm.look(0x7fff00000008, true)).toBe(0x8000000008);
  });

  it("need EL0 access, write permission for a store, and the access flag where hardware does not set it", () => {
    const m = new Rig({ cpu: cpuProfile("cortex-a72") });
    const mm = new Mm(m, 1);
    mm.map(HVA, 0x41234000, USER & ~0x40);
    expect(mm.look(HVA)).toBe(-1);
    mm.map(HVA, 0x41234000, USER | RDONLY, DBM);
    expect([mm.look(HVA), mm.look(HVA, true)]).toEqual([0x41234000, -1]);
    mm.map(HVA + 4096, 0x41235000, USER & ~AF);
    expect(mm.look(HVA + 4096)).toBe(-1);
  });

  it("set access flag and dirty state by hardware on a CPU with FEAT_HAFDBS", () => {
    const m = new Rig();
    const mm = new Mm(m, 1);
    mm.map(HVA, 0x41234000, (USER & ~AF) | RDONLY, DBM);
    expect(mm.look(HVA)).toBe(0x41234000);
    const word = mm.entry(HVA, 3);
    expect(m.tables.words.a[word]! & (AF | RDONLY)).toBe(AF | RDONLY);
    expect(mm.look(HVA, true)).toBe(0x41234000);
    expect(m.tables.words.a[word]! & (AF | RDONLY)).toBe(AF);
  });

  it("use a stale entry until it is flushed, and say so", () => {
    const m = new Rig();
    const mm = new Mm(m, 3);
    m.listen("stale_translation");
    mm.map(HVA, 0x41234000);
    mm.look(HVA);
    mm.map(HVA, 0x41299000);
    expect([mm.look(HVA), mm.look(HVA)]).toEqual([0x41234000, 0x41234000]);
    expect(m.events.map((e) => [e["regime"], e["pa"], e["now"]])).toEqual([["host", 0x41234000, 0x41299000]]);
    m.pe.flushPage(3, HVA);
    expect(mm.look(HVA)).toBe(0x41299000);
    expect(m.events.length).toBe(1);
  });

  it("flush by page, range and address space, on every CPU, and only this address space", () => {
    for (const cpu of ["max", "cortex-a76"]) {
      const m = new Rig({ cpu: cpuProfile(cpu) });
      const one = new Mm(m, 1);
      const two = new Mm(m, 2);
      const pages = [0, 1, 2, 5, 40, 100, 600];
      // Different low address bits, so that the two do not meet in the direct-mapped array.
      const at = (mm: Mm, n: number) => HVA + n * 4096 + (mm === two ? 0x300000 : 0);
      const set = (base: number) => {
        for (const mm of [one, two]) for (const n of pages) mm.map(at(mm, n), base + n * 4096);
      };
      const old = (c: number, mm: Mm) => {
        m.onCpu(c);
        return pages.filter((n) => mm.look(at(mm, n)) === 0x41000000 + n * 4096);
      };
      const refill = () => {
        set(0x41000000);
        m.onCpu(0);
        m.pe.flushMm(1);
        m.pe.flushMm(2);
        for (const c of [0, 1]) for (const mm of [one, two]) old(c, mm);
        set(0x42000000);
      };
      refill();
      expect([old(0, one), old(1, two)]).toEqual([pages, pages]);
      m.onCpu(0);
      m.pe.flushPage(1, at(one, 1));
      expect([old(0, one), old(1, one), old(1, two)]).toEqual([pages.filter((n) => n !== 1), pages.filter((n) => n !== 1), pages]);
      refill();
      m.onCpu(1);
      m.pe.flushRange(1, at(one, 1), at(one, 41));
      expect([old(0, one), old(1, one), old(0, two)]).toEqual([[0, 100, 600], [0, 100, 600], pages]);
      refill();
      m.pe.flushRange(1, at(one, 0), at(one, 601));
      expect([old(0, one), old(0, two)]).toEqual([[], pages]);
      refill();
      m.pe.flushMm(2);
      expect([old(0, one), old(1, two)]).toEqual([pages, []]);
      refill();
      m.onCpu(1);
      m.pe.tlbi(-1, tlbiOp("vmalle1is"), 0, 0);
      expect(old(0, one)).toEqual(pages);
      m.onCpu(1);
      m.pe.hostDsb(11);
      expect([old(0, one), old(1, two)]).toEqual([[], []]);
    }
  });

  it("drop every piece of a block by one address in it", () => {
    const m = new Rig();
    const mm = new Mm(m, 1);
    mm.map(0x7f1200000000, 0x42200000, USER, 0, 2);
    for (let n = 0; n < 8; n++) mm.look(0x7f1200000000 + n * 4096);
    mm.unmap(0x7f1200000000, 2);
    expect(mm.look(0x7f1200003000)).toBe(0x42203000);
    m.pe.flushPage(1, 0x7f1200001000);
    for (let n = 0; n < 8; n++) expect(mm.look(0x7f1200000000 + n * 4096)).toBe(-1);
  });

  it("issue the kernel's sequence: barrier, TLBI, barrier, ranges in growing powers", () => {
    const m = new Rig();
    m.listen("tlbi", "dsb");
    m.pe.flushRange(7, HVA, HVA + 67 * 4096);
    // 67 pages: one alone, 2 by SCALE 0, 64 by SCALE 1.
    expect(
      m.events.map((e) => (e["event"] === "dsb" ? `dsb ${e["type"] as string}` : `${e["op"] as string} ${e["operand"] as string}`)),
    ).toEqual(["dsb ishst", "vae1is 0x70007f1234567", "rvae1is 0x74007f1234568", "rvae1is 0x75007f123456a", "dsb ish"]);
    expect(m.pe.maintenance.pendingAnywhere()).toBe(0);
    const plain = new Rig({ cpu: customProfile("max", { tlbiRange: false }) });
    plain.listen("tlbi");
    plain.pe.flushRange(7, HVA, HVA + 3 * 4096);
    expect(plain.events.map((e) => e["op"])).toEqual(["vae1is", "vae1is", "vae1is"]);
  });

  it("agree with a list of mappings under any maps, unmaps and correct flushes", () => {
    const step = fc.record({ op: fc.constantFrom("map", "unmap", "look", "look", "write"), n: fc.nat(5), mm: fc.nat(1), cpu: fc.nat(1) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const m = new Rig();
        m.listen("stale_translation");
        const mms = [new Mm(m, 1), new Mm(m, 2)];
        const model = [new Map<number, number>(), new Map<number, number>()];
        const at = (n: number) => HVA + n * 0x1ff000;
        for (const s of steps) {
          const mm = mms[s.mm]!;
          const pages = model[s.mm]!;
          m.onCpu(s.cpu);
          if (s.op === "map" || s.op === "unmap") {
            if (pages.has(s.n)) {
              mm.unmap(at(s.n));
              m.pe.flushPage(s.mm + 1, at(s.n));
              pages.delete(s.n);
            }
            if (s.op === "map") {
              const pa = m.page();
              mm.map(at(s.n), pa);
              pages.set(s.n, pa);
            }
          } else expect(mm.look(at(s.n) + 8, s.op === "write")).toBe(pages.has(s.n) ? pages.get(s.n)! + 8 : -1);
        }
        expect(m.events.length).toBe(0);
      }),
      { numRuns: 100 },
    );
  });
});
