import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { expect, test } from "vitest";
import { manPage, roff } from "../../src/cli/manpage.js";
import { program } from "../../src/cli/program.js";
// @ts-expect-error a tool without types
import { buildManPage } from "../../tools/man.mjs";
import { temporaryFolder } from "./command.js";

const FILE = join(temporaryFolder(), "faultline.1");
const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
const root = program(() => undefined);
const page = manPage(root, version);

test("the build writes the page that the tree of commands gives", async () => {
  await (buildManPage as (file: string) => Promise<void>)(FILE);
  expect(readFileSync(FILE, "utf8")).toBe(page);
});

test("each command has its section, with each of its options", () => {
  const leaves = (c: Command, path: string): [string, Command][] =>
    c.commands.length === 0 ? [[`${path}${c.name()}`, c]] : c.commands.flatMap((s) => leaves(s, `${path}${c.name()} `));
  const sections = new Map(page.split(/^\.SS /m).map((s): [string, string] => [s.split("\n")[0]!, s]));
  for (const [name, c] of leaves(root, "")) {
    const section = sections.get(roff(name)) ?? "";
    expect([
      name,
      c.options.filter((o) => !o.hidden && !section.includes(`\\fB${roff(o.long ?? o.short!)}\\fR`)).map((o) => o.flags),
    ]).toEqual([name, []]);
  }
});

test("a hyphen, a quote, a backslash, a leading dot and letters beyond ASCII stay what they are", () => {
  expect(roff("--at 'x'\\n\n.inst … a^b ~c")).toBe("\\-\\-at \\(aqx\\(aq\\en\n\\&.inst \\[u2026] a\\(hab \\(tic");
});

test("npm pack ships the page, and man finds it by the manifest", () => {
  const manifest = JSON.parse(readFileSync("package.json", "utf8")) as { man: string; files: string[] };
  expect([manifest.man, manifest.files.includes("man")]).toEqual(["man/faultline.1", true]);
});

const has = (name: string): boolean => spawnSync(name, ["--version"]).error === undefined;
test.runIf(has("groff"))("groff sets the page without a warning", () => {
  const r = spawnSync("groff", ["-man", "-ww", "-Tutf8", "-rLL=100n", FILE], { encoding: "utf8" });
  expect([r.status, r.stderr]).toEqual([0, ""]);
  expect(r.stdout).toMatch(/--kernel/);
});
test.runIf(has("mandoc"))("mandoc has nothing to say against it but that it gives no date", () => {
  const r = spawnSync("mandoc", ["-T", "lint", "-W", "warning", FILE], { encoding: "utf8" });
  expect(r.stdout.split("\n").filter((l) => l !== "" && !/missing date/.test(l))).toEqual([]);
});
