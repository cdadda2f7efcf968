/** JSON lines: each event is its record on one line, the same text as `JSON.stringify` of it gives. The first line says what run it is. */
import { RECORD_WORDS } from "../sim/events.js";
import { encode, putEncoded, type Encoded } from "./bytebuffer.js";
import { JsonFields } from "./jsonfields.js";
import { COPY_SLACK, DECIMAL_BYTES, putDecimal } from "./putbytes.js";
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
/** Bytes of a line's beginning at most, the agent apart. */
const HEAD = SEQ.length + TIME.length + 2 * DECIMAL_BYTES + COPY_SLACK;

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
      const agent = this.agents[ring[r + 2]!] ?? this.agent(ring[r + 2]!);
      const view = text.room(HEAD + agent.length);
      let at = putEncoded(view, text.length, SEQ);
      at = putDecimal(view, at, ring[r]!);
      at = putEncoded(view, at, TIME);
      at = putDecimal(view, at, ring[r + 1]!);
      text.length = putEncoded(view, at, agent);
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
