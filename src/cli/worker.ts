/** `faultline worker`: units of a queue, with a count on a terminal. */
import { interruptible } from "../campaign/interrupt.js";
import { progressLine } from "../campaign/progress.js";
import { runWorker } from "../campaign/queueworker.js";
import { INTERRUPTED } from "./status.js";

export async function workerCommand(o: { readonly queue: string; readonly jobs: number; readonly lostAfter: number }): Promise<number> {
  const progress = progressLine();
  await interruptible((signal) =>
    runWorker({ url: o.queue, jobs: o.jobs, lostAfter: o.lostAfter, signal, onDone: (n) => progress.show(`${n} units done`) }),
  );
  progress.clear();
  return INTERRUPTED;
}
