/** Random scenarios against a "kernel" that is the emulator itself with one decision changed: no QEMU is needed. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { build } from "esbuild";
import { beforeAll, expect, test, vi } from "vitest";
import { campaign } from "../../src/campaign/campaign.js";
import { inlineExecutor } from "../../src/campaign/inline.js";
import { conformRecording } from "../../src/conform/conform.js";
import { parseRecording } from "../../src/conform/recording.js";
import type { Recorder } from "../../src/fuzz/recorded/recorder.js";
import { BACKINGS, randomScenario } from "../../src/fuzz/recorded/scenario.js";
import { wellFormed } from "../../src/fuzz/recorded/smaller.js";
import { recordedWork, type RecordedState } from "../../src/fuzz/recorded/work.js";
import { CLI, faultline, temporaryFolder } from "../cli/command.js";
import { wrong } from "../cli/jsonschema.js";
import { recordOnEmulator } from "./emulatedkernel.js";

const PLANTED = { dirtyMark: "pages-before-set" };
const SPEC = { seed: 1, runs: 24, batch: 24, kernel: "a kernel", cpu: "max", against: {} };

async function carry(record: Recorder): Promise<RecordedState> {
  const work = recordedWork(record);
  return (await campaign(work, SPEC, { executor: inlineExecutor(work, SPEC) })).state;
}
const recorderOf =
  (set: Readonly<Record<string, string>>, boots: number[] = []): Recorder =>
  (scenarios) => {
    boots.push(scenarios.size);
    return Promise.resolve(new Map([...scenarios].map(([name, commands]) => [name, recordOnEmulator(name, commands, set)])));
  };

test("a kernel that does what the emulator does agrees in every line", async () => {
  const boots: number[] = [];
  const state = await carry(recorderOf({}, boots));
  expect([...state.found.values()]).toEqual([]);
  expect(state).toMatchObject({ scenarios: 24, agreed: 24, unrecorded: [], crashed: [], matched: state.total });
  expect(state.total).toBeGreaterThan(1200);
  expect(boots).toEqual([24]);
});

test("a kernel that differs in one thing: the class is made small by recording smaller scenarios, many in a boot, and comes again", async () => {
  const boots: number[] = [];
  const state = await carry(recorderOf(PLANTED, boots));
  const found = [...state.found.values()];
  expect(found.length).toBeGreaterThan(0);
  expect(boots.length).toBeLessThanOrEqual(7);
  for (const d of found) {
    expect(d.kind).toContain("dirty");
    expect(d.steps[1]).toBeLessThan(8);
    expect(d.confirmed).toBeGreaterThan(0);
    expect(conformRecording(parseRecording("small.rec", d.text)).firstDifference?.command).toBe(d.command);
  }
});

test("a disagreement that does not come again is said to be one, and keeps its whole recording", async () => {
  let first = true;
  const state = await carry((scenarios) => {
    const record = recorderOf(first ? PLANTED : {});
    first = false;
    return record(scenarios);
  });
  const [found] = [...state.found.values()];
  expect(found).toMatchObject({ confirmed: 0 });
  expect(found!.steps[1]).toBe(found!.steps[0]);
});

test("what has no recording is named, and the rest is compared", async () => {
  const state = await carry(async (scenarios) => {
    const all = new Map(await recorderOf({})(scenarios));
    all.delete("r1_3");
    return all;
  });
  expect(state).toMatchObject({ scenarios: 24, agreed: 23, unrecorded: ["r1_3"] });
});

test("scenarios keep to their seed, differ, and are such as a recorder can carry out", () => {
  const many = (seed: number): string[] => Array.from({ length: 300 }, (_, n) => randomScenario(seed, n).join("\n"));
  expect(many(1)).toEqual(many(1));
  expect(new Set([...many(1), ...many(2)]).size).toBe(600);
  expect(many(3).filter((s) => !wellFormed(s.split("\n")))).toEqual([]);
  for (const backing of BACKINGS) {
    const asked = Array.from({ length: 40 }, (_, n) => randomScenario(1, n, backing));
    expect(asked.filter((s) => !wellFormed(s) || !s.some((c) => c.startsWith(`back V ${backing}`)))).toEqual([]);
  }
});

let script: string;
let kernel: string;
beforeAll(async () => {
  const folder = temporaryFolder();
  const program = join(folder, "fakerecord.mjs");
  await build({
    entryPoints: ["test/fuzz/fakerecord.ts"],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    define: { __FAULTLINE_VERSION__: '"0"' },
    logLevel: "warning",
  });
  [script, kernel] = [join(folder, "record.sh"), join(folder, "Image")];
  writeFileSync(script, `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`);
  chmodSync(script, 0o755);
  writeFileSync(kernel, "");
});
vi.setConfig({ testTimeout: 120_000 });

const words = (...more: string[]): string[] => ["fuzz", "--record-qemu", kernel, "--recorder", script, ...more];

test("the command: status 1 and a file for each class, which conform shows again; status 0 where all agrees", async () => {
  const cwd = temporaryFolder();
  // What cannot be written is in the report, and a resumed campaign writes it.
  mkdirSync(join(cwd, "c"));
  writeFileSync(join(cwd, "c/disagreements"), "");
  const env = { FAKE_SET: "dirtyMark=pages-before-set" };
  const all = words("--runs", "1", "--seed", "21", "--corpus", "c", "--json");
  const unwritten = await faultline(all, { cwd, env });
  expect([unwritten.status, unwritten.err]).toEqual([2, "error: c/disagreements: file already exists (mkdir)\n"]);
  const first = JSON.parse(unwritten.out) as { disagreements: { file: null; text: string }[]; error: object };
  expect(wrong("fuzz-recorded", first)).toBe("");
  expect(first.error).toMatchObject({ status: 2, file: "c/disagreements" });
  rmSync(join(cwd, "c/disagreements"));
  const planted = await faultline([...all, "--resume"], { cwd, env });
  expect(planted.err).toBe("");
  expect(planted.status).toBe(1);
  const report = JSON.parse(planted.out) as { eras: string[]; scenarios: number; disagreements: { file: string; times: number }[] };
  expect(wrong("fuzz-recorded", report)).toBe("");
  expect(report).toMatchObject({ eras: ["v6.12.117"], scenarios: 1 });
  expect(report.disagreements.map((d) => readFileSync(join(cwd, d.file), "utf8"))).toEqual(first.disagreements.map((d) => d.text));
  for (const d of report.disagreements) expect((await faultline(["conform", d.file], { cwd })).status).toBe(1);
  const text = await faultline(words("--runs", "10", "--seed", "2", "--batch", "6"), { cwd });
  expect(text).toMatchObject({ status: 0, err: "" });
  expect(text.out).toMatch(
    /^v6\.12\.117 on max, seed 2\n10 scenarios, 10 agree wholly; (\d+) of \1 lines reproduced\n\nno disagreement\n$/,
  );
});

test("the command: what the recorder lacks, and wrong words, are one clear error each", async () => {
  const said = async (args: string[], env = {}): Promise<string> => {
    const r = await faultline(args, { env, cwd: temporaryFolder() });
    return `${r.status} ${r.err}`;
  };
  expect(await said(words("--runs", "5"), { FAKE_ERROR: "needs qemu-system-aarch64 (Debian: qemu-system-arm)" })).toBe(
    "2 error: record.sh: needs qemu-system-aarch64 (Debian: qemu-system-arm)\n",
  );
  expect(await said(["fuzz", "--record-qemu", "nowhere"])).toContain("2 error: nowhere is no kernel image");
  expect(await said(words("--cpu", "cortex-a73"))).toContain('2 error: no CPU named "cortex-a73"');
  expect(await said(words("--kernel", "v5.4,v5.5"))).toContain("--kernel takes one name here");
  expect(await said(words("--queue", "redis://localhost"))).toContain("leave --queue out");
  expect(await said(["fuzz", "--record-qemu", kernel, "--recorder", "/nowhere/record.sh"])).toContain(
    "2 error: /nowhere/record.sh cannot be run",
  );
});

test("a campaign that is interrupted ends its recorder, and goes on to the report of one that was not", async () => {
  const [cwd, other] = [temporaryFolder(), temporaryFolder()];
  const args = words("--runs", "9", "--batch", "4", "--corpus", "c", "--json");
  const boots = join(cwd, "boots");
  writeFileSync(`${boots}.stop`, "2");
  const p = spawn(process.execPath, [CLI, ...args], { cwd, stdio: "ignore", env: { ...process.env, FAKE_BOOTS: boots } });
  const ended = new Promise<number | null>((done) => p.on("exit", done));
  const results = join(cwd, "c/results.jsonl");
  while (!(existsSync(results) && readFileSync(results, "utf8").includes("\n") && readFileSync(boots, "utf8").split("\n").length > 2))
    await new Promise((r) => setTimeout(r, 20));
  p.kill("SIGINT");
  expect(await ended).toBe(130);
  const resumed = await faultline([...args, "--resume"], { cwd });
  expect(resumed).toEqual(await faultline(args, { cwd: other }));
  expect(JSON.parse(resumed.out)).toMatchObject({ scenarios: 9, agreed: 9 });
  expect(readdirSync(join(cwd, "c/recordings")).length).toBe(9);
});
