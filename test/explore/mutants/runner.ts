/**
 * Explores the scripts and prints the first conviction, as JSON: { script, variant, by } or null. Run on a bundle with
 * one thing removed. @param argv[2] a script and variant to begin with: "script variant"; "all": every conviction; "only a,b": these scripts
 */
import { exploreVariant } from "../../../src/explore/explore.js";
import { compile } from "../../../src/guest/compile.js";
import { machineWorld } from "../../../src/guest/machineworld.js";
import { SCRIPTS } from "./scripts.js";

interface Conviction {
  readonly script: string;
  readonly variant: string;
  readonly by: string;
}

/** Steps of one search: what a removal breaks shows early. */
const STEPS = 12_000;
/** Where that is not the end: once more with so few preemptions. */
const BOUND = 2;

async function first(): Promise<Conviction | null> {
  const [, , wanted] = process.argv;
  const only = wanted?.startsWith("only ") === true ? wanted.slice(5).split(",") : undefined;
  const scripts = Object.entries(SCRIPTS).filter(([name]) => only === undefined || only.includes(name));
  const order = scripts.sort(([a], [b]) => Number(wanted?.startsWith(`${b} `)) - Number(wanted?.startsWith(`${a} `)));
  for (const [script, source] of order) {
    const program = compile(script, source, machineWorld);
    for (const variant of program.variants) {
      if (wanted !== undefined && wanted !== "all" && `${script} ${variant.name}` !== wanted && wanted.startsWith(`${script} `)) continue;
      try {
        let e = await exploreVariant(program, variant, { minimise: false, maxSteps: STEPS });
        if (e.found.ending === "steps") e = await exploreVariant(program, variant, { minimise: false, maxSteps: STEPS, bound: BOUND });
        if (e.violation !== undefined) {
          if (wanted === "all") process.stderr.write(`${script} ${variant.name}: ${e.violation.invariant}: ${e.violation.what}\n`);
          else return { script, variant: variant.name, by: e.violation.invariant };
        } else if (wanted === "all") process.stderr.write(`${script} ${variant.name}: ${e.found.ending} ${e.found.steps}\n`);
      } catch (error) {
        const by = `error: ${(error as Error).message.split("\n")[0]}`;
        if (wanted === "all") process.stderr.write(`${script} ${variant.name}: ${by}\n`);
        else return { script, variant: variant.name, by };
      }
    }
  }
  return null;
}

process.stdout.write(JSON.stringify(await first()));
