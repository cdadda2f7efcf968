// Writes the manual page faultline(1) from the tree of commands (src/cli/manpage.ts); part of npm run build.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

/** @param file where the page goes */
export async function buildManPage(file) {
  const outfile = resolve("node_modules/.cache/faultline-man/page.mjs");
  await build({
    stdin: {
      contents: 'export { program } from "./program.js"; export { manPage } from "./manpage.js";',
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
  const { program, manPage } = await import(pathToFileURL(outfile).href);
  const { version } = JSON.parse(readFileSync("package.json", "utf8"));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(
    `${file}.tmp`,
    manPage(
      program(() => undefined),
      version,
    ),
  );
  renameSync(`${file}.tmp`, file);
}
