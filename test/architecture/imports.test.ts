import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, posix } from "node:path";
import { expect, test } from "vitest";

/** Who may import whom: docs/architecture.md. Top-level files of src/ and the rooms after "guest" may import every room. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  sim: [],
  arch: ["sim"],
  mmu: ["arch", "sim"],
  vfio: ["mmu", "arch", "sim"],
  kvm: ["mmu", "arch", "sim"],
  // The shapes of the VMM's calls, which traces show as slices.
  trace: ["sim", "api"],
};
const ROOMS = ["sim", "arch", "mmu", "vfio", "kvm", "trace"];

function sources(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? sources(path) : path.endsWith(".ts") ? [path.split("\\").join("/")] : [];
  });
}

/** The room that a file of src/ lies in: its first folder, or "" at the top. */
const roomOf = (path: string): string => (path.split("/").length > 2 ? path.split("/")[1]! : "");

function imports(path: string): string[] {
  const text = readFileSync(path, "utf8");
  return [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)].map((m) => posix.join(posix.dirname(path), m[1]!));
}

test.each(ROOMS)("src/%s imports only the rooms below it", (room) => {
  const wrong = sources(`src/${room}`).flatMap((file) =>
    imports(file)
      .filter((target) => roomOf(target) !== room && !MAY_IMPORT[room]!.includes(roomOf(target)))
      .map((target) => `${file} -> ${target}`),
  );
  expect(wrong).toEqual([]);
});

test("no file of src/ names a recording", () => {
  const scenarios = readdirSync("recordings")
    .filter((k) => k.startsWith("v"))
    .flatMap((k) => readdirSync(`recordings/${k}`).flatMap((c) => readdirSync(`recordings/${k}/${c}`)))
    .map((f) => f.replace(/\.rec$/, ""));
  const names = [...new Set(scenarios)];
  const hits = sources("src").flatMap((file) => {
    const text = readFileSync(file, "utf8");
    return names.filter((n) => new RegExp(`\\b${n}\\b`).test(text)).map((n) => `${file}: ${n}`);
  });
  expect(hits).toEqual([]);
});

test("every source file opens with a comment that says what it stands for", () => {
  const silent = sources("src").filter((f) => !/^(#!.*\n)?\/(\*\*|\/)/.test(readFileSync(f, "utf8")));
  expect(silent).toEqual([]);
});
