/** Every fault that ends in an error or an injected abort has a chain that says why, built from the events of the run. */
import { expect, test } from "vitest";
import { Replayer } from "../../src/conform/replay.js";
import { causes } from "../../src/guest/cause.js";
import type { EventRecord } from "../../src/sim/events.js";
import { FAMILIES, script } from "./scripts.js";

test.each(["v4.0", "v5.5", "v6.1", "v6.18.2"])("%s: EFAULT, ENOSYS and injected aborts are explained", (kernel) => {
  for (const family of FAMILIES) {
    if (family === "bars1") continue; // an endless loop
    const events: EventRecord[] = [];
    const recording = script(family, kernel);
    const replayer = new Replayer(recording, { onEvent: (e) => events.push({ ...e }) });
    for (const step of recording.steps) replayer.step(step);
    const bad = events.filter((e) => (e.event === "guest_abort" && (e["ret"] as number) < 0) || e.event.startsWith("inject_"));
    const told = causes(events);
    expect(told.length, family).toBeGreaterThanOrEqual(bad.length === 0 ? 0 : 1);
    expect(told.length, `${family}: ${bad.length} faults`).toBeGreaterThanOrEqual(bad.filter((e) => e.event === "guest_abort").length);
    for (const c of told) expect(c.chain.length, `${family}: ${JSON.stringify(c)}`).toBeGreaterThan(1);
  }
});
