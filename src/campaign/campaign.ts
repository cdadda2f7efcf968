/**
 * Carries out a campaign: hands units to an executor, merges results in the order of the units, keeps the journal,
 * and stops when the work is complete, the time is over or somebody interrupts it.
 */
import type { Journal } from "./journal.js";
import { resultIn } from "./unit.js";
import type { Campaigned, Ended, Executor, Work } from "./work.js";

export interface CampaignOptions {
  readonly executor: Executor;
  readonly journal?: Journal;
  /** No unit begins later than this many milliseconds after the start; those under way are finished. */
  readonly time?: number;
  /** Aborted: nothing more is waited for. */
  readonly signal?: AbortSignal;
  /** Called after each merge with what a terminal could show, and how much is done of what it counts. */
  readonly onProgress?: (text: string, done: number) => void;
}

export async function campaign<S, T, I, R>(work: Work<S, T, I, R>, spec: S, options: CampaignOptions): Promise<Campaigned<T>> {
  const { executor, journal, signal } = options;
  const window = Math.max(1, work.window(spec));
  const state = work.start(spec);
  const end = options.time === undefined ? Infinity : performance.now() + options.time;
  /** Inputs of units that nobody does yet; the first is of unit `begun`. */
  const ready: I[] = [];
  /** Results that wait for one before them. */
  const waiting = new Map<number, string>();
  let asked = 0;
  let begun = 0;
  let merged = 0;
  let running = 0;
  let ended: Ended | undefined;
  /** Why nothing more is begun. */
  let closing: Ended | undefined;
  let failure: unknown;
  let wake = (): void => undefined;
  const abort = (): void => {
    ended = "interrupted";
    wake();
  };
  if (signal?.aborted === true) abort();
  signal?.addEventListener("abort", abort, { once: true });

  /** Asks for the inputs that depend on nothing that is still to be merged. */
  const ask = (): void => {
    while (closing === undefined && asked < merged + window) {
      const input = work.next(spec, state, asked);
      if (input === undefined) return;
      ready.push(input);
      asked++;
    }
  };
  const mergeAll = (): void => {
    ask();
    for (let text = waiting.get(merged); text !== undefined && closing !== "complete"; text = waiting.get(merged)) {
      waiting.delete(merged);
      work.merge(spec, state, merged++, resultIn(text) as R);
      if (work.enough?.(spec, state) === true) closing = "complete";
      ask();
    }
    if (work.progress !== undefined) options.onProgress?.(work.progress(spec, state, merged), work.counted?.(state) ?? merged);
  };
  const begin = (): void => {
    while (running < executor.capacity && begun < asked && closing === undefined) {
      const unit = begun;
      const input = ready.shift()!;
      const before = journal?.done.get(unit);
      if (before !== undefined) {
        begun++;
        waiting.set(unit, before);
        mergeAll();
        continue;
      }
      if (performance.now() >= end) {
        closing = "time";
        return;
      }
      begun++;
      running++;
      executor.run(unit, input).then(
        (text) => {
          running--;
          if (ended !== undefined) return;
          try {
            journal?.add(unit, text);
            waiting.set(unit, text);
            mergeAll();
          } catch (e) {
            failure ??= e;
          }
          wake();
        },
        (e: unknown) => {
          running--;
          failure ??= new Error(`unit ${unit} of ${work.kind}: ${e instanceof Error ? e.message : String(e)}`, { cause: e });
          wake();
        },
      );
    }
  };

  try {
    mergeAll();
    for (;;) {
      if (failure !== undefined) throw failure;
      if (ended !== undefined) break;
      begin();
      if (running === 0 || closing === "complete") {
        ended = closing ?? "complete";
        break;
      }
      await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    await executor.close();
    journal?.close();
  }
  return { state, units: merged, ended };
}
