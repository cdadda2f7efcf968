/** A recorded run as the columns that the page reads: events, slices, arrows, statements, explanations, tables. */
import { accesses, isNotable, type Access } from "../inspect/accesses.js";
import { explain } from "../inspect/explain.js";
import type { Recorded } from "../inspect/recorded.js";
import { eventCatalogue, RECORD_WORDS, type EventRecord } from "../sim/events.js";
import { eventBody } from "../trace/text.js";
import { telling } from "../trace/story.js";
import { Spans } from "../trace/spans.js";
import { taskName } from "../trace/sink.js";
import { TraceTime } from "../trace/tracetime.js";
import type { EventColumns, ExplanationRow, ReportData, RunData, SliceColumns, StepRow } from "./data.js";
import { internedTexts, type Interned } from "./interning.js";
import { Lanes } from "./lanes.js";
import { momentsOf } from "./moments.js";

/** Accesses that are explained, at most: the notable ones first. */
export const MOST_EXPLANATIONS = 200;

export interface ReportHead {
  readonly file: string;
  readonly version: string;
}

export function collect(runs: readonly Recorded[], head: ReportHead): ReportData {
  const names = internedTexts();
  const texts = internedTexts();
  const { script } = runs[0]!.program;
  return {
    ...head,
    title: script.title,
    sources: script.sources,
    kinds: eventCatalogue().map(({ name, doc }) => ({ name, doc })),
    runs: runs.map((run) => runData(run, names, texts)),
    names: names.list,
    texts: texts.list,
  };
}

function runData(run: Recorded, words: Interned<string>, texts: Interned<string>): RunData {
  const { agents } = run.machine.sim;
  const names = Array.from({ length: agents.count }, (_, a) => agents.name(a));
  const { variant, result } = run;
  return {
    name: variant.name,
    kernel: variant.kernel,
    cpu: variant.cpu,
    set: Object.entries(variant.set)
      .map(([k, v]) => `${k}=${v}`)
      .join(" "),
    passed: result.passed,
    verdict: result.verdict,
    agents: names.map((_, a) => taskName(agents, a)),
    ...columns(run, words, texts),
    steps: result.steps.map((s): StepRow => ({ line: s.line, agent: names.indexOf(s.agent), text: s.text, result: s.result, to: s.to })),
    ...explanations(run, names),
    moments: momentsOf(run),
  };
}

/** Events, slices and arrows, in one reading of the run. */
function columns(
  run: Recorded,
  names: Interned<string>,
  texts: Interned<string>,
): { events: EventColumns; slices: SliceColumns; arrows: RunData["arrows"] } {
  const { events, machine, result } = run;
  const first = Math.max(result.begins, events.first);
  const lanes = new Lanes(names);
  const spans = new Spans(lanes, machine.sim);
  const time = new TraceTime();
  const tellCalls = run.calls.teller(spans.calls, first);
  const record = new Float64Array(RECORD_WORDS);
  const out = { first, wait: [] as number[], agent: [] as number[], kind: [] as number[], text: [] as number[], story: [] as number[] };
  const decoded: EventRecord[] = [];
  let before = -1;
  for (let seq = first; seq <= events.last; seq++) {
    events.copy(seq, record);
    const e = machine.sim.bus.decode(record, 0);
    decoded.push(e);
    lanes.at(e);
    tellCalls(seq);
    spans.take(record, 0, 1);
    const now = time.at(record[2]!, record[1]!);
    out.wait.push(before < 0 ? 0 : now - before);
    before = now;
    out.agent.push(record[2]!);
    out.kind.push(record[3]!);
    out.text.push(texts.of(eventBody(e, { width: 0, annotate: true }).slice(e.event.length).trim().replace(/ {2,}/g, "  ")));
  }
  tellCalls(Infinity);
  spans.finish();
  for (const e of telling(decoded, "story")) out.story.push(e.seq);
  return { events: out, slices: lanes.columns, arrows: lanes.arrows };
}

function explanations(run: Recorded, agents: readonly string[]): { explanations: ExplanationRow[]; unexplained: number } {
  const all = accesses(run).filter((a) => a.from >= run.timeline.first);
  const chosen = new Set<Access>(all.filter(isNotable).slice(0, MOST_EXPLANATIONS));
  for (const a of all) {
    if (chosen.size >= MOST_EXPLANATIONS) break;
    chosen.add(a);
  }
  const rows = all
    .filter((a) => chosen.has(a))
    .map((a): ExplanationRow => {
      const { prose, chain, hints } = explain(run, a, { check: false });
      return {
        agent: agents.indexOf(a.agent),
        from: a.from,
        to: a.to,
        outcome: a.outcome,
        notable: isNotable(a),
        told: { prose, chain: chain.map((l) => [l.seq, l.what, l.answer, l.source] as const), hints },
      };
    });
  return { explanations: rows, unexplained: all.length - rows.length };
}
