/** Writes a file whole or not at all: under a temporary name in the same folder, then renamed. */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { fileToWrite } from "../trace/tracefile.js";
import { UsageError } from "./status.js";

/** What keeps a file from being written, for a person. @param e what the file system said */
export function unwritable(file: string, e: unknown): string {
  const { code, message } = e as NodeJS.ErrnoException;
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return `the folder of ${file} does not exist`;
    case "EISDIR":
      return `${file} is a folder: name a file in it`;
    case "EACCES":
    case "EROFS":
      return `no permission to write ${file}`;
    default:
      return `${file} cannot be written: ${message}`;
  }
}

/** @throws UsageError if the file cannot be written */
export function writeWhole(file: string, contents: string | Uint8Array): void {
  let temporary: string | undefined;
  try {
    const target = fileToWrite(file);
    temporary = `${target}.${process.pid}.tmp`;
    writeFileSync(temporary, contents, { flag: "wx" });
    renameSync(temporary, target);
  } catch (e) {
    if (temporary !== undefined) rmSync(temporary, { force: true });
    throw new UsageError(unwritable(file, e));
  }
}
