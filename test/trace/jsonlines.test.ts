import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import "../../src/machine.js";
import { RECORD_WORDS } from "../../src/sim/events.js";
import { folder, madeUp, META, RACE, text, traced, write } from "./tracing.js";

test("a line is what JSON.stringify gives of the record, for every event and any fields", () => {
  const file = join(folder(), "t.jsonl");
  fc.assert(
    fc.property(madeUp(), (m) => {
      write(m, "jsonl", file);
      const lines = text(file).trimEnd().split("\n");
      const expected = Array.from({ length: m.records }, (_, i) => JSON.stringify(m.sim.bus.decode(m.ring, i * RECORD_WORDS)));
      expect(lines).toEqual([JSON.stringify({ trace: "faultline", ...META }), ...expected]);
    }),
    { numRuns: 50, endOnFailure: true },
  );
});

test("a run's file has every event once", () => {
  const { events, files } = traced(RACE, ["jsonl"]);
  expect(text(files.jsonl).trimEnd().split("\n").slice(1)).toEqual(events.map((e) => JSON.stringify(e)));
});

test("what an access ahead of its turn emitted and undid has not happened: every number stands once, and none is left out", () => {
  const source = readFileSync(new URL("../../scenarios/2015-uncached-barriers.guest", import.meta.url), "utf8");
  const { files } = traced(source, ["jsonl"]);
  const seqs = text(files.jsonl)
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((l) => (JSON.parse(l) as { seq: number }).seq);
  expect(seqs.length).toBeGreaterThan(100);
  expect(seqs).toEqual(seqs.map((_, n) => seqs[0]! + n));
});
