/**
 * What is wrong with a script, said so that it can be mended: file, line, column, the line itself, a
 * caret, what was expected there, and the nearest right name.
 *
 * Two classes leave this room: `ScriptError` (the input is wrong, exit status 2) and `BudgetError`
 * (the input asks for more than it may have, exit status 3). Anything else is a bug of Faultline.
 */
import { closest, distance } from "fastest-levenshtein";

/** A place in a script: offset, 1-based line and column, length in characters. */
export interface Span {
  readonly at: number;
  readonly line: number;
  readonly column: number;
  readonly length: number;
}

export interface Diagnostic {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly length: number;
  readonly message: string;
  /** What would have been right there, the nearest name first; may be empty. */
  readonly hint: string;
  /** The source line, shortened for display around the column. */
  readonly text: string;
}

/** More errors than this of one file help nobody. */
const MAX_DIAGNOSTICS = 50;
/** A line is cut to this many characters around the caret. */
const TEXT_WIDTH = 96;

/** Wrong input: a script, an option or a file. Exit status 2. */
export class ScriptError extends Error {
  override readonly name = "ScriptError";
  constructor(readonly diagnostics: readonly Diagnostic[]) {
    super(diagnostics.map(formatDiagnostic).join("\n"));
  }
}

/** The script is well-formed but wants more than its budget. Exit status 3. */
export class BudgetError extends Error {
  override readonly name = "BudgetError";
  /** The script, once somebody who knows it has said so. */
  file: string | undefined;
  constructor(
    message: string,
    /** The option that raises the budget, "" if none does. */
    readonly option: string,
  ) {
    super(message);
  }
}

/** Collects the errors of one file. */
export class Diagnostics {
  readonly list: Diagnostic[] = [];
  private dropped = 0;
  constructor(
    readonly file: string,
    private readonly source: string,
  ) {}

  add(span: Span, message: string, hint = ""): void {
    if (this.list.length >= MAX_DIAGNOSTICS) {
      this.dropped++;
      return;
    }
    // One statement seldom has two independent errors at one place.
    if (this.list.some((d) => d.line === span.line && d.column === span.column)) return;
    const { text, shift } = this.lineAt(span);
    this.list.push({
      file: this.file,
      line: span.line,
      column: span.column,
      length: Math.max(1, Math.min(span.length, text.length - (span.column - 1 - shift))),
      message,
      hint,
      text: shift > 0 ? `\u2026${text}` : text,
    });
  }

  /** @throws ScriptError if anything was added. */
  throwIfAny(): void {
    if (this.list.length === 0) return;
    const sorted = [...this.list].sort((a, b) => a.line - b.line || a.column - b.column);
    const last = sorted[sorted.length - 1]!;
    if (this.dropped > 0) sorted.push({ ...last, message: `${this.dropped} more errors in this file`, hint: "", text: "" });
    throw new ScriptError(sorted);
  }

  private lineAt(span: Span): { text: string; shift: number } {
    const start = span.at - (span.column - 1);
    let end = this.source.indexOf("\n", start);
    if (end < 0) end = this.source.length;
    // A line of ten megabytes is not copied whole.
    const shift = span.column > TEXT_WIDTH ? span.column - 1 - TEXT_WIDTH / 2 : 0;
    const text = this.source.slice(start + shift, Math.min(end, start + shift + TEXT_WIDTH));
    return { text: printable(text), shift };
  }
}

/** Control characters (a binary file) become dots, tabs one space, so that carets stay below what they mean. */
function printable(text: string): string {
  return text.replace(/\t/g, " ").replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]/g, ".");
}

/** One diagnostic as text: place and message, the line, the caret with the hint. */
export function formatDiagnostic(d: Diagnostic): string {
  const head = `${d.file}:${d.line}:${d.column}: error: ${d.message}`;
  if (d.text === "") return d.hint === "" ? head : `${head}\n       ${d.hint}`;
  const number = String(d.line).padStart(5);
  const cut = d.text.startsWith("\u2026");
  const before = cut ? TEXT_WIDTH / 2 + 1 : d.column - 1;
  const caret = " ".repeat(before) + "^".repeat(Math.max(1, Math.min(d.length, TEXT_WIDTH)));
  return `${head}\n${number} | ${d.text}\n      | ${caret}${d.hint === "" ? "" : ` ${d.hint}`}`;
}

/** The right name nearest to a wrong one, or undefined if none is near. */
export function nearest(wrong: string, names: readonly string[]): string | undefined {
  if (names.length === 0 || wrong.length === 0 || wrong.length > 64) return undefined;
  const lower = wrong.toLowerCase();
  const same = names.find((n) => n.toLowerCase() === lower);
  if (same !== undefined) return same;
  const best = closest(
    lower,
    names.map((n) => n.toLowerCase()),
  );
  const found = names.find((n) => n.toLowerCase() === best)!;
  if (distance(lower, best) <= Math.max(2, Math.floor(wrong.length / 3))) return found;
  // Another spelling, or the beginning of a word: eager_device_map is near eagerDeviceMapping.
  const letters = lower.replace(/[^a-z0-9]/g, "");
  return letters.length < 4
    ? undefined
    : names.find((n) =>
        n
          .toLowerCase()
          .replace(/[^a-z0-9]/g, "")
          .includes(letters),
      );
}

/** `did you mean "x"?`, else the whole list if it is short, else "". */
export function didYouMean(wrong: string, names: readonly string[]): string {
  const near = nearest(wrong, names);
  if (near !== undefined) return `did you mean "${near}"?`;
  return names.length > 0 && names.length <= 12 ? `one of: ${names.join(", ")}` : "";
}
