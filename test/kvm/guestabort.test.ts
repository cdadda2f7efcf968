/** kvm_handle_guest_abort: what each kind of abort becomes, by era. One table per row of kernel-fault-path.md 1.2. */
import { describe, expect, it } from "vitest";
import { ESR_EL1, ESR_EL2, FAR_EL1, FAR_EL2, HCR_EL2, HCR_VSE, HPFAR_EL2, PC, VSESR_EL2 } from "../../src/arch/registers.js";
import { ERAS } from "../../src/eras.js";
import { FaultFixture, GIB, MIB, R_HVA } from "./faultfixture.js";

const S1PTW = 1 << 7;
const EA = 1 << 9;
const CM = 1 << 8;
const WNR = 1 << 6;
const ISV = 1 << 24;
const DABT = 0x92000000;
const IABT = 0x82000000;
const ENOSYS = -38;
const EFAULT = -14;

interface Abort {
  readonly esr: number;
  readonly far?: number;
  readonly ipa: number;
}

/** A VM with memory at 2 GiB (slot 1) and read-only memory at 3 GiB (slot 2). */
function machine(era: string, set: Readonly<Record<string, string>> = {}): FaultFixture {
  const m = new FaultFixture(era, { set });
  m.map(R_HVA, 4 * MIB);
  m.slot(1, 2 * GIB, 2 * MIB, R_HVA);
  m.slot(2, 3 * GIB, 2 * MIB, R_HVA + 2 * MIB, 2);
  m.regs.setNum(m.v, PC, 0x4000_1000);
  m.events.length = 0;
  return m;
}

/** Hands an abort to the handler. @returns what became of it */
function handle(m: FaultFixture, { esr, far, ipa }: Abort) {
  const { regs, v, kvm } = m;
  regs.set64(v, ESR_EL2, 0, esr | 0);
  regs.setNum(v, FAR_EL2, far ?? ipa);
  const hpfar = Math.floor(ipa / 4096) * 16;
  regs.set64(v, HPFAR_EL2, (hpfar / 4294967296) | 0 | (1 << 31), hpfar | 0);
  kvm.vcpus.setExitReason(v, 0);
  const ret = m.run(kvm.guestAbort.activity, [v], kvm.vcpuAgent(v));
  if (kvm.vcpus.needsAdjust(v)) kvm.injector.adjustPc(v);
  const pc = m.reg(PC);
  const moved = pc === "0x40001004" ? "skipped" : pc === "0x40000200" ? `injected ${m.reg(ESR_EL1).slice(-8)} ${m.reg(FAR_EL1)}` : "";
  const exit = ret === 0 ? `exit ${kvm.vcpus.exitReason(v)}` : "";
  const traced = m.names("kvm_guest_fault").length > 0;
  return { ret, what: exit || moved, traced };
}
const outcome = (era: string, a: Abort, set = {}) => {
  const r = handle(machine(era, set), a);
  return r.what === "" ? String(r.ret) : r.what;
};

/** Every era by name, so that a table below names each. */
const ALL = ERAS.map((e) => e.name);
const from = (first: string, ...except: string[]) => ALL.slice(ALL.indexOf(first)).filter((e) => !except.includes(e));
const before = (end: string) => ALL.slice(0, ALL.indexOf(end));

describe("a fetch from an IPA without memslot becomes a prefetch abort at the fetch's address", () => {
  for (const era of ALL) {
    it(era, () => expect(outcome(era, { esr: IABT | 0x06, ipa: 0x2000_0000, far: 0x2000_0ffc })).toBe("injected 86000010 0x20000ffc"));
  }
  it("exit-to-user hands it to userspace instead (proposed ABI)", () => {
    expect(outcome("v6.12", { esr: IABT | 0x06, ipa: 0x2000_0000 }, { execNoSlot: "exit-to-user" })).toBe("exit 28");
  });
});

describe("a load without memslot is MMIO", () => {
  for (const era of ALL) {
    it(era, () => expect(outcome(era, { esr: 0x93c48006, ipa: 0x2000_0000, far: 0x2000_0008 })).toBe("exit 6"));
  }
});

describe("an access without syndrome and without memslot is ENOSYS", () => {
  for (const era of ALL) it(era, () => expect(outcome(era, { esr: DABT | WNR | 0x06, ipa: 0x2000_0000 })).toBe(String(ENOSYS)));
});

describe("capability 177 makes it an exit, from v5.6 on", () => {
  for (const era of ALL) {
    it(era, () => {
      const m = machine(era);
      const known = before("v5.6").includes(era) ? -22 : 0;
      expect(m.kvm.enableCap(m.vm, 177, 0)).toBe(known);
      const r = handle(m, { esr: DABT | WNR | 0x06, ipa: 0x2000_0000, far: 0x2000_0008 });
      expect(r.ret).toBe(known === 0 ? 0 : ENOSYS);
      if (known === 0) expect([m.exit, m.kvm.vcpus.nisvIss(m.v), m.kvm.vcpus.nisvIpa(m.v)]).toEqual([28, 0x46, 0x2000_0008]);
    });
  }
});

describe("cache maintenance without memslot", () => {
  const dc: Abort = { esr: DABT | CM | WNR | 0x06, ipa: 0x2000_0000 };
  it("v4.0: ENOSYS (bug D7)", () => expect(outcome("v4.0", dc)).toBe(String(ENOSYS)));
  for (const era of from("v4.10")) it(`${era}: skipped`, () => expect(outcome(era, dc)).toBe("skipped"));
  const readonly: Abort = { esr: DABT | CM | WNR | 0x07, ipa: 3 * GIB };
  for (const era of ["v4.10", "v5.4", "v5.5", "v5.8"])
    it(`${era}: skipped also on a read-only slot`, () => expect(outcome(era, readonly)).toBe("skipped"));
  for (const era of from("v5.10"))
    it(`${era}: on a read-only slot it is MMIO without syndrome`, () => expect(outcome(era, readonly)).toBe(String(ENOSYS)));
});

describe("a stage-1 walk of a data access that finds no memslot", () => {
  const walk: Abort = { esr: DABT | S1PTW | 0x06, ipa: 0x2000_0000, far: 0xc000_0000 };
  for (const era of before("v5.10"))
    it(`${era}: ENOSYS, as it never has a syndrome`, () => expect(outcome(era, walk)).toBe(String(ENOSYS)));
  for (const era of from("v5.10", "v6.18.2", "v7.2.12", "v7.3.4")) {
    it(`${era}: data abort`, () => expect(outcome(era, walk)).toBe("injected 96000010 0xc0000000"));
  }
  it("v5.4: an AT whose walk finds none is skipped", () => expect(outcome("v5.4", { ...walk, esr: walk.esr | CM | WNR })).toBe("skipped"));
});

describe("a write to a read-only slot is MMIO", () => {
  for (const era of ALL) it(era, () => expect(outcome(era, { esr: 0x93c1804f, ipa: 3 * GIB })).toBe("exit 6"));
});

describe("a stage-1 table in a read-only slot (bug D4)", () => {
  const walk: Abort = { esr: DABT | S1PTW | 0x06, ipa: 3 * GIB, far: 0xc000_0000 };
  for (const era of ["v5.10", "v5.11", "v5.12", "v5.14", "v5.15", "v6.1"])
    it(`${era}: always a write, so a data abort`, () => expect(outcome(era, walk)).toMatch(/^injected 96000010/));
  for (const era of ["v4.0", "v6.1.192", "v6.4", "v6.6", "v6.8", "v6.12", "v7.2.12"])
    it(`${era}: mapped read-only`, () => expect(outcome(era, walk)).toBe("1"));
  it("v4.10 - v5.8: the data walk is a write: ENOSYS", () => expect(outcome("v5.4", walk)).toBe(String(ENOSYS)));
  it("v5.8: the walk of a fetch is no write (bug D3)", () => expect(outcome("v5.8", { ...walk, esr: IABT | S1PTW | 0x06 })).toBe("1"));
});

describe("an IPA beyond the VM", () => {
  const beyond: Abort = { esr: 0x93c48006, ipa: 2 ** 40 + 0x1000, far: 0x8 };
  for (const era of [...before("v6.1"), "v6.8"]) it(`${era}: MMIO`, () => expect(outcome(era, beyond)).toBe("exit 6"));
  for (const era of from("v6.1", "v6.8")) {
    it(`${era}: external abort with the IPA in FAR, no kvm_guest_fault`, () => {
      const r = handle(machine(era), beyond);
      expect(r).toEqual({ ret: 1, what: "injected 96000010 0x10000001008", traced: false });
    });
  }
  it("v6.1: beyond the host's limit a size fault", () => {
    expect(outcome("v6.1", { ...beyond, ipa: 2 ** 48 })).toBe("injected 96000000 0x1000000000008");
  });
  it("v6.8 tests permission faults instead (bug D6)", () => {
    expect(outcome("v6.8", { ...beyond, esr: 0x93c4800e })).toMatch(/^injected 96000010/);
  });
});

describe("an external abort of the guest", () => {
  const data: Abort = { esr: DABT | 0x10, ipa: 2 * GIB };
  const fetch: Abort = { esr: IABT | 0x10, ipa: 2 * GIB };
  it("v4.0: an unsupported fault status", () => expect(outcome("v4.0", data)).toBe(String(EFAULT)));
  it("v4.10: SError for data where the syndrome has EA, else an unsupported fault status", () => {
    const m = machine("v4.10");
    expect(handle(m, { ...data, esr: data.esr | EA })).toMatchObject({ ret: 1, traced: false });
    // HCR_EL2.VSE alone: VSESR_EL2 came with the RAS extension, v4.16.
    expect([m.regs.lo(m.v, HCR_EL2) & HCR_VSE, m.regs.lo(m.v, VSESR_EL2)]).toEqual([HCR_VSE, 0]);
    for (const a of [data, fetch, { ...fetch, esr: fetch.esr | EA }])
      expect(handle(machine("v4.10"), a)).toMatchObject({ ret: EFAULT, traced: true });
  });
  it("v5.4: SError for data; a fetch falls through to EFAULT", () => {
    expect(handle(machine("v5.4"), data)).toMatchObject({ ret: 1, traced: false });
    expect(handle(machine("v5.4"), fetch)).toMatchObject({ ret: EFAULT, traced: true });
  });
  for (const era of from("v5.10")) {
    it(`${era}: SError for both, no kvm_guest_fault`, () => {
      for (const a of [data, fetch]) {
        const m = machine(era);
        expect(handle(m, a)).toMatchObject({ ret: 1, traced: false });
        expect(m.names("inject_vabt")).toEqual(["inject_vabt"]);
      }
    });
  }
  it("v7.2 with capability 245: exit 41", () => {
    const m = machine("v7.2.12");
    expect(m.kvm.enableCap(m.vm, 245, 0)).toBe(0);
    expect(handle(m, data)).toMatchObject({ ret: 0, what: "exit 41" });
  });
});

describe("other fault classes", () => {
  it("an access flag fault is refused by v4.0 and fixed from v4.10 on", () => {
    const af: Abort = { esr: DABT | 0x0b, ipa: 2 * GIB };
    expect(outcome("v4.0", af)).toBe(String(EFAULT));
    for (const era of from("v4.10")) {
      const m = machine(era);
      expect(handle(m, af).ret, era).toBe(1);
      expect(m.names("kvm_guest_fault", "kvm_access_fault")).toEqual(["kvm_guest_fault", "kvm_access_fault"]);
    }
  });
  it("a TLB conflict is always EFAULT", () => {
    for (const era of ALL) expect(outcome(era, { esr: DABT | 0x30, ipa: 2 * GIB }), era).toBe(String(EFAULT));
  });
  it("FSC 0x35 is EFAULT up to v6.18, a data abort with the same status later", () => {
    const exclusive: Abort = { esr: DABT | 0x35, ipa: 2 * GIB, far: 0x77 };
    expect(outcome("v6.18.2", exclusive)).toBe(String(EFAULT));
    expect(outcome("v7.2.12", exclusive)).toBe("injected 96000035 0x77");
  });
  it("a read permission fault is EFAULT up to v6.16, handled later", () => {
    const read: Abort = { esr: DABT | 0x0f, ipa: 2 * GIB };
    for (const era of before("v6.17")) expect(outcome(era, read), era).toBe(String(EFAULT));
    for (const era of from("v6.17")) expect(outcome(era, read), era).toBe("1");
  });
});

describe("no VMA behind a memslot is EFAULT without a pfn lookup", () => {
  for (const era of ALL) {
    it(era, () => {
      const m = machine(era);
      m.munmap(R_HVA, 2 * MIB);
      m.events.length = 0;
      expect(handle(m, { esr: 0x93c48006, ipa: 2 * GIB }).ret).toBe(EFAULT);
      expect(m.names("pfn_lookup", "memslot_lookup", "vma_lookup")).toEqual(["memslot_lookup", "vma_lookup"]);
    });
  }
});

describe("v6.17 checks that HPFAR is valid", () => {
  it("an abort with an invalid one bugs the VM", () => {
    const m = machine("v6.17");
    m.regs.set64(m.v, ESR_EL2, 0, DABT | ISV | 0x06);
    m.regs.set64(m.v, HPFAR_EL2, 0, 0x80000 << 4);
    expect(m.run(m.kvm.guestAbort.activity, [m.v], m.kvm.vcpuAgent(m.v))).toBe(EFAULT);
    expect(m.enter()).toBe(-5);
  });
});
