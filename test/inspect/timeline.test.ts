import { createHash } from "node:crypto";
import fc from "fast-check";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { compile } from "../../src/guest/compile.js";
import { DEFAULT_BUDGET } from "../../src/guest/limits.js";
import { machineOptions, machineWorld } from "../../src/guest/machineworld.js";
import { runProgram } from "../../src/guest/run.js";
import { Machine } from "../../src/index.js";

const folder = new URL("../../scenarios/", import.meta.url);
const names = readdirSync(folder).filter((f) => f.endsWith(".guest"));

/** The last variant of a scenario, run with history. */
function ran(name: string): Machine {
  const program = compile(name, readFileSync(new URL(name, folder), "utf8"), machineWorld);
  const variant = program.variants.at(-1)!;
  const machine = new Machine({ ...machineOptions(program.machine, variant), history: true });
  runProgram(program, variant, machine, { budget: DEFAULT_BUDGET, detail: "none" });
  return machine;
}

/** Every pool of a machine as the hash of its words without trailing zeros: two machines may have grown them differently. */
function words(machine: Machine): Record<string, string> {
  machine.sim.state.checkpoint();
  return Object.fromEntries(
    machine.sim.state.pools.map(({ name, a }) => {
      let end = a.length;
      while (end > 0 && a[end - 1] === 0) end--;
      return [name, `${end} words: ${createHash("sha1").update(a.subarray(0, end)).digest("hex")}`];
    }),
  );
}

test.each(names)("%s: the tape repeats the run to the same state", (name) => {
  const machine = ran(name);
  const twin = machine.history().visit(Infinity);
  expect(twin.sim.bus.seq).toBe(machine.sim.bus.seq);
  // The script keeps where its agents stand in a pool of its own: it is not the machine's.
  const own = words(machine);
  delete own["script.agents"];
  expect(words(twin)).toEqual(own);
});

test.each(names.filter((_, n) => n % 3 === 0))(
  "%s: any order of visits shows each event's state as the first pass from the beginning did",
  (name) => {
    const machine = ran(name);
    const forwards = machine.history();
    const last = machine.sim.bus.seq - 1;
    const hashes = new Map<number, string>();
    const stride = Math.max(1, Math.floor(last / 24));
    for (let seq = forwards.first; seq <= last; seq += stride) hashes.set(seq, forwards.visit(seq).sim.state.hash());
    const steps = [...hashes.keys()];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...steps), { minLength: 2, maxLength: 8 }), (visits) => {
        for (const seq of visits) {
          const there = forwards.visit(seq);
          expect([seq, there.sim.bus.seq, there.sim.state.hash()]).toEqual([seq, seq + 1, hashes.get(seq)]);
        }
      }),
      { numRuns: 2, seed: 1 },
    );
  },
);

describe("machine.at", () => {
  const mapped = () => {
    const machine = new Machine({ history: true });
    const vm = machine.createVm();
    const code = machine.host.mmap({ length: 0x200000 });
    vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: 0x40000000, memorySize: 0x200000, userspaceAddr: code });
    machine.host.write(code, 4, 0xf9400020n); // ldr x0, [x1]
    machine.host.write(code + 4, 4, 0x14000000n); // b .
    const vcpu = vm.createVcpu();
    vcpu.set("pc", 0x40000000n);
    vcpu.set("x1", 0x40001000n);
    const entries: number[] = [];
    machine.on("stage2_entry", (e) => entries.push(e.seq));
    vcpu.run();
    return { machine, entries };
  };

  test("an event that a writer emits shows its own write and none after it", () => {
    const { machine, entries } = mapped();
    expect(entries.length).toBeGreaterThan(1);
    const leaves = (step: number) => machine.at(step).stage2Leaves(0).length;
    const counts = entries.map(leaves);
    expect(counts.at(-1)).toBe(machine.stage2Leaves(0).length);
    expect(leaves(entries[0]! - 1)).toBe(0);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
  });

  test("a copy knows the names of agents and locks of its moment, and cannot be run", () => {
    const { machine, entries } = mapped();
    const then = machine.at(entries[0]!);
    expect(then.snapshot().vcpus).toHaveLength(1);
    expect(then.sim.agents.name(then.sim.agents.current)).toBe("vcpu0");
    expect(() => then.createVm()).toThrow(/copy of a moment/);
    expect(() => then.setRegister(0, "x0", 1n)).toThrow(/copy of a moment/);
  });

  test("the run goes on after a look back, and the new events can be visited too", () => {
    const { machine, entries } = mapped();
    machine.at(entries[0]!);
    const before = machine.sim.bus.seq;
    const at = machine.host.mmap({ length: 0x1000 });
    machine.host.write(at, 8, 5n);
    expect(
      machine
        .at(machine.sim.bus.seq - 1)
        .mm.maps(0)
        .some((v) => v.start === at),
    ).toBe(true);
    expect(
      machine
        .at(before - 1)
        .mm.maps(0)
        .some((v) => v.start === at),
    ).toBe(false);
    expect(machine.history().visit(Infinity).sim.state.hash()).toBe(machine.sim.state.hash());
  });

  test("an event that never was, and a machine without history, are errors that say so", () => {
    const { machine } = mapped();
    expect(() => machine.at(1_000_000)).toThrow(/there is no event 1000000: the run has the events \d+ to \d+/);
    expect(() => new Machine().at(0)).toThrow(/keeps no history/);
    expect(() => machine.at(0).at(0)).toThrow(/is a copy of a moment: ask the machine that it was made of/);
    for (const wrong of [1.5, NaN, "2", undefined])
      expect(() => machine.at(wrong as number)).toThrow(`${String(wrong)} is no number of an event`);
  });
});
