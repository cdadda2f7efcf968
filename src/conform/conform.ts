/**
 * `faultline conform`: how much of what a real kernel did does the emulator reproduce?
 * After a difference the replay goes on; nothing is taken over from the recording.
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { CPU_PROFILES } from "../arch/features.js";
import { ERAS, findEra } from "../eras.js";
import { scoreStep } from "./compare.js";
import { RecordingError, type Recording } from "./recording.js";
import { Replayer } from "./replay.js";

/** Where a recording and the emulator first differ. */
export interface Difference {
  readonly file: string;
  /** Line of the step's command in the recording. */
  readonly line: number;
  /** Number of the step, from 1, and its command. */
  readonly step: number;
  readonly command: string;
  readonly expected: readonly string[];
  readonly got: readonly string[];
  /** Index of the first line that differs in `expected` and `got`. */
  readonly at: number;
}

export interface RecordingResult {
  readonly file: string;
  readonly kernel: string;
  readonly cpu: string;
  readonly scenario: string;
  readonly matched: number;
  readonly total: number;
  readonly firstDifference: Difference | null;
}

export interface ConformResult {
  readonly matched: number;
  readonly total: number;
  readonly recordings: readonly RecordingResult[];
}

export interface ConformOptions {
  /** Replay under this era instead of the recording's own. */
  readonly kernel?: string;
  readonly cpu?: string;
}

/** Replays one recording and scores every step. */
export function conformRecording(recording: Recording, options: ConformOptions = {}): RecordingResult {
  if (findEra(recording.kernel) === undefined && options.kernel === undefined) {
    const eras = ERAS.map((e) => e.name).join(", ");
    throw new RecordingError(
      recording.file,
      1,
      `no era named ${recording.kernel}: expected one of ${eras}, or --kernel ERA for all of them`,
    );
  }
  if (!(recording.cpu in CPU_PROFILES) && options.cpu === undefined) {
    throw new RecordingError(recording.file, 1, `no CPU named ${recording.cpu}: expected one of ${Object.keys(CPU_PROFILES).join(", ")}`);
  }
  const replayer = new Replayer(recording, options);
  let matched = 0;
  let total = 0;
  let firstDifference: Difference | null = null;
  for (const [n, step] of recording.steps.entries()) {
    const score = scoreStep(step, replayer.step(step), recording.events);
    matched += score.matched;
    total += score.total;
    if (firstDifference === null && score.firstDifference >= 0) {
      firstDifference = {
        file: recording.file,
        line: step.line,
        step: n + 1,
        command: step.command.join(" "),
        expected: score.expected,
        got: score.got,
        at: score.firstDifference,
      };
    }
  }
  const { file, kernel, cpu, scenario } = recording;
  return { file, kernel: options.kernel ?? kernel, cpu: options.cpu ?? cpu, scenario, matched, total, firstDifference };
}

/** The `.rec` files under the given files and folders, in a stable order. @throws the system's error for a path that is not there. */
export function recordingFiles(paths: readonly string[]): string[] {
  const out: string[] = [];
  const visit = (path: string, named: boolean): void => {
    if (statSync(path).isDirectory()) {
      for (const entry of readdirSync(path).sort()) visit(join(path, entry), false);
    } else if (named || path.endsWith(".rec")) out.push(path);
  };
  for (const path of paths) visit(path, true);
  return out;
}

/** The sum over recordings. */
export function resultOf(recordings: readonly RecordingResult[]): ConformResult {
  return {
    matched: recordings.reduce((n, r) => n + r.matched, 0),
    total: recordings.reduce((n, r) => n + r.total, 0),
    recordings,
  };
}

/** Matched counts by "kernel/cpu/scenario": the baseline file's content. */
export type Baseline = Readonly<Record<string, number>>;

export const baselineKey = (r: Pick<RecordingResult, "kernel" | "cpu" | "scenario">): string => `${r.kernel}/${r.cpu}/${r.scenario}`;

export function toBaseline(result: ConformResult): Baseline {
  return Object.fromEntries(result.recordings.map((r) => [baselineKey(r), r.matched]));
}

/** Recordings that match worse than the baseline says. */
export function regressions(
  result: ConformResult,
  baseline: Baseline,
): { readonly key: string; readonly was: number; readonly now: number }[] {
  return result.recordings.flatMap((r) => {
    const was = baseline[baselineKey(r)];
    return was !== undefined && r.matched < was ? [{ key: baselineKey(r), was, now: r.matched }] : [];
  });
}
