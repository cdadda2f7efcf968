/** Ctrl-C, or a signal to the command alone, in the middle of long work: it ends, and no process of it goes on. */
import { spawn } from "node:child_process";
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
