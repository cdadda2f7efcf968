/** The words of `faultline diff`: compare two traces. */
import type { Command } from "commander";
import { type Done, format, json, list, wantsJson } from "../options.js";

interface Options {
  format: string;
  json?: boolean;
  ignore?: string[];
  events?: string[];
  perAgent?: boolean;
}

export function addDiff(root: Command, done: Done): void {
  root
    .command("diff")
    .description("compare two traces by what they mean: trace.dat, ftrace text (also of a real host), JSON lines, Chrome JSON")
    .argument("<a>", "a trace, or - for standard input")
    .argument("<b>", "another trace")
    .option("--ignore <fields>", "fields that are not compared: vcpu_pc,hxfar (repeatable)", list)
    .option("--events <names>", "only these events (repeatable)", list)
    .option("--per-agent", "compare each agent for itself; so it is where one trace is of a real host")
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Exit status: 0 the same, 1 they differ, 2 one is no trace.

Examples:
  faultline run my.guest --kernel v5.4 --trace a.jsonl; faultline run my.guest --kernel v5.5 --trace b.jsonl
  faultline diff a.jsonl b.jsonl
  trace-cmd report -N host.dat | faultline diff my.dat -
  faultline diff my.dat host.dat --events kvm_guest_fault --ignore vcpu_pc,hxfar`,
    )
    .action(async (a: string, b: string, o: Options) => {
      const { diffCommand } = await import("../diff.js");
      done(
        await diffCommand(a, b, {
          json: wantsJson(o),
          ignore: o.ignore ?? [],
          ...(o.events === undefined ? {} : { events: o.events }),
          ...(o.perAgent === undefined ? {} : { perAgent: o.perAgent }),
        }),
      );
    });
}
