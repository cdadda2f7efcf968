/** Units in this very thread: one after the other, or as many at once as wait for others. Between two of them signals and timers have their turn. */
import { doUnit } from "./unit.js";
import type { Executor, Work } from "./work.js";

export function inlineExecutor<S, T, I, R>(work: Work<S, T, I, R>, spec: S, capacity = 1): Executor {
  return {
    capacity,
    run: async (_unit, input) => {
      await new Promise((resolve) => setImmediate(resolve));
      // What a process of its own refused today it may take tomorrow: that is no answer of the unit.
      return work.waits === true ? JSON.stringify(await work.run(spec, input as I)) : doUnit(work, spec, input as I);
    },
    close: () => Promise.resolve(),
  };
}
