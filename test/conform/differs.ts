/** Does a decision show? The same script under an era, and under that era with the decision as it was before. */
import { existsSync } from "node:fs";
import { expect } from "vitest";
import { Replayer } from "../../src/conform/replay.js";
import { DECISIONS, type Room } from "../../src/eras.js";
import { script, type Family } from "./scripts.js";

/** [family of scripts, era that brought the change, the value before it] */
export type Shown = readonly [family: Family, era: string, before: string];

/** More events of one script are not looked at: an endless loop gives as many as one likes. */
const MOST = 30_000;

const trace = (family: Family, era: string, set: Readonly<Record<string, string>>): string => {
  const out: string[] = [];
  const recording = script(family, era);
  const replayer = new Replayer(recording, {
    set,
    // The event that names the decision would differ by itself.
    onEvent: (e) => {
      if (e.event === "decision" || out.length > MOST) return;
      const { event, ...fields } = e as Readonly<Record<string, unknown>> & { readonly event: string };
      out.push(`${event} ${JSON.stringify({ ...fields, seq: 0, time: 0, cycles: 0, ts: 0 })}`);
    },
  });
  for (const step of recording.steps) for (const o of replayer.step(step)) out.push(o.text);
  return out.join("\n");
};
const plain = new Map<string, string>();

/** What the machine does, or what its VMM and guest see, differs. */
export function expectDifference(decision: string, [family, era, before]: Shown): void {
  const key = `${family} ${era}`;
  const now = plain.get(key) ?? trace(family, era, {});
  plain.set(key, now);
  expect(trace(family, era, { [decision]: before }) === now, `${decision}: ${family} under ${era} does not show it`).toBe(false);
}

/** Every decision of the room is shown here, or the list says where else, or why nowhere. */
export function expectComplete(room: Room, shown: object, others: Readonly<Record<string, string>>): void {
  expect([...Object.keys(shown), ...Object.keys(others)].sort()).toEqual(Object.keys(DECISIONS[room]).sort());
  for (const [name, where] of Object.entries(others)) {
    if (where.startsWith("test/") || where.startsWith("scenarios/")) expect(existsSync(where), `${name}: ${where}`).toBe(true);
  }
}
