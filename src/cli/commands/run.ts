/** The words of `faultline run`: run a script: a file, the name of a bundled scenario, or - for standard input. */
import { basename } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type Common, type Done, format, json, letOption, selection, withMachineOptions } from "../options.js";
import { UsageError } from "../status.js";
import type { TraceArguments } from "../tracefiles.js";
import type { TraceFormat } from "../../trace/formats.js";

type RunOptions = Common & {
  quiet: boolean;
  explain: boolean;
  stat: boolean;
  table: boolean;
  trace?: string;
  traceFormat?: TraceFormat;
  traceSystem?: string;
};

/** What the options say about the trace of one of the scripts. */
function traceOption(o: RunOptions, files: readonly string[], file: string): { trace?: TraceArguments } {
  if (o.trace === undefined) {
    for (const [name, value] of [
      ["--trace-format", o.traceFormat],
      ["--trace-system", o.traceSystem],
    ] as const)
      if (value !== undefined) throw new UsageError(`${name} says how --trace FILE is written: there is no --trace`);
    return {};
  }
  return {
    trace: {
      file: o.trace,
      ...(o.traceFormat === undefined ? {} : { format: o.traceFormat }),
      ...(o.traceSystem === undefined ? {} : { system: o.traceSystem }),
      ...(files.length > 1 ? { script: basename(file, ".guest") } : {}),
    },
  };
}

const system = (text: string): string => {
  if (!/^[a-z][a-z0-9_]{0,31}$/.test(text)) throw new InvalidArgumentError(`expected a name such as kvm_arm64, not "${text}".`);
  return text;
};

export function addRun(root: Command, done: Done): void {
  letOption(
    withMachineOptions(
      root
        .command("run")
        .description("run a script: a file, the name of a bundled scenario, or - for standard input")
        .argument("<files...>", "FILE, NAME or -")
        .option("--kernel <era>", "the script's variants of this era, or its first variant under this era"),
    ),
  )
    .option("--table", "one table of what the variants came to: reported values, counts, cycles", false)
    .option("--schedule <file>", "interleave the agents of the par as this file says, and ask the invariants (see explore)")
    .option("--quiet", "verdicts and failures only", false)
    .option("--explain", "show what was asked on the way: memslot, VMA, host entry, the decisions", false)
    .option("--trace <file>", "write every event to a file; with several variants each gets its name into FILE: out.v5.5.dat")
    .addOption(
      new Option(
        "--trace-format <format>",
        "format of --trace; otherwise its extension says it: .dat .ftrace .txt .json .pftrace .jsonl",
      ).choices(["trace.dat", "trace.dat-v7", "ftrace", "chrome", "perfetto", "jsonl"]),
    )
    .option(
      "--trace-system <name>",
      "system of the kernel's trace points in trace.dat, for readers whose kvm plugin knows x86 only",
      system,
    )
    .option("--stat", "statistics at the end: exits as perf kvm stat report shows them, kvm_stat, debugfs counters", false)
    .addOption(format("text", "json", "jsonl"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  faultline run 2019-munmap-remap
  faultline run 2019-munmap-remap --kernel v5.4 --explain
  faultline run 2015-uncached-framebuffer --table
  faultline run 2024-bar-copy --let COPY=16M
  faultline run my.guest --kernel v6.12 --cpu cortex-a76 --quiet
  faultline run 2019-munmap-remap --kernel v5.5 --quiet --trace out.dat && trace-cmd report -N out.dat
  faultline run my.guest --trace out.pftrace              open it in ui.perfetto.dev
  faultline run my.guest --quiet --stat
  faultline run my.guest --format jsonl | jq 'select(.event == "kvm_guest_fault")'
  echo 'guest { mov x0, 1 }' | faultline run -`,
    )
    .action(async (files: string[], o: RunOptions & { schedule?: string }) => {
      const { runFiles } = await import("../run.js");
      const { quiet, explain, stat, table } = o;
      const args = {
        ...(await selection(o)),
        format: o.json === true ? ("json" as const) : o.format,
        quiet,
        explain,
        stat,
        table,
        ...(o.schedule === undefined ? {} : { schedule: o.schedule }),
      };
      done(await runFiles(files, (f) => ({ ...args, ...traceOption(o, files, f) })));
    });
}
