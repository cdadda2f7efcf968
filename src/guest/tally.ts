/**
 * What a run adds up for its table: the columns that every run has where they are not zero, and those
 * that the script's `report` statements ask for. Counts go over the whole run, whatever was expected
 * in between.
 */
import { errnoName } from "../sim/errno.js";
import { findEvent, RECORD_WORDS, type EventBus } from "../sim/events.js";
import type { FieldTest, Report } from "./ast.js";
import { fieldOf } from "./compile.js";
import type { Scope } from "./evaluate.js";
import { testField } from "./expectations.js";

/** One cell of a variant's row. */
export interface Cell {
  readonly label: string;
  /** As it is shown. */
  readonly text: string;
  readonly value: number | string;
}

/** A column of every run: how often an event came with these values, or the sum of one of its fields. */
interface Column {
  readonly label: string;
  readonly event: string;
  /** Field -> value, as words of the record (an index for enums). */
  readonly where?: Readonly<Record<string, number>>;
  readonly sum?: string;
  /** The sum is divided by this. */
  readonly unit?: number;
  /** A column of its own for each value of this field: "MWr 8 B", "MWr 64 B". */
  readonly each?: string;
}

export const FAULTS = "guest faults";
export const LATE_WRITES = "late writes after reset";

export const COLUMNS: readonly Column[] = [
  { label: FAULTS, event: "kvm_guest_fault" },
  { label: "aborts at EL1", event: "memory_abort", where: { el: 1 } },
  { label: "D-cache lines by KVM", event: "dcache_clean", where: { by: 1 }, sum: "size", unit: 64 },
  { label: "D-cache lines by VMM", event: "dcache_clean", where: { by: 2 }, sum: "size", unit: 64 },
  { label: "D-cache lines by guest", event: "dcache_clean", where: { by: 0 }, sum: "size", unit: 64 },
  { label: "I-cache operations", event: "icache_inval" },
  { label: "register traps", event: "kvm_toggle_cache" },
  { label: "set/way traps", event: "kvm_set_way_flush" },
  { label: "stale reads", event: "stale_read" },
  { label: "writes lost", event: "write_lost" },
  { label: "MWr", event: "tlp_memory_write", each: "bytes" },
  { label: "MRd", event: "tlp_memory_read" },
  { label: "CfgWr", event: "tlp_config_write" },
  { label: "AER records", event: "aer_event" },
  { label: "SErrors injected", event: "inject_vabt" },
  { label: "reclaim: no_page_table_reference broken", event: "device_reclaim", where: { no_page_table_reference: 0 } },
  { label: "reclaim: no_buffered_write broken", event: "device_reclaim", where: { no_buffered_write: 0 } },
  { label: "reclaim: no_transaction_in_flight broken", event: "device_reclaim", where: { no_transaction_in_flight: 0 } },
  { label: "reclaim: clean_post_reset_state broken", event: "device_reclaim", where: { clean_post_reset_state: 0 } },
  { label: LATE_WRITES, event: "late_write" },
];

/** Word of a field in a record, and how many it has. */
function wordAt(event: string, field: string): { at: number; wide: boolean } {
  let at = 4;
  for (const f of findEvent(event)?.fields ?? []) {
    if (f.name === field) return { at, wide: f.kind === "hex64" };
    at += f.kind === "hex64" ? 2 : 1;
  }
  throw new Error(`${event} has no field ${field}`);
}

/** A counter over records of one event. */
interface Counter {
  total: number;
  /** One for each value of the field at `at` of a record. */
  readonly spread?: { readonly at: number; readonly of: Map<number, Counter> };
  /** Its place in `counters`. */
  readonly id: number;
  readonly take: (ring: Float64Array, at: number) => number;
}

/** Numbers of `added` that are kept at least: far more than anybody rolls back. */
const REMEMBERED = 3 << 17;

export class Tally {
  private readonly columns: { readonly column: Column; readonly counter: Counter }[] = [];
  private readonly reports = new Map<Report, Counter>();
  /** Counters by event. */
  private readonly of: (Counter[] | undefined)[] = [];
  private readonly counters: Counter[] = [];
  /** What was added last: [seq, counter, amount], so that a rollback can take it away again. */
  private added: number[] = [];
  private readonly detach: () => void;
  private readonly cells = new Map<string, Cell>();

  constructor(
    private readonly bus: EventBus,
    reports: readonly Report[],
    private readonly scope: Scope,
  ) {
    for (const column of COLUMNS) {
      const tests = Object.entries(column.where ?? {}).map(([name, v]) => ({ at: wordAt(column.event, name).at, v }));
      const sum = column.sum === undefined ? -1 : wordAt(column.event, column.sum).at;
      const counter: Counter = {
        total: 0,
        id: this.counters.length,
        ...(column.each === undefined ? {} : { spread: { at: wordAt(column.event, column.each).at, of: new Map<number, Counter>() } }),
        take: (ring, at) => {
          for (const t of tests) if (ring[at + t.at] !== t.v) return 0;
          return sum < 0 ? 1 : ring[at + sum]! / (column.unit ?? 1);
        },
      };
      this.columns.push({ column, counter });
      this.listen(column.event, counter);
    }
    for (const r of reports) if (r.what.kind === "count" || r.what.kind === "sum") this.reports.set(r, this.counted(r.what));
    this.detach = bus.stream((ring, from, to) => this.take(ring, from, to));
  }

  private listen(event: string, counter: Counter): void {
    this.counters.push(counter);
    const id = findEvent(event)?.id;
    if (id !== undefined) (this.of[id] ??= []).push(counter);
  }

  private counted(what: Extract<Report["what"], { kind: "count" | "sum" }>): Counter {
    const field = what.kind === "sum" ? fieldOf(what.field, findEvent(what.event)?.fields ?? []) : undefined;
    const sum = field === undefined ? undefined : wordAt(what.event, field.name);
    const passes = (ring: Float64Array, at: number, tests: readonly FieldTest[]): boolean => {
      if (tests.length === 0) return true;
      const e = this.bus.decode(ring, at);
      return tests.every((t) => testField(e, t, this.scope));
    };
    const counter: Counter = {
      total: 0,
      id: this.counters.length,
      take: (ring, at) => {
        if (!passes(ring, at, what.fields)) return 0;
        if (sum === undefined) return 1;
        return sum.wide ? (ring[at + sum.at]! >>> 0) * 4294967296 + (ring[at + sum.at + 1]! >>> 0) : ring[at + sum.at]!;
      },
    };
    this.listen(what.event, counter);
    return counter;
  }

  private take(ring: Float64Array, from: number, to: number): void {
    this.takeBack(ring[from * RECORD_WORDS]!);
    for (let n = from; n < to; n++) {
      const at = n * RECORD_WORDS;
      const counters = this.of[ring[at + 3]!];
      if (counters === undefined) continue;
      for (const c of counters) {
        const amount = c.take(ring, at);
        if (amount === 0) continue;
        const counter = c.spread === undefined ? c : this.share(c.spread, ring[at + c.spread.at]!);
        counter.total += amount;
        this.added.push(ring[at]!, counter.id, amount);
      }
      if (this.added.length > 2 * REMEMBERED) this.added = this.added.slice(-REMEMBERED);
    }
  }

  private share(spread: NonNullable<Counter["spread"]>, value: number): Counter {
    let c = spread.of.get(value);
    if (c === undefined) {
      c = { total: 0, id: this.counters.length, take: () => 1 };
      this.counters.push(c);
      spread.of.set(value, c);
    }
    return c;
  }

  /** The run is at this event again, after a rollback: what was counted from there on did not happen. Of a ring only the first can be such. */
  private takeBack(seq: number): void {
    const a = this.added;
    while (a.length > 0 && a[a.length - 3]! >= seq) {
      const amount = a.pop()!;
      this.counters[a.pop()!]!.total -= amount;
      a.pop();
    }
  }

  /** A `report` statement was reached whose cell is a word. */
  reportText(r: Report, text: string): void {
    this.cells.set(r.label, { label: r.label, text, value: text });
  }

  /** A `report` statement was reached. @param value of its expression */
  report(r: Report, value: bigint | undefined): void {
    this.bus.flush();
    const v = value ?? BigInt(this.reports.get(r)!.total);
    const hex = value !== undefined && (v > 9n || v < -9n);
    const text = v < 0n && v > -4096n ? errnoName(Number(v)) : hex ? `0x${BigInt.asUintN(64, v).toString(16)}` : String(v);
    this.cells.set(r.label, { label: r.label, text, value: hex || v < 0n ? text : Number(v) });
  }

  /** The row of the run: reports in the order in which they were reached, then the columns that are not zero, then the time. */
  row(cycles: number): Cell[] {
    this.bus.flush();
    const counted = this.columns
      .flatMap(({ column, counter }) =>
        counter.spread === undefined
          ? [{ label: column.label, total: counter.total }]
          : [...counter.spread.of].sort(([a], [b]) => a - b).map(([value, c]) => ({ label: `${column.label} ${value} B`, total: c.total })),
      )
      .filter((c) => c.total !== 0)
      .map((c) => ({ label: c.label, text: String(c.total), value: c.total }));
    return [...this.cells.values(), ...counted, { label: "cycles", text: String(cycles), value: cycles }];
  }

  stop(): void {
    this.detach();
  }
}
