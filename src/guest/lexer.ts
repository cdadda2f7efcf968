/**
 * Characters to tokens. Line ends are tokens, because a statement ends with its line.
 * A wrong character is reported and skipped, so that the parser sees the rest of the file.
 */
import type { Diagnostics, Span } from "./diagnostics.js";

export type TokenKind = "name" | "number" | "string" | "bdf" | "punct" | "newline" | "end";

export interface Token extends Span {
  readonly kind: TokenKind;
  /** As written; of a string, its contents. */
  readonly text: string;
  /** Value of a number, else 0. */
  readonly value: bigint;
  /** White space (not a line end) stands before it. */
  readonly spaced: boolean;
}

const SUFFIX: Readonly<Record<string, bigint>> = { K: 1024n, M: 1024n ** 2n, G: 1024n ** 3n, T: 1024n ** 4n };
const NAME = /[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*/y;
const NUMBER = /(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*)/y;
/** A PCI address as lspci writes it. */
const BDF = /[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7](?![0-9A-Za-z_])/y;
/** What no string has: control characters except the tab. */
const CONTROL = /[^\t\P{Cc}]/u;
const PUNCT = /->|=>|\.\.|==|!=|<=|>=|<<|>>|&&|\|\||[{}()[\],;:=+\-*/%&|^~!<>#?@.]/y;
const BLANK = /[ \t\r]+/y;
/** Past this, digits are not a number that any register holds. */
const MAX_DIGITS = 80;
/** A binary file has as many wrong characters as it has characters. */
const MAX_BAD = 10;

export function lex(source: string, errors: Diagnostics): Token[] {
  const out: Token[] = [];
  let at = 0;
  let line = 1;
  let lineStart = 0;
  let spaced = false;
  let bad = 0;
  const span = (length: number): Span => ({ at, line, column: at - lineStart + 1, length });
  const push = (kind: TokenKind, length: number, text: string, value = 0n): void => {
    out.push({ kind, text, value, spaced, at, line, column: at - lineStart + 1, length });
    at += length;
    spaced = false;
  };
  const match = (re: RegExp): string | undefined => {
    re.lastIndex = at;
    return re.exec(source)?.[0];
  };
  if (source.charCodeAt(0) === 0xfeff) at = lineStart = 1;
  while (at < source.length) {
    const c = String.fromCodePoint(source.codePointAt(at)!);
    if (c === "\n") {
      push("newline", 1, "end of line");
      line++;
      lineStart = at;
      continue;
    }
    const blank = match(BLANK);
    if (blank !== undefined) {
      at += blank.length;
      spaced = true;
      continue;
    }
    if (c === "/" && source[at + 1] === "/") {
      const end = source.indexOf("\n", at);
      at = end < 0 ? source.length : end;
      continue;
    }
    if (c === '"') {
      const end = /["\n]/g;
      end.lastIndex = at + 1;
      const stop = end.exec(source);
      const length = (stop === null ? source.length : stop.index) - at;
      if (stop?.[0] === '"') {
        const text = source.slice(at + 1, at + length);
        const control = text.search(CONTROL);
        // Strings are printed as they are: a script does not drive the terminal of who runs it.
        if (control >= 0) {
          const place = { at: at + 1 + control, line, column: at - lineStart + 2 + control, length: 1 };
          errors.add(place, `unexpected character ${describe(text[control]!)}`, "");
        }
        push("string", length + 1, text);
      } else {
        errors.add(span(1), "this string does not end on its line", 'expected a closing "');
        push("string", length, source.slice(at + 1, at + length));
      }
      continue;
    }
    const bdf = match(BDF);
    if (bdf !== undefined) {
      if (Number.parseInt(bdf.slice(8), 16) > 0x1f)
        errors.add(span(bdf.length), `${bdf} is no PCI address`, "a bus has the devices 00 to 1f");
      push("bdf", bdf.length, bdf);
      continue;
    }
    const digits = match(NUMBER);
    if (digits !== undefined) {
      lexNumber(digits);
      continue;
    }
    const name = match(NAME);
    if (name !== undefined) {
      push("name", name.length, name);
      continue;
    }
    if (c === "\u2192") {
      push("punct", 1, "->");
      continue;
    }
    const punct = match(PUNCT);
    if (punct !== undefined) {
      push("punct", punct.length, punct);
      continue;
    }
    if (++bad > MAX_BAD) {
      errors.add(span(1), "this does not look like a script: too many characters that no script has", "expected text");
      break;
    }
    errors.add(span(1), `unexpected character ${describe(c)}`, "");
    at += c.length;
  }
  at = Math.min(at, source.length);
  push("end", 0, "end of file");
  return out;

  function lexNumber(digits: string): void {
    let length = digits.length;
    let value = 0n;
    const plain = digits.replaceAll("_", "");
    if (plain.length > MAX_DIGITS || /^0[xXbB]?$/.test(plain) === (plain !== "0")) {
      errors.add(
        span(length),
        "this is not a number",
        "expected decimal, 0x… or 0b… digits, with _ between them and K, M, G or T behind them",
      );
    } else value = BigInt(plain);
    const after = source.slice(at + length, at + length + 3);
    const suffix = /^([KMGT])(?:iB|B)?(?![A-Za-z0-9_])/.exec(source.slice(at + length, at + length + 4));
    if (suffix !== null) {
      value *= SUFFIX[suffix[1]!]!;
      length += suffix[0].length;
    } else if (/^[A-Za-z0-9_]/.test(after)) {
      const rest = /^[A-Za-z0-9_]+/.exec(source.slice(at + length, at + length + 32))![0];
      errors.add(span(length + rest.length), `this is not a number: "${digits}${rest}"`, "expected digits, then nothing or K, M, G, T");
      length += rest.length;
    }
    if (value > 0xffffffffffffffffn) {
      errors.add(span(length), "this number does not fit in 64 bits", "");
      value = 0n;
    }
    push("number", length, source.slice(at, at + length), value);
  }
}

function describe(c: string): string {
  const code = c.codePointAt(0)!;
  return code < 0x20 || code > 0x7e ? `U+${code.toString(16).toUpperCase().padStart(4, "0")}` : `"${c}"`;
}
