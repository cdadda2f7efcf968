/** `--trace` and `--stat`: what a run streams into while it goes. */
import type { VariantConfig } from "../guest/compile.js";
import { BudgetError } from "../guest/diagnostics.js";
import type { Machine } from "../machine.js";
import { formatOfName, openTrace, TRACE_EXTENSIONS, withName, type TraceFormat } from "../trace/formats.js";
import type { TraceSink } from "../trace/sink.js";
import { Statistics, type RunStatistics } from "../trace/statistics.js";
import { UsageError } from "./status.js";
import { unwritable } from "./writefile.js";

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

/** The sinks of one run. */
export class Tracing {
  private readonly sink: TraceSink | undefined;
  private readonly statistics: Statistics | undefined;

  /** @throws UsageError if the file cannot be written */
  constructor(
    private readonly machine: Machine,
    variant: VariantConfig,
    trace: { readonly path: string; readonly format: TraceFormat; readonly system?: string } | undefined,
    stat: boolean,
  ) {
    this.statistics = stat ? new Statistics() : undefined;
    if (trace === undefined) return;
    const { name, kernel, cpu, set } = variant;
    try {
      this.sink = openTrace(
        trace.path,
        machine.sim,
        { variant: name, kernel, cpu, set },
        {
          format: trace.format,
          ...(trace.system === undefined ? {} : { kvmSystem: trace.system }),
        },
      );
    } catch (e) {
      throw new UsageError(`--trace: ${unwritable(trace.path, e)}`, { file: trace.path });
    }
  }

  /** For `RunOptions.attach`. */
  readonly attach = (): (() => void) => {
    const { bus } = this.machine.sim;
    const off = [
      ...(this.sink === undefined ? [] : [bus.stream(this.sink.take, this.sink.calls)]),
      ...(this.statistics === undefined ? [] : [bus.stream(this.statistics.take)]),
    ];
    return () => off.forEach((stop) => stop());
  };

  /** Runs, and completes the trace; also one that a budget ended, which shows how far it came. */
  around<T>(run: () => T): T {
    let complete = false;
    try {
      const result = run();
      complete = true;
      return result;
    } catch (e) {
      complete = e instanceof BudgetError;
      throw e;
    } finally {
      if (complete) this.sink?.finish();
      else this.sink?.abandon();
    }
  }

  get result(): RunStatistics | undefined {
    return this.statistics?.result();
  }
}
