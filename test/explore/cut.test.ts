import fc from "fast-check";
import { expect, test } from "vitest";
import { cut } from "../../src/explore/cut.js";
import { exploreVariant } from "../../src/explore/explore.js";
import { Search, type SearchOptions } from "../../src/explore/search.js";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import { enumerate, Toy, toyStep, type ToyStep } from "./toy.js";

const POOLS = 3;
const pool = fc.integer({ min: 0, max: POOLS - 2 });
const step = toyStep(pool);
const program = fc.tuple(fc.array(step, { maxLength: 3 }), fc.boolean()).map(([inside, locked]): ToyStep[] => {
  const p = POOLS - 1;
  return locked ? [{ do: "lock", p }, ...inside, { do: "unlock", p }] : inside;
});

/** What is found when the tree is cut and the parts are searched. */
function inParts(toy: Toy, options: SearchOptions, parts: number): { ends: string[]; stuck: string[]; seen: string[] } {
  const ends = new Set<string>();
  const stuck = new Set<string>();
  const seen = new Set<string>([toy.seen()]);
  const watch = {
    step: () => void seen.add(toy.seen()),
    end: () => void ends.add(toy.content()),
    stuck: () => void stuck.add(toy.content()),
  };
  const mark = toy.state.mark();
  for (const root of cut(toy, watch, options, parts).roots) {
    for (const actor of root.path) toy.step(actor);
    expect(new Search(toy, watch, { ...options, from: root }).run().ending).toBe("complete");
    toy.state.rollback(mark);
  }
  return { ends: [...ends].sort(), stuck: [...stuck].sort(), seen: [...seen].sort() };
}

test.each([{}, { reduction: false }, { bound: 1000 }])("the parts of a tree together are the tree: %o", (options) => {
  fc.assert(
    fc.property(fc.array(program, { minLength: 2, maxLength: 3 }), fc.constantFrom([], [0]), fc.constantFrom(2, 5), (p, watched, parts) => {
      const plain = new Toy(p, POOLS, watched);
      plain.state.startRecording();
      const all = enumerate(plain);
      const toy = new Toy(p, POOLS, watched);
      toy.state.startRecording();
      const before = toy.content();
      const found = inParts(toy, options, parts);
      expect(found).toEqual({ ends: [...all.ends].sort(), stuck: [...all.stuck].sort(), seen: [...all.seen].sort() });
      expect(toy.content()).toBe(before);
    }),
    { numRuns: 300 },
  );
});

test("a bound counts the preemptions before the cut", () => {
  // Actor 1 sees the 1 only if actor 0 is stopped between its two stores.
  const p: ToyStep[][] = [
    [
      { do: "set", p: 0, v: 1 },
      { do: "set", p: 0, v: 2 },
    ],
    [{ do: "keep", p: 0 }, { do: "own" }],
  ];
  const ends = (bound: number): number => {
    const toy = new Toy(p, 1);
    toy.state.startRecording();
    return inParts(toy, { bound }, 3).ends.length;
  };
  expect([ends(0), ends(1)]).toEqual([2, 3]);
});

const SCRIPT = `variant v6.12
variant unchecked { kernel v6.12  set invalidateRetry = skip }
let mem = mmap(0, 64K)
write64(mem, 7)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=64K, userspace_addr=mem)
par {
  guest { mov x1, 0x80000000; str x1, [x1] }
  vmm { madvise(mem, 4K, MADV_DONTNEED) }
}
`;

test("a script that is searched in parts has the verdict that it has as a whole", async () => {
  const compiled = compile("parts.guest", SCRIPT, machineWorld);
  const answers = await Promise.all(
    compiled.variants.flatMap((v) => [{}, { trunk: 20 }].map((o) => exploreVariant(compiled, v, { ...o, minimise: false }))),
  );
  expect(answers.map((e) => [e.variant, e.found.ending, e.violation?.invariant])).toEqual([
    ["v6.12", "complete", undefined],
    ["v6.12", "complete", undefined],
    ["unchecked", "violation", "invalidated-range-unusable"],
    ["unchecked", "violation", "invalidated-range-unusable"],
  ]);
  expect(answers.slice(0, 2).map((e) => e.parts > 1)).toEqual([false, true]);
});
