/** Who writes each format of traces; loaded only where a trace is written. */
import { ChromeTrace } from "./chrome.js";
import type { TraceFormat } from "./formats.js";
import { FtraceText } from "./ftracetext.js";
import { JsonLines } from "./jsonlines.js";
import { PerfettoTrace } from "./perfetto.js";
import type { TraceMeta, TraceSink, TraceSource } from "./sink.js";
import { TraceDat } from "./tracedat.js";
import { TraceFile } from "./tracefile.js";

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
