/**
 * The report's data as it lies in the page: what is painted first, and the words that are read after it. Each is JSON and
 * columns of numbers (columns.ts). Rows of tables are written by columns, and what a table held at a place by what is left of
 * the place before.
 */
import { ColumnWriter, readColumn, type ColumnBytes, type ColumnPlace, type Numbers } from "./columns.js";
import type { EventColumns, ExplanationWords, Moments, ReportData, RunData, SliceColumns, Track } from "./data.js";

type Value = number | string | boolean;

/** Texts are named once each. */
type WireColumn =
  { readonly numbers: ColumnPlace } | { readonly flags: ColumnPlace } | { readonly texts: readonly string[]; readonly of: ColumnPlace };

interface WireRows {
  readonly count: number;
  readonly columns: Readonly<Record<string, WireColumn>>;
}
interface WireTrack extends WireRows {
  /** Each as pieces of the one before: where a piece begins in it and how long it is, or -1 - row of a row that it has not. */
  readonly states: readonly ColumnPlace[];
  readonly at: ColumnPlace;
}
type Tables = "vmas" | "slots" | "stage2" | "tlb";
const TABLES: readonly Tables[] = ["vmas", "slots", "stage2", "tlb"];

type Places<T> = { readonly [K in keyof T]: T[K] extends Numbers ? ColumnPlace : T[K] };

interface WireRun extends Omit<RunData, "moments" | "events" | "slices" | "arrows" | "steps" | "explanations"> {
  readonly events: Places<EventColumns>;
  readonly slices: Places<SliceColumns>;
  readonly arrows: WireRows;
  readonly steps: WireRows;
  readonly explanations: WireRows;
  readonly moments: Omit<Moments, Tables | "seq"> & { readonly seq: ColumnPlace } & Readonly<Record<Tables, WireTrack>>;
}
/** What is painted first: all but the words. */
export interface WireReport extends Omit<ReportData, "runs" | "texts"> {
  readonly runs: readonly WireRun[];
}
/** What events and explanations say. */
export interface WireWords {
  readonly texts: readonly string[];
  readonly explanations: readonly (readonly ExplanationWords[])[];
}

/** One part of the page's data. */
export interface Part<T> {
  readonly json: T;
  readonly columns: ColumnBytes;
}

const UNREAD: ExplanationWords = { prose: [], chain: [], hints: [] };

export function toWire(report: ReportData): { readonly first: Part<WireReport>; readonly words: WireWords } {
  const { texts, runs, ...head } = report;
  const w = new ColumnWriter();
  const json = { ...head, runs: runs.map((run) => runToWire(run, w)) };
  const explanations = runs.map((run) => run.explanations.map((e) => e.told));
  return { first: { json, columns: w.bytes }, words: { texts, explanations } };
}

/** A report whose words are still to come. */
export function fromWire({ json, columns }: Part<WireReport>): ReportData {
  return { ...json, runs: json.runs.map((run) => runFromWire(run, columns)), texts: [] };
}

export function addWords(report: ReportData, words: WireWords): void {
  report.texts = words.texts;
  for (const [r, run] of report.runs.entries()) for (const [n, e] of run.explanations.entries()) e.told = words.explanations[r]![n]!;
}

function runToWire(run: RunData, w: ColumnWriter): WireRun {
  const { vmas, slots, stage2, tlb, seq } = run.moments;
  return {
    ...run,
    events: columnsToWire(run.events, w),
    slices: columnsToWire(run.slices, w),
    arrows: rowsToWire(run.arrows, w),
    steps: rowsToWire(run.steps, w),
    explanations: rowsToWire(
      run.explanations.map(({ agent, from, to, outcome, notable }) => ({ agent, from, to, outcome, notable })),
      w,
    ),
    moments: {
      ...run.moments,
      seq: w.add(seq),
      vmas: trackToWire(vmas, w),
      slots: trackToWire(slots, w),
      stage2: trackToWire(stage2, w),
      tlb: trackToWire(tlb, w),
    },
  };
}

function runFromWire(run: WireRun, bytes: ColumnBytes): RunData {
  const tracks = Object.fromEntries(TABLES.map((t) => [t, trackFromWire(run.moments[t], bytes)]));
  return {
    ...run,
    events: columnsFromWire(run.events, bytes),
    slices: columnsFromWire(run.slices, bytes),
    arrows: rowsFromWire(run.arrows, bytes),
    steps: rowsFromWire(run.steps, bytes),
    explanations: rowsFromWire(run.explanations, bytes).map((row) => ({ ...row, told: UNREAD })),
    moments: { ...run.moments, seq: readColumn(bytes, run.moments.seq), ...tracks },
  } as unknown as RunData;
}

/** Of an object, the lists of numbers. */
function columnsToWire<T extends object>(of: T, w: ColumnWriter): Places<T> {
  const entries = Object.entries(of).map(([k, v]) => [k, typeof v === "number" ? v : w.add(v as Numbers)] as const);
  return Object.fromEntries(entries) as Places<T>;
}
function columnsFromWire(of: object, bytes: ColumnBytes): object {
  return Object.fromEntries(Object.entries(of).map(([k, v]) => [k, typeof v === "number" ? v : readColumn(bytes, v as ColumnPlace)]));
}

function rowsToWire<R extends object>(rows: readonly R[], w: ColumnWriter): WireRows {
  const keys = Object.keys(rows[0] ?? {}) as (keyof R & string)[];
  return {
    count: rows.length,
    columns: Object.fromEntries(
      keys.map((k) => [
        k,
        columnToWire(
          rows.map((r) => r[k] as Value),
          w,
        ),
      ]),
    ),
  };
}

function rowsFromWire(wire: WireRows, bytes: ColumnBytes): object[] {
  const rows = Array.from({ length: wire.count }, (): Record<string, Value> => ({}));
  for (const [key, c] of Object.entries(wire.columns)) {
    const of = readColumn(bytes, "texts" in c ? c.of : "flags" in c ? c.flags : c.numbers);
    for (let i = 0; i < rows.length; i++) rows[i]![key] = "texts" in c ? c.texts[of[i]!]! : "flags" in c ? of[i] === 1 : of[i]!;
  }
  return rows;
}

function columnToWire(values: readonly Value[], w: ColumnWriter): WireColumn {
  if (typeof values[0] === "number") return { numbers: w.add(values as number[]) };
  if (typeof values[0] === "boolean") return { flags: w.add(values.map(Number)) };
  const texts = [...new Set(values as string[])];
  const numbers = new Map(texts.map((t, n) => [t, n]));
  return { texts, of: w.add((values as string[]).map((v) => numbers.get(v)!)) };
}

function trackToWire<R extends object>(track: Track<R>, w: ColumnWriter): WireTrack {
  const { rows, states, at } = track;
  return { ...rowsToWire(rows, w), states: states.map((s, n) => w.add(pieces(states[n - 1] ?? [], s))), at: w.add(at) };
}

function trackFromWire(wire: WireTrack, bytes: ColumnBytes): Track<object> {
  const states: Int32Array[] = [];
  for (const s of wire.states) states.push(joined(states.at(-1) ?? new Int32Array(0), readColumn(bytes, s)));
  return { rows: rowsFromWire(wire, bytes), states, at: readColumn(bytes, wire.at) };
}

/** A list as pieces of another. */
export function pieces(before: Numbers, list: Numbers): number[] {
  const places = new Map(Array.from(before, (row, n) => [row, n]));
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

export function joined(before: Int32Array, parts: Numbers): Int32Array {
  let length = 0;
  for (let i = 0; i < parts.length; i++) length += parts[i]! < 0 ? 1 : parts[++i]!;
  const out = new Int32Array(length);
  for (let i = 0, at = 0; i < parts.length; i++) {
    const from = parts[i]!;
    if (from < 0) out[at++] = -1 - from;
    else {
      const piece = before.subarray(from, from + parts[++i]!);
      out.set(piece, at);
      at += piece.length;
    }
  }
  return out;
}
