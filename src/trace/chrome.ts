/**
 * Chrome's trace event JSON, for ui.perfetto.dev and chrome://tracing: nested slices, instants, flows and counters;
 * times in microseconds of virtual time. No path, no date, no address of this machine.
 *
 * Slices are pairs of B and E, in order, and never complete ones (X): where a trace has an X, Perfetto sorts events of
 * one time by their kind, E before X before B (trace_sorter.h), which tears apart what begins or ends at one time.
 */
import { HeldBack } from "./heldback.js";
import type { ByteOutput } from "./jsonlines.js";
import { Spans, type Arguments, type SpanWriter, type Track } from "./spans.js";
import type { TraceMeta, TraceSink, TraceSource } from "./sink.js";

const PID = 1;
const FLUSH_CHARS = 1 << 16;

export class ChromeTrace implements TraceSink, SpanWriter {
  private text: string;
  private first = true;
  private readonly held: HeldBack;
  /** By track: the names of its open slices. */
  private readonly open: string[][] = [];
  private readonly spans: Spans;
  private readonly named = new Set<Track>();
  readonly take: TraceSink["take"];
  readonly calls: Spans["calls"];

  constructor(
    private readonly out: ByteOutput,
    source: TraceSource,
    meta: TraceMeta,
  ) {
    this.held = new HeldBack(out);
    const { variant, kernel, cpu, set } = meta;
    this.text = `{"displayTimeUnit":"ns","otherData":${JSON.stringify({ producer: "faultline", variant, kernel, cpu, ...set })},"traceEvents":[\n`;
    this.spans = new Spans(this, source);
    this.take = this.spans.take;
    this.calls = this.spans.calls;
    this.add(`{"ph":"M","pid":${PID},"name":"process_name","args":{"name":${JSON.stringify(`${variant}: kernel ${kernel}, CPU ${cpu}`)}}}`);
  }

  private add(json: string): void {
    this.text += this.first ? json : `,\n${json}`;
    this.first = false;
    if (this.text.length >= FLUSH_CHARS) this.flush();
  }
  private flush(): void {
    this.held.add(Buffer.from(this.text));
    this.text = "";
  }
  /** Nanoseconds as microseconds, exact. */
  private at(track: Track, time: number): string {
    return `"pid":${PID},"tid":${track},"ts":${micros(time)}`;
  }

  track(track: Track, name: string): void {
    if (this.named.has(track)) return;
    this.named.add(track);
    this.add(`{"ph":"M","pid":${PID},"tid":${track},"name":"thread_name","args":{"name":${JSON.stringify(name)}}}`);
    this.add(`{"ph":"M","pid":${PID},"tid":${track},"name":"thread_sort_index","args":{"sort_index":${track}}}`);
  }
  begin(track: Track, time: number, name: string, args: Arguments): void {
    (this.open[track] ??= []).push(name);
    this.add(`{"ph":"B",${this.at(track, time)},"name":${JSON.stringify(name)},"args":${JSON.stringify(args)}}`);
  }
  /** Named, though it need not be: there are readers that match beginnings and ends by their names. */
  end(track: Track, time: number, args?: Arguments): void {
    const name = JSON.stringify(this.open[track]!.pop());
    this.add(`{"ph":"E",${this.at(track, time)},"name":${name}${args === undefined ? "" : `,"args":${JSON.stringify(args)}`}}`);
  }
  phaseBegin(track: Track): void {
    this.flush();
    this.held.keep(track);
  }
  phase(track: Track, from: number, to: number, name: string): void {
    const begin = `,\n{"ph":"B",${this.at(track, from)},"name":${JSON.stringify(name)}}`;
    if (this.held.fill(track, Buffer.from(begin))) this.add(`{"ph":"E",${this.at(track, to)},"name":${JSON.stringify(name)}}`);
  }
  noPhase(track: Track): void {
    this.held.giveUp(track);
  }
  instant(track: Track, time: number, name: string, args: Arguments, flow: number): void {
    this.add(`{"ph":"i","s":"t",${this.at(track, time)},"name":${JSON.stringify(name)},"args":${JSON.stringify(args)}}`);
    if (flow > 0) this.add(`{"ph":"f","bp":"e","id":${flow},"cat":"retry",${this.at(track, time)},"name":"invalidation races with fault"}`);
  }
  flowStart(track: Track, time: number, _name: string, flow: number): void {
    this.add(`{"ph":"s","id":${flow},"cat":"retry",${this.at(track, time)},"name":"invalidation races with fault"}`);
  }
  counter(name: string, time: number, value: number): void {
    this.add(`{"ph":"C","pid":${PID},"ts":${micros(time)},"name":${JSON.stringify(name)},"args":{"value":${value}}}`);
  }

  finish(): void {
    this.spans.finish();
    this.text += "\n]}\n";
    this.flush();
    this.held.finish();
    this.out.commit();
  }
  abandon(): void {
    this.out.abandon();
  }
}

function micros(ns: number): string {
  const whole = Math.floor(ns / 1000);
  const rest = ns - whole * 1000;
  return rest === 0 ? String(whole) : `${whole}.${String(rest).padStart(3, "0").replace(/0+$/, "")}`;
}
