/** `faultline explore`: every interleaving of the agents in a script's `par`, invariants asked at every step. */
import { basename } from "node:path";
import { carryOut, type Means } from "../campaign/campaigns.js";
import { progressLine } from "../campaign/progress.js";
import type { Explored, ExploreOptions } from "../explore/explore.js";
import { INVARIANTS } from "../explore/invariants/index.js";
import { exploreWork, underWay, type ExploreSpec, type Tree } from "../explore/work.js";
import { writeSchedule } from "../guest/schedule.js";
import { withName } from "../trace/formats.js";
import { sourceIn } from "../inspect/sources.js";
import { eventBody } from "../trace/text.js";
import { compileScript, hasPar, selectVariants, type Selection } from "./execute.js";
import { loadScript } from "./load.js";
import { BUDGET, FAILED, INTERRUPTED, OK, unknownName, UsageError } from "./status.js";
import { palette, print, type Palette } from "./terminal.js";
import { FilesBeside, writeWhole } from "./writefile.js";

export interface ExploreArguments extends Selection {
  readonly format: "text" | "json";
  readonly means: Means;
  readonly options: ExploreOptions;
  /** Where the schedule of a violation goes, with the variant's name in it where there are several; a name of its own if absent. */
  readonly output?: string;
}

export async function exploreCommand(file: string, args: ExploreArguments): Promise<number> {
  const script = loadScript(file);
  const program = compileScript(script);
  const names = INVARIANTS.map((i) => i.name);
  for (const name of args.options.invariants ?? []) if (!names.includes(name)) throw unknownName("invariant", name, names);
  if (!hasPar(program.script.body)) throw new UsageError(`${script.file} has no par { … } block: there is nothing to interleave`);
  const variants = selectVariants(program, args);
  const spec: ExploreSpec = { file: script.file, source: script.source, variants, options: args.options };
  const line = progressLine();
  underWay.show = line.show;
  const stop = (): void => void (underWay.stop = true);
  process.once("SIGINT", stop);
  const began = performance.now();
  const { state, ended } = await carryOut(exploreWork, spec, args.means);
  process.off("SIGINT", stop);
  line.clear();
  const seconds = (performance.now() - began) / 1000;
  const interrupted = ended === "interrupted" || state.trees.some((t) => t.explored.found.ending === "interrupted");
  const known = state.trees.map((t) => inItsRelease(interrupted ? asFarAs(t) : t.explored));
  const { unit } = underWay;
  const begun = interrupted && unit !== undefined && underWay.known !== undefined ? underWay.known : undefined;
  const violated = known.filter((e) => e.violation !== undefined).length;
  const files = new FilesBeside();
  const schedules = known.map((e) =>
    e.violation === undefined ? null : files.attempt(() => saveSchedule(script.file, e, args.output, violated > 1)),
  );
  if (args.format === "json")
    await print(
      JSON.stringify(
        {
          file: script.file,
          seconds,
          interrupted,
          ...(begun === undefined ? {} : { underWay: { variant: unit!.variant, par: unit!.par, ...numbers(begun) } }),
          variants: known.map((e, n) => jsonOf(e, schedules[n]!)),
          ...files.error,
        },
        undefined,
        2,
      ),
    );
  else {
    const color = palette();
    if (program.script.title !== "") await print(`${color.bold(program.script.title)}\n`);
    const several = known.some((e) => e.par > 0);
    // The same machine: without its decisions and CPU the schedule shows something else, or does not fit.
    const machine = [
      ...(args.cpu === undefined ? [] : [`--cpu ${args.cpu}`]),
      ...Object.entries(args.set ?? {}).map(([decision, value]) => `--set ${decision}=${value}`),
    ];
    for (const [n, e] of known.entries()) {
      const schedule = schedules[n]!;
      const replay = schedule === null ? undefined : [...machine, `--schedule ${schedule}`].join(" ");
      await print(`${textOf(e, several, script.file, replay, args.options, color).join("\n")}\n`);
    }
    if (begun !== undefined)
      await print(
        `${unit!.variant}: interrupted after ${counts(begun)}${unit!.root === undefined ? "" : " of one of its parts"}: no violation so far\n`,
      );
    if (interrupted) await print("interrupted: what is above is what is known\n");
    await print(`${seconds.toFixed(1)} s`);
  }
  files.throwIfAny();
  if (interrupted) return INTERRUPTED;
  if (known.some((e) => e.violation !== undefined)) return FAILED;
  return known.some((e) => e.found.ending !== "complete") ? BUDGET : OK;
}

/** The story with the sources as the explored release has them. */
function inItsRelease(e: Explored): Explored {
  if (e.violation === undefined) return e;
  const of = <P extends { readonly source: string }>(p: P): P => ({ ...p, source: sourceIn(e.kernel, p.source) });
  const story = e.violation.story.map((c) => ({
    ...c,
    passages: c.passages.map(of),
    stops: c.stops === undefined ? undefined : of(c.stops),
  }));
  return { ...e, violation: { ...e.violation, story } };
}

/** A tree of which parts are missing was interrupted. */
function asFarAs({ explored, left }: Tree): Explored {
  return left > 0 && explored.found.ending === "complete" ? { ...explored, found: { ...explored.found, ending: "interrupted" } } : explored;
}

function saveSchedule(file: string, e: Explored, output: string | undefined, several: boolean): string {
  const base = basename(file)
    .replace(/\.guest$/, "")
    .replace(/^<stdin>$/, "stdin");
  const which = `${e.variant}${e.par === 0 ? "" : `.par${e.par + 1}`}`;
  const name = output === undefined ? `${base}.${which}.schedule` : several ? withName(output, which) : output;
  const v = e.violation!;
  const text = writeSchedule({ par: e.par, turns: v.turns }, [
    `${base}, ${e.variant}, the par in line ${e.line}`,
    `${v.invariant}: ${v.what}`,
  ]);
  writeWhole(name, text);
  return name;
}

const number = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

function counts(f: Explored["found"]): string {
  return `${number(f.schedules)} schedules, ${number(f.states)} states, ${number(f.steps)} steps`;
}

/** How far the answer goes. */
function reach(e: Explored, o: ExploreOptions): string {
  const within = o.bound === undefined ? "any number of preemptions" : `bound ${o.bound}`;
  switch (e.found.ending) {
    case "complete":
      return `no violation within ${within}, complete`;
    case "violation":
      return `violation after ${counts(e.found)}`;
    case "interrupted":
      return `no violation so far; interrupted`;
    default: {
      const option = { states: "--max-states", steps: "--max-steps", depth: "--max-depth" }[e.found.ending];
      return `no violation so far, not complete: the budget of ${e.found.ending} is used up; ${option} raises it`;
    }
  }
}

function speed(e: Explored): string {
  const s = e.cpu / 1000;
  return s < 0.05
    ? ""
    : `, ${number(Math.round(e.found.schedules / s))} schedules and ${number(Math.round(e.found.steps / s))} steps per second`;
}

function textOf(e: Explored, several: boolean, file: string, replay: string | undefined, o: ExploreOptions, color: Palette): string[] {
  if (e.line === 0) return [`${e.variant}: its par was not reached`];
  const who = several ? `${e.variant}, the par in line ${e.line}` : e.variant;
  const parts = e.parts > 1 ? ` in ${e.parts} parts,` : "";
  const searched = `  ${counts(e.found)}${parts} in ${(e.cpu / 1000).toFixed(2)} s of processor time${speed(e)}`;
  const v = e.violation;
  const ends = Object.entries(e.outcomes).map(([text, n]) => `  ${number(n).padStart(7)} end state${n === 1 ? " " : "s"}  ${text}`);
  const verdict = (e.found.ending === "complete" ? color.green : color.yellow)(`${who}: ${reach(e, o)}`);
  const between = e.hardware === 0 ? [] : [`  between the agents' steps the hardware has ${e.hardware} of its own`];
  if (v === undefined) return [verdict, ...ends, ...between, searched];
  const out = [
    color.red(`${who}: ${v.invariant} is violated`),
    `  ${v.statement}`,
    `  (${v.source})`,
    "",
    `  ${v.what}`,
    "",
    `  The shortest schedule found, ${v.preemptions} preemption${v.preemptions === 1 ? "" : "s"}:`,
  ];
  for (const [n, c] of v.story.entries()) {
    out.push(
      "",
      color.bold(c.line === 0 ? `  ${n + 1}. hardware (${c.who}): ${c.text}` : `  ${n + 1}. ${c.who}, line ${c.line}: ${c.text}`),
    );
    for (const p of c.passages) {
      if (c.line > 0) out.push(`       ${p.phase.padEnd(34)} ${p.source}`);
      for (const event of p.events) out.push(`           ${eventBody(event, { width: 0, annotate: true })}`);
    }
    if (c.line === 0) continue;
    out.push(
      c.stops === undefined
        ? `       ends (${c.steps} steps)`
        : `       is stopped before ${c.stops.phase} (${c.stops.source}), after ${c.steps} steps`,
    );
  }
  out.push("");
  if (replay !== undefined) out.push(`  Replay: faultline run ${file} --kernel ${e.variant} ${replay}`);
  out.push(searched);
  return out;
}

function numbers({ states, steps, schedules, terminals, depth, rounds }: Explored["found"]): Record<string, number> {
  return { schedules, states, terminals, steps, depth, rounds };
}

function jsonOf(e: Explored, schedule: string | null): Record<string, unknown> {
  return {
    variant: e.variant,
    kernel: e.kernel,
    par: e.par + 1,
    line: e.line,
    agents: e.agents,
    hardware: e.hardware,
    outcomes: e.outcomes,
    ending: e.found.ending,
    parts: e.parts,
    ...numbers(e.found),
    violation: e.violation === undefined ? null : { ...e.violation, schedule },
  };
}

/** `faultline explore --list-invariants`. */
export async function listInvariants(format: "text" | "json"): Promise<number> {
  const list = INVARIANTS.map(({ name, statement, source, onRequest }) => ({ name, statement, source, onRequest: onRequest === true }));
  if (format === "json") await print(JSON.stringify(list, undefined, 2));
  else
    await print(
      list
        .map((i) => `${i.name}${i.onRequest ? " (asked only where --invariants names it)" : ""}\n  ${i.statement}\n  ${i.source}`)
        .join("\n"),
    );
  return OK;
}
