/** `faultline dump`: one of the machine's tables at an event of a run, or at its end. */
import { dump, type DumpName } from "../inspect/dump.js";
import { stepOf } from "../inspect/recorded.js";
import { jsonLine } from "../trace/json.js";
import { recordScript, type OneVariant, type RecordedScript } from "./recorded.js";
import { OK, UsageError } from "./status.js";
import { print } from "./terminal.js";

export interface DumpArguments extends OneVariant {
  readonly what: string;
  readonly at?: number;
  readonly long: boolean;
  readonly format: "text" | "json";
}

export async function dumpCommand(file: string, args: DumpArguments): Promise<number> {
  const run = recordScript(file, args);
  const what = args.what as DumpName;
  if (args.at !== undefined && (args.at < run.timeline.first || args.at > run.events.last))
    throw new UsageError(`there is no event ${args.at}: the run has the events ${run.timeline.first} to ${run.events.last}`);
  const machine = args.at === undefined ? run.machine : run.timeline.visit(args.at);
  const { lines, rows } = dump(machine, what, args.long);
  if (args.format === "json") {
    const event = args.at === undefined || !run.events.has(args.at) ? null : run.events.at(args.at);
    const head = { file: run.file, variant: run.variant.name, kernel: run.variant.kernel, what, at: args.at ?? null, event, rows };
    await print(JSON.stringify(JSON.parse(jsonLine(head)), undefined, 2));
    return OK;
  }
  await print([`# ${where(run, args.at)}`, ...lines].join("\n"));
  return OK;
}

/** `scenarios/x.guest, v5.5: after event 120 (stage2_unmap by vmm, line 24)` */
function where(run: RecordedScript, at: number | undefined): string {
  const more = run.others.length === 0 ? "" : ` (--kernel for ${run.others.join(", ")})`;
  const name = `${run.file}, ${run.variant.name}${more}`;
  if (at === undefined) return `${name}: at the end of the run`;
  if (!run.events.has(at)) return `${name}: right after event ${at}`;
  const e = run.events.at(at);
  const step = stepOf(run.result, e.agent, at);
  return `${name}: right after event ${at} (${e.event} by ${e.agent}${step === undefined ? "" : `, line ${step.line}`})`;
}
