import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
// @ts-expect-error a tool without types
import { blocks, expectedOutput } from "../../tools/readme.mjs";

interface Part {
  readonly command: string;
  readonly output: string;
}
const files = [
  "README.md",
  ...readdirSync("docs")
    .filter((f) => f.endsWith(".md"))
    .map((f) => `docs/${f}`),
];
const parts = files.flatMap((file) =>
  (blocks(readFileSync(file, "utf8")) as { parts: Part[] }[]).flatMap((b) =>
    b.parts.map((part): [string, Part] => [`${file}: ${part.command}`, part]),
  ),
);

test.each(parts)("the output shown is the real output: %s", (_, part) => {
  expect(part.output).toBe(expectedOutput(part));
});

test("the README shows at least the demo", () => {
  expect(parts.some(([name]) => name === "README.md: npm start")).toBe(true);
});
