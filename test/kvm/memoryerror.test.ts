/** Uncorrectable errors in RAM: what a guest's and the VMM's access to one becomes, by release, firmware and CPU. */
import { describe, expect, it } from "vitest";
import { ERAS } from "../../src/eras.js";
import type { Apei } from "../../src/arch/memoryerrors.js";
import { failures, runAll } from "../guest/run.js";
import { CALL, GuestOps, LOAD, said, STORE } from "../../src/selftest/guestops.js";
import { GuestVm } from "../../src/selftest/guestvm.js";
import { runCase } from "../../src/selftest/report.js";
import { seaToUser } from "../../src/selftest/seatouser.js";

const MEMORY = 0x80000000;
const AT = MEMORY + 0x2100;
const SERROR_UNMASKED = 0x2c5n;
const MIB = 2 ** 20;

interface Options {
  readonly apei?: Apei;
  readonly cpu?: string;
  readonly cap?: boolean;
  readonly set?: Readonly<Record<string, string>>;
}

/** A guest with stage 1 on, data at AT, and a load there that succeeds. */
function guest(kernel: string, { apei = "einj", cpu = "max", cap = false, set = {} }: Options = {}) {
  const g = new GuestVm({ kernel, cpu, set }, 0, apei);
  g.boot();
  g.add(2, MEMORY, 2 * MIB, "anonymous");
  g.map(MEMORY, MEMORY, 4);
  g.start();
  if (cap) expect(g.vm.enableCap(245, 0)).toBe(0);
  const ops = new GuestOps(g);
  g.store(AT, 0x1234n);
  expect(ops.outcome(LOAD, AT)).toBe("0x1234");
  return { g, ops };
}

/** Runs an operation of the guest with SErrors unmasked. @returns what became of it, in words */
function outcome({ g, ops }: ReturnType<typeof guest>, lines: readonly string[] = LOAD, at = AT): string {
  g.restart(g.vcpu, ops.entry(lines), { x0: BigInt(at), x1: 5n });
  g.vcpu.set("pstate", SERROR_UNMASKED);
  const e = g.run();
  if (e.kind === "exception") return `exception 0x${e.esr.toString(16)}${e.esr >> 26n === 0x2fn ? "" : ` far 0x${e.far.toString(16)}`}`;
  if (e.kind === "report") return said(e);
  const { signal, exit } = e.result;
  if (signal !== undefined) return `${e.text} ${signal.name} ${signal.code} +0x${(signal.addr - g.hva(MEMORY)).toString(16)}`;
  if (exit.reason === "ARM_SEA")
    return `ARM_SEA 0x${exit.esr.toString(16)} flags ${exit.flags} gva 0x${exit.gva.toString(16)} gpa 0x${exit.gpa.toString(16)}`;
  return e.text;
}
/** The VMM's own load. */
function ofVmm({ g }: ReturnType<typeof guest>, at = AT, size = 8): string {
  const { value, signal } = g.machine.host.read(g.hva(at), size);
  return signal === undefined ? `0x${value.toString(16)}` : `${signal.name} ${signal.code}`;
}
function lost(kernel: string, options: Options = {}, at = AT): ReturnType<typeof guest> {
  const m = guest(kernel, options);
  expect(m.g.machine.host.einjErrorInject(m.g.hva(at))).toBe(0);
  return m;
}

const SEA_EL1 = "exception 0x96000010 far 0x80002100";
const SERROR = "exception 0xbf000000";
const AR = "EINTR SIGBUS 4 +0x2000";
const EFAULT = "EFAULT";

describe("a load of the guest's", () => {
  const TABLE: Readonly<Record<string, readonly [unclaimed: string, claimed: string]>> = {
    "v4.0": [SEA_EL1, SEA_EL1],
    "v4.10": [SEA_EL1, SEA_EL1],
  };
  const since = [SERROR, AR] as const;
  for (const { name: era } of ERAS) {
    it(era, () => {
      expect([outcome(lost(era)), outcome(lost(era, { apei: "ghes" }))]).toEqual(TABLE[era] ?? since);
    });
  }
  it("without FEAT_RAS the guest takes the abort itself, in every release", () => {
    for (const era of ["v4.10", "v5.4", "v6.17", "v7.2.12"])
      expect(outcome(lost(era, { cpu: "cortex-a72", apei: "ghes" })), era).toBe(SEA_EL1);
  });
  it("with capability 245 it goes to userspace, unless it is claimed", () => {
    const exit = "ARM_SEA 0x92000010 flags 1 gva 0x80002100 gpa 0x80002000";
    expect(outcome(lost("v7.2.12", { cap: true }))).toBe(exit);
    expect(outcome(lost("v7.2.12", { cap: true, apei: "ghes" }))).toBe(AR);
    expect(outcome(lost("v7.2.12", { cap: true, cpu: "cortex-a72" }))).toBe(SEA_EL1);
  });
  it("a worker signals nobody: the guest's next access finds the page broken. From v6.17 on the task itself is signalled", () => {
    const events = (era: string): string[] => {
      const m = lost(era, { apei: "ghes" });
      const names: string[] = [];
      m.g.machine.sim.bus.on("*", (e) => names.push(e.event));
      outcome(m);
      return names.filter((n) => /^(memory_failure|kvm_guest_fault|host_signal|inject_vabt)$/.test(n));
    };
    expect(events("v6.12")).toEqual(["memory_failure", "kvm_guest_fault", "host_signal"]);
    expect(events("v6.17")).toEqual(["memory_failure", "host_signal"]);
  });
});

describe("a fetch", () => {
  /** A page of code at AT's page. */
  const code = (era: string, options: Options = {}) => {
    const m = guest(era, options);
    m.g.program(MEMORY + 0x3000, ["mov x0, #7", "ret"]);
    expect(m.ops.outcome(CALL, MEMORY + 0x3000)).toBe("0x7");
    expect(m.g.machine.host.einjErrorInject(m.g.hva(MEMORY + 0x3000))).toBe(0);
    return m;
  };
  const at = MEMORY + 0x3000;
  it("is an SError from v5.10 on; up to v5.8 KVM_RUN fails; up to v4.10 it is the guest's", () => {
    const TABLE = { "v4.10": "exception 0x86000010 far 0x80003000", "v4.20": EFAULT, "v5.8": EFAULT, "v5.10": SERROR, "v7.2.12": SERROR };
    for (const [era, becomes] of Object.entries(TABLE)) expect(outcome(code(era), CALL, at), era).toBe(becomes);
  });
  it("with capability 245", () => {
    expect(outcome(code("v7.2.12", { cap: true }), CALL, at)).toBe("ARM_SEA 0x82000010 flags 1 gva 0x80003000 gpa 0x80003000");
  });
});

describe("a stage-1 walk through a lost descriptor", () => {
  const walk = (era: string, options: Options = {}) => {
    const m = guest(era, options);
    expect(m.g.machine.host.einjErrorInject(m.g.hva(m.g.descriptor(MEMORY)))).toBe(0);
    return m;
  };
  // The fourth page: its translation is not cached yet.
  const at = MEMORY + 0x3008;
  it("is an abort of the walk: its level in the status, no S1PTW, and the IPA is not known", () => {
    expect(outcome(walk("v7.2.12", { cap: true }), LOAD, at)).toBe("ARM_SEA 0x92000017 flags 0 gva 0x80003008 gpa 0x0");
    expect(outcome(walk("v6.12"), LOAD, at)).toBe(SERROR);
  });
  it("of a store has WnR", () => {
    expect(outcome(walk("v7.2.12", { cap: true }), STORE, at)).toBe("ARM_SEA 0x92000057 flags 0 gva 0x80003008 gpa 0x0");
  });
});

describe("what consumes an error, and what takes it away", () => {
  const sea = (lines: readonly string[], at: number) => outcome(lost("v7.2.12", { cap: true }), lines, at);
  const exit = (far: number, wnr = 0) => `ARM_SEA 0x${(0x92000010 + wnr).toString(16)} flags 1 gva 0x${far.toString(16)} gpa 0x80002000`;
  it("loads of its 64 bytes do, of its neighbours not", () => {
    expect(sea(LOAD, AT + 56)).toBe(exit(AT + 56));
    expect(sea(LOAD, AT - 8)).toBe("0x0");
    expect(sea(LOAD, AT + 64)).toBe("0x0");
  });
  it("FAR of one that begins before is the first lost byte", () => expect(sea(LOAD, AT - 4)).toBe(exit(AT)));
  it("pairs, exclusives and atomics do, as reads", () => {
    expect(sea(["ldp x5, x4, [x0]"], AT - 8)).toBe(exit(AT));
    expect(sea(["ldxr x4, [x0]"], AT)).toBe(exit(AT));
    expect(sea(["ldadd x1, x4, [x0]"], AT)).toBe(exit(AT));
  });
  it("stores and cache maintenance do not, and leave it", () => {
    const m = lost("v7.2.12", { cap: true });
    expect(outcome(m, STORE, AT)).toBe("0x5");
    expect(outcome(m, ["dc civac, x0", "mov x4, #9"], AT)).toBe("0x9");
    expect(outcome(m)).toBe(exit(AT));
  });
  it("DC ZVA writes the whole line: it is good again", () => {
    const m = lost("v7.2.12", { cap: true });
    expect(outcome(m, ["dc zva, x0", "mov x4, #9"], AT)).toBe("0x9");
    expect(outcome(m)).toBe("0x0");
    expect(ofVmm(m)).toBe("0x0");
  });
  it("a page that was freed and cleared is good", () => {
    const m = lost("v7.2.12", { cap: true });
    expect(m.g.machine.host.madvise(m.g.hva(MEMORY + 0x2000), 4096, 4)).toBe(0);
    m.g.store(AT, 6n);
    expect(outcome(m)).toBe("0x6");
  });
});

describe("the VMM's own load", () => {
  const TABLE: Readonly<Record<string, readonly [unclaimed: string, claimed: string]>> = {
    "v4.0": ["SIGBUS 0", "SIGBUS 0"],
    "v4.10": ["SIGBUS 0", "SIGBUS 0"],
    "v4.20": ["SIGBUS 3", "SIGBUS 3"],
    "v5.4": ["SIGBUS 3", "SIGBUS 3"],
    "v5.5": ["SIGBUS 3", "SIGBUS 3"],
    "v5.6": ["SIGBUS 3", "SIGBUS 3"],
  };
  for (const { name: era } of ERAS) {
    it(era, () => {
      expect([ofVmm(lost(era)), ofVmm(lost(era, { apei: "ghes" }))]).toEqual(TABLE[era] ?? ["SIGBUS 3", "SIGBUS 4"]);
    });
  }
  it("up to v5.6 a claimed abort gives up the page besides", () => {
    const m = lost("v5.6", { apei: "ghes" });
    expect([ofVmm(m), ofVmm(m)]).toEqual(["SIGBUS 3", "SIGBUS 4"]);
  });
  it("over a page boundary", () => expect(ofVmm(lost("v6.12", {}, MEMORY + 0x2000), MEMORY + 0x1ffc)).toBe("SIGBUS 3"));
});

describe("a page that is given up", () => {
  it("is one of 4 KiB, in a huge page too; a file's clean one is read again; two vCPUs lose one each", () => {
    const source = `machine { ram 64M  apei ghes }
variant v4.20
variant v5.10
variant v6.12
variant v6.17
variant v7.2.12

let RAM = 0x80000000
let ram = mmap(0, 2M, align=2M)
madvise(ram, 2M, MADV_HUGEPAGE)
write64(ram + 0x1000, 5)
write64(ram + 0x3000, 6)
write64(ram + 0x4000, 7)
write64(ram + 0x5000, 8)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=ram)
guest { ldr x0, [RAM + 0x1000] }
expect stage2 RAM size=2M
einj_error_inject(ram + 0x1000)
guest { ldr x1, [RAM + 0x1000] }
expect errno EINTR
expect event host_signal signal=7 code=4 lsb=12
guest { ldr x2, [RAM + 0x3000] }
expect x2 == 6
read64(ram + 0x1000)
expect errno SIGBUS
let fd = memfd_create("x")
ftruncate(fd, 4M)
let sh = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0, align=2M)
write64(sh, 9)
KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x90000000, memory_size=2M, userspace_addr=sh)
guest { ldr x0, [0x90000000] }
expect x0 == 9
einj_error_inject(sh)
guest { ldr x0, [0x90000000] }
expect errno EINTR
let file = open("image", 2M)
let ro = mmap(0, 2M, PROT_READ, MAP_PRIVATE, file, 0, align=2M)
let was = read64(ro)
KVM_SET_USER_MEMORY_REGION(slot=3, guest_phys_addr=0xa0000000, memory_size=2M, userspace_addr=ro, flags=KVM_MEM_READONLY)
guest { ldr x3, [0xa0000000] }
einj_error_inject(ro)
guest { ldr x4, [0xa0000000] }
expect ok
expect x4 == was
par {
  guest vcpu0 { ldr x0, [RAM + 0x4000] }
  guest vcpu1 { ldr x0, [RAM + 0x5000] }
}
einj_error_inject(ram + 0x4000)
einj_error_inject(ram + 0x5000)
par {
  guest vcpu0 { ldr x0, [RAM + 0x4000] }
  guest vcpu1 { ldr x0, [RAM + 0x5000] }
}
expect errno EINTR
expect 2 event memory_failure`;
    expect(failures(runAll(source))).toEqual([]);
  });
});

describe("einj_error_inject", () => {
  it("loses 1024 lines at most: the next fails with EBUSY, a lost one can be lost again", () => {
    const { g } = guest("v6.12");
    const { host } = g.machine;
    const at = g.hva(MEMORY);
    for (let page = 0; page < 17; page++) host.write(at + page * 0x1000, 8, 1n);
    const answers = Array.from({ length: 1025 }, (_, line) => host.einjErrorInject(at + line * 64));
    expect([answers.slice(0, 1024).every((a) => a === 0), answers[1024], host.einjErrorInject(at + 8)]).toEqual([true, -16, 0]);
  });

  it("needs EINJ, a page that is there, and from v5.18 on another than the zero page", () => {
    const { g } = guest("v6.12");
    const { host } = g.machine;
    expect(host.einjErrorInject(g.hva(MEMORY + 0x100000))).toBe(-22);
    host.read(g.hva(MEMORY + 0x100000), 8);
    expect(host.einjErrorInject(g.hva(MEMORY + 0x100000))).toBe(-98);
    expect(host.einjErrorInject(0)).toBe(-22);
    const old = guest("v5.15").g;
    old.machine.host.read(old.hva(MEMORY + 0x100000), 8);
    expect(old.machine.host.einjErrorInject(old.hva(MEMORY + 0x100000))).toBe(0);
    const none = new GuestVm({ kernel: "v6.12" });
    none.boot();
    expect(none.machine.host.einjErrorInject(none.hva(0))).toBe(-19);
  });
});

describe("where something stands between a CPU and RAM", () => {
  const script = (settings: string) => `machine { ram 64M  kernel v7.2.12  apei einj  ${settings} }
let RAM = 0x80000000
let ram = mmap(0, 2M, align=2M)
write64(ram + 0x1000, 7)
write64(ram + 0xff8, 5)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=ram)
KVM_ENABLE_CAP(KVM_CAP_ARM_SEA_TO_USER, 1)
guest { ldr x0, [RAM + 0x1000] }
einj_error_inject(ram + 0x1000)
guest { ldr x1, [RAM + 0x1000] }
expect exit ARM_SEA esr=0x92000010 flags=1 gva=RAM+0x1000 gpa=RAM+0x1000
read64(ram + 0x1000)
expect errno SIGBUS
guest { mov x2, RAM; ldr x1, [x2, 0xff8] }
expect x1 == 5`;
  for (const settings of ["", "buffers modelled", "buffers weak", "cache modelled", "cache modelled  buffers weak"])
    it(settings === "" ? "nothing" : settings, () => expect(failures(runAll(script(settings)))).toEqual([]));
});

describe("sea_to_user", () => {
  it("holds with every backing", () => {
    for (const kernel of ["v5.4", "v6.12", "v6.17", "v7.2.12"])
      for (const backing of ["anonymous", "shmem", "anonymous_hugetlb_2mb"] as const)
        for (const c of seaToUser.cases)
          expect(
            runCase(seaToUser, c, { kernel, backing }).expectations.filter((e) => !e.ok),
            `${kernel} ${backing} ${c.name}`,
          ).toEqual([]);
  });
});
