/** `npm run check`: types, lint and format, as many at once as there are processors. Status 1 if one of them fails. */
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";

// The longest first.
const COMMANDS = [
  "eslint .",
  "tsc --noEmit -p .",
  "prettier --check .",
  "tsc --noEmit -p src/report/page",
  "tsc --noEmit -p editors/vscode",
];

const waiting = [...COMMANDS];
let failed = false;

/** Its output comes whole, so that two do not mix. */
function run(command) {
  return new Promise((resolve) => {
    const child = spawn(`npx ${command}`, { shell: true, stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    child.stdout.on("data", (d) => (said += d));
    child.stderr.on("data", (d) => (said += d));
    child.on("close", (status) => {
      process.stdout.write(`${command}: ${status === 0 ? "ok" : "failed"}\n${status === 0 ? "" : said}`);
      failed ||= status !== 0;
      resolve();
    });
  });
}

async function worker() {
  for (let command = waiting.shift(); command !== undefined; command = waiting.shift()) await run(command);
}

await Promise.all(Array.from({ length: Math.max(2, availableParallelism()) }, worker));
process.exitCode = failed ? 1 : 0;
