/**
 * The kernel eras: which releases there are, what each is based on, and how a release's row of
 * decisions is derived from the histories that the rooms declare.
 *
 * A mainline era is based on the one before it; a stable release on its mainline release. A decision's
 * value is the nearest entry of its history on the chain era -> base -> …; without one it is unknown.
 */
import { kvmDecisions } from "./kvm/decisions.js";
import { mmDecisions } from "./mmu/decisions.js";
import type { Decision, Row } from "./sim/decisions.js";
import { vfioDecisions } from "./vfio/decisions.js";
import { FaultlineError } from "./sim/errors.js";

export interface Era {
  readonly name: string;
  /** The era that this one changes; undefined for the oldest. */
  readonly base: string | undefined;
  readonly note: string;
}

const era = (name: string, base: string | undefined, note: string): Era => Object.freeze({ name, base, note });

/** All eras, oldest first; a stable release stands behind its mainline release. */
export const ERAS: readonly Era[] = [
  era("v4.0", undefined, "2015: KVM/arm64 with 40-bit IPA, PTE and PMD only"),
  era("v4.10", "v4.0", "PFNMAP pages found in the host's tables; access flag faults; break-before-make"),
  era("v4.20", "v4.10", "execute-never by default, identical entries left alone, IPA size by VM"),
  era("v5.4", "v4.20", "last release before the Dec 2019 fix"),
  era("v5.5", "v5.4", "v5.4 plus the Dec 2019 fix and nothing else (as recorded)"),
  era("v5.6", "v5.5", "mainline v5.5 and v5.6: NISV exits"),
  era("v5.8", "v5.6", "vfio-pci zaps its mappings when memory is disabled"),
  era("v5.10", "v5.8", "the new page-table walker; a page is copied unless nobody else has a reference"),
  era("v5.10.223", "v5.10", "stable, as distributed: a BAR's pages are as writable as the host's entries"),
  era("v5.11", "v5.10", "exceptions are pended and injected at the next entry"),
  era("v5.12", "v5.11", "permission-only changes leave the entry to the permission path"),
  era("v5.14", "v5.12", "no eager device mapping; block mappings of PFNMAP memory; MTE"),
  era("v5.15", "v5.14", "THP size from the user page table; memslot updates wait for notifiers"),
  era("v6.1", "v5.15", "mmu_lock is an rwlock; PG_anon_exclusive"),
  era("v6.1.192", "v6.1", "stable, as distributed: BARs always 4 KiB pages"),
  era("v6.4", "v6.1", "sequence snapshot inside mmap_lock; dirty ring; parallel faults; CTR_EL0 trapped"),
  era("v6.6", "v6.4", "range TLB invalidation, deferred when FEAT_TLBIRANGE and S2FWB; eager splitting"),
  era("v6.8", "v6.6", "FEAT_LPA2 at stage 2; range TLBIs in falling scales; larger anonymous mappings on THP boundaries"),
  era("v6.9", "v6.8", "VM_ALLOW_ANY_UNCACHED: BARs are Normal-NC at stage 2"),
  era("v6.12", "v6.9", "no change_pte; huge PFNMAP faults; ptdump"),
  era("v6.12.117", "v6.12", "stable, as distributed: PFNMAP blocks follow the host leaf"),
  era("v6.13", "v6.12", "write to the huge zero page is replaced whole"),
  era("v6.17", "v6.13", "cacheable PFNMAP; SError injected at once when unmasked"),
  era("v6.18.2", "v6.17", "external aborts on stage-1 walks carry the level"),
  era("v7.2.12", "v6.18.2", "PFNMAP blocks follow the host leaf; MMIO loads sign-extend"),
  era("v7.3.4", "v7.2.12", "a fetch that breaks a logged block has its tables; a write fault that will copy empties no batch"),
];

/** Short names of eras. */
export const ERA_ALIASES: Readonly<Record<string, string>> = { "v6.18": "v6.18.2", "v7.2": "v7.2.12", "v7.3": "v7.3.4" };

export const DEFAULT_ERA = "v6.12";

/** All decisions by room. */
export const DECISIONS = { mm: mmDecisions, vfio: vfioDecisions, kvm: kvmDecisions } as const;
export type Room = keyof typeof DECISIONS;

/** A decision's value in a row, with where it comes from. */
export interface Answer {
  readonly value: string | number | boolean;
  readonly source: string;
  /** The era whose entry answered. */
  readonly since: string;
}

/** One release: every room's row. */
export interface EraRow {
  readonly era: string;
  readonly mm: Row<typeof mmDecisions>;
  readonly vfio: Row<typeof vfioDecisions>;
  readonly kvm: Row<typeof kvmDecisions>;
}

/** Finds an era by name or alias. */
export function findEra(name: string): Era | undefined {
  const canonical = ERA_ALIASES[name] ?? name;
  return ERAS.find((e) => e.name === canonical);
}

/** The answer of one decision in an era; undefined where no source is known. */
export function answer(decision: Decision, name: string): Answer | undefined {
  for (let e = findEra(name); e !== undefined; e = e.base === undefined ? undefined : findEra(e.base)) {
    const entry = decision.history[e.name];
    if (entry !== undefined) return { value: entry[0], source: entry[1], since: e.name };
  }
  return undefined;
}

/** Finds the room that declares a decision. */
export function decisionRoom(name: string): Room | undefined {
  return (Object.keys(DECISIONS) as Room[]).find((room) => name in DECISIONS[room]);
}
export function findDecision(name: string): Decision | undefined {
  const room = decisionRoom(name);
  return room === undefined ? undefined : (DECISIONS[room] as Record<string, Decision>)[name];
}
export function decisionNames(): string[] {
  return Object.values(DECISIONS).flatMap((set) => Object.keys(set));
}

/** Parses the text of `--set name=value` into a legal value. @throws Error that lists the legal values. */
export function decisionValue(name: string, text: string): string | number | boolean {
  const decision = findDecision(name);
  if (decision === undefined) throw new FaultlineError(`no decision named ${name}`);
  const value = decision.values.find((v) => String(v) === text || (v === true && text === "yes") || (v === false && text === "no"));
  if (value === undefined) throw new FaultlineError(`decision ${name} takes ${decision.values.map(String).join(" | ")}, not ${text}`);
  return value;
}

type Decisions = Readonly<Record<string, Decision>>;
type FoldedRow = Readonly<Record<string, string | number | boolean>>;
interface PlainRow {
  readonly row: FoldedRow;
  /** Decisions without a source in the era. */
  readonly unknown: readonly string[];
}
/** The rows that have been folded: every machine asks for one. */
const plainRows = new Map<Decisions, Map<string, PlainRow>>();

/** The answers of a room's decisions in an era. */
function plainRow(decisions: Decisions, name: string): PlainRow {
  let rows = plainRows.get(decisions);
  if (rows === undefined) plainRows.set(decisions, (rows = new Map<string, PlainRow>()));
  let plain = rows.get(name);
  if (plain === undefined) {
    const unknown: string[] = [];
    const pairs = Object.entries(decisions).map(([key, d]): [string, string | number | boolean] => {
      const value = answer(d, name)?.value;
      if (value === undefined) unknown.push(key);
      return [key, value ?? d.values[0]!];
    });
    // All at once: an object that grows key by key becomes a hash table, and a decision is asked on every fault.
    rows.set(name, (plain = { row: Object.freeze(Object.fromEntries(pairs)), unknown }));
  }
  return plain;
}

/**
 * The row of an era with some decisions replaced. A decision without a source in this era takes its
 * first legal value, is listed by `unknownDecisions`, and tells whenever it is asked.
 * @param onUnknown called when such a decision is asked
 * @param onAsked called when any decision is asked: the row is slower then
 */
export function eraRow(
  name: string,
  set: Readonly<Record<string, string>> = {},
  onUnknown?: (decision: string) => void,
  onAsked?: (decision: string) => void,
): EraRow {
  const e = findEra(name);
  if (e === undefined) throw new FaultlineError(`no era named ${name}`);
  for (const key of Object.keys(set)) decisionValue(key, set[key]!);
  const fold = (decisions: Decisions): FoldedRow => {
    const plain = plainRow(decisions, e.name);
    const chosen = Object.keys(set).filter((key) => key in decisions);
    const unknown = plain.unknown.filter((key) => !chosen.includes(key));
    const told = onAsked !== undefined ? Object.keys(decisions) : onUnknown !== undefined ? unknown : [];
    if (chosen.length === 0 && told.length === 0) return plain.row;
    const row = Object.fromEntries(
      Object.entries(plain.row).map(([key, value]) => [key, chosen.includes(key) ? decisionValue(key, set[key]!) : value]),
    );
    for (const key of told) {
      const value = row[key]!;
      const isUnknown = unknown.includes(key);
      const get = () => {
        if (isUnknown) onUnknown?.(key);
        onAsked?.(key);
        return value;
      };
      Object.defineProperty(row, key, { enumerable: true, get });
    }
    return Object.freeze(row);
  };
  return Object.freeze({ era: e.name, mm: fold(mmDecisions), vfio: fold(vfioDecisions), kvm: fold(kvmDecisions) }) as unknown as EraRow;
}

/** Decisions that have no source in this era. */
export function unknownDecisions(name: string): string[] {
  return decisionNames().filter((d) => answer(findDecision(d)!, name) === undefined);
}
