/** `faultline fuzz`: a campaign of random programs, its report, and what it leaves behind in files. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { carryOut, type Means } from "../campaign/campaigns.js";
import { Journal } from "../campaign/journal.js";
import type { Ended } from "../campaign/work.js";
import type { Program } from "../fuzz/program.js";
import { countOf, fuzzWork, type Found, type FuzzSpec, type State } from "../fuzz/work.js";
import type { FuzzWords } from "./commands/fuzz.js";
import { checkCpu, compileScript, eraNamed, execute, selectVariants, settingOf } from "./execute.js";
import { commaSeparated } from "./options.js";
import { FAILED, INTERRUPTED, OK, UsageError } from "./status.js";
import { count, palette, print } from "./terminal.js";
import { FilesBeside } from "./writefile.js";

const DEFAULT_RUNS = 2000;
/** Programs of an earlier corpus that a new campaign begins with. */
const MOST_PROGRAMS = 500;

export async function fuzzCommand(o: FuzzWords, json: boolean): Promise<number> {
  const means = meansOf(o);
  const spec = specOf(o);
  const { state, ended } = await carryOut(fuzzWork, spec, means);
  const beside = new FilesBeside();
  const files = save(o.corpus, state, beside);
  // What is not written a resumed campaign writes.
  if (o.corpus !== undefined && ended === "complete" && beside.whole) beside.attempt(() => Journal.remove(o.corpus!));
  const report = reportOf(spec, state, ended, files);
  if (json) await print(JSON.stringify({ ...report, ...beside.error }, undefined, 2));
  else await text(report);
  beside.throwIfAny();
  if (ended === "interrupted") return INTERRUPTED;
  return report.failures.length > 0 ? FAILED : OK;
}

/** Who does the work, how long, and where it is kept. */
export function meansOf(o: FuzzWords): Means {
  if (o.resume && o.corpus === undefined) throw new UsageError("--resume needs --corpus: the folder that the campaign is in");
  return {
    jobs: o.jobs,
    resume: o.resume,
    ...(o.queue === undefined ? {} : { queue: o.queue }),
    ...(o.time === undefined ? {} : { time: o.time }),
    ...(o.corpus === undefined ? {} : { folder: o.corpus }),
  };
}

export function cpusOf(o: FuzzWords): string[] {
  const cpus = o.cpu === undefined ? ["max"] : o.cpu.flatMap((c) => (/,[+-]|=/.test(c) ? [c] : commaSeparated(c)));
  for (const c of cpus) checkCpu(c);
  return cpus;
}

function specOf(o: FuzzWords): FuzzSpec {
  if (o.kernel?.length === 0) throw new UsageError("--kernel names no era: expected names such as v5.5,v6.12");
  const kernels = (o.kernel ?? ["v6.12"]).map(eraNamed);
  const cpus = cpusOf(o);
  const asked = {
    kernels,
    cpus,
    set: Object.fromEntries((o.set ?? []).map(settingOf)),
    seed: o.seed,
    runs: o.runs ?? (o.time === undefined ? DEFAULT_RUNS : 0),
  };
  if (o.resume) {
    const before = Journal.spec(o.corpus!) as FuzzSpec | undefined;
    if (before === undefined) throw new UsageError(`${o.corpus!} holds no campaign that could be resumed`);
    const { programs, ...rest } = before;
    if (JSON.stringify(rest) !== JSON.stringify(asked))
      throw new UsageError(`${o.corpus!} holds a campaign with other options: --resume takes the same`);
    return { ...asked, programs };
  }
  return { ...asked, programs: o.corpus === undefined ? [] : readPrograms(join(o.corpus, "programs")) };
}

function readPrograms(folder: string): Program[] {
  if (!existsSync(folder)) return [];
  const files = readdirSync(folder)
    .filter((f) => f.endsWith(".json"))
    .sort();
  return files.slice(0, MOST_PROGRAMS).map((f) => {
    try {
      return JSON.parse(readFileSync(join(folder, f), "utf8")) as Program;
    } catch (e) {
      throw new UsageError(`${join(folder, f)} is no program of a corpus: ${(e as Error).message}`);
    }
  });
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 12);

/** The failing scripts, and the corpus where it is kept. @returns the file of each failure */
function save(folder: string | undefined, state: State, beside: FilesBeside): ReadonlyMap<Found, string | null> {
  const files = new Map<Found, string | null>();
  const scripts = folder === undefined ? "." : join(folder, "failures");
  if (folder !== undefined)
    for (const p of state.corpus.programs) {
      const body = `${JSON.stringify(p)}\n`;
      const file = join(folder, "programs", `${digest(body)}.json`);
      if (!existsSync(file)) beside.write(file, body);
    }
  for (const f of state.found.values()) {
    // Without a folder only what nobody can explain is written: into the folder that one is in.
    if (folder === undefined && f.explanation.length > 0) continue;
    files.set(f, beside.write(join(scripts, `fuzz-${digest(f.script)}.guest`), f.script));
  }
  return files;
}

/** Whether the script fails when it is run as anybody runs it. */
function replays(f: Found): boolean {
  const program = compileScript({ file: "fuzz.guest", source: f.script });
  return selectVariants(program, {}).some((v) => !execute(program, v, { detail: "none" }).passed);
}

function reportOf(spec: FuzzSpec, state: State, ended: Ended, files: ReadonlyMap<Found, string | null>) {
  const all = [...state.found.values()].sort((a, b) => a.unit - b.unit || a.number - b.number);
  const entry = (f: Found) => ({
    kernel: f.kernel,
    cpu: f.cpu,
    kind: f.kind,
    text: f.text,
    times: countOf(state, f),
    unit: f.unit,
    number: f.number,
    steps: f.steps,
    explanation: f.explanation,
    replays: replays(f),
    file: files.get(f) ?? null,
    script: f.script,
  });
  const { kernels, cpus, set, seed } = spec;
  return {
    kernels,
    cpus,
    set,
    seed,
    ended,
    programs: state.runs,
    steps: state.steps,
    events: state.events,
    features: state.corpus.features,
    corpus: state.corpus.programs.length,
    failures: all.filter((f) => f.explanation.length === 0).map(entry),
    kernelBugs: all.filter((f) => f.explanation.length > 0).map(entry),
  };
}

async function text(r: ReturnType<typeof reportOf>): Promise<void> {
  const color = palette();
  await print(
    `${r.kernels.join(", ")} on ${r.cpus.join(", ")}, seed ${r.seed}${r.ended === "complete" ? "" : `, ended by ${r.ended === "time" ? "time" : "an interrupt"}`}`,
  );
  await print(
    `${count(r.programs, "program")}, ${count(r.steps, "step")}, ${count(r.events, "event")}; ${count(r.features, "feature")} touched, ${count(r.corpus, "program")} in the corpus`,
  );
  if (r.kernelBugs.length > 0) await print("\nbugs that these kernels had, fixed since:");
  for (const f of r.kernelBugs) {
    await print(`  ${f.kernel} ${f.cpu}: ${f.kind}, ${count(f.times, "time")}${f.file === null ? "" : `: ${f.file}`}`);
    for (const e of f.explanation) await print(`      gone with ${e.decision}=${e.to} instead of ${e.from}: ${e.source}`);
  }
  if (r.failures.length > 0) await print(color.red("\nfailures that no decision explains:"));
  for (const f of r.failures) {
    await print(
      `  ${f.kernel} ${f.cpu}: ${f.kind}, ${count(f.times, "time")}, ${f.steps[0]} steps made ${f.steps[1]}${f.file === null ? "" : `: ${f.file}`}`,
    );
    await print(`      ${f.text}${f.replays ? "" : " (the script alone does not show it)"}`);
  }
  await print(r.failures.length === 0 ? color.green("\nno failure") : color.red(`\n${count(r.failures.length, "kind")} of failure`));
}
