/** The words of `faultline demo`: the Dec 2019 device-mapping bug under v5.4 and v5.5, side by side. */
import type { Command } from "commander";
import { format, json, wantsJson, type Done } from "../options.js";

export function addDemo(root: Command, done: Done): void {
  root
    .command("demo")
    .description("the Dec 2019 device-mapping bug under v5.4 and v5.5, side by side")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText("after", "\nExamples:\n  faultline demo\n  faultline demo --json")
    .action(async (o: { format: string; json?: boolean }) => {
      const { demoCommand } = await import("../demo.js");
      done(await demoCommand(wantsJson(o)));
    });
}
