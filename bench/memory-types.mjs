// npm run bench:memory-types: what the bracketed places of the access path (store and gathering buffer, cache) cost while nothing
// is modelled. The same commit is built with them and without; fault and hit workloads run in turns, so that a busy moment
// meets both. Prints the best rate of each (operations for each second of user CPU time) and the loss; status 1 above 10 %.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { build } from "esbuild";

const WORKLOADS = ["demand-fault-4k", "unmap-refault", "tlb-hit-loads", "tlb-miss-loads"];
const ROUNDS = Number(process.argv[2] ?? 3);
const MOST = 10;

const bundle = async (brackets, outdir) => {
  rmSync(outdir, { recursive: true, force: true });
  await build({
    entryPoints: { bracketcost: "bench/bracketcost.ts" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    minifySyntax: true,
    logLevel: "error",
    outdir,
    external: ["benny"],
    banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
    define: { __FAULTLINE_VERSION__: '"bench"', __FAULTLINE_BRACKETS__: String(brackets) },
  });
};
const WITH = "node_modules/.cache/faultline/brackets";
const WITHOUT = "node_modules/.cache/faultline/no-brackets";
await bundle(true, WITH);
await bundle(false, WITHOUT);

const run = (dir) => new Map(Object.entries(JSON.parse(execFileSync(process.execPath, [`${dir}/bracketcost.js`], { encoding: "utf8" }))));
const rates = new Map(WORKLOADS.map((w) => [w, { with: [], without: [] }]));
for (let n = 0; n < ROUNDS; n++) {
  for (const which of n % 2 === 0 ? ["with", "without"] : ["without", "with"]) {
    for (const [name, rate] of run(which === "with" ? WITH : WITHOUT)) rates.get(name)[which].push(rate);
  }
}
// The best of several: what disturbs a run only makes it slower.
const best = (list) => Math.max(...list);
let status = 0;
console.log("workload            with brackets  compiled out   loss");
for (const [name, r] of rates) {
  const loss = (1 - best(r.with) / best(r.without)) * 100;
  if (loss > MOST) status = 1;
  const million = (v) => `${(v / 1e6).toFixed(2)} M/s`.padStart(13);
  console.log(
    `${name.padEnd(18)} ${million(best(r.with))} ${million(best(r.without))} ${loss.toFixed(1).padStart(6)} %${loss > MOST ? "  ABOVE 10 %" : ""}`,
  );
}
process.exitCode = status;
