/**
 * Boots a real arm64 kernel at EL2 in QEMU, records scenarios on it, and compares them with the emulator.
 * FAULTLINE_RECORD_KERNEL names a kernel image of the 6.12 series (recorder/kernel.sh 6.12 --cloud) for three
 * scenarios; FAULTLINE_RECORD=all fetches the Debian kernels of two series and records every bundled scenario on them.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { conformRecording } from "../../src/conform/conform.js";
import { parseRecording } from "../../src/conform/recording.js";
import { has, ROOT, skipped, TOOLS } from "./recorder.js";

const image = process.env["FAULTLINE_RECORD_KERNEL"];
const all = process.env["FAULTLINE_RECORD"] === "all";
const tools = [`${TOOLS}gcc`, "make", "qemu-system-aarch64", "cpio"].filter((tool) => !has(tool));
const able = tools.length === 0;
if (!able) skipped(`recording needs ${tools.join(", ")}`);
else if (image === undefined && !all) skipped("no kernel to record on (FAULTLINE_RECORD_KERNEL=IMAGE, or FAULTLINE_RECORD=all)");

/** Records these scenarios of an era's folder on a kernel. @returns by scenario, what was recorded and how much of it the emulator reproduces under that era. */
function recordAndCompare(kernel: readonly string[], era: string, scenarios: readonly string[]): Map<string, string> {
  const out = mkdtempSync(join(tmpdir(), "faultline-recorded-"));
  const files = scenarios.map((name) => join(ROOT, "recordings", era, "max", `${name}.rec`));
  const args = ["--qemu", ...kernel, "--out", out, "--time", "540", "--", ...files];
  const ended = spawnSync(join(ROOT, "recorder/record.sh"), args, {
    encoding: "utf8",
    env: { ...process.env, FAULTLINE_RECORDER_BUILD: join(out, "build") },
  });
  expect(ended.status, ended.stderr).toBe(0);
  return new Map(
    scenarios.map((name) => {
      const file = join(out, `${name}.rec`);
      const r = conformRecording(parseRecording(file, readFileSync(file, "utf8")), { kernel: era });
      return [name, `${r.matched} of ${r.total}`];
    }),
  );
}

/** Lines of a recording that count, all of them reproduced. */
const wholly = (era: string, name: string): string => {
  const file = join(ROOT, "recordings", era, "max", `${name}.rec`);
  const { steps } = parseRecording(file, readFileSync(file, "utf8"));
  const lines = steps.reduce((n, s) => n + s.observed.length, 0);
  return `${lines} of ${lines}`;
};

const THREE = ["a_demand_fault", "f_munmap", "g_nisv_nocap"];

describe.skipIf(!able || image === undefined)("on the kernel that FAULTLINE_RECORD_KERNEL names", () => {
  it(
    "three scenarios are recorded as the bundled recordings have them, and the emulator reproduces them wholly",
    { timeout: 600_000 },
    () => {
      expect(recordAndCompare([image!], "v6.12.117", THREE)).toEqual(new Map(THREE.map((name) => [name, wholly("v6.12.117", name)])));
    },
  );
});

describe.skipIf(!able || !all)("on Debian's kernels", () => {
  it.each([
    ["6.12", "v6.12.117"],
    ["6.1", "v6.1.192"],
  ])("every bundled scenario is recorded anew on %s and reproduced wholly", { timeout: 1_200_000 }, (series, era) => {
    const kernel = execFileSync(join(ROOT, "recorder/kernel.sh"), [series], { encoding: "utf8" }).trim().split("\n");
    const names = readdirSync(join(ROOT, "recordings", era, "max")).map((file) => file.replace(/\.rec$/, ""));
    const scores = recordAndCompare(kernel, era, names);
    const partly = [...scores].filter(([, score]) => !/^(\d+) of \1$/.test(score));
    expect(partly).toEqual([]);
    expect(scores.size).toBe(names.length);
  });
});
