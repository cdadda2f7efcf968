/**
 * Why a fault ended as it did: the chain from the memslot over the VMA and the host entry to the
 * branch that answered, built from the events of the decisions actually taken and from nothing else.
 */
import * as flags from "../mmu/vmflags.js";
import { errnoName } from "../sim/errno.js";
import type { EventRecord } from "../sim/events.js";
import { hex } from "../trace/fields.js";
import { low32, remark, syndromeText } from "../trace/remarks.js";

/** One guest fault and what became of it. */
export interface Cause {
  readonly agent: string;
  /** Sequence numbers of its first and last event. */
  readonly from: number;
  readonly to: number;
  /** The links of the chain, in the order in which they were asked. */
  readonly chain: readonly string[];
}

const VMA_FLAGS = Object.entries(flags)
  .filter(([name, bit]) => /^VM_/.test(name) && typeof bit === "number" && (bit & (bit - 1)) === 0)
  .map(([name, bit]) => [name.slice("VM_".length), bit as number] as const)
  .sort(([, a], [, b]) => (a >>> 0) - (b >>> 0));
/** Flags that say what kind of memory it is; the rest only makes the chain long. */
const TELLING = new Set([
  "READ",
  "WRITE",
  "EXEC",
  "SHARED",
  "PFNMAP",
  "IO",
  "MIXEDMAP",
  "HUGETLB",
  "HUGEPAGE",
  "NOHUGEPAGE",
  "MTE_ALLOWED",
  "ALLOW_ANY_UNCACHED",
  "UFFD_MISSING",
  "UFFD_WP",
  "UFFD_MINOR",
]);

/** Names of the VM_* bits of a VMA. */
export function vmaFlags(value: number): string[] {
  return VMA_FLAGS.filter(([name, bit]) => (value & bit) !== 0 && TELLING.has(name)).map(([name]) => name);
}

/** What a link says; undefined for an event that is none. */
function link(e: EventRecord): string | undefined {
  switch (e.event) {
    case "kvm_guest_fault":
      return `${syndromeText(low32(String(e["hsr"])))} at ipa ${hex(Number(e["ipa"]))}`;
    case "memslot_lookup":
      return Number(e["slot"]) < 0
        ? "no memslot"
        : `memslot ${e["slot"]}${e["writable"] === true ? "" : " (read-only)"}, hva ${hex(Number(e["hva"]))}`;
    case "vma_lookup":
      return e["found"] === false ? "no VMA" : undefined;
    case "fault_vma":
      return `VMA with ${vmaFlags(Number(e["flags"])).join(" ")}`;
    case "decision":
      return `${String(e["name"])} = ${String(e["value"])}`;
    case "branch":
      return `${String(e["function"])}: ${String(e["branch"])}`;
    case "guest_abort": {
      const ret = Number(e["ret"]);
      return ret > 0 ? "back into the guest" : ret === 0 ? "exit to the VMM" : errnoName(ret);
    }
    case "host_walk":
    case "pfn_lookup":
    case "vfio_fault":
    case "vfio_huge_fault":
    case "mmu_retry":
    case "kvm_mmio":
    case "kvm_mmio_nisv":
    case "host_crash":
    case "kvm_access_fault":
      return remark(e);
    default:
      return e.event.startsWith("inject_") ? remark(e) : undefined;
  }
}

/** The cause chains of the faults among these events that did not simply end in a mapping. */
export function causes(events: readonly EventRecord[]): Cause[] {
  const open = new Map<string, { from: number; to: number; chain: string[]; notable: boolean }>();
  const out: Cause[] = [];
  const close = (agent: string): void => {
    const c = open.get(agent);
    if (c?.notable === true) out.push({ agent, from: c.from, to: c.to, chain: c.chain });
    open.delete(agent);
  };
  for (const e of events) {
    if (e.event === "kvm_guest_fault") {
      close(e.agent);
      open.set(e.agent, { from: e.seq, to: e.seq, chain: [], notable: false });
    }
    const c = open.get(e.agent);
    if (c === undefined) continue;
    const text = link(e);
    if (text !== undefined && c.chain[c.chain.length - 1] !== text) c.chain.push(text);
    c.to = e.seq;
    if (
      e.event.startsWith("inject_") ||
      e.event === "host_crash" ||
      e.event.startsWith("kvm_mmio") ||
      (e.event === "guest_abort" && Number(e["ret"]) <= 0)
    )
      c.notable = true;
    if (e.event === "guest_abort" || e.event === "host_crash") close(e.agent);
  }
  for (const agent of [...open.keys()]) close(agent);
  return out;
}

/** `why: load of 8 bytes … -> memslot 1 … -> VMA with … -> EFAULT` */
export function causeText(c: Cause): string {
  return `why: ${c.chain.join(" -> ")}`;
}
