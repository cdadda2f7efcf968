/** The smallest scenarios that random campaigns on real kernels came down to, each a thing that the model had wrong or did not have once: recorded, reproduced wholly now. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { conformRecording } from "../../src/conform/conform.js";
import { parseRecording } from "../../src/conform/recording.js";

const FOLDER = join(import.meta.dirname, "mended");

test.each(readdirSync(FOLDER))("%s", (file) => {
  const r = conformRecording(parseRecording(file, readFileSync(join(FOLDER, file), "utf8")));
  expect(r.firstDifference).toBeNull();
  expect(r.total).toBeGreaterThan(2);
});
