/** Store and gathering buffers: what waits, what merges, what leaves, and who makes it leave. */
import { beforeEach, describe, expect, it } from "vitest";
import { Ordering } from "../../src/arch/ordering.js";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { KIND_GRE, KIND_NC, KIND_nGnRE, KIND_nGnRnE, KIND_WB } from "../../src/arch/storebuffer.js";
import { Sim } from "../../src/sim/sim.js";

const BAR = 0x8000000000;
const RAM = 0x40000000;

describe.each([false, true])("buffers (weak: %s)", (weak) => {
  let ordering: Ordering;
  let arrived: string[];
  let phys: PhysicalMemory;
  beforeEach(() => {
    const sim = new Sim();
    sim.agents.add("vmm", "vmm", 0);
    phys = new PhysicalMemory(sim, { ramBase: RAM, ramSize: 0x1000000 });
    arrived = [];
    phys.addWindow(BAR, 0x10000, {
      read: () => {},
      write: (o, size, lo) => void arrived.push(`${o.toString(16)}/${size}=${lo}`),
    });
    ordering = new Ordering(sim, phys, 2, weak, 0);
  });
  const store = (kind: number, o: number, size: number, value: number, cpu = 0) =>
    ordering.buffers.store(cpu, kind, 0, BAR + o, size, value, 0, 0, 0, false);
  const bytes = () => ordering.buffers.list().map((e) => `${e.type} ${e.bytes.map(([f, n]) => `${f}+${n}`).join(" ")}`);

  it.each([KIND_NC, KIND_GRE])("gather stores of type %s to one line, the younger bytes on top", (kind) => {
    store(kind, 0, 4, 1);
    store(kind, 4, 4, 2);
    store(kind, 0, 4, 3);
    expect(ordering.buffers.count(0)).toBe(1);
    expect(arrived).toEqual([]);
    ordering.dsb(0, 15);
    expect(arrived).toEqual(["0/8=3"]);
  });
  it("do not merge across a barrier of stores, nor across lines", () => {
    store(KIND_NC, 0, 4, 1);
    ordering.dmb(0, 14);
    store(KIND_NC, 0, 4, 2);
    store(KIND_NC, 64, 4, 3);
    expect(bytes()).toEqual(["NC 0+4", "NC 0+4", "NC 0+4"]);
    expect(ordering.leave(0, 1)).toBe(false);
    ordering.dsb(0, 14);
    expect(arrived).toEqual(["0/4=1", "0/4=2", "40/4=3"]);
  });
  it("keep the stores of a load barrier, and drain for a full one", () => {
    store(KIND_NC, 0, 4, 1);
    ordering.dmb(0, 13);
    ordering.dsb(0, 13);
    expect(arrived).toEqual([]);
    ordering.dmb(0, 11);
    expect(arrived).toEqual(["0/4=1"]);
  });
  it("let a context synchronisation pass: ISB drains nothing", () => {
    store(KIND_NC, 0, 4, 1);
    ordering.contextSync(0);
    expect(ordering.buffers.count(0)).toBe(1);
  });
  it("keep Device-nR stores of one peripheral in program order", () => {
    store(KIND_nGnRE, 0, 4, 1);
    store(KIND_nGnRnE, 64, 4, 2);
    if (weak) expect(ordering.leave(0, 1)).toBe(false);
    ordering.leaveAll(0);
    expect(arrived).toEqual(["0/4=1", "40/4=2"]);
  });
  it("let a Device store pass what gathers, unless a barrier is between", () => {
    store(KIND_NC, 0, 4, 1);
    store(KIND_nGnRE, 0x100, 4, 2);
    if (weak) ordering.leave(0, 1);
    expect(arrived).toEqual(["100/4=2"]);
    ordering.dmb(0, 14);
    store(KIND_nGnRE, 0x104, 4, 3);
    ordering.leaveAll(0);
    expect(arrived).toEqual(["100/4=2", "0/4=1", "104/4=3"]);
  });
  it("drain on every other CPU by a DVMSync, and only what has XS = 0 by one of nXS", () => {
    store(KIND_NC, 0, 4, 1, 1);
    ordering.dvmSync(0, false);
    expect(arrived).toEqual([]);
    ordering.dvmSync(0, true);
    expect(arrived).toEqual(["0/4=1"]);
  });
  it("split a store over a line's end", () => {
    ordering.buffers.store(0, KIND_NC, 0, BAR + 60, 8, 0x11, 0x22, 0, 0, false);
    expect(bytes()).toEqual(["NC 60+4", "NC 0+4"]);
  });
  it("give a CPU its own stores and another CPU none", () => {
    phys.write(RAM, 4, 7);
    ordering.buffers.store(0, KIND_NC, 0, RAM, 4, 9, 0, 0, 0, false);
    for (const cpu of [0, 1]) {
      phys.read(RAM, 4);
      ordering.buffers.d0 = phys.lo;
      ordering.buffers.overlay(cpu, RAM, 4);
      expect(ordering.buffers.d0).toBe(cpu === 0 ? 9 : 7);
    }
  });
  it("drain before a load from the same bytes of a device", () => {
    store(KIND_NC, 0, 4, 1);
    ordering.buffers.beforeDeviceLoad(0, KIND_NC, BAR + 64, 4);
    expect(arrived).toEqual([]);
    ordering.buffers.beforeDeviceLoad(0, KIND_NC, BAR, 4);
    expect(arrived).toEqual(["0/4=1"]);
  });
  it("drain a full line at once where nothing else holds it back", () => {
    for (let o = 0; o < 64; o += 8) store(KIND_NC, o, 8, o);
    expect(ordering.buffers.count(0)).toBe(weak ? 1 : 0);
  });
  it("let a store-release wait for what is before it", () => {
    ordering.buffers.store(0, KIND_WB, 0, RAM, 4, 1, 0, 0, 0, false);
    ordering.buffers.store(0, KIND_WB, 0, RAM + 64, 4, 1, 0, 0, 0, true);
    expect(ordering.buffers.mayLeave(0, 1)).toBe(false);
    ordering.acquire(0);
    expect(ordering.buffers.count(0)).toBe(0);
  });
});

describe("strict shareability", () => {
  const machine = () => {
    const sim = new Sim();
    sim.agents.add("vmm", "vmm", 0);
    const phys = new PhysicalMemory(sim, { ramBase: RAM, ramSize: 0x1000000 });
    phys.addWindow(BAR, 0x10000, { read: () => {}, write: () => {} });
    const ordering = new Ordering(sim, phys, 2, true, 0, undefined, true);
    const store = (kind: number, pa: number) => ordering.buffers.store(0, kind, 0, pa, 4, 1, 0, 0, 0, false);
    return { ordering, store, kinds: () => ordering.buffers.list().map((e) => e.type) };
  };
  it("lets DMB ISHST order write-back stores with each other, and a Device store pass them", () => {
    const m = machine();
    m.store(KIND_WB, RAM);
    m.ordering.dmb(0, 10);
    m.store(KIND_WB, RAM + 64);
    m.store(KIND_nGnRE, BAR);
    expect([1, 2].map((n) => m.ordering.buffers.mayLeave(0, n))).toEqual([false, true]);
  });
  it("lets DMB OSHST order them all", () => {
    const m = machine();
    m.store(KIND_WB, RAM);
    m.ordering.dmb(0, 2);
    m.store(KIND_nGnRE, BAR);
    expect(m.ordering.buffers.mayLeave(0, 1)).toBe(false);
  });
  it.each([
    ["nsh", 7, ["WB", "NC"]],
    ["ish", 11, ["NC"]],
    ["osh", 3, []],
    ["sy", 15, []],
  ])("completes with DSB %s what its domain holds", (_name, type, left) => {
    const m = machine();
    m.store(KIND_WB, RAM);
    m.store(KIND_NC, BAR);
    m.ordering.dsb(0, type);
    expect(m.kinds()).toEqual(left);
  });
  it("drains the CPU's own Normal-NC stores when its DSB ISH has completed a TLBI", () => {
    const m = machine();
    m.store(KIND_NC, BAR);
    m.ordering.dvmSync(0, true);
    expect(m.kinds()).toEqual([]);
  });
});
