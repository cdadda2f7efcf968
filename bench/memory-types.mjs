// npm run bench:memory-types [PROCESSES]: what the bracketed places of the access path (store and gathering buffer, cache) cost
// while nothing is modelled. The same commit is built with them and without. A process takes one workload and runs the two builds
// in turns, a run of some 50 ms each, so that a busy moment of the machine meets both; V8 optimises each process a little differently,
// so several are started. Prints the median rate of each (operations for each second of user CPU time), the median of the
// processes' losses with the least and the greatest; status 1 above 10 %.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { BUNDLING } from "./bundling.mjs";

const MOST = 10;
const RUNS = 15;
const WITH = "node_modules/.cache/faultline/brackets";
const WITHOUT = "node_modules/.cache/faultline/no-brackets";

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

async function bundle(brackets, outdir) {
  rmSync(outdir, { recursive: true, force: true });
  await build({
    ...BUNDLING,
    entryPoints: { bracketcost: "bench/bracketcost.ts" },
    outdir,
    define: { __FAULTLINE_VERSION__: '"bench"', __FAULTLINE_BRACKETS__: String(brackets) },
  });
}

/** One process: both builds in turns. Prints the rates of the runs in the middle. */
async function compareInTurns(name) {
  const builds = await Promise.all([WITH, WITHOUT].map((dir) => import(`../${dir}/bracketcost.js`)));
  builds[0].inlineMore();
  const sides = builds.map((b) => ({ workload: b.WORKLOADS[name](true), rates: [] }));
  for (let n = 0; n < RUNS; n++)
    for (const { workload, rates } of n % 2 === 0 ? sides : sides.toReversed()) {
      workload.prepare();
      const before = process.cpuUsage();
      workload.run();
      const used = process.cpuUsage(before).user;
      workload.check();
      // The first runs are V8's.
      if (n >= 3) rates.push((workload.ops * 1e6) / used);
    }
  process.stdout.write(JSON.stringify(sides.map((s) => median(s.rates))));
}

async function compareAll(processes) {
  await bundle(true, WITH);
  await bundle(false, WITHOUT);
  const { WORKLOADS } = await import(`../${WITH}/bracketcost.js`);
  const million = (v) => `${(v / 1e6).toFixed(2)} M/s`.padStart(14);
  const percent = (v) => `${v.toFixed(1)} %`;
  console.log(`${"workload".padEnd(16)}${"with brackets".padStart(14)}${"compiled out".padStart(14)}    loss`);
  for (const name of Object.keys(WORKLOADS)) {
    const pairs = Array.from({ length: processes }, () =>
      JSON.parse(execFileSync(process.execPath, [fileURLToPath(import.meta.url), "--in-turns", name], { encoding: "utf8" })),
    );
    const losses = pairs.map(([a, b]) => (1 - a / b) * 100);
    const loss = median(losses);
    if (loss > MOST) process.exitCode = 1;
    const [a, b] = [0, 1].map((k) => million(median(pairs.map((p) => p[k]))));
    const range = `(${percent(Math.min(...losses))} to ${percent(Math.max(...losses))})`;
    console.log(`${name.padEnd(16)}${a}${b} ${percent(loss).padStart(8)} ${range}${loss > MOST ? "  ABOVE 10 %" : ""}`);
  }
}

const [what = "7", name] = process.argv.slice(2);
if (what === "--in-turns") await compareInTurns(name);
else await compareAll(Number(what));
