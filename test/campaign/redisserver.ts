/** A real redis-server on loopback, and the processes that a test leaves running. */
import { spawn, type ChildProcess } from "node:child_process";
import { createServer } from "node:net";
import { afterAll } from "vitest";
import { temporaryFolder } from "../cli/command.js";

const running: ChildProcess[] = [];

/** For each file that starts some: files share their process, where this module is loaded once. */
export function killWhenDone(): void {
  afterAll(() => {
    for (const p of running.splice(0)) if (p.exitCode === null) p.kill("SIGKILL");
  });
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return address.port;
}

/** Killed when the tests of its file have ended (`killWhenDone`). */
export function start(command: string, args: readonly string[], cwd = temporaryFolder()): ChildProcess {
  const p = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], cwd });
  running.push(p);
  return p;
}

/** Started and ready, keeping nothing on disk. `args` name its port. */
export async function redisServer(args: readonly string[], cwd?: string): Promise<void> {
  const server = start("redis-server", ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", ...args], cwd);
  await new Promise<void>((resolve, reject) => {
    server.on("error", (e) => reject(new Error(`redis-server (Debian package redis-server) does not start: ${e.message}`)));
    server.stdout!.on("data", (d: Buffer) => d.toString().includes("Ready to accept connections") && resolve());
  });
}
