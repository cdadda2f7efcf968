import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { COSTS, costTable } from "../../src/sim/costs.js";

/** Rows of the table: name, cycles, what is charged, source. */
const rows = [...readFileSync("docs/cost-model.md", "utf8").matchAll(/^\| `(\w+)` +\| +(\d+) +\| (.+?) +\| (.+?) +\|$/gm)].map((m) =>
  m.slice(1, 5),
);

test("the table of docs/cost-model.md is the cost table of the code", () => {
  expect(rows).toEqual(Object.entries(COSTS).map(([name, c]) => [name, String(c.cycles), c.doc, c.source]));
});

test("every cost has a source, or says that it is an assumption", () => {
  for (const [name, c] of Object.entries(COSTS))
    expect(c.source, name).toMatch(/^assumption|\b(19|20)\d\d\b|specification|td \(|same link|Linux/);
});

test("a name that is no cost and a number that is no cycle count are refused", () => {
  expect(() => costTable({ trapp: 1 })).toThrow("no cost named trapp");
  expect(() => costTable({ trap: -1 })).toThrow("cost trap needs a whole number of cycles");
  expect(costTable({ trap: 7 }).trap).toBe(7);
});
