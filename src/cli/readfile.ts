/** What keeps a file from being read, for a person. */
import { UsageError } from "./status.js";

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
