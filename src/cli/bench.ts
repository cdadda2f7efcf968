/** `faultline bench`: the suites of bench/ for users; the built benchmarks run in a process of their own. */
import { spawn } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { UsageError } from "./status.js";

export interface BenchArguments {
  readonly names: readonly string[];
  readonly json: boolean;
  readonly quick: boolean;
}

/** @returns the exit status of the benchmarks: 1 if a suite failed its check or got slower than the baseline allows */
export async function benchCommand(args: BenchArguments): Promise<number> {
  const program = join(dirname(realpathSync(process.argv[1]!)), "bench.js");
  if (!existsSync(program)) throw new UsageError("the benchmarks are not built: they come with a checkout, not with the package");
  const options = [...(args.json ? ["--json"] : []), ...(args.quick ? ["--quick"] : [])];
  const child = spawn(process.execPath, [program, ...args.names, ...options], { stdio: "inherit", detached: true });
  // A group of its own, so that a signal reaches the suites too, each of which is a process.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => child.pid !== undefined && process.kill(-child.pid, signal));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 130));
  });
}
