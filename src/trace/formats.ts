/** The formats of traces: their names, the extensions that mean them, and who writes each. */
import { ChromeTrace } from "./chrome.js";
import { FtraceText } from "./ftracetext.js";
import { JsonLines } from "./jsonlines.js";
import { PerfettoTrace } from "./perfetto.js";
import type { TraceMeta, TraceSink, TraceSource } from "./sink.js";
import { TraceDat } from "./tracedat.js";
import { TraceFile } from "./tracefile.js";

export const TRACE_FORMATS = ["trace.dat", "trace.dat-v7", "ftrace", "chrome", "perfetto", "jsonl"] as const;
export type TraceFormat = (typeof TRACE_FORMATS)[number];

const EXTENSIONS: readonly (readonly [string, TraceFormat])[] = [
  [".dat", "trace.dat"],
  [".ftrace", "ftrace"],
  [".txt", "ftrace"],
  [".json", "chrome"],
  [".jsonl", "jsonl"],
  [".pftrace", "perfetto"],
  [".perfetto-trace", "perfetto"],
];
export const TRACE_EXTENSIONS = EXTENSIONS.map(([e]) => e);

/** The format that a file's name means; undefined if it means none. */
export function formatOfName(path: string): TraceFormat | undefined {
  return EXTENSIONS.find(([e]) => path.endsWith(e))?.[1];
}

/** `out.dat` and "v5.5" -> `out.v5.5.dat`: where several runs would share a name. */
export function withName(path: string, name: string): string {
  const safe = name.replace(/[^A-Za-z0-9._-]/g, "_");
  const slash = path.lastIndexOf("/");
  const known = TRACE_EXTENSIONS.find((e) => path.endsWith(e));
  const dot = known !== undefined ? path.length - known.length : path.lastIndexOf(".");
  return dot <= slash + 1 ? `${path}.${safe}` : `${path.slice(0, dot)}.${safe}${path.slice(dot)}`;
}

export interface TraceOptions {
  readonly format: TraceFormat;
  /** The system of the kernel's trace points in trace.dat; libtraceevent's kvm plugin knows x86 only. */
  readonly kvmSystem?: string;
}

/** Opens a file for a trace. @throws Error as TraceFile does */
export function openTrace(path: string, source: TraceSource, meta: TraceMeta, options: TraceOptions): TraceSink {
  const file = new TraceFile(path);
  switch (options.format) {
    case "trace.dat":
      return new TraceDat(file, source, meta, 6, options.kvmSystem);
    case "trace.dat-v7":
      return new TraceDat(file, source, meta, 7, options.kvmSystem);
    case "ftrace":
      return new FtraceText(file, source, meta);
    case "chrome":
      return new ChromeTrace(file, source, meta);
    case "perfetto":
      return new PerfettoTrace(file, source, meta);
    case "jsonl":
      return new JsonLines(file, source, meta);
  }
}
