/** The words of `faultline measure`: what policies cost in virtual time. */
import { Option, type Command } from "commander";
import {
  costOptions,
  type Costs,
  count,
  type Done,
  letOption,
  list,
  type Means,
  meansIn,
  meansOptions,
  several,
  whole,
} from "../options.js";

export function addMeasure(root: Command, done: Done): void {
  const command = root
    .command("measure")
    .description("what policies cost: a script under each policy and kernel, in cycles of virtual time")
    .argument("<file>", "FILE, NAME or -")
    .option("--policies <names>", "policies or variants of the script, separated by commas; its own variants if absent", list)
    .option("--policy <name=decision=value>", "a policy of your own: name=decision=value,decision=value (repeatable)", several)
    .option("--kernels <eras>", "kernels, separated by commas; each variant's own if absent", list)
    .option("--cpu <name>", "a CPU profile, or BASE,+feature,-feature");
  meansOptions(letOption(costOptions(command)))
    .option("--max-steps <n>", "phases and guest instructions that a run may take", count)
    .option("--max-memory <size>", "memory that a run may use: 512M, 2G", whole)
    .addOption(new Option("--format <format>", "output format").choices(["table", "json", "csv", "svg"]).default("table"))
    .option("--json", "the same as --format json")
    .addHelpText(
      "after",
      `
Policies: default, eager, demand, block, thp, nothp, nc, ngnre, eager-split, split-on-fault, and the script's own variants (docs/measure.md).

Examples:
  faultline measure 2019-framebuffer-walk --policies eager,demand,block --kernels v5.4,v5.5,v5.14
  faultline measure 2024-bar-copy --policies nc,ngnre --kernels v6.12 --let COPY=64M
  faultline measure 2023-dirty-log-eager-split
  faultline measure my.guest --policies demand --kernels v5.5,v6.12 --cost trap=2000
  faultline measure my.guest --policies default --policy late=pfnmapBlockSize=page --format svg > costs.svg`,
    )
    .action(async (file: string, o: Words) => {
      const { measureCommand } = await import("../measure.js");
      const { letsOf } = await import("../execute.js");
      const { costOverrides } = await import("../costs.js");
      done(
        await measureCommand(file, {
          policies: o.policies ?? [],
          own: o.policy ?? [],
          kernels: o.kernels ?? [],
          ...(o.cpu === undefined ? {} : { cpu: o.cpu }),
          ...(o.let === undefined ? {} : { lets: letsOf(o.let) }),
          costs: costOverrides(o.cost, o.costs),
          means: meansIn(o),
          format: o.json === true ? "json" : o.format,
          ...(o.maxSteps === undefined ? {} : { maxSteps: o.maxSteps }),
          ...(o.maxMemory === undefined ? {} : { maxMemory: o.maxMemory }),
        }),
      );
    });
}

interface Words extends Costs, Means {
  readonly policies?: string[];
  readonly policy?: string[];
  readonly kernels?: string[];
  readonly cpu?: string;
  readonly let?: string[];
  readonly format: "table" | "json" | "csv" | "svg";
  readonly json?: boolean;
  readonly maxSteps?: number;
  readonly maxMemory?: number;
}
