import { expect, test } from "vitest";
import { lineMatches, scoreStep } from "../../src/conform/compare.js";
import { parseRecording, RecordingError, type Observation } from "../../src/conform/recording.js";

const observations = (...lines: string[]): Observation[] => lines.map((l) => ({ kind: l[0] as "=" | "~", text: l.slice(2) }));
const step = (lines: string[], cut = false) => ({ line: 1, command: ["op"], observed: observations(...lines), cut });
const score = (expected: string[], got: string[], events = true, cut = false) => {
  const s = scoreStep(step(expected, cut), observations(...got), events);
  return [s.matched, s.total];
};

test("a star matches any value of one word, also behind a prefix", () => {
  expect(lineMatches("= done x0=* x4=*", "= done x0=0x12 x4=0")).toBe(true);
  expect(lineMatches("~ pfn *", "~ pfn 0x80000000")).toBe(true);
  expect(lineMatches("~ pfn *", "~ pfn error x")).toBe(false);
  expect(lineMatches("= done x0=1 x4=*", "= done x0=2 x4=*")).toBe(false);
});

test.each([
  ["everything equal", ["= a", "~ b"], ["= a", "~ b"], [2, 2]],
  ["one missing costs itself", ["= a", "~ b", "~ c"], ["= a", "~ c"], [2, 3]],
  ["one extra costs one match", ["= a", "~ b"], ["= a", "~ x", "~ b"], [1, 2]],
  ["extras never make it negative", ["= a"], ["~ x", "~ y"], [0, 1]],
  ["order counts", ["~ a", "~ b"], ["~ b", "~ a"], [0, 2]],
])("%s", (_, expected, got, result) => {
  expect(score(expected, got)).toEqual(result);
});

test("a recording without events counts the = lines alone", () => {
  expect(score(["= a"], ["= a", "~ x"], false)).toEqual([1, 1]);
});

test("events behind a cut are not held against the emulator", () => {
  expect(score(["= a", "~ b"], ["= a", "~ b", "~ b", "~ b"], true, true)).toEqual([2, 2]);
});

const GOOD = "# kernel v5.4, cpu max\nscenario x\n> vm\n> op ldr64 0\n= done x0=0 x4=0\n~ ...\n= sysfs 0\n";

test("a recording is read with its cut marks, without uncounted lines", () => {
  const r = parseRecording("f.rec", GOOD);
  expect([r.kernel, r.cpu, r.scenario, r.events]).toEqual(["v5.4", "max", "x", true]);
  expect(r.steps.map((s) => [s.line, s.command.join(" "), s.observed.length, s.cut])).toEqual([
    [3, "vm", 0, false],
    [4, "op ldr64 0", 1, true],
  ]);
});

test.each([
  ["", 1, 'expected "# kernel ERA, cpu NAME"'],
  ["# kernel v5.4, cpu max\n", 2, 'expected "scenario NAME"'],
  ["# kernel v5.4, cpu max\nscenario x\n= early\n", 3, "an observation before the first command"],
  ["# kernel v5.4, cpu max\nscenario x\n> vm\n?\n", 4, 'expected a line that starts with "> ", "= " or "~ "'],
  ["# kernel v5.4, cpu max\nscenario x\n>\n", 3, "expected a command"],
])("a broken recording names its line: %j", (text, line, reason) => {
  const error = (() => {
    try {
      parseRecording("f.rec", text);
    } catch (e) {
      return e;
    }
    return undefined;
  })();
  expect(error).toBeInstanceOf(RecordingError);
  expect((error as RecordingError).message).toBe(`f.rec:${line}: ${reason}`);
});
