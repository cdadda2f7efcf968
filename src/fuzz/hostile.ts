/** Hostile files as a campaign: files of every kind that a command reads, changed, through each such command. */
import type { Pause, Work } from "../campaign/work.js";
import { enter, MOST_TIME, type Answer, type Door } from "./doors.js";
import { errorText } from "./errors.js";
import { chosenSeeds, type Seed } from "./hostileseeds.js";
import { mutateBytes, mutateText } from "./mutatetext.js";
import { Rng } from "./rng.js";

export interface HostileSpec {
  readonly seed: number;
  /** Inputs in all; 0: until something else ends it. */
  readonly runs: number;
  /** Bundled files, as paths in Faultline's folder; a worker elsewhere has the same ones. */
  readonly names: readonly string[];
}

const UNIT = 200;
const WINDOW = 16;

export interface HostileFinding {
  readonly kind: string;
  readonly door: Door;
  readonly from: string;
  readonly unit: number;
  readonly number: number;
  /** The input, base64. */
  readonly input: string;
}
interface Input {
  readonly unit: number;
  readonly runs: number;
  /** The files that this unit changes. */
  readonly seeds: readonly Seed[];
  readonly kinds: readonly string[];
}
interface Result {
  readonly runs: number;
  readonly answers: Readonly<Record<Answer, number>>;
  readonly found: readonly HostileFinding[];
  readonly counts: Readonly<Record<string, number>>;
}
export interface HostileState {
  runs: number;
  readonly answers: Record<Answer, number>;
  readonly found: Map<string, HostileFinding>;
  readonly counts: Map<string, number>;
}

export const hostileWork = (folder: string): Work<HostileSpec, HostileState, Input, Result> => ({
  kind: "fuzz-hostile",
  window: () => WINDOW,
  start: () => ({ runs: 0, answers: { accepted: 0, refused: 0, budget: 0 }, found: new Map(), counts: new Map() }),
  next: (spec, state, unit) => {
    const left = spec.runs === 0 ? UNIT : spec.runs - unit * UNIT;
    if (left <= 0) return undefined;
    return {
      unit,
      runs: Math.min(UNIT, left),
      seeds: chosenSeeds(folder, spec.names, new Rng(spec.seed, unit, 1)),
      kinds: [...state.found.keys()],
    };
  },
  run: (spec, input, pause) => unitOf(spec.seed, input, pause),
  merge: (_spec, state, _unit, r) => {
    state.runs += r.runs;
    for (const key of ["accepted", "refused", "budget"] as const) state.answers[key] += r.answers[key];
    for (const f of r.found) if (!state.found.has(f.kind)) state.found.set(f.kind, f);
    for (const [key, n] of Object.entries(r.counts)) state.counts.set(key, (state.counts.get(key) ?? 0) + n);
  },
  counted: (state) => state.runs,
  progress: (spec, state) => `${state.runs}${spec.runs === 0 ? "" : ` of ${spec.runs}`} inputs, ${state.found.size} kinds of failure`,
});

async function unitOf(seed: number, input: Input, pause: Pause): Promise<Result> {
  const answers: Record<Answer, number> = { accepted: 0, refused: 0, budget: 0 };
  const found: HostileFinding[] = [];
  const counts: Record<string, number> = {};
  const seen = new Set(input.kinds);
  asked = process.cpuUsage();
  for (let n = 0; n < input.runs; n++) {
    await pause();
    const rng = new Rng(seed, input.unit, n + 2);
    const from = rng.pick(input.seeds);
    const door = rng.pick(from.doors);
    const other = rng.pick(input.seeds).text;
    const encoding = from.binary === true ? "latin1" : "utf8";
    const bytes =
      from.binary === true || rng.once(5)
        ? mutateBytes(rng, Buffer.from(from.text, encoding))
        : Buffer.from(mutateText(rng, from.text, other), encoding);
    const kind = await attempt(door, bytes, answers);
    if (kind === undefined) continue;
    counts[kind] = (counts[kind] ?? 0) + 1;
    if (seen.has(kind)) continue;
    seen.add(kind);
    found.push({
      kind,
      door,
      from: from.name,
      unit: input.unit,
      number: n,
      input: Buffer.from(await smaller(door, bytes, kind)).toString("base64"),
    });
  }
  return { runs: input.runs, answers, found, counts };
}

const SLOW = "more processor time than its budget can need";

/** Processor time when it was asked last: at the start of a unit, and after a slow input. To ask for it is dear. */
let asked = process.cpuUsage();

/** @returns what is wrong with the answer, or undefined */
async function attempt(door: Door, bytes: Uint8Array, answers?: Record<Answer, number>): Promise<string | undefined> {
  const began = performance.now();
  try {
    const answer = await enter(door, bytes);
    if (answers !== undefined) answers[answer]++;
  } catch (e) {
    return `${door}: ${errorText(e).replace(/\d+/g, "N")}`;
  }
  // Without the time on the wall there is none of a processor. Threads share the process: only what is far beyond is told.
  if (performance.now() - began < MOST_TIME) return undefined;
  const { user, system } = process.cpuUsage(asked);
  asked = process.cpuUsage();
  return (user + system) / 1000 > MOST_TIME * 4 ? `${door}: ${SLOW}` : undefined;
}

/** Lines taken away while the failure stays. What is slow stays as it is: each try would take as long. */
async function smaller(door: Door, bytes: Uint8Array, kind: string): Promise<Uint8Array> {
  if (kind.endsWith(SLOW)) return bytes;
  let lines = Buffer.from(bytes).toString("latin1").split("\n");
  for (let size = lines.length >> 1, left = 200; size >= 1; size >>= 1)
    for (let at = lines.length - size; at >= 0 && left > 0; at -= size, left--) {
      const less = [...lines.slice(0, at), ...lines.slice(at + size)];
      if ((await attempt(door, Buffer.from(less.join("\n"), "latin1"))) === kind) lines = less;
    }
  return Buffer.from(lines.join("\n"), "latin1");
}
