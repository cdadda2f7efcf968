/** Exceptions given to EL1: every register, by era. The values are those of the recordings and of kernel-exceptions.md 4. */
import { describe, expect, it } from "vitest";
import {
  ELR_EL1,
  ESR_EL1,
  ESR_EL2,
  FAR_EL1,
  FAR_EL2,
  HCR_EL2,
  HCR_VSE,
  HPFAR_EL2,
  PC,
  PSTATE,
  SCTLR_EL1,
  SPSR_EL1,
  TCR_EL1,
  TTBR0_EL1,
  VBAR_EL1,
  VSESR_EL2,
} from "../../src/arch/registers.js";
import { CODE, FaultFixture, MIB, R_HVA } from "./faultfixture.js";

const VBAR = 0x4000_0000;
const PC_AT = 0x4000_1234;

/** A vCPU at EL1h that has just trapped with this syndrome and FAR. */
function trapped(era: string, { esr = 0x92000006, far = 0x8765_4321, pstate = 0x3c5 } = {}): FaultFixture {
  const m = new FaultFixture(era);
  m.regs.setNum(m.v, PC, PC_AT);
  m.regs.setNum(m.v, VBAR_EL1, VBAR);
  m.regs.set64(m.v, PSTATE, 0, pstate);
  m.regs.setNum(m.v, ESR_EL2, esr);
  m.regs.setNum(m.v, FAR_EL2, far);
  return m;
}

function after(m: FaultFixture) {
  if (m.kvm.vcpus.needsAdjust(m.v)) m.kvm.injector.adjustPc(m.v);
  return {
    esr: m.reg(ESR_EL1),
    far: m.reg(FAR_EL1),
    elr: m.reg(ELR_EL1),
    spsr: m.reg(SPSR_EL1),
    pc: m.reg(PC),
    pstate: m.regs.lo(m.v, PSTATE) >>> 0,
  };
}

describe("a prefetch abort from EL1 has ESR 0x86000010 and FAR of the fetch", () => {
  for (const era of ["v4.10", "v5.4", "v5.5", "v5.8", "v5.14", "v6.12", "v6.17", "v7.2.12"]) {
    it(era, () => {
      const m = trapped(era, { esr: 0x82000006, far: 0x2000_0ffc });
      m.kvm.injector.abortAtFar(m.v, true);
      expect(after(m)).toMatchObject({ esr: "0x86000010", far: "0x20000ffc", elr: "0x40001234", spsr: "0x3c5", pc: "0x40000200" });
    });
  }
});

describe("a data abort from EL1 has ESR 0x96000010", () => {
  for (const era of ["v4.10", "v5.4", "v5.14", "v6.12", "v6.18.2", "v7.2.12"]) {
    it(era, () => {
      const m = trapped(era);
      m.kvm.injector.abortAtFar(m.v, false);
      expect(after(m)).toMatchObject({ esr: "0x96000010", far: "0x87654321" });
    });
  }
  it("v4.0 ORs the unshifted class into the fault status (bug D1)", () => {
    const m = trapped("v4.0");
    m.kvm.injector.abortAtFar(m.v, false);
    expect(after(m).esr).toBe("0x86000034");
  });
});

describe("from EL0 the classes are those of a lower exception level, vector 0x400", () => {
  it("prefetch 0x82000010, data 0x92000010", () => {
    const m = trapped("v6.12", { pstate: 0x3c0 });
    m.kvm.injector.abortAtFar(m.v, true);
    expect(after(m)).toMatchObject({ esr: "0x82000010", pc: "0x40000400" });
    const n = trapped("v6.12", { pstate: 0x3c0 });
    n.kvm.injector.abortAtFar(n.v, false);
    expect(after(n)).toMatchObject({ esr: "0x92000010", pc: "0x40000400" });
  });
  it("v4.0 always takes vector 0x200", () => {
    const m = trapped("v4.0", { pstate: 0x3c0 });
    m.kvm.injector.abortAtFar(m.v, true);
    expect(after(m).pc).toBe("0x40000200");
  });
  it("EL1 with SP_EL0 takes vector 0x000", () => {
    const m = trapped("v6.12", { pstate: 0x3c4 });
    m.kvm.injector.abortAtFar(m.v, true);
    expect(after(m).pc).toBe("0x40000000");
  });
});

describe("the upper half of ESR_EL1 is all ones from v6.1 to v6.9 (bug D12)", () => {
  for (const era of ["v6.1", "v6.1.192", "v6.4", "v6.8", "v6.9"]) {
    it(`${era}: 0xffffffff96000010`, () => {
      const m = trapped(era);
      m.kvm.injector.abortAtFar(m.v, false);
      expect(after(m).esr).toBe("0xffffffff96000010");
    });
  }
  it("an undefined instruction is not affected", () => {
    const m = trapped("v6.8", { esr: 0x02000000 });
    m.kvm.injector.undefined(m.v);
    expect(after(m)).toMatchObject({ esr: "0x2000000", pc: "0x40000200" });
  });
});

describe("PSTATE of an injected exception", () => {
  it("v5.4 forces 0x3c5; v5.6 keeps flags and PAN", () => {
    const old = trapped("v5.4", { pstate: 0x6040_03c5 });
    old.kvm.injector.abortAtFar(old.v, false);
    expect(after(old)).toMatchObject({ spsr: "0x604003c5", pstate: 0x3c5 });
    const now = trapped("v5.6", { pstate: 0x6040_03c5 });
    now.kvm.injector.abortAtFar(now.v, false);
    expect(after(now).pstate).toBe(0x6040_03c5);
  });
  it("SPSR keeps BTYPE, the new PSTATE has none", () => {
    const m = trapped("v6.12", { pstate: 0x7c5 });
    m.kvm.injector.abortAtFar(m.v, true);
    expect(after(m)).toMatchObject({ spsr: "0x7c5", pstate: 0x3c5 });
  });
});

describe("when the registers change", () => {
  it("up to v5.10 at once, later before the next entry; ESR and FAR always at once", () => {
    const old = trapped("v5.8");
    old.kvm.injector.abortAtFar(old.v, false);
    expect(old.reg(PC)).toBe("0x40000200");
    const now = trapped("v5.11");
    now.kvm.injector.abortAtFar(now.v, false);
    expect(now.reg(PC)).toBe("0x40001234");
    expect(now.reg(ESR_EL1)).toBe("0x96000010");
  });
  it("a second pended event replaces the first", () => {
    const m = trapped("v6.12");
    m.kvm.injector.incrementPc(m.v);
    m.kvm.injector.abortAtFar(m.v, false);
    expect(after(m).elr).toBe("0x40001234");
  });
});

describe("a size fault pretends an address size fault of level 0", () => {
  it("0x96000000 and the IPA in FAR", () => {
    const m = trapped("v6.12");
    m.kvm.injector.sizeFault(m.v, false, 0x10, 0x123);
    expect(after(m)).toMatchObject({ esr: "0x96000000", far: "0x1000000123" });
  });
});

describe("a virtual SError", () => {
  it("v5.4 - v6.16: VSESR_EL2 and HCR_EL2.VSE, nothing in EL1 yet", () => {
    const m = trapped("v6.12");
    m.kvm.injector.serror(m.v);
    expect(m.regs.lo(m.v, VSESR_EL2)).toBe(1 << 24);
    expect(m.regs.lo(m.v, HCR_EL2) & HCR_VSE).toBe(HCR_VSE);
    expect(after(m).pc).toBe("0x40001234");
  });
  it("v6.17: taken at once where PSTATE.A is clear, vector + 0x180", () => {
    const m = trapped("v6.17", { pstate: 0x2c5 });
    m.kvm.injector.serror(m.v);
    expect(after(m)).toMatchObject({ esr: "0xbf000000", pc: "0x40000380" });
  });
  it("v6.17: pending where it is masked", () => {
    const m = trapped("v6.17");
    m.kvm.injector.serror(m.v);
    expect(m.regs.lo(m.v, HCR_EL2) & HCR_VSE).toBe(HCR_VSE);
  });
});

describe("an abort for a stage-1 walk (S1PTW)", () => {
  /** Tables: level 1 at R, its entry 3 points to a level-2 table at an IPA without memory. */
  function walking(era: string, level2: number): FaultFixture {
    const m = trapped(era, { esr: 0x92000086, far: 0xc000_0000 });
    m.map(R_HVA, 2 * MIB);
    m.slot(1, 0x6000_0000, 2 * MIB, R_HVA);
    m.poke(R_HVA + 0x18, level2 | 3);
    m.regs.setNum(m.v, TTBR0_EL1, 0x6000_0000);
    m.regs.setNum(m.v, TCR_EL1, 0x2_0080_3519);
    m.regs.setNum(m.v, SCTLR_EL1, 0x30d0_199d);
    m.regs.set64(m.v, HPFAR_EL2, 0, (0x2000_0000 / 4096) << 4);
    return m;
  }
  it("up to v6.17 names no level", () => {
    const m = walking("v6.17", 0x2000_0000);
    m.kvm.injector.abortAtFar(m.v, false);
    expect(after(m).esr).toBe("0x96000010");
  });
  it("v6.18 names the level of the table that the walk could not read", () => {
    const m = walking("v6.18.2", 0x2000_0000);
    m.kvm.injector.abortAtFar(m.v, false);
    expect(after(m).esr).toBe("0x96000016");
  });
  it("v6.18 injects nothing if the walk no longer meets that page", () => {
    const m = walking("v6.18.2", 0x3000_0000);
    m.kvm.injector.abortAtFar(m.v, false);
    expect(after(m).pc).toBe(`0x${PC_AT.toString(16)}`);
    expect(CODE).toBe(VBAR);
  });
});
