/** The debugger for programs: a script's text in, a debugger at its first event out. */
import { compile } from "../guest/compile.js";
import { machineWorld } from "../guest/machineworld.js";
import { FaultlineError } from "../sim/errors.js";
import { didYouMean } from "../guest/diagnostics.js";
import { Debugger } from "./debugger.js";
import { record } from "./recorded.js";

export interface DebugOptions {
  /** Name for messages. */
  readonly file?: string;
  /** The script's variant; its first if absent. */
  readonly variant?: string;
  /** Another era than the variant's. */
  readonly kernel?: string;
  readonly set?: Readonly<Record<string, string>>;
}

/** Runs a script to its end and stands at its first event. @throws ScriptError, BudgetError, FaultlineError */
export function openDebugger(source: string, options: DebugOptions = {}): Debugger {
  const program = compile(options.file ?? "script.guest", source, machineWorld);
  const names = program.variants.map((v) => v.name);
  const variant = options.variant === undefined ? program.variants[0]! : program.variants.find((v) => v.name === options.variant);
  if (variant === undefined) throw new FaultlineError(`no variant named ${options.variant}: ${didYouMean(options.variant!, names)}`);
  return new Debugger(record(program, { ...variant, kernel: options.kernel ?? variant.kernel, set: { ...variant.set, ...options.set } }));
}
