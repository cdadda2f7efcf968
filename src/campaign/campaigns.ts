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
  /** Redis: units are done by `faultline worker`s. */
  readonly queue?: string;
}

/** @throws FaultlineError for a folder that holds another campaign */
export async function carryOut<S, T, I, R>(work: Work<S, T, I, R>, spec: S, means: Means): Promise<Campaigned<T>> {
  const journal = means.folder === undefined ? undefined : Journal.open(means.folder, work.kind, spec, means.resume === true);
  const executor = await executorOf(work, spec, means);
  const progress = progressLine();
  let before: { readonly done: number; readonly at: number } | undefined;
  const body = async (signal: AbortSignal): Promise<Campaigned<T>> => {
    try {
      return await campaign(work, spec, {
        executor,
        signal,
        onProgress: (text, done) => {
          before ??= { done, at: performance.now() };
          const seconds = (performance.now() - before.at) / 1000;
          progress.show(seconds < 1 ? text : `${text}, ${Math.round((done - before.done) / seconds)}/s`);
        },
        ...(journal === undefined ? {} : { journal }),
        ...(means.time === undefined ? {} : { time: means.time }),
      });
    } finally {
      progress.clear();
    }
  };
  // A queue has to be told that nobody waits for its units any more.
  return work.wholeOnly === true && means.queue === undefined ? body(new AbortController().signal) : interruptible(body);
}

async function executorOf<S, T, I, R>(work: Work<S, T, I, R>, spec: S, means: Means): Promise<Executor> {
  if (means.queue !== undefined) {
    const { queueExecutor } = await import("./queue.js");
    return queueExecutor(means.queue, work.kind, spec);
  }
  if (means.jobs <= 1 || work.waits === true) return inlineExecutor(work, spec, means.jobs);
  const { poolExecutor } = await import("./pool.js");
  return poolExecutor(work.kind, spec, means.jobs);
}
