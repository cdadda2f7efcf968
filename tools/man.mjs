// Writes the manual page faultline(1) from the tree of commands (src/cli/manpage.ts); part of npm run build.
import { readFileSync } from "node:fs";
import { loadSources } from "./load.mjs";
import { writeWhole } from "./writewhole.mjs";

/** @param {string} file where the page goes */
export async function buildManPage(file) {
  const { program, manPage } = await loadSources(
    "man",
    'export { program } from "./cli/program.js"; export { manPage } from "./cli/manpage.js";',
  );
  const { version } = JSON.parse(readFileSync("package.json", "utf8"));
  writeWhole(
    file,
    manPage(
      program(() => undefined),
      version,
    ),
  );
}
