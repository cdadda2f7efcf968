/**
 * The report's data as it lies in the page: two parts, so that the page paints before it has read the words of every
 * event. Rows of tables are written by columns, and what a table held at a place by what is left of the place before.
 */
import type { Moments, ReportData, RunData, Track } from "./data.js";

type Value = number | string | boolean;

/** A column; one of texts names each of them once. */
type WireColumn = readonly Value[] | { readonly texts: readonly string[]; readonly of: readonly number[] };

interface WireTrack {
  readonly count: number;
  readonly columns: Readonly<Record<string, WireColumn>>;
  /** Each as pieces of the one before: where a piece begins in it and how long it is, or -1 - row of a row that it has not. */
  readonly states: readonly (readonly number[])[];
  readonly at: readonly number[];
}
type Tables = "vmas" | "slots" | "stage2" | "tlb";
const TABLES: readonly Tables[] = ["vmas", "slots", "stage2", "tlb"];

interface WireRun extends Omit<RunData, "moments"> {
  readonly moments: Omit<Moments, Tables> & Readonly<Record<Tables, WireTrack>>;
}
/** The part that is painted first: all but `texts`. */
export interface WireReport extends Omit<ReportData, "runs" | "texts"> {
  readonly runs: readonly WireRun[];
}

export function toWire(report: ReportData): { readonly first: WireReport; readonly texts: readonly string[] } {
  const { texts, runs, ...head } = report;
  const first = {
    ...head,
    runs: runs.map((run): WireRun => {
      const { vmas, slots, stage2, tlb } = run.moments;
      const tracks = { vmas: trackToWire(vmas), slots: trackToWire(slots), stage2: trackToWire(stage2), tlb: trackToWire(tlb) };
      return { ...run, moments: { ...run.moments, ...tracks } };
    }),
  };
  return { first, texts };
}

export function fromWire(first: WireReport, texts: readonly string[]): ReportData {
  const runs = first.runs.map((run) => {
    const tracks = Object.fromEntries(TABLES.map((t) => [t, trackFromWire(run.moments[t])]));
    return { ...run, moments: { ...run.moments, ...tracks } } as unknown as RunData;
  });
  return { ...first, runs, texts };
}

function trackToWire<R extends object>(track: Track<R>): WireTrack {
  const { rows, states, at } = track;
  const keys = Object.keys(rows[0] ?? {}) as (keyof R & string)[];
  const columns = Object.fromEntries(keys.map((k) => [k, column(rows.map((r) => r[k] as Value))]));
  return { count: rows.length, columns, states: states.map((s, n) => pieces(states[n - 1] ?? [], s)), at };
}

function trackFromWire(wire: WireTrack): Track<object> {
  const rows = Array.from({ length: wire.count }, (): Record<string, Value> => ({}));
  for (const [key, c] of Object.entries(wire.columns))
    for (let i = 0; i < rows.length; i++) rows[i]![key] = "texts" in c ? c.texts[c.of[i]!]! : c[i]!;
  const states: (readonly number[])[] = [];
  for (const s of wire.states) states.push(joined(states.at(-1) ?? [], s));
  return { rows, states, at: wire.at };
}

function column(values: readonly Value[]): WireColumn {
  if (values.some((v) => typeof v !== "string")) return values;
  const texts = [...new Set(values as string[])];
  const numbers = new Map(texts.map((t, n) => [t, n]));
  return { texts, of: (values as string[]).map((v) => numbers.get(v)!) };
}

/** A list as pieces of another. */
export function pieces(before: readonly number[], list: readonly number[]): number[] {
  const places = new Map(before.map((row, n) => [row, n]));
  const out: number[] = [];
  for (let i = 0; i < list.length;) {
    const from = places.get(list[i]!);
    if (from === undefined) {
      out.push(-1 - list[i++]!);
      continue;
    }
    let length = 1;
    while (i + length < list.length && from + length < before.length && list[i + length] === before[from + length]) length++;
    out.push(from, length);
    i += length;
  }
  return out;
}

export function joined(before: readonly number[], parts: readonly number[]): number[] {
  const out: number[] = [];
  for (let i = 0; i < parts.length; i++) {
    const from = parts[i]!;
    if (from < 0) out.push(-1 - from);
    else for (let n = 0, length = parts[++i]!; n < length; n++) out.push(before[from + n]!);
  }
  return out;
}
