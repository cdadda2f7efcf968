/** Whatever kernel threads do to pages, and however they take turns with the VMM and a vCPU, memory holds what was stored. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Call } from "../../src/api/calls.js";
import { Machine } from "../../src/machine.js";
import { MADV_HUGEPAGE, MADV_MERGEABLE, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";

const BLOCK = 0x200000;
const PAGES = 6;

type Op = {
  readonly at: number;
  readonly what: "write" | "read" | "migrate" | "reclaim" | "merge" | "collapse" | "split" | "age" | "fork";
  readonly value: number;
};

const op = fc.record({
  at: fc.nat(PAGES - 1),
  what: fc.constantFrom<Op["what"]>("write", "write", "read", "migrate", "reclaim", "merge", "collapse", "split", "age", "fork"),
  value: fc.nat(2),
});

/** What an operation asks of the machine. @param hva of the block */
function call(o: Op, hva: number): Call {
  const addr = hva + o.at * 4096;
  switch (o.what) {
    case "write":
      return { call: "write", addr: addr + 8, size: 8, value: BigInt(o.value) };
    case "read":
      return { call: "read", addr: addr + 8, size: 8 };
    case "migrate":
      return { call: "migrate_pages", addr };
    case "reclaim":
      return { call: "shrink_folio_list", addr, force: o.value > 0 };
    case "merge":
      return { call: "try_to_merge_two_pages", addr, other: hva + ((o.at + 1 + o.value) % PAGES) * 4096 };
    case "collapse":
      return { call: "collapse_huge_page", addr };
    case "split":
      return { call: "split_huge_page", addr };
    case "age":
      return { call: "age", addr, length: 4096, kind: 0 };
    case "fork":
      return { call: "fork" };
  }
}

/**
 * Runs the VMM's operations and the kernel thread's in turns chosen by `turns`, and compares every read and, at the
 * end, every page with plain numbers.
 */
function run(kernel: string, vmm: readonly Op[], kthread: readonly Op[], turns: readonly boolean[]): void {
  const m = new Machine({ kernel, ram: 64 * 2 ** 20 });
  const hva = m.call(0, { call: "mmap", length: BLOCK, align: BLOCK }).ret;
  m.call(0, { call: "madvise", addr: hva, length: BLOCK, advice: MADV_MERGEABLE });
  m.call(0, { call: "madvise", addr: hva, length: BLOCK, advice: MADV_NOHUGEPAGE });
  const model = Array.from({ length: PAGES }, (_, i) => i % 2);
  for (const [i, v] of model.entries()) m.call(0, { call: "write", addr: hva + i * 4096 + 8, size: 8, value: BigInt(v) });
  m.call(0, { call: "madvise", addr: hva, length: BLOCK, advice: MADV_HUGEPAGE });
  const agents = [0, m.addKthread("kthread")];
  const queues = [vmm, kthread.filter((o) => o.what !== "write" && o.what !== "read" && o.what !== "fork")];
  const next = [0, 0];
  m.sim.agents.interleaving = true;
  const advance = (who: number): boolean => {
    const agent = agents[who]!;
    const o = queues[who]![next[who]!];
    if (o === undefined) return false;
    if (!m.busy(agent)) m.begin(agent, call(o, hva));
    const moved = m.step(agent);
    if (m.busy(agent)) return moved;
    next[who]!++;
    const r = m.finish(agent);
    if (o.what === "write") model[o.at] = o.value;
    if (o.what === "read") expect(r.value, `page ${o.at}`).toBe(BigInt(model[o.at]!));
    return true;
  };
  for (let t = 0, idle = 0; next.some((n, i) => n < queues[i]!.length); t++) {
    if (t > 20_000) throw new Error(`no end of it: ${agents.map((a) => m.sim.agents.backtrace(a).join(" in ")).join(", ")}`);
    idle = advance(turns[t % turns.length]! ? 0 : 1) || advance(turns[t % turns.length]! ? 1 : 0) ? 0 : idle + 1;
    if (idle > 50) throw new Error(`nobody can go on: ${agents.map((a) => m.sim.agents.backtrace(a)[0] ?? "done").join(", ")}`);
  }
  m.sim.agents.interleaving = false;
  const there = model.map((_, i) => Number(m.call(0, { call: "read", addr: hva + i * 4096 + 8, size: 8 }).value));
  expect(there).toEqual(model);
}

const ERAS = ["v4.0", "v5.4", "v5.11", "v6.1", "v6.12", "v7.2.12"];

test.each(ERAS)("%s: memory holds what was stored, whatever migration, swap, KSM, collapse, split and aging do meanwhile", (era) => {
  const ops = fc.array(op, { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(ops, ops, fc.array(fc.boolean(), { minLength: 1, maxLength: 60 }), (vmm, kthread, turns) => {
      run(era, vmm, kthread, turns);
    }),
    { numRuns: 60 },
  );
});

// Until v5.8 mappings are counted, and KSM's reference is none: the lock alone keeps the page from being written under KSM's name.
test.each(ERAS)("%s: a store waits until KSM has let go of the page that it protects", (era) => {
  const store = { at: 0, what: "write", value: 0 } as const;
  run(era, [store, store], [{ at: 0, what: "merge", value: 0 }], [false, false, true]);
});

describe.each(ERAS)("%s: KSM holds a reference of both pages until the second one's entry is replaced", (era) => {
  /** A thread that merges page 3 with page 1 of a block, stopped where the replacement of page 3's entry begins. */
  function replacing() {
    const m = new Machine({ kernel: era, ram: 64 * 2 ** 20 });
    const hva = m.call(0, { call: "mmap", length: BLOCK, align: BLOCK }).ret;
    const page = (i: number) => hva + i * 4096;
    m.call(0, { call: "madvise", addr: hva, length: BLOCK, advice: MADV_MERGEABLE });
    m.call(0, { call: "madvise", addr: hva, length: BLOCK, advice: MADV_NOHUGEPAGE });
    const write = (i: number, value: bigint) => m.call(0, { call: "write", addr: page(i), size: 8, value });
    for (const i of [1, 3, 5]) write(i, 1n);
    const ksmd = m.addKthread("ksmd");
    m.sim.agents.interleaving = true;
    m.begin(ksmd, { call: "try_to_merge_two_pages", addr: page(1), other: page(3) });
    while (m.sim.agents.backtrace(ksmd)[1] !== "ksmMerge:done") expect(m.step(ksmd)).toBe(true);
    const end = () => {
      while (m.busy(ksmd)) m.step(ksmd);
      return m.finish(ksmd).ret;
    };
    const read = (i: number) => m.call(0, { call: "read", addr: page(i), size: 8 }).value;
    return { m, page, write, read, end };
  }

  test("a write to the page that stays does not free it under the entry that is about to name it", () => {
    const { write, read, end } = replacing();
    write(1, 7n);
    write(6, 9n); // takes what was freed last
    expect(end()).toBe(0);
    expect([1, 3, 6].map(read)).toEqual([7n, 1n, 9n]);
  });

  test("another merge does not take the page that stays away", () => {
    const { m, page, write, read, end } = replacing();
    const other = m.call(0, { call: "try_to_merge_two_pages", addr: page(5), other: page(1) }).ret;
    write(6, 9n);
    expect(end()).toBe(0);
    expect([1, 3, 5, 6].map(read)).toEqual([1n, 1n, 1n, 9n]);
    expect(other).toBe(0); // page 1 is read-only and clean already: nobody asks who holds it
  });

  test("and gives them back: a merged page that nobody maps any more is freed", () => {
    const { m, write, end } = replacing();
    expect(end()).toBe(0);
    const before = m.mm.frames.allocated;
    write(1, 7n);
    write(3, 8n); // two copies for one page
    expect(m.mm.frames.allocated).toBe(before + 1);
  });
});
