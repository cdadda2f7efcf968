/**
 * Two traces side by side: which events of both can be compared, where they part first, and what else differs.
 * Times and sequence numbers are no meaning; what only one kind of trace can hold is left out, and said so.
 */
import { diffArrays } from "diff";
import { findEvent } from "../sim/events.js";
import { meaningOf, NOTIFIERS, PLACE_FIELDS, withoutInterruptions } from "./foreign.js";
import type { MeantEvent, ReadTrace } from "./meaning.js";

export interface DiffOptions {
  /** Fields that are not compared. */
  readonly ignore: readonly string[];
  /** Only these events; all that both can hold if absent. */
  readonly events?: readonly string[];
  /** Each agent's events for themselves: another order between agents is no difference. */
  readonly perAgent?: boolean;
  /** Only events that speak of a guest-physical address from the first to below the second. */
  readonly ipa?: readonly [number, number];
}

export interface Divergence {
  /** Of the agent's events, if agents are compared one by one. */
  readonly agent?: string;
  /** Compared events that are the same before. */
  readonly after: number;
  /** What each has there; undefined where a trace is over. */
  readonly a: MeantEvent | undefined;
  readonly b: MeantEvent | undefined;
  /** Fields that differ, if both have the same event there. */
  readonly fields: readonly string[];
  /** The last events before that are the same. */
  readonly before: readonly MeantEvent[];
}
export interface TraceDiff {
  readonly same: boolean;
  readonly compared: { readonly a: number; readonly b: number };
  readonly leftOut: { readonly a: number; readonly b: number };
  readonly ignored: readonly string[];
  readonly perAgent: boolean;
  /** One of them, or both, is of a real host. */
  readonly foreign: boolean;
  readonly first: Divergence | undefined;
  /** How many events of each name are only in A and only in B; undefined if the traces differ too much to be aligned. */
  readonly only: Readonly<Record<string, { readonly a: number; readonly b: number }>> | undefined;
}

const CONTEXT = 3;
/** Edits that an alignment is followed to. */
const MOST_EDITS = 4000;

/** Compares. */
export function diffTraces(a: ReadTrace, b: ReadTrace, options: DiffOptions): TraceDiff {
  const foreign = !a.ours || !b.ours;
  const ignored = [...new Set([...options.ignore, ...(foreign ? PLACE_FIELDS : [])])];
  const perAgent = options.perAgent ?? foreign;
  const kinds = comparable(a, b, options.events);
  const of = (t: ReadTrace): MeantEvent[] =>
    (foreign ? withoutInterruptions(t) : t.events).filter((e) => kinds(e.event) && (options.ipa === undefined || speaksOf(e, options.ipa)));
  const [x, y] = [of(a), of(b)];
  const shared = sharedFields(x, y, ignored);
  const meaning = foreign ? meaningOf : (_field: string, value: string): string => value;
  const key = (e: MeantEvent): string => keyOf(e, shared, meaning);
  const groups = perAgent ? agentsOf(x, y) : [undefined];
  let first: Divergence | undefined;
  const only: Record<string, { a: number; b: number }> = {};
  let aligned = true;
  for (const agent of groups) {
    const [p, q] = agent === undefined ? [x, y] : [x.filter((e) => e.agent === agent), y.filter((e) => e.agent === agent)];
    const [pk, qk] = [p.map(key), q.map(key)];
    let n = 0;
    while (n < pk.length && pk[n] === qk[n]) n++;
    if (n === pk.length && n === qk.length) continue;
    const here = divergence(p, q, n, shared, meaning, agent);
    if (first === undefined || earlier(here, first)) first = here;
    const changes = diffArrays(pk.slice(n), qk.slice(n), { maxEditLength: MOST_EDITS });
    if (changes === undefined) aligned = false;
    for (const c of changes ?? []) {
      if (!c.added && !c.removed) continue;
      for (const k of c.value) {
        const count = (only[k.slice(k.indexOf(" ") + 1).split(" ", 1)[0]!] ??= { a: 0, b: 0 });
        count[c.added ? "b" : "a"]++;
      }
    }
  }
  return {
    same: first === undefined,
    compared: { a: x.length, b: y.length },
    leftOut: { a: a.events.length - x.length, b: b.events.length - y.length },
    ignored,
    perAgent,
    foreign,
    first,
    only: aligned ? only : undefined,
  };
}

/** Which events both traces can hold: systems that both have, and formats where only some events have a place. */
function comparable(a: ReadTrace, b: ReadTrace, wanted: readonly string[] | undefined): (event: string) => boolean {
  if (wanted !== undefined) return (e) => wanted.includes(e);
  const slices = [a, b].some((t) => t.format === "Chrome JSON");
  const both = a.ours && b.ours;
  const names = (t: ReadTrace): Set<string> => new Set(t.events.map((e) => e.event));
  const [x, y] = [names(a), names(b)];
  return (e) => {
    if (slices && (e.startsWith("lock_") || e === "mmu_notifier_invalidate_range_end")) return false;
    // A host records the trace points that somebody enabled: one that never came may have been off.
    return both || (findEvent(e)?.system === "kvm" && x.has(e) && y.has(e) && !NOTIFIERS.has(e));
  };
}

function speaksOf(e: MeantEvent, [from, to]: readonly [number, number]): boolean {
  const address = Number(e.fields["ipa"] ?? e.fields["gpa"] ?? NaN);
  const size = Number(e.fields["size"] ?? 0);
  return address < to && address + Math.max(1, size) > from;
}

type Meaning = (field: string, value: string) => string;

/** By event: the fields that both traces have, without the ignored. */
function sharedFields(x: readonly MeantEvent[], y: readonly MeantEvent[], ignored: readonly string[]): Map<string, readonly string[]> {
  const all = (events: readonly MeantEvent[]): Map<string, Set<string>> => {
    const out = new Map<string, Set<string>>();
    for (const e of events) {
      let names = out.get(e.event);
      if (names === undefined) out.set(e.event, (names = new Set()));
      for (const f in e.fields) names.add(f);
    }
    return out;
  };
  const [p, q] = [all(x), all(y)];
  return new Map(
    [...p].map(([event, names]) => {
      const other = q.get(event);
      return [event, [...names].filter((f) => (other === undefined || other.has(f)) && !ignored.includes(f)).sort()];
    }),
  );
}

function keyOf(e: MeantEvent, shared: ReadonlyMap<string, readonly string[]>, meaning: Meaning): string {
  let key = `${e.agent.replaceAll(" ", "_")} ${e.event}`;
  for (const f of shared.get(e.event) ?? Object.keys(e.fields).sort()) key += ` ${f}=${meaning(f, e.fields[f] ?? "")}`;
  return key;
}

const agentsOf = (x: readonly MeantEvent[], y: readonly MeantEvent[]): string[] => [...new Set([...x, ...y].map((e) => e.agent))];

function divergence(
  p: readonly MeantEvent[],
  q: readonly MeantEvent[],
  n: number,
  shared: ReadonlyMap<string, readonly string[]>,
  meaning: Meaning,
  agent: string | undefined,
): Divergence {
  const [a, b] = [p[n], q[n]];
  const sameEvent = a !== undefined && b !== undefined && a.event === b.event && a.agent === b.agent;
  const differs = (f: string): boolean => meaning(f, a!.fields[f] ?? "") !== meaning(f, b!.fields[f] ?? "");
  const fields = sameEvent ? (shared.get(a.event) ?? []).filter(differs) : [];
  return { ...(agent === undefined ? {} : { agent }), after: n, a, b, fields, before: p.slice(Math.max(0, n - CONTEXT), n) };
}

const earlier = (x: Divergence, y: Divergence): boolean => (x.a?.place ?? Infinity) < (y.a?.place ?? Infinity);
