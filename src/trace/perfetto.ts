/**
 * Perfetto's protobuf: a Trace of TracePackets with TrackEvents (protos/perfetto/trace/trace.proto,
 * track_event/track_event.proto, track_descriptor.proto, debug_annotation.proto). Numbers below are the
 * fields of those messages. Packets need not be in the order of time.
 */
import { eventCatalogue, type EventDecl, type Field } from "../sim/events.js";
import { encodedBytes, type Encoded } from "./bytebuffer.js";
import { HeldBack } from "./heldback.js";
import type { ByteOutput } from "./jsonlines.js";
import { ProtoWriter } from "./protowriter.js";
import { isFields, Spans, type Arguments, type EventFields, type SpanWriter, type Track } from "./spans.js";
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
const TWO32 = 2 ** 32;

/** One field of an event as an annotation: what is constant of it is encoded. */
interface Annotation {
  readonly kind: Field["kind"];
  /** The word behind the record's head. */
  readonly word: number;
  readonly name: Encoded;
  /** The values of an enum. */
  readonly values: readonly Encoded[];
}

export class PerfettoTrace implements TraceSink, SpanWriter {
  private readonly held: HeldBack;
  private readonly main = new ProtoWriter();
  /** Of what goes to a place kept before. */
  private readonly late = new ProtoWriter();
  private proto = this.main;
  private readonly spans: Spans;
  private readonly named = new Set<Track>();
  private readonly counters = new Map<string, number>();
  /** By event id, made when the first of them comes. */
  private readonly annotated: (readonly Annotation[])[] = [];
  private readonly names = new Map<string, Encoded>();
  readonly take: TraceSink["take"];
  readonly calls: Spans["calls"];

  constructor(
    private readonly out: ByteOutput,
    private readonly source: TraceSource,
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
    const from = this.openPacket(time);
    body(this.proto);
    this.closePacket(from);
  }
  private openPacket(time: number): number {
    const p = this.proto;
    const from = p.begin(TRACE_PACKET);
    p.uint(PACKET_TIMESTAMP, time);
    p.uint(PACKET_SEQUENCE_ID, SEQUENCE);
    return from;
  }
  private closePacket(packet: number): void {
    this.proto.end(packet);
    if (this.proto.length >= FLUSH_BYTES) this.flush();
  }
  private event(track: number, time: number, type: number, name: string, args: Arguments | EventFields, flow: number, flows: number): void {
    const p = this.proto;
    const packet = this.openPacket(time);
    const event = p.begin(PACKET_TRACK_EVENT);
    p.uint(EVENT_TYPE, type);
    p.uint(EVENT_TRACK, track);
    if (name !== "") p.put(this.name(name));
    if (isFields(args)) this.fields(p, args);
    else this.annotations(p, args);
    if (flow > 0) p.fixed64(flows, flow);
    p.end(event);
    this.closePacket(packet);
  }
  private name(name: string): Encoded {
    let bytes = this.names.get(name);
    if (bytes === undefined) this.names.set(name, (bytes = encodedText(EVENT_NAME, name)));
    return bytes;
  }
  private annotations(p: ProtoWriter, args: Arguments): void {
    for (const [key, v] of Object.entries(args))
      p.message(EVENT_ANNOTATIONS, () => {
        p.text(ANNOTATION_NAME, key);
        if (typeof v === "string") p.text(ANNOTATION_STRING, v);
        else if (typeof v === "boolean") p.uint(ANNOTATION_BOOL, v ? 1 : 0);
        else number(p, v);
      });
  }
  private fields(p: ProtoWriter, { ring, at }: EventFields): void {
    const id = ring[at + 3]!;
    const first = at + 4;
    for (const { kind, word, name, values } of (this.annotated[id] ??= annotationsOf(eventCatalogue()[id]!))) {
      const from = p.begin(EVENT_ANNOTATIONS);
      p.put(name);
      const v = ring[first + word]!;
      if (kind === "dec") number(p, v);
      else if (kind === "hex64") p.hexText(ANNOTATION_STRING, v, ring[first + word + 1]!);
      else if (kind === "bool") p.uint(ANNOTATION_BOOL, v !== 0 ? 1 : 0);
      else if (kind === "name") p.text(ANNOTATION_STRING, this.source.bus.nameOf(v));
      else if (kind === "hex" && v >= 0) p.hexText(ANNOTATION_STRING, Math.floor(v / TWO32) | 0, v | 0);
      else if (kind === "enum" && values[v] !== undefined) p.put(values[v]);
      else p.text(ANNOTATION_STRING, String(v));
      p.end(from);
    }
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
  begin(track: Track, time: number, name: string, args: Arguments | EventFields): void {
    this.event(FIRST_TRACK + track, time, SLICE_BEGIN, name, args, 0, 0);
  }
  end(track: Track, time: number, args: Arguments = NONE): void {
    this.event(FIRST_TRACK + track, time, SLICE_END, "", args, 0, 0);
  }
  phaseBegin(track: Track): void {
    this.flush();
    this.held.keep(track);
  }
  phase(track: Track, from: number, to: number, name: string): void {
    this.proto = this.late;
    this.begin(track, from, name, NONE);
    const written = this.held.fill(track, this.late.bytes, this.late.length);
    this.late.length = 0;
    this.proto = this.main;
    if (written) this.end(track, to);
  }
  noPhase(track: Track): void {
    this.held.giveUp(track);
  }
  instant(track: Track, time: number, name: string, args: EventFields, flow: number): void {
    this.event(FIRST_TRACK + track, time, INSTANT, name, args, flow, EVENT_TERMINATING_FLOW_IDS);
  }
  flowStart(track: Track, time: number, name: string, flow: number): void {
    this.event(FIRST_TRACK + track, time, INSTANT, name, NONE, flow, EVENT_FLOW_IDS);
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
    const p = this.proto;
    const packet = this.openPacket(time);
    const event = p.begin(PACKET_TRACK_EVENT);
    p.uint(EVENT_TYPE, COUNTER);
    p.uint(EVENT_TRACK, uuid);
    p.uint(EVENT_COUNTER_VALUE, value);
    p.end(event);
    this.closePacket(packet);
  }

  private flush(): void {
    this.held.add(this.main.bytes, this.main.length);
    this.main.length = 0;
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

const NONE: Arguments = {};

function number(p: ProtoWriter, v: number): void {
  if (v < 0) p.int(ANNOTATION_INT, v);
  else p.uint(ANNOTATION_UINT, v);
}

function encodedText(field: number, text: string): Encoded {
  const p = new ProtoWriter(1024);
  p.text(field, text);
  return encodedBytes(p.taken());
}

function annotationsOf(e: EventDecl): Annotation[] {
  let next = 0;
  return e.fields.map(({ name, kind, values = [] }) => {
    const word = next;
    next += kind === "hex64" ? 2 : 1;
    return { kind, word, name: encodedText(ANNOTATION_NAME, name), values: values.map((v) => encodedText(ANNOTATION_STRING, v)) };
  });
}
