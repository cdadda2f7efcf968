/** The text sink: one event per line, in columns; runs of the same event become one line. */
import type { EventRecord } from "../sim/events.js";
import { fieldsText } from "./fields.js";
import { remark } from "./remarks.js";

export interface TextOptions {
  /** Characters per line, 0 for no limit. */
  readonly width: number;
  /** A plain-English remark behind each event instead of all of its fields. */
  readonly annotate: boolean;
  /** Name and fields in one column, for narrow lines. */
  readonly compact?: boolean;
}

/** Fields that an annotated line keeps: the remark says the rest. */
export const KEPT_FIELDS: Readonly<Record<string, readonly string[]>> = {
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
  stage2_set_huge: ["ipa", "pa"],
  stage2_map: ["ipa", "pa"],
  stage2_relax: ["ipa"],
  stage2_unmap: ["ipa"],
  eager_map: ["ipa", "pa"],
  dcache_clean: ["pa"],
  icache_inval: ["pa"],
  stale_read: ["pa", "value"],
  write_lost: ["pa"],
  dirty_line_dropped: ["pa"],
  exception_injected: [],
  host_crash: ["function"],
  tlbi: [],
  dsb: ["type"],
  vfio_mmap: ["ret"],
  vfio_fault: [],
  vfio_huge_fault: [],
  late_write: ["device", "address"],
  device_reclaim: ["device"],
  aer_event: ["error", "address"],
  device_read: ["pa", "value"],
  device_write: ["pa", "value"],
};

const NAME_WIDTH = 20;
const FIELDS_WIDTH = 31;
/** Name and fields of a compact line. */
const COMPACT_WIDTH = 46;

/** An event's line without its number. */
export function eventBody(e: EventRecord, options: TextOptions): string {
  if (!options.annotate) return `${e.event.padEnd(NAME_WIDTH)} ${fieldsText(e)}`.trimEnd();
  const said = remark(e);
  const kept = KEPT_FIELDS[e.event];
  const fields = said === "" || kept === undefined ? fieldsText(e) : keep(e, kept);
  if (options.compact === true) return `${`${e.event} ${fields}`.trimEnd().padEnd(COMPACT_WIDTH)} ${said}`.trimEnd();
  return `${e.event.padEnd(NAME_WIDTH)} ${said === "" ? fields : `${fields.padEnd(FIELDS_WIDTH)} ${said}`}`.trimEnd();
}

function keep(e: EventRecord, names: readonly string[]): string {
  const all = fieldsText(e).split(" ");
  return names.flatMap((n) => all.filter((f) => f.startsWith(`${n}=`))).join(" ");
}

/** `  12  vcpu0  kvm_guest_fault …` */
export function eventLine(e: EventRecord, options: TextOptions): string {
  return fit(`${String(e.seq).padStart(6)} ${e.agent.padEnd(6)} ${eventBody(e, options)}`, options.width);
}

export function fit(line: string, width: number): string {
  return width > 0 && line.length > width ? `${line.slice(0, width - 1)}\u2026` : line;
}

/** A line, or rounds of the same events that were folded into one. */
export interface Folded {
  /** The events of the first round; one event if nothing was folded. */
  readonly events: readonly EventRecord[];
  /** How often the round came; 1 if nothing was folded. */
  readonly rounds: number;
  readonly last: EventRecord;
}

/** Rounds of at most this many events are recognised. */
const LONGEST_ROUND = 12;
/** From this many rounds on they are folded. */
const FOLD = 4;

/**
 * Folds what repeats: `stage2_set` a thousand times, or the five events of a demand fault for each page
 * of a loop, become the first round and a count. Two events are the same here if event and agent are.
 */
export function fold(events: readonly EventRecord[]): Folded[] {
  return foldBy(
    events,
    (e) => `${e.agent} ${e.event}`,
    (e) => e,
  );
}

/** The same for events in whatever form. @param key equal for events that are the same @param record what is made of those that are shown */
export function foldBy<T>(items: readonly T[], key: (item: T) => string | number, record: (item: T) => EventRecord): Folded[] {
  const keys = items.map(key);
  const out: Folded[] = [];
  for (let i = 0; i < keys.length;) {
    let best = 1;
    let rounds = 1;
    for (let length = 1; length <= LONGEST_ROUND && i + FOLD * length <= keys.length; length++) {
      // A multiple of a period, where it lies within what that repeats, repeats no longer.
      if (rounds > 1 && length % best === 0 && length <= best * rounds) continue;
      let n = i + length;
      while (n < keys.length && keys[n] === keys[n - length]) n++;
      const count = Math.floor((n - i) / length);
      if (count >= FOLD && count * length > best * rounds) {
        best = length;
        rounds = count;
      }
    }
    const end = i + best * rounds;
    out.push({ events: items.slice(i, i + best).map(record), rounds, last: record(items[end - best]!) });
    i = end;
  }
  return out;
}

/** The lines of what was folded: the first round, and how many more there were. */
export function foldedLines(l: Folded, options: TextOptions): string[] {
  const lines = l.events.map((e) => eventLine(e, options));
  if (l.rounds > 1) lines.push(fit(`${"".padStart(6)} ${l.last.agent.padEnd(6)} ${moreText(l)}`, options.width));
  return lines;
}

/** `… and 1023 more stage2_set, up to ipa=0x803ff000` */
export function moreText(l: Folded): string {
  const what = l.events.length === 1 ? `more ${l.last.event}` : `more rounds of these ${l.events.length} events`;
  const place = /(?:ipa|gpa|start|hva|pa)=\S+/.exec(fieldsText(l.last))?.[0];
  return `\u2026 and ${l.rounds - 1} ${what}${place === undefined ? "" : `, up to ${place}`}`;
}
