/** Exit statuses of the command, and the errors that lead to them. */
import { nearest } from "../guest/diagnostics.js";

export const OK = 0;
/** An expectation failed, or traces differ. */
export const FAILED = 1;
/** What no input may cause; as Node's own status of an exception. */
export const DEFECT = 1;
/** The input is wrong: script, option, file. */
export const WRONG_INPUT = 2;
/** A budget is used up. */
export const BUDGET = 3;
/** Ctrl-C ended it; what was known is printed. */
export const INTERRUPTED = 130;

/** Where something is wrong and what would have been right there, for programs: the message says it to people. */
export interface Place {
  readonly file?: string;
  readonly line?: number;
  readonly expected?: string;
}

/** A wrong option or file: its message says what was expected. Exit status 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  constructor(
    message: string,
    readonly place: Place = {},
  ) {
    super(message);
  }
}

/** `no era named "v5.9"` with the nearest right name or the hint given. */
export function unknownName(what: string, name: string, names: readonly string[], hint = ""): UsageError {
  const near = nearest(name, names);
  const list = names.length > 0 && names.length <= 12 ? `one of: ${names.join(", ")}` : "";
  const said = hint !== "" ? hint : near !== undefined ? `did you mean "${near}"?` : list;
  return new UsageError(`no ${what} named "${name}"${said === "" ? "" : `: ${said}`}`, said === "" ? {} : { expected: said });
}
