/**
 * What went wrong, in two forms: words for a person on standard error, and for a program, where JSON was asked for, an object
 * `{"error": …}` on standard output (schemas/error.schema.json), or the field `error` of the document that tells what is known.
 */
import { CommanderError } from "commander";
import { BudgetError, ScriptError, type Diagnostic } from "../guest/diagnostics.js";
import { RecordingError } from "../conform/recording.js";
import { FaultlineError } from "../sim/errors.js";
import { BUDGET, DEFECT, UsageError, WRONG_INPUT } from "./status.js";

/** Without a place or a hint its field is null. */
export interface ErrorJson {
  readonly status: number;
  readonly message: string;
  readonly file: string | null;
  readonly line: number | null;
  readonly column: number | null;
  /** What would have been right there. */
  readonly expected: string | null;
  /** The option that raises the budget. */
  readonly option: string | null;
  /** Further errors of the same file. */
  readonly more?: readonly Omit<ErrorJson, "status" | "option" | "more">[];
}

const NOWHERE = { file: null, line: null, column: null, expected: null };

export function errorJson(e: unknown): ErrorJson {
  const wrong = { status: WRONG_INPUT, message: "", ...NOWHERE, option: null };
  if (e instanceof CommanderError) {
    const message = e.message.replace(/^error: /, "").replace(/\n\((.*)\)$/s, ": $1");
    return { ...wrong, message, expected: /(?:did you mean|expected|Allowed choices are) .*$/is.exec(message)?.[0] ?? null };
  }
  if (e instanceof ScriptError) {
    const [first, ...more] = e.diagnostics.map(ofDiagnostic);
    return { ...wrong, ...first!, ...(more.length === 0 ? {} : { more }) };
  }
  if (e instanceof UsageError) return { ...wrong, message: e.message, ...e.place };
  if (e instanceof BudgetError)
    return { ...wrong, status: BUDGET, message: e.message, file: e.file ?? null, option: e.option === "" ? null : e.option };
  if (e instanceof RecordingError) return { ...wrong, message: e.reason, file: e.file, line: e.line };
  if (e instanceof FaultlineError) return { ...wrong, message: e.message };
  const first = innermost(e);
  if (isSystemError(first)) return { ...wrong, message: ofSystem(first), file: first.path ?? null };
  return { ...wrong, status: DEFECT, message: `this is a defect of Faultline, please report it: ${textOf(e)}` };
}

function ofDiagnostic({ file, line, column, message, hint }: Diagnostic) {
  return { message, file, line, column, expected: hint === "" ? null : hint };
}

/** Places of a defect that are shown: where it was thrown and who called. */
const FRAMES = 4;

/** Words for a person; undefined where they have been said. */
export function errorText(e: unknown): string | undefined {
  if (e instanceof CommanderError) return undefined;
  if (e instanceof ScriptError) return e.message;
  if (e instanceof UsageError || e instanceof RecordingError || e instanceof FaultlineError) return `error: ${e.message}`;
  if (e instanceof BudgetError) return `error: ${e.message}${e.option === "" ? "" : `; ${e.option} raises it`}`;
  const first = innermost(e);
  if (isSystemError(first)) return `error: ${ofSystem(first)}`;
  // What no input may cause: what and where, without the bundled line that Node would print of it.
  const frames = first instanceof Error ? (first.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line)) : [];
  return [errorJson(e).message, ...frames.slice(0, FRAMES)].join("\n");
}

/** A file that cannot be read or made, a full disk: the machine's answer, no defect. */
const isSystemError = (e: unknown): e is NodeJS.ErrnoException => e instanceof Error && "syscall" in e && "code" in e;

/** `EACCES: permission denied, open 'x'` -> `x: permission denied (open)`. */
export function ofSystem({ path, message, code, syscall }: NodeJS.ErrnoException): string {
  const said = /^[A-Z0-9]+: (.*?), /.exec(message)?.[1] ?? code;
  return `${path === undefined ? "" : `${path}: `}${said} (${syscall})`;
}

const textOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));

function innermost(e: unknown): unknown {
  let first = e;
  while (first instanceof Error && first.cause instanceof Error) first = first.cause;
  return first;
}

/** The JSON that a command line asks for, wherever in it something is wrong: one document, lines, or none. */
export function jsonAsked(argv: readonly string[]): "document" | "lines" | undefined {
  const end = argv.indexOf("--");
  const words = end < 0 ? argv : argv.slice(0, end);
  const formats = words.flatMap((w, i) => (w === "--format" ? [words[i + 1]] : w.startsWith("--format=") ? [w.slice(9)] : []));
  const json = words.includes("--json") || formats.at(-1) === "json";
  if (formats.at(-1) === "jsonl" && !words.includes("--json")) return "lines";
  if (!json) return undefined;
  return words[0] === "debug" ? "lines" : "document";
}
