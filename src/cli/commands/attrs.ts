/** The words of `faultline attrs`: combine a stage-1 attribute with a stage-2 MemAttr: the resulting memory type, and why. */
import { type Command, Option } from "commander";
import { type Common, type Done, format, json, wantsJson } from "../options.js";

export function addAttrs(root: Command, done: Done): void {
  root
    .command("attrs")
    .description("combine a stage-1 attribute with a stage-2 MemAttr: the resulting memory type, and why")
    .option("--s1 <byte>", "stage-1 attribute, a MAIR byte")
    .option("--s2 <memattr>", "stage-2 MemAttr, descriptor bits 5:2")
    .option("--fwb", "HCR_EL2.FWB is set (FEAT_S2FWB)", false)
    .option("--sh <s1[,s2]>", "shareability in the descriptors: 0, 2 or 3; 3 if absent")
    .addOption(
      new Option("--table", "all legal combinations as CSV: s1attr,s2memattr,fwb,s1sh,s2sh,attr,sh")
        .default(false)
        .conflicts(["s1", "s2", "fwb", "sh"]),
    )
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      "\nExamples:\n  faultline attrs --s1 0xff --s2 0x5\n  faultline attrs --s1 0x00 --s2 6 --fwb\n  faultline attrs --table > attrs.csv",
    )
    .action(async (o: Common & { s1?: string; s2?: string; fwb: boolean; sh?: string; table: boolean }) => {
      const { attrsCommand } = await import("../attrs.js");
      done(await attrsCommand({ ...o, format: wantsJson(o) ? "json" : "text" }));
    });
}
