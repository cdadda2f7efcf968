/**
 * ftrace text: the lines that `trace-cmd report -t -N` prints of the same run's trace.dat. `-t` is the full
 * time stamp: virtual time has no use for rounding.
 */
import { RECORD_WORDS } from "../sim/events.js";
import { encode, type Encoded } from "./bytebuffer.js";
import { eventLayouts, type Layout } from "./layout.js";
import type { ByteOutput } from "./jsonlines.js";
import type { Piece } from "./print.js";
import { FIRST_PID, taskName, type TraceMeta, type TraceSink, type TraceSource } from "./sink.js";
import { TextBuffer } from "./textbuffer.js";
import { TraceTime } from "./tracetime.js";

const FLUSH_BYTES = 1 << 17;
/** trace-cmd pads task names and event names to these widths. */
const TASK_WIDTH = 16;
const EVENT_WIDTH = 20;
const SECONDS_WIDTH = 5;
const BILLION = 1e9;
const TWO32 = 2 ** 32;
const POINT = encode(".");
const END = encode("\n");

/** A piece of an event's text and where its values lie behind the record's head. */
interface Step {
  readonly put: Piece["put"];
  /** Of its first field: -1 for none. */
  readonly word: number;
  /** It is of two words, the high one first. */
  readonly pair: boolean;
  /** The low word of its second field. */
  readonly second: number;
  /** It is a dynamic string. */
  readonly name: boolean;
}

export class FtraceText implements TraceSink {
  private readonly text = new TextBuffer(2 * FLUSH_BYTES);
  private readonly time = new TraceTime();
  private readonly layouts = eventLayouts();
  /** By agent: task, pid and CPU. */
  private readonly heads: Encoded[] = [];
  /** By event: its name and its pieces. */
  private readonly names: Encoded[] = [];
  private readonly steps: (readonly Step[])[] = [];
  private readonly strings = new Map<number, Encoded>();
  readonly take: TraceSink["take"];

  constructor(
    private readonly out: ByteOutput,
    private readonly source: TraceSource,
    meta: TraceMeta,
  ) {
    void meta;
    this.take = (ring, from, to) => {
      for (let at = from * RECORD_WORDS; at < to * RECORD_WORDS; at += RECORD_WORDS) this.record(ring, at);
    };
  }

  private record(ring: Float64Array, at: number): void {
    const { text } = this;
    const agent = ring[at + 2]!;
    const id = ring[at + 3]!;
    const t = this.time.at(agent, ring[at + 1]!);
    text.put((this.heads[agent] ??= this.head(agent)));
    const from = text.length;
    const seconds = Math.floor(t / BILLION);
    text.decimal(seconds);
    text.padLeft(from, SECONDS_WIDTH);
    text.put(POINT);
    text.digits(t - seconds * BILLION, 9);
    text.put((this.names[id] ??= encode(`: ${`${this.layouts[id]!.event.name}:`.padEnd(EVENT_WIDTH + 1)} `)));
    for (const s of (this.steps[id] ??= stepsOf(this.layouts[id]!))) this.piece(s, ring, at + 4);
    text.put(END);
    if (text.length >= FLUSH_BYTES) this.flush();
  }

  private piece(s: Step, ring: Float64Array, at: number): void {
    const { word, second } = s;
    if (word < 0) return s.put(this.text, 0, 0, 0);
    const v = ring[at + word]!;
    if (s.name) return this.text.put(this.strings.get(v) ?? this.string(v));
    const low = second < 0 ? 0 : ring[at + second]! | 0;
    if (s.pair) s.put(this.text, v | 0, ring[at + word + 1]! | 0, low);
    else s.put(this.text, Math.floor(v / TWO32) | 0, v | 0, low);
  }

  private head(agent: number): Encoded {
    const task = taskName(this.source.agents, agent).padStart(TASK_WIDTH);
    return encode(`${task}-${String(FIRST_PID + agent).padEnd(5)} [${String(agent).padStart(3, "0")}] `);
  }
  private string(id: number): Encoded {
    const bytes = encode(this.source.bus.nameOf(id));
    this.strings.set(id, bytes);
    return bytes;
  }

  private flush(): void {
    this.out.write(this.text.bytes, this.text.length);
    this.text.length = 0;
  }
  finish(): void {
    this.flush();
    this.out.commit();
  }
  abandon(): void {
    this.out.abandon();
  }
}

function stepsOf(l: Layout): Step[] {
  const words = new Map<string, { readonly word: number; readonly pair: boolean; readonly name: boolean }>();
  let word = 0;
  for (const f of l.event.fields) {
    words.set(f.name, { word, pair: f.kind === "hex64", name: f.kind === "name" });
    word += f.kind === "hex64" ? 2 : 1;
  }
  return l.print.map(({ fields, put }) => {
    const [first, second] = fields.map((f) => words.get(f)!);
    return {
      put,
      word: first?.word ?? -1,
      pair: first?.pair ?? false,
      second: second === undefined ? -1 : second.word + (second.pair ? 1 : 0),
      name: first?.name ?? false,
    };
  });
}
