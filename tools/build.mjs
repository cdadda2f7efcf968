// Bundles the command, the library and the benchmarks into dist/ with esbuild, and writes the type
// declarations where the TypeScript compiler is at hand (it is a development dependency).
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { inlineConstants } from "./constants.mjs";
import { buildManPage } from "./man.mjs";
import { buildPage } from "./page.mjs";

const version = JSON.parse(readFileSync("package.json", "utf8")).version;
rmSync("dist", { recursive: true, force: true });
const common = {
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  splitting: true,
  outdir: "dist",
  minifySyntax: true,
  logLevel: "warning",
  chunkNames: "chunks/[name]-[hash]",
  define: { __FAULTLINE_VERSION__: JSON.stringify(version) },
};
const entryPoints = ["src/cli.ts", "src/index.ts", "src/campaign/poolworker.ts", "bench/bench.ts"].filter((f) => existsSync(f));
const { metafile } = await build({
  ...common,
  metafile: true,
  entryPoints: entryPoints.map((f) => ({ in: f, out: f.replace(/^.*\//, "").replace(/\.ts$/, "") })),
  // benny is a development dependency with dynamic requires; tinypool starts a file of its own as a thread; the queue is loaded only when asked for: they stay outside.
  external: ["benny", "tinypool", "bullmq", "ioredis"],
  banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
});

/** The files of the bundle, each after those that it imports at once. */
function inOrder(outputs) {
  const order = new Set();
  const visit = (file) => {
    if (order.has(file) || outputs[file] === undefined) return;
    for (const i of outputs[file].imports) if (i.kind === "import-statement") visit(i.path);
    order.add(file);
  };
  for (const file of Object.keys(outputs)) visit(file);
  return [...order];
}
await inlineConstants(inOrder(metafile.outputs).map((f) => join(process.cwd(), f)));

await buildPage("dist");
await buildManPage("man/faultline.1");
if (existsSync("dist/cli.js")) chmodSync("dist/cli.js", 0o755);
// Declarations take longer than all the rest: they are made where the package is (npm ci, npm pack).
if (process.argv.includes("--types") && existsSync("tsconfig.types.json"))
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.types.json"], { stdio: "inherit" });
