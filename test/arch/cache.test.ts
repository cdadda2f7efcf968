/** The data cache against a model that knows only bytes: what is read, what memory holds, and which copy was the newer. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CLEAN, DIRTY, INVALID, type CacheModel } from "../../src/arch/cache.js";
import { BACK_SCRIPT } from "../../src/arch/cacheevents.js";
import { BY_KERNEL, CacheMaintenance, CLEAN_INVALIDATE, CLEAN_POC, CLEAN_POU, INVALIDATE } from "../../src/arch/cachemaintenance.js";
import { cpuProfile } from "../../src/arch/features.js";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { F_CACHED, F_WRITE_THROUGH } from "../../src/arch/tlb.js";
import { Sim } from "../../src/sim/sim.js";
import type { EventRecord } from "../../src/sim/events.js";

const BASE = 0x40000000;
const LINES = 4;
const BYTES = 64 * LINES;
const WB = F_CACHED;
const WT = F_CACHED | F_WRITE_THROUGH;
const NC = 0;

function rig(model: CacheModel = "modelled", cpu = "max", seed = 0) {
  const sim = new Sim();
  sim.agents.add("vmm", "vmm", 0);
  const phys = new PhysicalMemory(sim, { ramBase: BASE, ramSize: 2 ** 24 });
  const ops = new CacheMaintenance(sim, phys, cpuProfile(cpu), { model, seed, cpus: 2 });
  const events: EventRecord[] = [];
  sim.bus.on("*", (e) => events.push(e));
  return { sim, phys, ops, data: ops.caches!.data, instr: ops.caches!.instr, events };
}
type Rig = ReturnType<typeof rig>;

/** Reads through the result fields of phys. */
function bytesOf(phys: PhysicalMemory, size: number): number[] {
  const w = [phys.lo, phys.hi, phys.lo2, phys.hi2];
  return Array.from({ length: size }, (_, n) => (w[n >> 2]! >>> ((n & 3) * 8)) & 0xff);
}
function wordsOf(bytes: readonly number[]): [number, number, number, number] {
  const w: [number, number, number, number] = [0, 0, 0, 0];
  for (const [n, b] of bytes.entries()) w[n >> 2]! |= b << ((n & 3) * 8);
  return w;
}

/** Bytes in memory, lines with bytes of their own, and for every byte the value written last, by whatever way. */
class Naive {
  readonly memory = new Uint8Array(BYTES);
  readonly newest = new Uint8Array(BYTES);
  readonly lines: ({ bytes: Uint8Array; dirty: boolean } | undefined)[] = Array.from({ length: LINES }, () => undefined);
  constructor(private readonly snooped: boolean) {}

  line(n: number): { bytes: Uint8Array; dirty: boolean } {
    return (this.lines[n] ??= { bytes: this.memory.slice(64 * n, 64 * n + 64), dirty: false });
  }
  read(at: number, type: number): number {
    const n = at >> 6;
    if (type !== NC) return this.line(n).bytes[at & 63]!;
    const l = this.lines[n];
    return this.snooped && l !== undefined ? l.bytes[at & 63]! : this.memory[at]!;
  }
  write(at: number, type: number, v: number): void {
    const n = at >> 6;
    this.newest[at] = v;
    const l = type === WB ? this.line(n) : this.lines[n];
    if (type === WB || (type === NC && this.snooped && l !== undefined)) {
      l!.bytes[at & 63] = v;
      l!.dirty = true;
      return;
    }
    this.memory[at] = v;
    if (type === WT && l !== undefined) l.bytes[at & 63] = v;
  }
  clean(n: number): void {
    const l = this.lines[n];
    if (l === undefined || !l.dirty) return;
    this.memory.set(l.bytes, 64 * n);
    l.dirty = false;
    // What was newer in memory is lost; both copies agree now.
    this.newest.set(l.bytes, 64 * n);
  }
  drop(n: number): void {
    if (this.lines[n]?.dirty === true) this.newest.set(this.memory.subarray(64 * n, 64 * n + 64), 64 * n);
    this.lines[n] = undefined;
  }
}

type Op =
  | { kind: "read"; type: number; at: number; size: number }
  | { kind: "write"; type: number; at: number; bytes: number[] }
  | { kind: "dma"; snoop: boolean; at: number; bytes: number[] | undefined }
  | { kind: "line"; what: "clean" | "invalidate" | "clean-invalidate" | "evict" | "speculate"; n: number };

const type = fc.constantFrom(WB, WB, WT, NC);
const place = fc.integer({ min: 0, max: BYTES - 16 });
const byte = fc.integer({ min: 1, max: 255 });
const some = fc.constantFrom(1, 2, 4, 8, 16).chain((n) => fc.array(byte, { minLength: n, maxLength: n }));
const op: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ kind: fc.constant("read" as const), type, at: place, size: fc.constantFrom(1, 2, 4, 8, 16) }),
  fc.record({ kind: fc.constant("write" as const), type, at: place, bytes: some }),
  // A bus master's access is aligned and does not cross a line.
  fc.record({
    kind: fc.constant("dma" as const),
    snoop: fc.boolean(),
    at: place.map((a) => a & ~7),
    bytes: fc.option(fc.array(byte, { minLength: 8, maxLength: 8 }), { nil: undefined }),
  }),
  fc.record({
    kind: fc.constant("line" as const),
    what: fc.constantFrom("clean", "invalidate", "clean-invalidate", "evict", "speculate" as const),
    n: fc.integer({ min: 0, max: LINES - 1 }),
  }),
);

/** One operation on both. @returns the bytes that each read */
function apply(r: Rig, m: Naive, o: Op): { got: number[]; want: number[]; newest: number[] } | undefined {
  const { phys, data, ops } = r;
  switch (o.kind) {
    case "read": {
      const want = Array.from({ length: o.size }, (_, n) => m.read(o.at + n, o.type));
      const newest = Array.from({ length: o.size }, (_, n) => m.newest[o.at + n]!);
      data.load(BASE + o.at, o.size, o.type);
      return { got: bytesOf(phys, o.size), want, newest };
    }
    case "write": {
      data.store(BASE + o.at, o.bytes.length, o.type, ...wordsOf(o.bytes));
      for (const [n, b] of o.bytes.entries()) m.write(o.at + n, o.type, b);
      return undefined;
    }
    case "dma": {
      const n = o.at >> 6;
      if (o.bytes === undefined) {
        const cached = o.snoop ? m.lines[n] : undefined;
        const want = Array.from({ length: 8 }, (_, k) => cached?.bytes[(o.at + k) & 63] ?? m.memory[o.at + k]!);
        data.dmaRead(BASE + o.at, 8, o.snoop);
        return { got: bytesOf(phys, 8), want, newest: want };
      }
      const [lo, hi] = wordsOf(o.bytes);
      data.dmaWrite(BASE + o.at, 8, o.snoop, lo, hi);
      if (o.snoop) {
        m.clean(n);
        m.drop(n);
      }
      for (const [k, b] of o.bytes.entries()) {
        m.memory[o.at + k] = b;
        m.newest[o.at + k] = b;
      }
      return undefined;
    }
    case "line": {
      const pa = BASE + 64 * o.n;
      if (o.what === "clean") ops.dcache(pa, 64, CLEAN_POC, BY_KERNEL);
      else if (o.what === "invalidate") ops.dcache(pa, 64, INVALIDATE, BY_KERNEL);
      else if (o.what === "clean-invalidate") ops.dcache(pa, 64, CLEAN_INVALIDATE, BY_KERNEL);
      else if (o.what === "evict") data.evictAt(pa, BACK_SCRIPT);
      else data.speculate(pa);
      if (o.what === "speculate") m.line(o.n);
      else if (o.what === "invalidate") m.drop(o.n);
      else m.clean(o.n);
      if (o.what === "clean-invalidate" || o.what === "evict") m.drop(o.n);
      return undefined;
    }
  }
}

describe("the data cache", () => {
  it.each([
    ["modelled", false],
    ["coherent", true],
  ] as const)("%s: every read gives what the coherence rules say, and memory and line states are those of the rules", (model, snooped) => {
    fc.assert(
      fc.property(fc.array(op, { minLength: 1, maxLength: 60 }), (list) => {
        const r = rig(model);
        const m = new Naive(snooped);
        for (const o of list) {
          const read = apply(r, m, o);
          if (read !== undefined) expect([o, read.got]).toEqual([o, read.want]);
          for (let n = 0; n < LINES; n++) {
            const l = m.lines[n];
            expect(r.data.stateAt(BASE + 64 * n)).toBe(l === undefined ? INVALID : l.dirty ? DIRTY : CLEAN);
          }
        }
        for (let at = 0; at < BYTES; at += 8) {
          r.phys.readMemory(BASE + at, 8);
          expect([at, bytesOf(r.phys, 8)]).toEqual([at, [...m.memory.subarray(at, at + 8)]]);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("says stale_read exactly when a byte that was read is not the one written last", () => {
    fc.assert(
      fc.property(fc.array(op, { minLength: 1, maxLength: 60 }), (list) => {
        const r = rig();
        const m = new Naive(false);
        for (const o of list) {
          r.events.length = 0;
          const read = apply(r, m, o);
          if (read === undefined || o.kind === "dma") continue;
          const stale = r.events.filter((e) => e.event === "stale_read").length;
          expect([o, stale > 0]).toEqual([o, read.got.some((b, n) => b !== read.newest[n])]);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("with a seed evicts and reads ahead on its own, and one coherent writer still reads its own values", () => {
    const r = rig("modelled", "max", 7);
    for (let n = 0; n < 20_000; n++) {
      const pa = BASE + (((n * 88) % 65536) & ~7);
      r.data.store(pa, 8, WB, n, 0, 0, 0);
      r.data.load(pa, 8, WB);
      if (r.phys.lo !== n) throw new Error(`store ${n} reads ${r.phys.lo}`);
    }
    const count = (name: string, why: string) => r.events.filter((e) => e.event === name && e["why"] === why).length;
    expect(count("cache_writeback", "seed")).toBeGreaterThan(3);
    expect(count("cache_fill", "speculation")).toBeGreaterThan(3);
    expect(r.events.some((e) => e.event === "stale_read")).toBe(false);
  });

  it("holds 512 KiB: a ninth line of one set takes the place of the first, written back", () => {
    const r = rig();
    for (let n = 0; n < 9; n++) r.data.store(BASE + n * 65536, 8, WB, n + 1, 0, 0, 0);
    expect(Array.from({ length: 9 }, (_, n) => r.data.stateAt(BASE + n * 65536))).toEqual([
      INVALID,
      ...Array.from({ length: 8 }, () => DIRTY),
    ]);
    r.phys.readMemory(BASE, 8);
    expect(r.phys.lo).toBe(1);
  });

  it("writes a dirty line back whole: bytes that were newer in memory are lost, and that is said with the writer", () => {
    const r = rig();
    r.data.store(BASE, 8, WB, 1, 0, 0, 0);
    r.data.store(BASE + 8, 8, NC, 0x0202, 0, 0, 0);
    r.data.evictAt(BASE, BACK_SCRIPT);
    r.phys.readMemory(BASE + 8, 8);
    expect(r.phys.lo).toBe(0);
    expect(r.events.filter((e) => e.event === "write_lost")).toMatchObject([{ pa: BASE, bytes: 2, writer: "vmm", why: "script" }]);
  });

  it("clears and copies pages through the linear map: dirty lines in front of memory that still has the old bytes", () => {
    const r = rig();
    r.phys.writeMemory(BASE, 8, 5, 6);
    r.phys.copyPage(BASE / 4096 + 1, BASE / 4096);
    r.phys.clearPage(BASE / 4096);
    r.phys.readMemory(BASE, 8);
    const old = [r.phys.lo, r.phys.hi];
    r.phys.read(BASE + 4096, 8);
    const copy = [r.phys.lo, r.phys.hi];
    r.phys.read(BASE, 8);
    expect([old, copy, [r.phys.lo, r.phys.hi], r.data.stateAt(BASE)]).toEqual([[5, 6], [5, 6], [0, 0], DIRTY]);
  });
});

describe("the instruction caches", () => {
  const fetch = (r: Rig) => r.instr.fetch(BASE, true);
  const store = (r: Rig, v: number) => r.data.store(BASE, 4, WB, v, 0, 0, 0);

  /** After a store of new code: what a fetch sees with no maintenance, DC CVAU, IC IVAU, both, as [value, said to be stale]. */
  it.each([
    ["neither IDC nor DIC", "max,-idc", [1, 1, 1, 2]],
    ["IDC", "max", [1, 1, 2, 2]],
    ["DIC without IDC", "max,-idc,+dic", [1, 2, 1, 2]],
    ["IDC and DIC", "max,+dic", [2, 2, 2, 2]],
  ] as const)("%s: what a fetch sees after a store", (_, cpu, want) => {
    const after = (...steps: ("cvau" | "ivau")[]) => {
      const r = rig("modelled", cpu);
      store(r, 1);
      r.ops.dcache(BASE, 64, CLEAN_POU, BY_KERNEL);
      fetch(r);
      store(r, 2);
      for (const s of steps) {
        if (s === "cvau") r.ops.dcache(BASE, 64, CLEAN_POU, BY_KERNEL);
        else r.ops.icache(BASE, 64, BY_KERNEL);
      }
      r.events.length = 0;
      const seen = fetch(r);
      expect(r.events.some((e) => e.event === "stale_read" && e["from"] === "icache")).toBe(seen !== 2);
      return seen;
    };
    expect([after(), after("cvau"), after("ivau"), after("cvau", "ivau")]).toEqual(want);
  });

  it("are one for each CPU: IC IALLU of one CPU leaves the others' lines", () => {
    const r = rig();
    r.sim.agents.add("other", "vmm", 1);
    fetch(r);
    r.instr.invalidateAll(1);
    expect(r.instr.holders(BASE)).toEqual([0]);
    r.ops.icache(0, 0, BY_KERNEL, 0);
    expect(r.instr.holders(BASE)).toEqual([]);
  });
});
