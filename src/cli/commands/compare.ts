/** The words of `faultline compare`: run a script under several kernels, or both ways of a decision; mark the first difference, compare every stage-2 leaf. */
import type { Command } from "commander";
import { type Common, type Done, format, json, letOption, list, selection, wantsJson, withMachineOptions } from "../options.js";
import { UsageError } from "../status.js";

export function addCompare(root: Command, done: Done): void {
  letOption(
    withMachineOptions(
      root
        .command("compare")
        .description(
          "run a script under several kernels, or both ways of a decision; mark the first difference, compare every stage-2 leaf",
        )
        .argument("<file>", "FILE, NAME or -")
        .option("--kernels <eras>", "eras or variants, separated by commas", list),
    ),
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
      const { compareCommand } = await import("../compare.js");
      const { alternativesOf } = await import("../execute.js");
      const several = (o.set ?? []).filter((s) => s.includes(","));
      if (several.length > 1) throw new UsageError("only one --set can have several values");
      const set = (o.set ?? []).filter((s) => !s.includes(","));
      const rest = Object.fromEntries(Object.entries(o).filter(([name]) => name !== "set")) as typeof o;
      done(
        await compareCommand(file, {
          ...(await selection(set.length === 0 ? rest : { ...rest, set })),
          ...(several.length === 0 ? {} : { vary: alternativesOf(several[0]!) }),
          kernels: o.kernels ?? [],
          format: wantsJson(o) ? "json" : "text",
        }),
      );
    });
}
