/** The words of `faultline dump`: the machine's tables, TLBs, VMAs and memslots at any event of a run. */
import { type Command, Option } from "commander";
import { type Common, type Done, format, json, selection, step, wantsJson, withMachineOptions } from "../options.js";

const WHAT = ["stage2", "host", "guest", "tlb", "vmas", "memslots", "cache", "buffers"];

export function addDump(root: Command, done: Done): void {
  withMachineOptions(
    root
      .command("dump")
      .description("page tables, TLBs, VMAs and memslots at any event of a run, in the formats of the real tools")
      .argument("<file>", "FILE, NAME or -")
      .addOption(new Option("--what <what>", "what to show").choices(WHAT).default("stage2"))
      .option("--at <step>", "right after this event: the number in front of it in a trace (without: the end of the run)", step)
      .option("--kernel <era>", "the script's variant of this name or era, or its first variant under this era")
      .option("--variant <name>", "the script's variant of this name"),
  )
    .option("--long", "with what the real format leaves out: output addresses, memory types, software bits", false)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
stage2     debugfs stage2_page_tables; --long: output address, memory type, shareability, software bits
host       the VMM's page tables, in the columns of the kernel's page-table dump
guest      each vCPU's stage-1 tables, read through its stage 2
tlb        what each CPU's TLBs hold beside what the tables say now; stale entries are marked
vmas       /proc/PID/maps with the VmFlags of smaps
memslots   QEMU's info mtree -f
cache      cache lines beside memory: state, dirty bytes, both values; the stale copy is marked (cache modelled)
buffers    how far each store has got: store and gathering buffers, interconnect, root complex (buffers modelled)

Examples:
  faultline dump 2012-demand-fault --long
  faultline run 2019-munmap-remap --events all            the numbers of its events
  faultline dump 2019-munmap-remap --kernel v5.5 --what vmas
  faultline dump 2019-munmap-remap --kernel v5.5 --what tlb --at 10300 --json`,
    )
    .action(async (file: string, o: Common & { what: string; at?: number; variant?: string; long: boolean }) => {
      const { dumpCommand } = await import("../dump.js");
      const args = { ...(await selection(o)), what: o.what, long: o.long, format: wantsJson(o) ? ("json" as const) : ("text" as const) };
      done(
        await dumpCommand(file, {
          ...args,
          ...(o.at === undefined ? {} : { at: o.at }),
          ...(o.variant === undefined ? {} : { variant: o.variant }),
        }),
      );
    });
}
