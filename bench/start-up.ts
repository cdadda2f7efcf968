/** `faultline run` on a bundled script, from process start to exit: what a person waits for. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Workload } from "./harness.js";

const SCRIPT = "scenarios/2019-munmap-remap.guest";

export function startUp(): Workload {
  const root = [".", join(import.meta.dirname, "..")].find((folder) => existsSync(join(folder, "dist/faultline.cjs")));
  let output = "";
  return {
    name: "start-up",
    compares: `faultline run ${SCRIPT}, two kernels, from process start to exit with Node's own start: under 150 ms`,
    unit: "runs",
    ops: 1,
    warm: true,
    floor: 1 / 0.15,
    prepare() {
      if (root === undefined) throw new Error("start-up needs dist/faultline.cjs: npm run build");
    },
    run() {
      output = execFileSync(process.execPath, [join(root!, "dist/faultline.cjs"), "run", join(root!, SCRIPT)], { encoding: "utf8" });
    },
    check() {
      if (output.length === 0) throw new Error("the run printed nothing");
    },
  };
}
