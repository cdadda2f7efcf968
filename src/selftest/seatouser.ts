/**
 * sea_to_user: a guest consumes an uncorrectable memory error that APEI does not claim. With capability 245 the abort goes to
 * userspace, which hands it to the guest. Without it, and where APEI claims the abort, the kernel's test does not look.
 */
import type { Apei } from "../arch/memoryerrors.js";
import { GuestOps, LOAD, said } from "./guestops.js";
import { GuestVm, type Aborted, type Other, type Report } from "./guestvm.js";
import { needs, Skip, type Checks, type Selftest, type SelftestOptions } from "./report.js";

const KVM_CAP_ARM_SEA_TO_USER = 245;
const GPA_VALID = 1;
/** VA and IPA of the memory, and the 8 bytes that the guest loads. */
const MEMORY = 0x80000000;
const GVA = MEMORY + 0x12340;
const GPA = MEMORY + 0x12000;
const EC_DABT_LOW = 0x24n;
const EC_DABT_CUR = 0x25n;
const EC_SERROR = 0x2fn;
const FSC_EXTERNAL = 0x10n;
/** ISV and ISS[23:14]. */
const INSTRUCTION = 0x1ffc000;
/** EL1h, all masked but SErrors. */
const SERROR_UNMASKED = 0x2c5n;
const BUS_MCEERR_AR = 4;

function build(options: SelftestOptions, apei: Apei): { readonly g: GuestVm; readonly ops: GuestOps } {
  const g = new GuestVm(options, 0, apei);
  if (!g.machine.features.ras) throw new Skip("FEAT_RAS: the guest's aborts stay in the guest");
  needs(g.machine, "kvm", "hcrTea", true, "HCR_EL2.TEA: the guest's aborts stay in the guest");
  g.boot();
  g.add(2, MEMORY, 0x200000, options.backing ?? "anonymous");
  g.map(MEMORY, MEMORY, 32);
  g.start();
  return { g, ops: new GuestOps(g) };
}

/** The guest loads its data; then the data is lost. */
function inject(c: Checks, g: GuestVm, ops: GuestOps): void {
  g.store(GVA, 0xbaadcafen);
  c.expect("before the error", "0xbaadcafe", said(ops.run(LOAD, GVA)));
  c.expect("error_inject", 0, g.machine.host.einjErrorInject(g.hva(GVA)));
}

function exitToUser(c: Checks, options: SelftestOptions): void {
  const { g, ops } = build(options, "einj");
  needs(g.machine, "kvm", "seaToUser", true, "KVM_CAP_ARM_SEA_TO_USER is unknown here");
  c.expect("KVM_CHECK_EXTENSION ARM_SEA_TO_USER", 1, g.vm.checkExtension(KVM_CAP_ARM_SEA_TO_USER));
  c.expect("KVM_ENABLE_CAP ARM_SEA_TO_USER", 0, g.vm.enableCap(KVM_CAP_ARM_SEA_TO_USER, 0));
  inject(c, g, ops);
  const e = ops.run(LOAD, GVA);
  if (e.kind !== "exit" || e.result.exit.reason !== "ARM_SEA") return c.fail("the load", "exit ARM_SEA", said(e));
  const { esr, flags, gva, gpa } = e.result.exit;
  c.expect("esr: data abort from a lower level", EC_DABT_LOW, BigInt(esr >>> 26));
  c.expect("esr: synchronous external abort", FSC_EXTERNAL, BigInt(esr & 0x3f));
  c.expect("esr: nothing of the instruction", 0, esr & INSTRUCTION);
  c.expect("esr: FAR is valid", 0, (esr >> 10) & 1);
  c.expect("gva", BigInt(GVA), gva);
  c.expect("flags: gpa is valid", GPA_VALID, flags);
  c.expect("gpa: the page", GPA, gpa);
  c.expect("KVM_SET_VCPU_EVENTS: ext_dabt_pending", 0, g.vcpu.setEvents({ extDabtPending: true }));
  const then = g.run();
  if (then.kind !== "exception") return c.fail("the guest takes a data abort", "exception", said(then));
  c.expect("ESR_EL1: data abort from the same level", EC_DABT_CUR, (then.esr >> 26n) & 0x3fn);
  c.expect("ESR_EL1: synchronous external abort", FSC_EXTERNAL, then.esr & 0x3fn);
  c.expect("FAR_EL1", BigInt(GVA), then.far);
  c.expect("ELR_EL1: the load", BigInt(ops.entry(LOAD)), then.elr);
}

/** Nobody asked for the exit: the guest gets an SError. */
function notEnabled(c: Checks, options: SelftestOptions): void {
  const { g, ops } = build(options, "einj");
  inject(c, g, ops);
  g.restart(g.vcpu, ops.entry(LOAD), { x0: BigInt(GVA) });
  g.vcpu.set("pstate", SERROR_UNMASKED);
  const e: Report | Other | Aborted = g.run();
  if (e.kind !== "exception") return c.fail("the guest takes an SError", "exception", said(e));
  c.expect("ESR_EL1: SError", EC_SERROR, (e.esr >> 26n) & 0x3fn);
}

/** Where the kernel's test gives up: the page is gone, and its thread gets a SIGBUS. */
function claimed(c: Checks, options: SelftestOptions): void {
  const { g, ops } = build(options, "ghes");
  inject(c, g, ops);
  const e = ops.run(LOAD, GVA);
  c.expect("the load: KVM_RUN", "EINTR", said(e));
  const signal = e.kind === "exit" ? e.result.signal : undefined;
  c.expect("signal", "SIGBUS", signal?.name ?? "none");
  c.expect("si_code", BUS_MCEERR_AR, signal?.code ?? -1);
  c.expect("si_addr: the page", g.hva(GPA), signal?.addr ?? -1);
}

export const seaToUser: Selftest = {
  name: "sea_to_user",
  title: "a memory error that a guest consumes: to userspace, to the guest as SError, or claimed by APEI",
  cases: [
    { name: "exit to userspace", run: exitToUser },
    { name: "capability not enabled", run: notEnabled },
    { name: "claimed by apei", run: claimed },
  ],
};
