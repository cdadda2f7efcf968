/** Reads traces that are text: JSON lines, Chrome JSON of ours, and ftrace as trace-cmd, tracefs and perf script print it. */
import { eventCatalogue, findEvent } from "../sim/events.js";
import { byRole } from "./foreign.js";
import { readKernelText } from "./kernelformat.js";
import { agentOfTask, canonicalFields, Collected, TraceError, type ReadTrace } from "./meaning.js";

type Json = Readonly<Record<string, unknown>>;
const isObject = (v: unknown): v is Json => typeof v === "object" && v !== null && !Array.isArray(v);

/** JSON lines: of `--trace` and of `run --format jsonl`; lines that are no event (results, heads) are passed over. */
export function readJsonLines(text: string): ReadTrace {
  const out = new Collected();
  let at = 0;
  for (let line = 1; at < text.length; line++) {
    const end = text.indexOf("\n", at);
    const raw = text.slice(at, end < 0 ? undefined : end);
    at = end < 0 ? text.length : end + 1;
    if (raw.trim() === "") continue;
    let v: unknown;
    try {
      v = JSON.parse(raw);
    } catch {
      throw new TraceError(`line ${line} is no JSON`);
    }
    if (!isObject(v) || typeof v["event"] !== "string" || typeof v["agent"] !== "string") continue;
    const { seq, time, agent, event, variant, ...fields } = v;
    void [seq, variant];
    out.add({ agent, event, fields: canonicalFields(event, fields), place: line, time: String(time ?? "") });
  }
  return { format: "JSON lines", events: out.events, ours: true };
}

/** Chrome JSON of `--trace`: the slices and instants that stand for events. */
export function readChrome(text: string): ReadTrace {
  let v: unknown;
  try {
    v = JSON.parse(text);
  } catch {
    throw new TraceError("it begins like JSON and is none, or breaks off");
  }
  const list = Array.isArray(v) ? v : isObject(v) ? v["traceEvents"] : undefined;
  if (!Array.isArray(list)) throw new TraceError("no traceEvents in this JSON");
  const out = new Collected();
  const tracks = new Map<unknown, string>();
  for (const [i, e] of (list as unknown[]).entries()) {
    if (!isObject(e)) throw new TraceError(`entry ${i} of traceEvents is no object`);
    const args = isObject(e["args"]) ? e["args"] : {};
    if (e["ph"] === "M" && e["name"] === "thread_name") tracks.set(e["tid"], agentOfTask(String(args["name"])));
    const event = eventOfSlice(String(e["ph"]), String(e["name"]));
    if (event === undefined) continue;
    out.add({
      agent: tracks.get(e["tid"]) ?? String(e["tid"]),
      event,
      fields: canonicalFields(event, args),
      place: i,
      time: String(e["ts"]),
    });
  }
  return { format: "Chrome JSON", events: out.events, ours: true };
}

/** What a slice or instant says happened: spans.ts the other way round. Ends of slices and locks are not events here. */
function eventOfSlice(ph: string, name: string): string | undefined {
  if (ph === "i") return findEvent(name) === undefined ? undefined : name;
  if (ph !== "B") return undefined;
  if (name === "guest") return "kvm_entry";
  if (name.startsWith("exit: ")) return "kvm_exit";
  if (name === "kvm_handle_guest_abort") return "kvm_guest_fault";
  return name === "invalidate_range" ? "mmu_notifier_invalidate_range_start" : undefined;
}

/**
 * `task-pid [cpu] flags time: event: text` as trace-cmd report and tracefs print it, or with `system:event` and no
 * pid behind a dash, as perf script does. What does not look so (headers, comments, lost events) is passed over.
 */
const FTRACE =
  /^\s*(.*?)(?:-|\s+)([0-9]+)\s+(?:\([ 0-9-]*\)\s+)?\[([0-9]+)\]\s+(?:\S{4,5}\s+)?([0-9]+\.[0-9]+):\s+(?:[a-z_0-9]+:)?([A-Za-z_0-9]+):\s*(.*)\r?$/;

export function readFtrace(text: string): ReadTrace {
  const out = new Collected();
  const threads: string[] = [];
  let ours = false;
  let line = 0;
  for (const raw of text.split("\n")) {
    line++;
    const m = FTRACE.exec(raw);
    if (m === null) continue;
    const [, task, pid, , time, event, said] = m;
    // libtraceevent's x86 plugin puts its complaints in front of arm64's text.
    const clean = said!.replace(/<CANT FIND FIELD [a-z_]+>|CAN'T FIND FIELD "[a-z_]+"/g, "").trim();
    const read = readKernelText(event!, clean);
    const fields = read ?? readPairs(event!, clean);
    // A probe that somebody named like one of our events has another text.
    ours ||= read === undefined && findEvent(event!)?.system === "faultline" && isComplete(event!, fields);
    threads.push(`${task!.trim()}-${pid!}`);
    out.add({ agent: agentOfTask(task!.trim()), event: event!, fields: canonicalFields(event!, fields), place: line, time: time! });
  }
  if (out.events.length === 0) throw new TraceError("no line of it is an ftrace event: task-pid [cpu] time: event: text");
  return { format: "ftrace text", events: ours ? out.events : byRole(out.events, threads), ours };
}

const isComplete = (event: string, fields: object): boolean => findEvent(event)!.fields.every((f) => Object.hasOwn(fields, f.name));

/** `name=value name=value`: ours. The names are the declared ones, so that a value may have spaces. */
function readPairs(event: string, said: string): Record<string, string> {
  const decl = findEvent(event);
  if (decl === undefined) return said === "" ? {} : { text: said };
  const out: Record<string, string> = {};
  let rest = said;
  decl.fields.forEach((f, i) => {
    const next = decl.fields[i + 1];
    const end = next === undefined ? rest.length : rest.indexOf(` ${next.name}=`);
    if (!rest.startsWith(`${f.name}=`)) return;
    out[f.name] = rest.slice(f.name.length + 1, end < 0 ? undefined : end);
    rest = end < 0 ? "" : rest.slice(end + 1);
  });
  return out;
}

export const knownEvents = (): readonly string[] => eventCatalogue().map((e) => e.name);
