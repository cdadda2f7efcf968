import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { telling } from "../../src/trace/story.js";
import { fold } from "../../src/trace/text.js";
import { runAll } from "../guest/run.js";

const SCENARIOS = ["2012-copy-on-write", "2013-thp-walk", "2015-dirty-log", "2019-munmap-remap", "2020-userfaultfd"];

test.each(SCENARIOS)("the steps of %s tell the same from their numbers as from their objects", (name) => {
  const source = readFileSync(new URL(`../../scenarios/${name}.guest`, import.meta.url), "utf8");
  let rounds = 0;
  for (const detail of ["story", "explain", "all"] as const)
    for (const result of runAll(source, { file: name, detail }))
      for (const step of result.steps) {
        const told = step.told(detail);
        expect(told).toEqual(fold(telling(step.events, detail)));
        rounds += told.length;
      }
  expect(rounds).toBeGreaterThan(10);
});
