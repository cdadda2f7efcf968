// Runs TypeScript sources in a tool: bundles a few lines that export from src/ and imports them.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

/** @param {string} name of the bundle @param {string} contents lines such as `export { x } from "./cli/y.js"`, relative to src/ */
export async function loadSources(name, contents) {
  const outfile = resolve(`node_modules/.cache/faultline-tools/${name}.mjs`);
  await build({
    stdin: { contents, resolveDir: resolve("src"), loader: "js" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    outfile,
    logLevel: "warning",
  });
  return import(pathToFileURL(outfile).href);
}
