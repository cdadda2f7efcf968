import { expect, test } from "vitest";
import { declareEvent, RECORD_WORDS } from "../../src/sim/events.js";
import { Sim } from "../../src/sim/sim.js";

const probe = declareEvent("faultline", "test_probe", "only for this test", [
  { name: "ipa", kind: "hex" },
  { name: "far", kind: "hex64" },
  { name: "mode", kind: "enum", values: ["read", "write"] },
  { name: "who", kind: "name" },
  { name: "fixed", kind: "bool" },
]);

function machine() {
  const sim = new Sim();
  sim.agents.add("vcpu0", "vcpu", 0);
  return sim;
}

test("a listener gets a frozen record with every declared field", () => {
  const sim = machine();
  const seen: unknown[] = [];
  sim.bus.on("test_probe", (r) => seen.push(r));
  sim.bus.emit(probe, 0x80000000, -1, 0x10, 1, sim.bus.name("x"), 1);
  expect(seen).toEqual([
    {
      seq: 0,
      time: 0,
      agent: "vcpu0",
      event: "test_probe",
      ipa: 0x80000000,
      far: "0xffffffff00000010",
      mode: "write",
      who: "x",
      fixed: true,
    },
  ]);
  expect(Object.isFrozen(seen[0])).toBe(true);
});

test("the sequence number counts also while nobody listens", () => {
  const sim = machine();
  sim.bus.emit(probe);
  sim.bus.emit(probe);
  const seqs: number[] = [];
  const off = sim.bus.on("*", (r) => seqs.push(r.seq));
  sim.bus.emit(probe);
  off();
  sim.bus.emit(probe);
  expect(seqs).toEqual([2]);
  expect(sim.bus.seq).toBe(4);
});

test("a sink gets every record once and in order, over more than one ring", () => {
  const sim = machine();
  const seqs: number[] = [];
  const detach = sim.bus.stream((ring, from, to) => {
    for (let n = from; n < to; n++) seqs.push(ring[n * RECORD_WORDS]!);
  });
  for (let n = 0; n < 10_000; n++) sim.bus.emit(probe);
  detach();
  expect(seqs).toEqual(Array.from({ length: 10_000 }, (_, n) => n));
});

test("an event name cannot be declared twice, nor listened to undeclared", () => {
  expect(() => declareEvent("faultline", "test_probe", "again", [])).toThrow("declared twice");
  expect(() => machine().bus.on("no_such_event", () => {})).toThrow("no event named no_such_event");
});
