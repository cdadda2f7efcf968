/** Writes a file whole or not at all: under a temporary name in the same folder, then renamed. */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { UsageError } from "./status.js";

/** @throws UsageError if the file cannot be written */
export function writeWhole(file: string, contents: string | Uint8Array): void {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, contents, { flag: "wx" });
    renameSync(temporary, file);
  } catch (e) {
    rmSync(temporary, { force: true });
    throw new UsageError(`${file} cannot be written: ${(e as Error).message}`);
  }
}
