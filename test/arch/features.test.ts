import { describe, expect, it } from "vitest";
import { cpuProfile, CPU_PROFILES, customProfile, UnknownCpuError, type CpuFeatures, type Words } from "../../src/arch/features.js";

const hex = (w: Words): string => `0x${((BigInt(w[0] >>> 0) << 32n) | BigInt(w[1] >>> 0)).toString(16)}`;
const ids = (f: CpuFeatures): string[] =>
  [f.id.MIDR_EL1, f.id.ID_AA64MMFR0_EL1, f.id.ID_AA64MMFR1_EL1, f.id.ID_AA64MMFR2_EL1, f.id.CTR_EL0, f.id.ID_AA64PFR0_EL1].map(hex);

describe("CPU profiles", () => {
  it("show the identification registers of the recordings' README", () => {
    expect(Object.fromEntries(Object.values(CPU_PROFILES).map((f) => [f.name, ids(f)]))).toEqual({
      max: ["0xf0510", "0x32310201126", "0x11010211122", "0x1021011010011011", "0x9444c004", "0x1101001020110222"],
      "cortex-a72": ["0x410fd083", "0x1124", "0x0", "0x0", "0x8444c004", "0x1000000000000222"],
      "cortex-a76": ["0x414fd0b1", "0x101122", "0x10212122", "0x1011", "0x9444c004", "0x1100000010110112"],
      "neoverse-v1": ["0x411fd402", "0x101125", "0x10212122", "0x220011100001011", "0xb444c004", "0x1101000020110112"],
    });
  });

  it("have the modes and features of that table", () => {
    const row = (f: CpuFeatures): string =>
      (["vhe", "s2fwb", "idc", "dic", "xnx", "hafdbs", "tlbiRange", "ttl", "lpa2", "lse", "pan", "bti", "mte", "ras", "ssbs"] as const)
        .filter((k) => f[k])
        .join(" ") + ` pa${f.paBits} vmid${f.vmidBits} raw ${hex(f.ctrRaw)}`;
    expect(Object.fromEntries(Object.values(CPU_PROFILES).map((f) => [f.name, row(f)]))).toEqual({
      max: "vhe s2fwb idc xnx hafdbs tlbiRange ttl lpa2 lse pan bti mte ras ssbs pa52 vmid16 raw 0x8444c004",
      "cortex-a72": " pa44 vmid8 raw 0x8444c004",
      "cortex-a76": "vhe idc xnx hafdbs lse pan ras ssbs pa40 vmid16 raw 0x8444c004",
      "neoverse-v1": "vhe s2fwb idc dic xnx hafdbs lse pan ras ssbs pa48 vmid16 raw 0xb444c004",
    });
  });

  it("agree with their own identification registers", () => {
    for (const f of Object.values(CPU_PROFILES)) {
      const field = (w: Words, at: number, width = 4): number => ((at >= 32 ? w[0] : w[1]) >>> (at & 31)) & ((1 << width) - 1);
      const { id } = f;
      expect([f.name, field(id.ID_AA64MMFR1_EL1, 8) !== 0]).toEqual([f.name, f.vhe]);
      expect([f.name, field(id.ID_AA64MMFR1_EL1, 28) !== 0]).toEqual([f.name, f.xnx]);
      expect([f.name, field(id.ID_AA64MMFR1_EL1, 0) !== 0]).toEqual([f.name, f.hafdbs]);
      expect([f.name, field(id.ID_AA64MMFR1_EL1, 20) !== 0]).toEqual([f.name, f.pan]);
      expect([f.name, field(id.ID_AA64MMFR1_EL1, 4) === 2]).toEqual([f.name, f.vmidBits === 16]);
      expect([f.name, field(id.ID_AA64MMFR2_EL1, 40) !== 0]).toEqual([f.name, f.s2fwb]);
      expect([f.name, field(id.ID_AA64MMFR2_EL1, 48) !== 0]).toEqual([f.name, f.ttl]);
      expect([f.name, field(id.ID_AA64PFR0_EL1, 28) !== 0]).toEqual([f.name, f.ras]);
      expect([f.name, field(id.ID_AA64ISAR0_EL1, 20) !== 0]).toEqual([f.name, f.lse]);
      expect([f.name, field(id.ID_AA64PFR1_EL1, 0) !== 0]).toEqual([f.name, f.bti]);
      expect([f.name, [32, 36, 40, 42, 44, 48, 52][field(id.ID_AA64MMFR0_EL1, 0)]]).toEqual([f.name, f.paBits]);
      expect([f.name, field(id.CTR_EL0, 28, 1) !== 0]).toEqual([f.name, f.idc]);
      expect([f.name, field(id.CTR_EL0, 29, 1) !== 0]).toEqual([f.name, f.dic]);
    }
  });

  it("of one's own can be written as base and features", () => {
    const f = cpuProfile("cortex-a76,+s2fwb,-PAN,+dic,paBits=48,vmidBits=8");
    const same = customProfile("cortex-a76", { s2fwb: true, pan: false, dic: true, paBits: 48, vmidBits: 8 });
    expect({ ...f, name: "" }).toEqual({ ...same, name: "" });
    expect(() => cpuProfile("max,-s2fbw")).toThrow(/no CPU feature named s2fbw; did you mean s2fwb/);
    expect(() => cpuProfile("maks,-s2fwb")).toThrow(/no CPU named maks; did you mean max/);
    expect(() => cpuProfile("max,s2fwb")).toThrow(/expected \+feature/);
  });

  it("of one's own are a base with changes, and their identification registers follow", () => {
    const f = customProfile("cortex-a76", { name: "mine", s2fwb: true, pan: false, paBits: 48, vmidBits: 8, dic: true });
    expect([f.name, f.s2fwb, f.pan, f.lse, f.paBits, f.vmidBits]).toEqual(["mine", true, false, true, 48, 8]);
    expect(ids(f)).toEqual(["0x414fd0b1", "0x101125", "0x10012102", "0x10000001011", "0xb444c004", "0x1100000010110112"]);
    expect(hex(f.ctrRaw)).toBe("0xa444c004");
    // Changing nothing changes nothing.
    expect(ids(customProfile("max", {}))).toEqual(ids(cpuProfile("max")));
    expect(() => customProfile("max", { paBits: 39 })).toThrow(/paBits must be one of/);
  });

  it("are found by name, or the nearest name is suggested", () => {
    expect(cpuProfile("max").name).toBe("max");
    for (const [wrong, near] of [
      ["cortex-76", "cortex-a76"],
      ["neoverse", "neoverse-v1"],
      ["Max", "max"],
      ["toString", "max"],
    ] as const) {
      try {
        cpuProfile(wrong);
        expect.unreachable();
      } catch (e) {
        expect(e).toBeInstanceOf(UnknownCpuError);
        if (wrong !== "toString") expect((e as UnknownCpuError).nearest).toBe(near);
      }
    }
  });
});
