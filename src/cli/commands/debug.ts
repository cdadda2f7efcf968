/** The words of `faultline debug`: forwards and backwards through a run. */
import type { Command } from "commander";
import { type Common, type Done, format, json, selection, wantsJson, withMachineOptions } from "../options.js";

export function addDebug(root: Command, done: Done): void {
  withMachineOptions(
    root
      .command("debug")
      .description("go forwards and backwards through a run by event, access or fault, and see what changed")
      .argument("<file>", "FILE or NAME (commands come from standard input)")
      .option("--kernel <era>", "the script's variant of this name or era, or its first variant under this era")
      .option("--variant <name>", "the script's variant of this name"),
  )
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Inside, help lists the commands: step, back, continue, rcontinue, goto, break, dump, explain, where, list, quit.

Examples:
  faultline debug 2019-munmap-remap --kernel v5.5
  printf 'break kvm_guest_fault\\ncontinue\\nback\\n' | faultline debug my.guest
  printf 'break stage2_entry if level == 3\\ncontinue\\ndump tlb\\n' | faultline debug my.guest --json`,
    )
    .action(async (file: string, o: Common & { variant?: string }) => {
      const { debugCommand } = await import("../debug.js");
      done(
        await debugCommand(file, {
          ...(await selection(o)),
          format: wantsJson(o) ? "json" : "text",
          ...(o.variant === undefined ? {} : { variant: o.variant }),
        }),
      );
    });
}
