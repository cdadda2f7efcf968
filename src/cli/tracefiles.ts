/** `--trace FILE`: the files and the format that it means. */
import { formatOfName, TRACE_EXTENSIONS, withName, type TraceFormat } from "../trace/formats.js";
import { UsageError } from "./status.js";

export interface TraceArguments {
  /** As given; variants and scripts beyond the first get their names into it. */
  readonly file: string;
  readonly format?: TraceFormat;
  /** The system of the kernel's trace points in trace.dat. */
  readonly system?: string;
  /** More than one script writes a trace: its name belongs into the file's. */
  readonly script?: string;
}

/** The file of one variant: FILE itself where one variant of one script runs. */
export function traceFileOf(args: TraceArguments, variant: string, variants: number): string {
  const base = args.script === undefined ? args.file : withName(args.file, args.script);
  return variants > 1 ? withName(base, variant) : base;
}

export function traceFormatOf(args: TraceArguments): TraceFormat {
  const format = args.format ?? formatOfName(args.file);
  if (format !== undefined) return format;
  throw new UsageError(
    `--trace ${args.file}: the name says no format; end it in one of ${TRACE_EXTENSIONS.join(", ")}, or give --trace-format`,
  );
}
