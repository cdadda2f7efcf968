/**
 * JSON lines: each event is its record on one line, the same text as `JSON.stringify` of it gives. The
 * constant parts of every event's line are encoded once; numbers are written as digits into one buffer, so
 * that no object and no string is made per event. The first line says what run it is.
 */
import { eventCatalogue, RECORD_WORDS, type EventDecl } from "../sim/events.js";
import type { TraceMeta, TraceSink, TraceSource } from "./sink.js";

/** Where the lines go. */
export interface ByteOutput {
  write(bytes: Uint8Array, length: number): void;
  commit(): void;
  abandon(): void;
}

const DECIMAL = 0;
const HEX_PAIR = 1;
const CHOICE = 2;
const NAME = 3;
/** After the last value. */
const END = 4;

const BUFFER = 1 << 18;
/** A line fits: heads, ten values, four names. */
const SLACK = 1 << 14;
const LONGEST_NAME = 2048;
const BILLION = 1e9;
const TWO32 = 2 ** 32;

/** "00" to "99". */
const PAIRS = Uint8Array.from({ length: 200 }, (_, i) => 48 + (i % 2 === 0 ? Math.floor(i / 20) : Math.floor(i / 2) % 10));
const HEX_DIGITS = Uint8Array.from("0123456789abcdef", (c) => c.charCodeAt(0));

/** The steps of one event's line: constant text, then a value of this kind, and so on. */
interface Line {
  /** Per step: kind, word behind the record's head, where its text starts and ends in `constants`. */
  readonly steps: Int32Array;
  /** Per step of kind CHOICE: the texts to choose from. */
  readonly choices: readonly (readonly Uint8Array[])[];
}

export class JsonLines implements TraceSink {
  private readonly buffer = new Uint8Array(BUFFER);
  private at = 0;
  private constants = new Uint8Array(0);
  private readonly lines: readonly Line[];
  private readonly names = new Map<number, Uint8Array>();
  /** By agent: `,"agent":"vcpu0"`. */
  private readonly agents: Uint8Array[] = [];
  readonly take: TraceSink["take"];

  constructor(
    private readonly out: ByteOutput,
    private readonly source: TraceSource,
    meta: TraceMeta,
  ) {
    const parts: string[] = [];
    let length = 0;
    const constant = (text: string): number => {
      parts.push(text);
      return (length += text.length) - text.length;
    };
    this.lines = eventCatalogue().map((e) => line(e, constant));
    this.constants = Buffer.from(parts.join(""), "latin1");
    this.put(Buffer.from(`${JSON.stringify({ trace: "faultline", ...meta })}\n`));
    this.take = (ring, from, to) => this.records(ring, from * RECORD_WORDS, to * RECORD_WORDS);
  }

  private records(ring: Float64Array, from: number, to: number): void {
    const { buffer, constants } = this;
    for (let r = from; r < to; r += RECORD_WORDS) {
      if (this.at > BUFFER - SLACK) this.flush();
      // {"seq":
      buffer.set(SEQ, this.at);
      this.at += SEQ.length;
      this.decimal(ring[r]!);
      buffer.set(TIME, this.at);
      this.at += TIME.length;
      this.decimal(ring[r + 1]!);
      this.put(this.agents[ring[r + 2]!] ?? this.agent(ring[r + 2]!));
      const { steps, choices } = this.lines[ring[r + 3]!]!;
      for (let i = 0; i < steps.length; i += 4) {
        let at = this.at;
        for (let c = steps[i + 2]!, end = steps[i + 3]!; c < end; c++) buffer[at++] = constants[c]!;
        this.at = at;
        const w = r + 4 + steps[i + 1]!;
        switch (steps[i]) {
          case DECIMAL:
            this.decimal(ring[w]!);
            break;
          case HEX_PAIR:
            this.hex(ring[w]!, ring[w + 1]!);
            break;
          case CHOICE: {
            const texts = choices[i >> 2]!;
            this.put(texts[ring[w]!] ?? Buffer.from(JSON.stringify(String(ring[w]!))));
            break;
          }
          case NAME:
            this.put(this.names.get(ring[w]!) ?? this.name(ring[w]!));
        }
      }
    }
  }

  private put(bytes: Uint8Array): void {
    const { buffer } = this;
    let at = this.at;
    for (let i = 0; i < bytes.length; i++) buffer[at++] = bytes[i]!;
    this.at = at;
  }

  private decimal(v: number): void {
    let n = v;
    if (n < 0) {
      this.buffer[this.at++] = 45;
      n = -n;
    }
    if (n >= TWO32) {
      const high = Math.floor(n / BILLION);
      this.decimal(high);
      this.digits(n - high * BILLION, 9);
      return;
    }
    let count = 1;
    for (let limit = 10; n >= limit && count < 10; limit *= 10) count++;
    this.digits(n, count);
  }

  /** The last `count` digits of a 32-bit number, with leading zeros. */
  private digits(v: number, count: number): void {
    const { buffer } = this;
    let n = v >>> 0;
    const start = this.at;
    let at = start + count;
    this.at = at;
    while (at > start + 1) {
      const q = (n / 100) | 0;
      const pair = (n - q * 100) << 1;
      n = q;
      buffer[--at] = PAIRS[pair + 1]!;
      buffer[--at] = PAIRS[pair]!;
    }
    if (at > start) buffer[start] = 48 + (n % 10);
  }

  private hex(hi: number, lo: number): void {
    const { buffer } = this;
    const digits = hi !== 0 ? 16 - (Math.clz32(hi) >> 2) : lo === 0 ? 1 : 8 - (Math.clz32(lo) >> 2);
    let at = (this.at += digits);
    let n = lo;
    for (let i = 0; i < digits; i++) {
      if (i === 8) n = hi;
      buffer[--at] = HEX_DIGITS[n & 15]!;
      n >>>= 4;
    }
  }

  private agent(id: number): Uint8Array {
    return (this.agents[id] = Buffer.from(`,"agent":${JSON.stringify(this.source.agents.name(id))}`));
  }
  private name(id: number): Uint8Array {
    const bytes = Buffer.from(JSON.stringify(this.source.bus.nameOf(id).slice(0, LONGEST_NAME)));
    this.names.set(id, bytes);
    return bytes;
  }

  private flush(): void {
    this.out.write(this.buffer, this.at);
    this.at = 0;
  }
  finish(): void {
    this.flush();
    this.out.commit();
  }
  abandon(): void {
    this.out.abandon();
  }
}

const SEQ = Buffer.from('{"seq":');
const TIME = Buffer.from(',"time":');
const BOOLS = [Buffer.from("false"), Buffer.from("true")];

/** @param constant keeps a constant text. @returns where it starts */
function line(e: EventDecl, constant: (text: string) => number): Line {
  const steps: number[] = [];
  const choices: (readonly Uint8Array[])[] = [];
  let before = `,"event":"${e.name}"`;
  let word = 0;
  const step = (kind: number, text: string, from: readonly Uint8Array[] = []): void => {
    const at = constant(text);
    steps.push(kind, word, at, at + text.length);
    choices.push(from);
  };
  for (const f of e.fields) {
    before += `,"${f.name}":`;
    if (f.kind === "hex64") {
      step(HEX_PAIR, `${before}"0x`);
      before = '"';
      word += 2;
      continue;
    }
    if (f.kind === "enum")
      step(
        CHOICE,
        before,
        (f.values ?? []).map((v) => Buffer.from(JSON.stringify(v))),
      );
    else if (f.kind === "bool") step(CHOICE, before, BOOLS);
    else step(f.kind === "name" ? NAME : DECIMAL, before);
    before = "";
    word++;
  }
  step(END, `${before}}\n`);
  return { steps: Int32Array.from(steps), choices };
}
