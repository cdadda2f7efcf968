/** Folders of recordings that a real kernel made and that are reproduced wholly. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { conformRecording } from "../../src/conform/conform.js";
import { parseRecording } from "../../src/conform/recording.js";

/** A test of each recording. @param name with `%s` for the file; @param most lines that none of them is so short as to have */
export function reproduced(folder: string, name: string, most: number): void {
  test.each(readdirSync(folder))(name, (file) => {
    const r = conformRecording(parseRecording(file, readFileSync(join(folder, file), "utf8")));
    expect(r.firstDifference).toBeNull();
    expect(r.total).toBeGreaterThan(most);
  });
}
