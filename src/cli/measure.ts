/** `faultline measure`: what policies cost in virtual time, as tables, JSON, CSV or a drawing. */
import type { Lets, VariantConfig } from "../guest/compile.js";
import { DEFAULT_BUDGET } from "../guest/limits.js";
import { carryOut, type Means } from "../campaign/campaigns.js";
import { findPolicy, POLICIES, policyNames } from "../measure/policies.js";
import { reportCsv, reportJson, reportText } from "../measure/report.js";
import { measureWork, type MeasureSpec, type PolicyRef } from "../measure/work.js";
import { checkCpu, compileScript, eraNamed, settingOf } from "./execute.js";
import { loadScript } from "./load.js";
import { commaSeparated } from "./options.js";
import { INTERRUPTED, OK, unknownName, UsageError } from "./status.js";
import { print } from "./terminal.js";

export interface MeasureArguments {
  readonly policies: readonly string[];
  /** `name=decision=value,…` */
  readonly own: readonly string[];
  readonly kernels: readonly string[];
  readonly cpu?: string;
  readonly costs: Readonly<Record<string, number>>;
  readonly lets?: Lets;
  readonly format: "table" | "json" | "csv" | "svg";
  readonly maxSteps?: number;
  readonly maxMemory?: number;
  readonly means: Means;
}

/** Policies of the command line: `name=decision=value,decision=value`. */
function policyOf(text: string): Extract<PolicyRef, { own: string }> {
  const at = text.indexOf("=");
  const name = text.slice(0, Math.max(0, at));
  if (!/^[A-Za-z][\w.-]*$/.test(name)) throw new UsageError(`--policy takes name=decision=value,…, not "${text}"`);
  const set = commaSeparated(text.slice(at + 1));
  const half = set.find((s) => !s.includes("="));
  if (half !== undefined) throw new UsageError(`--policy takes name=decision=value,…: "${half}" of policy ${name} has no value`);
  if (set.length === 0) throw new UsageError(`policy ${name} names no decision; expected ${name}=decision=value`);
  return { own: name, set: Object.fromEntries(set.map(settingOf)) };
}

export async function measureCommand(file: string, args: MeasureArguments): Promise<number> {
  const script = loadScript(file);
  const program = compileScript(script, args.lets);
  const own = args.own.map(policyOf);
  const { cpu } = args;
  if (cpu !== undefined) checkCpu(cpu);
  const withCpu = (v: VariantConfig): VariantConfig => (cpu === undefined ? v : { ...v, cpu });
  const variants = program.variants.map((v) => withCpu({ ...v, kernel: eraNamed(v.kernel) }));
  // What the script calls a policy itself comes first, then the user's own, then those that are built in.
  const policy = (name: string): PolicyRef => {
    if (variants.some((v) => v.name === name)) return { variant: name };
    const mine = own.find((p) => p.own === name);
    if (mine !== undefined) return mine;
    if (findPolicy(name) !== undefined) return { builtIn: name };
    throw unknownName("policy", name, [...new Set([...variants.map((v) => v.name), ...own.map((p) => p.own), ...policyNames()])]);
  };
  const named = args.policies.map(policy);
  const policies =
    named.length > 0 || own.length > 0
      ? [...named, ...own.filter((p) => !args.policies.includes(p.own))]
      : variants.map((v) => ({ variant: v.name }));
  const spec: MeasureSpec = {
    file: script.file,
    source: script.source,
    lets: [...(args.lets ?? [])].map(([name, value]) => [name, String(value)] as const),
    variants,
    policies,
    kernels: args.kernels.map(eraNamed),
    costs: args.costs,
    budget: {
      ...DEFAULT_BUDGET,
      ...(args.maxSteps === undefined ? {} : { steps: args.maxSteps }),
      ...(args.maxMemory === undefined ? {} : { memory: args.maxMemory }),
    },
  };
  const { state, ended } = await carryOut(measureWork, spec, args.means);
  if (ended === "interrupted") return INTERRUPTED;
  const { measurements } = state;
  const title = program.script.title;
  switch (args.format) {
    case "json":
      await print(reportJson(program.script.file, measurements));
      break;
    case "csv":
      await print(reportCsv(measurements).join("\n"));
      break;
    case "svg": {
      const { chart } = await import("../measure/chart.js");
      await print(await chart(title, measurements));
      break;
    }
    case "table":
      if (title !== "") await print(`${title}\n`);
      await print(reportText(measurements).join("\n"));
  }
  return OK;
}

/** The policies that are built in, for the help text. */
export const policyHelp = (): string => POLICIES.map((p) => `  ${p.name.padEnd(9)} ${p.doc}`).join("\n");
