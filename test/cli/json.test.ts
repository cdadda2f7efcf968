import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { faultline, temporaryFolder } from "./command.js";
import { wrong } from "./jsonschema.js";

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
  const document = JSON.parse(r.out) as { passed: boolean; runs: { file: string; passed: boolean }[] };
  const { passed, runs } = document;
  expect([wrong("runs", document), document]).toMatchObject(["", { error: { status: 2, file: "nosuch" } }]);
  expect(r.status).toBe(2);
  expect(r.err).toContain('"nosuch"');
  expect([passed, runs.map((d) => [d.file, d.passed])]).toEqual([false, [["scenarios/2012-demand-fault.guest", true]]]);
});

describe("what goes wrong is an object on standard output, and a line for people on standard error", () => {
  const cwd = temporaryFolder();
  writeFileSync(join(cwd, "bad.guest"), "guest { mov x0, 1 }\n  foo\nbar(\n");
  writeFileSync(join(cwd, "bad.costs"), "# cycles\ntrapp = 3\n");
  writeFileSync(join(cwd, "bad.schedule"), "faultline schedule 1\nvcpu0 many\n");
  writeFileSync(join(cwd, "bad.rec"), "# kernel v5.5, cpu max\nscenario x\n= done\n");
  writeFileSync(join(cwd, "cut.rec"), '# kernel v5.5, cpu max\nscenario x\n# the last line is "# end"\n> vm\n');
  const script = "scenarios/2012-demand-fault.guest";
  const budget = { status: 3, message: "the run took more than 10 steps", file: script, option: "--max-steps" };
  const cases: readonly [args: string, error: Record<string, unknown>][] = [
    ["run 2012-demand-fault --max-steps 10 --format jsonl", budget],
    ...["run", "explain", "measure", "dump", "debug"].map((c): [string, typeof budget] => [
      `${c} 2012-demand-fault --max-steps 10 --json`,
      budget,
    ]),
    ["compare 2019-munmap-remap --max-steps 10 --format=json", { ...budget, file: "scenarios/2019-munmap-remap.guest" }],
    ["explain 2019-munmap-remp --json", { status: 2, file: "2019-munmap-remp", expected: 'did you mean "2019-munmap-remap"?' }],
    ["dump bad.guest --json", { status: 2, file: "bad.guest", line: 2, column: 3, expected: 'did you mean "for"?' }],
    ["run 2012-demand-fault --costs bad.costs --json", { file: "bad.costs", line: 2, expected: 'did you mean "trap"?' }],
    ["run 2020-concurrent-vfio-faults --schedule bad.schedule --json", { file: "bad.schedule", line: 2 }],
    ["conform cut.rec --json", { file: "cut.rec", line: 4, message: 'the recording is cut: expected "# end" behind this line' }],
    ["conform bad.rec --json", { file: "bad.rec", line: 3, message: "an observation before the first command" }],
    ["run --json --kernl x y", { message: "unknown option '--kernl': Did you mean --kernel?", expected: "Did you mean --kernel?" }],
    ["rum x --json", { expected: 'did you mean "run"?' }],
    ["bench nosuch --json", { status: 2, message: expect.stringMatching(/^no suite named "nosuch"/) as string }],
  ];
  test.each(cases)("faultline %s", async (args, error) => {
    const r = await faultline(args.split(" "), { cwd });
    const document = JSON.parse(r.out.trim().split("\n").at(-1)!) as { error: { status: number } };
    expect(wrong("error", document)).toBe("");
    expect(document.error).toMatchObject(error);
    expect(r.status).toBe(document.error.status);
    expect(r.err).not.toBe("");
  });

  const endless = "variant v6.12\nvariant v5.4\nguest { mov x0, 1 }\non v5.4 { guest { a: nop; b a } }\n";
  test("the variants before one that a budget ends are in the document with the error, and told to people", async () => {
    const words = ["run", "-", "--max-steps", "1000", "--quiet"];
    const [json, text] = await Promise.all([faultline([...words, "--json"], { input: endless }), faultline(words, { input: endless })]);
    const document = JSON.parse(json.out) as { passed: boolean; variants: { variant: string }[]; error: unknown };
    expect(wrong("run", document)).toBe("");
    expect([document.passed, document.variants.map((v) => v.variant)]).toEqual([false, ["v6.12"]]);
    expect(document.error).toMatchObject({ status: 3, file: "<stdin>", option: "--max-steps" });
    expect(text.out).toMatch(/^v6\.12: ran to its end/);
    expect([json.status, text.status]).toEqual([3, 3]);
  });

  test("the events before the end of a budget are lines, the error is the last", async () => {
    const r = await faultline(["run", "-", "--max-steps", "1000", "--format", "jsonl"], { input: endless });
    const lines = r.out.trim().split("\n");
    expect(lines.map((l) => wrong("run-line", JSON.parse(l))).filter((w) => w !== "")).toEqual([]);
    expect(lines.filter((l) => l.includes('"variant":"v5.4"')).length).toBeGreaterThan(10);
    expect(JSON.parse(lines.at(-1)!)).toHaveProperty("error.status", 3);
  });
});
