import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
// @ts-expect-error a tool without types
import { blocks, expectedOutput, folderOf } from "../../tools/readme.mjs";

interface Part {
  readonly command: string;
  readonly output: string;
}
const files = [
  "README.md",
  "CONTRIBUTING.md",
  ...readdirSync("docs")
    .filter((f) => f.endsWith(".md"))
    .map((f) => `docs/${f}`),
];
const parts = files.flatMap((file) => {
  const text = readFileSync(file, "utf8");
  const folder = (folderOf as (text: string) => string)(text);
  return (blocks(text) as { parts: Part[] }[]).flatMap((b) =>
    b.parts.map((part): [string, Part, string] => [`${file}: ${part.command}`, part, folder]),
  );
});

test.each(parts)("the output shown is the real output: %s", (_, part, folder) => {
  expect(part.output).toBe((expectedOutput as (part: Part, folder: string) => string)(part, folder));
});

test("the README shows at least the demo", () => {
  expect(parts.some(([name]) => name === "README.md: npm start")).toBe(true);
});
