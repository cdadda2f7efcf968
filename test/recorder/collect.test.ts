/** What recorder/collect.awk makes of a machine's console: whole recordings, of a crash too; and none that can be cut unnoticed. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parseRecording } from "../../src/conform/recording.js";
import { has, ROOT } from "./recorder.js";

const scenario = (name: string, ...body: string[]): string[] => [
  `begin ${name}`,
  "# kernel v6.12, cpu max",
  `scenario ${name}`,
  '# the last line is "# end"',
  ...body,
];

it.skipIf(!has("awk"))("a recording ends with its mark, the one of a crash too; cut at any line end it is refused", () => {
  const out = mkdtempSync(join(tmpdir(), "faultline-collect-"));
  const whole = [...scenario("whole", "> vm", "> op ldr64 0x80000000", "= done x0=0x0 x4=0x0", "# end"), "end 0"];
  const crash = scenario("crash", "> vm", "> op br 0x80000000", "~ pfn *");
  const early = scenario("early");
  const text = (lines: readonly string[]): string => lines.map((l) => `@rec ${l}\r\n`).join("");
  const collect = (input: string): void => {
    const words = ["-v", `out=${out}`, "-v", `finished=${join(out, "begun")}`, "-f", join(ROOT, "recorder/collect.awk")];
    expect(spawnSync("awk", words, { input: `${input}Internal error: Oops\r\n` }).status).toBe(0);
  };
  collect(text([...whole, ...crash]));
  collect(text(early));
  expect(readdirSync(out).filter((f) => f.endsWith(".rec"))).toEqual(["crash.rec", "whole.rec"]);
  const recordings = ["crash", "whole"].map((name) => readFileSync(join(out, `${name}.rec`), "utf8"));
  expect(recordings[0]!.split("\n").slice(-4)).toEqual(["> op br 0x80000000", "= HOST CRASH", "# end", ""]);
  for (const recording of recordings) {
    expect(parseRecording("a.rec", recording).steps.length).toBe(2);
    const ends = [...recording.matchAll(/\n/g)].map((m) => m.index + 1).slice(0, -1);
    const accepted = ends.filter((end) => {
      try {
        return parseRecording("a.rec", recording.slice(0, end)) !== undefined;
      } catch {
        return false;
      }
    });
    expect(accepted).toEqual([]);
  }
});
