/** Ctrl-C, or a signal to the command alone, in the middle of long work: it ends, and no process of it goes on. */
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { campaign } from "../../src/campaign/campaign.js";
import { inlineExecutor } from "../../src/campaign/inline.js";
import { fuzzWork, type FuzzSpec } from "../../src/fuzz/work.js";
import { CLI, said, temporaryFolder } from "./command.js";

/** Sends SIGINT while it works. @returns how it ended, when everybody who holds its standard output is gone */
async function interrupted(args: readonly string[]): Promise<{ status: number | null; signal: string | null; seconds: number }> {
  const p = spawn(process.execPath, [CLI, ...args]);
  p.stdout.resume();
  p.stderr.resume();
  await new Promise((r) => setTimeout(r, 2500));
  expect(p.exitCode).toBe(null);
  const began = performance.now();
  const ended = new Promise<[number | null, string | null]>((resolve) => p.on("close", (...how) => resolve(how)));
  p.kill("SIGINT");
  const [status, signal] = await ended;
  return { status, signal, seconds: (performance.now() - began) / 1000 };
}

test("measure does not wait for the end of a long run", async () => {
  const { signal, seconds } = await interrupted(["measure", "2024-bar-copy", "--let", "COPY=64M", "--policies", "nc"]);
  expect(signal).toBe("SIGINT");
  expect(seconds).toBeLessThan(10);
}, 120_000);

test("bench takes its suites with it", async () => {
  const { status, seconds } = await interrupted(["bench", "unmap-refault"]);
  expect(status).toBe(130);
  expect(seconds).toBeLessThan(10);
}, 120_000);

const LONG = `test T1 "quick"
guest vcpu0 { mov w1, #1; str w1, [x] }
allowed vcpu0.x1 == 1

test T2 "minutes"
machine cpus=4
${[
  ["x", "y", "z", "w"],
  ["y", "z", "w", "x"],
  ["z", "w", "x", "y"],
  ["w", "x", "y", "z"],
]
  .map(
    ([a, b, c, d], n) =>
      `guest vcpu${n} { str w1, [${a}]; ldr w2, [${b}]; str w1, [${c}]; ldr w3, [${d}]; str w1, [${b}]; ldr w4, [${c}] }`,
  )
  .join("\n")}
allowed vcpu1.x2 == 0
`;

test("litmus does not wait for the end of a long search, and tells the tests before it", async () => {
  const file = join(temporaryFolder(), "long.litmus");
  writeFileSync(file, LONG);
  const p = spawn(process.execPath, [CLI, "litmus", file, "--max-states", "1G"], { stdio: ["ignore", "pipe", "ignore"] });
  let out = "";
  p.stdout.on("data", (d: Buffer) => (out += d.toString()));
  const ended = new Promise((r) => p.on("close", r));
  await said(p.stdout, "T1");
  await new Promise((r) => setTimeout(r, 200));
  p.kill("SIGINT");
  const late = setTimeout(() => p.kill("SIGKILL"), 10_000);
  expect(await ended).toBe(130);
  clearTimeout(late);
  expect(out).toMatch(/1 row, 1 test\n$/);
}, 30_000);

test("a unit of fuzz is given up in the middle", async () => {
  const spec: FuzzSpec = { kernels: ["v6.12"], cpus: ["max"], set: {}, seed: 1, runs: 0, programs: [] };
  const interrupt = new AbortController();
  setTimeout(() => interrupt.abort(), 100);
  const { state, ended } = await campaign(fuzzWork, spec, { executor: inlineExecutor(fuzzWork, spec), signal: interrupt.signal });
  expect([ended, state.runs]).toEqual(["interrupted", 0]);
});

/** A process that runs: one that has ended and that nobody has waited for is none. */
function runs(pid: string): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
const soon = (): Promise<void> => new Promise((r) => setTimeout(r, 20));

test("bench's own process, killed alone, takes its suite with it", async () => {
  const p = spawn(process.execPath, [join(dirname(CLI), "bench.js"), "unmap-refault"], { stdio: "ignore" });
  const children = (): string[] => readFileSync(`/proc/${p.pid}/task/${p.pid}/children`, "utf8").split(" ").filter(Boolean);
  while (children().length === 0) await soon();
  const suites = children();
  const ended = new Promise((r) => p.on("exit", r));
  p.kill("SIGTERM");
  const status = await ended;
  const began = performance.now();
  while (suites.some(runs) && performance.now() - began < 2000) await soon();
  expect(suites.filter(runs)).toEqual([]);
  expect(status).toBe(130);
}, 30_000);
