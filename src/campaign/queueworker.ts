/** `faultline worker`: takes units from a queue and does them in worker threads, until it is told to stop. */
import type { UnitJob } from "./queue.js";
import { QUEUE } from "./queue.js";
import { unitPool } from "./pool.js";
import { connect, redisPlace } from "./redis.js";
import { VERSION } from "./version.js";

export interface WorkerOptions {
  readonly url: string;
  /** Units at once. */
  readonly jobs: number;
  /** Milliseconds after which a worker that is not heard of is taken for dead, and its units are done again. */
  readonly lostAfter: number;
  /** Aborted: what is under way is finished, nothing more is taken. */
  readonly signal: AbortSignal;
  /** Units done so far. */
  readonly onDone?: (units: number) => void;
}

/** A unit may have been begun by so many workers that died. */
const MOST_DEATHS = 20;

/** @returns units done */
export async function runWorker(options: WorkerOptions): Promise<number> {
  const connection = await connect(redisPlace(options.url));
  const { Worker } = await import("bullmq");
  const pool = await unitPool(options.jobs);
  let done = 0;
  const worker = new Worker<UnitJob, string>(
    QUEUE,
    async (job) => {
      const { version, kind, spec, input } = job.data;
      if (version !== VERSION) throw new Error(`the unit is of Faultline ${version}, this worker of ${VERSION}`);
      const result = await pool.run({ kind, spec, input });
      options.onDone?.(++done);
      return result;
    },
    {
      connection,
      concurrency: options.jobs,
      lockDuration: options.lostAfter,
      stalledInterval: options.lostAfter,
      maxStalledCount: MOST_DEATHS,
    },
  );
  // A connection that is lost comes back; a unit that failed is told to its submitter.
  worker.on("error", () => undefined);
  await new Promise<void>((resolve) => {
    if (options.signal.aborted) resolve();
    options.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await worker.close();
  await pool.close();
  connection.disconnect();
  return done;
}
