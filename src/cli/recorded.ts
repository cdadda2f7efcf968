/** What dump, explain and debug begin with: one variant of a script, run on a machine with history. */
import type { VariantConfig } from "../guest/compile.js";
import type { Budget } from "../guest/limits.js";
import { record, type Recorded } from "../inspect/recorded.js";
import { compileScript, selectVariants, type Selection } from "./execute.js";
import { loadScript } from "./load.js";
import { unknownName } from "./status.js";

export interface OneVariant extends Selection {
  readonly variant?: string;
  readonly maxSteps?: number;
  readonly maxMemory?: number;
}

export interface RecordedScript extends Recorded {
  /** As messages name it. */
  readonly file: string;
  readonly source: string;
  /** The script has other variants that the options did not exclude. */
  readonly others: readonly string[];
}

export function budgetOf(args: OneVariant): Partial<Budget> {
  return {
    ...(args.maxSteps === undefined ? {} : { steps: args.maxSteps }),
    ...(args.maxMemory === undefined ? {} : { memory: args.maxMemory }),
  };
}

/** Runs the variant that the options select, the first of several. @throws UsageError, ScriptError, BudgetError */
export function recordScript(file: string, args: OneVariant): RecordedScript {
  const script = loadScript(file);
  const program = compileScript(script);
  let variants: VariantConfig[];
  if (args.variant === undefined) variants = selectVariants(program, args);
  else {
    const named = program.variants.find((v) => v.name === args.variant);
    if (named === undefined)
      throw unknownName(
        "variant",
        args.variant,
        program.variants.map((v) => v.name),
      );
    variants = selectVariants({ ...program, variants: [named] }, args);
  }
  const [variant, ...rest] = variants;
  return { ...record(program, variant!, budgetOf(args)), file: script.file, source: script.source, others: rest.map((v) => v.name) };
}
