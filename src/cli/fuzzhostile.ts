/** `faultline fuzz --hostile`: files that somebody broke, through every command that reads such a file. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { carryOut } from "../campaign/campaigns.js";
import { hostileWork, type HostileFinding } from "../fuzz/hostile.js";
import { bundledFiles } from "../fuzz/hostileseeds.js";
import type { FuzzWords } from "./commands/fuzz.js";
import { meansOf } from "./fuzz.js";
import { packageFolder } from "./load.js";
import { FAILED, INTERRUPTED, OK } from "./status.js";
import { count, print } from "./terminal.js";
import { FilesBeside } from "./writefile.js";

const DEFAULT_RUNS = 5000;
/** What is no script. */
const EXTENSION: Readonly<Partial<Record<HostileFinding["door"], string>>> = {
  conform: "rec",
  litmus: "litmus",
  diff: "trace",
  strace: "strace",
  mtree: "mtree",
};

export async function fuzzHostileCommand(o: FuzzWords, json: boolean): Promise<number> {
  const folder = packageFolder();
  const spec = { seed: o.seed, runs: o.runs ?? (o.time === undefined ? DEFAULT_RUNS : 0), names: bundledFiles(folder) };
  const { state, ended } = await carryOut(hostileWork(folder), spec, meansOf(o));
  const beside = new FilesBeside();
  const failures = [...state.found.values()].map(({ input, ...f }) => {
    const file = save(o.corpus ?? ".", f, Buffer.from(input, "base64"), beside);
    return { ...f, times: state.counts.get(f.kind) ?? 0, file, ...(file === null ? { input } : {}) };
  });
  const report = { seed: o.seed, ended, inputs: state.runs, ...state.answers, failures, ...beside.error };
  if (json) await print(JSON.stringify(report, undefined, 2));
  else {
    const { accepted, refused, budget } = state.answers;
    await print(
      `${count(state.runs, "input")}: ${accepted} ran to an end, ${refused} refused with a place, ${budget} ended by a budget, ${count(
        failures.reduce((n, f) => n + f.times, 0),
        "failure",
      )}`,
    );
    for (const f of failures) await print(`  ${f.kind}, ${count(f.times, "time")}, from ${f.from}${f.file === null ? "" : `: ${f.file}`}`);
  }
  beside.throwIfAny();
  if (ended === "interrupted") return INTERRUPTED;
  return failures.length === 0 ? OK : FAILED;
}

function save(folder: string, f: Omit<HostileFinding, "input">, bytes: Uint8Array, beside: FilesBeside): string | null {
  const name = createHash("sha256").update(bytes).digest("hex").slice(0, 12);
  return beside.write(join(folder, "hostile", `${name}.${EXTENSION[f.door] ?? "guest"}`), bytes);
}
