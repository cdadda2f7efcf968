/** The words of `faultline diff`: compare two traces. */
import { type Command, InvalidArgumentError } from "commander";
import { type Done, format, json, list, wantsJson } from "../options.js";

interface Options {
  format: string;
  json?: boolean;
  ignore?: string[];
  events?: string[];
  perAgent?: boolean;
  ipa?: [number, number];
}

/** 0x80000000+4M, 0x80000000-0x803fffff, or one page by an address in it. */
function range(text: string): [number, number] {
  const m = /^(0x[0-9a-f]+|[0-9]+)(?:([-+])(0x[0-9a-f]+|[0-9]+)([KMG]?))?$/i.exec(text);
  const from = Number(m?.[1]);
  const other = Number(m?.[3]) * 1024 ** " KMG".indexOf(m?.[4]?.toUpperCase() || " ");
  const to = m?.[2] === undefined ? from + 1 : m[2] === "+" ? from + other : other + 1;
  if (m === null || !(to > from))
    throw new InvalidArgumentError(`expected addresses such as 0x80000000+4M or 0x80000000-0x803fffff, not "${text}".`);
  return [from - (from % 4096), to];
}

export function addDiff(root: Command, done: Done): void {
  root
    .command("diff")
    .description("compare two traces by what they mean: trace.dat, ftrace text (also of a real host), JSON lines, Chrome JSON")
    .argument("<a>", "a trace, or - for standard input")
    .argument("<b>", "another trace")
    .option("--ignore <fields>", "fields that are not compared: vcpu_pc,hxfar (repeatable)", list)
    .option("--events <names>", "only these events (repeatable)", list)
    .option("--ipa <range>", "only events that speak of these guest-physical addresses: 0x80000000+4M", range)
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
  trace-cmd report -N host.dat | faultline diff my.dat - --ipa 0x80000000+4M
  faultline diff my.dat host.dat --events kvm_guest_fault,kvm_mmio`,
    )
    .action(async (a: string, b: string, o: Options) => {
      const { diffCommand } = await import("../diff.js");
      done(
        await diffCommand(a, b, {
          json: wantsJson(o),
          ignore: o.ignore ?? [],
          ...(o.events === undefined ? {} : { events: o.events }),
          ...(o.perAgent === undefined ? {} : { perAgent: o.perAgent }),
          ...(o.ipa === undefined ? {} : { ipa: o.ipa }),
        }),
      );
    });
}
