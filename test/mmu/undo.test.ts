import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MADV_DONTNEED, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { MREMAP_FIXED, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import { PROT_READ } from "../../src/mmu/vmflags.js";
import { ARG } from "../../src/sim/agents.js";
import { BASE, FIXED, MIB, RW, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;

/** One operation by number, at a page. */
function act(h: TestHost, file: number, n: number, page: number): void {
  const at = BASE + page * PAGE;
  switch (n) {
    case 0:
      h.mmap(at, 40 * PAGE);
      break;
    case 1:
      h.munmap(at, 30 * PAGE);
      break;
    case 2:
      h.mprotect(at, 10 * PAGE, page % 2 === 0 ? PROT_READ : RW);
      break;
    case 3:
      h.madvise(at, 20 * PAGE, page % 2 === 0 ? MADV_DONTNEED : MADV_NOHUGEPAGE);
      break;
    case 4:
      h.mmap(at, 16 * PAGE, { flags: SHARED | FIXED, file });
      break;
    case 5:
      h.mremap(at, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 64 * MIB + page * PAGE);
      break;
    case 6:
      h.run(h.mm.syscalls.ftruncate, file, page * 16);
      break;
    case 7: {
      const child = h.fork();
      h.write(at, 3);
      if (child >= 0) h.run(h.mm.syscalls.exitMm, child);
      break;
    }
    default:
      h.write(at, page);
  }
}

describe("undo", () => {
  it("puts the whole host back after any operation", () => {
    const op = fc.record({ n: fc.integer({ min: 0, max: 9 }), page: fc.integer({ min: 0, max: 1200 }) });
    fc.assert(
      fc.property(fc.array(op, { minLength: 1, maxLength: 15 }), fc.array(op, { minLength: 1, maxLength: 6 }), (before, tried) => {
        const h = new TestHost();
        const file = h.mm.files.createMemfd(64 * PAGE);
        h.mmap(BASE, 4 * MIB);
        for (const o of before) act(h, file, o.n, o.page);
        const { state } = h.sim;
        state.startRecording();
        const hash = state.hash();
        const maps = h.maps();
        const mark = state.mark();
        for (const o of tried) act(h, file, o.n, o.page);
        const after = state.hash();
        state.rollback(mark);
        expect(state.hash()).toBe(hash);
        expect(h.maps()).toEqual(maps);
        for (const o of tried) act(h, file, o.n, o.page);
        expect(state.hash()).toBe(after);
      }),
      { numRuns: 40 },
    );
  });

  it("of a half-done munmap, and of each phase on its way, gives the same end", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.write(BASE, 1);
    const { state, agents } = h.sim;
    state.startRecording();
    const start = state.mark();
    h.munmap(BASE + PAGE, PAGE);
    const end = state.hash();
    state.rollback(start);
    agents.start(0, h.mm.syscalls.munmap, 0, BASE + PAGE, PAGE);
    for (let steps = 0; agents.busy(0); steps++) {
      const mark = state.mark();
      agents.step(0);
      state.rollback(mark);
      agents.step(0);
      expect(steps).toBeLessThan(60);
    }
    expect(state.hash()).toBe(end);
  });
});

describe("two threads", () => {
  /** A second thread, and a subscriber that notes who holds what when it is told. */
  function second(h: TestHost): { thread: number; seen: string[] } {
    const { agents, locks } = h.sim;
    const thread = agents.add("thread", "vmm", 0);
    const seen: string[] = [];
    const note = (name: string) =>
      agents.activity(`note${name}`, "test", 6, [
        [
          "note",
          (f) => {
            const lock = h.mm.mmapLock(0);
            seen.push(
              `${name} ${agents.stack.a[f + ARG + 5]!} ${locks.heldForWrite(lock) ? "write" : locks.isHeld(lock) ? "read" : "free"}`,
            );
            return agents.ret(f, 0);
          },
        ],
      ]);
    h.mm.notifiers.register(0, { rangeStart: note("start"), rangeEnd: note("end") }, 42);
    return { thread, seen };
  }

  it("a munmap clears with the lock held for reading since v4.20, an mprotect with it held for writing", () => {
    for (const [era, mode] of [
      ["v4.10", "write"],
      ["v4.20", "read"],
    ] as const) {
      const h = new TestHost(era);
      const { seen } = second(h);
      h.mmap(BASE, 4 * MIB);
      h.write(BASE, 1);
      h.munmap(BASE, 2 * MIB);
      expect(seen).toEqual([`start 42 ${mode}`, `end 42 ${mode}`]);
      h.write(BASE + 2 * MIB, 1);
      seen.length = 0;
      h.mprotect(BASE + 2 * MIB, 2 * MIB, PROT_READ);
      expect(seen).toEqual(["start 42 write", "end 42 write"]);
    }
  });

  it("the second waits while the first holds the mmap_lock, and a fault of it runs during the unmapping", () => {
    const h = new TestHost();
    const { thread } = second(h);
    h.mmap(BASE, 4 * MIB);
    h.mmap(BASE + 64 * MIB, MIB);
    h.write(BASE, 1);
    const { agents } = h.sim;
    agents.start(0, h.mm.syscalls.munmap, 0, BASE, PAGE);
    agents.step(0);
    agents.start(thread, h.mm.syscalls.mprotect, 0, BASE + 64 * MIB, PAGE, PROT_READ);
    expect(agents.step(thread)).toBe(false);
    while (!agents.backtrace(0).some((p) => p === "doMunmap:unmap")) agents.step(0);
    expect(agents.step(thread)).toBe(false);
    agents.abandon(thread);
    agents.start(thread, h.mm.hostAccess, 0, BASE + 64 * MIB, 4, 1, 5, 0);
    expect(agents.runToEnd(thread)).toBe(true);
    expect(agents.runToEnd(0)).toBe(true);
    expect(h.read(BASE + 64 * MIB)).toBe(5);
  });
});

describe("notifiers", () => {
  it("tell each subscriber in turn, and nobody after the release", () => {
    const h = new TestHost();
    const { agents } = h.sim;
    const seen: string[] = [];
    const note = (name: string, token: number) =>
      agents.activity(`n${name}`, "test", 6, [["n", (f) => (seen.push(`${name} ${agents.stack.a[f + ARG + token]!}`), agents.ret(f, 0))]]);
    const sub = { rangeStart: note("start", 5), rangeEnd: note("end", 5), release: note("release", 1), changePte: note("change", 3) };
    h.mm.notifiers.register(0, sub, 7);
    const second = h.mm.notifiers.register(0, sub, 8);
    h.mm.notifiers.register(1, sub, 9);
    h.mmap(BASE, PAGE);
    h.munmap(BASE, PAGE);
    expect(seen).toEqual(["start 7", "start 8", "end 7", "end 8"]);
    h.mm.notifiers.unregister(second);
    seen.length = 0;
    h.run(h.mm.notifiers.changePte, 0, BASE, 1);
    h.run(h.mm.notifiers.release, 0);
    expect(seen).toEqual(["change 7", "release 7"]);
    expect(h.mm.notifiers.hasNotifiers(0)).toBe(false);
    expect(h.mm.notifiers.hasNotifiers(1)).toBe(true);
  });
});

describe("a walk", () => {
  it("does not end in a table that is the address's no more", () => {
    const h = new TestHost();
    const { pt } = h.mm;
    h.mmap(BASE, 4 * MIB);
    h.madvise(BASE, 4 * MIB, MADV_NOHUGEPAGE);
    h.write(BASE, 1);
    expect(pt.walk(0, BASE)).toBe(true);
    const entry = pt.entry;
    const before = h.sim.state.checkpoint();
    h.munmap(BASE, 4 * MIB);
    expect([pt.walk(0, BASE), pt.level < 3]).toEqual([false, true]);
    h.mmap(BASE + 2 * MIB, 2 * MIB);
    h.madvise(BASE + 2 * MIB, 2 * MIB, MADV_NOHUGEPAGE);
    h.write(BASE + 2 * MIB, 2);
    expect(pt.walk(0, BASE + 2 * MIB)).toBe(true);
    h.sim.state.restore(before);
    expect([pt.walk(0, BASE + 2 * MIB), pt.level < 3]).toEqual([false, true]);
    expect([pt.walk(0, BASE), pt.entry]).toEqual([true, entry]);
    // A store of a device to the table above.
    const pmd = pt.entryAt(0, BASE, 2);
    h.phys.write(pt.tables.base + pmd * 4, 8, 0, 0);
    expect([pt.walk(0, BASE), pt.level]).toEqual([false, 2]);
  });
});
