/** The words of `faultline new`: write a commented script of ten lines that runs. */
import type { Command } from "commander";
import { format, json, wantsJson, type Done } from "../options.js";

export function addNew(root: Command, done: Done): void {
  root
    .command("new")
    .description("write a commented script of ten lines that runs")
    .argument("<file>")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText("after", "\nExamples:\n  faultline new my.guest && faultline run my.guest")
    .action(async (file: string, o: { format: string; json?: boolean }) => {
      const { newCommand } = await import("../new.js");
      done(await newCommand(file, wantsJson(o)));
    });
}
