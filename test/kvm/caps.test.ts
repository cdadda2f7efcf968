/** KVM_CHECK_EXTENSION and KVM_ENABLE_CAP, by era. */
import { describe, expect, it } from "vitest";
import { eraRow, ERAS } from "../../src/eras.js";
import { FaultFixture } from "./faultfixture.js";

const EINVAL = -22;
/** Capability -> [first era that knows it, answer on a `max` CPU from then on]. */
const SINCE: Readonly<Record<number, readonly [string, string, number]>> = {
  136: ["IMMEDIATE_EXIT", "v4.20", 1],
  165: ["ARM_VM_IPA_SIZE", "v4.20", 48],
  168: ["MANUAL_DIRTY_LOG_PROTECT2", "v5.4", 1],
  177: ["ARM_NISV_TO_USER", "v5.6", 1],
  178: ["ARM_INJECT_EXT_DABT", "v5.6", 1],
  205: ["ARM_MTE", "v5.14", 1],
  223: ["DIRTY_LOG_RING_ACQ_REL", "v6.4", 65536 * 16],
  225: ["DIRTY_LOG_RING_WITH_BITMAP", "v6.4", 1],
  229: ["ARM_SUPPORTED_BLOCK_SIZES", "v6.6", (1 << 12) | (1 << 21) | (1 << 30)],
  234: ["GUEST_MEMFD", "v6.18.2", 1],
  245: ["ARM_SEA_TO_USER", "v7.2.12", 1],
};

/** True where `era` is `first` or descends from it. */
function has(era: string, first: string): boolean {
  for (let e = ERAS.find((x) => x.name === era); e !== undefined; e = ERAS.find((x) => x.name === e!.base))
    if (e.name === first) return true;
  return false;
}

describe("KVM_CHECK_EXTENSION", () => {
  for (const [cap, [name, first, value]] of Object.entries(SINCE)) {
    it(`${cap} (${name}) is known from ${first} on`, () => {
      for (const { name: era } of ERAS) {
        const got = new FaultFixture(era).kvm.checkExtension(0, Number(cap));
        if (!has(era, first)) expect(got, era).toBe(0);
        else if (era === first) expect(got, era).toBe(value);
        else expect(got, era).not.toBe(0);
      }
    });
  }
  it("168 answers 3 from v5.8 on", () => expect(new FaultFixture("v5.8").kvm.checkExtension(0, 168)).toBe(3));
  it("165 answers 52 with LPA2 from v6.8 on", () => expect(new FaultFixture("v6.8").kvm.checkExtension(0, 165)).toBe(52));
  it("243 needs S2FWB and DIC", () => {
    expect(new FaultFixture("v6.17").kvm.checkExtension(0, 243)).toBe(0);
    expect(new FaultFixture("v6.17", { cpu: "neoverse-v1" }).kvm.checkExtension(0, 243)).toBe(1);
    expect(new FaultFixture("v6.13", { cpu: "neoverse-v1" }).kvm.checkExtension(0, 243)).toBe(0);
  });
  it("always there: user memory, read-only memory, the number of slots", () => {
    for (const { name: era } of ERAS) {
      const { kvm } = new FaultFixture(era);
      expect([3, 16, 70, 81, 102].map((c) => kvm.checkExtension(0, c))).toEqual([1, 1, 1, 1, 1]);
      expect(kvm.checkExtension(0, 10)).toBe(eraRow(era).kvm.userMemslots);
    }
  });
  it("an unknown one answers 0", () => expect(new FaultFixture("v7.2.12").kvm.checkExtension(0, 9999)).toBe(0));
});

describe("KVM_ENABLE_CAP", () => {
  it("168: v5.4 knows mode 1 only, v6.12 modes 1 and 3, none takes 2", () => {
    const ask = (era: string) => [0, 1, 2, 3].map((mode) => new FaultFixture(era).kvm.enableCap(0, 168, mode));
    expect(ask("v5.4")).toEqual([0, 0, EINVAL, EINVAL]);
    expect(ask("v6.12")).toEqual([0, 0, EINVAL, 0]);
    expect(ask("v4.20")).toEqual([EINVAL, EINVAL, EINVAL, EINVAL]);
  });
  it("MTE and dirty rings only before the first vCPU", () => {
    const m = new FaultFixture("v6.12");
    expect([m.kvm.enableCap(0, 205, 0), m.kvm.enableCap(0, 223, 4096)]).toEqual([EINVAL, EINVAL]);
    const vm = m.kvm.createVm(0);
    expect([m.kvm.enableCap(vm, 205, 0), m.kvm.enableCap(vm, 223, 4096), m.kvm.enableCap(vm, 225, 0)]).toEqual([0, 0, 0]);
  });
  it("the eager split chunk only before the first memslot", () => {
    const m = new FaultFixture("v6.12");
    expect(m.kvm.enableCap(0, 228, 0x200000)).toBe(EINVAL);
    expect(m.kvm.enableCap(m.kvm.createVm(0), 228, 0x200000)).toBe(0);
    expect(new FaultFixture("v6.4").kvm.enableCap(0, 228, 0x200000)).toBe(EINVAL);
  });
  it("an unknown one is EINVAL", () => expect(new FaultFixture("v7.2.12").kvm.enableCap(0, 9999, 1)).toBe(EINVAL));
});
