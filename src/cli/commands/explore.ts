/** The words of `faultline explore`: run every interleaving of a script's agents and ask the invariants at every step. */
import type { Command } from "commander";
import { type Common, count, type Done, format, json, list, type Means, meansIn, meansOptions, wantsJson, whole } from "../options.js";
import { UsageError } from "../status.js";

interface Words extends Common, Means {
  bound?: number;
  reduction: boolean;
  hashing: boolean;
  maxStates?: number;
  maxDepth?: number;
  cutAfter?: number;
  invariants?: string[];
  output?: string;
  listInvariants?: boolean;
}

export function addExplore(root: Command, done: Done): void {
  const command = root
    .command("explore")
    .description("run every interleaving of a script's agents and ask the invariants at every step")
    .argument("[file]", "FILE, NAME or -: a script with a par { … } block")
    .option("--kernel <era>", "the script's variants of this era, or its first variant under this era")
    .option("--cpu <name>", "the script's variants of this CPU, or its first variant on this CPU")
    .option("--set <decision=value>", "replace one decision of the era (repeatable)", (v: string, before: string[] = []) => [...before, v])
    .option("--bound <n>", "only schedules with at most so many preemptions", whole);
  meansOptions(command)
    .option("--no-reduction", "also run steps in both orders that have nothing to do with each other")
    .option("--no-hashing", "also go on from states that are known")
    .option("--max-states <n>", "different states that a variant may have", count)
    .option("--max-steps <n>", "steps that a variant may take", count)
    .option("--max-depth <n>", "steps of a single schedule", count)
    .option("--cut-after <n>", "steps after which a variant's tree is cut into parts that worker threads share; 100000 if absent", count)
    .option("--invariants <names>", "ask only these, separated by commas", list)
    .option("--list-invariants", "print what is asked, and its sources")
    .option(
      "--output <file>",
      "where the schedule of a violation is written; several get their variants' names into it; SCRIPT.VARIANT.schedule if absent",
    )
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  faultline explore 2020-concurrent-vfio-faults
  faultline explore my.guest --kernel v6.1 --bound 2
  faultline explore my.guest --set seqSnapshot=after-unlock
  faultline explore --list-invariants`,
    )
    .action(async (file: string | undefined, o: Words) => {
      const { exploreCommand, listInvariants } = await import("../explore.js");
      const form = wantsJson(o) ? "json" : "text";
      if (o.listInvariants === true) return done(await listInvariants(form));
      if (file === undefined) throw new UsageError("explore takes a script: a file, the name of a bundled scenario, or -");
      const { settingOf } = await import("../execute.js");
      done(
        await exploreCommand(file, {
          format: form,
          means: meansIn(o),
          ...(o.kernel === undefined ? {} : { kernel: o.kernel }),
          ...(o.cpu === undefined ? {} : { cpu: o.cpu }),
          ...(o.set === undefined ? {} : { set: Object.fromEntries(o.set.map(settingOf)) }),
          ...(o.output === undefined ? {} : { output: o.output }),
          options: {
            reduction: o.reduction,
            hashing: o.hashing,
            ...(o.bound === undefined ? {} : { bound: o.bound }),
            ...(o.maxStates === undefined ? {} : { maxStates: o.maxStates }),
            ...(o.maxSteps === undefined ? {} : { maxSteps: o.maxSteps }),
            ...(o.maxDepth === undefined ? {} : { maxDepth: o.maxDepth }),
            ...(o.cutAfter === undefined ? {} : { trunk: o.cutAfter }),
            ...(o.invariants === undefined ? {} : { invariants: o.invariants }),
          },
        }),
      );
    });
}
