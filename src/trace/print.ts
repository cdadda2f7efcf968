/**
 * Print formats of trace events, as TP_printk writes them: from one list of pieces come the `print fmt`
 * line of an event's format file, the text that a reader of the trace shows, and the pattern that reads
 * such text back. printf is the C library's, which `trace-cmd report` uses (0 has no prefix under `#`).
 */

import { encode } from "./bytebuffer.js";
import type { TextBuffer } from "./textbuffer.js";

export interface Piece {
  /** Conversion in the format string. */
  readonly format: string;
  /** The C expression behind it; "" for plain text. */
  readonly c: string;
  /** The fields that it says something of, two at most. */
  readonly fields: readonly string[];
  /** Writes it: of the first field 64 bits in two words, of the second the low word. */
  readonly put: (out: TextBuffer, hi: number, lo: number, second: number) => void;
  /** Regular expression with one group for what `take` reads; plain text has none. */
  readonly pattern: string;
  /** Fields that the text says, by name, as canonical text; absent for plain text. */
  readonly take?: (said: string) => Readonly<Record<string, string>>;
}

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Writes one of these texts: those that are known are encoded once. */
export const choice = (choose: (lo: number, second: number) => string, known: readonly string[]): Piece["put"] => {
  const encoded = new Map(known.map((t) => [t, encode(t)]));
  return (out, _hi, lo, second) => {
    const text = choose(lo, second);
    const bytes = encoded.get(text);
    if (bytes !== undefined) out.put(bytes);
    else out.text(text);
  };
};

/** Plain text. */
export const lit = (text: string): Piece => ({
  format: text.replaceAll("%", "%%"),
  c: "",
  fields: [],
  put: choice(() => text, [text]),
  pattern: escape(text),
});

const TWO32 = 2 ** 32;
const SAFE_HIGH = 2 ** 21;
const PREFIX = encode("0x");

const unsigned = (hi: number, lo: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/** A number under a printf conversion such as %#016lx, %u or %d; int and unsigned int take the low word. */
export function num(conversion: string, field: string): Piece {
  const m = /^%(#?)(0?)([0-9]*)(l{0,2})([xud])$/.exec(conversion)!;
  const [alt, zero, width, long, type] = [m[1] !== "", m[2] !== "", Number(m[3]), m[4] !== "", m[5]!];
  const put: Piece["put"] = (out, high, lo) => {
    const from = out.length;
    const hi = long ? high : type === "d" ? lo >> 31 : 0;
    if (type === "x") {
      const prefixed = alt && (hi !== 0 || lo !== 0);
      if (prefixed) out.put(PREFIX);
      out.hex(hi, lo, zero ? width - (prefixed ? PREFIX.length : 0) : 1);
    } else if (type === "d" ? hi >= -SAFE_HIGH && hi < SAFE_HIGH : hi >= 0 && hi < SAFE_HIGH) out.decimal(hi * TWO32 + (lo >>> 0));
    else out.text(String(type === "d" ? BigInt.asIntN(64, unsigned(hi, lo)) : unsigned(hi, lo)));
    if (width > 0) out.padLeft(from, width);
  };
  const pattern = type === "x" ? "((?:0x)?[0-9a-fA-F]+)" : "(-?[0-9]+)";
  const take = (said: string): Record<string, string> => ({
    [field]: type === "x" ? String(BigInt(said.startsWith("0x") ? said : `0x${said}`)) : said,
  });
  return { format: conversion, c: `REC->${field}`, fields: [field], put, pattern, take };
}

export type Symbols = readonly (readonly [value: number, name: string])[];

export const symbolic = (field: string, symbols: Symbols): string =>
  `__print_symbolic(REC->${field}, ${symbols.map(([v, name]) => `{ ${v < 10 ? v : `0x${v.toString(16)}`}, "${name}" }`).join(", ")})`;

/** __print_symbolic: a name for a number, else the number in hexadecimal. */
export function sym(field: string, symbols: Symbols): Piece {
  const names = new Map(symbols);
  const values = new Map(symbols.map(([v, name]) => [name, v]));
  return {
    format: "%s",
    c: symbolic(field, symbols),
    fields: [field],
    put: choice((lo) => symbolText(names, lo), [...names.values()]),
    pattern: "([^ ,:()]+)",
    take: (said) => ({ [field]: String(values.get(said) ?? BigInt(/^(0x[0-9a-f]+|[0-9]+)$/.test(said) ? said : 0)) }),
  };
}

/** Fields that are printed so are of 32 bits. */
export const symbolText = (names: ReadonlyMap<number, string>, lo: number): string => names.get(lo >>> 0) ?? `0x${(lo >>> 0).toString(16)}`;

/** `field ? "yes" : "no"`. */
export function either(field: string, yes: string, no: string, conversion: "%s" | "%c" = "%s"): Piece {
  const q = conversion === "%s" ? '"' : "'";
  return {
    format: conversion,
    c: `REC->${field} ? ${q}${yes}${q} : ${q}${no}${q}`,
    fields: [field],
    put: choice((lo) => (lo !== 0 ? yes : no), [yes, no]),
    pattern: `(${escape(yes)}|${escape(no)})`,
    take: (said) => ({ [field]: said === yes ? "1" : "0" }),
  };
}

/** The difference of two 32-bit fields; it says nothing that they do not. */
export const difference = (a: string, b: string): Piece => ({
  format: "%u",
  c: `REC->${a} - REC->${b}`,
  fields: [a, b],
  put: (out, _hi, lo, second) => out.decimal((lo - second) >>> 0),
  pattern: "([0-9]+)",
  take: () => ({}),
});

/** A dynamic string; its words are the writer's to find. */
export const str = (field: string): Piece => ({
  format: "%s",
  c: `__get_str(${field})`,
  fields: [field],
  put: () => undefined,
  pattern: "(\\S*)",
  take: (said) => ({ [field]: said }),
});

/** The `print fmt` of an event's format file. */
export function printFormat(pieces: readonly Piece[]): string {
  const args = pieces.filter((p) => p.c !== "").map((p) => `, ${p.c}`);
  return `"${pieces.map((p) => p.format).join("")}"${args.join("")}`;
}

/** Reads the text of an event. @returns its fields as canonical text, undefined if it is not of this form */
export function printReader(pieces: readonly Piece[]): (text: string) => Record<string, string> | undefined {
  const pattern = new RegExp(`^\\s*${pieces.map((p) => p.pattern).join("")}\\s*$`);
  const takes = pieces.filter((p) => p.take !== undefined).map((p) => p.take!);
  return (text) => {
    const m = pattern.exec(text);
    if (m === null) return undefined;
    return Object.assign({}, ...takes.map((take, i) => take(m[i + 1]!))) as Record<string, string>;
  };
}
