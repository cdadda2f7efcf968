/**
 * Does one unit, wherever that is. What is wrong with the input of a person (an error of the script, a budget that is used up) comes
 * back as text like any result, and is thrown where the unit's result is taken: the first in the order of the units, whoever did it.
 */
import { BudgetError, ScriptError, type Diagnostic } from "../guest/diagnostics.js";
import { FaultlineError } from "../sim/errors.js";
import type { Pause, Work } from "./work.js";

type Wrong =
  | { readonly is: "budget"; readonly message: string; readonly option: string; readonly file?: string }
  | { readonly is: "script"; readonly diagnostics: readonly Diagnostic[] }
  | { readonly is: "input"; readonly message: string };

interface Refused {
  readonly wrongInput: Wrong;
}

/** In a thread of its own a unit has nobody to let pass. */
const alone: Pause = () => Promise.resolve();

/** @returns the result as JSON text. @throws what is a defect */
export async function doUnit<S, T, I, R>(work: Work<S, T, I, R>, spec: S, input: I, pause: Pause = alone): Promise<string> {
  try {
    return JSON.stringify(await work.run(spec, input, pause));
  } catch (e) {
    const wrongInput = wrongOf(e);
    if (wrongInput === undefined) throw e;
    return JSON.stringify({ wrongInput } satisfies Refused);
  }
}

/** The result in a unit's text. @throws what its input had wrong */
export function resultIn(text: string): unknown {
  const value = JSON.parse(text) as unknown;
  const wrong = (value as Partial<Refused> | null)?.wrongInput;
  if (wrong === undefined) return value;
  switch (wrong.is) {
    case "budget": {
      const e = new BudgetError(wrong.message, wrong.option);
      e.file = wrong.file;
      throw e;
    }
    case "script":
      throw new ScriptError(wrong.diagnostics);
    case "input":
      throw new FaultlineError(wrong.message);
  }
}

function wrongOf(e: unknown): Wrong | undefined {
  if (e instanceof BudgetError)
    return { is: "budget", message: e.message, option: e.option, ...(e.file === undefined ? {} : { file: e.file }) };
  if (e instanceof ScriptError) return { is: "script", diagnostics: e.diagnostics };
  if (e instanceof FaultlineError) return { is: "input", message: e.message };
  return undefined;
}
