/** The words of `faultline esr`: take a syndrome apart. */
import type { Command } from "commander";
import { type Common, type Done, format, json, wantsJson } from "../options.js";

export function addEsr(root: Command, done: Done): void {
  root
    .command("esr")
    .description("take a syndrome apart")
    .argument("<esr>", "ESR_ELx, hexadecimal")
    .option("--hpfar <value>", "HPFAR_EL2: the IPA of the page")
    .option("--far <value>", "FAR_ELx")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText("after", "\nExamples:\n  faultline esr 0x93c48005\n  faultline esr 0x920001c6 --hpfar 0x200000 --far 0xc0000000")
    .action(async (esr: string, o: Common & { hpfar?: string; far?: string }) => {
      const { esrCommand } = await import("../esr.js");
      done(await esrCommand(esr, { ...o, format: wantsJson(o) ? "json" : "text" }));
    });
}
