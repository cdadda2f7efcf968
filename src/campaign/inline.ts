/** Units in this very thread: one after the other, or as many at once as wait for others. Between two of them, and in long ones, signals and timers have their turn. */
import { doUnit } from "./unit.js";
import type { Executor, Pause, Work } from "./work.js";

/** Milliseconds of a unit's work between two looks at what else there is. */
const DEAF = 50;

export function inlineExecutor<S, T, I, R>(work: Work<S, T, I, R>, spec: S, capacity = 1): Executor {
  let closed = false;
  let listened = 0;
  const listen = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    listened = performance.now();
  };
  const pause: Pause = async () => {
    if (performance.now() - listened < DEAF) return;
    await listen();
    // Nobody waits for the unit any more.
    if (closed) await new Promise(() => undefined);
  };
  return {
    capacity,
    run: async (_unit, input) => {
      await listen();
      // What a process of its own refused today it may take tomorrow: that is no answer of the unit.
      return work.waits === true ? JSON.stringify(await work.run(spec, input as I, pause)) : doUnit(work, spec, input as I, pause);
    },
    close: () => {
      closed = true;
      return Promise.resolve();
    },
  };
}
