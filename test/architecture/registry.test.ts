import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { compile } from "../../src/guest/compile.js";
import { DEFAULT_BUDGET } from "../../src/guest/limits.js";
import { machineFor, machineWorld } from "../../src/guest/machineworld.js";
import { runProgram, type ScriptMachine } from "../../src/guest/run.js";
import { writesOutsideTheRegistry } from "./fields.js";
import allowed from "./outside-registry.json" with { type: "json" };

interface Group {
  readonly why: string;
  /** File -> class (or "" for the module) -> fields. */
  readonly writes: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>;
}

test("no room keeps mutable state outside the registry: what else it writes is listed in outside-registry.json, with the reason why it is none", () => {
  const listed = Object.values(allowed as Readonly<Record<string, Group>>).flatMap((group) =>
    Object.entries(group.writes).flatMap(([file, owners]) =>
      Object.entries(owners).flatMap(([owner, fields]) => fields.map((f) => `${file} ${owner === "" ? f : `${owner}.${f}`}`)),
    ),
  );
  expect(writesOutsideTheRegistry()).toEqual(listed.sort());
});

const folder = new URL("../../scenarios/", import.meta.url);
const names = readdirSync(folder).filter((f) => f.endsWith(".guest"));

/** At the first phase of a call: the whole call once through, all pools put back from a copy, then on as usual. */
function rehearse(began: Set<number>) {
  return (m: ScriptMachine, agent: number): boolean => {
    const { state, bus } = m.sim;
    if (!began.has(agent)) {
      began.add(agent);
      const before = state.checkpoint();
      for (let n = 0; n < 20_000 && m.busy(agent) && m.step(agent); n++);
      bus.flush();
      state.restore(before);
    }
    const moved = m.step(agent);
    if (!m.busy(agent)) began.delete(agent);
    return moved;
  };
}

test.each(names)("%s runs the same when every call is rehearsed to its end and all pools are put back from a copy", (name) => {
  const program = compile(name, readFileSync(new URL(name, folder), "utf8"), machineWorld);
  // The last variant of a script is the newest era: one is enough, the other test takes them all.
  const variant = program.variants.at(-1)!;
  const run = (stepper?: ReturnType<typeof rehearse>) => {
    const machine = machineFor(program.machine, variant);
    const result = runProgram(program, variant, machine, {
      budget: DEFAULT_BUDGET,
      detail: "all",
      ...(stepper === undefined ? {} : { stepper }),
    });
    return { hash: machine.sim.state.hash(), result: JSON.stringify(result) };
  };
  const plain = run();
  const rehearsed = run(rehearse(new Set()));
  expect(rehearsed.hash).toBe(plain.hash);
  expect(rehearsed.result).toBe(plain.result);
});
