/**
 * Perfetto's protobuf: a Trace of TracePackets with TrackEvents (protos/perfetto/trace/trace.proto,
 * track_event/track_event.proto, track_descriptor.proto, debug_annotation.proto). Numbers below are the
 * fields of those messages. Packets need not be in the order of time.
 */
import { HeldBack } from "./heldback.js";
import type { ByteOutput } from "./jsonlines.js";
import { ProtoWriter } from "./protowriter.js";
import { Spans, type Arguments, type SpanWriter, type Track } from "./spans.js";
import type { TraceMeta, TraceSink, TraceSource } from "./sink.js";

const TRACE_PACKET = 1;
const PACKET_TIMESTAMP = 8;
const PACKET_SEQUENCE_ID = 10;
const PACKET_TRACK_EVENT = 11;
const PACKET_TRACK_DESCRIPTOR = 60;
const DESCRIPTOR_UUID = 1;
const DESCRIPTOR_NAME = 2;
const DESCRIPTOR_PROCESS = 3;
const DESCRIPTOR_PARENT = 5;
const DESCRIPTOR_COUNTER = 8;
const PROCESS_PID = 1;
const PROCESS_NAME = 6;
const EVENT_ANNOTATIONS = 4;
const EVENT_TYPE = 9;
const EVENT_TRACK = 11;
const EVENT_NAME = 23;
const EVENT_COUNTER_VALUE = 30;
const EVENT_FLOW_IDS = 47;
const EVENT_TERMINATING_FLOW_IDS = 48;
const ANNOTATION_BOOL = 2;
const ANNOTATION_UINT = 3;
const ANNOTATION_INT = 4;
const ANNOTATION_STRING = 6;
const ANNOTATION_NAME = 10;
const SLICE_BEGIN = 1;
const SLICE_END = 2;
const INSTANT = 3;
const COUNTER = 4;

const SEQUENCE = 1;
const PROCESS_UUID = 1;
/** Tracks of agents and of counters have numbers of their own. */
const FIRST_TRACK = 16;
const FIRST_COUNTER = 2;
const FLUSH_BYTES = 1 << 16;

export class PerfettoTrace implements TraceSink, SpanWriter {
  private readonly held: HeldBack;
  private readonly main = new ProtoWriter();
  /** Of what goes to a place kept before. */
  private readonly late = new ProtoWriter();
  private proto = this.main;
  private readonly spans: Spans;
  private readonly named = new Set<Track>();
  private readonly counters = new Map<string, number>();
  readonly take: TraceSink["take"];
  readonly calls: Spans["calls"];

  constructor(
    private readonly out: ByteOutput,
    source: TraceSource,
    meta: TraceMeta,
  ) {
    this.held = new HeldBack(out);
    this.spans = new Spans(this, source);
    this.take = this.spans.take;
    this.calls = this.spans.calls;
    const set = Object.entries(meta.set).map(([k, v]) => `, ${k}=${v}`);
    this.packet(0, (p) =>
      p.message(PACKET_TRACK_DESCRIPTOR, () => {
        p.uint(DESCRIPTOR_UUID, PROCESS_UUID);
        p.message(DESCRIPTOR_PROCESS, () => {
          p.uint(PROCESS_PID, 1);
          p.text(PROCESS_NAME, `faultline ${meta.variant}: kernel ${meta.kernel}, CPU ${meta.cpu}${set.join("")}`);
        });
      }),
    );
  }

  private packet(time: number, body: (p: ProtoWriter) => void): void {
    const p = this.proto;
    p.message(TRACE_PACKET, () => {
      p.uint(PACKET_TIMESTAMP, time);
      p.uint(PACKET_SEQUENCE_ID, SEQUENCE);
      body(p);
    });
    if (p.length >= FLUSH_BYTES) this.flush();
  }
  private event(track: number, time: number, type: number, rest: (p: ProtoWriter) => void): void {
    this.packet(time, (p) =>
      p.message(PACKET_TRACK_EVENT, () => {
        p.uint(EVENT_TYPE, type);
        p.uint(EVENT_TRACK, track);
        rest(p);
      }),
    );
  }
  private named_(p: ProtoWriter, name: string, args: Arguments): void {
    p.text(EVENT_NAME, name);
    this.annotations(p, args);
  }
  private annotations(p: ProtoWriter, args: Arguments): void {
    for (const [key, v] of Object.entries(args))
      p.message(EVENT_ANNOTATIONS, () => {
        p.text(ANNOTATION_NAME, key);
        if (typeof v === "string") p.text(ANNOTATION_STRING, v);
        else if (typeof v === "boolean") p.uint(ANNOTATION_BOOL, v ? 1 : 0);
        else if (v < 0) p.int(ANNOTATION_INT, v);
        else p.uint(ANNOTATION_UINT, v);
      });
  }

  track(track: Track, name: string): void {
    if (this.named.has(track)) return;
    this.named.add(track);
    this.packet(0, (p) =>
      p.message(PACKET_TRACK_DESCRIPTOR, () => {
        p.uint(DESCRIPTOR_UUID, FIRST_TRACK + track);
        p.text(DESCRIPTOR_NAME, name);
        p.uint(DESCRIPTOR_PARENT, PROCESS_UUID);
      }),
    );
  }
  begin(track: Track, time: number, name: string, args: Arguments): void {
    this.event(FIRST_TRACK + track, time, SLICE_BEGIN, (p) => this.named_(p, name, args));
  }
  end(track: Track, time: number, args: Arguments = {}): void {
    this.event(FIRST_TRACK + track, time, SLICE_END, (p) => this.annotations(p, args));
  }
  phaseBegin(track: Track): void {
    this.flush();
    this.held.keep(track);
  }
  phase(track: Track, from: number, to: number, name: string): void {
    this.proto = this.late;
    this.begin(track, from, name, {});
    const written = this.held.fill(track, this.taken());
    this.proto = this.main;
    if (written) this.end(track, to);
  }
  noPhase(track: Track): void {
    this.held.giveUp(track);
  }
  instant(track: Track, time: number, name: string, args: Arguments, flow: number): void {
    this.event(FIRST_TRACK + track, time, INSTANT, (p) => {
      this.named_(p, name, args);
      if (flow > 0) p.fixed64(EVENT_TERMINATING_FLOW_IDS, flow);
    });
  }
  flowStart(track: Track, time: number, name: string, flow: number): void {
    this.event(FIRST_TRACK + track, time, INSTANT, (p) => {
      p.text(EVENT_NAME, name);
      p.fixed64(EVENT_FLOW_IDS, flow);
    });
  }
  counter(name: string, time: number, value: number): void {
    let uuid = this.counters.get(name);
    if (uuid === undefined) {
      uuid = FIRST_COUNTER + this.counters.size;
      this.counters.set(name, uuid);
      const id = uuid;
      this.packet(0, (p) =>
        p.message(PACKET_TRACK_DESCRIPTOR, () => {
          p.uint(DESCRIPTOR_UUID, id);
          p.text(DESCRIPTOR_NAME, name);
          p.uint(DESCRIPTOR_PARENT, PROCESS_UUID);
          p.message(DESCRIPTOR_COUNTER, () => undefined);
        }),
      );
    }
    this.event(uuid, time, COUNTER, (p) => p.uint(EVENT_COUNTER_VALUE, value));
  }

  /** What was written, copied; the writer is empty again. */
  private taken(): Uint8Array {
    const bytes = this.proto.bytes.slice(0, this.proto.length);
    this.proto.clear();
    return bytes;
  }
  private flush(): void {
    this.held.add(this.taken());
  }
  finish(): void {
    this.spans.finish();
    this.flush();
    this.held.finish();
    this.out.commit();
  }
  abandon(): void {
    this.out.abandon();
  }
}
