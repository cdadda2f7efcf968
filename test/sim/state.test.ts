import fc from "fast-check";
import { expect, test } from "vitest";
import { StateRegistry, UNHASHED } from "../../src/sim/state.js";

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

test("to roll back to any of several marks, in any order from the last, gives the hash that was there", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.array(write), fc.boolean(), fc.nat(5)), { maxLength: 30 }), (moves) => {
      const { state, pools } = registry();
      state.startRecording();
      const marks: { readonly mark: number; readonly hash: string }[] = [];
      for (const [writes, back, n] of moves) {
        for (const w of writes) apply(pools, w);
        if (!back) marks.push({ mark: state.mark(), hash: state.hash() });
        else if (marks.length > 0) {
          marks.splice(Math.max(1, marks.length - n));
          const { mark, hash } = marks.at(-1)!;
          state.rollback(mark);
          expect(state.hash()).toBe(hash);
        }
      }
    }),
  );
});

test("a pool that is not hashed is undone like the others", () => {
  const { state, pools } = registry();
  pools[0].group = UNHASHED;
  state.startRecording();
  const [mark, hash] = [state.mark(), state.hash()];
  pools[0].set(3, 7);
  expect([pools[0].a[3], state.hash()]).toEqual([7, hash]);
  state.rollback(mark);
  expect(pools[0].a[3]).toBe(0);
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
