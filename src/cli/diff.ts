/** `faultline diff A B`: two traces of any readable format aligned by meaning, the first divergence first. */
import { eventCatalogue, findEvent } from "../sim/events.js";
import "../machine.js";
import { diffTraces, type DiffOptions, type TraceDiff } from "../trace/differ.js";
import { TraceError, type MeantEvent, type ReadTrace } from "../trace/meaning.js";
import { readTraceBytes } from "../trace/readtrace.js";
import { hex } from "../trace/fields.js";
import { readBytes } from "./readfile.js";
import { FAILED, OK, unknownName, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";

export interface DiffArguments extends DiffOptions {
  readonly json: boolean;
}

/** MiB of a trace: a text becomes one string, V8's longest. */
const LARGEST = 500;

/** Reads a trace. @throws UsageError that names the file */
export function readTrace(path: string): ReadTrace {
  const bytes = readBytes(path, LARGEST);
  try {
    return readTraceBytes(bytes);
  } catch (e) {
    if (!(e instanceof TraceError)) throw e;
    throw new UsageError(
      `${path}: ${e.message}; readable are trace.dat, ftrace text (trace-cmd report, tracefs, perf script), and Faultline's JSON lines and Chrome JSON`,
      { file: path },
    );
  }
}

/** Addresses and registers in hexadecimal, as traces print them. */
function valueText(event: string, field: string, value: string): string {
  const kind = findEvent(event)?.fields.find((f) => f.name === field)?.kind;
  if ((kind === "hex" || kind === "hex64") && /^-?[0-9]+$/.test(value)) {
    const v = BigInt(value);
    return v < 0n ? (kind === "hex" ? hex(Number(v)) : `0x${BigInt.asUintN(64, v).toString(16)}`) : `0x${v.toString(16)}`;
  }
  return value;
}

function eventText(e: MeantEvent | undefined): string {
  if (e === undefined) return "(the trace ends here)";
  const fields = Object.entries(e.fields).map(([k, v]) => `${k}=${valueText(e.event, k, v)}`);
  return `${e.agent} ${e.event}${fields.length === 0 ? "" : ` ${fields.join(" ")}`}`;
}

export async function diffCommand(a: string, b: string, args: DiffArguments): Promise<number> {
  const events = eventCatalogue();
  const wrong = (args.events ?? []).find((n) => findEvent(n) === undefined);
  if (wrong !== undefined)
    throw unknownName(
      "event",
      wrong,
      events.map((e) => e.name),
    );
  if (a === "-" && b === "-") throw new UsageError("only one of the two traces can come from standard input");
  const [x, y] = [readTrace(a), readTrace(b)];
  const fields = new Set(events.flatMap((e) => e.fields.map((f) => f.name)));
  const odd = args.ignore.filter((f) => !fields.has(f)).find((f) => ![x, y].some((t) => t.events.some((e) => f in e.fields)));
  if (odd !== undefined) throw unknownName("field", odd, [...fields]);
  const diff = diffTraces(x, y, args);
  if (diff.compared.a === 0 && diff.compared.b === 0) throw new UsageError(`${a} and ${b} have no events that can be compared`);
  await print(args.json ? diffJson(a, b, x, y, diff) : diffText(a, b, x, y, diff));
  return diff.same ? OK : FAILED;
}

function diffJson(a: string, b: string, x: ReadTrace, y: ReadTrace, d: TraceDiff): string {
  return JSON.stringify(
    {
      a: { file: a, format: x.format, events: x.events.length, compared: d.compared.a },
      b: { file: b, format: y.format, events: y.events.length, compared: d.compared.b },
      same: d.same,
      ignored: d.ignored,
      perAgent: d.perAgent,
      firstDivergence:
        d.first === undefined
          ? null
          : { agent: d.first.agent ?? null, after: d.first.after, a: d.first.a ?? null, b: d.first.b ?? null, fields: d.first.fields },
      only: d.only ?? null,
    },
    undefined,
    2,
  );
}

const FOREIGN = [
  "not both are of Faultline: only trace points of system kvm that both have, each vCPU for itself; without interrupts of the host,",
  "MMU notifiers (--events names them) and the register of a load or store in its syndrome",
];

function diffText(a: string, b: string, x: ReadTrace, y: ReadTrace, d: TraceDiff): string {
  const color = palette();
  const left = (n: number): string => (n === 0 ? "" : `, ${n} left out`);
  const lines = [
    `A  ${a}: ${x.format}, ${d.compared.a} events compared${left(d.leftOut.a)}`,
    `B  ${b}: ${y.format}, ${d.compared.b} events compared${left(d.leftOut.b)}`,
  ];
  if (d.foreign) lines.push(...FOREIGN.map((line) => `   ${line}`));
  if (d.ignored.length > 0) lines.push(`   fields not compared: ${d.ignored.join(", ")}`);
  const { first } = d;
  if (first === undefined) return [...lines, "", "the same"].join("\n");
  const of = first.agent === undefined ? "" : ` of ${first.agent}`;
  lines.push("", color.bold(`first divergence, after ${first.after} equal events${of}:`));
  for (const e of first.before) lines.push(`       ${eventText(e)}`);
  lines.push(
    color.yellow(`  A ${placeText(x, first.a)}${eventText(first.a)}`),
    color.yellow(`  B ${placeText(y, first.b)}${eventText(first.b)}`),
  );
  if (first.fields.length > 0) {
    const [p, q] = [first.a!, first.b!];
    for (const f of first.fields)
      lines.push(`  ${f}: ${valueText(p.event, f, p.fields[f] ?? "")} in A, ${valueText(q.event, f, q.fields[f] ?? "")} in B`);
  }
  lines.push("", ...onlyText(d));
  return lines.join("\n");
}

const placeText = (t: ReadTrace, e: MeantEvent | undefined): string =>
  e === undefined ? "" : `${t.format.startsWith("trace.dat") ? "event" : t.format === "Chrome JSON" ? "entry" : "line"} ${e.place}: `;

function onlyText(d: TraceDiff): string[] {
  if (d.only === undefined) return ["from there on they differ too much to be aligned"];
  const rows = Object.entries(d.only).sort(([m, p], [n, q]) => q.a + q.b - p.a - p.b || (m < n ? -1 : 1));
  return [
    `${"from there on, not in both".padEnd(40)} ${"only A".padStart(8)} ${"only B".padStart(8)}`,
    ...rows.map(([name, n]) => `  ${name.padEnd(38)} ${String(n.a).padStart(8)} ${String(n.b).padStart(8)}`),
  ];
}
