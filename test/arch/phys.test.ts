import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WIDENED } from "../../src/arch/pageindex.js";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { CHANGES, LINKS, TablePages } from "../../src/arch/tables.js";
import { Sim } from "../../src/sim/sim.js";
import { MemoryDevice } from "./rig.js";

const BASE = 0x40000000;
const SIZE = 2 ** 40 - 2 ** 30;

function memory(recording = false): { sim: Sim; phys: PhysicalMemory } {
  const sim = new Sim();
  const phys = new PhysicalMemory(sim, { ramBase: BASE, ramSize: SIZE });
  sim.agents.add("a", "vmm", 0);
  if (recording) sim.state.startRecording();
  return { sim, phys };
}

/** Bytes as the model keeps them: nothing but a map. */
class Bytes {
  readonly map = new Map<number, number>();
  write(pa: number, size: number, words: readonly number[]): void {
    for (let i = 0; i < size; i++) this.map.set(pa + i, (words[i >> 2]! >>> ((i & 3) * 8)) & 0xff);
  }
  read(pa: number, size: number): number[] {
    const out = [0, 0, 0, 0];
    for (let i = 0; i < size; i++) out[i >> 2]! |= (this.map.get(pa + i) ?? 0) << ((i & 3) * 8);
    return out;
  }
  clear(page: number): void {
    for (let i = 0; i < 4096; i++) this.map.delete(page + i);
  }
  copy(dst: number, src: number): void {
    this.clear(dst);
    for (let i = 0; i < 4096; i++) {
      const b = this.map.get(src + i);
      if (b !== undefined) this.map.set(dst + i, b);
    }
  }
}

/** Few pages, far apart, so that steps meet each other. */
const PAGES = [BASE, BASE + 4096, BASE + 0x1000000, BASE + 2 ** 39 + 0x7000, BASE + SIZE - 4096];
const page = fc.constantFrom(...PAGES);
const step = fc.oneof(
  fc.record({
    op: fc.constant("write" as const),
    page,
    offset: fc.nat(4095),
    size: fc.constantFrom(1, 2, 4, 8, 16),
    words: fc.tuple(fc.integer(), fc.integer(), fc.integer(), fc.integer()),
    zero: fc.boolean(),
  }),
  fc.record({ op: fc.constant("read" as const), page, offset: fc.nat(4095), size: fc.constantFrom(1, 2, 4, 8, 16) }),
  fc.record({ op: fc.constant("clear" as const), page }),
  fc.record({ op: fc.constant("copy" as const), page, from: page }),
);

describe("physical memory", () => {
  it("keeps pages whose lines have numbers that no slot has room for, or that use the sign bit of an entry", () => {
    for (const made of [2 ** 23 - 2, 2 ** 24 - 2]) {
      const { sim, phys } = memory();
      // As if so many lines had been made before.
      sim.state.pools.find((p) => p.name === "phys.meta")!.set(0, made);
      for (let i = 0; i < 12; i++) phys.write(BASE + (i >> 1) * 4096 + 2048 * (i & 1), 8, i + 1, -i);
      phys.copyPage(BASE / 4096 + 10, BASE / 4096 + 5);
      phys.clearPage(BASE / 4096 + 4);
      const words = [...Array(12).keys(), 20, 21].map((i) => {
        phys.read(BASE + (i >> 1) * 4096 + 2048 * (i & 1), 8);
        return phys.lo;
      });
      expect(words).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 11, 12, 11, 12]);
    }
  });

  it("agrees with a map of bytes under any writes, reads, clears and copies", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.boolean(), (steps, recording) => {
        const { phys } = memory(recording);
        const model = new Bytes();
        for (const s of steps) {
          if (s.op === "write" || s.op === "read") {
            const offset = Math.min(s.offset, 4096 - s.size);
            if (s.op === "write") {
              const w = s.zero ? [0, 0, 0, 0] : s.words;
              phys.write(s.page + offset, s.size, w[0]!, w[1]!, w[2]!, w[3]!);
              model.write(s.page + offset, s.size, w);
            }
            phys.read(s.page + offset, s.size);
            const got = [phys.lo, s.size > 4 ? phys.hi : 0, s.size > 8 ? phys.lo2 : 0, s.size > 8 ? phys.hi2 : 0].map((x) => x | 0);
            expect(got).toEqual(model.read(s.page + offset, s.size).map((x) => x | 0));
          } else if (s.op === "clear") {
            phys.clearPage(s.page / 4096);
            model.clear(s.page);
          } else {
            phys.copyPage(s.page / 4096, s.from / 4096);
            if (s.page !== s.from) model.copy(s.page, s.from);
          }
        }
        for (const p of PAGES) {
          for (let o = 0; o < 4096; o += 8) {
            phys.read(p + o, 8);
            expect([phys.lo, phys.hi]).toEqual(
              model
                .read(p + o, 8)
                .slice(0, 2)
                .map((x) => x | 0),
            );
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it("is undone with the rest of the state", () => {
    const { sim, phys } = memory(true);
    phys.write(BASE, 8, 1, 2);
    const hash = sim.state.hash();
    const mark = sim.state.mark();
    for (let i = 0; i < 4096; i += 8) phys.write(BASE + i, 8, i, ~i);
    phys.clearPage(BASE / 4096);
    sim.state.rollback(mark);
    expect(sim.state.hash()).toBe(hash);
    phys.read(BASE, 8);
    expect([phys.lo, phys.hi]).toEqual([1, 2]);
  });

  it("keeps a cleared page without data, one line for one store, and reuses what is freed", () => {
    const { phys } = memory();
    phys.write(BASE, 8, 0, 0);
    expect(phys.isClear(BASE / 4096)).toBe(true);
    const before = phys.dataBytes();
    for (let n = 0; n < 10_000; n++) {
      phys.write(BASE + (n % 7) * 4096, 8, 1, 0);
      phys.clearPage(BASE / 4096 + (n % 7));
    }
    expect(phys.dataBytes()).toBeLessThan(before + 4096);
  });

  it("costs index space only where memory is touched", () => {
    const { sim, phys } = memory();
    const bytes = () => sim.state.pools.filter((p) => p.name.startsWith("phys.")).reduce((sum, p) => sum + p.a.byteLength, 0);
    const before = bytes();
    phys.write(BASE + SIZE - 8, 8, 1, 1);
    expect(bytes() - before).toBeLessThan(64 * 1024);
    // 4 bytes for each 256 KiB of RAM, of which the untouched part never becomes resident.
    expect(before).toBeLessThan(17 * 1024 * 1024);
  });

  it("knows RAM, the table window, devices, and what nothing claims", () => {
    const sim = new Sim();
    sim.agents.add("a", "vmm", 0);
    const phys = new PhysicalMemory(sim, { ramBase: BASE, ramSize: 0x10000000 });
    const tables = new TablePages(sim, phys, { base: BASE + 0x10000000, size: 0x100000 });
    const device = new MemoryDevice(phys);
    const window = phys.addWindow(0x10000000, 4096, device);
    expect([BASE - 1, BASE, BASE + 0x0fffffff, BASE + 0x10000000, BASE + 0x10100000, 0x10000000].map((p) => phys.isRam(p))).toEqual([
      false,
      true,
      true,
      true,
      false,
      false,
    ]);
    const events: string[] = [];
    sim.bus.on("bus_unclaimed", (e) => events.push(`${e["write"] ? "w" : "r"}${e["size"]} ${e["pa"]}`));
    phys.read(0x20000000, 2);
    expect([phys.lo, phys.hi]).toEqual([0xffff, 0]);
    phys.write(0x20000000, 4, 1);
    expect(events).toEqual(["r2 536870912", "w4 536870912"]);
    phys.write(0x10000004, 4, 0x12345678);
    phys.read(0x10000000, 16);
    expect([phys.lo, phys.hi, phys.lo2]).toEqual([0, 0x12345678, 0]);
    phys.placeWindow(window, 0x30000000);
    expect([phys.windowAt(0x10000000), phys.windowAt(0x30000fff), phys.windowAt(0x30001000)]).toEqual([-1, window, -1]);
    phys.placeWindow(window, -1);
    expect(phys.windowAt(0x30000000)).toBe(-1);
    const t = tables.alloc();
    tables.write(tables.word(t) + 6, 3, 0x11, 0x22);
    phys.read(t + 24, 8);
    expect([phys.lo, phys.hi]).toEqual([0x22, 0x11]);
    phys.write(t + 24, 4, 0x33);
    expect(tables.words.a[tables.word(t + 24)]).toBe(0x33);
  });
});

describe("the page index", () => {
  /** Pages of two neighbouring chunks, and one of a run far off. */
  const CLOSE = [0, 1, 2, 3, 4, 15, 16, 17, 63, 64, 65, 127, 4096].map((n) => BASE + n * 4096);
  const near = fc.constantFrom(...CLOSE);
  // Mostly of one line of a page, so that chunks stay narrow for a while.
  const offset = fc.oneof({ weight: 8, arbitrary: fc.constant(64) }, { weight: 1, arbitrary: fc.nat(4095) });
  const close = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ op: fc.constant("write" as const), page: near, offset, word: fc.integer(), bySlot: fc.boolean() }),
    },
    fc.record({ op: fc.constant("clear" as const), page: near, count: fc.integer({ min: 1, max: 70 }) }),
    { weight: 2, arbitrary: fc.record({ op: fc.constant("copy" as const), page: near, from: near }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constantFrom("full" as const, "wide" as const), page: near }) },
  );
  const bytesOf = (sim: Sim, name: string) => sim.state.pools.find((p) => p.name === name)!.bytes;

  /** What a TLB entry that was made with this slot reads of its page now. */
  function readBySlot(phys: PhysicalMemory, slot: number, pa: number, o: number): void {
    const gone = slot < 0 && phys.dir.a[~slot] === WIDENED;
    const now = gone ? phys.slot(pa) : slot;
    phys.readRef(now >= 0 ? phys.dir.a[now]! : phys.narrowRef(now, pa | 0), o, 8);
  }

  it("agrees with a map of bytes while chunks are narrow, widened and hold full pages, by slots old and new, and is undone", () => {
    fc.assert(
      fc.property(fc.array(close, { maxLength: 80 }), fc.nat(80), (steps, half) => {
        const { sim, phys } = memory(true);
        const model = new Bytes();
        const slots = CLOSE.map((p) => phys.slot(p));
        let mark = sim.state.mark();
        let hash = sim.state.hash();
        let kept = new Bytes();
        const agree = (m: Bytes): void => {
          for (const [i, p] of CLOSE.entries()) {
            const data = [...m.map].some(([pa, byte]) => pa >= p && pa < p + 4096 && byte !== 0);
            // A page that says that it is clear has no data; one with data of zeros need not say so.
            if (phys.isClear(p / 4096)) expect([p, data]).toEqual([p, false]);
            if (slots[i]! < 0 && phys.dir.a[~slots[i]!] === 0) expect([p, data]).toEqual([p, false]);
            for (const o of [0, 56, 64, 72, 2048, 4088]) {
              const want = m.read(p + o, 8).slice(0, 2);
              readBySlot(phys, slots[i]!, p, o);
              expect([p, o, phys.lo | 0, phys.hi | 0]).toEqual([p, o, want[0]! | 0, want[1]! | 0]);
              phys.read(p + o, 8);
              expect([p, o, phys.lo | 0, phys.hi | 0]).toEqual([p, o, want[0]! | 0, want[1]! | 0]);
            }
          }
        };
        for (const [n, s] of steps.entries()) {
          if (n === half) {
            mark = sim.state.mark();
            hash = sim.state.hash();
            kept = new Bytes();
            for (const [pa, byte] of model.map) kept.map.set(pa, byte);
          }
          if (s.op === "write") {
            const o = Math.min(s.offset, 4088);
            const slot = s.bySlot ? slots[CLOSE.indexOf(s.page)]! : 0;
            // As a store by a TLB entry.
            if (slot >= 0 || !phys.writeNarrow(slot, s.page | 0, o, 8, s.word, 0, 0, 0)) phys.write(s.page + o, 8, s.word, 0);
            model.write(s.page + o, 8, [s.word, 0]);
          } else if (s.op === "clear") {
            phys.clearPages(s.page / 4096, s.count);
            for (let i = 0; i < s.count; i++) if (CLOSE.includes(s.page + i * 4096)) model.clear(s.page + i * 4096);
          } else if (s.op === "copy") {
            phys.copyPage(s.page / 4096, s.from / 4096);
            if (s.page !== s.from) model.copy(s.page, s.from);
          } else {
            const slot = phys.wideSlot(s.page);
            if (s.op === "full" && phys.dir.a[slot]! > 0) phys.fullPage(slot);
          }
        }
        agree(model);
        sim.state.rollback(mark);
        expect(sim.state.hash()).toBe(hash);
        agree(kept);
      }),
      { numRuns: 100 },
    );
  });

  it("costs 80 bytes and a line each for 64 pages with one line, 256 bytes more once one has two", () => {
    const { sim, phys } = memory();
    const grown = (): number[] => ["phys.top", "phys.mid", "phys.index", "phys.recs"].map((name) => bytesOf(sim, name));
    const before = grown();
    // Past the room that the pools begin with.
    for (let i = 0; i < 8192; i++) phys.write(BASE + i * 4096, 8, i + 1);
    const dir = bytesOf(sim, "phys.dir");
    const lines = bytesOf(sim, "phys.lines");
    for (let i = 8192; i < 8192 + 64; i++) phys.write(BASE + i * 4096, 8, i + 1);
    expect([bytesOf(sim, "phys.dir") - dir, bytesOf(sim, "phys.lines") - lines]).toEqual([80, 64 * 32]);
    expect(grown()).toEqual(before);
    phys.write(BASE + 8192 * 4096 + 32, 8, 1);
    expect(bytesOf(sim, "phys.dir") - dir).toBe(80 + 256);
    // Nothing to free in a run that is all in use: the second line is a new one.
    expect(bytesOf(sim, "phys.lines") - lines).toBe(65 * 32);
    for (let i = 0; i < 8192 + 64; i++) {
      phys.read(BASE + i * 4096, 8);
      expect(phys.lo).toBe(i + 1);
    }
  });

  it("takes the lines of a run when the first of its pages gets data, and gives back what nobody used when widened", () => {
    const { sim, phys } = memory();
    for (let i = 0; i < 64; i++) phys.write(BASE + 2 ** 30 + i * 4096, 8, 1);
    const lines = bytesOf(sim, "phys.lines");
    phys.write(BASE + 5 * 4096, 8, 1);
    expect(bytesOf(sim, "phys.lines") - lines).toBe(16 * 32);
    // The fifteen others serve the page itself and its neighbours.
    for (let i = 1; i < 8; i++) phys.write(BASE + 5 * 4096 + 32 * i, 8, 1);
    for (let i = 0; i < 8; i++) phys.write(BASE + 40 * 4096 + 32 * i, 8, 1);
    expect(bytesOf(sim, "phys.lines") - lines).toBe(16 * 32);
    phys.write(BASE + 41 * 4096, 8, 1);
    expect(bytesOf(sim, "phys.lines") - lines).toBe(17 * 32);
  });

  it("does not see what a page held before it was cleared", () => {
    const { phys } = memory();
    phys.write(BASE, 16, 1, 2, 3, 4);
    phys.clearPages(BASE / 4096, 512);
    phys.write(BASE + 8, 4, 5);
    phys.read(BASE, 16);
    expect([phys.lo, phys.hi, phys.lo2, phys.hi2]).toEqual([0, 0, 5, 0]);
  });
});

describe("translation-table pages", () => {
  it("come cleared, counted and aligned, and go back to be reused", () => {
    const { sim, phys } = memory();
    const tables = new TablePages(sim, phys, { base: BASE + SIZE, size: 0x1000000 });
    const one = tables.alloc();
    const sixteen = tables.allocContiguous(16);
    const two = tables.allocContiguous(2);
    expect([sixteen % 65536, two % 8192, tables.pagesUsed]).toEqual([0, 0, 19]);
    tables.write(tables.word(one) + 100, 3, 5, 7);
    expect(tables.count(one)).toBe(1);
    tables.get(one);
    expect([tables.count(one), tables.put(one)]).toEqual([2, 1]);
    tables.free(one);
    const again = tables.alloc();
    expect(again).toBe(one);
    expect(tables.words.a[tables.word(again) + 100]).toBe(0);
    tables.free(sixteen, 16);
    expect(tables.allocContiguous(16)).toBe(sixteen);
    const all = new Set<number>();
    for (let i = 0; i < 40; i++) all.add(tables.alloc());
    expect(all.size).toBe(40);
    for (const p of all) expect((p >= sixteen && p < sixteen + 65536) || (p >= two && p < two + 8192)).toBe(false);
  });

  it("count changes of valid descriptors, and those of table descriptors apart", () => {
    const { sim, phys } = memory();
    const tables = new TablePages(sim, phys, { base: BASE + SIZE, size: 0x1000000 });
    const w = tables.word(tables.alloc());
    const writes: [level: number, lo: number, changes: number, links: number][] = [
      [3, 0x1003, 0, 0],
      [3, 0x1003, 0, 0],
      [3, 0, 1, 0],
      [3, 0x400, 1, 0],
      [3, 0, 1, 0],
      [2, 0x1003, 1, 0],
      [2, 0x1003, 1, 0],
      [2, 0x2003, 2, 1],
      [2, 0x200001, 3, 2],
      [2, 0, 4, 2],
    ];
    for (const [level, lo, changes, links] of writes) {
      tables.write(w, level, 0, lo);
      expect([tables.changes.a[CHANGES], tables.changes.a[LINKS]]).toEqual([changes, links]);
    }
    tables.suspect();
    expect([tables.changes.a[CHANGES], tables.changes.a[LINKS]]).toEqual([5, 3]);
  });

  it("refuse to grow beyond their window", () => {
    const { sim, phys } = memory();
    const tables = new TablePages(sim, phys, { base: BASE + SIZE, size: 65536 });
    for (let i = 0; i < 16; i++) tables.alloc();
    expect(() => tables.alloc()).toThrow(/full/);
    expect(() => tables.allocContiguous(17)).toThrow(/1 to 16/);
  });
});
