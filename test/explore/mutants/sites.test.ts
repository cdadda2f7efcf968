import { expect, test } from "vitest";
import convictions from "./convictions.json" with { type: "json" };
import { sites } from "./sites.js";

test("every half of the retry check, TLBI, DSB and lock has its conviction, or the reason why none is to be had", () => {
  const known = convictions as Readonly<Record<string, { readonly convicted?: object; readonly spared?: string }>>;
  expect(
    sites()
      .map((s) => s.name)
      .sort(),
  ).toEqual(Object.keys(known).sort());
  expect(Object.entries(known).filter(([, c]) => c.convicted === undefined && (c.spared ?? "") === "")).toEqual([]);
});
