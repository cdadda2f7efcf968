/** The words of `faultline bench`: how fast the emulator is: faults, accesses and exits per second of wall clock. */
import type { Command } from "commander";
import { type Common, type Done, format, json, wantsJson } from "../options.js";

export function addBench(root: Command, done: Done): void {
  root
    .command("bench")
    .description("how fast the emulator is: faults, accesses and exits per second of wall clock")
    .argument("[names...]", "suites; all of them if absent")
    .option("--quick", "fewer samples: all suites within a minute", false)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText("after", "\nExamples:\n  faultline bench --quick\n  faultline bench demand-fault-4k --json")
    .action(async (names: string[], o: Common & { quick: boolean }) => {
      const { benchCommand } = await import("../bench.js");
      done(await benchCommand({ names, quick: o.quick, json: wantsJson(o) }));
    });
}
