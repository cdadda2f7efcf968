/**
 * `faultline debug`: the debugger on a terminal, or with commands from standard input. Scripted, each command is
 * echoed in front of its answer, and a wrong one makes the exit status 2; the others are carried out all the same.
 */
import { createInterface } from "node:readline";
import { Debugger } from "../inspect/debugger.js";
import { FaultlineError } from "../sim/errors.js";
import { recordScript, type OneVariant } from "./recorded.js";
import { OK, UsageError, WRONG_INPUT } from "./status.js";
import { print } from "./terminal.js";

export interface DebugArguments extends OneVariant {
  readonly format: "text" | "json";
}

const PROMPT = "(faultline) ";

export async function debugCommand(file: string, args: DebugArguments): Promise<number> {
  if (file === "-") throw new UsageError("debug reads its commands from standard input: the script must be a file or a scenario");
  const run = recordScript(file, args);
  const d = new Debugger(run);
  const terminal = process.stdin.isTTY === true && args.format === "text";
  const { events } = run;
  if (args.format === "text")
    await print(
      `${run.file}, ${run.variant.name}: events ${events.first} to ${events.last}, the script begins at ${d.start}${terminal ? "; help lists the commands" : ""}`,
    );
  const input = createInterface({ input: process.stdin, ...(terminal ? { output: process.stdout, prompt: PROMPT } : {}), terminal });
  if (terminal) input.prompt();
  let last = "";
  let status = OK;
  for await (const typed of input) {
    // On a terminal an empty line repeats the last command, as in gdb.
    const line = terminal && typed.trim() === "" ? last : typed;
    last = line;
    const answer = attempt(d, line);
    if (!answer.ok && !terminal) status = WRONG_INPUT;
    await show(args, d, line, answer, terminal);
    if (d.ended) break;
    if (terminal) input.prompt();
  }
  input.close();
  return status;
}

interface Answer {
  readonly ok: boolean;
  readonly lines: readonly string[];
}

function attempt(d: Debugger, line: string): Answer {
  try {
    return { ok: true, lines: d.execute(line) };
  } catch (e) {
    if (e instanceof FaultlineError) return { ok: false, lines: [`error: ${e.message}`] };
    throw e;
  }
}

async function show(args: DebugArguments, d: Debugger, line: string, answer: Answer, terminal: boolean): Promise<void> {
  if (args.format === "json") {
    if (line.trim() !== "") await print(JSON.stringify({ command: line.trim(), ok: answer.ok, step: d.position, lines: answer.lines }));
    return;
  }
  const echo = terminal || line.trim() === "" ? [] : [`${PROMPT}${line.trim()}`];
  const lines = [...echo, ...answer.lines];
  if (lines.length > 0) await print(lines.join("\n"));
}
