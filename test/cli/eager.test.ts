/** Eager against demand, and the branch that made a write fail, as a user of the command sees them. */
import { describe, expect, test } from "vitest";
import { faultline } from "./command.js";

const vary = (scenario: string, ...more: string[]) => faultline(["compare", scenario, "--set", "eagerDeviceMapping=true,false", ...more]);

interface Compared {
  stage2: { ipa: number; end: number; same: boolean; runs: ({ pa: number; type: string; perms: string; size: number } | null)[] }[];
}

describe("compare --set eagerDeviceMapping=true,false", () => {
  test("a BAR: every leaf is the same", async () => {
    const r = await vary("2019-eager-and-demand-agree");
    expect(r.err).toBe("");
    expect(r.status).toBe(0);
    expect(r.out).toContain("every leaf is the same (68 KiB)");
    expect(r.out).toMatch(/eagerDeviceMapping=true: ran to its end.*\n.*eagerDeviceMapping=false: ran to its end/);
  });
  test("memory with struct pages: another type, the same page", async () => {
    const { stage2 } = JSON.parse((await vary("2019-eager-struct-page", "--json")).out) as Compared;
    const differing = stage2.filter((l) => !l.same);
    const page = differing.find((l) => l.ipa === 0x80001000)!;
    expect(page.runs.map((v) => v?.type)).toEqual(["Device-nGnRE", "Normal-WB"]);
    expect(page.runs[0]!.pa).toBe(page.runs[1]!.pa);
  });
  test("a driver with pages of its own order: another page", async () => {
    const { stage2 } = JSON.parse((await vary("2019-eager-vgpu", "--json")).out) as Compared;
    const page = stage2.find((l) => l.ipa === 0x80000000)!;
    expect(page.runs[1]!.pa - page.runs[0]!.pa).toBe(0xf000);
  });
  test("a read-only VMA: other permissions; of the era that --kernels names", async () => {
    const { stage2 } = JSON.parse((await vary("2019-eager-read-only-vma", "--kernels", "eager", "--json")).out) as Compared;
    expect(stage2.find((l) => l.ipa === 0x80000000)!.runs.map((v) => v?.perms)).toEqual(["rw", "r"]);
  });
  test("wrong decisions and values are named", async () => {
    const r = await faultline(["compare", "2019-eager-vgpu", "--set", "eagerDeviceMapping=true,perhaps"]);
    expect(r.status).toBe(2);
    expect(r.err).toContain("perhaps");
    const two = await faultline([
      "compare",
      "2019-eager-vgpu",
      "--set",
      "eagerDeviceMapping=true,false",
      "--set",
      "execNoSlot=inject-pabt,exit-to-user",
    ]);
    expect(two.status).toBe(2);
    expect(two.err).toContain("only one --set");
  });
});

describe("run --explain of a write to a present but read-only PFNMAP page", () => {
  test("names the decisions and the branch that made it fail", async () => {
    const r = await faultline(["run", "2026-write-notify-efault", "--kernel", "v6.18.2", "--explain"]);
    expect(r.status).toBe(0);
    const why = r.out.split("\n").filter((l) => l.includes("why:") && l.endsWith("EFAULT"));
    expect(why.length).toBe(2);
    for (const line of why) {
      expect(line).toContain("read-only -> pfnmapWritable = host-entry -> pfnmapWriteRetry = false");
      expect(line).toContain("user_mem_abort: error pfn -> EFAULT");
    }
    expect(why[0]).toContain("translation fault");
    expect(why[1]).toContain("permission fault");
  });
});
