#!/usr/bin/env node
/**
 * The command `faultline`. Each command's code is imported when it runs, so that the start stays short.
 * Exit statuses: 0 ok; 1 an expectation failed or traces differ; 2 wrong input; 3 a budget is used up; 130 interrupted.
 */
import { Command, CommanderError } from "commander";
import { addAttrs } from "./cli/commands/attrs.js";
import { addBench } from "./cli/commands/bench.js";
import { addCompare } from "./cli/commands/compare.js";
import { addCompletion } from "./cli/commands/completion.js";
import { addConform } from "./cli/commands/conform.js";
import { addDebug } from "./cli/commands/debug.js";
import { addDemo } from "./cli/commands/demo.js";
import { addDiff } from "./cli/commands/diff.js";
import { addDump } from "./cli/commands/dump.js";
import { addEsr } from "./cli/commands/esr.js";
import { addExplain } from "./cli/commands/explain.js";
import { addFuzz } from "./cli/commands/fuzz.js";
import { addExplore } from "./cli/commands/explore.js";
import { addImport } from "./cli/commands/import.js";
import { addKernels } from "./cli/commands/kernels.js";
import { addLitmus } from "./cli/commands/litmus.js";
import { addMeasure } from "./cli/commands/measure.js";
import { addNew } from "./cli/commands/new.js";
import { addReport } from "./cli/commands/report.js";
import { addRun } from "./cli/commands/run.js";
import { addScenarios } from "./cli/commands/scenarios.js";
import { addSelftest } from "./cli/commands/selftest.js";
import { addWorker } from "./cli/commands/worker.js";
import { BudgetError, didYouMean, ScriptError } from "./guest/diagnostics.js";
import { inlineMore } from "./cli/inlining.js";
import type { Done } from "./cli/options.js";
import { BUDGET, OK, UsageError, WRONG_INPUT } from "./cli/status.js";

declare const __FAULTLINE_VERSION__: string | undefined;
const VERSION = typeof __FAULTLINE_VERSION__ === "string" ? __FAULTLINE_VERSION__ : "0.0.0-source";

export function program(done: Done): Command {
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

  // In the order in which the help lists them.
  addRun(root, done);
  addCompare(root, done);
  addDiff(root, done);
  addMeasure(root, done);
  addExplain(root, done);
  addDebug(root, done);
  addDump(root, done);
  addReport(root, done);
  addExplore(root, done);
  addKernels(root, done);
  addScenarios(root, done);
  addNew(root, done);
  addImport(root, done);
  addDemo(root, done);
  addConform(root, done);
  addLitmus(root, done);
  addFuzz(root, done);
  addWorker(root, done);
  addBench(root, done);
  addAttrs(root, done);
  addEsr(root, done);
  addSelftest(root, done);
  addCompletion(root, done);
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
  else if (e instanceof Error && (e.name === "RecordingError" || e.name === "FaultlineError"))
    process.stderr.write(`error: ${e.message}\n`);
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
