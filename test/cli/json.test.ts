import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { buildCommand, faultline, temporaryFolder } from "./command.js";

beforeAll(buildCommand, 120_000);

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
