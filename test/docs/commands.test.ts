import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const readme = readFileSync("README.md", "utf8");
const texts = ["src/cli.ts", ...readdirSync("src/cli/commands").map((f) => `src/cli/commands/${f}`)].map((f) => readFileSync(f, "utf8"));

test("the README's table names every command that exists, and no other", () => {
  const table = [...readme.matchAll(/^\| `faultline ([a-z]+)/gm)].map((m) => m[1]!);
  const commands = texts.flatMap((t) => [...t.matchAll(/\.command\("([a-z]+)/g)].map((m) => m[1]!));
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
