/** MMU notifiers in KVM: counts, trace points and what change_pte and aging do, by era. */
import { describe, expect, it } from "vitest";
import { ERAS } from "../../src/eras.js";
import { FaultFixture, MIB, R_HVA } from "./faultfixture.js";

const ALL = ERAS.map((e) => e.name);
const IPA = 0x8000_0000;
const OTHER = 0x7200_0000_0000;

function mapped(era: string): FaultFixture {
  const m = new FaultFixture(era);
  m.map(R_HVA, 4 * MIB);
  m.slot(1, IPA, 4 * MIB, R_HVA);
  m.exec("str x1, [x0]", IPA, 5);
  m.events.length = 0;
  return m;
}

describe("an invalidation that overlaps a slot counts; one that does not counts only up to v5.14", () => {
  for (const era of ALL) {
    it(era, () => {
      const m = mapped(era);
      const always = ALL.indexOf(era) <= ALL.indexOf("v5.14");
      const before = m.kvm.vms.seq(m.vm);
      m.munmap(R_HVA, 4 * MIB);
      expect(m.kvm.vms.seq(m.vm)).toBe(before + 1);
      m.map(OTHER, 4 * MIB);
      m.run(m.mm.hostAccess, [0, OTHER, 4, 1, 1, 0]);
      m.munmap(OTHER, 4 * MIB);
      expect(m.kvm.vms.seq(m.vm)).toBe(before + (always ? 2 : 1));
      expect([m.kvm.vms.inProgress(m.vm), m.kvm.vms.mnActive(m.vm)]).toEqual([0, 0]);
    });
  }
});

describe("kvm_unmap_hva_range", () => {
  it("comes before any lock from v5.14 on, under mmu_lock before", () => {
    const order = (era: string) => {
      const m = mapped(era);
      m.munmap(R_HVA, 4 * MIB);
      const trace = m.events.findIndex((e) => e.event === "kvm_unmap_hva_range");
      const lock = m.events.findIndex((e) => e.event === "lock_acquired" && e["lock"] === "mmu_lock");
      return trace < lock;
    };
    expect([order("v5.12"), order("v5.14"), order("v6.12")]).toEqual([false, true, true]);
  });
  it("shows the raw range; stage 2 is emptied only where slots are", () => {
    const m = mapped("v6.12");
    m.map(R_HVA + 4 * MIB, 2 * MIB);
    m.events.length = 0;
    m.munmap(R_HVA + 2 * MIB, 4 * MIB);
    const last = m.all("kvm_unmap_hva_range").at(-1)!;
    expect([last["start"], last["end"]]).toEqual([R_HVA + 2 * MIB, R_HVA + 6 * MIB]);
    const unmapped = m.all("stage2_unmap").at(-1)!;
    expect([unmapped["ipa"], unmapped["size"]]).toEqual([IPA + 2 * MIB, 2 * MIB]);
  });
  it("v4.0 unmaps page by page, v5.4 slot by slot", () => {
    const count = (era: string) => {
      const m = mapped(era);
      m.munmap(R_HVA, 4 * MIB);
      return m.all("stage2_unmap").length;
    };
    expect(count("v4.0")).toBe(1024);
    expect(count("v5.4")).toBe(1);
  });
});

describe("a guest write to the zero page", () => {
  const cow = (era: string) => {
    const m = new FaultFixture(era);
    m.map(R_HVA, 4 * MIB);
    m.slot(1, IPA, 4 * MIB, R_HVA);
    m.exec("ldr x4, [x0]\nstr x1, [x0]", IPA, 5);
    return m.names("kvm_set_spte_hva", "mmu_retry");
  };
  for (const era of ["v4.0", "v5.4", "v5.14", "v6.1", "v6.1.192", "v6.8", "v6.9"]) {
    it(`${era}: change_pte between range start and end, then the fault retries`, () =>
      expect(cow(era)).toEqual(["kvm_set_spte_hva", "mmu_retry"]));
  }
  for (const era of ["v6.12", "v6.12.117", "v6.18.2", "v7.2.12"])
    it(`${era}: no change_pte`, () => expect(cow(era)).toEqual(["mmu_retry"]));
});

describe("aging", () => {
  const young = (era: string, which: "clearFlushYoung" | "clearYoung" | "testYoung") => {
    const m = mapped(era);
    const r = m.run(m.mm.notifiers[which], [0, R_HVA, R_HVA + 4096]);
    return [r, m.kvm.dump.leaves(m.vm).find((l) => l.ipa === IPA)?.af];
  };
  it("clear_flush_young and clear_young make the page old, test_young only looks", () => {
    for (const era of ["v5.14", "v6.1", "v6.12", "v7.2.12"]) {
      expect(young(era, "clearFlushYoung"), era).toEqual([1, 0]);
      expect(young(era, "clearYoung"), era).toEqual([1, 0]);
      expect(young(era, "testYoung"), era).toEqual([1, 1]);
    }
  });
  it("v4.0 has only a stub", () => expect(young("v4.0", "clearFlushYoung")).toEqual([0, 1]));
  it("test_young always says no up to v5.5 (bug B7)", () => {
    expect(young("v5.4", "testYoung")[0]).toBe(0);
    expect(young("v5.6", "testYoung")[0]).toBe(1);
  });
  it("an access to an old page with hardware access flag off is an access-flag fault", () => {
    const m = new FaultFixture("v5.4", { set: { vtcrHardwareAccessFlag: "never" } });
    m.map(R_HVA, 4 * MIB);
    m.slot(1, IPA, 4 * MIB, R_HVA);
    m.exec("str x1, [x0]", IPA, 5);
    m.run(m.mm.notifiers.clearFlushYoung, [0, R_HVA, R_HVA + 4096]);
    m.exec("ldr x4, [x0]", IPA);
    expect(m.names("kvm_access_fault")).toEqual(["kvm_access_fault"]);
    expect(m.x(4)).toBe("0x5");
  });
});

describe("release", () => {
  it("drops the whole stage 2 from v5.4 on; v4.0 keeps it", () => {
    const left = (era: string) => {
      const m = mapped(era);
      m.run(m.mm.notifiers.release, [0]);
      return m.kvm.vms.root(m.vm) === 0;
    };
    expect([left("v4.0"), left("v5.4"), left("v6.12")]).toEqual([false, true, true]);
  });
});
