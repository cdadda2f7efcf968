/** The words of `faultline report`: a run as a page to look at. */
import type { Command } from "commander";
import { type Common, type Done, format, json, list, selection, wantsJson, withMachineOptions } from "../options.js";

type ReportOptions = Omit<Common, "kernel"> & { output: string; kernel?: string[]; variant?: string[]; open: boolean };

export function addReport(root: Command, done: Done): void {
  withMachineOptions(
    root
      .command("report")
      .description("a page to look at: timeline, guest address space, TLBs and explanations, two eras side by side")
      .argument("<file>", "FILE, NAME or -")
      .option("-o, --output <file>", "the page; it needs no network and no other file", "report.html")
      .option("--kernel <eras>", "variants of these names or eras, or the first variant under these eras: v5.4,v5.5 (repeatable)", list)
      .option("--variant <names>", "the script's variants of these names (repeatable)", list),
  )
    .option("--open", "serve the page on loopback too, until Ctrl-C", false)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Without --kernel and --variant the page has the script's variants, four of them at most.

Examples:
  faultline report 2019-munmap-remap -o report.html        both variants; the first difference is marked
  faultline report my.guest --kernel v5.4,v6.12            one script under two releases
  faultline report my.guest --set pfnmapBlockSize=page     one decision of the era replaced
  faultline report my.guest --open                         for a browser that reads no files of this machine`,
    )
    .action(async (file: string, o: ReportOptions) => {
      const { reportCommand } = await import("../report.js");
      const { kernel, variant, ...rest } = o;
      done(
        await reportCommand(file, {
          ...(await selection(rest)),
          output: o.output,
          open: o.open,
          format: wantsJson(o) ? "json" : "text",
          kernels: kernel ?? [],
          variants: variant ?? [],
        }),
      );
    });
}
