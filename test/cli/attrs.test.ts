import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { CLI } from "./command.js";

const faultline = (...args: string[]) => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [CLI, ...args], { encoding: "utf8" });
  return { stdout, stderr, status };
};

test.each([
  [["--s1", "0xff", "--s2", "0xf"], "ff", 3],
  [["--s1", "0xff", "--s2", "0x5"], "44", 2],
  [["--s1", "0xff", "--s2", "0x1"], "04", 2],
  [["--s1", "0x00", "--s2", "6", "--fwb"], "ff", 3],
  [["--s1", "0x00", "--s2", "5", "--fwb"], "00", 2],
  [["--s1", "0x44", "--s2", "7", "--fwb"], "44", 2],
])("attrs %j gives 0x%s with shareability %i", (args, attr, sh) => {
  const { stdout, status } = faultline("attrs", ...args, "--json");
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ attr, sh });
});

test("attrs --table has one row per legal combination", () => {
  const lines = faultline("attrs", "--table").stdout.trimEnd().split("\n");
  expect(lines[0]).toBe("s1attr,s2memattr,fwb,s1sh,s2sh,attr,sh");
  const keys = lines.slice(1).map((l) => l.split(",").slice(0, 5).join(","));
  expect(new Set(keys).size).toBe(keys.length);
  // 13 MemAttr without FWB, 7 with it, nine pairs of shareabilities.
  expect(keys.length % ((13 + 7) * 9)).toBe(0);
});

test("esr takes the syndromes of the reference apart", () => {
  const esr = (value: string, ...more: string[]) => JSON.parse(faultline("esr", value, ...more, "--json").stdout) as object;
  expect(esr("0x93238006")).toMatchObject({ ecName: "DABT_LOW", isv: true, size: 1, sse: true, sf: true, srt: 3, level: 2, wnr: false });
  expect(esr("0x92000147")).toMatchObject({ isv: false, cm: true, wnr: true, level: 3 });
  expect(esr("0x8200000f")).toMatchObject({ ecName: "IABT_LOW", fscName: "permission fault, level 3" });
  expect(esr("0x62300081")).toMatchObject({ ecName: "SYS64", instruction: "mrs x4, midr_el1 (s3_0_c0_c0_0)" });
  expect(esr("0x62303020")).toMatchObject({ instruction: "msr vbar_el1 (s3_0_c12_c0_0), x1" });
  expect(esr("0x5a000004")).toMatchObject({ instruction: "hvc #0x4" });
  // DC CISW, as kvm_set_way_flush traps it.
  expect(esr("0x62141c1c")).toMatchObject({ instruction: "sys #0, c7, c14, #2, x0" });
  expect(esr("0x06000001")).toMatchObject({ instruction: "wfe" });
  expect(esr("0x93c48005", "--hpfar", "0x800000", "--far", "0x80000123")).toMatchObject({ ipa: "0x80000123" });
});

test.each([
  [["attrs"], "attrs needs --s1"],
  [["attrs", "--s1", "0x100", "--s2", "1"], "--s1 is a number"],
  [["attrs", "--s1", "0xff", "--s2", "4"], "reserved"],
  [["esr", "zz"], "hexadecimal"],
])("%j is refused with status 2", (args, message) => {
  const { stderr, status } = faultline(...args);
  expect(status).toBe(2);
  expect(stderr).toContain(message);
});
