/** `faultline run`: a script, all of its variants or those that the options select. */
import { causes } from "../guest/cause.js";
import type { VariantResult } from "../guest/result.js";
import { jsonLine } from "../trace/json.js";
import type { TraceFormat } from "../trace/formats.js";
import type { Detail } from "../trace/story.js";
import { compileScript, execute, selectVariants, withCosts, type Selection } from "./execute.js";
import { loadScript } from "./load.js";
import { failureLines, renderResult, resultJson, resultTable, verdictLine, type RenderOptions } from "./render.js";
import { statText } from "./stat.js";
import { FAILED, OK, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";
import { traceFileOf, traceFormatOf, Tracing, type TraceArguments } from "./tracing.js";

export interface RunArguments extends Selection {
  readonly format: "text" | "json" | "jsonl";
  readonly quiet: boolean;
  readonly explain: boolean;
  /** Only the table of all variants' results. */
  readonly table: boolean;
  readonly events?: Detail;
  readonly maxSteps?: number;
  readonly maxMemory?: number;
  readonly trace?: TraceArguments;
  /** Statistics at the end of each variant. */
  readonly stat?: boolean;
}

export async function runCommand(file: string, args: RunArguments): Promise<number> {
  const script = loadScript(file);
  const program = withCosts(compileScript(script), args.costs);
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
  let passed = true;
  const results: Record<string, unknown>[] = [];
  let lines: string[] = [];
  if (args.format === "text" && !args.quiet && program.script.title !== "") await print(`${color.bold(program.script.title)}\n`);
  const verdicts: string[] = [];
  const rows: VariantResult[] = [];
  const traces = args.trace === undefined ? undefined : traceFiles(args.trace, variants);
  for (const [n, variant] of variants.entries()) {
    let tracing: Tracing | undefined;
    const result = execute(program, variant, {
      budget,
      ...(traces === undefined && args.stat !== true
        ? {}
        : { tracing: (machine) => (tracing = new Tracing(machine, variant, traces?.[n], args.stat === true)) }),
      detail: args.format === "jsonl" && args.quiet ? "none" : args.format === "jsonl" ? "all" : detail,
      ...(args.format === "jsonl" && !args.quiet
        ? {
            onEvent: (e) => {
              lines.push(jsonLine({ variant: variant.name, ...e }));
              if (lines.length >= 4096) {
                process.stdout.write(`${lines.join("\n")}\n`);
                lines = [];
              }
            },
          }
        : {}),
    });
    passed &&= result.passed;
    rows.push(result);
    if (traces !== undefined && !args.quiet) process.stderr.write(`trace of ${variant.name}: ${traces[n]!.path}\n`);
    const stat = tracing?.result;
    switch (args.format) {
      case "json":
        results.push({
          ...resultJson(result),
          ...(stat === undefined ? {} : { statistics: stat }),
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
        lines.push(jsonLine({ result: { ...resultJson(result), ...(stat === undefined ? {} : { statistics: stat }) } }));
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
      }
    }
  }
  if (args.format === "json")
    await print(
      JSON.stringify(
        { file: script.file, title: program.script.title, sources: program.script.sources, passed, variants: results },
        bigints,
        2,
      ),
    );
  else if (args.format === "text" && args.table) await print([...resultTable(rows), ...failureLines(rows, script.file)].join("\n"));
  else if (args.format === "text") await print(verdicts.join("\n"));
  return passed ? OK : FAILED;
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

function bigints(_key: string, v: unknown): unknown {
  return typeof v === "bigint" ? `0x${BigInt.asUintN(64, v).toString(16)}` : v;
}
