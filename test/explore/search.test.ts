import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Search, type SearchOptions, type SearchResult } from "../../src/explore/search.js";
import { enumerate, Toy, toyStep, type ToyStep } from "./toy.js";

const POOLS = 4;
const pool = fc.integer({ min: 0, max: POOLS - 2 });
const step = toyStep(pool);
/** Steps, some of them inside a section of the one lock (the last pool) or of a second (pool 0: two orders, so deadlocks). */
const program: fc.Arbitrary<ToyStep[]> = fc
  .tuple(fc.array(step, { maxLength: 2 }), fc.array(step, { maxLength: 1 }), fc.constantFrom("none", "one", "both", "turned"))
  .map(([before, inside, locks]): ToyStep[] => {
    const take = locks === "none" ? [] : locks === "one" ? [POOLS - 1] : locks === "both" ? [POOLS - 1, POOLS] : [POOLS, POOLS - 1];
    const lock = take.map((p): ToyStep => ({ do: "lock", p }));
    const unlock = take.map((p): ToyStep => ({ do: "unlock", p }));
    return [...before, ...lock, ...inside, ...unlock];
  });
const programs = fc.array(program, { minLength: 2, maxLength: 3 });

interface Seen {
  readonly ends: Set<string>;
  readonly stuck: Set<string>;
  readonly seen: Set<string>;
  readonly result: SearchResult;
}

function search(toy: Toy, options: SearchOptions): Seen {
  const ends = new Set<string>();
  const stuck = new Set<string>();
  const seen = new Set<string>([toy.seen()]);
  const result = new Search(
    toy,
    {
      step: () => void seen.add(toy.seen()),
      end: () => void ends.add(toy.content()),
      stuck: () => void stuck.add(toy.content()),
    },
    options,
  ).run();
  return { ends, stuck, seen, result };
}

const WAYS: readonly SearchOptions[] = [{}, { verifyHits: true }, { reduction: false }, { bound: 1000 }];

describe("A search finds what plain enumeration finds", () => {
  test.each(WAYS.map((w) => [JSON.stringify(w), w] as const))(
    "%s: terminal states, deadlocks, and what an observer sees",
    (_n, options) => {
      fc.assert(
        fc.property(programs, fc.constantFrom([], [0], [0, 1]), (p, watched) => {
          const plain = new Toy(p, POOLS + 1, watched);
          plain.state.startRecording();
          const all = enumerate(plain);
          const toy = new Toy(p, POOLS + 1, watched);
          toy.state.startRecording();
          const before = toy.content();
          const found = search(toy, options);
          expect([...found.ends].sort()).toEqual([...all.ends].sort());
          expect([...found.stuck].sort()).toEqual([...all.stuck].sort());
          expect([...found.seen].sort()).toEqual([...all.seen].sort());
          expect(found.result.ending).toBe("complete");
          expect(toy.content()).toBe(before);
        }),
        { numRuns: 200 },
      );
    },
  );

  test.each([{ hashing: false }, { hashing: false, reduction: false }, { bound: 1000, hashing: false }])(
    "without hashing, of short programs: %o",
    (options) => {
      fc.assert(
        fc.property(fc.array(fc.array(step, { maxLength: 3 }), { minLength: 2, maxLength: 3 }), (p) => {
          const plain = new Toy(p, POOLS, [0]);
          plain.state.startRecording();
          const toy = new Toy(p, POOLS, [0]);
          toy.state.startRecording();
          const [all, found] = [enumerate(plain), search(toy, options)];
          expect([...found.ends].sort()).toEqual([...all.ends].sort());
          expect([...found.seen].sort()).toEqual([...all.seen].sort());
        }),
        { numRuns: 100 },
      );
    },
  );

  test("without any reduction it follows exactly the ways that there are", () => {
    fc.assert(
      fc.property(fc.array(fc.array(step, { maxLength: 3 }), { minLength: 2, maxLength: 3 }), (p) => {
        const plain = new Toy(p, POOLS + 1);
        plain.state.startRecording();
        const toy = new Toy(p, POOLS + 1);
        toy.state.startRecording();
        expect(search(toy, { hashing: false, reduction: false }).result.schedules).toBe(enumerate(plain, false).ways);
      }),
      { numRuns: 100 },
    );
  });
});

test("a bound of n preemptions finds what needs n and not what needs one more", () => {
  // Actor 1 sees the 1 only if actor 0 is stopped between its two stores.
  const p: ToyStep[][] = [
    [
      { do: "set", p: 0, v: 1 },
      { do: "set", p: 0, v: 2 },
    ],
    [{ do: "keep", p: 0 }],
  ];
  const ends = (bound: number): number => {
    const toy = new Toy(p, 1);
    toy.state.startRecording();
    return search(toy, { bound }).ends.size;
  };
  expect([ends(0), ends(1), ends(2)]).toEqual([2, 3, 3]);
});

test("budgets end a search and are named", () => {
  const p: ToyStep[][] = [0, 1, 2].map((): ToyStep[] => Array.from({ length: 6 }, (_, n) => ({ do: "add", p: n & 1, q: (n + 1) & 1 })));
  const ending = (options: SearchOptions): string => {
    const toy = new Toy(p, 2);
    toy.pools[0]!.set(0, 1);
    toy.state.startRecording();
    return search(toy, options).result.ending;
  };
  expect([ending({ maxStates: 5 }), ending({ maxSteps: 5 }), ending({ maxDepth: 5 }), ending({})]).toEqual([
    "states",
    "steps",
    "depth",
    "complete",
  ]);
});

test("reduction runs fewer steps than there are where actors have nothing to do with each other", () => {
  const p: ToyStep[][] = [0, 1, 2].map((n): ToyStep[] => Array.from({ length: 5 }, () => ({ do: "add", p: n, q: n })));
  const steps = (options: SearchOptions): number => {
    const toy = new Toy(p, 3);
    toy.state.startRecording();
    return search(toy, options).result.states;
  };
  expect(steps({ reduction: false })).toBe(6 ** 3);
  expect(steps({})).toBe(16);
});

test("a way that comes back to its own state is told when everybody went on in it, and only then", () => {
  // The program counter of a toy wraps: 0 undoes what 1 does, for ever.
  const p: ToyStep[][] = [[{ do: "set", p: 0, v: 0 }], [{ do: "set", p: 0, v: 1 }]];
  const loops = (spinning: readonly number[]): boolean => {
    const toy = new Toy(p, 1, [0]);
    toy.spins = spinning;
    toy.state.startRecording();
    return new Search(toy, { loop: () => "livelock" }, {}).run().violation?.what === "livelock";
  };
  expect([loops([0, 1]), loops([0]), loops([])]).toEqual([true, true, false]);
});
