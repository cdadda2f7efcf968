// Writes the manual page faultline(1) from the tree of commands (src/cli/manpage.ts); part of npm run build.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { loadSources } from "./load.mjs";

/** @param {string} file where the page goes */
export async function buildManPage(file) {
  const { program, manPage } = await loadSources(
    "man",
    'export { program } from "./cli/program.js"; export { manPage } from "./cli/manpage.js";',
  );
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
