/** Runs script text on the real machine. */
import { compile } from "../../src/guest/compile.js";
import { DEFAULT_BUDGET, type Budget } from "../../src/guest/limits.js";
import { machineFor, machineWorld } from "../../src/guest/machineworld.js";
import type { VariantResult } from "../../src/guest/result.js";
import { runProgram, type RunOptions } from "../../src/guest/run.js";

export function runAll(
  source: string,
  options: {
    readonly file?: string;
    readonly budget?: Partial<Budget>;
    readonly detail?: RunOptions["detail"];
    readonly stepper?: RunOptions["stepper"];
  } = {},
): VariantResult[] {
  const program = compile(options.file ?? "t.guest", source, machineWorld);
  return program.variants.map((variant) =>
    runProgram(program, variant, machineFor(program.machine, variant), {
      budget: { ...DEFAULT_BUDGET, ...options.budget },
      detail: options.detail ?? "story",
      ...(options.stepper === undefined ? {} : { stepper: options.stepper }),
    }),
  );
}

/** What failed, one line each: `variant:line expected: happened`. */
export function failures(results: readonly VariantResult[]): string[] {
  return results.flatMap((r) =>
    r.outcomes.filter((o) => o.status === "failed").map((o) => `${r.variant.name}:${o.line} ${o.expected}: ${o.actual}`),
  );
}
