import { describe, expect, it } from "vitest";
import { AtOp, DcOp, IcOp } from "../../src/arch/a64system.js";
import { cpuProfile, customProfile } from "../../src/arch/features.js";
import { PE_EL1, PE_EL2, PE_OK } from "../../src/arch/pe.js";
import { ARCHITECTURAL, RECORDED } from "../../src/arch/profile.js";
import * as R from "../../src/arch/registers.js";
import { accessIss } from "../../src/arch/syndrome.js";
import { C_SLOT } from "../../src/arch/tlb.js";
import { BAR, Rig } from "./rig.js";

describe("an access with stage 1 off", () => {
  it("reads what it wrote through a stage-2 page, in every size and at every aligned place", () => {
    const m = new Rig();
    const pa = m.ram(0x80000000);
    for (const size of [1, 2, 4, 8]) {
      for (let o = 0; o < 128; o += size) {
        const value = 0x11 * (o + 1) * size;
        expect(m.write(0x80000000 + o, value, size)).toBe(PE_OK);
        expect(m.read(0x80000000 + o, size)).toBe(PE_OK);
        expect(m.pe.d0 >>> 0).toBe(size < 4 ? value % 2 ** (8 * size) : value);
        m.phys.read(pa + o, size);
        expect(m.phys.lo).toBe(m.pe.d0);
      }
    }
  });

  it("takes the same time by an entry that is older than its page's place in a wide chunk, which follows at the first load, store or fetch", () => {
    const accesses = [(m: Rig, at: number) => m.read(at, 8), (m: Rig, at: number) => m.write(at, 7), (m: Rig, at: number) => m.fetch(at)];
    for (const access of accesses) {
      const m = new Rig();
      const [one, two] = [0x80000000, 0x80001000];
      m.ram(one);
      const pa = m.ram(two);
      const slot = () => m.pe.tlbs.combined.a[m.pe.tlbs.combinedAt(0, 0, two | 0) + C_SLOT]!;
      const timed = (): number => {
        const before = m.sim.agents.clockOf(0);
        expect(access(m, two + 8)).toBe(PE_OK);
        return m.sim.agents.clockOf(0) - before;
      };
      m.write(one, 1);
      m.write(two + 8, 5);
      expect(slot()).toBeLessThan(-1);
      if (access !== accesses[2]) timed();
      const narrow = timed();
      m.write(one + 64, 1);
      expect([timed(), slot()]).toEqual([narrow, m.phys.slot(pa)]);
      expect(slot()).toBeGreaterThan(0);
      expect(timed()).toBe(narrow);
      m.phys.read(pa + 8, 8);
      expect(m.phys.lo).toBe(access === accesses[1] ? 7 : 5);
      if (access !== accesses[1]) expect(m.pe.d0).toBe(5);
    }
  });

  it("faults at the level of the missing stage-2 entry, with the syndrome of the instruction", () => {
    const m = new Rig();
    expect(m.read(0x20000000, 4, accessIss(2, false, 0, false, false))).toBe(PE_EL2);
    expect([m.esr2, m.far2, m.hpfarIpa]).toEqual(["0x93800005", 0x20000000, 0x20000000]);
    m.ram(0x20001000);
    expect(m.write(0x20000010, 1, 8, accessIss(3, false, 2, true, false))).toBe(PE_EL2);
    expect([m.esr2, m.far2, m.hpfarIpa]).toEqual(["0x93c28047", 0x20000010, 0x20000000]);
    expect(m.fetch(0x20200000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x82000006");
    expect(m.read(0x20000000, 16, 0)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x92000007");
  });

  it("reports a write to a read-only leaf as a permission fault and leaves HPFAR alone", () => {
    const m = new Rig();
    m.ram(0x80000000, { s2ap: 1 });
    expect(m.read(0x70000000)).toBe(PE_EL2);
    expect(m.read(0x80000000)).toBe(PE_OK);
    expect(m.write(0x80000008, 1)).toBe(PE_EL2);
    expect([m.esr2, m.far2, m.hpfarIpa]).toEqual(["0x9200004f", 0x80000008, 0x70000000]);
    expect(m.pe.translateIpa(m.v, 0, 0x80000008 | 0)).toBe(0x80000008);
    const written = new Rig({ profile: RECORDED });
    written.ram(0x80000000, { s2ap: 1 });
    expect(written.write(0x80000000, 1)).toBe(PE_EL2);
    expect(written.hpfarIpa).toBe(0x80000000);
  });

  it("uses a permission that was added after a fault without any TLBI", () => {
    const m = new Rig();
    const pa = m.ram(0x80000000, { s2ap: 1 });
    expect(m.read(0x80000000)).toBe(PE_OK);
    expect(m.write(0x80000000, 1)).toBe(PE_EL2);
    m.map(0x80000000, pa, { s2ap: 3 });
    expect(m.write(0x80000000, 1)).toBe(PE_OK);
  });

  it("takes XN with FEAT_XNX by exception level and without it as one bit", () => {
    const expected: Record<string, readonly [number, number]> = {
      0: [PE_OK, PE_OK],
      1: [PE_EL2, PE_OK],
      2: [PE_EL2, PE_EL2],
      3: [PE_OK, PE_EL2],
    };
    for (const xnx of [true, false]) {
      for (let xn = 0; xn < 4; xn++) {
        const m = new Rig({ cpu: customProfile("max", { xnx }) });
        m.ram(0x80000000, { xn });
        const el1 = m.fetch(0x80000000);
        m.regs.pool.set(m.regs.base(m.v) + R.PSTATE, 0);
        const el0 = m.fetch(0x80000000);
        const want = xnx ? expected[xn]! : (xn & 2) !== 0 ? [PE_EL2, PE_EL2] : [PE_OK, PE_OK];
        expect([xnx, xn, el1, el0]).toEqual([xnx, xn, ...want]);
        if (el1 === PE_EL2) expect(m.esr2).toBe("0x8200000f");
      }
    }
  });

  it("fetches from a page that it may execute but not read", () => {
    const m = new Rig();
    const pa = m.ram(0x80000000, { s2ap: 0 });
    m.phys.write(pa, 4, 0xd65f03c0 | 0);
    expect(m.fetch(0x80000000)).toBe(PE_OK);
    expect(m.pe.d0 >>> 0).toBe(0xd65f03c0);
    expect(m.read(0x80000000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x9200000f");
  });

  it("sets the access flag by hardware where VTCR_EL2.HA and the CPU allow, else faults", () => {
    const m = new Rig();
    m.ram(0x80000000, { af: false });
    expect(m.read(0x80000000)).toBe(PE_OK);
    expect(m.tables.words.a[m.entry(0x80000000, 3)]! & 0x400).toBe(0x400);
    for (const o of [{ ha: false }, { cpu: cpuProfile("cortex-a72") }]) {
      const n = new Rig(o);
      n.ram(0x80000000, { af: false });
      expect(n.read(0x80000000)).toBe(PE_EL2);
      expect([n.esr2, n.hpfarIpa]).toEqual(["0x9200000b", 0x80000000]);
    }
  });

  it("calls an IPA beyond VTCR_EL2.T0SZ a level-0 translation fault and a VA beyond the PA size an EL1 address size fault", () => {
    const m = new Rig();
    expect(m.read(2 ** 40)).toBe(PE_EL2);
    expect([m.esr2, m.hpfarIpa]).toEqual(["0x92000004", 2 ** 40]);
    const n = new Rig({ cpu: cpuProfile("cortex-a76") });
    expect(n.read(2 ** 41)).toBe(PE_EL1);
    expect([n.esr1, n.far1]).toEqual(["0x96000000", 2 ** 41]);
  });

  it("maps 2 MiB and 1 GiB blocks", () => {
    const m = new Rig();
    m.map(0x80000000, 0x40200000, { level: 2 });
    m.map(0xc0000000, 0x40000000, { level: 1 });
    m.phys.write(0x40200000 + 0x12348, 8, 0x1234, 0);
    expect(m.read(0x80012348)).toBe(PE_OK);
    expect(m.pe.d0).toBe(0x1234);
    expect(m.read(0xc0212348)).toBe(PE_OK);
    expect(m.pe.d0).toBe(0x1234);
  });

  it("walks a concatenated root by all its index bits", () => {
    for (const [ipaBits, ipa] of [
      [40, 0x845678000],
      [43, 2 ** 42 + 0x45678000],
      [34, 2 ** 33 + 0x5678000],
      [48, 2 ** 47 + 0x45678000],
    ] as const) {
      const m = new Rig({ ipaBits });
      const pa = m.ram(ipa);
      expect(m.write(ipa + 8, 0x77)).toBe(PE_OK);
      m.phys.read(pa + 8, 8);
      expect([ipaBits, m.phys.lo]).toEqual([ipaBits, 0x77]);
    }
  });

  it("reaches a device by accesses of its own sizes", () => {
    const m = new Rig();
    m.map(0x90000000, BAR, { attr: 1 });
    m.device.bytes.set([1, 2, 3, 4, 5, 6, 7, 8], 0x10);
    expect(m.read(0x90000010, 8)).toBe(PE_OK);
    expect([m.pe.d0, m.pe.d1]).toEqual([0x04030201, 0x08070605]);
    expect(m.write(0x90000021, 0xab, 1)).toBe(PE_OK);
    expect(m.read(0x90000030, 16)).toBe(PE_OK);
    expect(m.device.seen).toEqual(["r8@10", "w1@21", "r8@38", "r8@30"]);
  });
});

describe("alignment", () => {
  it("is asked of every access while stage 1 is off, to EL1, unless the machine profile says otherwise", () => {
    const m = new Rig();
    m.ram(0x80000000);
    expect(m.read(0x80000001, 4)).toBe(PE_EL1);
    expect([m.esr1, m.far1]).toEqual(["0x96000021", 0x80000001]);
    expect(m.write(0x80000006, 1, 8)).toBe(PE_EL1);
    expect(m.esr1).toBe("0x96000061");
    const n = new Rig({ profile: RECORDED });
    n.ram(0x80000000);
    n.ram(0x80001000);
    expect(n.write(0x80000ffd, 0x04030201)).toBe(PE_OK);
    expect(n.read(0x80000ffd, 4)).toBe(PE_OK);
    expect(n.pe.d0).toBe(0x04030201);
    n.map(0x90000000, BAR, { attr: 1 });
    expect(n.read(0x90000001, 4)).toBe(PE_OK);
    expect(n.pe.dc(n.v, DcOp.Zva, 0, 0x90000000 | 0)).toBe(PE_OK);
  });

  it("checks each page of a crossing access and reports the second page's address", () => {
    const m = new Rig({ profile: RECORDED });
    m.ram(0x80000000);
    expect(m.write(0x80000ffc, 1)).toBe(PE_EL2);
    expect([m.esr2, m.far2, m.hpfarIpa]).toEqual(["0x92000047", 0x80001000, 0x80001000]);
  });

  it("by a Device stage 2 under Normal stage 1 is an EL2 fault without ISV, by a Device stage 1 an EL1 fault", () => {
    const m = guest();
    m.map(0x90000000, BAR, { attr: 1 });
    const va = 0x90000002;
    // Block 2 of the guest's table is Normal: attributes index 1.
    expect(m.read(va, 4, accessIss(2, false, 0, false, false))).toBe(PE_EL2);
    expect([m.esr2, m.far2, m.hpfarIpa]).toEqual(["0x92000021", va, 0x90000000]);
    expect(m.read(va - 2, 4)).toBe(PE_OK);
    expect(m.read(va, 4)).toBe(PE_EL2);
    // Block 0 is Device: stage 1 is the cause even where stage 2 forces write-back.
    m.ram(0x20000000);
    expect(m.read(0x20000000, 4)).toBe(PE_OK);
    expect(m.read(0x20000002, 4)).toBe(PE_EL1);
    expect(m.esr1).toBe("0x96000021");
  });

  it("of SCTLR_EL1.A comes before translation", () => {
    const m = new Rig({ profile: RECORDED });
    m.regs.set64(m.v, R.SCTLR_EL1, 0, 0x00c50078 | R.SCTLR_A);
    expect(m.read(0x12345671, 4)).toBe(PE_EL1);
    expect(m.esr1).toBe("0x96000021");
  });

  it("of NC memory is not asked", () => {
    const m = guest();
    m.map(0x90000000, BAR, { attr: 5 });
    expect(m.read(0x90000002, 4)).toBe(PE_OK);
  });
});

/** The guest of the recordings: blocks 0 (Device), 1 and 2 (Normal), tables at VA 0xc0000000 and 0x100000000. */
function guest(profile = ARCHITECTURAL, cpu = cpuProfile("max")): Rig {
  const m = new Rig({ profile, cpu });
  const t = m.ram(0x60000000);
  const w = (o: number, hi: number, lo: number) => m.phys.write(t + o, 8, lo | 0, hi | 0);
  w(0x00, 0x00600000, 0x00000401);
  w(0x08, 0x00400000, 0x40000705);
  w(0x10, 0x00400000, 0x80000705);
  w(0x18, 0, 0x20000003);
  w(0x20, 0, 0x60001003);
  m.ram(0x40000000);
  m.mmuOn(0x60000000);
  return m;
}

describe("stage 1", () => {
  it("translates blocks and faults at its own level to EL1", () => {
    const m = guest();
    expect(m.read(0x40000000)).toBe(PE_OK);
    expect(m.read(0x140000000)).toBe(PE_EL1);
    expect([m.esr1, m.far1]).toEqual(["0x96000005", 0x140000000]);
    expect(m.regs.num(m.v, R.PC)).toBe(0x40000200);
    expect(m.regs.lo(m.v, R.SPSR_EL1)).toBe(0x3c5);
  });

  it("gives the final IPA's stage-2 fault its ISV, and the IPA, not the VA, to HPFAR", () => {
    const m = guest();
    expect(m.read(0xa0000000, 8, accessIss(3, false, 4, true, false))).toBe(PE_EL2);
    expect([m.esr2, m.far2, m.hpfarIpa]).toEqual(["0x93c48005", 0xa0000000, 0xa0000000]);
  });

  it("reports a stage-2 fault of its table as S1PTW with the direction of the access, no ISV, the VA in FAR", () => {
    const m = guest();
    const iss = accessIss(3, false, 4, true, false);
    expect(m.read(0xc0000000, 8, iss)).toBe(PE_EL2);
    expect([m.esr2, m.far2, m.hpfarIpa]).toEqual(["0x92000085", 0xc0000000, 0x20000000]);
    expect(m.write(0xc0000000, 1, 8, iss)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x920000c5");
    expect(m.fetch(0xc0000000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x82000085");
    expect(m.read(0x100000000)).toBe(PE_EL2);
    expect([m.esr2, m.hpfarIpa]).toEqual(["0x92000087", 0x60001000]);
  });

  it("reports the stage-1 level for such a fault on the recorded machine", () => {
    const m = guest(RECORDED);
    expect(m.read(0xc0000000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x92000086");
    expect(m.read(0x100000000)).toBe(PE_EL2);
    expect([m.esr2, m.hpfarIpa]).toEqual(["0x92000086", 0x60001000]);
    const l2 = m.ram(0x60001000);
    m.phys.write(l2, 8, 0x20001003, 0);
    expect(m.write(0x100000000, 1)).toBe(PE_EL2);
    expect([m.esr2, m.hpfarIpa, m.far2]).toEqual(["0x920000c7", 0x20001000, 0x100000000]);
    expect(m.fetch(0x100000000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x82000087");
  });

  it("may not walk through Device memory while HCR_EL2.PTW is set", () => {
    for (const [profile, esr] of [
      [ARCHITECTURAL, "0x8200008f"],
      [RECORDED, "0x8200008d"],
    ] as const) {
      const m = guest(profile);
      m.map(0x80000000, BAR, { attr: 1, xn: 2 });
      m.device.bytes.set([0x05, 0x07, 0, 0x40, 0, 0, 0x40, 0], 8);
      m.regs.setNum(m.v, R.TTBR0_EL1, 0x80000000);
      expect(m.fetch(0x40000000)).toBe(PE_EL2);
      expect([m.esr2, m.far2, m.hpfarIpa]).toEqual([esr, 0x40000000, 0x80000000]);
      m.map(0x80000000, BAR, { attr: 5, xn: 2 });
      m.pe.hypTlbi(3, true, 1, 0, 0);
      m.pe.hostDsb(11);
      expect(m.fetch(0x40000000)).toBe(PE_OK);
    }
  });

  it("picks TTBR0 or TTBR1 by bit 55 and refuses what lies between", () => {
    const m = guest();
    const l0 = m.ram(0x61000000);
    const pages = [m.ram(0x61001000), m.ram(0x61002000), m.ram(0x61003000)];
    const target = m.ram(0x61004000);
    // arch-translation.md 9: indices 256, 0, 145, 325.
    m.phys.write(l0 + 256 * 8, 8, 0x61001003, 0);
    m.phys.write(pages[0]!, 8, 0x61002003, 0);
    m.phys.write(pages[1]! + 145 * 8, 8, 0x61003003, 0);
    m.phys.write(pages[2]! + 325 * 8, 8, 0x61004000 | 0x707, 0);
    // T1SZ 16, TG1 4K (10), EPD1 clear.
    m.mmuOn(0x60000000, { tcrLo: 0x80103519 | 0, ttbr1: 0x61000000 });
    m.phys.write(target + 0x678, 8, 0x5a5a, 0);
    expect(m.pe.read(m.v, 0xffff8000 | 0, 0x12345678, 8, 0)).toBe(PE_OK);
    expect(m.pe.d0).toBe(0x5a5a);
    for (const hi of [0xff7f8000, 0x00018000, 0xfffe8000, 0x0000ffff]) {
      expect(m.pe.read(m.v, hi | 0, 0x12345678, 8, 0)).toBe(PE_EL1);
      expect(m.esr1).toBe("0x96000004");
    }
    // Top byte ignored in the upper half only (TBI1): 0xab8080... is read as 0xff8080....
    m.mmuOn(0x60000000, { tcrLo: 0x80103519 | 0, tcrHi: 2 | (1 << 6), ttbr1: 0x61000000 });
    expect(m.pe.read(m.v, 0xabff8000 | 0, 0x12345678, 8, 0)).toBe(PE_OK);
    expect(m.pe.d0).toBe(0x5a5a);
    expect(m.pe.read(m.v, 0xab000000 | 0, 0x40000000, 8, 0)).toBe(PE_EL1);
    expect(m.regs.hi(m.v, R.FAR_EL1) >>> 0).toBe(0xab000000);
  });

  it("forbids by AP, UXN, PXN, WXN, EL0 and the hierarchy", () => {
    const m = guest();
    const l2 = m.ram(0x60001000);
    const l3 = m.ram(0x60002000);
    m.phys.write(l2, 8, 0x60002003, 0);
    const leaf = (n: number, hi: number, lo: number) => {
      m.ram(0x70000000 + n * 4096);
      m.phys.write(l3 + 8 * n, 8, (0x70000000 + n * 4096) | 0x707 | lo, hi);
    };
    leaf(0, 0, 0); //        EL1 RW, X everywhere
    leaf(1, 0, 0x80); //     EL1 RO
    leaf(2, 0, 0x40); //     EL1 and EL0 RW: not executable at EL1
    leaf(3, 1 << 21, 0); //  PXN
    leaf(4, 1 << 22, 0x40); // UXN, EL0 RW
    const at = (n: number) => 0x100000000 + n * 4096;
    const results = (n: number) => [m.read(at(n)), m.write(at(n), 1), m.fetch(at(n))];
    const ok = (bits: string) => [...bits].map((c) => (c === "1" ? PE_OK : PE_EL1));
    const el = (n: number) => m.regs.pool.set(m.regs.base(m.v) + R.PSTATE, n === 0 ? 0 : 0x3c5);
    const table = (n: number, el1: string, el0: string) => {
      el(1);
      expect([n, "EL1", ...results(n).map((r) => (el(1), r))]).toEqual([n, "EL1", ...ok(el1)]);
      const zero: number[] = [];
      for (const f of [() => m.read(at(n)), () => m.write(at(n), 1), () => m.fetch(at(n))]) {
        el(0);
        zero.push(f());
      }
      expect([n, "EL0", ...zero]).toEqual([n, "EL0", ...ok(el0)]);
      el(1);
    };
    table(0, "111", "001");
    table(1, "101", "001");
    table(2, "110", "111");
    table(3, "110", "001");
    table(4, "110", "110");
    el(1);
    m.write(at(1), 1);
    expect([m.esr1, m.far1]).toEqual(["0x9600004f", at(1)]);
    el(0);
    m.read(at(0));
    expect(m.esr1).toBe("0x9200000f");
    el(1);
    // WXN: what is writable does not execute.
    m.regs.set64(m.v, R.SCTLR_EL1, 0, 0x30d0199d | R.SCTLR_WXN);
    m.pe.tlbi(m.v, 0, 0, 0);
    m.pe.dsb(m.v, 7);
    table(0, "110", "001");
    m.regs.set64(m.v, R.SCTLR_EL1, 0, 0x30d0199d);
    // APTable read-only and PXNTable on the level-2 entry.
    m.phys.write(l2, 8, 0x60002003, 0x40000000 | 0x08000000);
    m.pe.tlbi(m.v, 0, 0, 0);
    m.pe.dsb(m.v, 7);
    table(0, "100", "001");
  });

  it("honours PSTATE.PAN for EL1 data only", () => {
    const m = guest();
    m.phys.write(mapped(m, 0x60000000) + 0x28, 8, 0x80000745, 0);
    m.ram(0x80000000);
    const va = 5 * 0x40000000;
    expect(m.read(va)).toBe(PE_OK);
    m.regs.pool.set(m.regs.base(m.v) + R.PSTATE, 0x3c5 | R.PSTATE_PAN);
    expect(m.read(va)).toBe(PE_EL1);
    expect(m.esr1).toBe("0x9600000d");
  });

  it("updates access flag and dirty state in the guest's table by TCR_EL1.HA and HD, which needs the table writable at stage 2", () => {
    const m = guest();
    const root = mapped(m, 0x60000000);
    // Normal block, AF clear, read-only with DBM.
    m.phys.write(root + 0x28, 8, 0x80000385 & ~0x400, 1 << 19);
    m.ram(0x80000000);
    const va = 5 * 0x40000000;
    expect(m.read(va)).toBe(PE_EL1);
    expect(m.esr1).toBe("0x96000009");
    m.regs.set64(m.v, R.TCR_EL1, 2 | (1 << 7) | (1 << 8), 0x00803519);
    m.map(0x60000000, root, { s2ap: 1 });
    m.pe.hypTlbi(3, true, 1, 0, 0);
    m.pe.hostDsb(11);
    expect(m.read(va)).toBe(PE_EL2);
    expect([m.esr2, m.hpfarIpa]).toEqual(["0x9200008f", 0x60000000]);
    m.map(0x60000000, root, { s2ap: 3 });
    m.pe.hypTlbi(3, true, 1, 0, 0);
    m.pe.hostDsb(11);
    expect(m.read(va)).toBe(PE_OK);
    m.phys.read(root + 0x28, 8);
    expect(m.phys.lo & 0x480).toBe(0x480);
    expect(m.write(va, 1)).toBe(PE_OK);
    m.phys.read(root + 0x28, 8);
    expect(m.phys.lo & 0x480).toBe(0x400);
  });

  it("with EPD faults at level 0 on a miss", () => {
    const m = guest();
    m.regs.set64(m.v, R.TCR_EL1, 2, 0x00803599);
    expect(m.read(0x40000000)).toBe(PE_EL1);
    expect(m.esr1).toBe("0x96000004");
  });

  it("walks 16K and 64K granules", () => {
    // arch-translation.md 9: VA 0x00007fabcdef1234, T0SZ 16.
    for (const [tg0, indices, shift] of [
      [2, [0, 2042, 1510, 1980], 14],
      [1, [31, 7518, 3567], 16],
    ] as const) {
      const m = guest();
      let table = 0x1_0000_0000;
      for (const [n, index] of indices.entries()) {
        const next = table + 0x100000;
        const last = n === indices.length - 1;
        const at = table + index * 8;
        const page = at - (at % 4096);
        const pa = m.ram(page);
        const to = last ? 0x90000000 : next;
        m.phys.write(pa + (at % 4096), 8, last ? 0x90000707 | 0 : to | 3 | 0, last ? 0 : (to / 4294967296) | 0);
        table = next;
      }
      const offset = 0xcdef1234 % 2 ** shift;
      const target = m.ram(0x90000000 + offset - (offset % 4096));
      m.phys.write(target + (offset % 4096), 4, 0x1ee7, 0);
      m.mmuOn(0x1_0000_0000, { tcrLo: 0x00800010 | (tg0 << 14), tcrHi: 5 });
      expect([tg0, m.pe.read(m.v, 0x7fab, 0xcdef1234 | 0, 4, 0)]).toEqual([tg0, PE_OK]);
      expect(m.pe.d0).toBe(0x1ee7);
    }
  });
});

/** PA that the rig's stage 2 gives for an IPA page. */
function mapped(m: Rig, ipa: number): number {
  const w = m.entry(ipa, 3);
  return (m.tables.words.a[w + 1]! & 0xffff) * 4294967296 + ((m.tables.words.a[w]! & ~0xfff) >>> 0);
}

describe("cache maintenance and address translation", () => {
  it("by address faults at stage 2 with CM and WnR, and never on the recorded machine", () => {
    const m = new Rig();
    for (const f of [
      () => m.pe.dc(m.v, DcOp.Cvac, 0, 0x20000000),
      () => m.pe.dc(m.v, DcOp.Civac, 0, 0x20000000),
      () => m.pe.dc(m.v, DcOp.Ivac, 0, 0x20000000),
      () => m.pe.dc(m.v, DcOp.Cvau, 0, 0x20000000),
      () => m.pe.ic(m.v, IcOp.Ivau, 0, 0x20000000),
    ]) {
      expect(f()).toBe(PE_EL2);
      expect(m.esr2).toBe("0x92000145");
    }
    const n = new Rig({ profile: RECORDED });
    expect(n.pe.dc(n.v, DcOp.Cvac, 0, 0x20000000)).toBe(PE_OK);
    expect(n.pe.ic(n.v, IcOp.Ivau, 0, 0x20000000)).toBe(PE_OK);
  });

  it("cleans a page that may not be read, but invalidates only one that may be written", () => {
    const m = new Rig();
    m.ram(0x80000000, { s2ap: 0 });
    m.listen("dcache_clean");
    expect(m.pe.dc(m.v, DcOp.Cvac, 0, 0x80000044 | 0)).toBe(PE_OK);
    expect(m.events.map((e) => [(e["pa"] as number) % 4096, e["op"], e["by"]])).toEqual([[0x40, "clean-poc", "guest"]]);
    expect(m.pe.dc(m.v, DcOp.Ivac, 0, 0x80000044 | 0)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x9200014f");
  });

  it("zeroes 64 bytes with DC ZVA, which is a plain write in the syndrome", () => {
    const m = guest();
    expect(m.pe.dc(m.v, DcOp.Zva, 0, 0x90000000 | 0)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x92000045");
    const pa = m.ram(0x90000000);
    for (let i = 0; i < 256; i += 8) m.phys.write(pa + i, 8, -1, -1);
    expect(m.pe.dc(m.v, DcOp.Zva, 0, 0x90000050 | 0)).toBe(PE_OK);
    const words = Array.from({ length: 32 }, (_, i) => (m.phys.read(pa + i * 8, 8), m.phys.lo));
    expect(words).toEqual(Array.from({ length: 32 }, (_, i) => (i >= 8 && i < 16 ? 0 : -1)));
    m.map(0x90001000, BAR, { attr: 1 });
    expect(m.pe.dc(m.v, DcOp.Zva, 0, 0x90001000 | 0)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x92000061");
  });

  it("AT fills PAR_EL1 with address, type and shareability, raw on the recorded machine", () => {
    const m = new Rig();
    expect(m.pe.at(m.v, AtOp.S1e1r, 0, 0x80003000 | 0)).toBe(PE_OK);
    expect(m.regs.num(m.v, R.PAR_EL1)).toBe(0x80003b00);
    const n = new Rig({ profile: RECORDED });
    n.pe.at(n.v, AtOp.S1e1r, 0, 0x80003000 | 0);
    expect(n.regs.num(n.v, R.PAR_EL1)).toBe(0x80003a00);
    const g = guest();
    g.pe.at(g.v, AtOp.S1e1w, 0, 0x40001234);
    expect([g.regs.hi(g.v, R.PAR_EL1) >>> 0, g.regs.lo(g.v, R.PAR_EL1) >>> 0]).toEqual([0xff000000, 0x40001b80]);
    g.pe.at(g.v, AtOp.S1e1r, 1, 0x40000000);
    expect(g.regs.num(g.v, R.PAR_EL1)).toBe(0x800 | (5 << 1) | 1);
    g.pe.at(g.v, AtOp.S1e0r, 0, 0x40001234);
    expect(g.regs.num(g.v, R.PAR_EL1)).toBe(0x800 | (0xd << 1) | 1);
  });

  it("AT whose walk faults at stage 2 is taken to EL2 with CM, S1PTW and WnR; the hypervisor's own AT puts it into PAR_EL1", () => {
    const m = guest(RECORDED);
    expect(m.pe.at(m.v, AtOp.S1e1r, 0, 0xc0000000 | 0)).toBe(PE_EL2);
    expect([m.esr2, m.far2, m.hpfarIpa]).toEqual(["0x920001c6", 0xc0000000, 0x20000000]);
    m.regs.set64(m.v, R.ESR_EL2, 0, 0);
    expect(m.pe.atFromEl2(m.v, AtOp.S1e1r, 0, 0xc0000000 | 0)).toBe(false);
    expect(m.esr2).toBe("0x0");
    expect(m.regs.lo(m.v, R.PAR_EL1) & 0x301).toBe(0x301);
    expect(m.pe.translateIpa(m.v, 0, 0xc0000000 | 0)).toBe(-1);
    expect(m.pe.translateIpa(m.v, 0, 0x40000123)).toBe(0x40000123);
  });
});

describe("exclusives and atomics", () => {
  it("are probed for reading and writing without an access", () => {
    const m = new Rig();
    m.ram(0x80000000, { s2ap: 1 });
    expect(m.pe.probe(m.v, 0, 0x80000000 | 0, 8, 0, false)).toBe(PE_OK);
    expect(m.pe.probe(m.v, 0, 0x80000000 | 0, 8, 0, true)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x9200004f");
    expect(m.pe.probe(m.v, 0, 0x80000004 | 0, 8, 0, false)).toBe(PE_EL1);
    expect(m.esr1).toBe("0x96000021");
  });

  it("work on Device unless the machine answers 0x35, to the level whose attributes are the cause", () => {
    const strict = { ...ARCHITECTURAL, unsupportedAtomics: "fault35" } as const;
    const m = guest(strict);
    m.map(0x90000000, BAR, { attr: 5 });
    m.ram(0x20000000);
    m.ram(0x80000000);
    expect(m.pe.probe(m.v, 0, 0x90000000 | 0, 8, 0, false)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x92000035");
    expect(m.pe.probe(m.v, 0, 0x80000000 | 0, 8, 0, false)).toBe(PE_OK);
    const n = guest({ ...strict });
    n.map(0x20000000, BAR, { attr: 5 });
    expect(n.pe.probe(n.v, 0, 0x20000000, 8, 0, true)).toBe(PE_EL1);
    expect(n.esr1).toBe("0x96000075");
    const lax = guest();
    lax.map(0x90000000, BAR, { attr: 1 });
    expect(lax.pe.probe(lax.v, 0, 0x90000000 | 0, 8, 0, false)).toBe(PE_OK);
    expect(lax.pe.pa).toBe(BAR);
  });
});
