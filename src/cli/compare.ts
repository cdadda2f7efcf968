/**
 * `faultline compare`: one script under several kernels, or with several values of one decision; what is
 * the same once, the first difference marked, and every leaf of stage 2 at the end.
 */
import { align } from "./difference.js";
import { compileScript, eraNamed, execute, selectVariants, type Selection, withCosts } from "./execute.js";
import { compareLeaves, leavesText } from "./leaves.js";
import { loadScript } from "./load.js";
import { paint, renderFailure, resultJson, stepHead, verdictLine, type RenderOptions } from "./render.js";
import { FAILED, OK, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";
import type { VariantConfig } from "../guest/compile.js";
import type { VariantResult } from "../guest/result.js";
import { verdictOf } from "../guest/verdict.js";
import type { Detail } from "../trace/story.js";

export interface CompareArguments extends Selection {
  readonly kernels: readonly string[];
  /** One decision and the values that the runs differ by. */
  readonly vary?: { readonly name: string; readonly values: readonly string[] };
  readonly format: "text" | "json";
  readonly events?: Detail;
  readonly maxSteps?: number;
  readonly maxMemory?: number;
}

export async function compareCommand(file: string, args: CompareArguments): Promise<number> {
  const program = withCosts(compileScript(loadScript(file), args.lets), args.costs);
  const variants = varied(
    chosen(
      program.variants,
      args,
      (kernel) => selectVariants(program, { ...args, kernel })[0]!,
      () => selectVariants(program, args),
    ),
    args,
  );
  if (variants.length < 2)
    throw new UsageError("compare needs at least two runs: --kernels v5.4,v5.5, --set decision=a,b, or a script with two variants");
  const color = palette();
  const detail = args.events ?? "story";
  const options: RenderOptions = { detail, annotate: detail !== "all", width: process.stdout.isTTY ? process.stdout.columns : 0, color };
  const budget = {
    ...(args.maxSteps === undefined ? {} : { steps: args.maxSteps }),
    ...(args.maxMemory === undefined ? {} : { memory: args.maxMemory }),
  };
  // With a decision varied the script's expectations, which are of its own variants, are not judged.
  const results = variants.map(({ config, label }) => judged(execute(program, config, { detail, budget }), label, args));
  const names = results.map((r) => r.variant.name);
  const aligned = align(results, options);
  const first = aligned.findIndex((s) => !s.same);
  const passed = results.every((r) => r.passed);
  const leaves = compareLeaves(results.map((r) => r.leaves));
  if (args.format === "json") {
    const where = first < 0 ? null : aligned[first]!;
    await print(
      JSON.stringify(
        {
          file: program.script.file,
          same: first < 0,
          firstDifference:
            where === null
              ? null
              : {
                  step: first,
                  line: where.steps.find((s) => s !== undefined)!.line,
                  lines: where.lines.map((l) => ({ run: l.which < 0 ? null : names[l.which], text: l.text })),
                },
          stage2: leaves.map((l) => ({ ipa: l.ipa, end: l.end, same: l.same, runs: l.runs.map((v) => v ?? null) })),
          runs: results.map(resultJson),
        },
        (_k, v: unknown) => (typeof v === "bigint" ? `0x${v.toString(16)}` : v),
        2,
      ),
    );
    return passed ? OK : FAILED;
  }
  if (program.script.title !== "") await print(`${color.bold(program.script.title)}\n`);
  const pad = Math.max(...names.map((n) => n.length));
  for (const [i, s] of aligned.entries()) {
    const any = s.steps.find((x) => x !== undefined)!;
    const results_ = new Set(s.steps.map((x) => x?.result));
    if (i === first) await print(color.yellow(`>>> the first difference${"".padEnd(1)}`.trimEnd()));
    await print(color.bold(stepHead(results_.size === 1 ? any : { line: any.line, text: any.text, result: "" }, options.width)));
    for (const l of s.lines)
      await print(
        `  ${(l.which < 0 ? "" : color.yellow(names[l.which]!)).padEnd(l.which < 0 ? pad : pad + color.yellow("").length)}  ${paint(` ${l.text}`, color).trimStart()}`,
      );
    if (results_.size > 1)
      for (const [n, x] of s.steps.entries())
        await print(
          `  ${names[n]!.padEnd(pad)}  ${x === undefined ? "(not reached)" : x.result === "" ? "-> end of the block" : x.result}`,
        );
  }
  await print("");
  if (first < 0) await print(`no difference between ${names.join(" and ")}`);
  for (const r of results) {
    for (const o of r.outcomes)
      if (o.status === "failed") await print(renderFailure(o, program.script.file, program.source, r.variant.name, options).join("\n"));
  }
  if (results.every((r) => r.crash === undefined)) for (const line of leavesText(leaves, names)) await print(line);
  for (const r of results) await print(verdictLine(r, color));
  return passed ? OK : FAILED;
}

interface LabelledRun {
  readonly config: VariantConfig;
  readonly label: string;
}

/** `--set a=b,c`: the first run (or each of `--kernels`) once for every value. It keeps its name for `on` blocks. */
function varied(variants: VariantConfig[], args: CompareArguments): LabelledRun[] {
  const { vary } = args;
  if (vary === undefined) return variants.map((config) => ({ config, label: config.name }));
  const base = args.kernels.length === 0 ? variants.slice(0, 1) : variants;
  return base.flatMap((v) =>
    vary.values.map((value) => ({
      config: { ...v, set: { ...v.set, [vary.name]: value } },
      label: `${base.length > 1 ? `${v.name} ` : ""}${vary.name}=${value}`,
    })),
  );
}

function judged(r: VariantResult, label: string, args: CompareArguments): VariantResult {
  if (args.vary === undefined) return r;
  const verdict = verdictOf(label, r.crash, r.steps, [], r.row);
  return { ...r, variant: { ...r.variant, name: label }, verdict, passed: r.crash === undefined, outcomes: [] };
}

/** `--kernels a,b` names the runs; without it the script's own variants are compared. */
function chosen(
  own: readonly VariantConfig[],
  args: CompareArguments,
  under: (kernel: string) => VariantConfig,
  all: () => VariantConfig[],
): VariantConfig[] {
  if (args.kernels.length === 0) return all();
  return args.kernels.map((k) => {
    const named = own.find((v) => v.name === k);
    return named === undefined ? { ...under(eraNamed(k)), name: k } : under(k);
  });
}
