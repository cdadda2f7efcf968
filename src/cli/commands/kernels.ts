/** The words of `faultline kernels`: the eras; an era's decisions with their sources; what differs; which release does what. */
import type { Command } from "commander";
import { UsageError } from "../status.js";
import { commaSeparated, type Common, type Done, format, json, wantsJson } from "../options.js";

export function addKernels(root: Command, done: Done): void {
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
      const { kernelsCommand, pair } = await import("../kernels.js");
      const words = o.diff === undefined ? undefined : o.diff.flatMap(commaSeparated).concat(era === undefined ? [] : [era]);
      if (o.feature !== undefined && (era !== undefined || words !== undefined))
        throw new UsageError("--feature goes through all eras: it takes neither an era nor --diff");
      done(
        await kernelsCommand(words === undefined ? era : undefined, {
          format: wantsJson(o) ? "json" : "text",
          ...(words === undefined ? {} : { diff: pair(words) }),
          ...(o.feature === undefined ? {} : { feature: o.feature }),
        }),
      );
    });
}
