/** kvm_run.immediate_exit and KVM_SET_VCPU_EVENTS while an MMIO access waits for its completion, as real kernels did. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { conformRecording } from "../../src/conform/conform.js";
import { parseRecording } from "../../src/conform/recording.js";

const FOLDER = join(import.meta.dirname, "immediateexit");

test.each(readdirSync(FOLDER))("a real kernel's %s is reproduced", (file) => {
  const r = conformRecording(parseRecording(file, readFileSync(join(FOLDER, file), "utf8")));
  expect(r.firstDifference).toBeNull();
  expect(r.total).toBeGreaterThan(20);
});
