/** `faultline fuzz --compare A,B`: what random programs show of the difference between two kernels. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { carryOut } from "../campaign/campaigns.js";
import { compareWork, decisionsBetween, timesOf } from "../fuzz/compare.js";
import type { FuzzWords } from "./commands/fuzz.js";
import { eraNamed, settingOf } from "./execute.js";
import { cpusOf, meansOf } from "./fuzz.js";
import { commaSeparated } from "./options.js";
import { FAILED, INTERRUPTED, OK, UsageError } from "./status.js";
import { count, palette, print } from "./terminal.js";
import { FilesBeside } from "./writefile.js";

const DEFAULT_RUNS = 500;

export async function fuzzCompareCommand(o: FuzzWords, compare: string, json: boolean): Promise<number> {
  const names = commaSeparated(compare);
  if (names.length !== 2) throw new UsageError(`--compare takes two eras, A,B, not "${compare}"`);
  if (o.kernel !== undefined) throw new UsageError("--compare names the kernels: leave --kernel out");
  const kernels = names.map(eraNamed) as [string, string];
  const spec = {
    kernels,
    cpus: cpusOf(o),
    set: Object.fromEntries((o.set ?? []).map(settingOf)),
    seed: o.seed,
    runs: o.runs ?? (o.time === undefined ? DEFAULT_RUNS : 0),
  };
  const { state, ended } = await carryOut(compareWork, spec, meansOf(o));
  const beside = new FilesBeside();
  const classes = [...state.found.values()]
    .map((d) => ({ ...d, times: timesOf(state, d), file: write(o.corpus, d.script, beside) }))
    .sort((a, b) => b.times - a.times || (a.kind < b.kind ? -1 : 1));
  const unexplained = classes.filter((d) => d.explanation.length === 0);
  if (json)
    await print(
      JSON.stringify(
        { kernels, cpus: spec.cpus, seed: spec.seed, ended, programs: state.runs, differing: state.differing, classes, ...beside.error },
        undefined,
        2,
      ),
    );
  else {
    const color = palette();
    await print(
      `${kernels.join(" | ")} on ${spec.cpus.join(", ")}: ${state.differing} of ${count(state.runs, "program")} differ, ${count(decisionsBetween(...kernels), "decision")}`,
    );
    for (const d of classes) {
      await print(`\n${color.bold(d.kind)}, ${count(d.times, "time")}${d.file === null ? "" : `: ${d.file}`}`);
      for (const e of d.explanation) await print(`  ${e.decision}: ${e.from} | ${e.to} (${e.source})`);
      if (d.explanation.length === 0) await print(color.red("  no decision explains it"));
      if (d.file === null)
        await print(
          d.script
            .split("\n")
            .filter((l) => l !== "" && !/^(title|\/\/)/.test(l))
            .map((l) => `    ${l}`)
            .join("\n"),
        );
    }
  }
  beside.throwIfAny();
  if (ended === "interrupted") return INTERRUPTED;
  return unexplained.length === 0 ? OK : FAILED;
}

function write(folder: string | undefined, script: string, beside: FilesBeside): string | null {
  if (folder === undefined) return null;
  return beside.write(join(folder, "differences", `${createHash("sha256").update(script).digest("hex").slice(0, 12)}.guest`), script);
}
