// Bundles the command, the library and the benchmarks into a folder with esbuild.
import { chmodSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { build } from "esbuild";
import { inlineConstants } from "./constants.mjs";
import { oneFile } from "./onefile.mjs";
import { buildPage } from "./page.mjs";

const ENTRY_POINTS = ["src/cli.ts", "src/index.ts", "src/campaign/poolworker.ts", "bench/bench.ts"];

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

/** commander asks for node:child_process as it is loaded, for subcommands that are programs of their own: we have none, and it takes 20 ms. */
const lazyChildProcess = {
  name: "lazy-child-process",
  setup(build) {
    build.onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes("commander") ? { path: "lazy", namespace: "child-process" } : undefined,
    );
    build.onLoad({ filter: /^lazy$/, namespace: "child-process" }, () => ({
      contents: `exports.spawn = (...args) => process.getBuiltinModule("node:child_process").spawn(...args);`,
      loader: "js",
    }));
  },
};

/** @param folder where to; what was in it is gone */
export async function bundle(folder) {
  const { version } = JSON.parse(readFileSync("package.json", "utf8"));
  rmSync(folder, { recursive: true, force: true });
  const { metafile } = await build({
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    splitting: true,
    outdir: folder,
    minifySyntax: true,
    logLevel: "warning",
    chunkNames: "chunks/[name]-[hash]",
    define: { __FAULTLINE_VERSION__: JSON.stringify(version), __FAULTLINE_BRACKETS__: "true" },
    metafile: true,
    plugins: [lazyChildProcess],
    entryPoints: ENTRY_POINTS.filter((f) => existsSync(f)).map((f) => ({ in: f, out: f.replace(/^.*\//, "").replace(/\.ts$/, "") })),
    // benny is a development dependency with dynamic requires; tinypool starts a file of its own as a thread; the queue is loaded only when asked for: they stay outside.
    external: ["benny", "tinypool", "bullmq", "ioredis"],
    banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
  });
  await inlineConstants(inOrder(metafile.outputs).map((f) => resolve(f)));
  await buildPage(folder);
  await oneFile(resolve(folder));
  chmodSync(join(folder, "faultline.cjs"), 0o755);
}
