/**
 * Chrome's trace event JSON, for ui.perfetto.dev and chrome://tracing: nested slices, instants, flows and counters;
 * times in microseconds of virtual time. No path, no date, no address of this machine.
 *
 * Slices are pairs of B and E, in order, and never complete ones (X): where a trace has an X, Perfetto sorts events of
 * one time by their kind, E before X before B (trace_sorter.h), which tears apart what begins or ends at one time.
 */
import { encode, type Encoded } from "./bytebuffer.js";
import { HeldBack } from "./heldback.js";
import { JsonFields } from "./jsonfields.js";
import type { ByteOutput } from "./jsonlines.js";
import { isFields, Spans, type Arguments, type EventFields, type SpanWriter, type Track } from "./spans.js";
import type { TraceMeta, TraceSink, TraceSource } from "./sink.js";
import { TextBuffer } from "./textbuffer.js";

const PID = 1;
const FLUSH_BYTES = 1 << 16;

const text = encode;
const BEGIN = text(`,\n{"ph":"B","pid":${PID},"tid":`);
const END = text(`,\n{"ph":"E","pid":${PID},"tid":`);
const INSTANT = text(`,\n{"ph":"i","s":"t","pid":${PID},"tid":`);
const COUNTER = text(`,\n{"ph":"C","pid":${PID}`);
const TIME = text(',"ts":');
const NAME = text(',"name":');
const ARGUMENTS = text(',"args":');
const VALUE = text(',"args":{"value":');
const CLOSE = text("}");
const CLOSE_BOTH = text("}}");
const POINT = text(".");
/** Digits of a microsecond's thousandths, without the zeros at their end. */
const THOUSANDTHS = Array.from({ length: 1000 }, (_, n) => text(String(n).padStart(3, "0").replace(/0+$/, "")));

export class ChromeTrace implements TraceSink, SpanWriter {
  private readonly main = new TextBuffer(2 * FLUSH_BYTES);
  /** Of what goes to a place kept before. */
  private readonly late = new TextBuffer(1024);
  private readonly held: HeldBack;
  private readonly fields: JsonFields;
  /** By track: the names of its open slices. */
  private readonly open: string[][] = [];
  private readonly spans: Spans;
  private readonly named = new Set<Track>();
  private readonly names = new Map<string, Encoded>();
  readonly take: TraceSink["take"];
  readonly calls: Spans["calls"];

  constructor(
    private readonly out: ByteOutput,
    source: TraceSource,
    meta: TraceMeta,
  ) {
    this.held = new HeldBack(out);
    this.fields = new JsonFields(source, { head: () => "{", tail: "}", hexTexts: true });
    const { variant, kernel, cpu, set } = meta;
    this.spans = new Spans(this, source);
    this.take = this.spans.take;
    this.calls = this.spans.calls;
    this.main.text(
      `{"displayTimeUnit":"ns","otherData":${JSON.stringify({ producer: "faultline", variant, kernel, cpu, ...set })},"traceEvents":[\n` +
        `{"ph":"M","pid":${PID},"name":"process_name","args":{"name":${JSON.stringify(`${variant}: kernel ${kernel}, CPU ${cpu}`)}}}`,
    );
  }

  private flush(): void {
    this.held.add(this.main.bytes, this.main.length);
    this.main.length = 0;
  }
  /** What every event of a track begins with. */
  private head(kind: Encoded, track: Track, time: number, out = this.main): void {
    if (this.main.length >= FLUSH_BYTES) this.flush();
    out.put(kind);
    out.decimal(track);
    this.time(time, out);
  }
  /** Nanoseconds as microseconds, exact. */
  private time(ns: number, out = this.main): void {
    out.put(TIME);
    const whole = Math.floor(ns / 1000);
    out.decimal(whole);
    if (ns === whole * 1000) return;
    out.put(POINT);
    out.put(THOUSANDTHS[ns - whole * 1000]!);
  }
  private name(name: string, out = this.main): void {
    let json = this.names.get(name);
    if (json === undefined) this.names.set(name, (json = text(JSON.stringify(name))));
    out.put(NAME);
    out.put(json);
  }
  private arguments(args: Arguments | EventFields): void {
    this.main.put(ARGUMENTS);
    if (isFields(args)) this.fields.put(this.main, args.ring, args.at);
    else this.main.text(JSON.stringify(args));
  }

  track(track: Track, name: string): void {
    if (this.named.has(track)) return;
    this.named.add(track);
    this.main.text(`,\n{"ph":"M","pid":${PID},"tid":${track},"name":"thread_name","args":{"name":${JSON.stringify(name)}}}`);
    this.main.text(`,\n{"ph":"M","pid":${PID},"tid":${track},"name":"thread_sort_index","args":{"sort_index":${track}}}`);
  }
  begin(track: Track, time: number, name: string, args: Arguments | EventFields): void {
    (this.open[track] ??= []).push(name);
    this.head(BEGIN, track, time);
    this.name(name);
    this.arguments(args);
    this.main.put(CLOSE);
  }
  /** Named, though it need not be: there are readers that match beginnings and ends by their names. */
  end(track: Track, time: number, args?: Arguments): void {
    this.head(END, track, time);
    this.name(this.open[track]!.pop()!);
    if (args !== undefined) this.arguments(args);
    this.main.put(CLOSE);
  }
  phaseBegin(track: Track): void {
    this.flush();
    this.held.keep(track);
  }
  phase(track: Track, from: number, to: number, name: string): void {
    const { late } = this;
    this.head(BEGIN, track, from, late);
    this.name(name, late);
    late.put(CLOSE);
    const written = this.held.fill(track, late.bytes, late.length);
    late.length = 0;
    if (!written) return;
    this.head(END, track, to);
    this.name(name);
    this.main.put(CLOSE);
  }
  noPhase(track: Track): void {
    this.held.giveUp(track);
  }
  instant(track: Track, time: number, name: string, args: EventFields, flow: number): void {
    this.head(INSTANT, track, time);
    this.name(name);
    this.arguments(args);
    this.main.put(CLOSE);
    if (flow > 0) this.flow(`"f","bp":"e"`, track, time, flow);
  }
  flowStart(track: Track, time: number, _name: string, flow: number): void {
    this.flow('"s"', track, time, flow);
  }
  private flow(kind: string, track: Track, time: number, flow: number): void {
    this.head(text(`,\n{"ph":${kind},"id":${flow},"cat":"retry","pid":${PID},"tid":`), track, time);
    this.name("invalidation races with fault");
    this.main.put(CLOSE);
  }
  counter(name: string, time: number, value: number): void {
    this.main.put(COUNTER);
    this.time(time);
    this.name(name);
    this.main.put(VALUE);
    this.main.decimal(value);
    this.main.put(CLOSE_BOTH);
  }

  finish(): void {
    this.spans.finish();
    this.main.text("\n]}\n");
    this.flush();
    this.held.finish();
    this.out.commit();
  }
  abandon(): void {
    this.out.abandon();
  }
}
