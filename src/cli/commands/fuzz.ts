/** The words of `faultline fuzz`: random programs against a naive model. */
import { type Command, Option } from "commander";
import { UsageError } from "../status.js";
import { atLeastOne, type Done, duration, format, json, list, type Means, meansOptions, wantsJson, whole } from "../options.js";

export interface FuzzWords extends Readonly<Means> {
  readonly format: string;
  readonly json?: boolean;
  readonly kernel?: string[];
  readonly cpu?: string[];
  readonly set?: string[];
  readonly seed: number;
  readonly runs?: number;
  readonly time?: number;
  readonly corpus?: string;
  readonly resume: boolean;
  readonly compare?: string;
  readonly hostile: boolean;
  readonly recordQemu?: string;
  readonly modules?: string;
  readonly recorder?: string;
  readonly batch: number;
  readonly backing?: string;
}

export function addFuzz(root: Command, done: Done): void {
  const command = root
    .command("fuzz")
    .description("random programs against a naive model of memory and dirty pages; a failure becomes a small script")
    .option("--kernel <eras>", "eras, separated by commas or repeated; v6.12 if absent", list)
    .option("--cpu <names>", "CPU profiles, separated by commas; max if absent", (v: string, before: string[] = []) => [...before, v])
    .option("--set <decision=value>", "replace one decision of the eras (repeatable)", (v: string, before: string[] = []) => [...before, v])
    .option("--seed <n>", "decides every program", whole, 1)
    .option("--runs <n>", "programs; 2000 if neither this nor --time is given", atLeastOne)
    .option("--time <t>", "how long programs are begun: 90s, 10m, 1h", duration);
  meansOptions(command)
    .option("--compare <eras>", "two eras, A,B: the classes of programs that they answer differently, and the decision behind each")
    .addOption(
      new Option("--hostile", "bundled scripts and recordings, broken at random, through the commands that read them")
        .default(false)
        .conflicts(["kernel", "cpu", "set", "compare", "recordQemu"]),
    )
    .addOption(
      new Option(
        "--record-qemu <kernel>",
        "random scenarios recorded on this arm64 kernel image in QEMU, and compared with the emulator",
      ).conflicts(["set", "compare"]),
    )
    .option("--modules <dir>", "of --record-qemu: the kernel's modules, …/lib/modules/RELEASE")
    .option("--recorder <script>", "of --record-qemu: what records, if not the bundled recorder/record.sh")
    .option("--batch <n>", "of --record-qemu: scenarios of one boot", atLeastOne, 50)
    .option("--backing <kind>", "of --record-qemu: what all slots are backed by: nohuge, thp, anon, memfd, hugetlb, bar2, gmem")
    .option("--corpus <dir>", "keeps the corpus, the failing scripts and the state of the campaign here")
    .option("--resume", "go on with the campaign in --corpus", false)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Exit status 1: a failure that no decision of the kernel explains; with --record-qemu, a disagreement.

Examples:
  faultline fuzz
  faultline fuzz --kernel v5.5,v7.2.12 --cpu cortex-a76 --runs 20k --jobs 2
  faultline fuzz --time 1h --jobs 2 --corpus campaign
  faultline fuzz --time 1h --jobs 2 --corpus campaign --resume
  faultline fuzz --compare v6.8,v6.9 --runs 500
  faultline fuzz --hostile --runs 10k
  faultline fuzz --record-qemu boot/vmlinuz-6.12.117 --modules lib/modules/6.12.117 --runs 200
  faultline fuzz --set dirtyMark=pages-before-set --runs 5k`,
    )
    .action(async (o: FuzzWords) => {
      for (const name of ["modules", "recorder", "batch", "backing"])
        if (o.recordQemu === undefined && command.getOptionValueSource(name) === "cli")
          throw new UsageError(`--${name} belongs to --record-qemu KERNEL`);
      if (o.hostile) {
        const { fuzzHostileCommand } = await import("../fuzzhostile.js");
        done(await fuzzHostileCommand(o, wantsJson(o)));
        return;
      }
      if (o.recordQemu !== undefined) {
        const { fuzzRecordedCommand } = await import("../fuzzrecorded.js");
        done(await fuzzRecordedCommand(o, o.recordQemu, wantsJson(o)));
        return;
      }
      if (o.compare !== undefined) {
        const { fuzzCompareCommand } = await import("../fuzzcompare.js");
        done(await fuzzCompareCommand(o, o.compare, wantsJson(o)));
        return;
      }
      const { fuzzCommand } = await import("../fuzz.js");
      done(await fuzzCommand(o, wantsJson(o)));
    });
}
