/**
 * external_aborts: userspace answers an access with an external data abort; accesses without syndrome;
 * walks into nothing; SErrors that wait while they are masked.
 */
import { GuestOps, LOAD, LOAD_NO_SYNDROME, said } from "./guestops.js";
import { GuestVm, type Aborted, type Other, type Report } from "./guestvm.js";
import { needs, Skip, type Checks, type Selftest, type SelftestOptions } from "./report.js";

/** VA and IPA without a memslot. */
const MMIO = 0x8000000;
const KVM_CAP_ARM_NISV_TO_USER = 177;
const EC_DABT_CUR = 0x25n;
const EC_SERROR = 0x2fn;
/** EL1h, all masked but SErrors. */
const SERROR_UNMASKED = 0x2c5n;
const FSC_EXTERNAL = 0x10n;
/** Synchronous external abort on a walk, level 3. */
const FSC_EXTERNAL_WALK3 = 0x17n;

function build(options: SelftestOptions): { readonly g: GuestVm; readonly ops: GuestOps } {
  const g = new GuestVm(options);
  g.boot();
  g.map(MMIO, MMIO, 1, true);
  g.start();
  return { g, ops: new GuestOps(g) };
}

/** The guest takes a synchronous external data abort for this address and instruction. */
function expectAbort(c: Checks, e: Report | Other | Aborted, fsc: bigint, far: number, elr: number): void {
  if (e.kind !== "exception") return c.fail("the guest takes a data abort", "exception", said(e));
  c.expect("ESR_EL1: data abort from the same level", EC_DABT_CUR, (e.esr >> 26n) & 0x3fn);
  c.expect("ESR_EL1: fault status", fsc, e.esr & 0x3fn);
  c.expect("ESR_EL1: FAR is valid", 0n, (e.esr >> 10n) & 1n);
  c.expect("FAR_EL1", BigInt(far), e.far);
  c.expect("ELR_EL1: the access itself", BigInt(elr), e.elr);
}

function mmioAbort(c: Checks, options: SelftestOptions): void {
  const { g, ops } = build(options);
  needs(g.machine, "kvm", "injectDabtCap", true, "KVM_CAP_ARM_INJECT_EXT_DABT is unknown here");
  const e = ops.run(LOAD, MMIO);
  c.expect("a load of unbacked memory", "exit MMIO", said(e));
  c.expect("address", MMIO, e.kind === "exit" && e.result.exit.reason === "MMIO" ? e.result.exit.physAddr : -1);
  g.vcpu.answerMmio(0x55n);
  c.expect("KVM_SET_VCPU_EVENTS: ext_dabt_pending", 0, g.vcpu.setEvents({ extDabtPending: true }));
  const { kvm } = g.defaults;
  if (kvm.mmioPendingException === "skipped") {
    expectAbort(c, g.run(), FSC_EXTERNAL, MMIO, ops.entry(LOAD));
    c.expect("the load is not completed", 0n, g.vcpu.get("x4"));
  } else if (kvm.injectWhen === "at-once") {
    // The exception is entered here; the completion then steps over the first instruction of the vector.
    c.expect("ESR_EL1: fault status", FSC_EXTERNAL, g.vcpu.get("esr_el1") & 0x3fn);
    c.expect("FAR_EL1", BigInt(MMIO), g.vcpu.get("far_el1"));
    c.expect("ELR_EL1: the access itself", BigInt(ops.entry(LOAD)), g.vcpu.get("elr_el1"));
    c.expect("PC: the vector", 0x200n, g.vcpu.get("pc"));
  } else {
    // The completion retires the load and thereby loses the pended abort ("Don't retire aborted MMIO instruction").
    c.expect("the abort is lost in this release: the load is repeated", "exit MMIO", said(g.run()));
  }
}

function nisv(c: Checks, options: SelftestOptions): void {
  const { ops } = build(options);
  c.expect("a load without syndrome: KVM_RUN", "ENOSYS", ops.outcome(LOAD_NO_SYNDROME, MMIO));
}

function nisvAbort(c: Checks, options: SelftestOptions): void {
  const { g, ops } = build(options);
  needs(g.machine, "kvm", "nisvToUser", true, "KVM_CAP_ARM_NISV_TO_USER is unknown here");
  needs(g.machine, "kvm", "injectDabtCap", true, "KVM_CAP_ARM_INJECT_EXT_DABT is unknown here");
  c.expect("KVM_ENABLE_CAP NISV_TO_USER", 0, g.vm.enableCap(KVM_CAP_ARM_NISV_TO_USER, 1));
  const e = ops.run(LOAD_NO_SYNDROME, MMIO);
  c.expect("a load without syndrome", "exit ARM_NISV", said(e));
  c.expect("fault_ipa", MMIO, e.kind === "exit" && e.result.exit.reason === "ARM_NISV" ? e.result.exit.faultIpa : -1);
  c.expect("KVM_SET_VCPU_EVENTS: ext_dabt_pending", 0, g.vcpu.setEvents({ extDabtPending: true }));
  expectAbort(c, g.run(), FSC_EXTERNAL, MMIO, ops.entry(LOAD_NO_SYNDROME));
}

/** The level-3 table of an address lies where no memslot is. */
function s1ptw(c: Checks, options: SelftestOptions): void {
  const { g, ops } = build(options);
  const va = 0xd0000000;
  g.map(va, MMIO, 1, true);
  g.replaceTable(va, MMIO);
  const { kvm } = g.defaults;
  const e = ops.run(LOAD, va);
  // Up to v5.9 the walk ends in the MMIO decode, which needs a syndrome.
  if (kvm.s1ptwNoSlot === "mmio-decode") c.expect("a walk into unbacked memory: KVM_RUN", "ENOSYS", said(e));
  else expectAbort(c, e, kvm.injectS1ptwFsc === "walk-level" ? FSC_EXTERNAL_WALK3 : FSC_EXTERNAL, va, ops.entry(LOAD));
}

/** An SError of userspace waits until PSTATE.A is clear. */
function serror(c: Checks, options: SelftestOptions, masked: boolean): void {
  const { g, ops } = build(options);
  if (g.defaults.kvm.serror === "none" || g.defaults.kvm.serror === "vse") throw new Skip("KVM_SET_VCPU_EVENTS is unknown here");
  const quiet = ["isb", "mov x4, #1"];
  const unmask = ["msr daifclr, #4", "isb", "mov x4, #2"];
  c.expect("the guest runs", "0x1", said(ops.run(quiet, 0)));
  if (!masked) g.vcpu.set("pstate", SERROR_UNMASKED);
  c.expect("KVM_SET_VCPU_EVENTS: serror_pending", 0, g.vcpu.setEvents({ serrorPending: true }));
  if (masked) {
    c.expect("nothing happens while it is masked", "0x1", said(ops.run(quiet, 0)));
    g.restart(g.vcpu, ops.entry(unmask));
  }
  const e = g.run();
  if (e.kind !== "exception") return c.fail("the guest takes an SError", "exception", said(e));
  c.expect("ESR_EL1: SError", EC_SERROR, (e.esr >> 26n) & 0x3fn);
  if (masked) c.expect("ELR_EL1: behind the unmasking", BigInt(ops.entry(unmask) + 4), e.elr);
}

export const externalAborts: Selftest = {
  name: "external_aborts",
  title: "external data aborts and SErrors that userspace or a stage-1 walk gives to the guest; accesses without syndrome",
  cases: [
    { name: "mmio abort", run: mmioAbort },
    { name: "mmio nisv", run: nisv },
    { name: "mmio nisv abort", run: nisvAbort },
    { name: "s1ptw abort", run: s1ptw },
    { name: "serror masked", run: (c, o) => serror(c, o, true) },
    { name: "serror", run: (c, o) => serror(c, o, false) },
  ],
};
