import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cpuProfile, customProfile } from "../../src/arch/features.js";
import { PE_EL2, PE_OK } from "../../src/arch/pe.js";
import * as R from "../../src/arch/registers.js";
import {
  DSB_ISH,
  DSB_ISHST,
  DSB_NSH,
  DSB_SY,
  ipaOperandHi,
  ipaOperandLo,
  rangeOperandHi,
  rangeOperandLo,
  rangePages,
  tlbiName,
  tlbiOp,
  vaOperandHi,
  vaOperandLo,
} from "../../src/arch/tlbi.js";
import { hex64 } from "../../src/sim/events.js";
import { Rig } from "./rig.js";

describe("TLBI operands", () => {
  it("have the worked values", () => {
    expect(hex64(ipaOperandHi(0x40200000, 2), ipaOperandLo(0x40200000))).toBe("0x600000040200");
    expect(hex64(vaOperandHi(0x7f00, 0x42, 3), vaOperandLo(0x7f00, 0x00200000))).toBe("0x427007f0000200");
    const page = 0x7f0000200000 / 4096;
    expect(hex64(rangeOperandHi(page, 1, 7, 0, 0x42), rangeOperandLo(page))).toBe("0x425387f0000200");
    expect(rangePages(rangeOperandHi(page, 1, 7, 0, 0x42))).toBe(512);
    expect([0, 1, 2, 3].map((s) => [rangePages(rangeOperandHi(0, s, 0, 0, 0)), rangePages(rangeOperandHi(0, s, 31, 0, 0))])).toEqual([
      [2, 64],
      [64, 2048],
      [2048, 65536],
      [65536, 2097152],
    ]);
  });

  it("belong to operations that have names", () => {
    for (const name of ["vmalle1is", "vae1", "rvaale1os", "ipas2e1is", "ripas2le1", "vmalls12e1is", "alle1isnxs", "aside1isnxs"]) {
      expect(tlbiName(tlbiOp(name))).toBe(name);
    }
    expect(() => tlbiOp("vae9")).toThrow(/vae9/);
  });
});

/**
 * Guest virtual pages of the scope tests: A and B are read through ASID 1, C and D through ASID 2 (a
 * direct-mapped TLB holds one of two equal pages), the global G through both.
 */
const PAGES = { A: 0x10000000, B: 0x10001000, C: 0x10002000, D: 0x10003000, G: 0x10004000 } as const;
const VA_A = PAGES.A;
const VA_B = PAGES.B;
const VA_G = PAGES.G;

/**
 * Two ASIDs with tables of their own over one VM. `fill` reads everything on both CPUs; `change`
 * redirects every leaf without any TLBI; `seen` tells which pages still give the old value.
 */
class Scope {
  readonly m: Rig;
  readonly l3: number[] = [];
  readonly l2: number[] = [];
  constructor(cpu = cpuProfile("max")) {
    this.m = new Rig({ cpu });
    const m = this.m;
    for (const asid of [1, 2]) {
      const root = 0x60000000 + asid * 0x10000;
      const r = m.ram(root);
      const l2 = m.ram(root + 0x1000);
      const l3 = m.ram(root + 0x2000);
      m.phys.write(r, 8, (root + 0x1000) | 3, 0);
      m.phys.write(l2 + 128 * 8, 8, (root + 0x2000) | 3, 0);
      this.l2.push(l2);
      this.l3.push(l3);
    }
    for (let n = 0; n < 5; n++) {
      m.phys.write(m.ram(0x80000000 + n * 4096), 8, n + 1, 0);
      m.phys.write(m.ram(0x80010000 + n * 4096), 8, n + 101, 0);
    }
    this.point(0x80000000);
    m.mmuOn(0x60010000);
    m.regs.set64(m.v, R.TCR_EL1, 2 | (1 << 4), 0x00803519);
  }
  private point(ipa: number): void {
    for (const l3 of this.l3) {
      for (let n = 0; n < 5; n++) this.m.phys.write(l3 + n * 8, 8, (ipa + n * 4096) | 0x707 | (n === 4 ? 0 : 0x800), 0);
    }
  }
  change(): void {
    this.point(0x80010000);
  }
  value(cpu: number, asid: number, va: number): number {
    const m = this.m;
    m.onCpu(cpu);
    m.regs.setNum(m.v, R.TTBR0_EL1, 0x60000000 + asid * 0x10000);
    m.regs.pool.set(m.regs.base(m.v) + R.TTBR0_EL1 + 1, asid << 16);
    if (m.read(va) !== PE_OK) throw new Error(`read fault ${m.esr1} ${m.esr2}`);
    return m.pe.d0;
  }
  fill(): void {
    this.seen();
  }
  /** e.g. "0:A 1:G": CPU 0 still has page A, CPU 1 the global page. */
  seen(): string {
    const out: string[] = [];
    for (const cpu of [0, 1]) {
      for (const [asid, names] of [
        [1, "ABG"],
        [2, "CDG"],
      ] as const) {
        for (const name of names) {
          const old = this.value(cpu, asid, PAGES[name as keyof typeof PAGES]) < 100;
          if (old && !out.includes(`${cpu}:${name}`)) out.push(`${cpu}:${name}`);
        }
      }
    }
    return out.sort().join(" ");
  }
  /** Issues a guest operation on CPU 0 and completes it. */
  run(name: string, hi = 0, lo = 0, dsb = DSB_ISH): void {
    this.m.onCpu(0);
    this.m.regs.pool.set(this.m.regs.base(this.m.v) + R.HCR_EL2, R.HCR_VM | R.HCR_PTW);
    this.m.pe.tlbi(this.m.v, tlbiOp(name), hi, lo);
    this.m.pe.dsb(this.m.v, dsb);
  }
}

const ALL = "0:A 0:B 0:C 0:D 0:G 1:A 1:B 1:C 1:D 1:G";
/** All but these pages, on both CPUs. */
const without = (names: string) =>
  ALL.split(" ")
    .filter((x) => !names.includes(x[2]!))
    .join(" ");

describe("TLBI scope", () => {
  const va = (page: number, asid: number, level = 0) => [vaOperandHi(0, asid, level), vaOperandLo(0, page)] as const;
  const range = (page: number, scale: number, num: number, asid: number) =>
    [rangeOperandHi(page / 4096, scale, num, 0, asid), rangeOperandLo(page / 4096)] as const;
  const cases: readonly (readonly [string, readonly number[], string])[] = [
    ["vmalle1is", [0, 0], ""],
    ["vmalle1os", [0, 0], ALL], // DSB ISH is too narrow for it
    ["vmalle1", [0, 0], "1:A 1:B 1:C 1:D 1:G"],
    ["vae1is", va(VA_A, 1), without("A")],
    ["vae1is", va(VA_A, 2), ALL],
    ["vale1is", va(PAGES.C, 2), without("C")],
    ["vae1is", va(VA_G, 1), without("G")],
    ["vaae1is", va(VA_B, 0), without("B")],
    ["vaale1", va(PAGES.D, 7), ALL.replace("0:D ", "")],
    ["aside1is", [1 << 16, 0], without("AB")],
    ["rvae1is", range(VA_A, 0, 0, 1), without("AB")],
    ["rvae1is", range(VA_A, 0, 0, 2), ALL],
    ["rvaae1is", range(VA_B, 0, 0, 0), without("BC")],
    ["rvae1is", range(VA_A - 100 * 4096, 1, 4, 1), without("ABG")],
    ["rvaale1is", range(VA_A - 64 * 4096, 1, 0, 1), ALL],
    ["vae1is", va(VA_A, 1, 2), ALL],
    ["vae1is", va(VA_A, 1, 3), without("A")],
  ];
  for (const [name, [hi, lo], left] of cases) {
    it(`of ${name} ${hex64(hi!, lo!)} leaves ${left === "" ? "nothing" : left}`, () => {
      const s = new Scope();
      s.fill();
      s.change();
      expect(s.seen()).toBe(ALL);
      s.run(name, hi, lo);
      expect(s.seen()).toBe(left);
    });
  }

  it("ignores the level hint on a CPU without FEAT_TTL", () => {
    const s = new Scope(customProfile("max", { ttl: false }));
    s.fill();
    s.change();
    s.run("vae1is", ...va(VA_A, 1, 2));
    expect(s.seen()).toBe(without("A"));
  });

  it("of a last-level operation keeps the walk cache, of the other drops it", () => {
    for (const [name, old] of [
      ["vale1is", true],
      ["vae1is", false],
    ] as const) {
      const s = new Scope();
      s.value(0, 1, VA_A);
      // Another level-3 table behind the same level-2 entry; the leaf in the old table stays.
      const table = s.m.ram(0x60050000);
      s.m.phys.write(table, 8, 0x80010f07 | 0, 0);
      s.m.phys.write(s.l2[0]! + 128 * 8, 8, 0x60050003, 0);
      s.run(name, ...va(VA_A, 1));
      expect([name, s.value(0, 1, VA_A)]).toEqual([name, old ? 1 : 101]);
    }
  });

  it("of another VMID or the host touches nothing of this guest", () => {
    const s = new Scope();
    s.fill();
    s.change();
    s.m.pe.hypTlbi(3, true, 2, 0, 0);
    s.m.pe.tlbi(-1, tlbiOp("vmalle1is"), 0, 0);
    s.m.pe.hostDsb(DSB_ISH);
    expect(s.seen()).toBe(ALL);
    s.m.pe.hypTlbi(4, true, 0, 0, 0);
    s.m.pe.hostDsb(DSB_ISH);
    expect(s.seen()).toBe("");
  });

  it("of VAE1 drops every piece of a stage-1 block that contains the address", () => {
    const s = new Scope();
    const m = s.m;
    // A 2 MiB stage-1 block at VA 0x10400000 over pages of stage 2.
    m.phys.write(s.l2[0]! + 130 * 8, 8, 0x90000f05 | 0, 0);
    for (let n = 0; n < 4; n++) m.phys.write(m.ram(0x90000000 + n * 4096), 8, 7, 0);
    for (let n = 0; n < 4; n++) m.phys.write(m.ram(0x90200000 + n * 4096), 8, 8, 0);
    const at = (n: number) => s.value(0, 1, 0x10400000 + n * 4096);
    expect([0, 1, 2, 3].map(at)).toEqual([7, 7, 7, 7]);
    m.phys.write(s.l2[0]! + 130 * 8, 8, 0x90200f05 | 0, 0);
    expect([0, 1, 2, 3].map(at)).toEqual([7, 7, 7, 7]);
    s.run("vae1is", ...va(0x10402000, 1));
    expect([0, 1, 2, 3].map(at)).toEqual([8, 8, 8, 8]);
  });
});

describe("stage-2 invalidation", () => {
  const flush = (m: Rig, ipa: number, level = 0) => m.pe.hypTlbi(0, true, 1, ipaOperandHi(ipa, level), ipaOperandLo(ipa));

  it("by IPA leaves combined entries; VMALLE1 after a DSB drops them", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.write(0x80000000, 42);
    m.listen("stale_translation");
    m.unmap(0x80000000);
    flush(m, 0x80000000);
    m.pe.hostDsb(DSB_ISH);
    expect([m.read(0x80000000), m.pe.d0]).toEqual([PE_OK, 42]);
    expect(m.events.map((e) => [e["va"], e["ipa"], e["now"], e["regime"]])).toEqual([["0x80000000", 0x80000000, -1, "guest"]]);
    m.pe.hypTlbi(2, true, 1, 0, 0);
    m.pe.hostDsb(DSB_ISH);
    expect(m.read(0x80000000)).toBe(PE_EL2);
    expect(m.events.length).toBe(1);
  });

  it("without the DSB between lets a walk refill from the old stage-2 entry", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.write(0x80000000, 42);
    m.listen("stale_translation");
    m.unmap(0x80000000);
    m.pe.hypTlbi(2, true, 1, 0, 0);
    m.pe.hostDsb(DSB_ISH);
    // The combined entry is gone, the stage-2 one not: the walk builds the entry anew.
    expect([m.read(0x80000000), m.pe.d0]).toEqual([PE_OK, 42]);
    expect(m.events.length).toBe(1);
  });

  it("is pending until a DSB of the issuing CPU for both kinds of access and a wide enough domain", () => {
    for (const [type, cpu, completes] of [
      [DSB_ISHST, 0, false],
      [9, 0, false],
      [DSB_NSH, 0, false],
      [DSB_ISH, 1, false],
      [DSB_ISH, 0, true],
      [DSB_SY, 0, true],
      [3, 0, true],
    ] as const) {
      const m = new Rig();
      m.ram(0x80000000);
      m.write(0x80000000, 42);
      m.unmap(0x80000000);
      m.pe.hypTlbi(3, true, 1, 0, 0);
      expect(m.read(0x80000000)).toBe(PE_OK);
      m.onCpu(cpu);
      m.pe.hostDsb(type);
      m.onCpu(0);
      expect([type, cpu, m.read(0x80000000) === PE_EL2]).toEqual([type, cpu, completes]);
      expect(m.pe.maintenance.pendingAnywhere()).toBe(completes ? 0 : 1);
    }
  });

  it("that no DSB completes can be told at the end", () => {
    const m = new Rig();
    m.listen("tlbi_without_dsb");
    m.onCpu(1);
    m.pe.hypTlbi(0, true, 5, 0, 0x1234);
    m.pe.hypTlbi(2, false, 5, 0, 0);
    m.pe.hostDsb(DSB_NSH);
    expect(m.pe.maintenance.reportPending()).toBe(1);
    expect(m.events.map((e) => [e["cpu"], e["op"], e["vmid"], e["operand"]])).toEqual([[1, "ipas2e1is", 5, "0x1234"]]);
    m.pe.hostDsb(DSB_ISH);
    expect(m.pe.maintenance.reportPending()).toBe(0);
  });

  it("drops the walk cache with the entry, so that a freed table is not walked", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.ram(0x80001000);
    m.ram(0x80002000);
    m.read(0x80000000);
    const l2 = m.entry(0x80000000, 2);
    m.tables.write(l2, 2, 0, 0);
    m.listen("stale_translation");
    // Nothing was invalidated: the cached level-3 table still answers for the other page.
    expect(m.read(0x80001000)).toBe(PE_OK);
    expect(m.events.length).toBe(1);
    flush(m, 0x80000000);
    m.pe.hostDsb(DSB_ISH);
    m.pe.hypTlbi(2, true, 1, 0, 0);
    m.pe.hostDsb(DSB_ISH);
    expect(m.read(0x80002000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x92000006");
  });

  it("tells a cached page stale whose table was unlinked, though that table has its descriptor still", () => {
    const m = new Rig();
    for (const ipa of [0x80000000, 0x80001000, 0x80002000]) m.ram(ipa);
    m.read(0x80000000);
    m.read(0x80001000);
    // Combined entries go, those of stage 2 stay.
    m.pe.hypTlbi(2, true, 1, 0, 0);
    m.pe.hostDsb(DSB_ISH);
    m.tables.write(m.entry(0x80000000, 2), 2, 0, 0);
    m.listen("stale_translation");
    const told = (ipa: number) => [m.read(ipa), m.events.splice(0).length];
    expect(told(0x80000000)).toEqual([PE_OK, 1]);
    // By the walk cache, which now knows that the tree no longer names its table; then by the other cached page.
    expect(told(0x80002000)).toEqual([PE_OK, 1]);
    expect(told(0x80001000)).toEqual([PE_OK, 1]);
  });

  it("tells a cached table stale that a store of a device unlinked", () => {
    const m = new Rig();
    for (const ipa of [0x80000000, 0x80001000, 0x80400000]) m.ram(ipa);
    m.read(0x80000000);
    m.phys.write(m.tables.base + m.entry(0x80000000, 2) * 4, 8, 0, 0);
    m.unmap(0x80400000);
    m.listen("stale_translation");
    expect([m.read(0x80001000), m.events.length]).toEqual([PE_OK, 1]);
  });

  it("with a level hint drops only leaves of that level", () => {
    for (const [hint, dropped] of [
      [0, true],
      [1, false],
      [2, true],
      [3, false],
    ] as const) {
      const m = new Rig();
      m.map(0x80000000, 0x41200000, { level: 2 });
      m.read(0x80003000);
      m.map(0x80000000, 0x41400000, { level: 2 });
      m.phys.write(0x41403000, 8, 9, 0);
      flush(m, 0x80001000, hint);
      m.pe.hostDsb(DSB_ISH);
      m.pe.hypTlbi(2, true, 1, 0, 0);
      m.pe.hostDsb(DSB_ISH);
      m.read(0x80003000);
      expect([hint, m.pe.d0 === 9]).toEqual([hint, dropped]);
    }
  });

  it("by range covers (NUM + 1) << (5 SCALE + 1) pages and no more", () => {
    const m = new Rig();
    for (let n = 0; n < 80; n++) m.ram(0x80000000 + n * 4096);
    for (let n = 0; n < 80; n++) m.read(0x80000000 + n * 4096);
    for (let n = 0; n < 80; n++) m.unmap(0x80000000 + n * 4096);
    m.pe.hypTlbi(1, true, 1, rangeOperandHi(0x80000, 1, 0, 0, 0), rangeOperandLo(0x80000));
    m.pe.hostDsb(DSB_ISH);
    m.pe.hypTlbi(2, true, 1, 0, 0);
    m.pe.hostDsb(DSB_ISH);
    const ok = Array.from({ length: 80 }, (_, n) => m.read(0x80000000 + n * 4096) === PE_OK);
    expect(ok).toEqual(Array.from({ length: 80 }, (_, n) => n >= 64));
  });

  it("of an overflowing list of pending operations drops everything", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.write(0x80000000, 1);
    m.unmap(0x80000000);
    for (let n = 0; n < 100; n++) flush(m, 0x10000000 + n * 4096);
    m.pe.hostDsb(DSB_NSH);
    expect(m.read(0x80000000)).toBe(PE_OK);
    m.pe.hostDsb(DSB_ISH);
    expect(m.read(0x80000000)).toBe(PE_EL2);
  });

  it("of an overflowing list of the host's own operations leaves the guests alone", () => {
    const m = new Rig({ cpu: customProfile("max", { tlbiRange: false }) });
    m.ram(0x80000000);
    m.write(0x80000000, 1);
    m.unmap(0x80000000);
    m.pe.flushRange(1, 0x7f0000000000, 0x7f0000100000);
    expect([m.read(0x80000000), m.pe.maintenance.pendingAnywhere()]).toEqual([PE_OK, 0]);
  });

  it("reports a write through a page that was write-protected without TLBI, once", () => {
    const m = new Rig();
    const pa = m.ram(0x80000000);
    m.write(0x80000000, 1);
    m.listen("stale_translation");
    m.map(0x80000000, pa, { s2ap: 1 });
    expect(m.read(0x80000000)).toBe(PE_OK);
    expect(m.events.length).toBe(0);
    const other = m.ram(0x80001000);
    m.map(0x80001000, other, { s2ap: 1 });
    expect(m.write(0x80000000, 2)).toBe(PE_OK);
    expect(m.write(0x80000000, 3)).toBe(PE_OK);
    expect(m.events.map((e) => [e["pa"], e["now"]])).toEqual([[pa, pa]]);
  });
});

describe("the TLBs against a naive model", () => {
  /**
   * The model keeps, for each IPA page, every output page that a TLB may still hold: those mapped since
   * the last complete invalidation that covered it. An access must use one of these, or fault only when
   * "invalid" is the present state.
   */
  it("use a translation that is present or that no completed TLBI has taken away", () => {
    const ipaOf = (n: number) => 0x80000000 + n * 0x1000 + (n & 4) * 0x100000;
    const step = fc.oneof(
      fc.record({ op: fc.constant("map" as const), n: fc.nat(7) }),
      fc.record({ op: fc.constant("unmap" as const), n: fc.nat(7) }),
      fc.record({ op: fc.constant("read" as const), n: fc.nat(7), cpu: fc.nat(1) }),
      fc.record({ op: fc.constant("read" as const), n: fc.nat(7), cpu: fc.nat(1) }),
      fc.record({ op: fc.constant("flushIpa" as const), n: fc.nat(7), dsb: fc.boolean() }),
      fc.record({ op: fc.constant("flushVmid" as const), dsb: fc.boolean() }),
      fc.record({ op: fc.constant("other" as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 80 }), fc.boolean(), (steps, recording) => {
        const m = new Rig();
        if (recording) m.sim.state.startRecording();
        const may = Array.from({ length: 8 }, () => new Set<number>());
        const now = Array.from({ length: 8 }, () => -1);
        for (const s of steps) {
          if (s.op === "map") {
            const pa = m.page();
            m.phys.write(pa, 8, pa | 0, 0);
            m.map(ipaOf(s.n), pa);
            now[s.n] = pa;
            may[s.n]!.add(pa);
          } else if (s.op === "unmap") {
            m.unmap(ipaOf(s.n));
            now[s.n] = -1;
          } else if (s.op === "read") {
            m.onCpu(s.cpu);
            const rc = m.read(ipaOf(s.n));
            if (rc === PE_OK) expect(may[s.n]!.has(m.pe.d0 >>> 0)).toBe(true);
            else expect(now[s.n]).toBe(-1);
          } else if (s.op === "other") {
            m.pe.hypTlbi(3, true, 7, 0, 0);
            m.pe.hostDsb(DSB_ISH);
          } else {
            m.onCpu(0);
            if (s.op === "flushIpa") {
              m.pe.hypTlbi(0, true, 1, ipaOperandHi(ipaOf(s.n), 0), ipaOperandLo(ipaOf(s.n)));
              m.pe.hostDsb(DSB_ISH);
              m.pe.hypTlbi(2, true, 1, 0, 0);
            } else m.pe.hypTlbi(3, true, 1, 0, 0);
            if (!s.dsb) continue;
            m.pe.hostDsb(DSB_ISH);
            for (let n = 0; n < 8; n++) {
              if (s.op === "flushIpa" && n !== s.n) continue;
              may[n]!.clear();
              if (now[n] !== -1) may[n]!.add(now[n]!);
            }
          }
        }
      }),
      { numRuns: 150 },
    );
  });
});

describe("undo", () => {
  it("brings the TLBs back with the rest", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.ram(0x80001000);
    m.write(0x80000000, 5);
    m.sim.state.startRecording();
    const hash = m.sim.state.hash();
    const mark = m.sim.state.mark();
    m.unmap(0x80000000);
    m.read(0x80001000);
    m.pe.hypTlbi(3, true, 1, 0, 0);
    m.pe.hostDsb(DSB_ISH);
    expect(m.read(0x80000000)).toBe(PE_EL2);
    m.sim.state.rollback(mark);
    expect(m.sim.state.hash()).toBe(hash);
    expect([m.read(0x80000000), m.pe.d0]).toEqual([PE_OK, 5]);
  });

  it("keeps guest and host apart when, after it, they come to the TLB in the other order", () => {
    const m = new Rig();
    m.phys.write(m.ram(0x80000000), 8, 5, 0);
    // A host page at the same address: level-0 entry 0, a 1 GiB block.
    const root = m.tables.alloc();
    const l1 = m.tables.alloc();
    m.tables.write(m.tables.word(root), 0, (l1 / 4294967296) | 0, l1 | 3 | 0);
    m.tables.write(m.tables.word(l1) + 4, 1, 0, 0x40000000 | 0x741);
    m.sim.state.startRecording();
    const mark = m.sim.state.mark();
    expect([m.read(0x80000000), m.pe.d0]).toEqual([PE_OK, 5]);
    m.sim.state.rollback(mark);
    // As many contexts as the guest had been given.
    expect(m.pe.hostLookup(root, 1, 0x80000000, false)).toBe(0x40000000);
    expect(m.pe.hostLookup(root, 2, 0x80001000, false)).toBe(0x40001000);
    expect([m.read(0x80000000), m.pe.d0]).toEqual([PE_OK, 5]);
    expect(m.pe.hostLookup(root, 1, 0x80000000, false)).toBe(0x40000000);
  });
});
