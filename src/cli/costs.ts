/** `--cost name=value` and `--costs FILE`: cycles of named steps, replaced. */
import { COSTS } from "../sim/costs.js";
import { readText } from "./readfile.js";
import { type Place, unknownName, UsageError } from "./status.js";

const MOST = 1_000_000_000;

/** @param where what stands before an error: "--cost", or file and line */
function one(text: string, where: string, place: Place = {}): readonly [string, number] {
  const m = /^\s*([^\s=]+)\s*=\s*(\S+)\s*$/.exec(text);
  if (m === null)
    throw new UsageError(`${where}: expected name=cycles, such as trap=800, not "${text.trim()}"`, { ...place, expected: "name=cycles" });
  const [, name = "", value = ""] = m;
  if (!Object.hasOwn(COSTS, name)) {
    const unknown = unknownName("cost", name, Object.keys(COSTS));
    throw new UsageError(`${where}: ${unknown.message}`, { ...place, ...unknown.place });
  }
  const digits = value.replaceAll("_", "");
  const cycles = /^[0-9]+$/.test(digits) ? Number(digits) : NaN;
  const expected = `a whole number of cycles up to ${MOST}`;
  if (!(cycles <= MOST)) throw new UsageError(`${where}: ${name} takes ${expected}, not "${value}"`, { ...place, expected });
  return [name, cycles];
}

/** A file of costs: a line `name = cycles` each; `#` or `//` begins a comment. @throws UsageError with file and line */
export function costFile(file: string): Readonly<Record<string, number>> {
  const text = readText(file, 1);
  const costs: Record<string, number> = {};
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    const plain = line.replace(/(#|\/\/).*$/, "");
    if (plain.trim() === "") continue;
    const [name, cycles] = one(plain, `${file}:${i + 1}`, { file, line: i + 1 });
    costs[name] = cycles;
  }
  return costs;
}

/** The file first, then the single costs over it. */
export function costOverrides(singles: readonly string[] = [], file?: string): Readonly<Record<string, number>> {
  return { ...(file === undefined ? {} : costFile(file)), ...Object.fromEntries(singles.map((s) => one(s, "--cost"))) };
}
