/**
 * Cuts the events of a run into guest accesses: from the TLB miss over the walks and the abort to what KVM
 * made of it. An access that was repeated after KVM had handled it appears once for each time.
 */
import { PROT_DEVICE, PROT_NORMAL_NC, PROT_R, PROT_W, PROT_X } from "../kvm/trace.js";
import { errnoName } from "../sim/errno.js";
import { findEvent, type EventRecord } from "../sim/events.js";
import { hex, size } from "../trace/fields.js";
import { protText } from "../trace/remarks.js";
import { stepOf, type Recorded } from "./recorded.js";

/** How an access ended, as one word for programs. */
export type OutcomeKind = "mapped" | "retried" | "errno" | "injected" | "exit" | "crash" | "guest-exception" | "done";

export interface Access {
  readonly agent: string;
  /** Numbers of its first and last event. */
  readonly from: number;
  readonly to: number;
  /** The event kvm_guest_fault, -1 if the access did not leave the guest. */
  readonly fault: number;
  /** The event that says how it ended. */
  readonly end: number;
  readonly kind: OutcomeKind;
  /** One line: "KVM_RUN fails with EFAULT". */
  readonly outcome: string;
  /** The script's line. */
  readonly line: number;
  /** What makes it the same access in another run: agent, line, PC, page. */
  readonly key: string;
}

/** Outcomes that somebody asks about; the others are a fault that was simply served. */
export const isNotable = (a: Access): boolean => !["mapped", "retried", "done"].includes(a.kind);

const ENDS = ["guest_abort", "host_crash"];

/** The last events of an agent that can be the beginning of an access; -1 without. */
interface Latest {
  entry: number;
  miss: number;
  abort: number;
}

/** Where an access began: at its TLB miss, else at its abort, else at the event itself. */
function beginning({ entry, miss, abort }: Latest, seq: number): number {
  if (miss > entry) return miss;
  return abort > entry ? abort : seq;
}

/** All accesses of a run that left the guest, or that ended in an exception of the guest, in order. One pass over its events. */
export function accesses(run: Recorded): Access[] {
  const { events } = run;
  const [entry, miss, abort, fault] = ["kvm_entry", "tlb_miss", "memory_abort", "kvm_guest_fault"].map((n) => findEvent(n)?.id);
  const faults: Access[] = [];
  const own: Access[] = [];
  const latest: Latest[] = [];
  for (let seq = events.first; seq <= events.last; seq++) {
    const kind = events.kind(seq);
    if (kind !== entry && kind !== miss && kind !== abort && kind !== fault) continue;
    const mine = (latest[events.agent(seq)] ??= { entry: -1, miss: -1, abort: -1 });
    if (kind === entry) mine.entry = seq;
    else if (kind === miss) mine.miss = seq;
    else if (kind === fault) faults.push(faulted(run, seq, beginning(mine, seq)));
    else {
      mine.abort = seq;
      const e = events.at(seq);
      if (e["el"] === 1) own.push(stage1(run, e, beginning(mine, seq)));
    }
  }
  const out = [...faults, ...own];
  // A host that crashed outside of a guest fault.
  const crash = events.find(["host_crash"], events.first, 1);
  if (crash >= 0 && !out.some((a) => a.kind === "crash")) out.push(plain(run, crash));
  return out.sort((a, b) => a.from - b.from || a.to - b.to);
}

/** An abort for EL1: the guest's own stage-1 fault, which no KVM sees. */
function stage1(run: Recorded, e: EventRecord, from: number): Access {
  const line = stepOf(run.result, e.agent, e.seq)?.line ?? 0;
  return {
    agent: e.agent,
    from,
    to: e.seq,
    fault: -1,
    end: e.seq,
    kind: "guest-exception",
    outcome: "the guest takes an exception of its own stage 1",
    line,
    key: `${e.agent} line ${line} va ${String(e["va"])} stage 1`,
  };
}

function faulted(run: Recorded, fault: number, from: number): Access {
  const { events } = run;
  const e = events.at(fault);
  const mine = (x: EventRecord) => x.agent === e.agent;
  const next = events.find(["kvm_guest_fault", "kvm_entry"], fault + 1, 1, mine);
  const limit = next < 0 ? events.last : next - 1;
  let end = events.find(ENDS, fault + 1, 1, mine, limit);
  if (end < 0) end = limit;
  let to = end;
  for (let seq = end + 1; seq <= limit; seq++) if (mine(events.at(seq))) to = seq;
  // Some eras commit an injected exception only when the guest is entered again.
  const commits = events.find(["exception_injected", "kvm_guest_fault"], to + 1, 1, mine);
  const injects = events.find(INJECTIONS, fault, 1, mine, to);
  if (commits >= 0 && events.at(commits).event === "exception_injected" && injects >= 0) to = commits;
  const line = stepOf(run.result, e.agent, fault)?.line ?? 0;
  const page = hex(Number(e["ipa"]));
  const { kind, outcome } = ended(run, e.agent, fault, to);
  return {
    agent: e.agent,
    from,
    to,
    fault,
    end,
    kind,
    outcome,
    line,
    key: `${e.agent} line ${line} pc ${String(e["vcpu_pc"])} ipa ${page}`,
  };
}

function plain(run: Recorded, seq: number): Access {
  const e = run.events.at(seq);
  const line = stepOf(run.result, e.agent, seq)?.line ?? 0;
  const outcome = `the host crashes in ${String(e["function"])}: ${String(e["reason"])}`;
  const from = run.result.steps.findLast((s) => s.to <= seq)?.to ?? run.events.first;
  return { agent: e.agent, from, to: seq, fault: -1, end: seq, kind: "crash", outcome, line, key: `${e.agent} line ${line}` };
}

/** The PROT_* bits of an entry that the page-table code up to v5.9 set. */
function protOf(e: EventRecord): number {
  const [s2ap, memattr] = [Number(e["s2ap"]), Number(e["memattr"])];
  const rwx = ((s2ap & 1) !== 0 ? PROT_R : 0) | ((s2ap & 2) !== 0 ? PROT_W : 0) | (Number(e["xn"]) === 0 ? PROT_X : 0);
  return rwx | (memattr < 4 ? PROT_DEVICE : memattr === 5 ? PROT_NORMAL_NC : 0);
}

const INJECTED: Readonly<Record<string, string>> = {
  inject_pabt: "an external prefetch abort is injected into the guest",
  inject_dabt: "an external data abort is injected into the guest",
  inject_vabt: "an SError is injected into the guest",
  inject_size: "an address size fault is injected into the guest",
  inject_undef: "an undefined instruction is injected into the guest",
};

const INJECTIONS = [...Object.keys(INJECTED), "inject_sea"];

/** What the events of one fault say about its end; later ones count more. */
function ended(run: Recorded, agent: string, from: number, to: number): { kind: OutcomeKind; outcome: string } {
  let kind = "done" as OutcomeKind;
  let outcome = "handled: the guest goes on";
  let mapped = "";
  for (let seq = from; seq <= to; seq++) {
    const e = run.events.at(seq);
    if (e.agent !== agent) continue;
    switch (e.event) {
      case "stage2_map":
        mapped = `mapped: ${size(Number(e["size"]))} at pa ${hex(Number(e["pa"]))}, ${protText(Number(e["prot"]))}`;
        break;
      case "stage2_set":
      case "stage2_set_huge":
        mapped = `mapped: ${size(Number(e["size"]))} at pa ${hex(Number(e["pa"]))}, ${protText(protOf(e))}`;
        break;
      case "stage2_relax":
        mapped = `permissions added: ${protText(Number(e["prot"]))}`;
        break;
      case "mmu_retry":
        [kind, outcome] = ["retried", "an invalidation came in between: the guest faults again"];
        break;
      case "inject_sea":
        [kind, outcome] = ["injected", `an external ${Number(e["iabt"]) === 1 ? "prefetch" : "data"} abort is injected into the guest`];
        break;
      case "kvm_mmio":
        if (e["type"] !== "read")
          [kind, outcome] = [
            "exit",
            `KVM_EXIT_MMIO: ${String(e["type"]) === "write" ? "write" : "read"} of ${String(e["len"])} bytes at ${hex(Number(e["gpa"]))}`,
          ];
        break;
      case "kvm_mmio_nisv":
        [kind, outcome] = ["exit", "an MMIO access without a valid syndrome (ISV = 0)"];
        break;
      case "guest_abort": {
        const ret = Number(e["ret"]);
        if (ret < 0) [kind, outcome] = ["errno", `KVM_RUN fails with ${errnoName(ret)}${kind === "exit" ? `: ${outcome}` : ""}`];
        else if (ret === 0 && kind === "done") [kind, outcome] = ["exit", "KVM_RUN returns to the VMM"];
        break;
      }
      case "exception_injected":
        if (kind === "injected") outcome = `${outcome}, ESR_EL1 ${String(e["esr"])}`;
        break;
      case "host_signal":
        outcome = `${outcome}; signal ${String(e["signal"])} for the vCPU thread`;
        break;
      case "host_crash":
        [kind, outcome] = ["crash", `the host crashes in ${String(e["function"])}: ${String(e["reason"])}`];
        break;
      default:
        if (INJECTED[e.event] !== undefined) [kind, outcome] = ["injected", INJECTED[e.event]!];
    }
  }
  return kind === "done" && mapped !== "" ? { kind: "mapped", outcome: mapped } : { kind, outcome };
}

/** The access that an event belongs to: the one it lies in, else the agent's next one before it is in the guest again. */
export function accessAt(run: Recorded, all: readonly Access[], seq: number): Access | undefined {
  const { agent } = run.events.at(seq);
  const within = all.filter((a) => a.agent === agent && a.from <= seq && seq <= a.to).at(-1);
  if (within !== undefined) return within;
  return run.machine.sim.agents.kind(run.events.agent(seq)) === "vcpu" ? served(run, seq, agent) : undefined;
}

/** An access that the TLB and the tables served: from its TLB miss to the next one. */
function served(run: Recorded, seq: number, agent: string): Access | undefined {
  const { events } = run;
  const mine = (e: EventRecord) => e.agent === agent;
  const miss = events.find(["tlb_miss", "kvm_entry"], seq, -1, mine);
  if (miss < 0 || events.at(miss).event !== "tlb_miss") return undefined;
  const next = events.find(["tlb_miss", "kvm_exit", "kvm_entry"], miss + 1, 1, mine);
  const to = (next < 0 ? events.last + 1 : next) - 1;
  if (seq > to) return undefined;
  const line = stepOf(run.result, agent, seq)?.line ?? 0;
  const va = String(events.at(miss)["va"]);
  return {
    agent,
    from: miss,
    to,
    fault: -1,
    end: to,
    kind: "done",
    outcome: "served without KVM: the tables had an entry",
    line,
    key: `${agent} line ${line} va ${va}`,
  };
}
