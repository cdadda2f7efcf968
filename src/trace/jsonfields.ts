/**
 * The fields of an event's record as JSON members, the same text as `JSON.stringify` gives. What of it is constant is
 * encoded once, so that no object and no string is made per event.
 */
import { eventCatalogue, type EventDecl } from "../sim/events.js";
import type { TraceSource } from "./sink.js";
import { encode, encodedBytes, putEncoded, type Encoded } from "./bytebuffer.js";
import { copyWords, COPY_SLACK, DECIMAL_BYTES, HEX_BYTES, putDecimal, putHex } from "./putbytes.js";
import type { TextBuffer } from "./textbuffer.js";

const DECIMAL = 0;
const HEX = 1;
const HEX_PAIR = 2;
const CHOICE = 3;
const NAME = 4;
/** After the last value. */
const END = 5;
/** Words of a step: kind, word behind the record's head, where its text starts in `constants` and its bytes. */
const STEP = 4;

const LONGEST_NAME = 2048;
const TWO32 = 2 ** 32;
const BOOLS = [encode("false"), encode("true")];
const HEX_PREFIX = encode('"0x');
const QUOTE = encode('"');
/** Bytes that any value but a name takes at most: a quoted number. */
const VALUE = HEX_PREFIX.length + Math.max(HEX_BYTES, DECIMAL_BYTES) + QUOTE.length;

/** The steps of one event: constant text, then a value of this kind, and so on. */
interface Line {
  readonly steps: Int32Array;
  /** Bytes of it all at most, names apart. */
  readonly room: number;
  /** Per step of kind CHOICE: the texts to choose from. */
  readonly choices: readonly (readonly Encoded[])[];
}

export interface JsonFieldsOptions {
  /** What stands before the first member, with its comma if it needs one. */
  readonly head: (e: EventDecl) => string;
  /** After the last. */
  readonly tail: string;
  /** Addresses, masks and syndromes of up to 53 bits as texts: what shows the JSON knows decimal only. */
  readonly hexTexts: boolean;
}

export class JsonFields {
  /** Constant texts, each beginning with a word. */
  private readonly constants: Int32Array;
  private readonly lines: readonly Line[];
  private readonly names = new Map<number, Encoded>();

  constructor(
    private readonly source: TraceSource,
    options: JsonFieldsOptions,
  ) {
    const parts: string[] = [];
    let length = 0;
    const constant = (text: string): number => {
      const padded = text.padEnd((text.length + 3) & ~3, "\0");
      parts.push(padded);
      return ((length += padded.length) - padded.length) / 4;
    };
    this.lines = eventCatalogue().map((e) => line(e, options, constant));
    this.constants = encodedBytes(Buffer.from(parts.join(""), "latin1")).words;
  }

  /** @param r the word of the ring where the record begins */
  put(out: TextBuffer, ring: Float64Array, r: number): void {
    const { constants } = this;
    const { steps, choices, room } = this.lines[ring[r + 3]!]!;
    let view = out.room(room);
    let at = out.length;
    for (let i = 0; i < steps.length; i = (i + STEP) | 0) {
      at = copyWords(view, at, constants, steps[i + 2]!, steps[i + 3]!);
      const w = (r + 4 + steps[i + 1]!) | 0;
      switch (steps[i]) {
        case DECIMAL:
          at = putDecimal(view, at, ring[w]!);
          break;
        case HEX:
          at = hexText(view, at, ring[w]!);
          break;
        case HEX_PAIR:
          at = putHex(view, at, ring[w]! | 0, ring[w + 1]! | 0, 1);
          break;
        case CHOICE: {
          const text = choices[i / STEP]![ring[w]!] ?? encode(JSON.stringify(String(ring[w]!)));
          at = putEncoded(view, at, text);
          break;
        }
        case NAME: {
          const text = this.names.get(ring[w]!) ?? this.name(ring[w]!);
          out.length = at;
          view = out.room(room + text.length);
          at = putEncoded(view, at, text);
        }
      }
    }
    out.length = at;
  }

  private name(id: number): Encoded {
    const bytes = encode(JSON.stringify(this.source.bus.nameOf(id).slice(0, LONGEST_NAME)));
    this.names.set(id, bytes);
    return bytes;
  }
}

/** Negative numbers, which say that there is none, stay decimal. */
function hexText(view: DataView, at: number, v: number): number {
  const digits =
    v < 0
      ? putDecimal(view, putEncoded(view, at, QUOTE), v)
      : putHex(view, putEncoded(view, at, HEX_PREFIX), Math.floor(v / TWO32) | 0, v | 0, 1);
  return putEncoded(view, digits, QUOTE);
}

/** @param constant keeps a constant text of ASCII. @returns the word where it starts */
function line(e: EventDecl, { head, tail, hexTexts }: JsonFieldsOptions, constant: (text: string) => number): Line {
  const steps: number[] = [];
  const choices: (readonly Encoded[])[] = [];
  let before = head(e);
  let word = 0;
  let room = COPY_SLACK;
  const step = (kind: number, text: string, from: readonly Encoded[] = []): void => {
    steps.push(kind, word, constant(text), text.length);
    choices.push(from);
    room += text.length + Math.max(VALUE, ...from.map((c) => c.length));
  };
  for (const [n, f] of e.fields.entries()) {
    before += `${n > 0 ? "," : ""}"${f.name}":`;
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
        (f.values ?? []).map((v) => encode(JSON.stringify(v))),
      );
    else if (f.kind === "bool") step(CHOICE, before, BOOLS);
    else step(f.kind === "name" ? NAME : f.kind === "hex" && hexTexts ? HEX : DECIMAL, before);
    before = "";
    word++;
  }
  step(END, `${before}${tail}`);
  return { steps: Int32Array.from(steps), choices, room };
}
