/**
 * Print formats of trace events, as TP_printk writes them: from one list of pieces come the `print fmt`
 * line of an event's format file, the text that a reader of the trace shows, and the pattern that reads
 * such text back. printf is the C library's, which `trace-cmd report` uses (0 has no prefix under `#`).
 */

/** A 64-bit value in two words. */
export type Get = (field: string) => { readonly hi: number; readonly lo: number };

export interface Piece {
  /** Conversion in the format string. */
  readonly format: string;
  /** The C expression behind it; "" for plain text. */
  readonly c: string;
  readonly text: (get: Get) => string;
  /** Regular expression with one group for what `take` reads; plain text has none. */
  readonly pattern: string;
  /** Fields that the text says, by name, as canonical text; absent for plain text. */
  readonly take?: (said: string) => Readonly<Record<string, string>>;
}

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Plain text. */
export const lit = (text: string): Piece => ({ format: text.replaceAll("%", "%%"), c: "", text: () => text, pattern: escape(text) });

const unsigned = (hi: number, lo: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/** A number under a printf conversion such as %#016lx, %u or %d; int and unsigned int take the low word. */
export function num(conversion: string, field: string): Piece {
  const m = /^%(#?)(0?)([0-9]*)(l{0,2})([xud])$/.exec(conversion)!;
  const [alt, zero, width, long, type] = [m[1] !== "", m[2] !== "", Number(m[3]), m[4] !== "", m[5]!];
  const text = (get: Get): string => {
    const { hi, lo } = get(field);
    if (type === "x") {
      const digits = hexDigits(long ? hi : 0, lo);
      const prefix = alt && digits !== "0" ? "0x" : "";
      return zero ? prefix + digits.padStart(width - prefix.length, "0") : (prefix + digits).padStart(width);
    }
    if (!long) return String(type === "d" ? lo | 0 : lo >>> 0).padStart(width);
    const v = unsigned(hi, lo);
    return String(type === "d" ? BigInt.asIntN(64, v) : v).padStart(width);
  };
  const pattern = type === "x" ? "((?:0x)?[0-9a-fA-F]+)" : "(-?[0-9]+)";
  const take = (said: string): Record<string, string> => ({
    [field]: type === "x" ? String(BigInt(said.startsWith("0x") ? said : `0x${said}`)) : said,
  });
  return { format: conversion, c: `REC->${field}`, text, pattern, take };
}

/** Lower-case hexadecimal of 64 bits without leading zeros. */
export function hexDigits(hi: number, lo: number): string {
  const h = hi >>> 0;
  const l = (lo >>> 0).toString(16);
  return h === 0 ? l : h.toString(16) + l.padStart(8, "0");
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
    text: (get) => symbolText(names, get(field)),
    pattern: "([^ ,:()]+)",
    take: (said) => ({ [field]: String(values.get(said) ?? BigInt(/^(0x[0-9a-f]+|[0-9]+)$/.test(said) ? said : 0)) }),
  };
}

/** Fields that are printed so are of 32 bits. */
export function symbolText(names: ReadonlyMap<number, string>, { lo }: { readonly lo: number }): string {
  return names.get(lo >>> 0) ?? `0x${hexDigits(0, lo)}`;
}

/** `field ? "yes" : "no"`. */
export function either(field: string, yes: string, no: string, conversion: "%s" | "%c" = "%s"): Piece {
  const q = conversion === "%s" ? '"' : "'";
  return {
    format: conversion,
    c: `REC->${field} ? ${q}${yes}${q} : ${q}${no}${q}`,
    text: (get) => (get(field).lo !== 0 ? yes : no),
    pattern: `(${escape(yes)}|${escape(no)})`,
    take: (said) => ({ [field]: said === yes ? "1" : "0" }),
  };
}

/** The difference of two 32-bit fields; it says nothing that they do not. */
export const difference = (a: string, b: string): Piece => ({
  format: "%u",
  c: `REC->${a} - REC->${b}`,
  text: (get) => String((get(a).lo - get(b).lo) >>> 0),
  pattern: "([0-9]+)",
  take: () => ({}),
});

/** A dynamic string. */
export const str = (field: string): Piece => ({
  format: "%s",
  c: `__get_str(${field})`,
  text: () => "",
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
