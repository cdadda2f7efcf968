/** Reads files of others: never more than an allotted size, and what keeps one from being read is told to a person. */
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { UsageError } from "./status.js";

const MIB = 2 ** 20;

/** @param e what the file system said */
export function unreadable(file: string, e: unknown): UsageError {
  const { code, message } = e as NodeJS.ErrnoException;
  const said = (): string => {
    switch (code) {
      case "ENOENT":
      case "ENOTDIR":
        return `there is no file ${file}`;
      case "EISDIR":
        return `${file} is a folder`;
      case "EACCES":
        return `no permission to read ${file}`;
      default:
        return `${file} cannot be read: ${message}`;
    }
  };
  return new UsageError(said(), { file });
}

/** The first bytes of a file, of a pipe or device, or of standard input if its name is `-`. Neither pipes nor devices need ever end. */
export function firstBytes(file: string, most: number): Uint8Array {
  const fd = file === "-" ? 0 : openSync(file, "r");
  try {
    const stat = fstatSync(fd);
    // Room for one byte more, so that the end of a file that fits is seen without more room.
    let bytes = new Uint8Array(Math.min(most, stat.isFile() ? stat.size + 1 : 64 * 1024));
    let length = 0;
    while (length < most) {
      if (length === bytes.length) {
        const more = new Uint8Array(Math.min(most, 2 * length));
        more.set(bytes);
        bytes = more;
      }
      const n = readSync(fd, bytes, length, bytes.length - length, null);
      if (n === 0) break;
      length += n;
    }
    return bytes.subarray(0, length);
  } finally {
    if (fd !== 0) closeSync(fd);
  }
}

/** All bytes of a file, pipe or standard input (`-`). @throws UsageError that names it, also if there are more than so many MiB */
export function readBytes(file: string, mebibytes: number): Uint8Array {
  const name = file === "-" ? "standard input" : file;
  const most = mebibytes * MIB;
  try {
    // What a folder entry says already need not be read first.
    if (file === "-" || statSync(file).size <= most) {
      const bytes = firstBytes(file, most + 1);
      if (bytes.length <= most) return bytes;
    }
  } catch (e) {
    throw unreadable(name, e);
  }
  throw new UsageError(`${name} has more than ${mebibytes} MiB`, { file });
}

/** The same as text. */
export const readText = (file: string, mebibytes: number): string =>
  // As node reads a file: what is no UTF-8 becomes U+FFFD, and a byte order mark stays.
  new TextDecoder("utf-8", { ignoreBOM: true }).decode(readBytes(file, mebibytes));

/** Of a file that another reads later, whole. @throws UsageError that names it, if it has more than so many MiB or is a pipe or device */
export function checkFile(file: string, mebibytes: number): void {
  const stat = statSync(file);
  if (!stat.isFile()) throw new UsageError(`${file} is no file`, { file });
  if (stat.size > mebibytes * MIB) throw new UsageError(`${file} has more than ${mebibytes} MiB`, { file });
}
