/** Units in this very thread: one after the other, or as many at once as wait for others. Between two of them signals and timers have their turn. */
import type { Executor, Work } from "./work.js";

export function inlineExecutor<S, T, I, R>(work: Work<S, T, I, R>, spec: S, capacity = 1): Executor {
  return {
    capacity,
    run: async (_unit, input) => {
      await new Promise((resolve) => setImmediate(resolve));
      return JSON.stringify(await work.run(spec, input as I));
    },
    close: () => Promise.resolve(),
  };
}
