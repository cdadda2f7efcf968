/** The tree of commands with their options and help: what `faultline` parses, its completion scripts offer and its manual page describes. */
import { type Argument, Command, InvalidArgumentError, type Option } from "commander";
import { addAttrs } from "./commands/attrs.js";
import { addBench } from "./commands/bench.js";
import { addCompare } from "./commands/compare.js";
import { addCompletion } from "./commands/completion.js";
import { addConform } from "./commands/conform.js";
import { addDebug } from "./commands/debug.js";
import { addDemo } from "./commands/demo.js";
import { addDiff } from "./commands/diff.js";
import { addDump } from "./commands/dump.js";
import { addEsr } from "./commands/esr.js";
import { addExplain } from "./commands/explain.js";
import { addFuzz } from "./commands/fuzz.js";
import { addExplore } from "./commands/explore.js";
import { addImport } from "./commands/import.js";
import { addKernels } from "./commands/kernels.js";
import { addLitmus } from "./commands/litmus.js";
import { addLsp } from "./commands/lsp.js";
import { addMeasure } from "./commands/measure.js";
import { addNew } from "./commands/new.js";
import { addReport } from "./commands/report.js";
import { addRun } from "./commands/run.js";
import { addScenarios } from "./commands/scenarios.js";
import { addSelftest } from "./commands/selftest.js";
import { addWorker } from "./commands/worker.js";
import type { Done } from "./options.js";
import { nearest } from "../guest/diagnostics.js";

declare const __FAULTLINE_VERSION__: string | undefined;
const VERSION = typeof __FAULTLINE_VERSION__ === "string" ? __FAULTLINE_VERSION__ : "0.0.0-source";

/** Where there is a choice, a wrong word gets the nearest right one; commander itself says it of commands and options only. */
function suggest(taken: Option | Argument): void {
  const { argChoices } = taken;
  if (argChoices === undefined || taken.variadic) return;
  taken.argParser((word: string) => {
    if (argChoices.includes(word)) return word;
    const near = nearest(word, argChoices);
    const hint = near === undefined ? "" : `Did you mean ${near}? `;
    throw new InvalidArgumentError(`${hint}Allowed choices are ${argChoices.join(", ")}.`);
  });
}

/** In the order in which the help lists them. */
const COMMANDS: ReadonlyMap<string, (root: Command, done: Done) => void> = new Map([
  ["run", addRun],
  ["compare", addCompare],
  ["diff", addDiff],
  ["measure", addMeasure],
  ["explain", addExplain],
  ["debug", addDebug],
  ["dump", addDump],
  ["report", addReport],
  ["explore", addExplore],
  ["kernels", addKernels],
  ["scenarios", addScenarios],
  ["new", addNew],
  ["import", addImport],
  ["demo", addDemo],
  ["conform", addConform],
  ["litmus", addLitmus],
  ["fuzz", addFuzz],
  ["worker", addWorker],
  ["bench", addBench],
  ["attrs", addAttrs],
  ["esr", addEsr],
  ["selftest", addSelftest],
  ["completion", (root, done) => addCompletion(root, done, () => program(done))],
  ["lsp", addLsp],
]);
/** What the first word may be. */
export const COMMAND_NAMES: readonly string[] = [...COMMANDS.keys()];

/**
 * The tree of commands.
 * @param named only this command, if it is one: a start that builds the options of all others is some milliseconds longer
 */
export function program(done: Done, named?: string): Command {
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

  const one = named === undefined ? undefined : COMMANDS.get(named);
  for (const add of one === undefined ? COMMANDS.values() : [one]) add(root, done);
  for (const c of root.commands) for (const taken of [...c.options, ...c.registeredArguments]) suggest(taken);
  return root;
}
