/** JSON lines: each event is its record on one line, the same text as `JSON.stringify` of it gives. The first line says what run it is. */
import { RECORD_WORDS } from "../sim/events.js";
import { encode, type Encoded } from "./bytebuffer.js";
import { JsonFields } from "./jsonfields.js";
import type { TraceMeta, TraceSink, TraceSource } from "./sink.js";
import { TextBuffer } from "./textbuffer.js";

/** Where the lines go. */
export interface ByteOutput {
  write(bytes: Uint8Array, length: number): void;
  commit(): void;
  abandon(): void;
}

const BUFFER = 1 << 18;
/** A line fits: heads, ten values, four names. */
const SLACK = 1 << 14;

const SEQ = encode('{"seq":');
const TIME = encode(',"time":');

export class JsonLines implements TraceSink {
  private readonly text = new TextBuffer(BUFFER);
  private readonly fields: JsonFields;
  /** By agent: `,"agent":"vcpu0"`. */
  private readonly agents: Encoded[] = [];
  readonly take: TraceSink["take"];

  constructor(
    private readonly out: ByteOutput,
    private readonly source: TraceSource,
    meta: TraceMeta,
  ) {
    const head = (e: { readonly name: string; readonly fields: readonly unknown[] }): string =>
      `,"event":"${e.name}"${e.fields.length > 0 ? "," : ""}`;
    this.fields = new JsonFields(source, { head, tail: "}\n", hexTexts: false });
    this.text.text(`${JSON.stringify({ trace: "faultline", ...meta })}\n`);
    this.take = (ring, from, to) => this.records(ring, from * RECORD_WORDS, to * RECORD_WORDS);
  }

  private records(ring: Float64Array, from: number, to: number): void {
    const { text, fields } = this;
    for (let r = from; r < to; r += RECORD_WORDS) {
      if (text.length > BUFFER - SLACK) this.flush();
      text.put(SEQ);
      text.decimal(ring[r]!);
      text.put(TIME);
      text.decimal(ring[r + 1]!);
      text.put(this.agents[ring[r + 2]!] ?? this.agent(ring[r + 2]!));
      fields.put(text, ring, r);
    }
  }

  private agent(id: number): Encoded {
    return (this.agents[id] = encode(`,"agent":${JSON.stringify(this.source.agents.name(id))}`));
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
