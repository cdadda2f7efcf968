/** `faultline run`: a script, all of its variants or those that the options select. */
import { causes } from "../guest/cause.js";
import { jsonLine } from "../trace/json.js";
import type { Detail } from "../trace/story.js";
import { compileScript, execute, selectVariants, type Selection } from "./execute.js";
import { loadScript } from "./load.js";
import { renderResult, resultJson, verdictLine, type RenderOptions } from "./render.js";
import { FAILED, OK } from "./status.js";
import { palette, print } from "./terminal.js";

export interface RunArguments extends Selection {
  readonly format: "text" | "json" | "jsonl";
  readonly quiet: boolean;
  readonly explain: boolean;
  readonly events?: Detail;
  readonly maxSteps?: number;
  readonly maxMemory?: number;
}

export async function runCommand(file: string, args: RunArguments): Promise<number> {
  const script = loadScript(file);
  const program = compileScript(script);
  const variants = selectVariants(program, args);
  const detail: Detail = args.events ?? (args.explain ? "explain" : "story");
  const color = palette();
  const render: RenderOptions = {
    detail: args.quiet ? "none" : detail,
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
  for (const variant of variants) {
    const result = execute(program, variant, {
      budget,
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
    switch (args.format) {
      case "json":
        results.push({
          ...resultJson(result),
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
        lines.push(jsonLine({ result: resultJson(result) }));
        await print(lines.join("\n"));
        lines = [];
        break;
      case "text": {
        const text = renderResult(result, script.file, script.source, render);
        if (text.length > 0) await print(text.join("\n"));
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
  else if (args.format === "text") await print(verdicts.join("\n"));
  return passed ? OK : FAILED;
}

function bigints(_key: string, v: unknown): unknown {
  return typeof v === "bigint" ? `0x${BigInt.asUintN(64, v).toString(16)}` : v;
}
