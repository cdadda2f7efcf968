import { expect, test } from "vitest";
import { EventLog } from "../../src/inspect/eventlog.js";
import { Machine } from "../../src/index.js";

test("of a run longer than two million events the last ones are kept, each as it was emitted", () => {
  const machine = new Machine();
  const { bus, agents, locks } = machine.sim;
  const log = new EventLog(bus);
  const base = log.first;
  const rounds = 1_100_000;
  expect(agents.current).toBe(0);
  for (let n = 0; n < rounds; n++) {
    locks.read(0);
    locks.unlockRead(0);
  }
  log.stop();
  expect(log.last).toBe(base + 2 * rounds - 1);
  expect(log.first).toBeGreaterThan(base);
  expect(log.last - log.first).toBeGreaterThan(1_900_000);
  expect([log.has(log.first - 1), log.has(log.first), log.has(log.last), log.has(log.last + 1)]).toEqual([false, true, true, false]);
  for (const seq of [log.first, log.first + 65_535, log.first + 65_536, log.last]) {
    const e = log.at(seq);
    expect([e.seq, e.event, e["mode"]]).toEqual([seq, (seq - base) % 2 === 0 ? "lock_acquired" : "lock_released", "read"]);
  }
});
