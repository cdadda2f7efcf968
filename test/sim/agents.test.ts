import { expect, test } from "vitest";
import { ARG, BLOCKED, R0 } from "../../src/sim/agents.js";
import { Sim } from "../../src/sim/sim.js";

/** sum(n) = n + sum(n - 1), one activation per number, so that frames nest. */
function machine() {
  const sim = new Sim();
  const { agents } = sim;
  const s = agents.stack;
  const sum = agents.activity("sum", "test", 1, [
    [
      "enter",
      (f) => {
        const n = s.a[f + ARG]!;
        return n === 0 ? agents.ret(f, 0) : agents.call(f, sum.first + 1, sum, n - 1);
      },
    ],
    ["leave", (f) => agents.ret(f, s.a[f + ARG]! + s.a[f + R0]!)],
  ]);
  const agent = agents.add("vmm", "vmm", 0);
  return { sim, agents, sum, agent };
}

test("an activity calls itself and its results travel back through the frames", () => {
  const { agents, sum, agent } = machine();
  agents.start(agent, sum, 10);
  expect(agents.runToEnd(agent)).toBe(true);
  expect(agents.result(agent)).toBe(55);
});

test("a half-done activity survives rollback and gives the same result again", () => {
  const { sim, agents, sum, agent } = machine();
  sim.state.startRecording();
  agents.start(agent, sum, 6);
  for (let i = 0; i < 4; i++) agents.step(agent);
  const mark = sim.state.mark();
  const trace = agents.backtrace(agent);
  agents.runToEnd(agent);
  expect(agents.result(agent)).toBe(21);
  sim.state.rollback(mark);
  expect(agents.backtrace(agent)).toEqual(trace);
  agents.runToEnd(agent);
  expect(agents.result(agent)).toBe(21);
});

/** outer calls inner, which waits while `wait.on`; both write down what they do. */
function nested() {
  const sim = new Sim();
  const { agents } = sim;
  const said: string[] = [];
  const wait = { on: false, crash: false };
  const inner = agents.activity("inner", "test", 1, [
    ["first", (f) => (said.push("first"), agents.go(f, inner.first + 1, second))],
    ["second", (f) => second(f)],
  ]);
  const second = (f: number): number => {
    if (wait.on) return BLOCKED;
    if (wait.crash) return sim.crash("inner", "a test");
    said.push("second");
    return agents.ret(f, 7);
  };
  const after = (f: number): number => (said.push(`after ${agents.stack.a[f + R0]!}`), agents.ret(f, 8));
  const outer = agents.activity("outer", "test", 1, [
    ["begin", (f) => agents.callStraight(f, outer.first + 1, after, inner)],
    ["after", after],
  ]);
  const agent = agents.add("vmm", "vmm", 0);
  agents.start(agent, outer);
  return { sim, agents, agent, said, wait };
}

test("a straight call does what the steps of it do, one by one", () => {
  const whole = nested();
  expect(whole.agents.runToEnd(whole.agent)).toBe(true);
  const steps = nested();
  let phases = 0;
  while (steps.agents.busy(steps.agent)) {
    steps.agents.step(steps.agent);
    phases++;
  }
  expect(phases).toBe(4);
  expect(steps.said).toEqual(["first", "second", "after 7"]);
  expect(whole.said).toEqual(steps.said);
  expect(whole.agents.result(whole.agent)).toBe(8);
});

test("a straight call that has to wait is met in the phase that waits, and goes on from there", () => {
  const { agents, agent, said, wait } = nested();
  wait.on = true;
  expect(agents.runToEnd(agent)).toBe(false);
  expect(agents.backtrace(agent)).toEqual(["inner:second", "outer:after"]);
  wait.on = false;
  expect(agents.runToEnd(agent)).toBe(true);
  expect(said).toEqual(["first", "second", "after 7"]);
});

test("after a crash in a straight call its caller does not go on", () => {
  const { agents, agent, said, wait } = nested();
  wait.crash = true;
  expect(agents.runToEnd(agent)).toBe(true);
  expect(said).toEqual(["first"]);
  expect(agents.busy(agent)).toBe(false);
});

test("a second writer of a lock blocks until the first has released it", () => {
  const { sim, agents } = machine();
  const lock = sim.locks.create("mmu_lock");
  const hold = agents.activity("hold", "test", 0, [
    ["take", () => (sim.locks.write(lock) ? hold.first + 1 : BLOCKED)],
    [
      "release",
      (f) => {
        sim.locks.unlockWrite(lock);
        return agents.ret(f);
      },
    ],
  ]);
  const a = agents.find("vmm");
  const b = agents.add("b", "kthread", 1);
  agents.start(a, hold);
  agents.start(b, hold);
  expect(agents.step(a)).toBe(true);
  expect(agents.step(b)).toBe(false);
  expect(agents.step(a)).toBe(true);
  expect(agents.step(b)).toBe(true);
  expect(agents.busy(b)).toBe(true);
});

test("a host crash drops every frame of every agent", () => {
  const { sim, agents, sum, agent } = machine();
  agents.start(agent, sum, 3);
  sim.crash("transparent_hugepage_adjust", "PFN without struct page");
  expect(agents.busy(agent)).toBe(false);
  expect(sim.crashed).toEqual({ function: "transparent_hugepage_adjust", reason: "PFN without struct page" });
});

test("a rollback takes back agents that were added since, and equal states reached in different ways hash alike", () => {
  const { sim, agents } = machine();
  sim.state.startRecording();
  const mark = sim.state.mark();
  expect(agents.add("kworker", "kthread", 1)).toBe(1);
  sim.crash("someone_else", "a reason met only on the way that was taken back");
  sim.state.rollback(mark);
  expect(agents.count).toBe(1);
  expect(agents.find("kworker")).toBe(-1);
  expect(agents.add("vcpu0", "vcpu", 2)).toBe(1);
  sim.crash("kvm_handle_guest_abort", "a reason");
  expect([agents.name(1), agents.kind(1), sim.crashed?.function]).toEqual(["vcpu0", "vcpu", "kvm_handle_guest_abort"]);

  const straight = machine();
  straight.sim.state.startRecording();
  straight.agents.add("vcpu0", "vcpu", 2);
  straight.sim.crash("kvm_handle_guest_abort", "a reason");
  // The two host_crash events differ only in number: events that were taken back are not counted.
  expect(straight.sim.state.hash()).toBe(sim.state.hash());
});
