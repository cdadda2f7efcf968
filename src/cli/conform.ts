/** `faultline conform`: replays recordings and says how many observations the emulator reproduces. */
import { existsSync } from "node:fs";
import { carryOut, type Means } from "../campaign/campaigns.js";
import { recordingFiles, regressions, toBaseline, type Baseline, type ConformResult } from "../conform/conform.js";
import { conformReport, conformWork } from "../conform/work.js";
import { findEra } from "../eras.js";
import { checkCpu, eraNamed } from "./execute.js";
import { checkFile, readText } from "./readfile.js";
import { FAILED, INTERRUPTED, OK, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";

/** MiB of a recording, and of a baseline. */
const LARGEST = 16;

export interface ConformArguments {
  readonly format: "text" | "json";
  readonly kernel?: string;
  readonly cpu?: string;
  readonly baseline?: string;
  /** Text: only the recordings that differ, and the totals. */
  readonly quiet: boolean;
  readonly means: Means;
}

export async function conformCommand(paths: readonly string[], args: ConformArguments): Promise<number> {
  for (const p of paths) if (!existsSync(p)) throw new UsageError(`there is no file or folder "${p}"`, { file: p });
  if (args.cpu !== undefined) checkCpu(args.cpu);
  const files = recordingFiles(paths);
  if (files.length === 0) throw new UsageError("no recording (*.rec) under the paths given");
  for (const f of files) checkFile(f, LARGEST);
  const baseline = args.baseline === undefined ? undefined : readBaseline(args.baseline);
  const spec = {
    files,
    ...(args.kernel === undefined ? {} : { kernel: eraNamed(args.kernel) }),
    ...(args.cpu === undefined ? {} : { cpu: args.cpu }),
  };
  const { state, ended } = await carryOut(conformWork, spec, { ...args.means, jobs: Math.min(args.means.jobs, files.length) });
  const result = conformReport(state);
  if (args.format === "json") await print(JSON.stringify(result, undefined, 2));
  else await text(result, args.quiet);
  if (ended === "interrupted") return INTERRUPTED;
  if (baseline === undefined) return result.matched === result.total ? OK : FAILED;
  const worse = regressions(result, baseline);
  if (args.format === "text") for (const w of worse) await print(`worse than the baseline: ${w.key}: ${w.was} -> ${w.now}`);
  return worse.length === 0 ? OK : FAILED;
}

function readBaseline(file: string): Baseline {
  const text = readText(file, LARGEST);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw new UsageError(`the baseline ${file} cannot be read: ${(e as Error).message}`, { file });
  }
  const recordings = (value as { recordings?: unknown } | null)?.recordings;
  if (Array.isArray(recordings)) return toBaseline(value as ConformResult);
  if (typeof value !== "object" || value === null || Object.values(value).some((v) => typeof v !== "number"))
    throw new UsageError(`${file} is no baseline: expected an object of numbers`, { file, expected: "an object of numbers" });
  return value as Baseline;
}

async function text(result: ConformResult, quiet: boolean): Promise<void> {
  const color = palette();
  const kernels = new Map<string, { matched: number; total: number }>();
  for (const r of result.recordings) {
    const key = `${findEra(r.kernel)?.name ?? r.kernel}/${r.cpu}`;
    const sum = kernels.get(key) ?? { matched: 0, total: 0 };
    kernels.set(key, { matched: sum.matched + r.matched, total: sum.total + r.total });
    const whole = r.matched === r.total;
    if (whole && quiet) continue;
    await print(
      `${whole ? color.green("ok  ") : color.yellow("diff")} ${String(r.matched).padStart(5)} of ${String(r.total).padEnd(5)} ${r.kernel}/${r.cpu}/${r.scenario}`,
    );
    const d = r.firstDifference;
    if (d === null) continue;
    await print(`     ${r.file}:${d.line}: step ${d.step}: ${d.command}`);
    const rows = Math.max(d.expected.length, d.got.length);
    for (let i = Math.max(0, d.at - 2); i < Math.min(rows, d.at + 4); i++)
      await print(`     ${i === d.at ? ">" : " "} ${(d.expected[i] ?? "").padEnd(64)} | ${d.got[i] ?? ""}`.trimEnd());
  }
  await print("");
  for (const [key, k] of kernels) await print(`${key.padEnd(24)} ${k.matched} of ${k.total}  ${percent(k.matched, k.total)}`);
  await print(color.bold(`${"total".padEnd(24)} ${result.matched} of ${result.total}  ${percent(result.matched, result.total)}`));
}

function percent(n: number, of: number): string {
  return of === 0 ? "-" : `${((100 * n) / of).toFixed(2)} %`;
}
