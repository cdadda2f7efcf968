/**
 * Removes each place in turn and explores: `npm run test:explore`. `CONVICTIONS=write` writes anew what convicts each;
 * where nothing does, the reason is to be written by hand. `SCRIPTS=a,b` asks only these scripts for what nothing convicts yet,
 * `SITES=text` only sites with that text in their name.
 */
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import { afterAll, expect, test } from "vitest";
import convictions from "./convictions.json" with { type: "json" };
import { forgiving, sites, type Site } from "./sites.js";

const OUT = "node_modules/.cache/faultline-mutants";
const LOCKS = resolve("src/sim/locks.ts");

interface Conviction {
  readonly script: string;
  readonly variant: string;
  readonly by: string;
}
type Expected = { readonly convicted: Conviction } | { readonly spared: string };

/** The first conviction with a site removed; with none, of the source as it is. @param wanted looked for first */
async function explored(site: Site | undefined, n: number, wanted?: Conviction): Promise<Conviction | null> {
  const outfile = join(OUT, `${n}.mjs`);
  const lock = site?.name.includes(": lock ") === true;
  await build({
    entryPoints: ["test/explore/mutants/runner.ts"],
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    outfile,
    logLevel: "error",
    plugins: [
      {
        name: "without",
        setup: (b) =>
          b.onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const text = site !== undefined && path === resolve(site.file) ? site.without : readFileSync(path, "utf8");
            return { contents: lock && path === LOCKS ? forgiving(text) : text, loader: "ts" };
          }),
      },
    ],
  });
  const only = process.env["SCRIPTS"];
  const args = wanted !== undefined ? [`${wanted.script} ${wanted.variant}`] : only === undefined ? [] : [`only ${only}`];
  const { stdout } = await promisify(execFile)(process.execPath, [outfile, ...args], { encoding: "utf8" });
  return JSON.parse(stdout) as Conviction | null;
}

const expected = convictions as Readonly<Record<string, Expected>>;
const writing = process.env["CONVICTIONS"] === "write";
const written: Record<string, Expected> = {};

test("the source as it is breaks nothing", async () => {
  expect(await explored(undefined, 0)).toBeNull();
}, 300_000);

/** What a site says for which nobody has looked yet. */
const UNEXPLORED = "not explored yet";
const open = (name: string): boolean => {
  const e = expected[name];
  return e !== undefined && "spared" in e && e.spared === UNEXPLORED;
};

for (const { name } of sites().filter((s) => open(s.name) && !writing)) test.todo(`without ${name} an invariant is broken`);

const named = process.env["SITES"] ?? "";
for (const [n, site] of sites()
  .filter((s) => (writing || !open(s.name)) && s.name.includes(named))
  .entries())
  test.concurrent(
    `without ${site.name} an invariant is broken`,
    async () => {
      const wanted = expected[site.name];
      const found = await explored(site, n + 1, wanted !== undefined && "convicted" in wanted ? wanted.convicted : undefined);
      if (writing)
        written[site.name] = found !== null ? { convicted: found } : wanted !== undefined && "spared" in wanted ? wanted : { spared: "" };
      else expect(found).toEqual(wanted !== undefined && "convicted" in wanted ? wanted.convicted : null);
    },
    300_000,
  );

afterAll(() => {
  if (!writing) return;
  const ordered = Object.fromEntries(sites().map(({ name }) => [name, written[name] ?? expected[name] ?? { spared: "" }]));
  writeFileSync("test/explore/mutants/convictions.json", `${JSON.stringify(ordered, undefined, 2)}\n`);
});
