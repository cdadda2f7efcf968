import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { TablePages } from "../../src/arch/tables.js";
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
    tables.write(tables.word(t) + 6, 0x11, 0x22);
    phys.read(t + 24, 8);
    expect([phys.lo, phys.hi]).toEqual([0x22, 0x11]);
    phys.write(t + 24, 4, 0x33);
    expect(tables.words.a[tables.word(t + 24)]).toBe(0x33);
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
    tables.write(tables.word(one) + 100, 5, 7);
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

  it("count only changes of valid descriptors", () => {
    const { sim, phys } = memory();
    const tables = new TablePages(sim, phys, { base: BASE + SIZE, size: 0x1000000 });
    const w = tables.word(tables.alloc());
    const changes = () => tables.changes.a[0];
    tables.write(w, 0, 0x1003);
    expect(changes()).toBe(0);
    tables.write(w, 0, 0x1003);
    expect(changes()).toBe(0);
    tables.write(w, 0, 0);
    expect(changes()).toBe(1);
    tables.write(w, 0, 0x400);
    tables.write(w, 0, 0);
    expect(changes()).toBe(1);
  });

  it("refuse to grow beyond their window", () => {
    const { sim, phys } = memory();
    const tables = new TablePages(sim, phys, { base: BASE + SIZE, size: 65536 });
    for (let i = 0; i < 16; i++) tables.alloc();
    expect(() => tables.alloc()).toThrow(/full/);
    expect(() => tables.allocContiguous(17)).toThrow(/1 to 16/);
  });
});
