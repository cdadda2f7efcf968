import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { program } from "../../src/cli/program.js";

const readme = readFileSync("README.md", "utf8");

test("the README's table names every command that exists, and no other", () => {
  const table = [...readme.matchAll(/^\| `faultline ([a-z]+)/gm)].map((m) => m[1]!);
  const commands = program(() => undefined).commands.map((c) => c.name());
  expect(table.sort()).toEqual(commands.sort());
});

test("the README goes from what it is to goals and non-goals in the agreed order", () => {
  const parts = [...readme.matchAll(/^## (.*)$/gm)].map((m) => m[1]!);
  expect(parts).toEqual([
    "Ten seconds",
    "Install",
    "A bug replayed in one command",
    "The path",
    "Commands",
    "What is modelled, and what is not",
    "Goals and non-goals",
  ]);
});
