/** KVM_RUN: entry, exits, MMIO completion, hypercalls, budgets; the trace points in the kernel's order. */
import { describe, expect, it } from "vitest";
import { CTR_EL0, ELR_EL1, ESR_EL1, PAR_EL1, PC, STOP_ENABLED, STOP_PC, VBAR_EL1 } from "../../src/arch/registers.js";
import { ERAS } from "../../src/eras.js";
import { EXIT_BUDGET, EXIT_SELF_BRANCH, EXIT_WFI, exitName } from "../../src/kvm/vcpus.js";
import { DONE, ENTRY, FaultFixture, MIB, R_HVA, type FaultFixtureOptions } from "./faultfixture.js";

const ALL = ERAS.map((e) => e.name);
const IPA = 0x8000_0000;

describe("an MMIO load", () => {
  const load = (era: string, text: string, lo: number, hi = 0): FaultFixture => {
    const m = new FaultFixture(era);
    expect(m.exec(text, DONE + 8)).toBe(0);
    expect([exitName(m.exit), m.kvm.vcpus.mmioAddress(m.v), m.kvm.vcpus.mmioIsWrite(m.v)]).toEqual(["MMIO", DONE + 8, false]);
    m.kvm.vcpus.setMmioData(m.v, hi, lo);
    m.events.length = 0;
    m.enter();
    return m;
  };
  for (const era of ALL) {
    it(`${era}: the value arrives, the PC has moved`, () => {
      const m = load(era, "ldr x4, [x0]", 0x55667788, 0x11223344);
      expect(m.x(4)).toBe("0x1122334455667788");
      expect(m.exit).toBe(EXIT_SELF_BRANCH);
    });
  }
  it("a signed load loses its sign up to v7.1 (bug D11) and keeps it in v7.2", () => {
    for (const era of ALL.slice(0, ALL.indexOf("v7.2.12"))) expect(load(era, "ldrsb x4, [x0]", 0x88).x(4), era).toBe("0x88");
    expect(load("v7.2.12", "ldrsb x4, [x0]", 0x88).x(4)).toBe("0xffffffffffffff88");
    expect(load("v7.2.12", "ldrsb w4, [x0]", 0x88).x(4)).toBe("0xffffff88");
    expect(load("v7.2.12", "ldrsh x4, [x0]", 0x9788).x(4)).toBe("0xffffffffffff9788");
    expect(load("v7.2.12", "ldrsw x4, [x0]", 0xb5a69788 | 0).x(4)).toBe("0xffffffffb5a69788");
  });
  it("the trace shows the extended value up to v7.1, the raw one later", () => {
    expect(load("v6.12", "ldrsb x4, [x0]", 0x88).all("kvm_mmio")[0]!["val"]).toBe("0xffffffffffffff88");
    expect(load("v7.2.12", "ldrsb x4, [x0]", 0x88).all("kvm_mmio")[0]!["val"]).toBe("0x88");
  });
  it("into XZR writes nothing", () => expect(load("v6.12", "ldr xzr, [x0]", 7).x(4)).toBe("0x0"));
});

describe("an MMIO store", () => {
  it("carries the data cut to its size", () => {
    for (const [text, len, value] of [
      ["str x1, [x0]", 8, "1122334455667788"],
      ["str w1, [x0]", 4, "55667788"],
      ["strh w1, [x0]", 2, "7788"],
      ["strb w1, [x0]", 1, "88"],
    ] as const) {
      const m = new FaultFixture("v6.12");
      m.load(`${text}\nb #0`, DONE);
      m.regs.set64(m.v, 2, 0x11223344, 0x55667788);
      m.enter();
      const { vcpus } = m.kvm;
      const data = (BigInt(vcpus.mmioHi(m.v) >>> 0) << 32n) | BigInt(vcpus.mmioLo(m.v) >>> 0);
      expect([vcpus.mmioLen(m.v), data.toString(16)]).toEqual([len, value]);
    }
  });
  it("v4.0 moves the PC before the exit, v5.4 when it completes", () => {
    const pcAtExit = (era: string) => {
      const m = new FaultFixture(era);
      m.exec("str x1, [x0]", DONE);
      return m.reg(PC);
    };
    expect(pcAtExit("v4.0")).toBe("0x40001004");
    expect(pcAtExit("v5.4")).toBe("0x40001000");
  });
});

describe("userspace aborts an MMIO load instead of answering it (KVM_SET_VCPU_EVENTS)", () => {
  const abort = (era: string) => {
    const m = new FaultFixture(era);
    m.exec("ldr x4, [x0]", DONE);
    const ret = m.kvm.setVcpuEvents(m.v, true, false);
    m.kvm.vcpus.setMmioData(m.v, 0, 0x77);
    m.enter(50, 64);
    return { ret, x4: m.x(4), esr: m.reg(ESR_EL1), elr: m.reg(ELR_EL1) };
  };
  it("v5.4 refuses", () => expect(abort("v5.4").ret).toBe(-22));
  it("v6.12 still writes the register", () => expect(abort("v6.12").x4).toBe("0x77"));
  for (const era of ["v6.1.192", "v6.12.117", "v6.17", "v7.2.12"])
    it(`${era} skips the completion`, () => expect(abort(era).x4).toBe("0x0"));
});

describe("KVM_SET_VCPU_EVENTS after an MMIO load", () => {
  const VBAR = 0x4000_0000;
  const aborted = (era: string) => {
    const m = new FaultFixture(era);
    m.exec("ldr x4, [x0]", DONE);
    m.kvm.vcpus.setMmioData(m.v, 0, 0x77);
    m.regs.set64(m.v, VBAR_EL1, 0, VBAR);
    expect(m.kvm.setVcpuEvents(m.v, true, false)).toBe(0);
    return m;
  };
  const state = (m: FaultFixture) => [m.reg(PC), m.x(4)];
  it("v6.12 pends the abort, v6.17 has written the registers when the call returns", () => {
    expect(aborted("v6.12").reg(PC)).toBe("0x40001000");
    expect(aborted("v6.17").reg(PC)).toBe("0x40000200");
  });
  it("immediate_exit, twice: stable v6.1 and v6.12, and v6.13, complete the aborted load at the vector; v6.17 never", () => {
    for (const era of ["v6.1.192", "v6.12.117", "v6.13"]) {
      const m = aborted(era);
      m.immediateExit();
      expect(state(m), era).toEqual(["0x40000200", "0x0"]);
      m.immediateExit();
      expect(state(m), era).toEqual(["0x40000204", "0x77"]);
    }
    for (const era of ["v6.17", "v7.2.12"]) {
      const m = aborted(era);
      m.immediateExit();
      m.immediateExit();
      expect(state(m), era).toEqual(["0x40000200", "0x0"]);
    }
  });
});

describe("kvm_run.immediate_exit after an MMIO exit", () => {
  const LOAD = "0x40001000";
  const complete = (era: string, options: FaultFixtureOptions = {}) => {
    const m = new FaultFixture(era, options);
    m.exec("ldr x4, [x0]\nmov x5, #1\nmov x6, #1", DONE);
    m.kvm.vcpus.setMmioData(m.v, 0, 0x77);
    m.events.length = 0;
    const ret = m.immediateExit();
    return { m, ret };
  };
  const at = (era: string) => {
    const { m, ret } = complete(era);
    return [ret, m.x(4), m.reg(PC)];
  };
  const AFTER = "0x40001004";
  it("v4.0 and v4.10 do not know it: the guest goes on to its end", () => {
    for (const era of ["v4.0", "v4.10"]) {
      const { m, ret } = complete(era);
      expect([ret, m.exit, m.x(6)], era).toEqual([0, EXIT_SELF_BRANCH, "0x1"]);
    }
  });
  it("v4.20 to v5.10: EINTR with the register written and the PC behind the instruction", () => {
    for (const era of ["v4.20", "v5.4", "v5.10"]) expect(at(era), era).toEqual([-4, "0x77", AFTER]);
  });
  it("v5.11, v5.12: the PC has not moved yet (bug D9)", () => {
    for (const era of ["v5.11", "v5.12"]) expect(at(era), era).toEqual([-4, "0x77", LOAD]);
  });
  it("from v5.14 on it has", () => {
    for (const era of ["v5.14", "v6.1", "v6.12", "v7.2.12"]) expect(at(era), era).toEqual([-4, "0x77", AFTER]);
  });
  it("the exit reason stays MMIO, and kvm_userspace_exit has it beside the error", () => {
    for (const era of ["v5.4", "v6.12"]) {
      const { m } = complete(era);
      expect(exitName(m.exit), era).toBe("MMIO");
      expect(
        m.all("kvm_userspace_exit").map((e) => [e["reason"], e["errno"]]),
        era,
      ).toEqual([[6, -4]]);
      expect(m.names("kvm_entry"), era).toEqual([]);
    }
  });
  it("a run that the emulator ended counts as one that a signal did: no exit reason of its own is in the trace", () => {
    for (const era of ["v5.4", "v6.12"]) {
      const m = new FaultFixture(era);
      m.exec("nop");
      expect([m.exit, m.immediateExit(), exitName(m.exit)], era).toEqual([EXIT_SELF_BRANCH, -4, "INTR"]);
      expect(
        m.all("kvm_userspace_exit").map((e) => [e["reason"], e["errno"]]),
        era,
      ).toEqual([[10, -4]]);
    }
  });
  it("the next KVM_RUN completes nothing again, and the guest goes on behind the load", () => {
    for (const era of ["v5.4", "v5.11", "v6.12"]) {
      const { m } = complete(era);
      m.enter();
      expect([m.x(4), m.x(5), m.x(6)], era).toEqual(["0x77", "0x1", "0x1"]);
      expect(m.all("kvm_mmio").length, era).toBe(1);
    }
  });
  it("v5.0 to v5.2 completed again, and left the next instruction out", () => {
    const { m } = complete("v5.4", { set: { mmioReturn: "every-run" } });
    m.enter();
    expect([m.x(5), m.x(6)]).toEqual(["0x0", "0x1"]);
    expect(m.all("kvm_mmio").length).toBe(2);
  });
  it("v4.20 completed again too, but had moved the PC before the exit", () => {
    const { m } = complete("v4.20");
    m.regs.set64(m.v, 8, 0, 5);
    m.enter();
    expect([m.x(4), m.x(5)]).toEqual(["0x77", "0x1"]);
  });
});

describe("the kernel's trace points come in the kernel's order", () => {
  it("a RAM fault: exit, guest fault, entry", () => {
    const m = new FaultFixture("v6.12");
    m.map(R_HVA, MIB);
    m.slot(1, IPA, MIB, R_HVA);
    m.exec("nop");
    m.exec("ldr x4, [x0]", IPA);
    expect(m.names("kvm_entry", "kvm_exit", "kvm_guest_fault", "kvm_mmio", "kvm_userspace_exit")).toEqual([
      "kvm_entry",
      "kvm_exit",
      "kvm_guest_fault",
      "kvm_entry",
      "kvm_exit",
    ]);
  });
  it("an MMIO read: exit, guest fault, unsatisfied-read, userspace exit; then read, entry", () => {
    const m = new FaultFixture("v6.12");
    m.exec("nop");
    m.exec("ldr x4, [x0]", DONE);
    expect(m.names("kvm_entry", "kvm_exit", "kvm_guest_fault", "kvm_mmio", "kvm_userspace_exit")).toEqual([
      "kvm_entry",
      "kvm_exit",
      "kvm_guest_fault",
      "kvm_mmio",
      "kvm_userspace_exit",
    ]);
    m.events.length = 0;
    m.enter();
    expect(m.names("kvm_entry", "kvm_mmio").slice(0, 2)).toEqual(["kvm_mmio", "kvm_entry"]);
  });
});

describe("hypercalls", () => {
  it("an unknown function is not supported: x0 = -1", () => {
    const m = new FaultFixture("v6.12");
    m.exec("hvc #0", 0xdead);
    expect(m.x(0)).toBe("0xffffffffffffffff");
    expect(m.exit).toBe(EXIT_SELF_BRANCH);
  });
  it("PSCI_VERSION and SYSTEM_OFF", () => {
    const m = new FaultFixture("v6.12");
    m.exec("hvc #0", 0x84000000);
    expect(m.x(0)).toBe("0x10001");
    m.exec("hvc #0", 0x84000008);
    expect([exitName(m.exit), m.kvm.vcpus.systemEvent(m.v)]).toEqual(["SYSTEM_EVENT", 1]);
  });
});

describe("a run ends", () => {
  it("at a budget of instructions", () => {
    const m = new FaultFixture("v6.12");
    m.load("add x4, x4, #1\nb #-4");
    expect(m.enter(0, 1000)).toBe(0);
    expect(m.exit).toBe(EXIT_BUDGET);
  });
  it("at a budget of exits: an endless fault loop is no hang", () => {
    const m = new FaultFixture("v6.12");
    m.load("hvc #0\nb #-4");
    m.enter(10);
    expect(m.exit).toBe(EXIT_BUDGET);
    expect(m.kvm.vcpus.exits(m.v)).toBe(10);
  });
  it("at a breakpoint, before the instruction", () => {
    const m = new FaultFixture("v6.12");
    m.load("nop\nnop\nb #0");
    m.regs.setNum(m.v, STOP_PC, ENTRY + 4);
    m.regs.set64(m.v, STOP_ENABLED, 0, 1);
    m.enter();
    expect([exitName(m.exit), m.reg(PC)]).toEqual(["DEBUG", `0x${(ENTRY + 4).toString(16)}`]);
  });
  it("at WFI", () => {
    const m = new FaultFixture("v6.12");
    m.exec("wfi");
    expect(m.exit).toBe(EXIT_WFI);
  });
});

describe("a poisoned page", () => {
  const poisoned = (era: string) => {
    const m = new FaultFixture(era);
    m.map(R_HVA, 4 * MIB);
    m.slot(1, IPA, 4 * MIB, R_HVA);
    m.poke(R_HVA, 1);
    m.run(m.mm.syscalls.madvise, [0, R_HVA, 4096, 100]);
    return { ret: m.exec("ldr x4, [x0]", IPA), exit: exitName(m.exit), code: m.kvm.vcpus.signalCode(m.v) };
  };
  it("is EFAULT in v4.0", () => expect(poisoned("v4.0").ret).toBe(-14));
  for (const era of ["v5.4", "v6.1", "v6.12", "v7.2.12"]) {
    it(`${era}: SIGBUS BUS_MCEERR_AR, then EINTR`, () => expect(poisoned(era)).toEqual({ ret: -4, exit: "INTR", code: 4 }));
  }
});

describe("a new vCPU", () => {
  it("has the kernel's reset values; CTR_EL0 is the CPU's up to v6.1, the sanitised one from v6.4", () => {
    const m = new FaultFixture("v6.1");
    expect(m.reg(PAR_EL1)).toBe("0x1de7ec7edbadc0de");
    expect(m.reg(CTR_EL0)).toBe("0x8444c004");
    expect(new FaultFixture("v6.4").reg(CTR_EL0)).toBe("0x9444c004");
  });
});

describe("while agents are interleaved", () => {
  it("every guest instruction is a phase, with the same result", () => {
    const run = (interleave: boolean) => {
      const m = new FaultFixture("v6.12");
      m.map(R_HVA, MIB);
      m.slot(1, IPA, MIB, R_HVA);
      m.kvm.interleave = interleave;
      m.exec("str x1, [x0]\nldr x4, [x0]\nadd x5, x4, #1", IPA, 41);
      return [m.x(4), m.x(5)];
    };
    expect(run(true)).toEqual(run(false));
  });
  it("two vCPUs that fault on one device page both get through in v5.11 and later, not in v5.4 (bug A2)", () => {
    const both = (era: string, slot: number) => {
      const m = new FaultFixture(era, { devices: ["ivshmem"], set: { eagerDeviceMapping: "false" } });
      m.open("0000:00:06.0");
      m.map(R_HVA, 16 * MIB, { shared: true, fd: m.fd, offset: m.vfio.regionOffset(2) });
      m.slot(1, IPA, slot, R_HVA);
      const w = m.kvm.createVcpu(m.vm);
      m.load("ldr x4, [x0]\nb #0", IPA);
      for (const v of [m.v, w]) {
        m.regs.setNum(v, PC, ENTRY);
        m.regs.setNum(v, 0, IPA);
      }
      const agents = [m.kvm.vcpuAgent(m.v), m.kvm.vcpuAgent(w)];
      for (const [i, a] of agents.entries()) m.sim.agents.start(a, m.kvm.run, i === 0 ? m.v : w, 100, 20);
      for (let i = 0; i < 2000 && agents.some((a) => m.sim.agents.busy(a)); i++) m.sim.agents.step(agents[i % 2]!);
      return agents.map((a) => m.sim.agents.result(a));
    };
    expect(both("v5.4", 0x3000)).toContain(-14);
    expect(both("v5.14", 0x3000)).toEqual([0, 0]);
    expect(both("v6.12", 0x3000)).toEqual([0, 0]);
  });
});

describe("a guest that switches its caches on (HCR_EL2.TVM)", () => {
  /** Level-1 tables: block 1 maps the code, block 2 the RAM. */
  const on = (era: string, cpu: string) => {
    const m = new FaultFixture(era, { cpu });
    m.map(R_HVA, 2 * MIB);
    m.slot(1, IPA, 2 * MIB, R_HVA);
    m.poke(R_HVA + 0x8, 0x40000705);
    m.poke(R_HVA + 0x10, 0x80000705 | 0);
    const text = "msr ttbr0_el1, x0\nmsr mair_el1, x1\nmsr tcr_el1, x2\nisb\nmsr sctlr_el1, x3\nisb\nldr x4, [x0]";
    m.exec(text, IPA, 0xff00, 0x2_0080_3519, 0x30d0_199d);
    return m;
  };
  it("without S2FWB every write traps, the last one flushes all memory and ends the trapping", () => {
    const m = on("v6.12", "cortex-a76");
    expect(m.all("kvm_toggle_cache").map((e) => [e["was"], e["now"]])).toEqual([
      [false, false],
      [false, false],
      [false, false],
      [false, true],
    ]);
    expect(m.names("dcache_clean").length).toBeGreaterThan(0);
    m.exec("msr ttbr0_el1, x0", IPA);
    expect(m.all("kvm_toggle_cache")).toEqual([]);
  });
  it("with S2FWB nothing traps", () => expect(on("v6.12", "max").all("kvm_toggle_cache")).toEqual([]));
  it("v4.0 traps on every CPU", () => expect(on("v4.0", "max").all("kvm_toggle_cache").length).toBe(4));
  it("a set/way operation with the caches on flushes all and traps again", () => {
    const m = on("v6.12", "cortex-a76");
    m.exec("dc csw, x0", 0);
    expect(m.names("kvm_set_way_flush")).toEqual(["kvm_set_way_flush"]);
  });
});

describe("device memory that KVM itself maps (the GICv2 CPU interface)", () => {
  it("needs no memslot and no VMA, and no fault ever reaches KVM", () => {
    for (const era of ["v4.0", "v5.4", "v5.12", "v6.12", "v7.2.12"]) {
      const m = new FaultFixture(era, { devices: ["ivshmem"] });
      expect(m.run(m.kvm.physAddrIoremap, [m.vm, 0x0801_0000, 0x2000, 0x80_0100_0000, 1])).toBe(0);
      m.exec("nop");
      m.exec("ldr w4, [x0]", 0x0801_0000);
      expect(m.names("kvm_guest_fault"), era).toEqual([]);
    }
  });
});

describe("PSCI", () => {
  it("says what it knows and switches a vCPU off", () => {
    const m = new FaultFixture("v6.12");
    m.exec("hvc #0", 0x8400000a, 0x84000008);
    expect(m.x(0)).toBe("0x0");
    m.exec("hvc #0", 0x8400000a, 0x84000003);
    expect(m.x(0)).toBe("0xffffffffffffffff");
    m.exec("hvc #0", 0x80000000);
    expect(m.x(0)).toBe("0x10001");
    m.exec("hvc #0", 0x84000002);
    expect(m.exit).toBe(EXIT_WFI);
    m.enter();
    expect(m.exit).toBe(EXIT_WFI);
  });
  it("an SMC is answered like an unknown call, past the instruction", () => {
    const m = new FaultFixture("v6.12");
    m.exec("smc #0", 7);
    expect([m.x(0), m.exit]).toEqual(["0xffffffffffffffff", EXIT_SELF_BRANCH]);
  });
});

describe("EL2 finds the IPA of a permission fault by translating FAR again", () => {
  it("an exit whose translation fails is abandoned: no trace, the guest re-executes", () => {
    const m = new FaultFixture("v6.12");
    m.map(R_HVA, MIB);
    m.slot(1, IPA, MIB, R_HVA);
    m.exec("ldr x4, [x0]", IPA);
    // The first attempt fails, as if the guest had changed its tables meanwhile; then it works.
    const real = m.pe.translateIpa.bind(m.pe);
    let first = true;
    m.pe.translateIpa = (v, hi, lo) => {
      if (!first) return real(v, hi, lo);
      first = false;
      return -1;
    };
    m.exec("str x1, [x0]", IPA, 5);
    expect(m.names("exit_abandoned")).toEqual(["exit_abandoned"]);
    expect(m.all("kvm_guest_fault").length).toBe(m.all("guest_abort").length);
  });
});
