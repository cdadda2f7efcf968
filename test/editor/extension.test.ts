import { readFileSync, writeFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { join } from "node:path";
import { strFromU8, unzipSync } from "fflate";
import { beforeAll, expect, test } from "vitest";
import { grammar } from "../../src/editor/grammar.js";
// @ts-expect-error a tool without types
import { buildExtension } from "../../tools/vscode.mjs";
import { temporaryFolder } from "../cli/command.js";
import { client } from "./server.js";

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly main: string;
  readonly contributes: {
    readonly languages: readonly { readonly id: string; readonly extensions: readonly string[]; readonly configuration: string }[];
    readonly grammars: readonly { readonly language: string; readonly scopeName: string; readonly path: string }[];
  };
}

const folder = temporaryFolder();
let entries: Record<string, Uint8Array> = {};
let manifest: Manifest;
const text = (name: string): string => strFromU8(entries[name]!);
beforeAll(async () => {
  entries = unzipSync(readFileSync(await (buildExtension as (folder: string) => Promise<string>)(folder)));
  manifest = JSON.parse(text("extension/package.json")) as Manifest;
}, 120_000);

test("the archive has the extension, its manifest and the types of all its files, and nothing else", () => {
  expect(Object.keys(entries).sort()).toEqual([
    "[Content_Types].xml",
    "extension.vsixmanifest",
    "extension/LICENSE.txt",
    "extension/README.md",
    "extension/language-configuration.json",
    "extension/out/extension.js",
    "extension/out/server.mjs",
    "extension/package.json",
    "extension/syntaxes/faultline-guest.tmLanguage.json",
  ]);
  const typed = [...text("[Content_Types].xml").matchAll(/Extension="\.(\w+)"/g)].map((m) => m[1]);
  const used = Object.keys(entries).filter((n) => n !== "[Content_Types].xml").map((n) => n.split(".").pop()!); // prettier-ignore
  expect(used.filter((e) => !typed.includes(e))).toEqual([]);
});

test("the manifest of the archive says what package.json says, and its assets are in the archive", () => {
  const vsix = text("extension.vsixmanifest");
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  expect(/<Identity [^>]*Id="([^"]+)" Version="([^"]+)" Publisher="([^"]+)"/.exec(vsix)?.slice(1)).toEqual([
    manifest.name,
    version,
    "faultline",
  ]);
  expect(manifest.version).toBe(version);
  const assets = [...vsix.matchAll(/Path="([^"]+)"/g)].map((m) => m[1]!);
  expect(assets.filter((a) => entries[a] === undefined)).toEqual([]);
  expect(/Code\.Engine" Value="([^"]+)"/.exec(vsix)?.[1]).toMatch(/^\^1\./);
});

test("every file that package.json names is there: program, grammar, configuration", () => {
  const { languages, grammars } = manifest.contributes;
  const named = [manifest.main, ...languages.map((l) => l.configuration), ...grammars.map((g) => g.path)];
  expect(named.filter((n) => entries[`extension/${n.replace(/^\.\//, "")}`] === undefined)).toEqual([]);
  expect(languages.map((l) => l.extensions)).toEqual([[".guest"]]);
  expect(JSON.parse(text("extension/syntaxes/faultline-guest.tmLanguage.json"))).toEqual(grammar());
  expect(grammars[0]!.scopeName).toBe(grammar()["scopeName"]);
});

test("the client needs nothing but the editor and Node", () => {
  const required = [...text("extension/out/extension.js").matchAll(/\brequire\("([^"]+)"\)/g)].map((m) => m[1]!.replace(/^node:/, ""));
  expect([...new Set(required)].filter((r) => r !== "vscode" && !builtinModules.includes(r))).toEqual([]);
  expect(required).toContain("vscode");
});

test("the server in the archive runs from wherever it was unpacked, and finds the errors of a script", async () => {
  const server = join(folder, "server.mjs");
  writeFileSync(server, entries["extension/out/server.mjs"]!);
  const c = await client([process.execPath, server, "--stdio"]);
  expect((await c.open("file:///a.guest", "munmpa(0, 4K)\n")).map((d) => d.message)).toEqual([
    'no system call or ioctl named "munmpa"\ndid you mean "munmap"?',
  ]);
  expect(await c.end()).toBe(0);
});
