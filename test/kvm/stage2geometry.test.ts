import { describe, expect, it } from "vitest";
import { cpuProfile } from "../../src/arch/features.js";
import { ipaBitsOfType, ipaLimit, stage2Geometry, vtcr } from "../../src/kvm/stage2geometry.js";
import { EINVAL } from "../../src/sim/errno.js";
import { Fixture } from "./tablesfixture.js";

/** granule, IPA bits, levels, start level, SL0, concatenated pages, cache minimum (kernel-stage2.md 1.1). */
const TABLE: readonly (readonly [number, number, number, number, number, number, number])[] = [
  [12, 32, 2, 2, 0, 4, 1],
  [12, 33, 2, 2, 0, 8, 1],
  [12, 34, 2, 2, 0, 16, 1],
  [12, 35, 3, 1, 1, 1, 2],
  [12, 39, 3, 1, 1, 1, 2],
  [12, 40, 3, 1, 1, 2, 2],
  [12, 41, 3, 1, 1, 4, 2],
  [12, 42, 3, 1, 1, 8, 2],
  [12, 43, 3, 1, 1, 16, 2],
  [12, 44, 4, 0, 2, 1, 3],
  [12, 48, 4, 0, 2, 1, 3],
  [12, 52, 4, 0, 2, 16, 3],
  [14, 32, 2, 2, 1, 1, 1],
  [14, 36, 2, 2, 1, 1, 1],
  [14, 37, 2, 2, 1, 2, 1],
  [14, 40, 2, 2, 1, 16, 1],
  [14, 41, 3, 1, 2, 1, 2],
  [14, 47, 3, 1, 2, 1, 2],
  [14, 48, 3, 1, 2, 2, 2],
  [14, 52, 4, 0, 3, 1, 3],
  [16, 32, 2, 2, 1, 1, 1],
  [16, 42, 2, 2, 1, 1, 1],
  [16, 43, 2, 2, 1, 2, 1],
  [16, 46, 2, 2, 1, 16, 1],
  [16, 47, 3, 1, 2, 1, 2],
  [16, 52, 3, 1, 2, 1, 2],
];

describe("the geometry of stage 2", () => {
  it.each(TABLE)(
    "granule 2^%i, %i bits: %i levels from level %i, SL0 %i, %i root pages, cache %i",
    (shift, ipa, levels, start, sl0, pages, cache) => {
      const g = stage2Geometry(ipa, shift);
      expect([g.levels, g.startLevel, g.sl0, g.rootPages, g.cachePages]).toEqual([levels, start, sl0, pages, cache]);
    },
  );

  it("makes the VTCR_EL2 of a 40-bit VM on a 48-bit CPU", () => {
    const [hi, lo] = vtcr(stage2Geometry(40), { paBits: 48, hardwareAccessFlag: true, lpa2: false, vmid16: true });
    // RES1, HA, VS, PS 5, TG0 4K, SH0 3, ORGN0 1, IRGN0 1, SL0 1, T0SZ 24
    expect([hi, (lo >>> 0).toString(16)]).toEqual([0, "802d3558"]);
  });

  it("announces 52-bit output with DS and caps PS at 48 bits without it", () => {
    const on = vtcr(stage2Geometry(40), { paBits: 52, hardwareAccessFlag: true, lpa2: true, vmid16: true });
    const off = vtcr(stage2Geometry(40), { paBits: 52, hardwareAccessFlag: false, lpa2: false, vmid16: false });
    expect([on[0], (on[1] >>> 16) & 7]).toEqual([1, 6]);
    expect([off[0], (off[1] >>> 0).toString(16)]).toEqual([0, "80053558"]);
  });

  it("answers IPA sizes as KVM_CREATE_VM does", () => {
    const rules = { fromArgument: true, defaultMustFit: true };
    const ask = (type: number, limit: number) => ipaBitsOfType(type, limit, rules);
    expect(ask(0, 48)).toBe(40);
    expect(ask(0, 36)).toBe(-EINVAL);
    expect(ipaBitsOfType(0, 36, { fromArgument: true, defaultMustFit: false })).toBe(40);
    expect(ask(31, 48)).toBe(-EINVAL);
    expect(ask(32, 48)).toBe(32);
    expect(ask(48, 48)).toBe(48);
    expect(ask(49, 48)).toBe(-EINVAL);
    expect(ask(0x100, 48)).toBe(-EINVAL);
    expect(ipaBitsOfType(36, 48, { fromArgument: false, defaultMustFit: false })).toBe(-EINVAL);
  });

  it("limits IPA sizes by the CPU, and by 48 bits without LPA2", () => {
    expect(ipaLimit(cpuProfile("max"), true)).toBe(52);
    expect(ipaLimit(cpuProfile("max"), false)).toBe(48);
    expect(ipaLimit(cpuProfile("cortex-a76"), true)).toBe(40);
  });

  it("gives every era its VTCR_EL2", () => {
    const word = (era: string, cpu = "max") => {
      const f = new Fixture(era, { cpu });
      return `${f.vms.vtcrHi(f.vm)}:${(f.vms.vtcrLo(f.vm) >>> 0).toString(16)}`;
    };
    expect(word("v4.0", "cortex-a72")).toBe("0:80043558");
    expect(word("v5.4")).toBe("0:802d3558");
    expect(word("v6.12")).toBe("1:802e3558");
    expect(word("v6.12", "cortex-a76")).toBe("0:802a3558");
  });

  it("starts a 48-bit VM at level 0 and a 34-bit VM at level 2 with 16 pages", () => {
    const big = new Fixture("v6.12", { type: 48 });
    const small = new Fixture("v6.12", { type: 34 });
    expect([big.vms.startLevel(big.vm), big.vms.rootPages(big.vm)]).toEqual([0, 1]);
    expect([small.vms.startLevel(small.vm), small.vms.rootPages(small.vm)]).toEqual([2, 16]);
  });
});
