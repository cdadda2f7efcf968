/**
 * The fields of an event's record as JSON members, the same text as `JSON.stringify` gives. What of it is constant is
 * encoded once, so that no object and no string is made per event.
 */
import { eventCatalogue, type EventDecl } from "../sim/events.js";
import type { TraceSource } from "./sink.js";
import { encode, encodedBytes, type Encoded } from "./bytebuffer.js";
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

/** The steps of one event: constant text, then a value of this kind, and so on. */
interface Line {
  readonly steps: Int32Array;
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

  /** @param at the word of the ring where the record begins */
  put(out: TextBuffer, ring: Float64Array, at: number): void {
    const { constants } = this;
    const { steps, choices } = this.lines[ring[at + 3]!]!;
    for (let i = 0; i < steps.length; i += STEP) {
      out.putWords(constants, steps[i + 2]!, steps[i + 3]!);
      const w = at + 4 + steps[i + 1]!;
      switch (steps[i]) {
        case DECIMAL:
          out.decimal(ring[w]!);
          break;
        case HEX:
          hexText(out, ring[w]!);
          break;
        case HEX_PAIR:
          out.hex(ring[w]!, ring[w + 1]!);
          break;
        case CHOICE: {
          const text = choices[i / STEP]![ring[w]!];
          if (text !== undefined) out.put(text);
          else out.text(JSON.stringify(String(ring[w]!)));
          break;
        }
        case NAME:
          out.put(this.names.get(ring[w]!) ?? this.name(ring[w]!));
      }
    }
  }

  private name(id: number): Encoded {
    const bytes = encode(JSON.stringify(this.source.bus.nameOf(id).slice(0, LONGEST_NAME)));
    this.names.set(id, bytes);
    return bytes;
  }
}

/** Negative numbers, which say that there is none, stay decimal. */
function hexText(out: TextBuffer, v: number): void {
  if (v < 0) {
    out.put(QUOTE);
    out.decimal(v);
  } else {
    out.put(HEX_PREFIX);
    out.hex(Math.floor(v / TWO32) | 0, v | 0);
  }
  out.put(QUOTE);
}

/** @param constant keeps a constant text of ASCII. @returns the word where it starts */
function line(e: EventDecl, { head, tail, hexTexts }: JsonFieldsOptions, constant: (text: string) => number): Line {
  const steps: number[] = [];
  const choices: (readonly Encoded[])[] = [];
  let before = head(e);
  let word = 0;
  const step = (kind: number, text: string, from: readonly Encoded[] = []): void => {
    steps.push(kind, word, constant(text), text.length);
    choices.push(from);
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
  return { steps: Int32Array.from(steps), choices };
}
