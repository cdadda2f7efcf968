/**
 * Events of any trace, of ours or of a real host, in one form: who, what, and the fields as canonical text, so that
 * two traces can be compared by what they mean and not by how they are written.
 */
import { findEvent } from "../sim/events.js";

export interface MeantEvent {
  /** vcpu0, vmm, or the task's name where it is neither. */
  readonly agent: string;
  readonly event: string;
  /** Numbers as decimal text of 64 bits, names as they are. */
  readonly fields: Readonly<Record<string, string>>;
  /** Where the trace has it: a line of a text, else the event's number from 1. */
  readonly place: number;
  /** As the trace says it, in its own unit. */
  readonly time: string;
}
export interface ReadTrace {
  /** What the file was read as. */
  readonly format: string;
  readonly events: readonly MeantEvent[];
  /** Written by Faultline. */
  readonly ours: boolean;
}
/** The file is no trace, or breaks off. */
export class TraceError extends Error {
  override readonly name = "TraceError";
}

/** More would not fit a process. */
export const MOST_EVENTS = 4_000_000;
const TOO_MANY = `more than ${MOST_EVENTS} events; keep fewer with trace-cmd report -F, jq or grep`;

/** QEMU's vCPU threads are vcpuN. */
export function agentOfTask(task: string): string {
  const m = /^(?:CPU ([0-9]+)\/KVM|vcpu:?([0-9]+)|fc_vcpu ([0-9]+)|kvm-vcpu-([0-9]+))$/.exec(task);
  const n = m?.slice(1).find((x) => x !== undefined);
  return n === undefined ? task : `vcpu${n}`;
}

/** Decimal text of a number in 64 bits; a name stays a name. */
export function canonical(text: string): string {
  if (/^-?[0-9]{1,15}$/.test(text)) return text;
  if (/^0x[0-9a-fA-F]{1,16}$/.test(text) || /^-?[0-9]{1,20}$/.test(text)) {
    const v = BigInt.asUintN(64, BigInt(text));
    // A negative number as 64 bits: -1, "none".
    return String(v >= 0xffffffff00000000n ? v - 0x10000000000000000n : v);
  }
  return text;
}

/** Fields of an event as canonical text, whatever kind of value they came as. */
export function canonicalFields(event: string, fields: Readonly<Record<string, unknown>>): Record<string, string> {
  const out: Record<string, string> = {};
  const decl = findEvent(event);
  for (const [name, v] of Object.entries(fields)) {
    const text = typeof v === "boolean" ? (v ? "1" : "0") : canonical(String(v));
    const values = decl?.fields.find((f) => f.name === name)?.values;
    // An enum as its number and as its name are the same.
    out[name] = values !== undefined && /^[0-9]+$/.test(text) && !values.includes(text) ? (values[Number(text)] ?? text) : text;
  }
  return out;
}

/** Collects events, as many as fit. */
export class Collected {
  readonly events: MeantEvent[] = [];
  add(e: MeantEvent): void {
    if (this.events.length >= MOST_EVENTS) throw new TraceError(TOO_MANY);
    this.events.push(e);
  }
}
