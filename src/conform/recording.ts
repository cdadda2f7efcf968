/**
 * Reads a recording (`.rec`): what a real kernel did, step by step. The format is described in
 * recordings/README.md. A broken file gives one error with its line and what was expected there.
 */

/** One command of the VMM and everything that was observed because of it. */
export interface Step {
  /** Line of the command in the file, from 1. */
  readonly line: number;
  /** The command's words. */
  readonly command: readonly string[];
  /** Observations without their marker and blanks, `=` and `~` as recorded. */
  readonly observed: readonly Observation[];
  /** True if more events of this step were cut. */
  readonly cut: boolean;
}

export interface Observation {
  /** "=" what the VMM or guest observed, "~" what the host kernel did. */
  readonly kind: "=" | "~";
  readonly text: string;
}

export interface Recording {
  readonly file: string;
  readonly kernel: string;
  readonly cpu: string;
  readonly scenario: string;
  /** False if only `=` lines were recorded. */
  readonly events: boolean;
  readonly steps: readonly Step[];
}

/** A recording that cannot be read. */
export class RecordingError extends Error {
  constructor(
    readonly file: string,
    readonly line: number,
    readonly reason: string,
  ) {
    super(`${file}:${line}: ${reason}`);
    this.name = "RecordingError";
  }
}

/** A recording that says so ends with END, or it has been cut. Those that others wrote say nothing, and are taken as they are. */
const PROMISE = '# the last line is "# end"';
const END = "# end";
const HEADER = /^# kernel (\S+), cpu (\S+?)(, no events)?\s*$/;

/** Observation lines that the count leaves out: text meant for people. */
function isUncounted(kind: string, text: string): boolean {
  return kind === "=" && (text === "sysfs" || text.startsWith("sysfs "));
}

/** Parses one recording. @throws RecordingError naming the line. */
export function parseRecording(file: string, text: string): Recording {
  const lines = text.replace(/^\uFEFF/, "").split("\n");
  const header = HEADER.exec(lines[0] ?? "");
  if (header === null) throw new RecordingError(file, 1, 'expected "# kernel ERA, cpu NAME"');
  const name = /^scenario (\S+)\s*$/.exec(lines[1] ?? "");
  if (name === null) throw new RecordingError(file, 2, 'expected "scenario NAME"');
  const last = lines.findLastIndex((l) => l.trim() !== "");
  if (lines.some((l) => l.trimEnd() === PROMISE) && lines[last]!.trimEnd() !== END)
    throw new RecordingError(file, last + 1, `the recording is cut: expected "${END}" behind this line`);
  const steps: { line: number; command: string[]; observed: Observation[]; cut: boolean }[] = [];
  for (let n = 2; n < lines.length; n++) {
    const line = lines[n]!.trimEnd();
    if (line === "" || line.startsWith("#")) continue;
    const kind = line[0]!;
    const body = line.slice(1).trim();
    if (!"=~>".includes(kind) || (line.length > 1 && line[1] !== " ")) {
      throw new RecordingError(file, n + 1, 'expected a line that starts with "> ", "= " or "~ "');
    }
    if (kind === ">") {
      if (body === "") throw new RecordingError(file, n + 1, "expected a command");
      steps.push({ line: n + 1, command: body.split(/\s+/), observed: [], cut: false });
      continue;
    }
    const step = steps.at(-1);
    if (step === undefined) throw new RecordingError(file, n + 1, "an observation before the first command");
    if (body === "") throw new RecordingError(file, n + 1, "expected an observation");
    if (kind === "~" && body === "...") step.cut = true;
    else if (!isUncounted(kind, body)) step.observed.push({ kind: kind as "=" | "~", text: body });
  }
  if (steps.length === 0) throw new RecordingError(file, last + 1, "the recording has no command: is it cut?");
  return { file, kernel: header[1]!, cpu: header[2]!, scenario: name[1]!, events: header[3] === undefined, steps };
}
