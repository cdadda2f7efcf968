import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { campaign } from "../../src/campaign/campaign.js";
import { inlineExecutor } from "../../src/campaign/inline.js";
import { Journal } from "../../src/campaign/journal.js";
import type { Executor, Work } from "../../src/campaign/work.js";
import { temporaryFolder } from "../cli/command.js";

interface Spec {
  readonly units: number;
  readonly window: number;
}
interface State {
  /** What units found out, in the order of merging. */
  readonly log: number[];
  /** Work that earlier results asked for. */
  readonly more: number[];
}

/** A tree search in small: a result may ask for further units, and an input holds what was known when it was asked for. */
const toy: Work<Spec, State, { readonly unit: number; readonly known: number }, number> = {
  kind: "toy",
  window: (s) => s.window,
  start: () => ({ log: [], more: [] }),
  next: (spec, state, unit) => {
    if (unit < spec.units) return { unit, known: state.log.length };
    const n = state.more.shift();
    return n === undefined ? undefined : { unit: n, known: state.log.length };
  },
  run: (_spec, { unit, known }) => (unit * 2654435761 + known * 40503) % 1009,
  merge: (_spec, state, unit, result) => {
    state.log.push(result);
    if (result % 3 === 0 && unit < 200) state.more.push(result);
  },
};

/** Finishes what it has under way in an order of the generator's choice. */
function shuffled(spec: Spec, capacity: number, choices: readonly number[]): Executor {
  const open: (() => void)[] = [];
  let n = 0;
  const settle = (): void => {
    if (open.length === 0) return;
    const [finish] = open.splice(choices[n++ % choices.length]! % open.length, 1);
    finish!();
  };
  return {
    capacity,
    run: (_unit, input) =>
      new Promise((resolve) => {
        open.push(() => resolve(JSON.stringify(toy.run(spec, input as never, () => Promise.resolve()))));
        setImmediate(settle);
      }),
    close: () => Promise.resolve(),
  };
}

test("the merged state is the same for any number of jobs and any order in which units finish", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({ units: fc.nat(30), window: fc.integer({ min: 1, max: 9 }) }),
      fc.integer({ min: 1, max: 12 }),
      fc.array(fc.nat(100), { minLength: 1, maxLength: 40 }),
      async (spec, capacity, choices) => {
        const one = await campaign(toy, spec, { executor: inlineExecutor(toy, spec) });
        const many = await campaign(toy, spec, { executor: shuffled(spec, capacity, choices) });
        expect(many).toEqual(one);
        expect(one.ended).toBe("complete");
      },
    ),
    { numRuns: 60 },
  );
});

const SPEC = { units: 20, window: 4 };
const whole = () => campaign(toy, SPEC, { executor: inlineExecutor(toy, SPEC) });

/** Lets `n` units through and then never answers. @param stuck called when the next one is under way */
function stuckAfter(n: number, stuck: () => void): Executor {
  const inline = inlineExecutor(toy, SPEC);
  let done = 0;
  const never = (): Promise<never> => {
    setImmediate(stuck);
    return new Promise(() => undefined);
  };
  return { ...inline, run: (u, i) => (done++ < n ? inline.run(u, i) : never()) };
}

test("an interrupted campaign gives what is merged, and its journal goes on to the state of one that was not interrupted", async () => {
  const folder = temporaryFolder();
  const controller = new AbortController();
  const first = await campaign(toy, SPEC, {
    executor: stuckAfter(7, () => controller.abort()),
    journal: Journal.open(folder, "toy", SPEC, false),
    signal: controller.signal,
  });
  expect({ units: first.units, ended: first.ended }).toEqual({ units: 7, ended: "interrupted" });
  let ran = 0;
  const inline = inlineExecutor(toy, SPEC);
  const counting: Executor = { ...inline, run: (u, i) => (ran++, inline.run(u, i)) };
  const second = await campaign(toy, SPEC, { executor: counting, journal: Journal.open(folder, "toy", SPEC, true) });
  const expected = await whole();
  expect(second).toEqual(expected);
  expect(ran).toBe(expected.units - 7);
});

test("a line of the journal without its end is as if it were not there", async () => {
  const folder = temporaryFolder();
  const expected = await campaign(toy, SPEC, { executor: inlineExecutor(toy, SPEC), journal: Journal.open(folder, "toy", SPEC, false) });
  const results = join(folder, "results.jsonl");
  const lines = readFileSync(results, "utf8").split("\n");
  writeFileSync(results, `${lines.slice(0, 5).join("\n")}\n`);
  appendFileSync(results, lines[5]!.slice(0, -1));
  const journal = Journal.open(folder, "toy", SPEC, true);
  expect(journal.done.size).toBe(5);
  expect(await campaign(toy, SPEC, { executor: inlineExecutor(toy, SPEC), journal })).toEqual(expected);
  expect(readFileSync(results, "utf8").split("\n").length).toBe(lines.length);
});

test("a folder with a campaign is not overwritten, nor gone on with under other options", () => {
  const folder = temporaryFolder();
  Journal.open(folder, "toy", SPEC, false).close();
  expect(() => Journal.open(folder, "toy", SPEC, false)).toThrow("holds a campaign already: --resume");
  expect(() => Journal.open(folder, "toy", { ...SPEC, units: 21 }, true)).toThrow("other options");
});

test("when the time is over nothing more begins, and what is under way is merged", async () => {
  const r = await campaign(toy, SPEC, { executor: inlineExecutor(toy, SPEC), time: 0 });
  expect({ units: r.units, ended: r.ended }).toEqual({ units: 0, ended: "time" });
});

test("what a unit throws ends the campaign and names the unit", async () => {
  const bad = { ...toy, run: () => Promise.reject(new Error("no such thing")) };
  await expect(campaign(bad, SPEC, { executor: inlineExecutor(bad, SPEC) })).rejects.toThrow("unit 0 of toy: no such thing");
});
