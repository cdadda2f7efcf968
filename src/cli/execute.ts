/** Compiles a script and runs the variants that the options ask for. */
import { cpuProfile } from "../arch/features.js";
import type { Statement } from "../guest/ast.js";
import { compile, letNames, type Lets, type Program, type VariantConfig } from "../guest/compile.js";
import { DEFAULT_BUDGET, type Budget } from "../guest/limits.js";
import { eraHint, eraNames, machineFor, machineWorld } from "../guest/machineworld.js";
import type { VariantResult } from "../guest/result.js";
import { runProgram } from "../guest/run.js";
import { randomScheduler } from "../guest/schedule.js";
import { decisionNames, decisionValue, findDecision, findEra } from "../eras.js";
import type { Machine } from "../machine.js";
import type { EventRecord } from "../sim/events.js";
import type { Detail } from "../trace/story.js";
import type { LoadedScript } from "./load.js";
import { unknownName, UsageError } from "./status.js";
import type { Tracing } from "./tracing.js";

/** `--kernel`, `--cpu`, `--set`, `--seed`: what they select or replace. */
export interface Selection {
  readonly kernel?: string;
  readonly cpu?: string;
  readonly set?: Readonly<Record<string, string>>;
  readonly seed?: number;
  /** `--let`: values of the script's own names. */
  readonly lets?: Lets;
  /** `--cost` and `--costs`: cycles by name. */
  readonly costs?: Readonly<Record<string, number>>;
}

/** @param lets `--let`, checked against the script's own. @throws UsageError, ScriptError */
export function compileScript(script: LoadedScript, lets: Lets = new Map()): Program {
  const program = compile(script.file, script.source, machineWorld, lets);
  const names = letNames(program.script);
  for (const name of lets.keys())
    if (!names.includes(name)) throw unknownName("let of the script", name, names, names.length === 0 ? "it has none" : "");
  return program;
}

/** `--let NAME=VALUE`, once or several times. */
export function letsOf(texts: readonly string[]): Lets {
  return new Map(
    texts.map((text) => {
      const m = /^(\w+)=(0x[0-9a-f_]+|[0-9][0-9_]*)([KMGT]?)$/i.exec(text);
      if (m === null) throw new UsageError(`--let takes NAME=VALUE, a number such as 4096, 0x1000 or 2M, not "${text}"`);
      return [m[1]!, BigInt(m[2]!.replaceAll("_", "")) << BigInt(10 * " KMGT".indexOf(m[3]!.toUpperCase() || " "))];
    }),
  );
}

/** The program with costs replaced over those of its header. */
export function withCosts(program: Program, costs: Readonly<Record<string, number>> = {}): Program {
  return { ...program, machine: { ...program.machine, costs: { ...program.machine.costs, ...costs } } };
}

/** The canonical name of an era. @throws UsageError that names the nearest, or the rows around it */
export function eraNamed(name: string): string {
  const era = findEra(name);
  if (era === undefined) throw unknownName("era", name, eraNames(), eraHint(name));
  return era.name;
}

/** `--set a=b` as a checked pair. */
export function settingOf(text: string): readonly [string, string] {
  const at = text.indexOf("=");
  if (at <= 0) throw new UsageError(`--set takes decision=value, not "${text}"`);
  const name = text.slice(0, at);
  const value = text.slice(at + 1);
  if (findDecision(name) === undefined) throw unknownName("decision", name, decisionNames());
  try {
    decisionValue(name, value);
  } catch (e) {
    throw new UsageError((e as Error).message);
  }
  return [name, value];
}

/** `--set a=b,c`: the decision, and the values that the runs differ by. */
export function alternativesOf(text: string): { readonly name: string; readonly values: readonly string[] } {
  const [name = "", list = ""] = [text.slice(0, Math.max(0, text.indexOf("="))), text.slice(text.indexOf("=") + 1)];
  const values = list.split(",").map((v) => v.trim());
  for (const v of values) settingOf(`${name}=${v}`);
  return { name, values };
}

/** The value of `--cpu`: a profile, or a base with features like `max,-s2fwb`. @throws UsageError */
export function checkCpu(cpu: string): void {
  if (!cpu.includes(",")) {
    if (!machineWorld.cpus.includes(cpu)) throw unknownName("CPU", cpu, machineWorld.cpus);
    return;
  }
  try {
    cpuProfile(cpu);
  } catch (e) {
    throw new UsageError((e as Error).message);
  }
}

/**
 * The variants to run. `--kernel` and `--cpu` select the script's variants of that kind; where it has
 * none, its first variant runs with the value replaced. `--set` and `--seed` always replace.
 */
export function selectVariants(program: Program, selection: Selection): VariantConfig[] {
  let pool = program.variants.map((v) => ({ ...v, kernel: eraNamed(v.kernel) }));
  if (selection.kernel !== undefined) {
    const own = pool.filter((v) => v.name === selection.kernel);
    const kernel = own.length > 0 ? "" : eraNamed(selection.kernel);
    const same = own.length > 0 ? own : pool.filter((v) => v.kernel === kernel);
    pool = same.length > 0 ? same : [{ ...pool[0]!, name: kernel, kernel }];
  }
  if (selection.cpu !== undefined) {
    const { cpu } = selection;
    checkCpu(cpu);
    const same = pool.filter((v) => v.cpu === cpu);
    pool = same.length > 0 ? same : pool.map((v) => ({ ...v, cpu }));
  }
  return pool.map((v) => ({ ...v, set: { ...v.set, ...selection.set }, seed: selection.seed ?? v.seed }));
}

export interface ExecuteOptions {
  /** Runs the program in place of `runProgram`. */
  readonly runner?: typeof runProgram;
  readonly budget?: Partial<Budget>;
  readonly detail: Detail;
  readonly onEvent?: (e: EventRecord, variant: VariantConfig) => void;
  /** Who takes the steps that hardware takes of its own accord; the seed if absent. */
  readonly hardware?: "steps";
  /** What the run streams into. */
  readonly tracing?: (machine: Machine) => Tracing;
}

/** Runs one variant on a machine of its own. */
export function execute(program: Program, variant: VariantConfig, options: ExecuteOptions): VariantResult {
  const { onEvent } = options;
  const machine = machineFor(program.machine, variant, options.hardware === undefined ? {} : { hardware: options.hardware });
  const tracing = options.tracing?.(machine);
  const run = (): VariantResult =>
    (options.runner ?? runProgram)(program, variant, machine, {
      budget: { ...DEFAULT_BUDGET, ...options.budget },
      detail: options.detail,
      ...(variant.seed === 0 ? {} : { scheduler: () => randomScheduler(variant.seed) }),
      ...(onEvent === undefined ? {} : { onEvent: (e: EventRecord) => onEvent(e, variant) }),
      ...(tracing === undefined ? {} : { attach: tracing.attach }),
    });
  return tracing === undefined ? run() : tracing.around(run);
}

/** Whether a script has agents that could be interleaved. */
export function hasPar(body: readonly Statement[]): boolean {
  return body.some((s) => s.kind === "par" || ((s.kind === "on" || s.kind === "for" || s.kind === "vmm") && hasPar(s.body)));
}
