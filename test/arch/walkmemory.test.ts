/** What a stage-2 walk remembers of the last one, where no TLB and no walk cache helps: it must come to what a walk from the root comes to. */
import { describe, expect, it } from "vitest";
import { leafHi, leafLo, stage2Lo, tableLo } from "../../src/arch/descriptors.js";
import * as R from "../../src/arch/registers.js";
import { CTX_STAGE2, W_TAG } from "../../src/arch/tlb.js";
import { PE_EL2, PE_OK } from "../../src/arch/translation.js";
import { Rig } from "./rig.js";

const IPA = 0x80000000;

/** ALLE1IS and its DSB: the next access walks. */
function forget(m: Rig): void {
  m.pe.hypTlbi(4, true, 0, 0, 0);
  m.pe.hostDsb(11);
}
/** Reads through a walk. @returns the PA that it came to, -1: an abort */
function walked(m: Rig, ipa: number, v = m.v): number {
  forget(m);
  const hi = (ipa / 4294967296) | 0;
  const rc = m.pe.read(v, hi, ipa | 0, 8, 0);
  if (rc === PE_EL2) return -1;
  expect(rc).toBe(PE_OK);
  const e = m.pe.tlbs.combined.a;
  const i = m.pe.tlbs.combinedAt(0, hi, ipa | 0);
  return (e[i + 7]! >>> 0) * 4294967296 + (e[i + 6]! >>> 0);
}
/** A table whose only entry is the first: a page. */
function tableOf(m: Rig, pa: number): number {
  const table = m.tables.alloc();
  m.tables.write(m.tables.word(table), 3, leafHi(pa, 0), leafLo(pa, 3, stage2Lo(6, 3, 3, true)));
  return table;
}
function link(m: Rig, word: number, level: number, table: number): void {
  m.tables.write(word, level, leafHi(table, 0), tableLo(table));
}

describe("a stage-2 walk after the last one", () => {
  it("takes as long, and caches as much, as from the root", () => {
    const m = new Rig();
    m.ram(IPA);
    m.ram(IPA + 0x200000);
    const cost = (ipa: number): number => {
      const from = m.sim.agents.now;
      walked(m, ipa);
      return m.sim.agents.now - from;
    };
    const first = cost(IPA);
    expect(cost(IPA)).toBe(first);
    const { tlbs } = m.pe;
    expect(tlbs.walk2.a[tlbs.walkAt(0, 0, IPA | 0) + W_TAG]).toBe(tlbs.findContext(0, CTX_STAGE2, 1, 0));
    expect(cost(IPA + 0x200000)).toBe(first);
  });

  it("comes to the table of its own 2 MiB, GiB and 4 GiB", () => {
    const m = new Rig();
    const ipas = [IPA, IPA + 0x200000, IPA + 0x40000000, IPA + 2 ** 32];
    const pages = ipas.map((ipa) => m.ram(ipa));
    for (let a = 0; a < 4; a++) {
      for (let b = 0; b < 4; b++) expect([walked(m, ipas[a]!), walked(m, ipas[b]!)]).toEqual([pages[a], pages[b]]);
    }
  });

  it("comes to a block, a hole or another table in the place of the one before", () => {
    const m = new Rig();
    const page = m.ram(IPA);
    const word = m.entry(IPA, 2);
    expect(walked(m, IPA)).toBe(page);
    const other = m.page();
    link(m, word, 2, tableOf(m, other));
    expect(walked(m, IPA)).toBe(other);
    m.tables.write(word, 2, 0, 0);
    expect(walked(m, IPA)).toBe(-1);
    m.map(IPA, 0x40000000, { level: 2 });
    expect(walked(m, IPA)).toBe(0x40000000);
  });

  it("comes to the table of its own VM", () => {
    const m = new Rig();
    const one = m.ram(IPA);
    const v = m.addVcpu(2);
    const root = m.tables.allocContiguous(2);
    const middle = m.tables.alloc();
    const two = m.page();
    link(m, m.tables.word(root) + 4, 1, middle);
    link(m, m.tables.word(middle), 2, tableOf(m, two));
    m.regs.set64(v, R.VTTBR_EL2, (root / 4294967296) | 0 | (2 << 16), root | 0);
    expect([walked(m, IPA), walked(m, IPA, v), walked(m, IPA), walked(m, IPA, v)]).toEqual([one, two, one, two]);
  });

  it("comes to what the tables are after a rollback", () => {
    const m = new Rig();
    m.ram(IPA + 0x200000);
    const word = m.entry(IPA, 2);
    m.sim.state.startRecording();
    const mark = m.sim.state.mark();
    const before = m.page();
    link(m, word, 2, tableOf(m, before));
    expect(walked(m, IPA)).toBe(before);
    m.sim.state.rollback(mark);
    expect(walked(m, IPA)).toBe(-1);
    m.tables.alloc();
    const after = m.page();
    link(m, word, 2, tableOf(m, after));
    expect(walked(m, IPA)).toBe(after);
  });
});

describe("what both stages give together", () => {
  it("follows type and permission of each leaf, whatever was asked before", () => {
    const m = new Rig();
    m.ram(IPA, { s2ap: 3 });
    m.ram(IPA + 4096, { s2ap: 1 });
    m.ram(IPA + 8192, { s2ap: 3, attr: 5 });
    m.ram(IPA + 12288, { s2ap: 1, attr: 5 });
    const flags = (ipa: number): number => {
      expect(m.read(ipa)).toBe(PE_OK);
      return m.pe.tlbs.combined.a[m.pe.tlbs.combinedAt(0, 0, ipa | 0) + 3]!;
    };
    const want = [0, 4096, 8192, 12288].map((o) => flags(IPA + o));
    expect(new Set(want).size).toBe(4);
    for (const n of [2, 0, 3, 1, 0, 3, 2, 1]) {
      forget(m);
      expect([n, flags(IPA + n * 4096)]).toEqual([n, want[n]]);
    }
    expect(m.write(IPA + 4096, 1)).toBe(PE_EL2);
    expect(m.write(IPA, 1)).toBe(PE_OK);
  });
});
