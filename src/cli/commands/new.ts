/** The words of `faultline new`: write a commented script of ten lines that runs. */
import type { Command } from "commander";
import { type Done } from "../options.js";

export function addNew(root: Command, done: Done): void {
  root
    .command("new")
    .description("write a commented script of ten lines that runs")
    .argument("<file>")
    .addHelpText("after", "\nExamples:\n  faultline new my.guest && faultline run my.guest")
    .action(async (file: string) => {
      const { newCommand } = await import("../new.js");
      done(await newCommand(file));
    });
}
