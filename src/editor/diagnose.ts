/** Diagnostics: the errors that the commands would report, from the same compiler. */
import { compile } from "../guest/compile.js";
import { BudgetError, ScriptError, type Diagnostic } from "../guest/diagnostics.js";
import { machineWorld } from "../guest/machineworld.js";

/** All errors of a script, in the order in which the command prints them. */
export function diagnose(file: string, text: string): readonly Diagnostic[] {
  try {
    compile(file, text, machineWorld);
    return [];
  } catch (e) {
    if (e instanceof ScriptError) return e.diagnostics;
    if (e instanceof BudgetError) return [{ file, line: 1, column: 1, length: 1, message: e.message, hint: "", text: "" }];
    throw e;
  }
}

/** The name that a diagnostic says was meant. */
export function meant(d: Diagnostic): string | undefined {
  return /did you mean "([^"]+)"\?/.exec(d.hint)?.[1];
}
