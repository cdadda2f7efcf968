/** The page: which runs are shown, the slider through the steps, and for each run its timeline, map, TLBs and explanation. */
import { h, type ComponentChild } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { ReportData } from "../data.js";
import { alignedSteps, firstDifference, positions, type AlignedStep, type Difference, type Position } from "./align.js";
import type { Mode } from "./draw.js";
import { AddressMap } from "./map.js";
import { Run } from "./model.js";
import { Chosen, TlbTable } from "./panels.js";
import { regions } from "./regions.js";
import { Timeline } from "./timeline.js";

interface Range {
  readonly from: number;
  readonly to: number;
}

/** Statements around the present one that the list shows. */
const STEPS_AROUND = 150;

export function App({ report, words }: { readonly report: ReportData; readonly words: boolean }): ComponentChild {
  const all = useMemo(() => report.runs.map((r) => new Run(report, r)), [report]);
  const [which, setWhich] = useState<readonly number[]>(all.length > 1 ? [0, 1] : [0]);
  const runs = useMemo(() => which.map((n) => all[n]!), [which]);
  const steps = useMemo(() => alignedSteps(runs), [runs]);
  const places = useMemo(() => positions(runs, steps), [runs]);
  const difference = useMemo(() => firstDifference(runs, steps), [runs, words]);
  const where = useMemo(() => regions(runs), [runs]);
  const [mode, setMode] = useState<Mode>("order");
  const start = useMemo(() => beginning(runs, places, difference), [runs]);
  const [place, setPlace] = useState(start.place);
  const at = places[Math.min(place, places.length - 1)]!;
  const [chosen, setChosen] = useState<readonly (number | undefined)[]>(start.chosen);
  const [show, setShow] = useState<readonly (Range | undefined)[]>([]);
  const momentSeq = (r: number, p = at): number => runs[r]!.data.moments.seq[p.moments[r]!] ?? runs[r]!.first;
  const seqOf = (r: number): number => chosen[r] ?? momentSeq(r);

  const goTo = (n: number): void => {
    setPlace(Math.min(Math.max(n, 0), places.length - 1));
    setChosen([]);
  };
  /** An event of one run: the tables of all runs follow to where it is. */
  const choose = (r: number, seq: number): void => {
    const run = runs[r]!;
    const moment = run.momentAt(seq);
    const n = places.findIndex((p) => p.moments[r]! >= moment);
    if (n >= 0) setPlace(n);
    setChosen(runs.map((_, o) => (o === r ? seq : undefined)));
  };
  const showStep = (step: number, seqs?: readonly number[]): void => {
    const s = steps[step];
    if (s === undefined) return;
    const n = places.findLastIndex((p) => p.step <= step);
    setPlace(Math.max(n, 0));
    setChosen(seqs ?? runs.map((_, r) => (s.to[r]! > 0 ? Math.max(s.to[r]! - 1, runs[r]!.first) : undefined)));
    setShow(
      runs.map((run, r) =>
        s.rows[r] === undefined ? undefined : { from: s.from[r]!, to: Math.min(Math.max(s.to[r]!, s.from[r]! + 1), run.last) },
      ),
    );
  };
  const pick = (r: number, n: number): void => {
    const next = r === 0 ? [n, ...which.slice(1).filter((o) => o !== n)] : n < 0 ? [which[0]!] : [which[0]!, n];
    setWhich(next);
    setChosen([]);
    setShow([]);
    setPlace(Number.MAX_SAFE_INTEGER);
  };

  return h(
    "main",
    null,
    h(
      "header",
      null,
      h("h1", null, report.title === "" ? report.file : report.title),
      h("p", { class: "quiet" }, `${report.file}. `, report.sources.join("; ")),
    ),
    h(
      "form",
      { class: "controls", onSubmit: (e: Event) => e.preventDefault() },
      runPicker("run", "run", all, which[0]!, false, (n) => pick(0, n)),
      all.length > 1 ? runPicker("beside", "beside it", all, which[1] ?? -1, true, (n) => pick(1, n), which[0]) : null,
      h(
        "label",
        null,
        "axis ",
        h(
          "select",
          { id: "axis", value: mode, onChange: (e: Event) => setMode((e.currentTarget as HTMLSelectElement).value as Mode) },
          h("option", { value: "order" }, "order of events"),
          h("option", { value: "time" }, "virtual time"),
        ),
      ),
      help(),
    ),
    differenceNote(runs, steps, difference, () => difference !== undefined && showStep(difference.step, difference.seqs)),
    slider(at, place, places.length, steps, runs, goTo),
    h(
      "div",
      { class: runs.length > 1 ? "runs two" : "runs" },
      runs.map((run, r) =>
        h(
          "article",
          { key: run.data.name, class: "run", "data-run": run.data.name },
          h(
            "h2",
            null,
            h("span", { class: run.data.passed ? "good" : "bad" }, run.data.passed ? "\u2713 " : "\u2717 "),
            run.data.verdict === "" ? run.data.name : run.data.verdict,
          ),
          h("p", { class: "quiet" }, `kernel ${run.data.kernel}, CPU ${run.data.cpu}${run.data.set === "" ? "" : `, ${run.data.set}`}`),
          h(Timeline, {
            run,
            mode,
            selected: seqOf(r),
            moment: momentSeq(r),
            difference: difference?.seqs[r] ?? -1,
            show: show[r],
            choose: (seq: number) => choose(r, seq),
          }),
          h("h3", null, `Guest address space after event ${momentSeq(r)}`),
          h(AddressMap, { run, moment: at.moments[r]!, regions: where }),
          h("h3", null, `TLBs after event ${momentSeq(r)}`),
          h(TlbTable, { run, moment: at.moments[r]! }),
          h(Chosen, { run, seq: seqOf(r), file: report.file, choose: (seq: number) => choose(r, seq) }),
        ),
      ),
    ),
    script(steps, at.step, difference, runs, showStep),
    h("footer", { class: "quiet" }, `faultline ${report.version}. Times are virtual: 1 cycle is 1 ns, and it is no cost of real hardware.`),
  );
}

/** Where the page opens: at the first difference, or at the last outcome that somebody would ask about, or at the end. */
function beginning(
  runs: readonly Run[],
  places: readonly Position[],
  d: Difference | undefined,
): { readonly place: number; readonly chosen: readonly number[] } {
  const seqs = d?.seqs ?? runs.map((r) => r.data.explanations.findLast((e) => e.notable)?.to ?? r.last);
  const moment = runs[0]!.momentAt(seqs[0]!);
  const at = d === undefined ? places.findIndex((p) => p.moments[0]! >= moment) : places.findLastIndex((p) => p.step <= d.step);
  return { place: at < 0 ? places.length - 1 : at, chosen: seqs };
}

function runPicker(
  id: string,
  words: string,
  all: readonly Run[],
  value: number,
  none: boolean,
  pick: (n: number) => void,
  without = -1,
): ComponentChild {
  return h(
    "label",
    null,
    `${words} `,
    h(
      "select",
      { id, value: String(value), onChange: (e: Event) => pick(Number((e.currentTarget as HTMLSelectElement).value)) },
      none ? h("option", { value: "-1" }, "nothing") : null,
      all.map((r, n) => (n === without ? null : h("option", { value: String(n) }, r.data.name))),
    ),
  );
}

function help(): ComponentChild {
  const keys: readonly (readonly [string, string])[] = [
    ["\u2190 \u2192", "previous and next event that tells the story (with Shift: any event)"],
    ["\u2191 \u2193", "the lane above, below"],
    ["+ \u2212 0", "zoom in, out, whole run"],
    ["wheel, drag", "zoom (with Ctrl, or when the timeline has the focus), move"],
    ["slider: \u2190 \u2192", "one step back, forward"],
  ];
  return h(
    "details",
    { class: "help" },
    h("summary", null, "keys"),
    h(
      "dl",
      null,
      keys.flatMap(([k, what]) => [h("dt", null, h("kbd", null, k)), h("dd", null, what)]),
    ),
  );
}

function differenceNote(runs: readonly Run[], steps: readonly AlignedStep[], d: Difference | undefined, go: () => void): ComponentChild {
  if (runs.length < 2) return null;
  if (d === undefined) return h("p", { class: "difference" }, "The two runs tell the same story.");
  const s = steps[d.step]!;
  return h(
    "div",
    { class: "difference" },
    h(
      "p",
      null,
      h("strong", { class: "bad" }, "First difference"),
      ` in line ${s.line}: `,
      h("code", null, s.text),
      " ",
      h("button", { type: "button", id: "difference", onClick: go }, "show it"),
    ),
    h(
      "dl",
      null,
      runs.flatMap((r, n) => [
        h("dt", null, r.data.name),
        h("dd", null, h("code", null, d.what[n] === "" ? "nothing more in this statement" : d.what[n]!)),
      ]),
    ),
  );
}

function slider(
  at: { readonly step: number; readonly moments: readonly number[] },
  place: number,
  count: number,
  steps: readonly AlignedStep[],
  runs: readonly Run[],
  goTo: (n: number) => void,
): ComponentChild {
  const s = steps[at.step];
  const now = Math.min(place, count - 1);
  const seqs = runs.map((r, n) => `event ${r.data.moments.seq[at.moments[n]!] ?? r.first}`).join(" and ");
  const words = s === undefined ? "before the script" : `line ${s.line}: ${s.text}`;
  return h(
    "div",
    { class: "slider" },
    h("button", { type: "button", "aria-label": "one step back", onClick: () => goTo(now - 1) }, "\u25c0"),
    h("input", {
      type: "range",
      id: "step",
      min: 0,
      max: count - 1,
      value: now,
      "aria-label": "step of the run",
      "aria-valuetext": `${words}, after ${seqs}`,
      onInput: (e: Event) => goTo(Number((e.currentTarget as HTMLInputElement).value)),
    }),
    h("button", { type: "button", "aria-label": "one step forward", onClick: () => goTo(now + 1) }, "\u25b6"),
    h("output", { for: "step" }, h("code", null, words), h("span", { class: "quiet" }, ` after ${seqs}, place ${now + 1} of ${count}`)),
  );
}

function script(
  steps: readonly AlignedStep[],
  now: number,
  d: Difference | undefined,
  runs: readonly Run[],
  show: (step: number) => void,
): ComponentChild {
  const from = Math.max(now - STEPS_AROUND, 0);
  const part = steps.slice(from, now + STEPS_AROUND);
  return h(
    "section",
    { class: "script" },
    h("h2", null, "Statements"),
    h(
      "ol",
      { start: from + 1 },
      part.map((s, n) => {
        const step = from + n;
        const results = s.rows.map((r) => r?.result ?? "not reached");
        const same = results.every((r) => r === results[0]);
        return h(
          "li",
          { class: step === now ? "now" : "", "aria-current": step === now ? "step" : undefined },
          h("button", { type: "button", class: "link", onClick: () => show(step) }, `${s.line}  ${s.text}`),
          h(
            "span",
            { class: "quiet" },
            " ",
            same ? (results[0] ?? "") : results.map((r, i) => `${runs[i]!.data.name}: ${r === "" ? "ok" : r}`).join("; "),
          ),
          d?.step === step ? h("strong", { class: "bad" }, "  \u2190 first difference") : null,
        );
      }),
    ),
    part.length < steps.length
      ? h("p", { class: "quiet" }, `${steps.length} statements in all; the list shows those around the present one.`)
      : null,
  );
}
