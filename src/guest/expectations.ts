/**
 * Judges expectations. Each condition answers with undefined (met) or with what was there instead;
 * the window is what happened since the expectations before.
 */
import { findEvent, type EventRecord } from "../sim/events.js";
import type { ExitInfo } from "../api/calls.js";
import type { Stage2Leaf } from "../api/nouns.js";
import { fieldsText, hex } from "../trace/fields.js";
import type { Condition, Count, FieldTest } from "./ast.js";
import { fieldOf, wordOf } from "./compile.js";
import { compare, evaluate, EvaluationError, type Scope } from "./evaluate.js";
import type { Recorder } from "./recorder.js";

/** What a call, a guest block or a thread of par came to. */
export interface Result {
  readonly agent: string;
  readonly line: number;
  readonly column: number;
  readonly text: string;
  readonly ret: bigint;
  /** EFAULT, or SIGBUS where a signal came instead; undefined: it worked. */
  readonly errno: string | undefined;
}

/** Something that fails a run unless an expectation names it. */
export interface Problem {
  readonly kind: "errno" | "exception" | "crash" | "livelock" | "exit" | "stuck";
  readonly line: number;
  readonly column: number;
  readonly text: string;
  expected: boolean;
}

export interface Exception {
  readonly vcpu: number;
  readonly vector: bigint;
  readonly esr: bigint;
  readonly far: bigint;
  readonly elr: bigint;
  readonly spsr: bigint;
}

/** Everything that an expectation may look at. */
export interface Window {
  readonly recorder: Recorder;
  readonly scope: Scope;
  readonly results: readonly Result[];
  readonly exits: readonly ExitInfo[];
  readonly exceptions: readonly Exception[];
  readonly problems: readonly Problem[];
  readonly crash: { readonly function: string; readonly reason: string } | undefined;
  readonly livelock: boolean;
  readonly dirty: readonly number[] | undefined;
  leaves(): readonly Stage2Leaf[];
  /** State of the data cache line of a host address, as a word; what there is instead where caches are not modelled. */
  cacheState(hva: number): string;
}

/** Events that a condition counts. */
export function eventsOf(c: Condition): string[] {
  if (c.kind === "event") return [c.event];
  if (c.kind === "inject") return [`inject_${INJECT_EVENT[c.what] ?? c.what}`, "inject_sea"];
  return [];
}
const INJECT_EVENT: Readonly<Record<string, string>> = { serror: "vabt" };

/** Judges a condition. @returns undefined if it is met, else what is there instead. */
export function judge(c: Condition, w: Window): string | undefined {
  switch (c.kind) {
    case "crash":
      return crash(c, w);
    case "livelock":
      settle(w, "livelock");
      return w.livelock ? undefined : "the guest made progress";
    case "deadlock":
      settle(w, "stuck");
      return w.problems.some((p) => p.kind === "stuck") ? undefined : "every agent of par came to its end";
    case "errno":
      return errno(c.name, w);
    case "exit":
      return exit(c, w);
    case "event":
      return counted(c.count, [c.event], c.fields, w);
    case "inject":
      return inject(c, w);
    case "exception":
      return exception(c, w);
    case "stage2":
      return stage2(c, w);
    case "dirty":
      return dirty(c, w);
    case "cache": {
      const addr = evaluate(c.addr, w.scope);
      const state = w.cacheState(Number(addr));
      return state === c.state ? undefined : `the line of ${hexOf(addr)} is ${state}`;
    }
    case "value": {
      if (mentions(c.expr, "ret")) settle(w, "errno");
      if (evaluate(c.expr, w.scope) !== 0n) return undefined;
      return c.expr.kind === "binary"
        ? `${hexOf(evaluate(c.expr.left, w.scope))} ${c.expr.op} ${hexOf(evaluate(c.expr.right, w.scope))} does not hold`
        : "its value is 0";
    }
  }
}

function hexOf(v: bigint): string {
  return v < 0n || v < 10n ? String(v) : `0x${v.toString(16)}`;
}

export function mentions(e: import("./ast.js").Expr, name: string): boolean {
  if (e.kind === "name") return e.name === name;
  if (e.kind === "unary") return mentions(e.of, name);
  if (e.kind === "binary") return mentions(e.left, name) || mentions(e.right, name);
  return false;
}

/** The script knows of this kind of problem. */
function settle(w: Window, ...kinds: readonly Problem["kind"][]): void {
  for (const p of w.problems) if (kinds.includes(p.kind)) p.expected = true;
}

function crash(c: Extract<Condition, { kind: "crash" }>, w: Window): string | undefined {
  if (c.not) return w.crash === undefined ? undefined : `the host crashed in ${w.crash.function}: ${w.crash.reason}`;
  settle(w, "crash");
  if (w.crash === undefined) return "the host is alive";
  const where = c.where === undefined || same(w.crash.function, c.where);
  const why = c.reason === undefined || w.crash.reason.includes(c.reason);
  return where && why ? undefined : `the host crashed in ${w.crash.function}: ${w.crash.reason}`;
}

function same(a: string, b: string): boolean {
  const plain = (s: string) => s.replaceAll("_", "").toLowerCase();
  return plain(a) === plain(b);
}

function errno(name: string | undefined, w: Window): string | undefined {
  const said = (r: Result) => `${r.agent}: ${r.text.slice(0, 60)} ${r.errno === undefined ? "succeeded" : `gave ${r.errno}`}`;
  if (name === undefined) {
    const bad = w.results.find((r) => r.errno !== undefined);
    settle(w, "errno");
    return bad === undefined ? undefined : said(bad);
  }
  const found = w.results.some((r) => r.errno === name);
  for (const p of w.problems) if (p.kind === "errno" && p.text.includes(name)) p.expected = true;
  if (found) return undefined;
  return w.results.length === 0 ? "no call was made" : w.results.slice(-3).map(said).join("; ");
}

function exit(c: Extract<Condition, { kind: "exit" }>, w: Window): string | undefined {
  const of = w.exits.filter((e) => e.reason === c.reason);
  const fields = (e: ExitInfo): Readonly<Record<string, bigint>> => {
    if (e.reason === "MMIO") return { write: e.isWrite ? 1n : 0n, addr: BigInt(e.physAddr), len: BigInt(e.len), data: e.data };
    if (e.reason === "ARM_NISV") return { esr_iss: BigInt(e.esrIss), fault_ipa: BigInt(e.faultIpa) };
    if (e.reason === "ARM_SEA") return { flags: BigInt(e.flags), esr: BigInt(e.esr), gva: e.gva, gpa: BigInt(e.gpa) };
    if (e.reason === "MEMORY_FAULT") return { flags: BigInt(e.flags), gpa: BigInt(e.gpa), size: BigInt(e.size) };
    return {};
  };
  const hits = of.filter((e) => c.fields.every((t) => compare(t.op, fields(e)[t.name] ?? 0n, evaluate(t.value, w.scope))));
  for (const p of w.problems) if (p.kind === "exit" && hits.length > 0 && p.text.includes(c.reason)) p.expected = true;
  if (within(hits.length, c.count)) return undefined;
  const other = w.exits.slice(-3).map((e) =>
    `${e.reason} ${Object.entries(fields(e))
      .map(([k, v]) => `${k}=${hexOf(v)}`)
      .join(" ")}`.trim(),
  );
  return `${hits.length} such exit${hits.length === 1 ? "" : "s"}${other.length > 0 ? `; the last: ${other.join("; ")}` : ""}`;
}

function within(n: number, c: Count): boolean {
  return n >= c.least && n <= c.most;
}

function counted(count: Count, names: readonly string[], tests: readonly FieldTest[], w: Window): string | undefined {
  if (tests.length === 0) {
    const n = names.reduce((sum, name) => sum + w.recorder.count(name), 0);
    return within(n, count) ? undefined : `${n} such event${n === 1 ? "" : "s"}`;
  }
  let hits = 0;
  const others: EventRecord[] = [];
  for (const name of names)
    w.recorder.each(name, (e) => {
      if (tests.every((t) => testField(e, t, w.scope))) hits++;
      else if (others.length < 3) others.push(e);
    });
  if (within(hits, count)) return undefined;
  const seen = others.map((e) => fieldsText(e)).join("; ");
  return `${hits} such event${hits === 1 ? "" : "s"}${seen === "" ? "" : `; instead: ${seen}`}`;
}

/** Does an event's field pass a test? Numbers compare as numbers, words as words. */
export function testField(e: EventRecord, t: FieldTest, scope: Scope): boolean {
  const decl = findEvent(e.event);
  const field = decl === undefined ? undefined : fieldOf(t.name, decl.fields);
  const v = e[field?.name ?? t.name];
  if (v === undefined) return false;
  if (typeof v === "string" && !/^0x[0-9a-f]+$/.test(v)) {
    const word = wordOf(t.value);
    if (word === undefined) throw new EvaluationError(t.span, `"${t.name}" holds words, not numbers`);
    return t.op === "!=" ? !same(v, word) : same(v, word);
  }
  const number = typeof v === "boolean" ? (v ? 1n : 0n) : BigInt(v);
  return compare(t.op, number, evaluate(t.value, scope));
}

/** Releases from v6.17 on inject through one function: a fetch's abort is inject_sea with iabt=1. */
function inject(c: Extract<Condition, { kind: "inject" }>, w: Window): string | undefined {
  let hits = 0;
  const seen: string[] = [];
  const visit = (e: EventRecord): void => {
    const kind = e.event !== "inject_sea" ? e.event.slice("inject_".length) : Number(e["iabt"]) === 1 ? "pabt" : "dabt";
    const wanted = INJECT_EVENT[c.what] ?? c.what;
    if ((kind === wanted || (wanted === "sea" && e.event === "inject_sea")) && c.fields.every((t) => testField(e, t, w.scope))) hits++;
    else if (seen.length < 3) seen.push(`${e.event} ${fieldsText(e)}`);
  };
  for (const name of new Set(eventsOf(c))) w.recorder.each(name, visit);
  if (hits > 0) settle(w, "exception");
  if (within(hits, c.count)) return undefined;
  return `${hits} such injection${hits === 1 ? "" : "s"}${seen.length > 0 ? `; instead: ${seen.join("; ")}` : ""}`;
}

function exception(c: Extract<Condition, { kind: "exception" }>, w: Window): string | undefined {
  const value = (x: Exception, name: string): bigint =>
    name === "vector" ? x.vector : name === "esr" ? x.esr : name === "far" ? x.far : name === "elr" ? x.elr : x.spsr;
  const hit = w.exceptions.some((x) => c.fields.every((t) => compare(t.op, value(x, t.name), evaluate(t.value, w.scope))));
  if (hit && !c.not) settle(w, "exception");
  if (hit !== c.not) return undefined;
  const last = w.exceptions[w.exceptions.length - 1];
  return last === undefined
    ? "the guest took no exception that ended its block"
    : `vector=${hexOf(last.vector)} esr=${hexOf(last.esr)} far=${hexOf(last.far)} elr=${hexOf(last.elr)} spsr=${hexOf(last.spsr)}`;
}

const MEMORY_TYPES: Readonly<Record<number, string>> = {
  0: "Device-nGnRnE",
  1: "Device-nGnRE",
  5: "Normal-NC",
  6: "Normal-WB",
  7: "Normal-WB",
  15: "Normal-WB",
};

/** The memory type that a leaf asks for. */
export function typeName(l: Stage2Leaf): string {
  return MEMORY_TYPES[l.memattr] ?? `memattr ${l.memattr}`;
}
export function leafText(l: Stage2Leaf): string {
  return `ipa=${hex(l.ipa)} size=${hex(l.size)} pa=${hex(l.pa)} level=${l.level} type=${typeName(l)} perms=${permissions(l)} af=${l.af}`;
}
export function permissions(l: Stage2Leaf): string {
  return `${l.s2ap & 1 ? "r" : ""}${l.s2ap & 2 ? "w" : ""}${l.xn === 0 ? "x" : ""}` || "none";
}

function stage2(c: Extract<Condition, { kind: "stage2" }>, w: Window): string | undefined {
  const ipa = Number(evaluate(c.ipa, w.scope));
  const leaf = w.leaves().find((l) => ipa >= l.ipa && ipa < l.ipa + l.size);
  if (leaf === undefined) return c.none ? undefined : `nothing is mapped at ipa ${hex(ipa)}`;
  if (c.none) return leafText(leaf);
  const ok = c.fields.every((t) => {
    if (t.name === "type") return (MEMORY_TYPES[leaf.memattr] === wordOf(t.value)) === (t.op === "=");
    if (t.name === "perms") return (permissions(leaf) === wordOf(t.value)) === (t.op === "=");
    const v = t.name === "pa" ? leaf.pa + (ipa - leaf.ipa) : Number(leaf[t.name as "size" | "level" | "s2ap" | "memattr" | "xn" | "af"]);
    return compare(t.op, BigInt(v), evaluate(t.value, w.scope));
  });
  return ok ? undefined : leafText(leaf);
}

function dirty(c: Extract<Condition, { kind: "dirty" }>, w: Window): string | undefined {
  if (w.dirty === undefined) return "no KVM_GET_DIRTY_LOG has been made";
  const wanted = c.pages.map((p) => Number(evaluate(p, w.scope))).sort((a, b) => a - b);
  const got = [...w.dirty];
  if (wanted.length === got.length && wanted.every((p, i) => p === got[i])) return undefined;
  return got.length === 0 ? "no page is dirty" : `dirty pages ${got.slice(0, 20).join(", ")}${got.length > 20 ? ", …" : ""}`;
}
