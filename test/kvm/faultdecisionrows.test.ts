/**
 * Every decision of the fault path is seen to matter: one era, run twice, differs in what can be
 * observed (events, results, registers) when this one decision takes another era's value.
 */
import { describe, expect, it } from "vitest";
import { ESR_EL1, ESR_EL2, FAR_EL2, HCR_EL2, HPFAR_EL2, PC, PSTATE, VSESR_EL2, X, CTR_EL0 } from "../../src/arch/registers.js";
import { faultPathDecisions } from "../../src/kvm/decisions.js";
import { KVM_MEMSLOT_INVALID } from "../../src/kvm/ports.js";
import { VM_IO, VM_MTE_ALLOWED, VM_PFNMAP } from "../../src/mmu/vmflags.js";
import { DONE, FaultFixture, GIB, MIB, R_HVA, type FaultFixtureOptions } from "./faultfixture.js";

const IPA = 0x8000_0000;
type Scenario = (m: FaultFixture) => unknown;

/** Everything that happened, without what only numbers it. */
function story(m: FaultFixture, result: unknown): string {
  const lines = m.events.map((e) => JSON.stringify({ ...e, seq: 0, time: 0 }));
  const regs = [PC, PSTATE, ESR_EL1, HCR_EL2, VSESR_EL2, HPFAR_EL2, X + 8].map((r) => m.reg(r));
  return [JSON.stringify(result), m.exit, JSON.stringify(m.sim.crashed ?? null), ...regs, ...lines].join("\n");
}

// ---- scenarios

const ram =
  (text: string, { size = 4 * MIB, flags = 0, touch = true, huge = false, hva = R_HVA } = {}): Scenario =>
  (m) => {
    m.map(R_HVA, 8 * MIB, { huge });
    m.slot(1, IPA, size, hva, flags);
    if (touch) m.poke(hva, 0xd4000001 | 0);
    return m.exec(text, IPA, 5, IPA + 0x1000);
  };
const bar =
  (text: string, { size = 4 * MIB, prot = 3, touch = false, remap = false, flags = 0 } = {}): Scenario =>
  (m) => {
    m.open("0000:00:06.0");
    const map = (at: number, n: number) => m.map(R_HVA + at, n, { shared: true, fd: m.fd, offset: m.vfio.regionOffset(2, at), prot });
    map(0, 16 * MIB);
    if (touch) m.run(m.mm.hostAccess, [0, R_HVA, 4, 0, 0, 0]);
    const slot = m.slot(1, IPA, size, R_HVA, flags);
    if (remap) {
      m.munmap(R_HVA, 4 * MIB);
      map(0, 4 * MIB);
    }
    return [slot, m.exec(text, IPA, 5)];
  };
/** A synthetic abort handed to the handler; slot 1 is memory, slot 2 read-only. */
const abort =
  (esr: number, ipa: number, { far = ipa, cap = 0, valid = true, pstate = 0x3c5 } = {}): Scenario =>
  (m) => {
    m.map(R_HVA, 4 * MIB);
    m.slot(1, IPA, 2 * MIB, R_HVA);
    m.slot(2, 3 * GIB, 2 * MIB, R_HVA + 2 * MIB, 2);
    const enabled = cap === 0 ? 0 : m.kvm.enableCap(m.vm, cap, 1);
    m.events.length = 0;
    m.regs.set64(m.v, ESR_EL2, 0, esr | 0);
    m.regs.setNum(m.v, FAR_EL2, far);
    m.regs.set64(m.v, PSTATE, 0, pstate | 0);
    const hpfar = Math.floor(ipa / 4096) * 16;
    m.regs.set64(m.v, HPFAR_EL2, ((hpfar / 4294967296) | 0) + (valid ? 0x80000000 : 0), hpfar | 0);
    return [enabled, m.run(m.kvm.guestAbort.activity, [m.v], m.kvm.vcpuAgent(m.v))];
  };
/** Runs a guest access to IPA up to a phase, does something, goes on. */
const race =
  (prepare: Scenario, phases: string, then: Scenario): Scenario =>
  (m) => {
    prepare(m);
    const agent = m.kvm.vcpuAgent(m.v);
    m.events.length = 0;
    m.sim.agents.start(agent, m.kvm.run, m.v, 300, 20);
    for (let i = 0; i < 1000; i++) {
      const at = m.sim.agents.backtrace(agent);
      if (phases.split(" ").includes(at[0]!) && m.regs.lo(m.v, HPFAR_EL2) === (IPA / 4096) * 16) break;
      m.sim.agents.step(agent);
    }
    const stopped = m.sim.agents.backtrace(agent)[0];
    then(m);
    m.sim.agents.runToEnd(agent);
    return [stopped, m.sim.crashed === undefined ? m.sim.agents.result(agent) : "crash"];
  };
const loaded =
  (text: string, fd?: (m: FaultFixture) => number): Scenario =>
  (m) => {
    const file = fd?.(m) ?? -1;
    m.map(R_HVA, 4 * MIB, file < 0 ? {} : { shared: true, fd: file });
    m.slot(1, IPA, 4 * MIB, R_HVA);
    if (file < 0) m.poke(R_HVA, 1);
    m.load(`${text}\nb #0`, IPA, 5);
  };
const replace: Scenario = (m) => {
  m.munmap(R_HVA, 4 * MIB);
  m.map(R_HVA, 4 * MIB);
};
const mmio =
  (text: string, between: Scenario = () => undefined): Scenario =>
  (m) => {
    const first = m.exec(text, DONE);
    const reason = m.exit;
    const pc = m.reg(PC);
    m.kvm.vcpus.setMmioData(m.v, 0, 0x88);
    const did = between(m);
    m.enter(50, 200);
    return [first, reason, pc, did];
  };
const logged = (text: string) => ram(text, { flags: 1 });
const poison: Scenario = (m) => {
  m.run(m.mm.syscalls.madvise, [0, R_HVA, 4096, 100]);
};
const marked =
  (flag: number, text: string): Scenario =>
  (m) => {
    m.map(R_HVA, 4 * MIB);
    m.poke(R_HVA, 1);
    const vma = m.mm.vmas.findVma(0, R_HVA);
    m.mm.vmas.setFlags(vma, m.mm.vmas.flags(vma) | flag);
    m.slot(1, IPA, 0x3000, R_HVA);
    return m.exec(text, IPA, 5);
  };
const hugetlb =
  (text: string, { offset = 0, flags = 0 } = {}): Scenario =>
  (m) => {
    const fd = m.mm.files.createHugetlb(4 * MIB);
    m.map(R_HVA, 4 * MIB, { shared: true, fd });
    m.slot(1, IPA, 2 * MIB, R_HVA + offset, flags);
    return m.exec(text, IPA, 5);
  };
/** A VM with MTE over a VMA that may not have tags. */
const withoutTags: Scenario = (m) => {
  ram("nop")(m);
  m.kvm.vms.setMte(m.vm, true);
  const vma = m.mm.vmas.findVma(0, R_HVA);
  m.mm.vmas.setFlags(vma, m.mm.vmas.flags(vma) & ~VM_MTE_ALLOWED);
  return m.exec("ldr x4, [x0]", IPA);
};
const DABT = 0x92000000;
const IABT = 0x82000000;

interface Row {
  readonly era: string;
  /** The other era's value. */
  readonly other: string;
  readonly scenario: Scenario;
  readonly options?: FaultFixtureOptions;
}
const row = (era: string, other: string, scenario: Scenario, options: FaultFixtureOptions = {}): Row => ({ era, other, scenario, options });
const A76: FaultFixtureOptions = { cpu: "cortex-a76" };

const ROWS: Readonly<Record<keyof typeof faultPathDecisions, Row>> = {
  // kvm_handle_guest_abort
  ipaRangeCheck: row("v6.12", "permission", abort(0x93c48006, 2 ** 40 + 0x1000)),
  ipaLimit: row("v6.12", "vtcr-t0sz", abort(0x93c48006, 2 ** 40 + 0x1000)),
  externalAbort: row("v5.14", "before-trace-data-only", abort(IABT | 0x10, IPA)),
  seaToUser: row("v7.2.12", "false", abort(DABT | 0x10, IPA, { cap: 245 })),
  hcrTea: row("v4.20", "false", () => 0),
  hpfarValidity: row("v6.17", "trusted", abort(0x93c48006, IPA, { valid: false })),
  hpfarRecompute: row("v6.12", "when-invalid", ram("ldr x4, [x0]")),
  accessFlagFaults: row("v5.4", "false", abort(DABT | 0x0b, IPA)),
  exclusiveFaults: row("v7.2.12", "false", abort(DABT | 0x35, IPA)),
  hcrPtw: row("v5.14", "false", () => 0),
  execNoSlot: row("v6.12", "exit-to-user", abort(IABT | 0x06, 0x2000_0000)),
  execNoSlotPath: row("v5.5", "direct", abort(IABT | 0x06, 0x2000_0000)),
  s1ptwNoSlot: row("v5.14", "mmio-decode", abort(DABT | 0x86, 0x2000_0000)),
  cacheOpNoSlot: row("v5.14", "mmio", abort(DABT | 0x146, 0x2000_0000)),
  accessFlagLock: row("v6.12", "write", abort(DABT | 0x0b, IPA)),
  permissionReadFault: row("v6.17", "efault", abort(DABT | 0x0f, IPA)),
  writeFault: row("v6.1", "permission-s1ptw", abort(DABT | 0x86, 3 * GIB)),
  execFault: row("v5.11", "iabt", abort(IABT | 0x86, IPA)),
  poison: row("v5.4", "efault", race(loaded("ldr x4, [x0]"), "kvmHandleGuestAbort:classify", poison)),
  poisonVma: row(
    "v5.4",
    "known-size",
    race(
      (m) => {
        loaded("ldr x4, [x0]")(m);
        poison(m);
      },
      "userMemAbort:gotPfn",
      (m) => m.munmap(R_HVA, 4 * MIB),
    ),
  ),
  // user_mem_abort
  memcacheTopup: row("v6.12", "after-unlock", ram("ldr x4, [x0]")),
  memcacheTopupWhen: row("v6.12", "always", (m) => {
    ram("ldr x4, [x0]")(m);
    m.kvm.stage2.caches.free(m.kvm.vcpus.memcache(m.v));
    return m.exec("br x0", IPA);
  }),
  seqSnapshot: row(
    "v6.4",
    "after-unlock",
    race(
      loaded("ldr x4, [x0]", (m) => m.mm.files.createHugetlb(4 * MIB)),
      "userMemAbort:snapshot userMemAbort:pfn",
      replace,
    ),
  ),
  invalidateRetry: row("v6.12", "skip", race(loaded("ldr x4, [x0]"), "userMemAbort:install", replace)),
  hugetlbBlock: row("v5.4", "pmd", hugetlb("ldr x4, [x0]", { offset: MIB })),
  slotFitsBlock: row("v5.4", "thp-congruence", ram("str x1, [x0]", { size: MIB, huge: true })),
  pfnmapBlockSize: row("v6.12", "page", bar("ldr x4, [x0]", { remap: true })),
  thpAdjustDevices: row("v5.5", "false", bar("ldr x4, [x0]", { remap: true }), { set: { pfnmapBlockSize: "page" } }),
  thpAdjust: row("v6.12", "thp-map-files", ram("ldr x4, [x0]", { huge: true })),
  userTableWalk: row(
    "v6.12",
    "unprotected",
    race(loaded("ldr x4, [x0]"), "userMemAbort:install", (m) => m.mm.zap.zapRange(0, R_HVA, R_HVA + 4096)),
  ),
  permissionKeepsGranule: row("v6.12", "false", ram("str x1, [x0]\nbr x0", { huge: true })),
  faultLock: row("v6.12", "spin", ram("ldr x4, [x0]")),
  deviceTest: row("v6.17", "not-linear-map", (m) => {
    m.open("0000:00:06.0");
    m.map(R_HVA, 4 * MIB, { shared: true, fd: m.fd, offset: m.vfio.regionOffset(2) });
    m.run(m.mm.hostAccess, [0, R_HVA, 4, 0, 0, 0]);
    const vma = m.mm.vmas.findVma(0, R_HVA);
    m.mm.vmas.setFlags(vma, m.mm.vmas.flags(vma) & ~VM_PFNMAP);
    m.slot(1, IPA, 0x3000, R_HVA);
    return m.exec("ldr x4, [x0]", IPA);
  }),
  deviceType: row("v6.12", "nGnRE", bar("ldr x4, [x0]")),
  cacheablePfnmap: row(
    "v6.17",
    "device",
    (m) => {
      bar("nop")(m);
      m.mm.vmas.setPageProt(m.mm.vmas.findVma(0, R_HVA), 0);
      return m.exec("ldr x4, [x0]", IPA);
    },
    { features: { dic: true } },
  ),
  guestMair: row("v6.12", "write-back", ram("msr mair_el1, x1\nmrs x4, mair_el1"), A76),
  memslotIncoherent: row("v6.12", "clean", ram("ldr x4, [x0]", { flags: 8 })),
  memslotDmabuf: row("v6.12", "vfio", ram("ldr x4, [x0]", { flags: 16 })),
  stage2Memory: row("v6.12", "non-cacheable", ram("ldr x4, [x0]")),
  cowPfnmap: row("v6.12", "refuse", marked(VM_PFNMAP, "ldr x4, [x0]")),
  execOnDevice: row("v5.5", "map-executable", bar("br x0", { remap: true })),
  executeNever: row("v5.4", "false", ram("ldr x4, [x0]")),
  execInherited: row("v5.4", "false", (m) => {
    // Pages executed while logging, then a block over them.
    const fd = m.mm.files.createHugetlb(4 * MIB);
    m.map(R_HVA, 4 * MIB, { shared: true, fd });
    m.slot(1, IPA, 4 * MIB, R_HVA, 1);
    m.exec("str x1, [x0]\nbr x0", IPA, 0xd4000001);
    m.slot(1, IPA, 4 * MIB, R_HVA, 0);
    m.exec("str x1, [x0]", IPA, 0xd4000001);
    return m.kvm.dump.leaves(m.vm).map((l) => [l.ipa, l.level, l.xn]);
  }),
  mapCode: row("v5.8", "walker", ram("ldr x4, [x0]")),
  mteVma: row("v6.4", "not-shared", withoutTags),
  mteCheck: row("v7.2.12", "under-mmu-lock", withoutTags),
  dirtyMark: row("v6.12", "after-map", logged("str x1, [x0]")),
  dirtyGfn: row("v7.2.12", "lookup-gfn", (m) => {
    // A dirty ring without a bitmap: blocks stay allowed, and the ring gets the page.
    const vm = m.kvm.createVm(0);
    m.kvm.enableCap(vm, 223, 4096);
    const v = m.kvm.createVcpu(vm);
    m.run(m.kvm.setUserMemoryRegion, [vm, 0, 0, 0x4000_0000, 2 * MIB, 0x7000_0000_0000]);
    m.map(R_HVA, 4 * MIB, { huge: true });
    m.run(m.kvm.setUserMemoryRegion, [vm, 1, 1, IPA, 4 * MIB, R_HVA]);
    m.load("str x1, [x0]\nb #0");
    m.regs.setNum(v, PC, 0x4000_1000);
    m.regs.setNum(v, X, IPA + 0x5000);
    m.run(m.kvm.run, [v, 100, 20], m.kvm.vcpuAgent(v));
    return m.all("kvm_dirty_ring_push").map((e) => e["offset"]);
  }),
  releasePage: row("v6.13", "after-unlock", (m) => {
    const counts: number[] = [];
    m.sim.bus.on("lock_released", (e) => {
      if (e["lock"] === "mmu_lock" && m.mm.pt.walk(0, R_HVA)) counts.push(m.mm.frames.refcount(m.mm.pt.leafPfn));
    });
    ram("ldr x4, [x0]")(m);
    return counts;
  }),
  errorLeaksPage: row(
    "v6.12",
    "false",
    (m) => {
      marked(VM_PFNMAP, "ldr x4, [x0]")(m);
      m.mm.pt.walk(0, R_HVA);
      return m.mm.frames.refcount(m.mm.pt.leafPfn);
    },
    { set: { cowPfnmap: "refuse" } },
  ),
  steps: row(
    "v7.2.12",
    "one-function",
    race(loaded("ldr x4, [x0]"), "userMemAbort:decide", () => undefined),
  ),
  // gfn to pfn
  remappedVma: row("v4.10", "pfnmap", (m) => {
    m.open("0000:00:06.0");
    m.map(R_HVA, 4 * MIB, { shared: true, fd: m.fd, offset: m.vfio.regionOffset(2) });
    const vma = m.mm.vmas.findVma(0, R_HVA);
    m.mm.vmas.setFlags(vma, (m.mm.vmas.flags(vma) & ~VM_PFNMAP) | VM_IO);
    m.slot(1, IPA, 0x3000, R_HVA);
    return m.exec("ldr x4, [x0]", IPA);
  }),
  pfnmapLookup: row("v5.5", "arithmetic", bar("ldr x4, [x0]", { remap: true })),
  pfnmapWritable: row("v5.14", "always", bar("str x1, [x0]", { prot: 1, touch: true, size: 0x3000 })),
  pfnmapReference: row("v5.14", "blind", (m) => {
    bar("nop", { size: 0x3000 })(m);
    m.munmap(R_HVA, 16 * MIB);
    // A frame that its driver owns without counting it, mapped like device memory.
    m.map(R_HVA, 4096);
    m.poke(R_HVA, 1);
    m.mm.pt.walk(0, R_HVA);
    const pfn = m.mm.pt.leafPfn;
    m.munmap(R_HVA, 4096);
    m.map(R_HVA, 0x3000);
    const vma = m.mm.vmas.findVma(0, R_HVA);
    m.mm.vmas.setFlags(vma, m.mm.vmas.flags(vma) | VM_PFNMAP | VM_IO);
    m.mm.zap.remapPfnRange(0, vma, R_HVA, pfn, 4096);
    try {
      return m.exec("ldr x4, [x0]", IPA);
    } catch (e) {
      return String(e);
    }
  }),
  pfnmapWriteRetry: row("v6.12", "true", bar("str x1, [x0]", { prot: 1, touch: true, size: 0x3000 })),
  // caches
  dcacheAtFault: row("v4.10", "unless-permission", logged("ldr x4, [x0]\nstr x1, [x0]"), A76),
  dcacheS2fwb: row("v5.4", "false", ram("ldr x4, [x0]")),
  dcacheDevice: row("v5.4", "false", bar("ldr x4, [x0]", { remap: true, size: 0x3000 }), A76),
  icacheAtFault: row("v5.4", "always", ram("ldr x4, [x0]")),
  trapVmRegisters: row("v5.6", "always", () => 0),
  // MMIO
  nisvToUser: row("v5.6", "false", abort(DABT | 0x06, 0x2000_0000, { cap: 177 })),
  injectDabtCap: row("v5.6", "false", (m) => [m.kvm.checkExtension(m.vm, 178), m.kvm.setVcpuEvents(m.v, true, false)]),
  nisvTrace: row("v6.8", "false", abort(DABT | 0x06, 0x2000_0000)),
  mmioPcAdvance: row("v5.4", "decode", mmio("ldr x4, [x0]")),
  mmioDestination: row(
    "v5.6",
    "saved",
    mmio("ldr x4, [x0]", (m) => m.regs.set64(m.v, ESR_EL2, 0, 0x93c58006 | 0)),
  ),
  mmioTruncate: row("v7.2.12", "false", mmio("ldrsb w4, [x0]")),
  mmioSignExtend: row("v7.2.12", "lost", mmio("ldrsb x4, [x0]")),
  vcpuEvents: row("v6.17", "pended", (m) => {
    m.exec("ldr x4, [x0]", DONE);
    m.kvm.setVcpuEvents(m.v, true, false);
    return m.reg(PC);
  }),
  mmioReturn: row(
    "v5.4",
    "every-run",
    mmio("ldr x4, [x0]\nmov x5, #1", (m) => m.immediateExit()),
  ),
  immediateExit: row(
    "v5.14",
    "ignored",
    mmio("ldr x4, [x0]", (m) => m.immediateExit()),
  ),
  mmioPendingException: row(
    "v6.13",
    "completes",
    mmio("ldr x4, [x0]", (m) => m.kvm.setVcpuEvents(m.v, true, false)),
  ),
  // injection
  injectEntry: row("v6.17", "pabt-dabt", abort(IABT | 0x06, 0x2000_0000)),
  injectS1ptwFsc: row("v6.18.2", "external-abort", abort(DABT | 0x86, 0x2000_0000)),
  injectEsrUpper: row("v6.1", "zero", abort(IABT | 0x06, 0x2000_0000)),
  injectDabtClass: row("v4.10", "unshifted", abort(0x93c48086, 0x2000_0000)),
  injectVector: row("v5.4", "el1-sp1", abort(IABT | 0x06, 0x2000_0000, { pstate: 0x3c0 })),
  injectPstate: row("v5.6", "fixed", abort(IABT | 0x06, 0x2000_0000, { pstate: 0x6000_03c5 })),
  injectWhen: row("v5.14", "at-once", abort(IABT | 0x06, 0x2000_0000)),
  injectIl: row("v7.2.12", "copied", abort(0x80000006, 0x2000_0000)),
  serror: row("v5.14", "none", abort(DABT | 0x10, IPA)),
  // notifiers
  invalidateCounts: row("v6.1", "always", (m) => {
    m.map(R_HVA, 4 * MIB);
    m.poke(R_HVA, 1);
    m.munmap(R_HVA, 4 * MIB);
    return m.kvm.vms.seq(m.vm);
  }),
  invalidateTrace: row("v5.14", "arch-code", (m) => {
    ram("str x1, [x0]")(m);
    m.munmap(R_HVA, 4096);
  }),
  invalidateUnit: row("v5.4", "page", (m) => {
    ram("str x1, [x0]")(m);
    m.munmap(R_HVA, MIB);
  }),
  changePte: row("v6.12", "true", ram("ldr x4, [x0]\nstr x1, [x0]", { touch: false }), { set: { notifierChangePte: "true" } }),
  changePteCount: row("v5.12", "inside-range", ram("ldr x4, [x0]\nstr x1, [x0]", { touch: false })),
  changePteInvalidSlots: row("v6.4", "true", (m) => {
    ram("ldr x4, [x0]")(m);
    const old = m.kvm.memslots.find(m.vm, IPA / 4096);
    const invalid = m.kvm.memslots.make(m.vm, 1, KVM_MEMSLOT_INVALID, IPA / 4096, 1024, R_HVA, -1);
    m.kvm.memslots.publish(m.vm, old, invalid);
    m.kvm.vms.addInProgress(m.vm, 1);
    return m.run(m.mm.notifiers.changePte, [0, R_HVA, 0x50000]);
  }),
  ageHandlers: row("v5.4", "stub", (m) => {
    ram("ldr x4, [x0]")(m);
    return m.run(m.mm.notifiers.clearFlushYoung, [0, R_HVA, R_HVA + 4096]);
  }),
  testYoung: row("v5.6", "empty-range", (m) => {
    ram("ldr x4, [x0]")(m);
    return m.run(m.mm.notifiers.testYoung, [0, R_HVA, R_HVA + 4096]);
  }),
  notifierRelease: row("v5.4", "empty", (m) => {
    ram("ldr x4, [x0]")(m);
    m.run(m.mm.notifiers.release, [0]);
    return m.kvm.vms.root(m.vm);
  }),
  stage2FreeLock: row("v5.4", "none", (m) => {
    ram("ldr x4, [x0]")(m);
    m.run(m.mm.notifiers.release, [0]);
    return m.kvm.vms.root(m.vm);
  }),
  // eager mapping
  eagerDeviceMapping: row("v5.5", "false", bar("ldr x4, [x0]")),
  eagerTranslation: row("v5.8", "host-table", bar("ldr x4, [x0]")),
  eagerMmapLock: row("v4.20", "false", (m) => {
    m.map(R_HVA, 4 * MIB);
    m.slot(1, IPA, 4 * MIB, R_HVA);
  }),
  // capabilities
  capIpaSize: row("v4.20", "false", (m) => m.kvm.checkExtension(m.vm, 165)),
  capManualProtect: row("v5.8", "1", (m) => [m.kvm.checkExtension(m.vm, 168), m.kvm.enableCap(m.vm, 168, 3)]),
  capDirtyRing: row("v6.4", "false", (m) => m.kvm.checkExtension(m.vm, 223)),
  capEagerSplit: row("v6.8", "false", (m) => m.kvm.checkExtension(m.vm, 229)),
  capCacheablePfnmap: row("v6.17", "false", (m) => m.kvm.checkExtension(m.vm, 243), { features: { dic: true } }),
  capGuestMemfd: row("v6.18.2", "by-type", (m) => m.kvm.checkExtension(m.vm, 234)),
  mteSupport: row("v5.14", "false", (m) => m.kvm.checkExtension(m.vm, 205)),
  guestCtr: row("v6.8", "cpu", (m) => m.reg(CTR_EL0)),
};

describe("every decision of the fault path changes what can be observed", () => {
  for (const [name, { era, other, scenario, options }] of Object.entries(ROWS)) {
    it(`${name}: ${era} against ${other}`, () => {
      const run = (set: Readonly<Record<string, string>>) => {
        const m = new FaultFixture(era, { devices: ["ivshmem"], ...options, set: { ...options?.set, ...set } });
        return story(m, scenario(m));
      };
      const one = run({});
      expect(run({}), "the same run twice").toBe(one);
      expect(run({ [name]: other })).not.toBe(one);
    });
  }
});
