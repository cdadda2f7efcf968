/** `faultline worker`: units of a queue, with a count on a terminal. */
import { interruptible } from "../campaign/interrupt.js";
import { progressLine } from "../campaign/progress.js";
import { runWorker } from "../campaign/queueworker.js";
import { INTERRUPTED } from "./status.js";
import { print } from "./terminal.js";

export interface WorkerArguments {
  readonly queue: string;
  readonly jobs: number;
  readonly lostAfter: number;
  /** At the end: how many units were done. */
  readonly json: boolean;
}

export async function workerCommand(o: WorkerArguments): Promise<number> {
  const progress = progressLine();
  let units = 0;
  await interruptible((signal) =>
    runWorker({ url: o.queue, jobs: o.jobs, lostAfter: o.lostAfter, signal, onDone: (n) => progress.show(`${(units = n)} units done`) }),
  );
  progress.clear();
  if (o.json) await print(JSON.stringify({ queue: new URL(o.queue).host, jobs: o.jobs, units }));
  return INTERRUPTED;
}
