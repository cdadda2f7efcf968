import fc from "fast-check";
import { expect, test } from "vitest";
import { StateRegistry } from "../../src/sim/state.js";

const write = fc.record({ pool: fc.nat(1), index: fc.nat(40), value: fc.integer({ min: -5, max: 1000 }) });

function registry() {
  const state = new StateRegistry();
  return { state, pools: [state.i32("a", 8), state.f64("b", 8)] as const };
}

function apply(pools: ReturnType<typeof registry>["pools"], w: { pool: number; index: number; value: number }): void {
  pools[w.pool]!.ensure(w.index + 1);
  pools[w.pool]!.set(w.index, w.value);
}

test("rollback restores every word and the hash", () => {
  fc.assert(
    fc.property(fc.array(write), fc.array(write), (before, after) => {
      const { state, pools } = registry();
      state.startRecording();
      for (const w of before) apply(pools, w);
      const words = pools.map((p) => [...p.a]);
      const hash = state.hash();
      const mark = state.mark();
      for (const w of after) apply(pools, w);
      state.rollback(mark);
      expect(state.hash()).toBe(hash);
      // A pool that grew meanwhile keeps its new, zero words.
      for (const [n, p] of pools.entries()) expect([...p.a].slice(0, words[n]!.length)).toEqual(words[n]);
      for (const [n, p] of pools.entries()) expect([...p.a].slice(words[n]!.length).every((v) => v === 0)).toBe(true);
    }),
  );
});

test("the incremental hash equals the hash computed from scratch", () => {
  fc.assert(
    fc.property(fc.array(write), (writes) => {
      const a = registry();
      a.state.startRecording();
      for (const w of writes) apply(a.pools, w);
      const b = registry();
      for (const w of writes) apply(b.pools, w);
      expect(a.state.hash()).toBe(b.state.hash());
    }),
  );
});

test("equal states reached on different ways have equal hashes, different states different ones", () => {
  const a = registry();
  a.state.startRecording();
  a.pools[0].set(3, 7);
  a.pools[1].set(2, 2 ** 40);
  const b = registry();
  b.state.startRecording();
  b.pools[1].set(2, 2 ** 40);
  b.pools[0].set(3, 1);
  b.pools[0].set(3, 7);
  expect(b.state.hash()).toBe(a.state.hash());
  b.pools[0].set(4, 7);
  expect(b.state.hash()).not.toBe(a.state.hash());
});

test("restore puts a checkpoint back, also after pools grew", () => {
  const { state, pools } = registry();
  pools[0].set(1, 5);
  const hash = state.hash();
  const saved = state.checkpoint();
  pools[0].ensure(100);
  pools[0].set(99, 1);
  pools[1].set(0, 3);
  state.restore(saved);
  expect(state.hash()).toBe(hash);
  expect(pools[0].a[1]).toBe(5);
});

test("two pools cannot share a name", () => {
  const { state } = registry();
  expect(() => state.i32("a", 1)).toThrow("two pools named a");
});
