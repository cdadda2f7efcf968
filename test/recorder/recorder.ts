/** Builds and runs the recorder for its tests, where this machine has the tools. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const onArm64 = process.arch === "arm64";
export const TOOLS = onArm64 ? "" : "aarch64-linux-gnu-";

/** True if the command can be run at all. */
export const has = (command: string): boolean => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;

/** Says why tests are skipped, where a reader of the test's output sees it. */
export function skipped(reason: string): void {
  process.stderr.write(`recorder tests skipped: ${reason}\n`);
}

/** Builds into a folder of its own. @returns that folder. */
export function buildRecorder(): string {
  const out = mkdtempSync(join(tmpdir(), "faultline-recorder-"));
  execFileSync("make", ["-s", "-C", join(ROOT, "recorder"), `OUT=${out}`], { stdio: ["ignore", "inherit", "inherit"] });
  return out;
}
