/** `compare --set decision=a,b`: every stage-2 leaf of both runs next to each other. */
import { describe, expect, it } from "vitest";
import { compareLeaves, leavesText } from "../../src/cli/leaves.js";
import { alternativesOf } from "../../src/cli/execute.js";
import type { Stage2Leaf } from "../../src/api/nouns.js";

const leaf = (ipa: number, pa: number, size = 4096, memattr = 1): Stage2Leaf => ({
  ipa,
  pa,
  level: 3,
  size,
  s2ap: 3,
  memattr,
  xn: 2,
  af: 1,
  cont: 0,
});

describe("leaves of two runs", () => {
  it("that are the same are one range", () => {
    const a = [leaf(0x1000, 0x8000), leaf(0x2000, 0x9000), leaf(0x3000, 0xa000)];
    expect(compareLeaves([a, a])).toEqual([
      { ipa: 0x1000, end: 0x4000, same: true, runs: [0, 1].map(() => ({ pa: 0x8000, size: 4096, type: "Device-nGnRE", perms: "rw" })) },
    ]);
  });
  it("differ by page, by type, by size and by being there", () => {
    const a = [leaf(0x1000, 0x8000), leaf(0x2000, 0x9000), leaf(0x200000, 0x400000, 0x200000)];
    const b = [leaf(0x1000, 0x8000), leaf(0x2000, 0x9000, 4096, 15), leaf(0x201000, 0x401000)];
    const r = compareLeaves([a, b]);
    expect(r.map((x) => [x.ipa, x.end, x.same])).toEqual([
      [0x1000, 0x2000, true],
      [0x2000, 0x3000, false],
      [0x200000, 0x201000, false],
      [0x201000, 0x202000, false],
      [0x202000, 0x400000, false],
    ]);
    expect(r[3]!.runs.map((v) => v?.pa)).toEqual([0x401000, 0x401000]);
    expect(r[4]!.runs[1]).toBeUndefined();
    expect(leavesText(r, ["a", "b"]).slice(-1)).toEqual(["4 KiB mapped the same way, 2052 KiB not"]);
  });
  it("of no run at all are nothing", () => {
    expect(compareLeaves([[], []])).toEqual([]);
  });
});

describe("--set with several values", () => {
  it("names a decision and checks each value", () => {
    expect(alternativesOf("eagerDeviceMapping=true,false")).toEqual({ name: "eagerDeviceMapping", values: ["true", "false"] });
    expect(() => alternativesOf("eagerDeviceMapping=true,maybe")).toThrow(/maybe/);
    expect(() => alternativesOf("eager=true,false")).toThrow();
  });
});
