// Writes man/faultline.1 from the tree of commands (src/cli/manpage.ts).
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { join, resolve } from "node:path";
import { build } from "esbuild";

const outfile = resolve("node_modules/.cache/faultline-man/page.mjs");
await build({
  stdin: {
    contents: `import { program } from "./program.js"; import { manPage } from "./manpage.js"; export const page = (version) => manPage(program(() => undefined), version);`,
    resolveDir: resolve("src/cli"),
    loader: "js",
  },
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  packages: "external",
  outfile,
  logLevel: "warning",
});
const { page } = await import(pathToFileURL(outfile).href);
mkdirSync("man", { recursive: true });
const file = join("man", "faultline.1");
writeFileSync(`${file}.tmp`, page(JSON.parse(readFileSync("package.json", "utf8")).version));
renameSync(`${file}.tmp`, file);
