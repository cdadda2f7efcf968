/** `conform` as a campaign: a unit is one recording. Its text goes with it, so that a worker needs no file. */
import { readFileSync } from "node:fs";
import type { Work } from "../campaign/work.js";
import { conformRecording, resultOf, type ConformOptions, type ConformResult, type RecordingResult } from "./conform.js";
import { parseRecording, RecordingError } from "./recording.js";

export interface ConformSpec extends ConformOptions {
  readonly files: readonly string[];
}
interface Input {
  readonly file: string;
  readonly text: string;
}
/** A recording that cannot be read is a result too: the first of them, in the order of the files, is what the command reports. */
type Result =
  { readonly result: RecordingResult } | { readonly error: { readonly file: string; readonly line: number; readonly reason: string } };
interface State {
  readonly recordings: RecordingResult[];
}

export const conformWork: Work<ConformSpec, State, Input, Result> = {
  kind: "conform",
  window: () => 64,
  start: () => ({ recordings: [] }),
  next: ({ files }, _state, unit) => {
    const file = files[unit];
    return file === undefined ? undefined : { file, text: readFileSync(file, "utf8") };
  },
  run: ({ kernel, cpu }, { file, text }) => {
    try {
      return {
        result: conformRecording(parseRecording(file, text), {
          ...(kernel === undefined ? {} : { kernel }),
          ...(cpu === undefined ? {} : { cpu }),
        }),
      };
    } catch (e) {
      if (e instanceof RecordingError) return { error: { file: e.file, line: e.line, reason: e.reason } };
      throw e;
    }
  },
  merge: (_spec, state, _unit, r) => {
    if ("error" in r) throw new RecordingError(r.error.file, r.error.line, r.error.reason);
    state.recordings.push(r.result);
  },
  progress: ({ files }, _state, merged) => `${merged} of ${files.length} recordings`,
};

export const conformReport = (state: State): ConformResult => resultOf(state.recordings);
