import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";

const out = mkdtempSync(join(tmpdir(), "faultline-api-"));
afterAll(() => rmSync(out, { recursive: true, force: true }));

test("typedoc makes a page of every class and function of the library, and every type that a signature names is exported", async () => {
  // typedoc.json treats a warning as an error: a type without a page is one. Links to sources want a remote, which a checkout need not have.
  await promisify(execFile)(process.execPath, ["node_modules/typedoc/bin/typedoc", "--out", out, "--logLevel", "Warn", "--disableSources"]);
  const library = (await import("../../src/index.js")) as Record<string, unknown>;
  const pages = new Set(readdirSync(out, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".html")));
  const folder = (value: unknown): string =>
    typeof value !== "function" ? "variables" : /^class\b/.test(Function.prototype.toString.call(value)) ? "classes" : "functions";
  expect(Object.entries(library).flatMap(([name, v]) => (pages.has(join(folder(v), `${name}.html`)) ? [] : [name]))).toEqual([]);
  expect(readFileSync(join(out, "classes/Machine.html"), "utf8")).toContain("createVm");
  expect(existsSync(join(out, "index.html"))).toBe(true);
});
