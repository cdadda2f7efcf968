import { beforeEach, describe, expect, test } from "vitest";
import { BLOCKED } from "../../src/sim/agents.js";
import { Sim } from "../../src/sim/sim.js";

/** Two or three agents, each of which does one operation on a lock per step. */
let sim: Sim;
let op: (agent: number, what: () => boolean | void) => string;
let reports: string[];

beforeEach(() => {
  sim = new Sim();
  sim.locks.tracking = true;
  sim.agents.interleaving = true;
  let todo: () => boolean | void = () => undefined;
  const act = sim.agents.activity("op", "test", 0, [["do", (f) => (todo() === false ? BLOCKED : sim.agents.ret(f))]]);
  for (const name of ["a", "b", "c"]) sim.agents.add(name, "kthread", 0);
  op = (agent, what) => {
    todo = what;
    if (!sim.agents.busy(agent)) sim.agents.start(agent, act);
    const moved = sim.agents.step(agent);
    return sim.agents.busy(agent) ? (moved ? "queues" : "waits") : "done";
  };
  reports = [];
  sim.bus.on("lockdep_report", (e) => reports.push(`${String(e["kind"])}: ${String(e["lock"])} under ${String(e["held"])}`));
});

describe("owners", () => {
  test("a lock knows its writer and each of its readers, and an agent what it holds", () => {
    const [m, k] = [sim.locks.create("mmap_lock"), sim.locks.create("mmu_lock")];
    op(0, () => sim.locks.read(m));
    op(1, () => sim.locks.read(m));
    op(1, () => sim.locks.write(k));
    expect(sim.locks.ownersOf(m)).toEqual([0, 1]);
    expect(sim.locks.ownersOf(k)).toEqual([1]);
    expect(sim.locks.heldBy(1)).toEqual([
      { lock: "mmap_lock", mode: "read" },
      { lock: "mmu_lock", mode: "write" },
    ]);
    op(0, () => sim.locks.unlockRead(m));
    expect(sim.locks.ownersOf(m)).toEqual([1]);
    expect(sim.locks.heldBy(0)).toEqual([]);
  });
});

describe("a queue of writers", () => {
  test("a writer that must wait queues once; later readers wait behind it, and it goes first", () => {
    const m = sim.locks.create("mmap_lock");
    op(0, () => sim.locks.read(m));
    expect(op(1, () => sim.locks.write(m))).toBe("queues");
    expect(op(1, () => sim.locks.write(m))).toBe("waits");
    expect(sim.locks.waitsFor(1)).toBe("mmap_lock");
    expect(op(2, () => sim.locks.read(m))).toBe("waits");
    op(0, () => sim.locks.unlockRead(m));
    expect(op(2, () => sim.locks.read(m))).toBe("waits");
    expect(op(1, () => sim.locks.write(m))).toBe("done");
    expect(sim.locks.waitsFor(1)).toBeUndefined();
    op(1, () => sim.locks.unlockWrite(m));
    expect(op(2, () => sim.locks.read(m))).toBe("done");
  });

  test("a writer that becomes a reader goes on although another writer waits", () => {
    const m = sim.locks.create("mmap_lock");
    op(0, () => sim.locks.write(m));
    op(1, () => sim.locks.write(m));
    op(0, () => sim.locks.downgrade(m));
    expect(sim.locks.heldBy(0)).toEqual([{ lock: "mmap_lock", mode: "read" }]);
    expect(op(1, () => sim.locks.write(m))).toBe("waits");
    op(0, () => sim.locks.unlockRead(m));
    expect(op(1, () => sim.locks.write(m))).toBe("done");
  });

  test("nobody queues while agents do not take turns, and a trylock never does", () => {
    const m = sim.locks.create("mmap_lock");
    op(0, () => sim.locks.read(m));
    op(2, () => void sim.locks.tryWrite(m));
    expect(sim.locks.heldByWriter(m)).toBe(false);
    sim.agents.interleaving = false;
    expect(op(1, () => sim.locks.write(m))).toBe("waits");
    expect(sim.locks.heldByWriter(m)).toBe(false);
  });
});

describe("lockdep", () => {
  const locks = [
    "slots_lock",
    "mmap_lock.1",
    "vma_lock 0000:00:04.0",
    "memory_lock 0000:00:04.0",
    "device_lock x",
    "page_table_lock",
    "mmu_lock:2",
  ];

  test("reports every pair of classes that is taken against the kernel's order, and no pair taken in it", () => {
    const ids = locks.map((name) => sim.locks.create(name));
    for (let outer = 0; outer < ids.length; outer++)
      for (let inner = 0; inner < ids.length; inner++) {
        if (inner === outer) continue;
        reports.length = 0;
        op(0, () => sim.locks.write(ids[outer]!));
        op(0, () => sim.locks.write(ids[inner]!));
        sim.bus.flush();
        expect(reports).toEqual(inner < outer ? [`inversion: ${locks[inner]} under ${locks[outer]}`] : []);
        op(0, () => sim.locks.unlockWrite(ids[inner]!));
        op(0, () => sim.locks.unlockWrite(ids[outer]!));
      }
  });

  test("tells a reader that reads again from who waits for itself", () => {
    const m = sim.locks.create("mmap_lock");
    op(0, () => sim.locks.read(m));
    op(0, () => sim.locks.read(m));
    op(0, () => sim.locks.write(m));
    sim.bus.flush();
    expect(reports).toEqual(["recursion: mmap_lock under mmap_lock", ...Array<string>(2).fill("self_deadlock: mmap_lock under mmap_lock")]);
  });

  test("says nothing where locks are not tracked", () => {
    sim.locks.tracking = false;
    const [m, k] = [sim.locks.create("mmap_lock"), sim.locks.create("mmu_lock")];
    op(0, () => sim.locks.write(k));
    op(0, () => sim.locks.write(m));
    sim.bus.flush();
    expect(reports).toEqual([]);
  });
});
