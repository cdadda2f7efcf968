/** Finds scripts: a file, `-` for standard input, or the name of a bundled scenario. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { nearest } from "../guest/diagnostics.js";
import { decodeScript } from "../guest/compile.js";
import { LIMITS } from "../guest/limits.js";
import { firstBytes, unreadable } from "./readfile.js";
import { UsageError } from "./status.js";

export interface LoadedScript {
  /** As messages name it. */
  readonly file: string;
  readonly source: string;
}

/** The package's folder: the nearest one above this file with a package.json of ours. */
export function packageFolder(): string {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    if (existsSync(join(dir, "package.json")) && existsSync(join(dir, "scenarios"))) return dir;
    if (dirname(dir) === dir)
      throw new UsageError("the scenarios that belong to this command are not there: is the installation complete?");
  }
}

/** Names of the bundled scenarios, in order. */
export function scenarioNames(): string[] {
  return readdirSync(join(packageFolder(), "scenarios"))
    .filter((f) => f.endsWith(".guest"))
    .map((f) => f.slice(0, -".guest".length))
    .sort();
}

export function scenarioFile(name: string): string {
  return join(packageFolder(), "scenarios", `${name}.guest`);
}

/** Reads a script. @throws UsageError or ScriptError */
export function loadScript(what: string): LoadedScript {
  if (what === "-") return { file: "<stdin>", source: decodeScript("<stdin>", readLimited("-")) };
  if (existsSync(what) && !statSync(what).isDirectory()) return { file: what, source: decodeScript(what, readLimited(what)) };
  const name = basename(what).replace(/\.guest$/, "");
  const names = scenarioNames();
  const bundled = !what.includes("/") || what.startsWith("scenarios/") ? names.find((n) => n === name) : undefined;
  if (bundled !== undefined)
    return { file: `scenarios/${bundled}.guest`, source: decodeScript(bundled, readLimited(scenarioFile(bundled))) };
  if (existsSync(what)) throw new UsageError(`${what} is a folder`, { file: what });
  const near = nearest(name, names) ?? (name === "" ? undefined : names.find((n) => n.includes(name)));
  throw new UsageError(
    `there is no file and no scenario named "${what}"${near === undefined ? "; faultline scenarios lists what there is" : `: did you mean "${near}"?`}`,
    { file: what, ...(near === undefined ? {} : { expected: `did you mean "${near}"?` }) },
  );
}

/** One byte too many is enough to say that it is too large. */
function readLimited(path: string): Uint8Array {
  try {
    return firstBytes(path, LIMITS.fileBytes + 1);
  } catch (e) {
    throw unreadable(path === "-" ? "standard input" : path, e);
  }
}
