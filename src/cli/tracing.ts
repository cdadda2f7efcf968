/** `--trace` and `--stat`: what a run streams into while it goes. Loaded only where one of them is asked for. */
import type { VariantConfig } from "../guest/compile.js";
import { BudgetError } from "../guest/diagnostics.js";
import type { Machine } from "../machine.js";
import type { TraceFormat } from "../trace/formats.js";
import { openTrace } from "../trace/opentrace.js";
import type { TraceSink } from "../trace/sink.js";
import { Statistics, type RunStatistics } from "../trace/statistics.js";
import { UsageError } from "./status.js";
import { unwritable } from "./writefile.js";

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
