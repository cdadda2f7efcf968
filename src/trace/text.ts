/** The text sink: one event per line, in columns; runs of the same event become one line. */
import type { EventRecord } from "../sim/events.js";
import { fieldsText } from "./fields.js";
import { remark } from "./remarks.js";

export interface TextOptions {
  /** Characters per line, 0 for no limit. */
  readonly width: number;
  /** A plain-English remark behind each event instead of all of its fields. */
  readonly annotate: boolean;
}

/** Fields that an annotated line keeps: the remark says the rest. */
const KEPT: Readonly<Record<string, readonly string[]>> = {
  kvm_guest_fault: ["ipa", "hsr"],
  kvm_unmap_hva_range: [],
  kvm_mmio: ["gpa", "val"],
  kvm_mmio_nisv: ["ipa", "esr"],
  kvm_userspace_exit: [],
  guest_abort: ["ret"],
  memslot_lookup: ["gfn"],
  vma_lookup: [],
  pfn_lookup: ["source"],
  host_walk: [],
  decision: [],
  branch: [],
  stage2_set: ["ipa", "pa"],
  stage2_map: ["ipa", "pa"],
  stage2_relax: ["ipa"],
  stage2_unmap: ["ipa"],
  eager_map: ["ipa", "pa"],
  dcache_clean: ["pa"],
  icache_inval: ["pa"],
  exception_injected: [],
  host_crash: ["function"],
  tlbi: [],
  dsb: ["type"],
  vfio_mmap: ["ret"],
  vfio_fault: [],
  vfio_huge_fault: [],
  device_read: ["pa", "value"],
  device_write: ["pa", "value"],
};

const NAME_WIDTH = 20;
const FIELDS_WIDTH = 34;

/** An event's line without its number. */
export function eventBody(e: EventRecord, options: TextOptions): string {
  if (!options.annotate) return `${e.event.padEnd(NAME_WIDTH)} ${fieldsText(e)}`.trimEnd();
  const said = remark(e);
  const kept = KEPT[e.event];
  const fields = said === "" || kept === undefined ? fieldsText(e) : keep(e, kept);
  return `${e.event.padEnd(NAME_WIDTH)} ${said === "" ? fields : `${fields.padEnd(FIELDS_WIDTH)} ${said}`}`.trimEnd();
}

function keep(e: EventRecord, names: readonly string[]): string {
  const all = fieldsText(e).split(" ");
  return all.filter((f) => names.includes(f.slice(0, f.indexOf("=")))).join(" ");
}

/** `  12  vcpu0  kvm_guest_fault …` */
export function eventLine(e: EventRecord, options: TextOptions): string {
  return fit(`${String(e.seq).padStart(6)} ${e.agent.padEnd(6)} ${eventBody(e, options)}`, options.width);
}

export function fit(line: string, width: number): string {
  return width > 0 && line.length > width ? `${line.slice(0, width - 1)}\u2026` : line;
}

/** A line, or a run of events of one kind that was folded into it. */
export interface FoldedLine {
  readonly first: EventRecord;
  readonly last: EventRecord;
  readonly count: number;
}

/** From this many on, a run of the same event of one agent is folded. */
const FOLD = 4;

/** Folds runs of one event: `stage2_set` a thousand times is one line and a count. */
export function fold(events: readonly EventRecord[]): FoldedLine[] {
  const out: FoldedLine[] = [];
  for (let i = 0; i < events.length;) {
    const first = events[i]!;
    let end = i + 1;
    while (end < events.length && events[end]!.event === first.event && events[end]!.agent === first.agent) end++;
    if (end - i >= FOLD) out.push({ first, last: events[end - 1]!, count: end - i });
    else for (let k = i; k < end; k++) out.push({ first: events[k]!, last: events[k]!, count: 1 });
    i = end;
  }
  return out;
}

/** The lines of a folded run: its first event, and how many more there were. */
export function foldedLines(l: FoldedLine, options: TextOptions): string[] {
  const head = eventLine(l.first, options);
  if (l.count === 1) return [head];
  return [
    head,
    fit(
      `${String(l.last.seq).padStart(6)} ${l.last.agent.padEnd(6)} ${"".padEnd(2)}\u2026 and ${l.count - 1} more ${l.first.event}, up to ${brief(l.last)}`,
      options.width,
    ),
  ];
}

function brief(e: EventRecord): string {
  return fieldsText(e).split(" ")[0] ?? "";
}
