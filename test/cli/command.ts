/** Runs the built command as a user does: a process of its own, with its own standard streams. */
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
/** The executable as test/built.ts has built it. */
export const CLI = join(root, "node_modules/.cache/faultline-test/faultline.cjs");

export interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

export function faultline(
  args: readonly string[],
  options: { readonly input?: string | Uint8Array; readonly cwd?: string; readonly env?: Record<string, string> } = {},
): Promise<Ended> {
  return new Promise((resolve) => {
    const p = spawn(process.execPath, [CLI, ...args], { cwd: options.cwd ?? root, env: { ...process.env, ...options.env } });
    let out = "";
    let err = "";
    p.stdout.setEncoding("utf8").on("data", (d: string) => (out += d));
    p.stderr.setEncoding("utf8").on("data", (d: string) => (err += d));
    p.on("close", (status) => resolve({ status, out, err }));
    p.stdin.on("error", () => undefined);
    p.stdin.end(options.input ?? "");
  });
}

/** Words for node: the command takes stderr for a terminal, and says there how far it is. */
export const AT_TERMINAL = ["--import", "data:text/javascript,process.stderr.isTTY=true"];

/** When a process has said something with these words in it. */
export function said(stream: NodeJS.ReadableStream, words: string): Promise<void> {
  return new Promise((resolve) => {
    let text = "";
    stream.on("data", (d: Buffer) => {
      text += d.toString();
      if (text.includes(words)) resolve();
    });
  });
}

/** Of this worker alone: files of tests that run side by side do not write each other's. */
export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "faultline-test-"));
}
