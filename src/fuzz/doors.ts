/** The ways in which a file from a stranger enters: what each command that reads it does with it, and what it may answer. */
import { conformRecording } from "../conform/conform.js";
import { parseRecording, RecordingError } from "../conform/recording.js";
import { exploreVariant } from "../explore/explore.js";
import { compile, decodeScript, type Program, type VariantConfig } from "../guest/compile.js";
import { BudgetError, Diagnostics, ScriptError } from "../guest/diagnostics.js";
import { machineFor, machineWorld } from "../guest/machineworld.js";
import { runProgram } from "../guest/run.js";
import { importMtree } from "../import/mtree.js";
import { scriptText } from "../import/skeleton.js";
import { importStrace } from "../import/strace.js";
import { accesses } from "../inspect/accesses.js";
import { dump, DUMPS } from "../inspect/dump.js";
import { explain } from "../inspect/explain.js";
import { record } from "../inspect/recorded.js";
import { runLitmus } from "../litmus/check.js";
import { parseLitmus } from "../litmus/parser.js";
import { FaultlineError } from "../sim/errors.js";
import { diffTraces } from "../trace/differ.js";
import { TraceError } from "../trace/meaning.js";
import { readTraceBytes } from "../trace/readtrace.js";

/** Commands by what they read: scripts, recordings, litmus tests, traces, output of other tools. */
export const DOORS = ["run", "compare", "dump", "explain", "explore", "conform", "litmus", "diff", "strace", "mtree"] as const;
export type Door = (typeof DOORS)[number];

/** Budgets of one input, as --max-steps, --max-memory and --max-states set them. */
export const STEPS = 50_000;
export const MEMORY = 256 << 20;
const STATES = 2000;
const BUDGET = { steps: STEPS, memory: MEMORY };
/** Accesses of one run that are explained. */
const EXPLAINED = 5;
/** Milliseconds of processor time that an input may take: many times what its budget of steps needs. */
export const MOST_TIME = 10_000;

export type Answer = "accepted" | "refused" | "budget";

type Enter = (bytes: Uint8Array) => void | Promise<void>;
type OfScript = (program: Program, variants: readonly VariantConfig[]) => void | Promise<void>;

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

const script =
  (use: OfScript): Enter =>
  (bytes) => {
    const program = compile("hostile.guest", decodeScript("hostile.guest", bytes), machineWorld);
    return use(program, program.variants);
  };

function runOne(program: Program, v: VariantConfig): void {
  const machine = machineFor(program.machine, v);
  runProgram(program, v, machine, { budget: BUDGET, detail: "story" });
  const held = machine.sim.state.bytes();
  if (held > 2 * MEMORY) throw new Error(`the run held ${held} bytes, its budget is ${MEMORY}`);
}

const ENTRIES: Readonly<Record<Door, Enter>> = {
  run: script((program, variants) => runOne(program, variants[0]!)),
  compare: script((program, variants) => variants.slice(-2).forEach((v) => runOne(program, v))),
  dump: script((program, [v]) => {
    const { machine } = record(program, v!, BUDGET);
    for (const what of DUMPS) dump(machine, what, true);
  }),
  explain: script((program, [v]) => {
    const run = record(program, v!, BUDGET);
    for (const a of accesses(run).slice(-EXPLAINED)) explain(run, a, { check: false });
  }),
  explore: script(async (program, [v]) => {
    await exploreVariant(program, v!, { maxStates: STATES, maxSteps: STEPS, minimise: false, budget: BUDGET });
  }),
  conform: (bytes) => void conformRecording(parseRecording("hostile.rec", text(bytes))),
  litmus: (bytes) => {
    for (const t of parseLitmus("hostile.litmus", text(bytes))) runLitmus(t, { maxStates: STATES });
  },
  diff: (bytes) => {
    const trace = readTraceBytes(bytes);
    diffTraces(trace, { ...trace, events: trace.events.slice(1) }, { ignore: [] });
  },
  strace: (bytes) => importWith(importStrace, "hostile.strace", bytes),
  mtree: (bytes) => importWith(importMtree, "hostile.mtree", bytes),
};

/** What an import writes is a script: it must at least be one. */
function importWith(reader: typeof importStrace, name: string, bytes: Uint8Array): void {
  const source = text(bytes);
  const imported = reader(name, source, new Diagnostics(name, source));
  try {
    compile("imported.guest", scriptText(imported), machineWorld);
  } catch (e) {
    throw new Error(`the script that came of it is none: ${(e as Error).message}`, { cause: e });
  }
}

/** What an input came to. @throws whatever is not an answer: a defect */
export async function enter(door: Door, bytes: Uint8Array): Promise<Answer> {
  try {
    await ENTRIES[door](bytes);
    return "accepted";
  } catch (e) {
    if (e instanceof ScriptError) {
      const without = e.diagnostics.find((d) => !(d.line >= 1 && d.column >= 1) || d.message === "");
      if (e.diagnostics.length === 0 || without !== undefined) throw new Error(`an error without a place: ${e.message}`, { cause: e });
      return "refused";
    }
    if (e instanceof RecordingError && e.line >= 1) return "refused";
    // Of a trace the message says where in it; of a litmus test the command adds its line.
    if (e instanceof TraceError || (door === "litmus" && e instanceof FaultlineError)) return "refused";
    if (e instanceof BudgetError) return "budget";
    throw e;
  }
}
