/** The words of `faultline run`: run a script: a file, the name of a bundled scenario, or - for standard input. */
import type { Command } from "commander";
import { type Common, type Done, format, json, selection, withMachineOptions } from "../options.js";
import { OK } from "../status.js";

export function addRun(root: Command, done: Done): void {
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
      const { runCommand } = await import("../run.js");
      const args = { ...(await selection(o)), format: o.json === true ? ("json" as const) : o.format, quiet: o.quiet, explain: o.explain };
      let worst = OK;
      for (const f of files) worst = Math.max(worst, await runCommand(f, args));
      done(worst);
    });
}
