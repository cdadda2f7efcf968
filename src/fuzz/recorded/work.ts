/**
 * Random scenarios against a real kernel, as a campaign: a unit is one boot's scenarios, recorded, replayed on the emulator and
 * compared. The first disagreement of each class is made small on the same kernel.
 */
import type { Work } from "../../campaign/work.js";
import { conformRecording, type ConformOptions } from "../../conform/conform.js";
import { parseRecording, RecordingError } from "../../conform/recording.js";
import { FaultlineError } from "../../sim/errors.js";
import { classOf } from "./classes.js";
import type { Recorder } from "./recorder.js";
import { randomScenario, type Backing } from "./scenario.js";
import { Smaller, type Showed } from "./smaller.js";

export interface RecordedSpec {
  readonly seed: number;
  /** Scenarios in all; 0: until something else ends it. */
  readonly runs: number;
  /** Scenarios of one boot. */
  readonly batch: number;
  /** The kernel image, its modules, the CPU as QEMU names it: what decides the recordings. */
  readonly kernel: string;
  readonly modules?: string | undefined;
  readonly cpu: string;
  /** What all slots are backed by; absent: what is drawn. */
  readonly backing?: Backing | undefined;
  /** What the recordings are compared with, where their own names do not say it. */
  readonly against: ConformOptions;
}

// Few: what a unit makes small, those under way beside it make small too.
const WINDOW = 2;

export interface Disagreement {
  readonly kind: string;
  /** The scenario that showed it first. */
  readonly name: string;
  /** Commands before and after. */
  readonly steps: readonly [number, number];
  readonly command: string;
  readonly expected: readonly string[];
  readonly got: readonly string[];
  /** The first line that differs of the two. */
  readonly at: number;
  /** How often the smallest was recorded with this disagreement; 0: the scenario, recorded again, did not show it. */
  readonly confirmed: number;
  /** The recording of the smallest. */
  readonly text: string;
}

interface Input {
  readonly unit: number;
  readonly runs: number;
  readonly kinds: readonly string[];
}
interface Result {
  readonly scenarios: number;
  /** Scenarios that have no recording. */
  readonly unrecorded: readonly string[];
  readonly crashed: readonly string[];
  readonly matched: number;
  readonly total: number;
  readonly agreed: number;
  readonly found: readonly Disagreement[];
  readonly counts: Readonly<Record<string, number>>;
  readonly kernels: readonly string[];
}
export interface RecordedState {
  scenarios: number;
  matched: number;
  total: number;
  agreed: number;
  readonly unrecorded: string[];
  readonly crashed: string[];
  readonly kernels: Set<string>;
  readonly found: Map<string, Disagreement>;
  readonly counts: Map<string, number>;
}

/** @param keep gets every recording of the campaign (not those of smaller scenarios) */
export const recordedWork = (
  record: Recorder,
  keep: (name: string, text: string) => void = () => undefined,
): Work<RecordedSpec, RecordedState, Input, Result> => ({
  kind: "fuzz-recorded",
  waits: true,
  window: () => WINDOW,
  start: () => ({
    scenarios: 0,
    matched: 0,
    total: 0,
    agreed: 0,
    unrecorded: [],
    crashed: [],
    kernels: new Set(),
    found: new Map(),
    counts: new Map(),
  }),
  next: (spec, state, unit) => {
    const left = spec.runs === 0 ? spec.batch : spec.runs - unit * spec.batch;
    return left <= 0 ? undefined : { unit, runs: Math.min(spec.batch, left), kinds: [...state.found.keys()] };
  },
  run: (spec, input) => unitOf(spec, input, record, keep),
  merge: (_spec, state, _unit, r) => {
    for (const key of ["scenarios", "matched", "total", "agreed"] as const) state[key] += r[key];
    state.unrecorded.push(...r.unrecorded);
    state.crashed.push(...r.crashed);
    for (const k of r.kernels) state.kernels.add(k);
    for (const f of r.found) if (!state.found.has(f.kind)) state.found.set(f.kind, f);
    for (const [key, n] of Object.entries(r.counts)) state.counts.set(key, (state.counts.get(key) ?? 0) + n);
  },
  counted: (state) => state.scenarios,
  progress: (spec, state) =>
    `${state.scenarios}${spec.runs === 0 ? "" : ` of ${spec.runs}`} scenarios, ${state.matched} of ${state.total} lines, ${state.found.size} classes of disagreement`,
});

/** One recording against the emulator. @throws FaultlineError if there is no era or CPU of its name */
function compared(name: string, text: string, against: ConformOptions) {
  try {
    const recording = parseRecording(name, text);
    const result = conformRecording(recording, against);
    const d = result.firstDifference;
    return {
      result,
      crashed: recording.steps.some((s) => s.observed.some((o) => o.kind === "=" && o.text === "HOST CRASH")),
      difference: d,
    };
  } catch (e) {
    if (e instanceof RecordingError) throw new FaultlineError(e.message);
    throw e;
  }
}

function showed(name: string, text: string | undefined, against: ConformOptions): Showed | undefined {
  if (text === undefined) return undefined;
  const { difference } = compared(name, text, against);
  return difference === null ? undefined : { kind: classOf(difference), step: difference.step, text };
}

async function unitOf(spec: RecordedSpec, input: Input, record: Recorder, keep: (name: string, text: string) => void): Promise<Result> {
  const scenarios = new Map<string, readonly string[]>();
  for (let i = 0; i < input.runs; i++) {
    const n = input.unit * spec.batch + i;
    scenarios.set(`r${spec.seed}_${n}`, randomScenario(spec.seed, n, spec.backing));
  }
  const recordings = await record(scenarios);
  const unrecorded: string[] = [];
  const crashed: string[] = [];
  const counts: Record<string, number> = {};
  const kernels = new Set<string>();
  const known = new Set(input.kinds);
  const small: { readonly name: string; readonly smaller: Smaller }[] = [];
  let [matched, total, agreed] = [0, 0, 0];
  for (const [name, commands] of scenarios) {
    const text = recordings.get(name);
    if (text === undefined) {
      unrecorded.push(name);
      continue;
    }
    keep(name, text);
    const c = compared(name, text, spec.against);
    matched += c.result.matched;
    total += c.result.total;
    kernels.add(c.result.kernel);
    if (c.crashed) crashed.push(name);
    if (c.difference === null) {
      agreed++;
      continue;
    }
    const kind = classOf(c.difference);
    counts[kind] = (counts[kind] ?? 0) + 1;
    if (known.has(kind)) continue;
    known.add(kind);
    small.push({ name, smaller: new Smaller(kind, commands, c.difference.step) });
  }
  await shrink(small, spec, record);
  const found = small.map(({ name, smaller }) =>
    disagreement(name, smaller, scenarios.get(name)!.length, recordings.get(name)!, spec.against),
  );
  const { runs } = input;
  return { scenarios: runs, unrecorded, crashed, matched, total, agreed, found, counts, kernels: [...kernels] };
}

/** All of them at once: the candidates of a round share a boot. */
async function shrink(
  small: readonly { readonly name: string; readonly smaller: Smaller }[],
  spec: RecordedSpec,
  record: Recorder,
): Promise<void> {
  for (;;) {
    const open = small.filter(({ smaller }) => !smaller.done);
    if (open.length === 0) return;
    const asked = open.map(({ name, smaller }) => smaller.round().map((commands, i) => ({ name: `${name}_${i}`, commands })));
    const recordings = await record(new Map(asked.flat().map((c) => [c.name, c.commands])));
    for (const [n, { smaller }] of open.entries()) smaller.took(asked[n]!.map((c) => showed(c.name, recordings.get(c.name), spec.against)));
  }
}

function disagreement(name: string, smaller: Smaller, before: number, first: string, against: ConformOptions): Disagreement {
  const text = smaller.text ?? first;
  const { kind, confirmed } = smaller;
  const d = compared(name, text, against).difference!;
  const after = smaller.text === undefined ? before : smaller.best.length;
  const { command, expected, got, at } = d;
  return { kind, name, steps: [before, after], command, expected, got, at, confirmed, text };
}
