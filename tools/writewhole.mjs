// Writes a file whole or not at all, with the folders that it needs: under a temporary name beside it, then renamed.
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** @param {string} file @param {string | Uint8Array} contents */
export function writeWhole(file, contents) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.tmp`, contents);
  renameSync(`${file}.tmp`, file);
}
