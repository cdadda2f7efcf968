/** A run's result as text: steps with their annotated events, what failed and why, the verdict. */
import { causes, causeText } from "../guest/cause.js";
import type { Outcome, Step, VariantResult } from "../guest/result.js";
import { telling, type Detail } from "../trace/story.js";
import { eventLine, fit, fold, foldedLines, type TextOptions } from "../trace/text.js";
import type { Palette } from "./terminal.js";

export interface RenderOptions extends TextOptions {
  readonly detail: Detail;
  readonly color: Palette;
}

/** `  36  guest vcpu0 { ldr x0, [BAR] }   -> EFAULT` */
export function stepHead(s: Step, width: number): string {
  return fit(`${String(s.line).padStart(4)}  ${s.text}${s.result === "" ? "" : `  ${s.result}`}`, width);
}

/** The lines of a step's events, repetitions folded. */
export function stepLines(s: Step, options: RenderOptions): string[] {
  const lines = fold(telling(s.events, options.detail)).flatMap((l) => foldedLines(l, options));
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
  if (/ host_crash |HOST CRASH| break_before_make_violation | stale_translation /.test(line)) return color.red(line);
  if (/ kvm_guest_fault /.test(line)) return color.cyan(line);
  if (/ inject_| exception_injected | kvm_userspace_exit /.test(line)) return color.yellow(line);
  return line;
}

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
  for (const o of r.outcomes) if (o.status === "failed") out.push(...renderFailure(o, file, source, r.variant.name, options), "");
  if (r.unknown.length > 0) out.push(color.yellow(`${r.variant.name}: asked without a known source: ${r.unknown.join(", ")}`));
  return out;
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
