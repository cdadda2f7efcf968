import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { CLI, faultline, temporaryFolder } from "../cli/command.js";

vi.setConfig({ testTimeout: 300_000 });

interface Report {
  readonly programs: number;
  readonly features: number;
  readonly ended: string;
  readonly failures: readonly {
    readonly kind: string;
    readonly replays: boolean;
    readonly file: string | null;
    readonly steps: readonly number[];
  }[];
  readonly kernelBugs: readonly {
    readonly kind: string;
    readonly replays: boolean;
    readonly explanation: readonly { readonly decision: string }[];
  }[];
}
const parse = (out: string): Report => JSON.parse(out) as Report;

test("random programs on three kernels end without a failure, and the report is the same on three threads as in one", async () => {
  const args = ["fuzz", "--kernel", "v5.5,v6.12.117,v7.2.12", "--cpu", "max,cortex-a72", "--runs", "600", "--seed", "5", "--json"];
  const cwd = temporaryFolder();
  const [one, three] = [await faultline(args, { cwd }), await faultline([...args, "--jobs", "3"], { cwd })];
  const report = parse(one.out);
  expect(report.failures).toEqual([]);
  expect(report.programs).toBe(600);
  expect(report.features).toBeGreaterThan(1500);
  expect(one.status).toBe(0);
  expect(three).toEqual(one);
});

test("a bug that a kernel had comes with the decision that ended it, as a script that fails when it is run", async () => {
  const cwd = temporaryFolder();
  const r = await faultline(["fuzz", "--kernel", "v5.5", "--runs", "400", "--corpus", "c", "--json"], { cwd });
  expect(r.status).toBe(0);
  const bug = parse(r.out).kernelBugs.find((b) => b.kind === "store to memory without PROT_WRITE");
  expect(bug?.explanation.map((e) => e.decision)).toEqual(["pfnmapWritable"]);
  expect(bug?.replays).toBe(true);
  const scripts = readdirSync(join(cwd, "c/failures"));
  const ran = await Promise.all(scripts.map((s) => faultline(["run", join("c/failures", s), "--quiet"], { cwd })));
  expect(ran.map((x) => x.status)).toEqual(scripts.map(() => 1));
});

test("a decision broken by hand is found, made small, and written as a script with its seed and story", async () => {
  const cwd = temporaryFolder();
  const args = ["fuzz", "--kernel", "v7.2.12", "--set", "dirtyMark=pages-before-set", "--runs", "400", "--json"];
  const r = await faultline(args, { cwd });
  expect(r.status).toBe(1);
  const { failures } = parse(r.out);
  expect(failures.every((f) => f.replays && f.steps[1]! <= 8)).toBe(true);
  const script = readFileSync(join(cwd, failures[0]!.file!), "utf8");
  expect(script).toMatch(/^title ".*"\n\/\/ found by faultline fuzz, seed 1, unit \d+, program \d+: /);
  expect((await faultline(["run", failures[0]!.file!], { cwd })).status).toBe(1);
  expect((await faultline(["run", failures[0]!.file!, "--set", "dirtyMark=after-map"], { cwd })).status).toBe(0);
});

test("what was found is told also where it cannot be written: status 2", async () => {
  const cwd = temporaryFolder();
  mkdirSync(join(cwd, "c"));
  writeFileSync(join(cwd, "c/failures"), "");
  const r = await faultline(["fuzz", "--set", "dirtyMark=pages-before-set", "--runs", "200", "--corpus", "c", "--json"], { cwd });
  expect(parse(r.out).failures.map((f) => f.file)).toContain(null);
  expect(r.err).toBe("error: c/failures: file already exists (mkdir)\n");
  expect(r.status).toBe(2);
});

/** Runs a campaign and kills it when it has so many results. */
async function killed(args: readonly string[], cwd: string, results: number, signal: NodeJS.Signals): Promise<number | null> {
  const p = spawn(process.execPath, [CLI, ...args], { cwd, stdio: "ignore" });
  const file = join(cwd, "c/results.jsonl");
  const ended = new Promise<number | null>((resolve) => p.on("exit", resolve));
  while (p.exitCode === null && !(existsSync(file) && readFileSync(file, "utf8").split("\n").length > results))
    await new Promise((r) => setTimeout(r, 20));
  p.kill(signal);
  return ended;
}

test("a campaign that is killed and interrupted goes on to the report of one that was not", async () => {
  const args = ["fuzz", "--kernel", "v5.5,v7.2.12", "--runs", "1000", "--corpus", "c", "--json"];
  const [cwd, other] = [temporaryFolder(), temporaryFolder()];
  await killed([...args, "--jobs", "2"], cwd, 1, "SIGKILL");
  const again = await faultline(args, { cwd });
  expect(again.status).toBe(2);
  expect(again.err).toBe("error: c holds a campaign already: --resume goes on with it, another folder begins a new one\n");
  expect(await killed([...args, "--resume", "--jobs", "2"], cwd, 3, "SIGINT")).toBe(130);
  const resumed = await faultline([...args, "--resume"], { cwd });
  const whole = await faultline([...args, "--jobs", "2"], { cwd: other });
  expect(resumed).toEqual(whole);
  expect(parse(resumed.out).programs).toBe(1000);
  expect(readdirSync(join(cwd, "c/programs"))).toEqual(readdirSync(join(other, "c/programs")));
});

test("two kernels: each class of programs that they answer differently comes with the decisions that make the difference", async () => {
  const cwd = temporaryFolder();
  const r = await faultline(["fuzz", "--compare", "v6.8,v6.9", "--runs", "100", "--json"], { cwd });
  const { classes } = JSON.parse(r.out) as { classes: { kind: string; explanation: { decision: string }[]; script: string }[] };
  const memattr = classes.find((c) => c.kind === "stage 2: memattr 1 | 5");
  expect(memattr?.explanation.map((e) => e.decision)).toEqual(["vfioAllowAnyUncached", "deviceType"]);
  expect(classes.filter((c) => c.explanation.length === 0)).toEqual([]);
  expect(r.status).toBe(0);
  const ran = await faultline(["compare", "-", "--kernels", "v6.8,v6.9"], { cwd, input: memattr!.script });
  // Two eras that differ are what was asked for: status 0, and the place is marked.
  expect(ran.status).toBe(0);
  expect(ran.out).toContain(">>> the first difference");
  expect(await faultline(["fuzz", "--compare", "v6.9,v6.9", "--runs", "20", "--json"], { cwd })).toMatchObject({ status: 0 });
});

test("wrong options are refused", async () => {
  const cwd = temporaryFolder();
  const wrong = async (...args: string[]) => {
    const r = await faultline(["fuzz", ...args], { cwd });
    return `${r.status} ${r.err.trim()}`;
  };
  expect(await wrong("--kernel", "v5.4,v5.99")).toContain('2 error: no era named "v5.99"');
  expect(await wrong("--cpu", "cortex-a73")).toContain('2 error: no CPU named "cortex-a73"');
  expect(await wrong("--time", "soon")).toContain("expected a time such as 90s, 10m or 1h");
  expect(await wrong("--resume")).toBe("2 error: --resume needs --corpus: the folder that the campaign is in");
  expect(await wrong("--resume", "--corpus", "nowhere")).toBe("2 error: nowhere holds no campaign that could be resumed");
});
