/** `faultline run` on a small script, from process start to exit: what a person waits for. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Workload } from "./harness.js";

export function startUp(): Workload {
  const cli = ["dist/cli.js", join(import.meta.dirname, "cli.js")].find((f) => existsSync(f));
  const folder = mkdtempSync(join(tmpdir(), "faultline-bench-"));
  const script = join(folder, "small.guest");
  let made = false;
  let output = "";
  return {
    name: "start-up",
    compares: "faultline run of the script that `faultline new` writes, from process start to exit; issue: under 200 ms, 5 runs/s",
    unit: "runs",
    ops: 1,
    floor: 5,
    prepare() {
      if (cli === undefined) throw new Error("start-up needs dist/cli.js: npm run build");
      if (made) return;
      execFileSync(process.execPath, [cli, "new", script], { stdio: "ignore" });
      made = true;
      process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
    },
    run() {
      output = execFileSync(process.execPath, [cli!, "run", script], { encoding: "utf8" });
    },
    check() {
      if (output.length === 0) throw new Error("the run printed nothing");
    },
  };
}
