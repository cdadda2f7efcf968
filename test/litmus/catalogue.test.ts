/** The catalogue of litmus tests: every interleaving of every test, and what that says by row. */
import { describe, expect, it, test } from "vitest";
import { litmusFiles, readLitmus, rowOf, rowsOf } from "../../src/litmus/catalogue.js";
import { runLitmus, type LitmusResult } from "../../src/litmus/check.js";

const tests = readLitmus(litmusFiles("litmus"));
const results: LitmusResult[] = tests.map((t) => runLitmus(t));
const rows = rowsOf(results);
const of = (answer: string): string[] => rows.filter((r) => r.answer === answer).map((r) => r.row);

/** Rows of the catalogue: A1 to A20, … */
const COUNTS = { A: 20, B: 16, C: 22, D: 10, E: 9, F: 17, G: 17, H: 17, I: 32 };
/** The rows whose allowed outcome is observed on hardware or central. */
const CENTRAL = ["A1", "B1", "C2", "C5", "F1", "F3", "F4", "G2", "H1", "H2", "H4", "H8", "H10", "I5", "I9", "I15", "I16", "I18"];

describe("the catalogue", () => {
  it("has all 160 rows", () => {
    const expected = Object.entries(COUNTS).flatMap(([letter, n]) => Array.from({ length: n }, (_, i) => `${letter}${i + 1}`));
    expect([...new Set(tests.map((t) => rowOf(t.id)))].sort()).toEqual(expected.sort());
  });

  it("never differs from the architecture, and every search is complete", () => {
    expect(results.filter((r) => r.answer === "differs" || r.answer === "undecided").map((r) => r.id)).toEqual([]);
  });

  it("marks the central rows, and reaches each of them that is run", () => {
    const central = tests.filter((t) => t.questions.some((q) => q.central)).map((t) => rowOf(t.id));
    for (const row of CENTRAL) expect([row, central.includes(row)]).toEqual([row, true]);
    for (const r of results) for (const q of r.questions) if (q.central) expect([r.id, q.seen > 0]).toEqual([r.id, true]);
  });

  it("leaves these rows: allowed outcomes that a stronger model never shows", () => {
    expect(of("unseen")).toEqual(UNSEEN);
  });
  it("does not run these rows", () => {
    expect(of("missing")).toEqual(MISSING);
  });
  it("decides all others", () => {
    expect(of("agrees").length).toBe(160 - UNSEEN.length - MISSING.length);
    expect(of("agrees").length).toBeGreaterThanOrEqual(100);
  });
});

test("a forbidden outcome of several parts has parts that are reached: the tests do not pass by never coming near", () => {
  for (const t of tests) {
    const r = results.find((x) => x.id === t.id)!;
    for (const q of t.questions) {
      if (q.verdict !== "forbidden" || !q.text.includes("&&") || r.answer === "missing") continue;
      const first = q.text.split("&&")[0]!.trim();
      const m = /^(\S+) == (\d+)$/.exec(first);
      if (m === null) continue;
      const reached = Object.keys(r.outcomes).some((o) => ` ${o} `.includes(` ${m[1]!}=${m[2]!} `));
      expect([t.id, first, reached]).toEqual([t.id, first, true]);
    }
  }
});

const UNSEEN = ["D1", "E8", "G10", "G11", "G13", "G14"];
const MISSING = ["C16", "C21", "C22", "F6", "F8", "F9", "F13", "F15", "F16", "G17", "I19", "I23", "I24"];
