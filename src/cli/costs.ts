/** `--cost name=value` and `--costs FILE`: cycles of named steps, replaced. */
import { readFileSync } from "node:fs";
import { COSTS } from "../sim/costs.js";
import { unknownName, UsageError } from "./status.js";

const MOST = 1_000_000_000;

/** @param where what stands before an error: "--cost", or file and line */
function one(text: string, where: string): readonly [string, number] {
  const m = /^\s*([^\s=]+)\s*=\s*(\S+)\s*$/.exec(text);
  if (m === null) throw new UsageError(`${where}: expected name=cycles, such as trap=800, not "${text.trim()}"`);
  const [, name = "", value = ""] = m;
  if (!Object.hasOwn(COSTS, name)) throw new UsageError(`${where}: ${unknownName("cost", name, Object.keys(COSTS)).message}`);
  const digits = value.replaceAll("_", "");
  const cycles = /^[0-9]+$/.test(digits) ? Number(digits) : NaN;
  if (!(cycles <= MOST)) throw new UsageError(`${where}: ${name} takes a whole number of cycles up to ${MOST}, not "${value}"`);
  return [name, cycles];
}

/** A file of costs: a line `name = cycles` each; `#` or `//` begins a comment. @throws UsageError with file and line */
export function costFile(file: string): Readonly<Record<string, number>> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (e) {
    throw new UsageError(`${file} cannot be read: ${(e as NodeJS.ErrnoException).code ?? "error"}`);
  }
  const costs: Record<string, number> = {};
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    const plain = line.replace(/(#|\/\/).*$/, "");
    if (plain.trim() === "") continue;
    const [name, cycles] = one(plain, `${file}:${i + 1}`);
    costs[name] = cycles;
  }
  return costs;
}

/** The file first, then the single costs over it. */
export function costOverrides(singles: readonly string[] = [], file?: string): Readonly<Record<string, number>> {
  return { ...(file === undefined ? {} : costFile(file)), ...Object.fromEntries(singles.map((s) => one(s, "--cost"))) };
}
