/** The words of `faultline conform`: replay recordings of real kernels against the emulator and report what it reproduces. */
import type { Command } from "commander";
import { type Common, type Done, format, json, type Means, meansIn, meansOptions, wantsJson } from "../options.js";

export function addConform(root: Command, done: Done): void {
  const command = root
    .command("conform")
    .description("replay recordings of real kernels against the emulator and report what it reproduces")
    .argument("<paths...>", "recordings or folders of them")
    .option("--kernel <era>", "run them under this era instead of their own")
    .option("--cpu <name>", "run them on this CPU instead of their own: a profile, or BASE,+feature,-feature")
    .option(
      "--baseline <file>",
      "fail only where this run is worse than the baseline: matched counts by KERNEL/CPU/SCENARIO, or this command's JSON",
    )
    .option("--quiet", "print the differences and the totals only");
  meansOptions(command)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      "\nExamples:\n  faultline conform recordings\n  faultline conform recordings/v5.5 --format json\n  faultline conform mine.rec --kernel v6.12\n  faultline conform recordings --jobs 4\n  faultline conform recordings --quiet --baseline recordings/baseline.json",
    )
    .action(async (paths: string[], o: Common & Means & { baseline?: string; quiet?: boolean }) => {
      const { conformCommand } = await import("../conform.js");
      done(
        await conformCommand(paths, {
          quiet: o.quiet === true,
          means: meansIn(o),
          format: wantsJson(o) ? "json" : "text",
          ...(o.kernel === undefined ? {} : { kernel: o.kernel }),
          ...(o.cpu === undefined ? {} : { cpu: o.cpu }),
          ...(o.baseline === undefined ? {} : { baseline: o.baseline }),
        }),
      );
    });
}
