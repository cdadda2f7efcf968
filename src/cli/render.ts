/** A run's result as text: steps with their annotated events, what failed and why, the verdict. */
import { causes, causeText } from "../guest/cause.js";
import { COLUMNS } from "../guest/tally.js";
import type { Outcome, Step, VariantResult } from "../guest/result.js";
import type { Detail } from "../trace/story.js";
import { eventLine, fit, foldedLines, type TextOptions } from "../trace/text.js";
import type { Palette } from "./terminal.js";

export interface RenderOptions extends TextOptions {
  readonly detail: Detail;
  readonly color: Palette;
}

/** `  36  guest vcpu0 { ldr x0, [BAR] }   -> EFAULT` */
export function stepHead(s: Pick<Step, "line" | "text" | "result">, width: number): string {
  return fit(`${String(s.line).padStart(4)}  ${s.text}${s.result === "" ? "" : `  ${s.result}`}`, width);
}

/** The lines of a step's events, repetitions folded. */
export function stepLines(s: Step, options: RenderOptions): string[] {
  const lines = s.told(options.detail).flatMap((l) => foldedLines(l, options));
  if (s.dropped > 0) lines.push(`       \u2026 and ${s.dropped} more events of this step`);
  return lines;
}

export function renderSteps(r: VariantResult, options: RenderOptions): string[] {
  const out: string[] = [];
  for (const s of r.steps) {
    const lines = stepLines(s, options);
    out.push(options.color.bold(stepHead(s, options.width)));
    out.push(...lines.map((l) => paint(l, options.color)));
    if (options.detail === "explain") out.push(...causes(s.events).map((c) => options.color.yellow(`       ${c.agent} ${causeText(c)}`)));
  }
  return out;
}

export function paint(line: string, color: Palette): string {
  if (
    / host_crash |HOST CRASH| stale_read | write_lost | dirty_line_dropped | late_write |BROKEN: | break_before_make_violation | stale_translation /.test(
      line,
    )
  )
    return color.red(line);
  if (/ kvm_guest_fault /.test(line)) return color.cyan(line);
  if (/ inject_| exception_injected | kvm_userspace_exit /.test(line)) return color.yellow(line);
  return line;
}

/** A loop can fail in each turn: so many failures of a run are told in full. */
const MOST_TOLD = 100;

/** What was expected, what happened, the script's line, the events that led to it. */
export function renderFailure(o: Outcome, file: string, source: string, variant: string, options: RenderOptions): string[] {
  const { color } = options;
  const line = source.split("\n")[o.line - 1] ?? "";
  const out = [
    color.red(`${file}:${o.line}:${o.column}: failed on ${variant}: ${o.text === "" ? o.actual : o.text}`),
    `${String(o.line).padStart(5)} | ${line.trimEnd()}`,
    `  expected: ${o.expected}`,
    `  happened: ${o.actual}`,
  ];
  if (o.events.length > 0) out.push("  events that led to it:", ...o.events.map((e) => eventLine(e, options)));
  return out;
}

export function renderResult(r: VariantResult, file: string, source: string, options: RenderOptions): string[] {
  const { color } = options;
  const out: string[] = [];
  if (options.detail !== "none") {
    out.push(color.bold(`${r.variant.name}: kernel ${r.variant.kernel}, CPU ${r.variant.cpu}${setText(r.variant.set)}`));
    out.push(...renderSteps(r, options), "");
  }
  const failed = r.outcomes.filter((o) => o.status === "failed");
  for (const o of failed.slice(0, MOST_TOLD)) out.push(...renderFailure(o, file, source, r.variant.name, options), "");
  if (failed.length > MOST_TOLD)
    out.push(color.red(`… and ${failed.length - MOST_TOLD} more failed on ${r.variant.name}; --format json has them all`), "");
  if (r.unknown.length > 0) out.push(color.yellow(`${r.variant.name}: asked without a known source: ${r.unknown.join(", ")}`));
  return out;
}

/**
 * The rows of several runs as one table in plain text, to be pasted into a mail: quantities down and
 * variants across, or, where that is too wide, a row for each variant. "–": not in this variant.
 */
export function resultTable(results: readonly VariantResult[]): string[] {
  const labels: string[] = [];
  for (const r of results) for (const c of r.row) if (!labels.includes(c.label)) labels.push(c.label);
  // What the script reports, memory writes by size, what every run has, cycles: however few variants have counted it.
  const size = (l: string): number => Number(/^MWr ([0-9]+) B$/.exec(l)?.[1] ?? -1);
  const writes = labels.filter((l) => size(l) >= 0).sort((a, b) => size(a) - size(b));
  const own = labels.filter((l) => !ALWAYS.includes(l) && size(l) < 0);
  const rows = [...own, ...writes, ...ALWAYS.filter((l) => labels.includes(l))];
  const cell = (r: VariantResult, l: string): string => r.row.find((c) => c.label === l)?.text ?? (COUNTED.has(l) ? "0" : "–");
  const down = [["", ...results.map((r) => r.variant.name)], ...rows.map((l) => [l, ...results.map((r) => cell(r, l))])];
  if (columnWidths(down).reduce((a, b) => a + b + 2, -2) <= MAIL_WIDTH) return aligned(down);
  // Too wide for a mail: a row for each variant, letters for the quantities, and what they stand for below.
  const letter = (i: number): string => String.fromCharCode(97 + (i % 26)).repeat(1 + Math.floor(i / 26));
  const rows_ = results.map((r) => [r.variant.name, ...rows.map((l) => cell(r, l))]);
  return [...aligned([["", ...rows.map((_, i) => letter(i))], ...rows_]), "", ...rows.map((l, i) => `${letter(i)}  ${l}`)];
}
/** Characters of a line that a mail reader shows without wrapping a quotation of it. */
const MAIL_WIDTH = 76;
const ALWAYS = [...COLUMNS.map((c) => c.label), "cycles"];
const COUNTED = new Set(COLUMNS.map((c) => c.label));

function columnWidths(t: readonly (readonly string[])[]): number[] {
  return t[0]!.map((_, i) => Math.max(...t.map((row) => row[i]!.length)));
}
function aligned(t: readonly (readonly string[])[]): string[] {
  const widths = columnWidths(t);
  return t.map((row) =>
    row
      .map((c, i) => (i === 0 ? c.padEnd(widths[i]!) : c.padStart(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
}

/** What failed, a line each. */
export function failureLines(results: readonly VariantResult[], file: string): string[] {
  return results.flatMap((r) =>
    r.outcomes
      .filter((o) => o.status === "failed")
      .map((o) => `${file}:${o.line}:${o.column}: failed on ${r.variant.name}: ${o.text === "" ? o.actual : `${o.text}: ${o.actual}`}`),
  );
}

export function verdictLine(r: VariantResult, color: Palette): string {
  return r.passed ? color.green(r.verdict) : color.red(r.verdict);
}

function setText(set: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(set).map(([k, v]) => `${k}=${v}`);
  return pairs.length === 0 ? "" : `, ${pairs.join(", ")}`;
}

/** What JSON says of a result. */
export function resultJson(r: VariantResult): Record<string, unknown> {
  return {
    variant: r.variant.name,
    kernel: r.variant.kernel,
    cpu: r.variant.cpu,
    set: r.variant.set,
    passed: r.passed,
    verdict: r.verdict,
    crash: r.crash ?? null,
    seq: r.seq,
    steps: r.phases,
    row: Object.fromEntries(r.row.map((c) => [c.label, c.value])),
    unknown: r.unknown,
    expectations: r.outcomes.map((o) => ({
      status: o.status,
      line: o.line,
      column: o.column,
      text: o.text,
      ...(o.status === "met" ? {} : { expected: o.expected, actual: o.actual }),
      ...(o.events.length === 0 ? {} : { events: o.events }),
    })),
  };
}
