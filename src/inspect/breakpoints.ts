/**
 * Breakpoints of the debugger: an event by name, an address, conditions on fields.
 *
 *   break kvm_guest_fault
 *   break stage2_entry if level == 3 && new == 0x0
 *   break 0x80000000        break 0x80000000+64K     any event that speaks of an address in this range
 *   break if agent == vcpu1
 */
import { didYouMean } from "../guest/diagnostics.js";
import { FaultlineError } from "../sim/errors.js";
import { eventCatalogue, findEvent, type EventRecord } from "../sim/events.js";

export interface Breakpoint {
  /** As typed. */
  readonly text: string;
  /** undefined: every event. */
  readonly events: readonly string[] | undefined;
  test(e: EventRecord): boolean;
}

const OPERATORS = ["==", "!=", "<=", ">=", "<", ">"] as const;
type Operator = (typeof OPERATORS)[number];
/** Fields of every event. */
const HEAD = ["seq", "time", "agent"];

/** Reads what stands behind `break`. @throws FaultlineError that names the nearest right name */
export function parseBreakpoint(text: string): Breakpoint {
  const trimmed = text.trim();
  const m = /^(.*?)(?:(?:^|\s+)if\s+(.+))?$/.exec(trimmed)!;
  const what = m[1]!.trim();
  const condition = m[2];
  if (what === "" && condition === undefined)
    throw new FaultlineError("break takes an event, an address or a condition: break kvm_guest_fault");
  if (/^0x|^[0-9]/.test(what)) {
    const [from, to] = range(what);
    const also = conditions(condition, undefined);
    return { text: trimmed, events: undefined, test: (e) => speaksOf(e, from, to) && also(e) };
  }
  if (what !== "" && findEvent(what) === undefined) {
    const names = eventCatalogue().map((e) => e.name);
    const near = didYouMean(what, names);
    throw new FaultlineError(`no event "${what}"${near === "" ? "; events lists them" : `: ${near}`}`);
  }
  const test = conditions(condition, what === "" ? undefined : what);
  return { text: trimmed, events: what === "" ? undefined : [what], test };
}

const UNIT: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

function amount(text: string): number {
  const m = /^(0x[0-9a-f]+|[0-9]+)([KMG]?)$/i.exec(text);
  if (m === null) throw new FaultlineError(`"${text}" is no address: 0x80000000, 0x80000000+64K or 0x80000000-0x8000ffff`);
  return Number(m[1]) * UNIT[m[2]!.toUpperCase()]!;
}

/** First byte, and first byte after it; one address is the page that it lies in. */
function range(text: string): [number, number] {
  const plus = text.indexOf("+");
  if (plus > 0) return [amount(text.slice(0, plus)), amount(text.slice(0, plus)) + amount(text.slice(plus + 1))];
  const minus = text.indexOf("-");
  if (minus > 0) return [amount(text.slice(0, minus)), amount(text.slice(minus + 1)) + 1];
  const at = amount(text);
  return [at, at + 1];
}

const ADDRESSES = ["ipa", "va", "hva", "addr", "address", "gpa", "pa", "far", "hxfar"];

/** Does a field of the event hold an address in [from, to), or a page or range that meets it? */
function speaksOf(e: EventRecord, from: number, to: number): boolean {
  const meets = (start: number, size: number) => start < to && start + size > from;
  if (e["start"] !== undefined && e["end"] !== undefined && meets(Number(e["start"]), Number(e["end"]) - Number(e["start"]))) return true;
  if (e["gfn"] !== undefined && meets(Number(e["gfn"]) * 4096, 4096)) return true;
  const size = typeof e["size"] === "number" && e["size"] > 0 ? e["size"] : 1;
  // kvm_guest_fault and the like give the page of the address.
  const least = e["ipa"] !== undefined && e.event.startsWith("kvm_") ? 4096 : 1;
  return ADDRESSES.some((f) => e[f] !== undefined && meets(Number(e[f]), f === "ipa" || f === "pa" ? Math.max(size, least) : 1));
}

function conditions(text: string | undefined, event: string | undefined): (e: EventRecord) => boolean {
  if (text === undefined) return () => true;
  const tests = text.split(/&&|\band\b/).map((t) => condition(t.trim(), event));
  return (e) => tests.every((t) => t(e));
}

function condition(text: string, event: string | undefined): (e: EventRecord) => boolean {
  const m = /^([a-z_][a-z_0-9]*)\s*(==|!=|<=|>=|<|>)\s*(.+)$/i.exec(text);
  if (m === null) throw new FaultlineError(`"${text}" is no condition: field == value, with ${OPERATORS.join(" ")}`);
  const [, field, op, raw] = m as unknown as [string, string, Operator, string];
  const known =
    event === undefined
      ? [...new Set(eventCatalogue().flatMap((e) => e.fields.map((f) => f.name)))]
      : findEvent(event)!.fields.map((f) => f.name);
  if (![...HEAD, ...known].includes(field)) {
    const near = didYouMean(field, [...HEAD, ...known]);
    throw new FaultlineError(`${event ?? "no event"} has no field "${field}"${near === "" ? "" : `: ${near}`}`);
  }
  const value = raw.trim().replace(/^"(.*)"$/, "$1");
  return (e) => e[field] !== undefined && compare(e[field]!, op, value);
}

/** Numbers (also those that events write as hexadecimal text) by value, words as words. */
function compare(have: number | string | boolean, op: Operator, want: string): boolean {
  const left = toNumber(typeof have === "boolean" ? (have ? "1" : "0") : String(have));
  const right = toNumber(want === "true" ? "1" : want === "false" ? "0" : want);
  if (left === undefined || right === undefined) return op === "==" ? String(have) === want : op === "!=" && String(have) !== want;
  switch (op) {
    case "==":
      return left === right;
    case "!=":
      return left !== right;
    case "<":
      return left < right;
    case "<=":
      return left <= right;
    case ">":
      return left > right;
    case ">=":
      return left >= right;
  }
}

function toNumber(text: string): bigint | undefined {
  return /^-?(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? (text.startsWith("-") ? -BigInt(text.slice(1)) : BigInt(text)) : undefined;
}
