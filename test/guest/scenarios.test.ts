import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { CALLS, signature } from "../../src/guest/calls.js";
import { failures, runAll } from "./run.js";

const folder = new URL("../../scenarios/", import.meta.url);
const names = readdirSync(folder).filter((f) => f.endsWith(".guest"));

describe("a bundled scenario", () => {
  test.each(names)("%s meets its expectations under all of its variants", (name) => {
    const results = runAll(readFileSync(new URL(name, folder), "utf8"), { file: name });
    expect(failures(results)).toEqual([]);
    for (const r of results) expect(r.outcomes.some((o) => o.status === "met")).toBe(true);
  });
  test.each(names)("%s has a year, a title and a source", (name) => {
    expect(name).toMatch(/^(19|20)[0-9]{2}-[a-z0-9-]+\.guest$/);
    const text = readFileSync(new URL(name, folder), "utf8");
    expect(text).toMatch(/^title "/m);
    expect(text).toMatch(/^source "/m);
  });
});

describe("the language's reference", () => {
  const doc = readFileSync(new URL("../../docs/guest-language.md", import.meta.url), "utf8");
  const examples = [...doc.matchAll(/```guest\n([\s\S]*?)```/g)].map((m) => m[1]!);
  test.each(examples.map((e, n) => [n + 1, e] as const))("has an example %i that runs and meets its expectations", (_n, example) => {
    expect(failures(runAll(example))).toEqual([]);
  });
  test("lists every system call and ioctl with its arguments", () => {
    // The formatter pads the columns of tables.
    const plain = doc.replace(/ {2,}/g, " ");
    for (const c of CALLS) expect(plain).toContain(`| \`${signature(c)}\` | ${c.doc} |`);
  });
});
