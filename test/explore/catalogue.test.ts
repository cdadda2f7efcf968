/**
 * The verdicts of docs/races.md. `npm test` explores those that take seconds; `npm run test:explore` (EXPLORE=all) all.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { exploreVariant, type Explored } from "../../src/explore/explore.js";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import { RACES, type Race } from "./catalogue.js";

/** More states than any of them has (with `long`: many more): to end a search that has lost its way. */
const MAX_STATES = 400_000;
const MAX_STATES_LONG = 4_000_000;
const all = process.env["EXPLORE"] === "all";

function explore(race: Race, name: string): Promise<Explored> {
  const file = `${race.script}.guest`;
  const program = compile(file, readFileSync(new URL(`../../scenarios/${file}`, import.meta.url), "utf8"), machineWorld);
  const variant = program.variants.find((v) => v.name === name);
  if (variant === undefined) throw new Error(`${file} has no variant ${name}`);
  const bound = race.bound === undefined ? {} : { bound: race.bound };
  return exploreVariant(program, variant, {
    maxStates: race.long === true ? MAX_STATES_LONG : MAX_STATES,
    ...bound,
    ...(race.invariants === undefined ? {} : { invariants: race.invariants }),
  });
}

const chosen = RACES.filter((r) => all || r.long !== true);
const convictions = chosen.flatMap((race) =>
  Object.entries(race.convicted).map(([variant, by]) => ({ race, script: race.script, variant, by })),
);
const clearances = chosen.flatMap((race) => race.cleared.map((variant) => ({ race, script: race.script, variant })));

describe("exploring convicts", () => {
  test.each(convictions)("$script of $variant by $by", async ({ race, variant, by }) => {
    const { found, violation } = await explore(race, variant);
    expect([found.ending, violation?.invariant]).toEqual(["violation", by]);
  });
});

describe("exploring clears, completely", () => {
  test.each(clearances)("$script of $variant", async ({ race, variant }) => {
    const { found, violation } = await explore(race, variant);
    expect([violation?.what, found.ending]).toEqual([undefined, "complete"]);
    // Two agents that met: more than one way to the end.
    expect(found.schedules).toBeGreaterThan(1);
  });
});

test("docs/races.md names every script with every release that it convicts and clears", () => {
  const rows = readFileSync(new URL("../../docs/races.md", import.meta.url), "utf8")
    .split("\n")
    .filter((l) => l.startsWith("|"));
  for (const race of RACES) {
    const said = rows.filter((l) => l.includes(`\`${race.script}\``)).join("\n");
    for (const v of [...Object.keys(race.convicted), ...race.cleared]) {
      const release = v === "checked" || v === "flushed" ? "v6.12" : v === "old" ? "v5.4" : v;
      expect(said, `${race.script} ${v}`).toContain(release);
    }
  }
});
