#!/usr/bin/env node
/**
 * The command `faultline`. Each command's code is imported when it runs, so that the start stays short.
 * Exit statuses: 0 ok; 1 an expectation failed or traces differ; 2 wrong input; 3 a budget is used up; 130 interrupted.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { BudgetError, didYouMean, ScriptError } from "./guest/diagnostics.js";
import { inlineMore } from "./cli/inlining.js";
import type { RunArguments } from "./cli/run.js";
import { BUDGET, OK, UsageError, WRONG_INPUT } from "./cli/status.js";

declare const __FAULTLINE_VERSION__: string | undefined;
const VERSION = typeof __FAULTLINE_VERSION__ === "string" ? __FAULTLINE_VERSION__ : "0.0.0-source";

type Format = "text" | "json" | "jsonl";

function whole(text: string): number {
  const m = /^([0-9][0-9_]*)([KMGT]?)$/i.exec(text);
  const value = m === null ? NaN : Number(m[1]!.replaceAll("_", "")) * 1024 ** " KMGT".indexOf(m[2]!.toUpperCase() || " ");
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`expected a whole number such as 4096, 512M or 2G, not "${text}".`);
  return value;
}
const count = (text: string): number => {
  const m = /^([0-9][0-9_]*)([KMG]?)$/i.exec(text);
  const value = m === null ? NaN : Number(m[1]!.replaceAll("_", "")) * 1000 ** " KMG".indexOf(m[2]!.toUpperCase() || " ");
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`expected a number of steps, not "${text}".`);
  return value;
};
const list = (text: string, before: string[] = []): string[] => [...before, ...text.split(",").filter((w) => w !== "")];
const format = (...choices: Format[]): Option => new Option("--format <format>", "output format").choices(choices).default("text");
const json = (): Option => new Option("--json", "the same as --format json");
const events = (): Option => new Option("--events <which>", "events that the trace shows").choices(["none", "story", "explain", "all"]);

interface Common {
  format: Format;
  json?: boolean;
  kernel?: string;
  cpu?: string;
  set?: string[];
  seed?: number;
  maxSteps?: number;
  maxMemory?: number;
  events?: "none" | "story" | "explain" | "all";
}

/** Options under their names in the commands; absent ones stay absent. */
async function selection(o: Common): Promise<Omit<RunArguments, "format" | "quiet" | "explain">> {
  const { settingOf } = await import("./cli/execute.js");
  return {
    ...(o.kernel === undefined ? {} : { kernel: o.kernel }),
    ...(o.cpu === undefined ? {} : { cpu: o.cpu }),
    ...(o.set === undefined ? {} : { set: Object.fromEntries(o.set.map(settingOf)) }),
    ...(o.seed === undefined ? {} : { seed: o.seed }),
    ...(o.maxSteps === undefined ? {} : { maxSteps: o.maxSteps }),
    ...(o.maxMemory === undefined ? {} : { maxMemory: o.maxMemory }),
    ...(o.events === undefined ? {} : { events: o.events }),
  };
}

function withMachineOptions(c: Command): Command {
  return c
    .option("--cpu <name>", "the script's variants of this CPU, or its first variant on this CPU: a profile, or BASE,+feature,-feature")
    .option("--set <decision=value>", "replace one decision of the era (repeatable)", (v: string, before: string[] = []) => [...before, v])
    .option("--seed <n>", "seed of the run", whole)
    .option("--max-steps <n>", "phases and guest instructions that a run may take", count)
    .option("--max-memory <size>", "memory that a run may use: 512M, 2G", whole)
    .addOption(events());
}

export function program(done: (status: number) => void): Command {
  const root = new Command("faultline")
    .description("Replays the KVM/arm64 fault path: guest access, stage 2, KVM, host memory, VFIO; release by release.")
    .version(VERSION)
    .showSuggestionAfterError(true)
    .exitOverride()
    .addHelpText(
      "after",
      `
Examples:
  faultline demo                                          a real bug, before and after its fix
  faultline run 2019-munmap-remap                         a bundled scenario, all of its variants
  faultline run my.guest --kernel v6.12                   your own script
  faultline compare my.guest --kernels v5.4,v5.5          where do two releases part?
  faultline kernels --diff v5.4 v5.5                      what changed between them`,
    );

  withMachineOptions(
    root
      .command("run")
      .description("run a script: a file, the name of a bundled scenario, or - for standard input")
      .argument("<files...>", "FILE, NAME or -")
      .option("--kernel <era>", "the script's variants of this era, or its first variant under this era"),
  )
    .option("--quiet", "verdicts and failures only", false)
    .option("--explain", "show what was asked on the way: memslot, VMA, host entry, the decisions", false)
    .addOption(format("text", "json", "jsonl"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  faultline run 2019-munmap-remap
  faultline run 2019-munmap-remap --kernel v5.4 --explain
  faultline run my.guest --kernel v6.12 --cpu cortex-a76 --quiet
  faultline run my.guest --format jsonl | jq 'select(.event == "kvm_guest_fault")'
  echo 'guest { mov x0, 1 }' | faultline run -`,
    )
    .action(async (files: string[], o: Common & { quiet: boolean; explain: boolean }) => {
      const { runCommand } = await import("./cli/run.js");
      const args = { ...(await selection(o)), format: o.json === true ? ("json" as const) : o.format, quiet: o.quiet, explain: o.explain };
      let worst = OK;
      for (const f of files) worst = Math.max(worst, await runCommand(f, args));
      done(worst);
    });

  withMachineOptions(
    root
      .command("compare")
      .description("run a script under several kernels, or both ways of a decision; mark the first difference, compare every stage-2 leaf")
      .argument("<file>", "FILE, NAME or -")
      .option("--kernels <eras>", "eras or variants, separated by commas", list),
  )
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  faultline compare 2019-munmap-remap --kernels v5.4,v5.5
  faultline compare my.guest --kernels v5.14,v6.12,v6.17 --format json
  faultline compare 2019-eager-vgpu --set eagerDeviceMapping=true,false`,
    )
    .action(async (file: string, o: Common & { kernels?: string[] }) => {
      const { compareCommand } = await import("./cli/compare.js");
      const { alternativesOf } = await import("./cli/execute.js");
      const several = (o.set ?? []).filter((s) => s.includes(","));
      if (several.length > 1) throw new UsageError("only one --set can have several values");
      const set = (o.set ?? []).filter((s) => !s.includes(","));
      const rest = Object.fromEntries(Object.entries(o).filter(([name]) => name !== "set")) as typeof o;
      done(
        await compareCommand(file, {
          ...(await selection(set.length === 0 ? rest : { ...rest, set })),
          ...(several.length === 0 ? {} : { vary: alternativesOf(several[0]!) }),
          kernels: o.kernels ?? [],
          format: o.json === true || o.format === "json" ? "json" : "text",
        }),
      );
    });

  root
    .command("kernels")
    .description("the eras; an era's decisions with their sources; what differs; which release does what")
    .argument("[era]")
    .option("--diff <eras...>", "what differs between two eras")
    .option("--feature <decision>", "one decision through all eras")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  faultline kernels
  faultline kernels v5.4
  faultline kernels --diff v5.4 v5.5
  faultline kernels --feature eagerDeviceMapping`,
    )
    .action(async (era: string | undefined, o: Common & { diff?: string[]; feature?: string }) => {
      const { kernelsCommand, pair } = await import("./cli/kernels.js");
      const words =
        o.diff === undefined
          ? undefined
          : o.diff.flatMap((w) => w.split(",")).concat(o.diff.length === 1 && era !== undefined ? [era] : []);
      done(
        await kernelsCommand(words === undefined ? era : undefined, {
          format: o.json === true || o.format === "json" ? "json" : "text",
          ...(words === undefined ? {} : { diff: pair(words) }),
          ...(o.feature === undefined ? {} : { feature: o.feature }),
        }),
      );
    });

  root
    .command("scenarios")
    .description("the bundled scenarios, their titles and sources")
    .argument("[name]")
    .option("--show", "print the script", false)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText("after", "\nExamples:\n  faultline scenarios\n  faultline scenarios 2019-munmap-remap --show")
    .action(async (name: string | undefined, o: Common & { show: boolean }) => {
      const { scenariosCommand } = await import("./cli/scenarios.js");
      done(await scenariosCommand(name, { show: o.show, format: o.json === true || o.format === "json" ? "json" : "text" }));
    });

  root
    .command("new")
    .description("write a commented script of ten lines that runs")
    .argument("<file>")
    .addHelpText("after", "\nExamples:\n  faultline new my.guest && faultline run my.guest")
    .action(async (file: string) => {
      const { newCommand } = await import("./cli/new.js");
      done(await newCommand(file));
    });

  root
    .command("demo")
    .description("the Dec 2019 device-mapping bug under v5.4 and v5.5, side by side")
    .action(async () => {
      const { demoCommand } = await import("./cli/demo.js");
      done(await demoCommand());
    });

  root
    .command("conform")
    .description("replay recordings of real kernels against the emulator and report what it reproduces")
    .argument("<paths...>", "recordings or folders of them")
    .option("--kernel <era>", "run them under this era instead of their own")
    .option("--cpu <name>", "run them on this CPU instead of their own: a profile, or BASE,+feature,-feature")
    .option(
      "--baseline <file>",
      "fail only where this run is worse than the baseline: matched counts by KERNEL/CPU/SCENARIO, or this command's JSON",
    )
    .option("--quiet", "print the differences and the totals only")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      "\nExamples:\n  faultline conform recordings\n  faultline conform recordings/v5.5 --format json\n  faultline conform mine.rec --kernel v6.12\n  faultline conform recordings --quiet --baseline recordings/baseline.json",
    )
    .action(async (paths: string[], o: Common & { baseline?: string; quiet?: boolean }) => {
      const { conformCommand } = await import("./cli/conform.js");
      done(
        await conformCommand(paths, {
          quiet: o.quiet === true,
          format: o.json === true || o.format === "json" ? "json" : "text",
          ...(o.kernel === undefined ? {} : { kernel: o.kernel }),
          ...(o.cpu === undefined ? {} : { cpu: o.cpu }),
          ...(o.baseline === undefined ? {} : { baseline: o.baseline }),
        }),
      );
    });

  root
    .command("bench")
    .description("how fast the emulator is: faults, accesses and exits per second of wall clock")
    .argument("[names...]", "suites; all of them if absent")
    .option("--quick", "fewer samples: all suites within a minute", false)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText("after", "\nExamples:\n  faultline bench --quick\n  faultline bench demand-fault-4k --json")
    .action(async (names: string[], o: Common & { quick: boolean }) => {
      const { benchCommand } = await import("./cli/bench.js");
      done(await benchCommand({ names, quick: o.quick, json: o.json === true || o.format === "json" }));
    });

  root
    .command("attrs")
    .description("combine a stage-1 attribute with a stage-2 MemAttr: the resulting memory type, and why")
    .option("--s1 <byte>", "stage-1 attribute, a MAIR byte")
    .option("--s2 <memattr>", "stage-2 MemAttr, descriptor bits 5:2")
    .option("--fwb", "HCR_EL2.FWB is set (FEAT_S2FWB)", false)
    .option("--sh <s1[,s2]>", "shareability in the descriptors: 0, 2 or 3; 3 if absent")
    .option("--table", "all legal combinations as CSV: s1attr,s2memattr,fwb,s1sh,s2sh,attr,sh", false)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      "\nExamples:\n  faultline attrs --s1 0xff --s2 0x5\n  faultline attrs --s1 0x00 --s2 6 --fwb\n  faultline attrs --table > attrs.csv",
    )
    .action(async (o: Common & { s1?: string; s2?: string; fwb: boolean; sh?: string; table: boolean }) => {
      const { attrsCommand } = await import("./cli/attrs.js");
      done(await attrsCommand({ ...o, format: o.json === true || o.format === "json" ? "json" : "text" }));
    });

  root
    .command("esr")
    .description("take a syndrome apart")
    .argument("<esr>", "ESR_ELx, hexadecimal")
    .option("--hpfar <value>", "HPFAR_EL2: the IPA of the page")
    .option("--far <value>", "FAR_ELx")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText("after", "\nExamples:\n  faultline esr 0x93c48005\n  faultline esr 0x920001c6 --hpfar 0x200000 --far 0xc0000000")
    .action(async (esr: string, o: Common & { hpfar?: string; far?: string }) => {
      const { esrCommand } = await import("./cli/esr.js");
      done(await esrCommand(esr, { ...o, format: o.json === true || o.format === "json" ? "json" : "text" }));
    });

  root
    .command("selftest")
    .description("run the kernel's KVM selftests on the emulator: page_fault_test and others; results as TAP")
    .argument("[names...]", "tests; all of them without a name")
    .option("--kernel <era>", "run them under this era instead of v6.12")
    .option("--cpu <name>", "run them on this CPU instead of max: a profile, or BASE,+feature,-feature")
    .option("--backing <source>", "backing of page_fault_test: anonymous, shmem or anonymous_hugetlb_2mb")
    .option("--set <decision=value>", "replace one decision of the era (repeatable)", (v: string, before: string[] = []) => [...before, v])
    .option("--list", "the tests, how many cases each has, and what they are about", false)
    .addOption(new Option("--format <format>", "output format").choices(["tap", "json"]).default("tap"))
    .addOption(json())
    .addHelpText(
      "after",
      "\nExamples:\n  faultline selftest\n  faultline selftest page_fault_test --kernel v6.17 --backing shmem\n  faultline selftest page_fault_test --set writeFault=any-s1ptw | grep '^not ok'\n  faultline selftest --list",
    )
    .action(
      async (
        names: string[],
        o: { format: string; json?: boolean; kernel?: string; cpu?: string; backing?: string; set?: string[]; list: boolean },
      ) => {
        const { selftestCommand } = await import("./cli/selftest.js");
        done(
          await selftestCommand(names, {
            format: o.json === true || o.format === "json" ? "json" : "tap",
            list: o.list,
            ...(o.kernel === undefined ? {} : { kernel: o.kernel }),
            ...(o.cpu === undefined ? {} : { cpu: o.cpu }),
            ...(o.backing === undefined ? {} : { backing: o.backing }),
            ...(o.set === undefined ? {} : { set: o.set }),
          }),
        );
      },
    );

  return root;
}

/** Says on stderr what is wrong. @returns the exit status */
function report(e: unknown): number {
  if (e instanceof CommanderError) {
    if (e.exitCode === 0) return OK;
    return WRONG_INPUT;
  }
  if (e instanceof ScriptError) process.stderr.write(`${e.message}\n`);
  else if (e instanceof UsageError) process.stderr.write(`error: ${e.message}\n`);
  else if (e instanceof BudgetError) process.stderr.write(`error: ${e.message}${e.option === "" ? "" : `; ${e.option} raises it`}\n`);
  else if (e instanceof Error && e.name === "RecordingError") process.stderr.write(`error: ${e.message}\n`);
  else throw e;
  return e instanceof BudgetError ? BUDGET : WRONG_INPUT;
}

async function main(): Promise<void> {
  // A reader that went away (head, a closed pager) is no error.
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (e: NodeJS.ErrnoException) => {
      if (e.code === "EPIPE") process.exit(process.exitCode ?? OK);
      throw e;
    });
  // No handler for SIGINT: a run does not come back to the event loop, and a signal's default ends it with 130 for the shell.
  const argv = process.argv.slice(2);
  inlineMore();
  try {
    const root = program((status) => {
      process.exitCode = status;
    });
    if (argv.length === 0) {
      root.outputHelp();
      return;
    }
    const names = root.commands.map((c) => c.name());
    if (!argv[0]!.startsWith("-") && argv[0] !== "help" && !names.includes(argv[0]!))
      throw new UsageError(`no command "${argv[0]!}": ${didYouMean(argv[0]!, names)}`);
    for (const c of root.commands) c.exitOverride();
    await root.parseAsync(process.argv);
  } catch (e) {
    process.exitCode = report(e);
  }
}

await main();
