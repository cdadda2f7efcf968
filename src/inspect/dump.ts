/** The dumps by name: lines for people, rows for programs. They read the machine and change nothing. */
import { FaultlineError } from "../sim/errors.js";
import type { Machine } from "../machine.js";
import { bufferRows, bufferText } from "./bufferdump.js";
import { cacheRows, cachesOf, cacheText } from "./cachedump.js";
import { guestRanges, guestText } from "./guestdump.js";
import { hostRanges, hostText } from "./hostdump.js";
import { liveMms } from "./livemm.js";
import { mtreeText, slotRows } from "./mtree.js";
import { stage2Ranges, stage2Text } from "./stage2dump.js";
import { tlbRows, tlbText } from "./tlbdump.js";
import { vmaRows, vmaText } from "./vmadump.js";

export const DUMPS = ["stage2", "host", "guest", "tlb", "vmas", "memslots", "cache", "buffers"] as const;
export type DumpName = (typeof DUMPS)[number];

export interface Dump {
  readonly lines: readonly string[];
  readonly rows: readonly object[];
}

interface Dumper {
  readonly doc: string;
  lines(machine: Machine, long: boolean): string[];
  rows(machine: Machine): object[];
}

const vmsOf = (machine: Machine): number[] => Array.from({ length: machine.kvm.vms.count }, (_, vm) => vm);

/** One VM needs no heading. */
function perVm(machine: Machine, lines: (vm: number) => string[]): string[] {
  const vms = vmsOf(machine);
  if (vms.length === 0) return ["# there is no VM"];
  return vms.flatMap((vm) => (vms.length === 1 ? lines(vm) : [`# VM ${vm}`, ...lines(vm)]));
}

const DUMPERS: Readonly<Record<DumpName, Dumper>> = {
  stage2: {
    doc: "stage-2 tables, as debugfs stage2_page_tables prints them",
    lines: (m, long) => perVm(m, (vm) => stage2Text(m, vm, long)),
    rows: (m) => vmsOf(m).flatMap((vm) => stage2Ranges(m, vm).map((r) => ({ vm, ...r }))),
  },
  host: {
    doc: "the VMM's page tables, in the columns of the kernel's page-table dump",
    lines: (m, long) => liveMms(m).flatMap((mm) => hostText(m, mm, long)),
    rows: (m) => liveMms(m).flatMap((mm) => hostRanges(m, mm)),
  },
  guest: {
    doc: "each vCPU's stage-1 tables, read through its stage 2",
    lines: (m) => (m.registers.count === 0 ? ["# there is no vCPU"] : guestText(m)),
    rows: (m) => Array.from({ length: m.registers.count }, (_, v) => guestRanges(m, v).rows).flat(),
  },
  tlb: {
    doc: "what each CPU's TLBs hold beside what the tables say, stale entries marked",
    lines: (m) => tlbText(m),
    rows: (m) => tlbRows(m),
  },
  vmas: {
    doc: "/proc/PID/maps with the VmFlags of smaps",
    lines: (m, long) => liveMms(m).flatMap((mm) => vmaText(m, mm, long)),
    rows: (m) => liveMms(m).flatMap((mm) => vmaRows(m, mm)),
  },
  memslots: {
    doc: "the memslots, as QEMU's info mtree -f prints them",
    lines: (m, long) => perVm(m, (vm) => mtreeText(m, vm, long)),
    rows: (m) => vmsOf(m).flatMap((vm) => slotRows(m, vm).map((r) => ({ vm, ...r }))),
  },
  cache: {
    doc: "cache lines beside memory: state, dirty bytes, both values, the stale copy marked",
    lines: (m, long) => (cachesOf(m) === undefined ? notModelled("caches (machine { cache modelled } models them)") : cacheText(m, long)),
    rows: (m) => cacheRows(m),
  },
  buffers: {
    doc: "how far each store has got: store and gathering buffers, interconnect, root complex",
    lines: (m) => (m.pe.ordering === undefined ? notModelled("store buffers (machine { buffers modelled } models them)") : bufferText(m)),
    rows: (m) => bufferRows(m),
  },
};

function notModelled(what: string): string[] {
  return [`# not modelled in this run: ${what}`];
}

/** What a dump shows, in one line. */
export function dumpDoc(name: DumpName): string {
  return DUMPERS[name].doc;
}

/** @param long with what the real tool's format leaves out @throws FaultlineError for a name that is none */
export function dump(machine: Machine, name: DumpName, long = false): Dump {
  const dumper = DUMPERS[name] as Dumper | undefined;
  if (dumper === undefined) throw new FaultlineError(`no dump named ${String(name)}: one of ${DUMPS.join(", ")}`);
  return { lines: dumper.lines(machine, long), rows: dumper.rows(machine) };
}
