/**
 * The command `faultline`, started by faultline.ts. Each command's code is imported when it runs, so that the start stays short.
 * Exit statuses: 0 ok; 1 an expectation failed or traces differ; 2 wrong input; 3 a budget is used up; 130 interrupted.
 */
import { CommanderError } from "commander";
import { errorJson, errorText, jsonAsked, ofSystem } from "./cli/failure.js";
import { COMMAND_NAMES, program } from "./cli/program.js";
import { OK, UsageError, WRONG_INPUT } from "./cli/status.js";
import { hasPrinted, print } from "./cli/terminal.js";
import { nearest } from "./guest/diagnostics.js";

/** Files are quoted in errors: their control characters are not the terminal's. */
function complain(text: string): void {
  process.stderr.write(`${text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, "\ufffd")}\n`);
}

/** Says what is wrong: on stderr, and as JSON where that was asked for and no document has been printed. @returns the exit status */
async function report(e: unknown, argv: readonly string[]): Promise<number> {
  if (e instanceof CommanderError && e.exitCode === 0) return OK;
  const text = errorText(e);
  if (text !== undefined) complain(text);
  const error = errorJson(e);
  const asked = jsonAsked(argv);
  // A document that has been printed has the error in it.
  if (asked === "lines" || (asked === "document" && !hasPrinted())) await print(JSON.stringify({ error }));
  return error.status;
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
    const done = (status: number): void => {
      process.exitCode = status;
    };
    const root = program(done, argv[0]);
    if (argv.length === 0) {
      root.outputHelp();
      return;
    }
    const named = argv[0] === "help" ? (argv[1] ?? "help") : argv[0]!;
    if (!named.startsWith("-") && named !== "help" && !COMMAND_NAMES.includes(named)) {
      const near = nearest(named, COMMAND_NAMES);
      const hint = near === undefined ? undefined : `did you mean "${near}"?`;
      throw new UsageError(
        `no command "${named}"${hint === undefined ? "; faultline --help lists them" : `: ${hint}`}`,
        hint === undefined ? {} : { expected: hint },
      );
    }
    for (const c of root.commands) c.exitOverride();
    await root.parseAsync(process.argv);
  } catch (e) {
    process.exitCode = await report(e, argv);
  }
}

void main().then(leave);
