/** `faultline report`: runs the variants with history and writes the page. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Program, VariantConfig } from "../guest/compile.js";
import { record } from "../inspect/recorded.js";
import { collect } from "../report/collect.js";
import { pageHtml, type PageParts } from "../report/html.js";
import { serve } from "../report/serve.js";
import { TraceFile } from "../trace/tracefile.js";
import { compileScript, selectVariants, type Selection } from "./execute.js";
import { loadScript } from "./load.js";
import { budgetOf } from "./recorded.js";
import { FAILED, OK, UsageError, unknownName } from "./status.js";
import { print } from "./terminal.js";
import { unwritable } from "./writefile.js";

declare const __FAULTLINE_VERSION__: string | undefined;
const VERSION = typeof __FAULTLINE_VERSION__ === "string" ? __FAULTLINE_VERSION__ : "0.0.0-source";

export interface ReportArguments extends Selection {
  readonly output: string;
  readonly open: boolean;
  readonly kernels: readonly string[];
  readonly variants: readonly string[];
  readonly format: "text" | "json";
  readonly maxSteps?: number;
  readonly maxMemory?: number;
}

/** Runs of one page, unless more are asked for by name. */
const USUAL_RUNS = 4;
/** Runs that one page can have. */
const MOST_RUNS = 16;

export async function reportCommand(file: string, args: ReportArguments): Promise<number> {
  const script = loadScript(file);
  const program = compileScript(script);
  const { chosen, left } = variantsOf(program, args);
  const parts = pageParts();
  const { data, html } = writing(args.output, () => {
    const found = collect(
      chosen.map((v) => record(program, v, budgetOf(args))),
      { file: script.file, version: VERSION },
    );
    return { data: found, html: pageHtml(found, parts) };
  });
  const runs = data.runs.map((r) => ({
    name: r.name,
    kernel: r.kernel,
    passed: r.passed,
    events: r.events.kind.length,
    places: r.moments.seq.length,
  }));
  if (args.format === "json")
    await print(JSON.stringify({ file: script.file, output: args.output, bytes: Buffer.byteLength(html), runs }, undefined, 2));
  else {
    const more = left.length === 0 ? "" : `; without ${left.join(", ")} (--variant chooses)`;
    await print(
      [
        `${args.output}: ${script.file}${more}`,
        ...runs.map((r) => `  ${r.name}: ${r.events} events, ${r.places} places of the slider${r.passed ? "" : "; an expectation failed"}`),
      ].join("\n"),
    );
  }
  if (args.open) await open(html);
  return runs.every((r) => r.passed) ? OK : FAILED;
}

/** @throws UsageError for a name that is none, or too many */
function variantsOf(program: Program, args: ReportArguments): { chosen: VariantConfig[]; left: string[] } {
  const names = program.variants.map((v) => v.name);
  for (const v of args.variants) if (!names.includes(v)) throw unknownName("variant", v, names);
  const of =
    args.variants.length === 0 ? program : { ...program, variants: program.variants.filter((v) => args.variants.includes(v.name)) };
  const found =
    args.kernels.length === 0 ? selectVariants(of, args) : args.kernels.flatMap((kernel) => selectVariants(of, { ...args, kernel }));
  const all = found.filter((v, n) => found.findIndex((w) => w.name === v.name) === n);
  if (all.length > MOST_RUNS && args.kernels.length + args.variants.length > 0)
    throw new UsageError(`a page has ${MOST_RUNS} runs at most, these are ${all.length}: choose with --variant`);
  const most = args.kernels.length + args.variants.length > 0 ? MOST_RUNS : USUAL_RUNS;
  return { chosen: all.slice(0, most), left: all.slice(most).map((v) => v.name) };
}

/** The page's program and style, which the build puts beside the command. */
function pageParts(): PageParts {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    const script = join(dir, "report/page.js");
    if (existsSync(script)) return { script: readFileSync(script, "utf8"), style: readFileSync(join(dir, "report/page.css"), "utf8") };
    if (dirname(dir) === dir) throw new UsageError("the page that belongs to this command is not there: is the installation complete?");
  }
}

/** Opens the file before the work begins, and leaves none where it fails. @throws UsageError if the file cannot be written */
function writing<T extends { readonly html: string }>(path: string, make: () => T): T {
  const refused = (e: unknown): UsageError => new UsageError(`--output: ${unwritable(path, e)}`, { file: path });
  let file: TraceFile;
  try {
    file = new TraceFile(path);
  } catch (e) {
    throw refused(e);
  }
  try {
    const made = make();
    try {
      file.write(Buffer.from(made.html));
      file.commit();
    } catch (e) {
      throw refused(e);
    }
    return made;
  } catch (e) {
    file.abandon();
    throw e;
  }
}

async function open(html: string): Promise<void> {
  const server = await serve(html);
  await print(`${server.url}  (Ctrl-C ends it)`);
  await server.ended;
}
