/** Units in this very thread, one after the other. Between two of them signals and timers have their turn. */
import type { Executor, Work } from "./work.js";

export function inlineExecutor<S, T, I, R>(work: Work<S, T, I, R>, spec: S): Executor {
  return {
    capacity: 1,
    run: async (_unit, input) => {
      await new Promise((resolve) => setImmediate(resolve));
      return JSON.stringify(await work.run(spec, input as I));
    },
    close: () => Promise.resolve(),
  };
}
