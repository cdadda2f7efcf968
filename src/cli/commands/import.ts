/** The words of `faultline import`: a guest script from what strace or QEMU printed. */
import { Argument, type Command } from "commander";
import { format, json, wantsJson, type Done } from "../options.js";

export function addImport(root: Command, done: Done): void {
  root
    .command("import")
    .description("a guest script from the system calls of a VMM (strace) or from QEMU's memory map (info mtree -f)")
    .addArgument(new Argument("<kind>", "what the file is").choices(["strace", "mtree"]))
    .argument("<file>", "the file, or - for standard input")
    .option("-o, --output <file>", "write the script to this file")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  strace -f -o vmm.strace -e trace=ioctl,mmap,munmap,mprotect,madvise qemu-system-aarch64 …
  faultline import strace vmm.strace -o vmm.guest && faultline run vmm.guest
  faultline import mtree mtree.txt | faultline run -`,
    )
    .action(async (kind: "strace" | "mtree", file: string, o: { output?: string; format: string; json?: boolean }) => {
      const { importCommand } = await import("../import.js");
      done(await importCommand(kind, file, { json: wantsJson(o), ...(o.output === undefined ? {} : { output: o.output }) }));
    });
}
