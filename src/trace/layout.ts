/**
 * How each event lies in a ring buffer: the kernel's trace points with the types that its format files give,
 * ours with one field per declared field. From one layout come the format text and the encoder's steps.
 */
import { eventCatalogue, type EventDecl, type Field } from "../sim/events.js";
import { kernelFormat, type CField } from "./kernelformat.js";
import { lit, num, printFormat, str, sym, type Piece } from "./print.js";

/** Steps of an encoder: what to write, at which byte, from which word of the ring record. */
export const ZERO_WORD = 0;
export const PUT_U64 = 1;
export const PUT_PAIR = 2;
export const PUT_U32 = 3;
export const PUT_U8 = 4;
export const PUT_TEXT = 5;

export interface Layout {
  readonly event: EventDecl;
  /** common_type. */
  readonly type: number;
  /** Triples: step, byte offset, word behind the record's head. */
  readonly steps: Int32Array;
  /** Bytes without dynamic strings, a multiple of 4. */
  readonly size: number;
  /** It has dynamic strings. */
  readonly hasText: boolean;
  readonly fields: readonly { readonly field: CField | TextField; readonly offset: number }[];
  readonly print: readonly Piece[];
}
interface TextField {
  readonly type: "__data_loc char[]";
  readonly name: string;
  readonly size: 4;
  readonly signed: false;
  readonly from: string;
}

/** common_type, flags, preempt_count, pid. */
export const COMMON_BYTES = 8;
/** The first numbers belong to ftrace's own events. */
const FIRST_TYPE = 300;

function ourField(f: Field): CField | TextField {
  const base = { name: f.name, from: f.name };
  switch (f.kind) {
    case "dec":
      return { ...base, type: "s64", size: 8, signed: true };
    case "hex":
    case "hex64":
      return { ...base, type: "u64", size: 8, signed: false };
    case "enum":
      return { ...base, type: "u32", size: 4, signed: false };
    case "bool":
      return { ...base, type: "bool", size: 1, signed: false };
    case "name":
      return { ...base, type: "__data_loc char[]", size: 4, signed: false };
  }
}

/** Ours print as `name=value`, as everywhere else in Faultline. */
function ourPrint(f: Field): Piece[] {
  const value = (): Piece[] => {
    switch (f.kind) {
      case "dec":
        return [num("%lld", f.name)];
      case "hex":
      case "hex64":
        return [lit("0x"), num("%llx", f.name)];
      case "enum":
        return [
          sym(
            f.name,
            (f.values ?? []).map((v, i) => [i, v] as const),
          ),
        ];
      case "bool":
        return [num("%d", f.name)];
      case "name":
        return [str(f.name)];
    }
  };
  return [lit(`${f.name}=`), ...value()];
}

function layoutOf(event: EventDecl): Layout {
  const kernel = kernelFormat(event.name);
  const words = new Map<string, { readonly word: number; readonly kind: Field["kind"] }>();
  let word = 0;
  for (const f of event.fields) {
    words.set(f.name, { word, kind: f.kind });
    word += f.kind === "hex64" ? 2 : 1;
  }
  const print = kernel?.print ?? event.fields.flatMap((f, i) => [...(i > 0 ? [lit(" ")] : []), ...ourPrint(f)]);
  const steps: number[] = [];
  const zeroed = new Set<number>();
  let at = COMMON_BYTES;
  const fields = (kernel?.fields ?? event.fields.map(ourField)).map((field) => {
    const offset = Math.ceil(at / field.size) * field.size;
    at = offset + field.size;
    const source = words.get(field.from);
    if (source === undefined) throw new Error(`${event.name} has no field ${field.from}`);
    if (field.size === 1 && !zeroed.has(offset & ~3)) {
      zeroed.add(offset & ~3);
      steps.push(ZERO_WORD, offset & ~3, 0);
    }
    if (field.type === "__data_loc char[]") steps.push(PUT_TEXT, offset, source.word);
    else if (field.size === 8) steps.push(source.kind === "hex64" ? PUT_PAIR : PUT_U64, offset, source.word);
    else steps.push(field.size === 4 ? PUT_U32 : PUT_U8, offset, source.kind === "hex64" ? source.word + 1 : source.word);
    return { field, offset };
  });
  // A gap that alignment leaves is written too: the same run gives the same bytes.
  for (let gap = COMMON_BYTES; gap < at; gap += 4)
    if (!fields.some((f) => f.offset < gap + 4 && f.offset + f.field.size > gap)) steps.unshift(ZERO_WORD, gap, 0);
  return {
    event,
    type: FIRST_TYPE + event.id,
    steps: Int32Array.from(steps),
    size: Math.ceil(at / 4) * 4,
    hasText: steps.some((s, i) => i % 3 === 0 && s === PUT_TEXT),
    fields,
    print,
  };
}

let layouts: readonly Layout[] | undefined;

/** Every event's layout, by the event's id. */
export function eventLayouts(): readonly Layout[] {
  if (layouts === undefined || layouts.length !== eventCatalogue().length) layouts = eventCatalogue().map(layoutOf);
  return layouts;
}

const line = (type: string, name: string, offset: number, size: number, signed: boolean): string =>
  `\tfield:${type} ${name};\toffset:${offset};\tsize:${size};\tsigned:${signed ? 1 : 0};\n`;

/** The text of events/SYSTEM/NAME/format. */
export function formatText(l: Layout): string {
  const fields = l.fields.map(({ field: f, offset }) => line(f.type, f.name, offset, f.size, f.signed)).join("");
  return (
    `name: ${l.event.name}\nID: ${l.type}\nformat:\n` +
    line("unsigned short", "common_type", 0, 2, false) +
    line("unsigned char", "common_flags", 2, 1, false) +
    line("unsigned char", "common_preempt_count", 3, 1, false) +
    line("int", "common_pid", 4, 4, true) +
    `\n${fields}\nprint fmt: ${printFormat(l.print)}\n`
  );
}
