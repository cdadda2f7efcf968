/** `faultline explain`: one outcome of a run, its chain in prose and table, and what would have answered otherwise. */
import type { Access } from "../inspect/accesses.js";
import { accesses, isNotable } from "../inspect/accesses.js";
import { table } from "../inspect/columns.js";
import { accessOf, explain, type Explanation } from "../inspect/explain.js";
import { stepOf } from "../inspect/recorded.js";
import type { WhatIf } from "../inspect/whatif.js";
import type { EventRecord } from "../sim/events.js";
import { shown } from "../trace/story.js";
import { eventLine } from "../trace/text.js";
import { recordScript, type OneVariant, type RecordedScript } from "./recorded.js";
import { OK, UsageError } from "./status.js";
import { palette, print, type Palette } from "./terminal.js";

export interface ExplainArguments extends OneVariant {
  readonly step?: number;
  readonly list: boolean;
  readonly check: boolean;
  readonly format: "text" | "json";
}

/** Lines of a list. */
const MOST = 40;

export async function explainCommand(file: string, args: ExplainArguments): Promise<number> {
  const run = recordScript(file, args);
  const all = accesses(run);
  const outcomes = all.filter(isNotable);
  if (args.step !== undefined && !run.events.has(args.step))
    throw new UsageError(
      `there is no event ${args.step}: ${run.events.first > run.timeline.first ? "of this long run the events" : "the run has the events"} ${run.events.first} to ${run.events.last}${run.events.first > run.timeline.first ? " are kept" : ""}`,
    );
  const chosen = args.step !== undefined ? accessOf(run, args.step) : outcomes.at(-1);
  if (args.list || (chosen === undefined && args.step === undefined)) return list(run, all, outcomes, args);
  if (chosen === undefined) return statement(run, args.step!, args);
  const e = explain(run, chosen, { check: args.check, tick: progress() });
  if (args.format === "json") {
    await print(
      JSON.stringify(
        { file: run.file, variant: run.variant.name, kernel: run.variant.kernel, ...e, whatIf: e.whatIf ?? null },
        undefined,
        2,
      ),
    );
    return OK;
  }
  await print(text(run, e, outcomes, args).join("\n"));
  return OK;
}

function heading(run: RecordedScript): string {
  const more = run.others.length === 0 ? "" : ` (--kernel for ${run.others.join(", ")})`;
  return `${run.file}, ${run.variant.name}${more}`;
}

function text(run: RecordedScript, e: Explanation, outcomes: readonly Access[], args: ExplainArguments): string[] {
  const color = palette();
  const { access } = e;
  const out = [color.dim(`${heading(run)}: events ${access.from} to ${access.to}`), color.bold(capital(access.outcome)), ""];
  out.push(...e.prose, "", color.bold("The chain"));
  out.push(...table(e.chain.map((l) => [l.seq < 0 ? "" : String(l.seq), l.what, l.answer, l.source])).map((l) => `  ${l}`.trimEnd()));
  if (e.whatIf !== undefined) out.push("", ...otherwise(e.whatIf, color));
  if (e.hints.length > 0)
    out.push("", color.bold("What the VMM or the guest can do (by the kernel's rules; not run)"), ...e.hints.map((h) => `  ${h}`));
  const others = outcomes.filter((o) => o !== access && o.from !== access.from);
  if (args.step === undefined && others.length > 0)
    out.push("", color.dim(`${others.length} more outcome${others.length === 1 ? "" : "s"}: --list shows them, --step explains one`));
  return out;
}

const capital = (s: string): string => `${s[0]!.toUpperCase()}${s.slice(1)}`;

function otherwise(w: WhatIf, color: Palette): string[] {
  const out = [color.bold("What answers under other releases (each was run)")];
  const names = (kernels: readonly string[]): string => (kernels.length < 3 ? kernels.join(", ") : `${kernels[0]!} … ${kernels.at(-1)!}`);
  out.push(...table(w.kernels.map((k) => [k.same ? "*" : " ", names(k.kernels), k.outcome])).map((l) => `  ${l}`));
  out.push("", color.bold(`What a single decision changes (${w.tried} were run)`));
  if (w.decisions.length === 0) out.push("  none of them changes the outcome");
  out.push(...table(w.decisions.map((d) => [`--set ${d.name}=${d.value}`, d.outcome])).map((l) => `  ${l}`));
  if (w.skipped > 0) out.push(color.dim(`  ${w.skipped} runs were left out: the script is long`));
  return out;
}

/** A line on stderr that counts the runs, on a terminal only. */
function progress(): (done: number, total: number) => void {
  if (!process.stderr.isTTY) return () => undefined;
  return (done, total) => void process.stderr.write(done + 1 >= total ? "\r\x1b[K" : `\r${done + 1} of ${total} runs`);
}

async function list(run: RecordedScript, all: readonly Access[], outcomes: readonly Access[], args: ExplainArguments): Promise<number> {
  // Every fault while that is a list to read; of a long run what is notable.
  const shownOnes = all.length <= MOST || outcomes.length === 0 ? all : outcomes;
  if (args.format === "json") {
    await print(
      JSON.stringify({ file: run.file, variant: run.variant.name, kernel: run.variant.kernel, outcomes: shownOnes }, undefined, 2),
    );
    return OK;
  }
  const out = [
    `${heading(run)}: ${outcomes.length > 0 ? `${outcomes.length} notable outcomes` : "nothing failed; every fault was served"}`,
  ];
  out.push(
    ...table(
      shownOnes
        .slice(0, MOST)
        .map((a) => [isNotable(a) ? "*" : " ", `--step ${a.fault >= 0 ? a.fault : a.end}`, a.agent, `line ${a.line}`, a.outcome]),
    ).map((l) => `  ${l}`),
  );
  if (shownOnes.length > MOST) out.push(`  … and ${shownOnes.length - MOST} more`);
  if (shownOnes.length === 0) out.push("  no guest access left the guest");
  if (run.events.first > run.timeline.first) out.push(`  (of this long run only the events from ${run.events.first} on are kept)`);
  await print(out.join("\n"));
  return OK;
}

/** An event of no guest access: the statement that it belongs to, and what was decided in it. */
async function statement(run: RecordedScript, seq: number, args: ExplainArguments): Promise<number> {
  const e = run.events.at(seq);
  const step = stepOf(run.result, e.agent, seq);
  const from = run.result.steps.findLast((s) => s.agent === e.agent && s.to <= seq)?.to ?? run.events.first;
  const to = step === undefined ? run.events.last : step.to - 1;
  const events: EventRecord[] = [];
  for (let n = from; n <= to && events.length < 2000; n++) {
    const x = run.events.at(n);
    if (n === seq || (x.agent === e.agent && shown(x.event, "explain") && !(x.event === "dsb" && x["completed"] === 0))) events.push(x);
  }
  if (args.format === "json") {
    await print(
      JSON.stringify(
        {
          file: run.file,
          variant: run.variant.name,
          kernel: run.variant.kernel,
          event: e,
          statement: step?.text ?? null,
          line: step?.line ?? null,
          events,
        },
        undefined,
        2,
      ),
    );
    return OK;
  }
  const near = events.findIndex((x) => x.seq === seq);
  const part = events.slice(Math.max(0, near - 20), near + 20);
  const out = [
    `${heading(run)}: event ${seq} belongs to no guest access, but to what ${e.agent} did`,
    step === undefined
      ? "(before the script's first statement)"
      : `line ${step.line}: ${step.text}${step.result === "" ? "" : `  ${step.result}`}`,
    "",
    ...part.map((x) => `${x.seq === seq ? ">" : " "} ${eventLine(x, { width: 0, annotate: true })}`),
  ];
  await print(out.join("\n"));
  return OK;
}
