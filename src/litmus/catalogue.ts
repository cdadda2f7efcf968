/** The bundled catalogue of litmus tests, and what the results of its tests come to by row. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { LitmusTest } from "./ast.js";
import { worst, type Answer, type LitmusResult } from "./check.js";
import { parseLitmus } from "./parser.js";

/** Files of tests in a folder, in order. */
export function litmusFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((f) => f.endsWith(".litmus"))
    .sort()
    .map((f) => join(folder, f));
}

/** Parses files. @throws ScriptError */
export function readLitmus(files: readonly string[], shown: (file: string) => string = (f) => f): LitmusTest[] {
  return files.flatMap((f) => parseLitmus(shown(f), readFileSync(f, "utf8")));
}

/** The row of a test: its identifier up to the first slash. */
export function rowOf(id: string): string {
  return id.split("/")[0]!;
}

export interface Row {
  readonly row: string;
  readonly answer: Answer;
}

/** One answer for each row: the least good one of its tests. A row some of whose tests are not run is answered by the others. */
export function rowsOf(results: readonly LitmusResult[]): Row[] {
  const rows = new Map<string, Answer[]>();
  for (const r of results) rows.set(rowOf(r.id), [...(rows.get(rowOf(r.id)) ?? []), r.answer]);
  return [...rows].map(([row, answers]) => {
    const run = answers.filter((a) => a !== "missing");
    return { row, answer: worst(run.length > 0 ? run : answers) };
  });
}
