/**
 * What a trace of a real host has in common with another: who is a vCPU where its thread's name does not say so, and
 * which events only say when something happened to interrupt it, not what the guest and KVM did.
 */
import type { MeantEvent, ReadTrace } from "./meaning.js";

/** ESR_EL2 of a data abort (Arm ARM D24.2.40): whether the syndrome describes the access, and where its register's number stands. */
const ISS_ISV = 1 << 24;
const ISS_SRT_SHIFT = 16;

/** Where a host's memory lies, and where in its code a guest makes an access. */
export const PLACE_FIELDS = ["hva", "start", "end", "addr", "address", "vcpu_pc", "hxfar"] as const;
/** They come for all of the VMM's memory, of which most is no guest's; which part is one, their addresses alone do not say. */
export const NOTIFIERS: ReadonlySet<string> = new Set([
  "kvm_unmap_hva_range",
  "kvm_unmap_hva",
  "kvm_set_spte_hva",
  "kvm_age_hva",
  "kvm_test_age_hva",
]);
/** Trace points that a vCPU's own thread passes. */
const OF_A_VCPU: ReadonlySet<string> = new Set(["kvm_entry", "kvm_exit", "kvm_guest_fault", "kvm_userspace_exit", "kvm_mmio"]);

const ARM_EXCEPTION_IRQ = "0";
const BREAKPT_LOW = "48";
const EINTR = "-4";
const KVM_EXIT_DEBUG = "4";

/**
 * Threads that enter the guest are vCPUs whatever they are called, numbered as they appear; all others are the VMM.
 * @param threads by event: which thread it is of, where its agent is only a task's name
 */
export function byRole(events: readonly MeantEvent[], threads: readonly string[]): MeantEvent[] {
  const known = /^(?:vcpu[0-9]+|ksmd|khugepaged|kswapd[0-9]*|kcompactd[0-9]*)$/;
  const used = new Set(events.filter((e) => known.test(e.agent)).map((e) => e.agent));
  const roles = new Map<string, string>();
  events.forEach((e, i) => {
    const thread = threads[i]!;
    if (known.test(e.agent) || roles.has(thread) || !OF_A_VCPU.has(e.event)) return;
    let n = 0;
    while (used.has(`vcpu${n}`)) n++;
    used.add(`vcpu${n}`);
    roles.set(thread, `vcpu${n}`);
  });
  return events.map((e, i) => (known.test(e.agent) ? e : { ...e, agent: roles.get(threads[i]!) ?? "vmm" }));
}

/**
 * Without exits that are no doing of the guest's, and the entries after them: an interrupt of the host, a KVM_RUN that a
 * signal ended, and of ours the breakpoint that ends a guest block.
 */
export function withoutInterruptions(t: ReadTrace): MeantEvent[] {
  const interrupted = new Set<string>();
  return t.events.filter((e) => {
    const { agent, event, fields } = e;
    if (event === "kvm_entry") return !interrupted.delete(agent);
    const interruption =
      (event === "kvm_exit" && (fields["ret"] === ARM_EXCEPTION_IRQ || (t.ours && fields["esr_ec"] === BREAKPT_LOW))) ||
      (event === "kvm_userspace_exit" && (fields["errno"] === EINTR || (t.ours && fields["reason"] === KVM_EXIT_DEBUG)));
    if (interruption) interrupted.add(agent);
    return !interruption;
  });
}

const DABT_LOW = 0x24n;
const ISV = BigInt(ISS_ISV);
const SRT = 0x1fn << BigInt(ISS_SRT_SHIFT);

/** A data abort's syndrome also says which register is loaded or stored: that is the guest's code, as its pc is. */
export function meaningOf(field: string, value: string): string {
  if ((field !== "hsr" && field !== "esr") || !/^[0-9]+$/.test(value)) return value;
  const esr = BigInt(value);
  return ((esr >> 26n) & 0x3fn) === DABT_LOW && (esr & ISV) !== 0n ? String(esr & ~SRT) : value;
}
