/**
 * The chain of one access: what was asked, what answered, and where that is written. Every row is read from an
 * event of the access or from the machine as it stood when the abort was taken.
 */
import { disassemble } from "../arch/disassemble.js";
import { answer, decisionRoom, findDecision } from "../eras.js";
import type { Decision } from "../sim/decisions.js";
import type { EventRecord } from "../sim/events.js";
import { hex } from "../trace/fields.js";
import { low32, remark, syndromeText } from "../trace/remarks.js";
import type { Access } from "./accesses.js";
import { words64 } from "./columns.js";
import { functionIn, FUNCTIONS } from "./functions.js";
import { GuestWalk } from "./guestwalk.js";
import type { Machine } from "../machine.js";
import type { Recorded } from "./recorded.js";
import { stage2Steps } from "./stage2steps.js";
import { vmaRows, type VmaRow } from "./vmadump.js";

export interface Link {
  /** Event that it comes from; -1: read from the machine at the abort. */
  readonly seq: number;
  /** instruction, stage 1, TLB, stage 2, syndrome, memslot, VMA, host entry, driver, decision, branch, pfn, outcome. */
  readonly what: string;
  readonly answer: string;
  /** Where it is written: kernel function, decision source. */
  readonly source: string;
}

/** Events of an access that the chain shows by their remark, with the kernel function. */
const REMARKED: Readonly<Record<string, readonly [string, string | Decision]>> = {
  pfn_lookup: ["pfn", FUNCTIONS.pfn],
  vfio_fault: ["driver", FUNCTIONS.vfioFault],
  vfio_huge_fault: ["driver", "vfio_pci_mmap_huge_fault"],
  mmu_retry: ["sequence", FUNCTIONS.retry],
  userfaultfd_fault: ["userfaultfd", "handle_userfault"],
  stage2_map: ["stage 2", "kvm_pgtable_stage2_map"],
  stage2_set: ["stage 2", "stage2_set_pte"],
  stage2_set_huge: ["stage 2", "stage2_set_pmd_huge"],
  stage2_relax: ["stage 2", "kvm_pgtable_stage2_relax_perms"],
  kvm_mmio: ["MMIO", "io_mem_abort"],
  kvm_mmio_nisv: ["MMIO", "io_mem_abort"],
  kvm_access_fault: ["access flag", "handle_access_fault"],
  exception_injected: ["guest", "the vector that the guest takes"],
  stale_translation: ["TLB", "a cached translation"],
  break_before_make_violation: ["stage 2", "Arm ARM D8.16.1"],
  host_crash: ["crash", ""],
  host_signal: ["signal", ""],
};

const GMEM_PFN = ["pfn", "kvm_gmem_get_pfn"] as const;

export function chainOf(run: Recorded, a: Access): Link[] {
  const out: Link[] = [];
  const link = (seq: number, what: string, said: string, source = ""): void => {
    const last = out[out.length - 1];
    if (last?.what !== what || last.answer !== said) out.push({ seq, what, answer: said, source });
  };
  const { events } = run;
  const abort = a.fault >= 0 ? a.fault : a.from;
  const machine = run.timeline.visit(abort);
  const vcpu = vcpuNumber(a.agent);
  if (vcpu >= 0 && vcpu < machine.registers.count) before(machine, vcpu, run, a, link);
  let host = 0;
  const named = (f: string | Decision): string => (typeof f === "string" ? f : functionIn(machine.era.era, f));
  for (let seq = a.from; seq <= a.to; seq++) {
    const e = events.at(seq);
    if (e.agent !== a.agent) continue;
    const known = e.event === "pfn_lookup" && e["source"] === "guest-memfd" ? GMEM_PFN : REMARKED[e.event];
    if (known !== undefined) link(seq, known[0], remark(e), known[1] !== "" ? named(known[1]) : String(e["function"] ?? ""));
    else if (e.event.startsWith("inject_")) link(seq, "injection", remark(e), `kvm_${e.event}`);
    else {
      switch (e.event) {
        case "kvm_guest_fault":
          link(
            seq,
            "syndrome",
            `ESR_EL2 ${String(e["hsr"])}: ${syndromeText(low32(String(e["hsr"])))}, HPFAR_EL2 says ipa ${hex(Number(e["ipa"]))}`,
            "kvm_handle_guest_abort",
          );
          break;
        case "memslot_lookup":
          link(seq, "memslot", slotText(e), "gfn_to_memslot");
          break;
        case "vma_lookup":
          link(
            seq,
            "VMA",
            e["found"] === false ? `none at hva ${hex(Number(e["addr"]))}` : vmaOf(machine, Number(e["addr"])),
            named(FUNCTIONS.vmaLookup),
          );
          break;
        case "host_walk":
          host++;
          link(seq, "host entry", hostText(run, seq, e), host === 1 ? "fast GUP" : named(FUNCTIONS.secondWalk));
          break;
        case "host_entry":
          link(seq, "host entry", `written: level ${String(e["level"])}, ${String(e["old"])} -> ${String(e["new"])}`, "the fault handler");
          break;
        case "decision":
          link(seq, "decision", `${String(e["name"])} = ${String(e["value"])}`, decisionSource(run, String(e["name"])));
          break;
        case "branch":
          link(seq, "branch", String(e["branch"]), String(e["function"]));
      }
    }
  }
  link(a.end, "outcome", a.outcome);
  return out;
}

type Add = (seq: number, what: string, said: string, source?: string) => void;

/** What stood there before KVM was asked: the instruction, stage 1, stage 2. */
function before(machine: Machine, vcpu: number, run: Recorded, a: Access, link: Add): void {
  const { events } = run;
  const fault = a.fault >= 0 ? events.at(a.fault) : undefined;
  const aborted = events.find(["memory_abort"], a.to, -1, (e) => e.agent === a.agent);
  const abort = aborted >= a.from ? events.at(aborted) : undefined;
  const miss = events.at(a.from).event === "tlb_miss" ? events.at(a.from) : undefined;
  const va = BigInt(String(abort?.["va"] ?? miss?.["va"] ?? fault?.["hxfar"] ?? 0));
  const fetch = fault !== undefined ? ((low32(String(fault["hsr"])) >>> 26) & 0x3f) === 0x20 : miss?.["kind"] === "fetch";
  const pc = fault === undefined ? machine.getRegister(vcpu, "pc") : BigInt(String(fault["vcpu_pc"]));
  const walk = new GuestWalk(machine, vcpu);
  link(-1, "instruction", fetch ? `fetch from ${hex64(pc)}` : `${instruction(machine, walk, pc)} at ${hex64(pc)}, address ${hex64(va)}`);
  if (miss !== undefined) link(a.from, "TLB", "miss");
  const [hi, lo] = [Number(BigInt.asIntN(32, va >> 32n)), Number(BigInt.asIntN(32, va))];
  let ipa = fault !== undefined ? Number(fault["ipa"]) + Number(va & 0xfffn) : walk.ipa(hi, lo);
  if (!walk.enabled) link(-1, "stage 1", "off (SCTLR_EL1.M = 0): IPA = VA");
  else
    for (const s of walk.steps(hi, lo))
      link(
        -1,
        "stage 1",
        `level ${s.level}: ${s.unreadable === "" ? words64(s.hi, s.lo) : s.unreadable}`,
        `descriptor at ipa ${hex(s.ipa)}`,
      );
  if (abort !== undefined && abort["el"] === 1) {
    link(aborted, "syndrome", `ESR_EL1: ${syndromeText(Number(abort["esr"]))}`, "the guest's own abort");
    return;
  }
  const inWalk = fault !== undefined && (low32(String(fault["hsr"])) & 0x80) !== 0;
  if (inWalk) ipa = Number(fault["ipa"]);
  if (ipa < 0) return;
  for (const s of stage2Steps(machine, machine.kvm.vcpus.vm(vcpu), ipa))
    link(-1, "stage 2", `level ${s.level}: ${words64(s.hi, s.lo)}${s.said === "" ? "" : `, ${s.said}`}`, `descriptor at pa ${hex(s.pa)}`);
}

const hex64 = (v: bigint): string => `0x${v.toString(16)}`;

export function vcpuNumber(agent: string): number {
  const m = /^vcpu([0-9]+)$/.exec(agent);
  return m === null ? -1 : Number(m[1]);
}

function instruction(machine: Machine, walk: GuestWalk, pc: bigint): string {
  const ipa = walk.ipa(Number(BigInt.asIntN(32, pc >> 32n)), Number(BigInt.asIntN(32, pc)));
  if (ipa < 0 || !walk.stage2.peek(walk.vcpu, ipa) || !machine.phys.isRam(walk.stage2.pa)) return "an instruction that cannot be read";
  machine.phys.read(walk.stage2.pa, 4);
  return disassemble(machine.phys.lo, machine.features);
}

function slotText(e: EventRecord): string {
  if (Number(e["slot"]) < 0) return `none for gfn ${hex(Number(e["gfn"]))}`;
  return `slot ${String(e["slot"])}${e["writable"] === true ? "" : " (read-only, or a write is refused)"}, hva ${hex(Number(e["hva"]))}`;
}

function vmaOf(machine: Machine, addr: number): string {
  const v = vmaRows(machine, 0).find((row: VmaRow) => row.start <= addr && addr < row.end);
  if (v === undefined) return `one that came into being after the abort`;
  const what = v.path === "" ? "anonymous" : v.path;
  return `${hex(v.start)}-${hex(v.end)} ${v.perms} ${what}; VmFlags ${v.vmFlags.join(" ")}; vm_page_prot ${v.pageProt}`;
}

function hostText(run: Recorded, seq: number, e: EventRecord): string {
  const leaf = Number(e["leaf_level"]);
  const said =
    leaf < 0 ? "none" : `level ${leaf}: pa ${hex(Number(e["pfn"]) * 4096)}, ${e["writable"] === true ? "writable" : "read-only"}`;
  const written = run.events.find(["host_entry"], seq, -1, (x) => x["addr"] === e["addr"]);
  return leaf < 0 || written < 0 ? said : `${said} (written by event ${written})`;
}

function decisionSource(run: Recorded, name: string): string {
  const d = findDecision(name);
  if (d === undefined) return "";
  if (run.variant.set[name] !== undefined) return "set by the script or with --set";
  const from = answer(d, run.machine.era.era);
  return from === undefined ? `${decisionRoom(name)}: no source in ${run.machine.era.era}` : `since ${from.since}: ${from.source}`;
}
