/** The words of `faultline litmus`: small multi-CPU tests, every interleaving of each. */
import type { Command } from "commander";
import { count, type Common, type Done, format, json, type Means, meansIn, meansOptions, wantsJson } from "../options.js";

export function addLitmus(root: Command, done: Done): void {
  const command = root
    .command("litmus")
    .description("run litmus tests of translation, ordering, caches and PCIe: every outcome of every interleaving")
    .argument("[files...]", "files of tests; the bundled catalogue if absent")
    .option("--test <id>", "only this test, or all tests of a row: A12, A12/ctrl", (v: string, before: string[] = []) => [...before, v])
    .option("--outcomes", "list every outcome that was reached")
    .option("--quiet", "the tests that do not agree, and the totals")
    .option("--max-states <n>", "states after which the search of one test ends", count);
  meansOptions(command)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      "\nExamples:\n  faultline litmus\n  faultline litmus --test C2 --outcomes\n  faultline litmus mine.litmus --format json\n  faultline litmus --quiet --max-states 1M --jobs 4",
    )
    .action(async (files: string[], o: Common & Means & { test?: string[]; outcomes?: boolean; quiet?: boolean; maxStates?: number }) => {
      const { litmusCommand } = await import("../litmus.js");
      done(
        await litmusCommand(files, {
          format: wantsJson(o) ? "json" : "text",
          tests: o.test ?? [],
          outcomes: o.outcomes === true,
          quiet: o.quiet === true,
          means: meansIn(o),
          ...(o.maxStates === undefined ? {} : { maxStates: o.maxStates }),
        }),
      );
    });
}
