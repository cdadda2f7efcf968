/** Ctrl-C, or a signal to the command alone, in the middle of long work: it ends, and no process of it goes on. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { CLI } from "./command.js";

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
