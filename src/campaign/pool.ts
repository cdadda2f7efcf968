/** Units on worker threads of this machine (tinypool). */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Executor } from "./work.js";

/** What poolworker.ts is given. */
export interface PoolTask {
  readonly kind: string;
  readonly spec: unknown;
  readonly input: unknown;
}

/** The bundled poolworker.js: beside the command or, seen from a chunk of it, one folder up. */
function workerFile(): string {
  const places = ["./poolworker.js", "../poolworker.js", "../../dist/poolworker.js"].map((p) => fileURLToPath(new URL(p, import.meta.url)));
  const found = places.find((p) => existsSync(p));
  if (found === undefined) throw new Error("poolworker.js is not there: npm run build makes it");
  return found;
}

export interface UnitPool {
  /** @returns the result as JSON text */
  run(task: PoolTask): Promise<string>;
  close(): Promise<void>;
}

/** Worker threads that do units of any work. */
export async function unitPool(jobs: number): Promise<UnitPool> {
  const { default: Tinypool } = await import("tinypool");
  const pool = new Tinypool({
    filename: workerFile(),
    runtime: "worker_threads",
    minThreads: jobs,
    maxThreads: jobs,
    // Long units one at a time: a thread that waits for its next task by spinning would take the core from the others.
    useAtomics: false,
  });
  return {
    run: async (task) => (await pool.run(task)) as string,
    close: async () => {
      await pool.destroy();
    },
  };
}

export async function poolExecutor(kind: string, spec: unknown, jobs: number): Promise<Executor> {
  const pool = await unitPool(jobs);
  return { capacity: jobs, run: (_unit, input) => pool.run({ kind, spec, input }), close: () => pool.close() };
}
