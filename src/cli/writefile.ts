/** Writes a file whole or not at all: under a temporary name in the same folder, then renamed. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileToWrite } from "../trace/tracefile.js";
import { errorJson, type ErrorJson } from "./failure.js";
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
    throw new UsageError(unwritable(file, e), { file });
  }
}

/** The files that a report goes with: the report is told first, and then the first of them that could not be written. */
export class FilesBeside {
  private failure: { readonly thrown: unknown } | undefined;

  /** @returns the file's name, null if it could not be written */
  write(file: string, contents: string | Uint8Array): string | null {
    return this.attempt(() => {
      mkdirSync(dirname(file), { recursive: true });
      writeWhole(file, contents);
      return file;
    });
  }

  attempt<T>(body: () => T): T | null {
    try {
      return body();
    } catch (thrown) {
      this.failure ??= { thrown };
      return null;
    }
  }

  /** Every file is there. */
  get whole(): boolean {
    return this.failure === undefined;
  }

  /** For the report as JSON. */
  get error(): { readonly error?: ErrorJson } {
    return this.failure === undefined ? {} : { error: errorJson(this.failure.thrown) };
  }

  /** Once the report is printed. @throws what kept a file from being written */
  throwIfAny(): void {
    if (this.failure !== undefined) throw this.failure.thrown;
  }
}
