import { expect, test } from "vitest";
import convictions from "./convictions.json" with { type: "json" };
import { sites } from "./sites.js";

test("every half of the retry check, TLBI and DSB has its conviction, or the reason why none is to be had", () => {
  expect(
    sites()
      .map((s) => s.name)
      .sort(),
  ).toEqual(Object.keys(convictions).sort());
});
