/** The words of `faultline scenarios`: the bundled scenarios, their titles and sources. */
import type { Command } from "commander";
import { type Common, type Done, format, json, wantsJson } from "../options.js";

export function addScenarios(root: Command, done: Done): void {
  root
    .command("scenarios")
    .description("the bundled scenarios, their titles and sources")
    .argument("[name]")
    .option("--show", "print the script", false)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText("after", "\nExamples:\n  faultline scenarios\n  faultline scenarios 2019-munmap-remap --show")
    .action(async (name: string | undefined, o: Common & { show: boolean }) => {
      const { scenariosCommand } = await import("../scenarios.js");
      done(await scenariosCommand(name, { show: o.show, format: wantsJson(o) ? "json" : "text" }));
    });
}
