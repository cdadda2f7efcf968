import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { faultline, temporaryFolder } from "./command.js";

const withTraceCmd = test.skipIf(spawnSync("trace-cmd", ["--version"]).error !== undefined);

describe("run --trace", () => {
  test("one variant gets exactly the file named; several get their names into it", async () => {
    const dir = temporaryFolder();
    const one = await faultline(["run", "2019-munmap-remap", "--kernel", "v5.5", "--quiet", "--trace", join(dir, "one.jsonl")]);
    expect(one.status).toBe(0);
    const two = await faultline(["run", "2019-munmap-remap", "--trace", join(dir, "two.jsonl")]);
    expect(two.err).toBe(`trace of v5.4: ${join(dir, "two.v5.4.jsonl")}\ntrace of v5.5: ${join(dir, "two.v5.5.jsonl")}\n`);
    expect(readdirSync(dir).sort()).toEqual(["one.jsonl", "two.v5.4.jsonl", "two.v5.5.jsonl"]);
    expect(readFileSync(join(dir, "two.v5.5.jsonl")).equals(readFileSync(join(dir, "one.jsonl")))).toBe(true);
  });
  test("several scripts get their names into it as well", async () => {
    const dir = temporaryFolder();
    const ran = ["run", "2012-demand-fault", "2019-munmap-remap", "--kernel", "v5.5", "--quiet", "--trace", join(dir, "t.dat")];
    expect((await faultline(ran)).status).toBeLessThan(2);
    expect(readdirSync(dir).sort()).toEqual(["t.2012-demand-fault.dat", "t.2019-munmap-remap.v5.5.dat"].map((f) => f.replace(".v5.5", "")));
  });
  test("the extension says the format, or --trace-format does", async () => {
    const dir = temporaryFolder();
    const run = (...args: string[]) => faultline(["run", "-", "--quiet", ...args], { input: "guest { mov x0, 1 }" });
    for (const [file, starts] of [
      ["a.dat", "\x17\x08\x44tracing6\0"],
      ["a.json", '{"displayTimeUnit":"ns"'],
      ["a.jsonl", '{"trace":"faultline"'],
      ["a.ftrace", "       CPU 0/KVM-1001  [001]     0."],
      ["a.pftrace", "\n"],
    ] as const) {
      expect((await run("--trace", join(dir, file))).status).toBe(0);
      expect(readFileSync(join(dir, file), "latin1").startsWith(starts), file).toBe(true);
    }
    await run("--trace", join(dir, "b"), "--trace-format", "trace.dat-v7");
    expect(readFileSync(join(dir, "b"), "latin1").startsWith("\x17\x08\x44tracing7\0")).toBe(true);
  });
  test("a name without a format, a folder that is not there, a system that is no name: status 2 and what was expected", async () => {
    const dir = temporaryFolder();
    const run = (...args: string[]) => faultline(["run", "-", "--quiet", ...args], { input: "guest { mov x0, 1 }" });
    const cases: [string[], RegExp][] = [
      [["--trace", join(dir, "x")], /says no format; end it in one of \.dat, .*--trace-format/],
      [["--trace", join(dir, "no/x.dat")], /the folder of .*no\/x\.dat does not exist/],
      [["--trace", dir, "--trace-format", "jsonl"], /is a folder/],
      [["--trace", join(dir, "x.dat"), "--trace-system", "a b"], /expected a name such as kvm_arm64/],
    ];
    for (const [args, said] of cases) {
      const r = await run(...args);
      expect(r.status, args.join(" ")).toBe(2);
      expect(r.err).toMatch(said);
      expect(r.err).not.toMatch(/\n {4}at /);
    }
    expect(readdirSync(dir)).toEqual([]);
  });
  test("a run that its budget ends keeps the trace so far", async () => {
    const file = join(temporaryFolder(), "t.jsonl");
    const r = await faultline(["run", "2019-munmap-remap", "--kernel", "v5.5", "--quiet", "--max-steps", "50", "--trace", file]);
    expect(r.status).toBe(3);
    expect(existsSync(file)).toBe(true);
  });
  withTraceCmd("trace-cmd reports the era as the kernel that was traced", async () => {
    const file = join(temporaryFolder(), "t.dat");
    await faultline(["run", "2019-munmap-remap", "--kernel", "v5.5", "--quiet", "--trace", file]);
    const dump = spawnSync("trace-cmd", ["dump", "--options", "-i", file], { encoding: "utf8" });
    expect(dump.stdout).toContain("Linux faultline v5.5 aarch64");
    const report = spawnSync("trace-cmd", ["report", "-N", "-i", file, "-F", "kvm_exit"], { encoding: "utf8" });
    expect(report.stdout).toMatch(/CPU 0\/KVM-1001 +\[001\] +0\.\d+: kvm_exit: +TRAP: HSR_EC: 0x0020 \(IABT_LOW\), PC: 0x0000000040000800/);
  });
});
