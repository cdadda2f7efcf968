/** The words of `faultline explain`: why an access ended as it did, and what would have answered otherwise. */
import type { Command } from "commander";
import { type Common, type Done, format, json, selection, step, wantsJson, withMachineOptions } from "../options.js";

export function addExplain(root: Command, done: Done): void {
  withMachineOptions(
    root
      .command("explain")
      .description("why an access, exit, EFAULT or injected abort came out as it did, and what would have answered otherwise")
      .argument("<file>", "FILE, NAME or -")
      .option("--step <step>", "the access that this event belongs to (without: the last notable outcome)", step)
      .option("--kernel <era>", "the script's variant of this name or era, or its first variant under this era")
      .option("--variant <name>", "the script's variant of this name"),
  )
    .option("--list", "list what can be explained", false)
    .option("--no-check", "do not run the script again under other releases and decisions")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  faultline explain 2026-write-notify-efault              why did KVM_RUN return EFAULT?
  faultline explain 2019-munmap-remap --kernel v5.4       what crashed the host?
  faultline explain my.guest --list                       all notable outcomes, with their numbers
  faultline explain my.guest --step 110 --no-check        one access, this release only`,
    )
    .action(async (file: string, o: Common & { step?: number; variant?: string; list: boolean; check: boolean }) => {
      const { explainCommand } = await import("../explain.js");
      done(
        await explainCommand(file, {
          ...(await selection(o)),
          list: o.list,
          check: o.check,
          format: wantsJson(o) ? "json" : "text",
          ...(o.step === undefined ? {} : { step: o.step }),
          ...(o.variant === undefined ? {} : { variant: o.variant }),
        }),
      );
    });
}
