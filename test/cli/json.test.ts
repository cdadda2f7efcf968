import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { faultline, temporaryFolder } from "./command.js";

test.each([["--json"], ["--format", "json"]])("new %s %s says which file has which script", async (...option) => {
  const cwd = temporaryFolder();
  const r = await faultline(["new", "my.guest", ...option.filter((o) => o !== undefined)], { cwd });
  expect(JSON.parse(r.out)).toEqual({ file: "my.guest", script: readFileSync(join(cwd, "my.guest"), "utf8") });
});

test("demo --json gives both runs of the scenario, each with its expectations met", async () => {
  const r = await faultline(["demo", "--json"]);
  const demo = JSON.parse(r.out) as { scenario: string; runs: { variant: unknown; passed: boolean }[] };
  expect(r.status).toBe(0);
  expect([demo.scenario, demo.runs.map((run) => run.passed)]).toEqual(["2019-munmap-remap", [true, true]]);
});

test("run --json of several scripts gives those before one that cannot be run, and is not passed", async () => {
  const r = await faultline(["run", "2012-demand-fault", "nosuch", "--json", "--quiet"]);
  const { passed, runs } = JSON.parse(r.out) as { passed: boolean; runs: { file: string; passed: boolean }[] };
  expect(r.status).toBe(2);
  expect(r.err).toContain('"nosuch"');
  expect([passed, runs.map((d) => [d.file, d.passed])]).toEqual([false, [["scenarios/2012-demand-fault.guest", true]]]);
});
