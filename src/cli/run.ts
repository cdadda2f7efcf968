/** `faultline run`: a script, all of its variants or those that the options select. */
import type { Replayed } from "../explore/replayrun.js";
import { causes } from "../guest/cause.js";
import type { Statement } from "../guest/ast.js";
import type { Program, VariantConfig } from "../guest/compile.js";
import type { Machine } from "../machine.js";
import type { VariantResult } from "../guest/result.js";
import { readSchedule, ScheduleError, type Schedule } from "../guest/schedule.js";
import { jsonLine } from "../trace/json.js";
import type { TraceFormat } from "../trace/formats.js";
import type { Detail } from "../trace/story.js";
import { compileScript, execute, type ExecuteOptions, hasPar, selectVariants, withCosts, type Selection } from "./execute.js";
import { errorJson, type ErrorJson } from "./failure.js";
import { loadScript } from "./load.js";
import { readText } from "./readfile.js";
import { failureLines, renderResult, resultJson, resultTable, verdictLine, type RenderOptions } from "./render.js";
import { statText } from "./stat.js";
import { FAILED, OK, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";
import { traceFileOf, traceFormatOf, type TraceArguments } from "./tracefiles.js";
import type { Tracing } from "./tracing.js";

export interface RunArguments extends Selection {
  readonly format: "text" | "json" | "jsonl";
  readonly quiet: boolean;
  readonly explain: boolean;
  /** Only the table of all variants' results. */
  readonly table: boolean;
  /** A file that says how the agents of the first `par` are interleaved. */
  readonly schedule?: string;
  readonly events?: Detail;
  readonly maxSteps?: number;
  readonly maxMemory?: number;
  readonly trace?: TraceArguments;
  /** Statistics at the end of each variant. */
  readonly stat?: boolean;
  /** One of several scripts: each line of JSON names its own. */
  readonly oneOfSeveral?: boolean;
}

/** Several scripts, one after the other. As JSON they are one document: `{ passed, runs: [what one script gives] }`. @returns the worst status */
export async function runFiles(files: readonly string[], argsOf: (file: string) => RunArguments): Promise<number> {
  if (files.length === 1) return runCommand(files[0]!, argsOf(files[0]!));
  const runs: RunDocument[] = [];
  let worst = OK;
  const failed = await failureOf(async () => {
    for (const f of files) worst = Math.max(worst, await runCommand(f, { ...argsOf(f), oneOfSeveral: true }, (d) => runs.push(d)));
  });
  // A script that cannot be run, or whose budget ends it, takes nothing away from those before it.
  const passed = failed === undefined && runs.every((d) => d.passed);
  if (runs.length > 0) await print(JSON.stringify({ passed, runs, ...errorOf(failed) }, bigints, 2));
  if (failed !== undefined) throw failed.thrown;
  return worst;
}

/** What a function threw, if it did. */
async function failureOf(body: () => Promise<void>): Promise<{ readonly thrown: unknown } | undefined> {
  try {
    await body();
    return undefined;
  } catch (thrown) {
    return { thrown };
  }
}

const errorOf = (failed: { readonly thrown: unknown } | undefined) => (failed === undefined ? {} : { error: errorJson(failed.thrown) });

/** What `--format json` gives of one script. */
interface RunDocument {
  readonly file: string;
  readonly title: string;
  readonly sources: readonly string[];
  readonly passed: boolean;
  readonly variants: readonly Record<string, unknown>[];
  /** Why there are not all variants. */
  readonly error?: ErrorJson;
}

const printDocument = (d: RunDocument): Promise<void> => print(JSON.stringify(d, bigints, 2));

/** @param document gets the document of `--format json` */
async function runCommand(file: string, args: RunArguments, document: (d: RunDocument) => unknown = printDocument): Promise<number> {
  const script = loadScript(file);
  const program = withCosts(compileScript(script, args.lets), args.costs);
  const variants = selectVariants(program, args);
  const detail: Detail = args.events ?? (args.explain ? "explain" : "story");
  const color = palette();
  const render: RenderOptions = {
    detail: args.quiet || args.table ? "none" : detail,
    annotate: detail !== "all",
    width: process.stdout.isTTY ? process.stdout.columns : 0,
    color,
  };
  const budget = {
    ...(args.maxSteps === undefined ? {} : { steps: args.maxSteps }),
    ...(args.maxMemory === undefined ? {} : { memory: args.maxMemory }),
  };
  const schedule = args.schedule === undefined ? undefined : loadSchedule(args.schedule);
  if (schedule !== undefined && !hasPar(program.script.body))
    throw new UsageError(`${script.file} has no par { … } block: --schedule has nothing to interleave`);
  const named = args.oneOfSeveral === true ? { file: script.file } : {};
  let passed = true;
  const results: Record<string, unknown>[] = [];
  let lines: string[] = [];
  if (args.format === "text" && !args.quiet && program.script.title !== "") await print(`${color.bold(program.script.title)}\n`);
  const verdicts: string[] = [];
  const rows: VariantResult[] = [];
  const traces = args.trace === undefined ? undefined : traceFiles(args.trace, variants);
  const streams = traces === undefined && args.stat !== true ? undefined : await import("./tracing.js");
  const one = async (n: number, variant: VariantConfig): Promise<void> => {
    let tracing: Tracing | undefined;
    let broken: Broken | undefined;
    const result = await carriedOut(program, variant, schedule, (b) => (broken = b), {
      budget,
      ...(streams === undefined
        ? {}
        : { tracing: (machine) => (tracing = new streams.Tracing(machine, variant, traces?.[n], args.stat === true)) }),
      detail: args.format === "jsonl" && args.quiet ? "none" : args.format === "jsonl" ? "all" : detail,
      ...(args.format === "jsonl" && !args.quiet
        ? {
            onEvent: (e) => {
              lines.push(jsonLine({ ...named, variant: variant.name, ...e }));
              if (lines.length >= 4096) {
                process.stdout.write(`${lines.join("\n")}\n`);
                lines = [];
              }
            },
          }
        : {}),
    });
    passed &&= result.passed && broken === undefined;
    rows.push(result);
    if (traces !== undefined && !args.quiet) process.stderr.write(`trace of ${variant.name}: ${traces[n]!.path}\n`);
    const stat = tracing?.result;
    switch (args.format) {
      case "json":
        results.push({
          ...resultJson(result),
          ...(stat === undefined ? {} : { statistics: stat }),
          ...(schedule === undefined ? {} : { violation: broken === undefined ? null : violationJson(broken) }),
          trace: args.quiet
            ? undefined
            : result.steps.map((s) => ({
                line: s.line,
                agent: s.agent,
                text: s.text,
                result: s.result,
                events: s.events,
                ...(args.explain ? { causes: causes(s.events) } : {}),
                dropped: s.dropped,
              })),
        });
        break;
      case "jsonl":
        lines.push(jsonLine({ ...named, result: { ...resultJson(result), ...(stat === undefined ? {} : { statistics: stat }) } }));
        await print(lines.join("\n"));
        lines = [];
        break;
      case "text": {
        if (args.table) break;
        const text = renderResult(result, script.file, script.source, render);
        if (text.length > 0) await print(text.join("\n"));
        if (stat !== undefined)
          await print([color.bold(`${variant.name}: statistics, in virtual time (1 cycle = 1 ns)`), "", ...statText(stat), ""].join("\n"));
        verdicts.push(verdictLine(result, color));
        if (broken !== undefined) verdicts.push(color.red(brokenText(variant.name, broken)));
      }
    }
  };
  const failed = await failureOf(async () => {
    for (const [n, variant] of variants.entries()) await one(n, variant);
  });
  // A variant that cannot be run, or whose budget ends it, takes nothing away from those before it.
  if (failed !== undefined) {
    passed = false;
    if (lines.length > 0) await print(lines.join("\n"));
    if (rows.length === 0) throw failed.thrown;
  }
  if (args.format === "json") {
    const { title, sources } = program.script;
    await document({ file: script.file, title, sources, passed, variants: results, ...errorOf(failed) });
  } else if (args.format === "text" && args.table) await print([...resultTable(rows), ...failureLines(rows, script.file)].join("\n"));
  else if (args.format === "text") {
    if (!args.quiet && rows.length > 1 && reports(program.script.body)) await print(["", ...resultTable(rows), "", ""].join("\n"));
    await print(verdicts.join("\n"));
  }
  if (failed !== undefined) throw failed.thrown;
  return passed ? OK : FAILED;
}

/** Does the script say what is worth a table? */
function reports(body: readonly Statement[]): boolean {
  return body.some((s) => s.kind === "report" || ((s.kind === "on" || s.kind === "for" || s.kind === "vmm") && reports(s.body)));
}

/** A file for each variant. @throws UsageError where two would get one file */
function traceFiles(
  args: TraceArguments,
  variants: readonly { readonly name: string }[],
): { path: string; format: TraceFormat; system?: string }[] {
  const format = traceFormatOf(args);
  const files = variants.map((v) => traceFileOf(args, v.name, variants.length));
  const twice = files.find((f, i) => files.indexOf(f) !== i);
  if (twice !== undefined) throw new UsageError(`--trace: two variants would write ${twice}; choose one with --kernel or --cpu`);
  return files.map((path) => ({ path, format, ...(args.system === undefined ? {} : { system: args.system }) }));
}

type Broken = NonNullable<Replayed["broken"]>;

/** By the schedule if there is one, with the invariants asked. */
async function carriedOut(
  program: Program,
  variant: VariantConfig,
  schedule: Schedule | undefined,
  onBroken: (broken: Broken | undefined) => void,
  options: ExecuteOptions,
): Promise<VariantResult> {
  if (schedule === undefined) return execute(program, variant, options);
  const { runSchedule } = await import("../explore/replayrun.js");
  try {
    return execute(program, variant, {
      ...options,
      hardware: "steps",
      runner: (p, v, machine, run) => {
        const { result, broken } = runSchedule(p, v, machine as Machine, schedule, run);
        onBroken(broken);
        return result;
      },
    });
  } catch (e) {
    if (e instanceof ScheduleError) throw new UsageError(`the schedule does not fit ${variant.name}: ${e.message}`);
    throw e;
  }
}

/** MiB of a schedule: a line is a few steps of one agent. */
const LARGEST_SCHEDULE = 16;

function loadSchedule(file: string): Schedule {
  const text = readText(file, LARGEST_SCHEDULE);
  try {
    return readSchedule(text);
  } catch (e) {
    if (e instanceof ScheduleError) throw new UsageError(`${file}:${e.line}: ${e.message}`, { file, line: e.line });
    throw e;
  }
}

const violationJson = ({ wrong, who, step }: Broken) => ({ invariant: wrong.invariant.name, what: wrong.what, agent: who, step });

const brokenText = (variant: string, { wrong, who, step }: Broken): string =>
  `${variant}: ${wrong.invariant.name} is violated by ${who === "" ? "the end" : who} at step ${step} of the par: ${wrong.what}`;

function bigints(_key: string, v: unknown): unknown {
  return typeof v === "bigint" ? `0x${BigInt.asUintN(64, v).toString(16)}` : v;
}
