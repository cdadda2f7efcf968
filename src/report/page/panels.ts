/** The TLBs, the chosen event with its explanation, and the events around it. */
import { h, type ComponentChild } from "preact";
import type { ExplanationRow } from "../data.js";
import { timeText } from "./draw.js";
import { hex, rowsAt, sizeText, type Run } from "./model.js";

/** Entries that are listed, the stale ones first. */
const MOST_TLB_ROWS = 80;

export function TlbTable({ run, moment }: { readonly run: Run; readonly moment: number }): ComponentChild {
  const rows = rowsAt(run.data.moments.tlb, moment);
  if (rows.length === 0) return h("p", { class: "quiet" }, "The TLBs are empty.");
  const stale = rows.filter((r) => r.stale).length;
  const [some, more] =
    rows.length <= MOST_TLB_ROWS
      ? [rows, 0]
      : [[...rows].sort((a, b) => Number(b.stale) - Number(a.stale)).slice(0, MOST_TLB_ROWS), rows.length - MOST_TLB_ROWS];
  const heads = ["CPU", "TLB", "context", "VA", "IPA", "PA", "size", "entry", "tables now"];
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "tlb" },
      h(
        "caption",
        null,
        stale === 0 ? "No entry is stale." : h("strong", { class: "bad" }, `${stale} ${stale === 1 ? "entry is" : "entries are"} stale.`),
      ),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          heads.map((t) => h("th", { scope: "col" }, t)),
        ),
      ),
      h(
        "tbody",
        null,
        some.map((r) =>
          h(
            "tr",
            { class: r.stale ? "stale" : "" },
            h("td", null, r.cpu),
            h("td", null, r.kind),
            h("td", null, r.context),
            h("td", null, r.va),
            h("td", null, r.ipa < 0 ? "" : hex(r.ipa)),
            h("td", null, r.pa < 0 ? "" : hex(r.pa)),
            h("td", null, sizeText(r.size)),
            h("td", null, r.what),
            h("td", null, r.stale ? `STALE: ${r.now}` : r.now),
          ),
        ),
      ),
    ),
    more === 0 ? null : h("p", { class: "quiet" }, `and ${more} more entries; the stale ones are listed first`),
  );
}

export interface ChosenProps {
  readonly run: Run;
  readonly seq: number;
  readonly file: string;
  choose(seq: number): void;
}

export function Chosen(props: ChosenProps): ComponentChild {
  const { run, seq, file } = props;
  if (!run.has(seq)) return h("section", { class: "chosen" }, h("p", { class: "quiet" }, "The run has no event."));
  const { name, doc } = run.kind(seq);
  const step = run.stepOf(seq);
  const explanation = run.explanationOf(seq);
  const tied = run.data.arrows.filter((a) => a.from === seq || a.to === seq);
  return h(
    "section",
    { class: "chosen", "aria-live": "polite" },
    h("h3", null, `Event ${seq}: `, h("code", null, name), ` by ${run.data.agents[run.agent(seq)]!} at ${timeText(run.timeOf(seq))}`),
    h("p", null, h("code", null, run.text(seq))),
    h("p", { class: "quiet" }, doc),
    step === undefined
      ? null
      : h("p", null, `In line ${step.line}: `, h("code", null, step.text), step.result === "" ? null : ` ${step.result}`),
    tied.length === 0
      ? null
      : h(
          "ul",
          { class: "tied" },
          tied.slice(0, 8).map((a) => {
            const other = a.from === seq ? a.to : a.from;
            return h("li", null, a.from === seq ? "causes " : "caused by ", link(run, other, props.choose), ` (${a.what})`);
          }),
        ),
    explanation === undefined ? unexplained(run, seq, file) : explained(run, explanation, props.choose),
    around(run, seq, props.choose),
  );
}

function link(run: Run, seq: number, choose: (seq: number) => void): ComponentChild {
  if (!run.has(seq)) return `event ${seq}`;
  return h("button", { type: "button", class: "link", onClick: () => choose(seq) }, `${seq} ${run.kind(seq).name}`);
}

function unexplained(run: Run, seq: number, file: string): ComponentChild {
  if (run.data.unexplained === 0) return h("p", { class: "quiet" }, "It belongs to no guest access that left the guest.");
  return h(
    "p",
    { class: "quiet" },
    `${run.data.unexplained} accesses of this run are too many to explain here: `,
    h("code", null, `faultline explain ${file} --variant ${run.data.name} --step ${seq}`),
  );
}

function explained(run: Run, e: ExplanationRow, choose: (seq: number) => void): ComponentChild {
  const { prose, chain, hints } = e.told;
  return h(
    "div",
    { class: "explanation" },
    h("p", { class: e.notable ? "outcome bad" : "outcome" }, `${e.outcome[0]?.toUpperCase() ?? ""}${e.outcome.slice(1)}`),
    h(
      "ol",
      { class: "prose" },
      prose.map((p) => h("li", null, p)),
    ),
    h(
      "details",
      { open: true },
      h("summary", null, "the chain: what was asked, what answered, where it is written"),
      h(
        "div",
        { class: "scroll" },
        h(
          "table",
          null,
          h(
            "thead",
            null,
            h(
              "tr",
              null,
              ["event", "what", "answer", "source"].map((t) => h("th", { scope: "col" }, t)),
            ),
          ),
          h(
            "tbody",
            null,
            chain.map(([seq, what, answer, source]) =>
              h(
                "tr",
                null,
                h("td", { class: "short" }, seq < 0 ? "" : link(run, seq, choose)),
                h("td", { class: "short" }, what),
                h("td", null, answer),
                h("td", null, source),
              ),
            ),
          ),
        ),
      ),
    ),
    hints.length === 0
      ? null
      : h(
          "ul",
          { class: "hints", "aria-label": "what the VMM or the guest can do" },
          hints.map((t) => h("li", null, t)),
        ),
  );
}

const AROUND = 8;

function around(run: Run, seq: number, choose: (seq: number) => void): ComponentChild {
  const rows: ComponentChild[] = [];
  for (let s = Math.max(seq - AROUND, run.first); s <= Math.min(seq + AROUND, run.last); s++)
    rows.push(
      h(
        "li",
        { class: s === seq ? "now" : "", "aria-current": s === seq ? "true" : undefined },
        link(run, s, choose),
        h("span", { class: "quiet" }, ` ${run.data.agents[run.agent(s)]!}  `),
        run.text(s),
      ),
    );
  return h("details", { class: "around" }, h("summary", null, "events around it"), h("ol", null, rows));
}
