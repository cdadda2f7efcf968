/** Removes each place in turn and explores: `npm run test:explore`. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { build } from "esbuild";
import { expect, test } from "vitest";
import convictions from "./convictions.json" with { type: "json" };
import { sites, type Site } from "./sites.js";

const OUT = "node_modules/.cache/faultline-mutants";

/** What the explorer finds with a site removed; with none, what it finds in the source as it is. */
async function explored(site: Site | undefined, n: number): Promise<Record<string, string>> {
  const outfile = join(OUT, `${n}.mjs`);
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
          b.onLoad({ filter: /\.ts$/ }, ({ path }) => ({
            contents: site !== undefined && path === resolve(site.file) ? site.without : readFileSync(path, "utf8"),
            loader: "ts",
          })),
      },
    ],
  });
  return JSON.parse(execFileSync(process.execPath, [outfile], { encoding: "utf8" })) as Record<string, string>;
}

const all = sites();
const expected = convictions as Readonly<Record<string, { readonly convicted: readonly string[] } | { readonly spared: string }>>;

test("the source as it is breaks nothing", async () => {
  expect(await explored(undefined, 0)).toEqual({});
}, 120_000);

test.each(all.map((s, n) => [s.name, s, n + 1] as const))(
  "without %s an invariant is broken",
  async (name, site, n) => {
    const found = [...new Set(Object.values(await explored(site, n)))].sort();
    const wanted = expected[name]!;
    expect(found).toEqual("convicted" in wanted ? wanted.convicted : []);
  },
  120_000,
);
