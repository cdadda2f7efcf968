/**
 * The command `faultline`, started by faultline.ts. Each command's code is imported when it runs, so that the start stays short.
 * Exit statuses: 0 ok; 1 an expectation failed or traces differ; 2 wrong input; 3 a budget is used up; 130 interrupted.
 */
import { CommanderError } from "commander";
import { BudgetError, nearest, ScriptError } from "./guest/diagnostics.js";
import { program } from "./cli/program.js";
import { BUDGET, OK, UsageError, WRONG_INPUT } from "./cli/status.js";

/** Places of a defect that are shown: where it was thrown and who called. */
const FRAMES = 4;

/** Files are quoted in errors: their control characters are not the terminal's. */
function complain(text: string): void {
  process.stderr.write(`${text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, "\ufffd")}\n`);
}

/** Says on stderr what is wrong. @returns the exit status */
function report(e: unknown): number {
  if (e instanceof CommanderError) {
    if (e.exitCode === 0) return OK;
    return WRONG_INPUT;
  }
  if (e instanceof ScriptError) complain(e.message);
  else if (e instanceof UsageError) complain(`error: ${e.message}`);
  else if (e instanceof BudgetError) complain(`error: ${e.message}${e.option === "" ? "" : `; ${e.option} raises it`}`);
  else if (e instanceof Error && (e.name === "RecordingError" || e.name === "FaultlineError")) complain(`error: ${e.message}`);
  else {
    const first = innermost(e);
    if (!isSystemError(first)) return defect(e);
    complain(`error: ${ofSystem(first)}`);
  }
  return e instanceof BudgetError ? BUDGET : WRONG_INPUT;
}

/** A file that cannot be read or made, a full disk: the machine's answer, no defect. */
const isSystemError = (e: unknown): e is NodeJS.ErrnoException => e instanceof Error && "syscall" in e && "code" in e;

/** `EACCES: permission denied, open 'x'` -> `x: permission denied (open)`. */
function ofSystem({ path, message, code, syscall }: NodeJS.ErrnoException): string {
  const said = /^[A-Z0-9]+: (.*?), /.exec(message)?.[1] ?? code;
  return `${path === undefined ? "" : `${path}: `}${said} (${syscall})`;
}

function innermost(e: unknown): unknown {
  let first = e;
  while (first instanceof Error && first.cause instanceof Error) first = first.cause;
  return first;
}

/** What no input may cause: what and where, without the bundled line that Node would print of it. Exit status 1, as Node's own. */
function defect(e: unknown): number {
  const first = innermost(e);
  const frames = first instanceof Error ? (first.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line)) : [];
  const text = e instanceof Error ? e.message : String(e);
  process.stderr.write(`this is a defect of Faultline, please report it: ${text}\n${frames.slice(0, FRAMES).join("\n")}\n`);
  return 1;
}

/** A command that has ended ends the process: Node would wait for what V8 still compiles and marks beside it, some 10 ms. */
function leave(): void {
  if (process.stdout.writableLength === 0 && process.stderr.writableLength === 0) process.exit();
}

async function main(): Promise<void> {
  // A reader that went away (head, a closed pager) is no error; a full disk is.
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (e: NodeJS.ErrnoException) => {
      if (e.code === "EPIPE") process.exit(process.exitCode ?? OK);
      if (stream === process.stdout) process.stderr.write(`error: standard output: ${ofSystem(e)}\n`);
      process.exit(WRONG_INPUT);
    });
  // No handler for SIGINT: a run does not come back to the event loop, and a signal's default ends it with 130 for the shell.
  const argv = process.argv.slice(2);
  try {
    const root = program((status) => {
      process.exitCode = status;
    });
    if (argv.length === 0) {
      root.outputHelp();
      return;
    }
    const names = root.commands.map((c) => c.name());
    const named = argv[0] === "help" ? (argv[1] ?? "help") : argv[0]!;
    if (!named.startsWith("-") && named !== "help" && !names.includes(named)) {
      const near = nearest(named, names);
      throw new UsageError(`no command "${named}"${near === undefined ? "; faultline --help lists them" : `: did you mean "${near}"?`}`);
    }
    for (const c of root.commands) c.exitOverride();
    await root.parseAsync(process.argv);
  } catch (e) {
    process.exitCode = report(e);
  }
}

void main().then(leave);
