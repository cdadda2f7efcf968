/** Parts of anonymous huge pages, recorded on real kernels: what is exclusive, what an advice splits, what is broken and cannot be split. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseRecording } from "../../src/conform/recording.js";
import { Replayer } from "../../src/conform/replay.js";
import { reproduced } from "../conform/realkernels.js";

const FOLDER = join(import.meta.dirname, "hugeparts");

reproduced(FOLDER, "a real kernel's %s is reproduced", 2);

/** What the VMM, its guest and its KVM see of a recording's commands. */
function seen(file: string, set: Readonly<Record<string, string>> = {}): string {
  const recording = parseRecording(file, readFileSync(join(FOLDER, file), "utf8"));
  const replayer = new Replayer(recording, { set });
  return recording.steps.flatMap((step) => replayer.step(step).map((o) => o.text)).join("\n");
}

describe("a decision about huge pages shows in a recording", () => {
  it.each([
    ["madviseColdShared", "page", "cold-partly-forked-v6.12.117"],
    ["madviseColdShared", "folio", "cold-all-of-small-entries-v6.1.192"],
    ["madviseColdShared", "first", "cold-partly-forked-v5.10.223"],
    ["madviseColdShared", "likely", "cold-first-page-left-to-child-v6.17"],
    ["madviseFreeShared", "page", "free-first-page-gone-v6.1.192"],
    ["madviseFreeShared", "folio", "free-first-page-gone-v5.10.223"],
    ["madviseFreeShared", "first", "free-first-pages-not-forked-v6.12.117"],
    ["madviseFreeShared", "processes", "free-first-pages-not-forked-v6.1.192"],
    ["madviseWholeHuge", "split", "cold-all-contiguous-v6.12.117"],
    ["pageoutReferences", "asked", "pageout-all-v6.12.117"],
    ["pageoutReferences", "ignored", "pageout-all-v6.1.192"],
    ["mprotectBatch", "single", "cold-after-half-a-contiguous-block-v6.17"],
    ["cowReuseLarge", "never", "lone-page-v6.1.192"],
    ["cowReuseLarge", "lone", "lone-page-v6.12.117"],
  ])("%s would be %s: %s is another", (decision, value, name) => {
    const file = `${name}.rec`;
    expect(seen(file, { [decision]: value })).not.toBe(seen(file));
  });
});
