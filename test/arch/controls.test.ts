/** What single control bits of EL2 and EL1 change on the access path, and what moves with a vCPU. */
import { describe, expect, it } from "vitest";
import { cpuProfile } from "../../src/arch/features.js";
import { stage2Geometry, VTCR_DS_HI, VTCR_HD, vtcrWord } from "../../src/arch/geometry.js";
import { PE_EL1, PE_EL2, PE_OK } from "../../src/arch/pe.js";
import { ARCHITECTURAL } from "../../src/arch/profile.js";
import * as R from "../../src/arch/registers.js";
import { C_FLAGS, C_SLOT } from "../../src/arch/tlb.js";
import { tlbiOp } from "../../src/arch/tlbi.js";
import { BAR, Rig } from "./rig.js";

const setHcr = (m: Rig, hi: number, lo: number) => m.regs.set64(m.v, R.HCR_EL2, hi, lo);
/** Attribute byte and shareability of the combined entry of an address on CPU 0. */
function type(m: Rig, va: number): readonly [string, number] {
  const flags = m.pe.tlbs.combined.a[m.pe.tlbs.combinedAt(0, (va / 4294967296) | 0, va | 0) + C_FLAGS]!;
  return [(flags & 0xff).toString(16).padStart(2, "0"), (flags >> 8) & 3];
}

describe("the resulting type in a TLB entry", () => {
  it("is what stage 2 makes of Device-nGnRnE while stage 1 is off", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.map(0x90000000, BAR, { attr: 1 });
    m.map(0x90001000, BAR, { attr: 5 });
    for (const va of [0x80000000, 0x90000000, 0x90001000]) m.read(va);
    expect([0x80000000, 0x90000000, 0x90001000].map((va) => type(m, va))).toEqual([
      ["ff", 2],
      ["00", 2],
      ["00", 2],
    ]);
    const n = new Rig({ cpu: cpuProfile("cortex-a76") });
    n.ram(0x80000000);
    n.read(0x80000000);
    expect(type(n, 0x80000000)).toEqual(["00", 2]);
  });

  it("is write-back with HCR_EL2.DC, and then unaligned accesses work", () => {
    const m = new Rig({ cpu: cpuProfile("cortex-a76") });
    setHcr(m, 0, R.HCR_DC | R.HCR_RW);
    m.ram(0x80000000);
    expect(m.read(0x80000001, 4)).toBe(PE_OK);
    expect(type(m, 0x80000000)).toEqual(["ff", 3]);
    expect(m.read(0x80001000)).toBe(PE_EL2);
  });

  it("is non-cacheable with HCR_EL2.CD, and where SCTLR_EL1.C is 0", () => {
    const m = new Rig();
    setHcr(m, R.HCR_FWB_HI | 1, R.HCR_VM);
    m.ram(0x80000000);
    m.read(0x80000000);
    expect(type(m, 0x80000000)).toEqual(["44", 2]);
    for (const [sctlr, attr] of [
      [0x30d0199d, "ff"],
      [0x30d01999, "44"],
    ] as const) {
      const n = new Rig({ cpu: cpuProfile("cortex-a76") });
      const t = n.ram(0x60000000);
      n.phys.write(t + 16, 8, 0x80000705 | 0, 0);
      n.ram(0x80000000);
      n.mmuOn(0x60000000, { sctlr });
      n.read(0x80000000);
      expect(type(n, 0x80000000)[0]).toBe(attr);
    }
  });
});

describe("stage 2", () => {
  it("off gives the physical address of the IPA", () => {
    const m = new Rig();
    setHcr(m, 0, 0);
    m.phys.write(0x41000008, 8, 77, 0);
    expect([m.read(0x41000008), m.pe.d0]).toEqual([PE_OK, 77]);
  });

  it("makes a clean page dirty by hardware with VTCR_EL2.HD and DBM, else it is a permission fault", () => {
    for (const [hd, rc] of [
      [true, PE_OK],
      [false, PE_EL2],
    ] as const) {
      const m = new Rig();
      m.ram(0x80000000, { s2ap: 1 });
      const word = m.entry(0x80000000, 3);
      m.tables.words.a[word + 1]! |= 1 << 19;
      if (hd) m.regs.set64(m.v, R.VTCR_EL2, 0, vtcrWord(stage2Geometry(40), 5, true, true) | VTCR_HD);
      expect(m.read(0x80000000)).toBe(PE_OK);
      expect(m.write(0x80000000, 1)).toBe(rc);
      expect((m.tables.words.a[word]! & 0x80) !== 0).toBe(hd);
    }
  });

  it("reports an output address beyond VTCR_EL2.PS as an address size fault of its level", () => {
    const m = new Rig({ cpu: cpuProfile("cortex-a76") });
    m.map(0x80000000, 2 ** 41);
    expect(m.read(0x80000000)).toBe(PE_EL2);
    expect([m.esr2, m.hpfarIpa]).toEqual(["0x92000003", 0x80000000]);
    m.map(0xc0000000, 2 ** 41, { level: 1 });
    expect(m.read(0xc0000000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x92000001");
  });

  it("faults at level 0 when SL0 does not fit T0SZ", () => {
    const m = new Rig();
    m.regs.set64(m.v, R.VTCR_EL2, 0, (vtcrWord(stage2Geometry(40), 5, true, true) & ~0x3f) | 20);
    expect(m.read(0x80000000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x92000004");
  });

  it("takes output address bits 51:48 from the descriptor's low bits with VTCR_EL2.DS", () => {
    const m = new Rig();
    const g = stage2Geometry(40);
    m.regs.set64(m.v, R.VTCR_EL2, VTCR_DS_HI, vtcrWord(g, 6, true, true));
    m.listen("bus_unclaimed");
    const word = m.entry(0x80000000, 3);
    // Bits 9:8 are OA[51:50], bits 49:48 are OA[49:48].
    m.tables.write(word, 3, 0x3_1234, 0x56789000 | (2 << 8) | 0x400 | 0xc0 | (6 << 2) | 3);
    expect(m.read(0x80000008)).toBe(PE_OK);
    expect(m.events.map((e) => e["pa"])).toEqual([0xb_1234_5678_9008]);
  });
});

describe("a vCPU", () => {
  it("that moves to another CPU meets that CPU's TLB", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.write(0x80000000, 3);
    m.unmap(0x80000000);
    expect(m.read(0x80000000)).toBe(PE_OK);
    m.onCpu(1);
    expect(m.read(0x80000000)).toBe(PE_EL2);
    m.onCpu(0);
    expect(m.read(0x80000000)).toBe(PE_OK);
  });

  it("shares entries with another of its VM on the CPU, and with none of another VM", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.write(0x80000000, 3);
    const sibling = m.addVcpu(1);
    const stranger = m.addVcpu(2);
    m.unmap(0x80000000);
    const read = (v: number) => m.pe.read(v, 0, 0x80000000 | 0, 8, 0);
    expect([read(sibling), read(stranger)]).toEqual([PE_OK, PE_EL2]);
  });

  it("invalidates for every CPU what it invalidates for its own under HCR_EL2.FB, complete by DSB NSH", () => {
    for (const [fb, rc] of [
      [true, PE_EL2],
      [false, PE_OK],
    ] as const) {
      const m = new Rig();
      setHcr(m, R.HCR_FWB_HI, R.HCR_VM | (fb ? R.HCR_FB : 0));
      m.ram(0x80000000);
      for (const cpu of [0, 1]) {
        m.onCpu(cpu);
        m.read(0x80000000);
      }
      m.unmap(0x80000000);
      m.pe.hypTlbi(0, true, 1, 0, 0x80000);
      m.pe.hostDsb(11);
      m.onCpu(0);
      m.pe.tlbi(m.v, tlbiOp("vmalle1"), 0, 0);
      m.pe.dsb(m.v, 7);
      expect(m.read(0x80000000)).toBe(PE_EL2);
      m.onCpu(1);
      expect([fb, m.read(0x80000000)]).toEqual([fb, rc]);
    }
  });

  it("with an 8-bit VMID ignores the upper half of VTTBR_EL2.VMID", () => {
    const m = new Rig({ cpu: cpuProfile("cortex-a72") });
    m.ram(0x80000000);
    m.write(0x80000000, 3);
    m.unmap(0x80000000);
    const other = m.addVcpu(0x301);
    expect(m.pe.read(other, 0, 0x80000000 | 0, 8, 0)).toBe(PE_OK);
  });

  it("does not hit stage-1-off entries once its MMU is on", () => {
    const m = new Rig();
    m.ram(0x80000000);
    m.read(0x80000000);
    m.mmuOn(0x60000000);
    expect(m.read(0x80000000)).toBe(PE_EL2);
    expect([m.esr2, m.hpfarIpa]).toEqual(["0x92000085", 0x60000000]);
  });
});

describe("a machine that refuses to fetch from Device", () => {
  const strict = { ...ARCHITECTURAL, fetchFromDevice: "permission-fault" } as const;
  it("faults at the stage that says Device; the default one fetches", () => {
    const m = new Rig({ profile: strict });
    m.map(0x90000000, BAR, { attr: 1 });
    expect(m.fetch(0x90000000)).toBe(PE_EL2);
    expect(m.esr2).toBe("0x8200000f");
    const lax = new Rig();
    lax.map(0x90000000, BAR, { attr: 1 });
    lax.device.bytes.set([0xc0, 0x03, 0x5f, 0xd6]);
    expect([lax.fetch(0x90000000), lax.pe.d0 >>> 0]).toEqual([PE_OK, 0xd65f03c0]);
    expect(lax.pe.tlbs.combined.a[lax.pe.tlbs.combinedAt(0, 0, 0x90000000 | 0) + C_SLOT]).toBe(-1);
    const s1 = new Rig({ profile: strict });
    const t = s1.ram(0x60000000);
    s1.phys.write(t + 16, 8, 0x80000701 | 0, 0);
    s1.ram(0x80000000);
    s1.mmuOn(0x60000000);
    expect(s1.fetch(0x80000000)).toBe(PE_EL1);
    expect(s1.esr1).toBe("0x8600000d");
  });
});
