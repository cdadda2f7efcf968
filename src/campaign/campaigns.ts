/** What a command does with its work: chooses who carries it out, shows progress, takes Ctrl-C. */
import { campaign } from "./campaign.js";
import { inlineExecutor } from "./inline.js";
import { interruptible } from "./interrupt.js";
import { Journal } from "./journal.js";
import { progressLine } from "./progress.js";
import type { Campaigned, Executor, Work } from "./work.js";

export interface Means {
  /** Worker threads; 1 does the units in this thread. */
  readonly jobs: number;
  /** Milliseconds. */
  readonly time?: number;
  /** Where the campaign is kept, so that it can be resumed. */
  readonly folder?: string;
  readonly resume?: boolean;
}

/** @throws FaultlineError for a folder that holds another campaign */
export async function carryOut<S, T, I, R>(work: Work<S, T, I, R>, spec: S, means: Means): Promise<Campaigned<T>> {
  const journal = means.folder === undefined ? undefined : Journal.open(means.folder, work.kind, spec, means.resume === true);
  const executor = await executorOf(work, spec, means);
  const progress = progressLine();
  return interruptible(async (signal) => {
    try {
      return await campaign(work, spec, {
        executor,
        signal,
        onProgress: progress.show,
        ...(journal === undefined ? {} : { journal }),
        ...(means.time === undefined ? {} : { time: means.time }),
      });
    } finally {
      progress.clear();
    }
  });
}

async function executorOf<S, T, I, R>(work: Work<S, T, I, R>, spec: S, means: Means): Promise<Executor> {
  if (means.jobs <= 1) return inlineExecutor(work, spec);
  const { poolExecutor } = await import("./pool.js");
  return poolExecutor(work.kind, spec, means.jobs);
}
