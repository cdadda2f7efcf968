/** KSM and transparent huge pages: who is told of the split, in which order, and what refuses it. */
import { describe, expect, it } from "vitest";
import { MADV_DONTNEED, MADV_HUGEPAGE, MADV_HWPOISON, MADV_MERGEABLE } from "../../src/mmu/madvise.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { EAGAIN, EBUSY, EFAULT, EHWPOISON } from "../../src/sim/errno.js";
import { Bench } from "./faultbench.js";

const AT = 0x10000000;
const BLOCK = 0x200000;
const PAGE = 4096;
const RW = PROT_READ | PROT_WRITE;
const ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
/** Page 3 of the first huge page holds what page 5 of the second does. */
const FIRST = AT + 3 * PAGE;
const SECOND = AT + BLOCK + 5 * PAGE;

/** Two huge pages that may be merged. */
function huge(era: string): Bench {
  const b = new Bench(era);
  b.map(AT, 2 * BLOCK, RW, ANON);
  for (const advice of [MADV_HUGEPAGE, MADV_MERGEABLE]) expect(b.run(b.mm.syscalls.madvise, 0, AT, 2 * BLOCK, advice)).toBe(0);
  // Since v6.12 a split leaves no page of zeroes.
  for (let at = AT; at < AT + 2 * BLOCK; at += PAGE) b.write(at, 7);
  for (const at of [FIRST, SECOND]) b.write(at, 9);
  expect(b.leaves().map((l) => l.slice(-3))).toEqual(["2 w", "2 w"]);
  return b;
}

/** What is announced from now on, and in which address space. */
function listen(b: Bench): string[] {
  const order: string[] = [];
  const hex = (n: unknown) => (n as number).toString(16);
  for (const [name, letter] of [
    ["mmu_notifier_invalidate_range_start", "S"],
    ["mmu_notifier_invalidate_range_end", "E"],
  ] as const)
    b.sim.bus.on(name, (e) => order.push(`${e["mm"]} ${letter} ${hex(e["start"])}-${hex(e["end"])}`));
  b.sim.bus.on("mmu_notifier_change_pte", (e) => order.push(`${e["mm"]} P ${hex(e["address"])}`));
  return order;
}
const range = (mm: number, start: number, size: number, between: readonly string[] = []): string[] => {
  const text = `${start.toString(16)}-${(start + size).toString(16)}`;
  return [`${mm} S ${text}`, ...between, `${mm} E ${text}`];
};
const split = (mm: number, start: number): string[] => [...range(mm, start, BLOCK), ...range(mm, start, BLOCK)];
/** An entry that changes: with change_pte until v6.9. */
const entry = (era: string, addr: number): string[] => range(0, addr, PAGE, era === "v6.12" ? [] : [`0 P ${addr.toString(16)}`]);

const merge = (b: Bench, first = FIRST, second = SECOND): number => b.run(b.mm.ksm.mergeTwo, 0, first, second, 0);
const pfn = (b: Bench, addr: number, mm = 0): number => (b.mm.pt.walk(mm, addr) ? b.mm.pt.leafPfn : -1);
const counts = (b: Bench, page: number): number[] => [b.mm.frames.refcount(page), b.mm.frames.mapcount(page)];

describe("KSM merges pages of huge pages", () => {
  for (const era of ["v5.4", "v5.14", "v6.12"]) {
    it(`each huge page is split in every process before its page is protected: ${era}`, () => {
      const b = huge(era);
      const child = b.run(b.mm.syscalls.fork, 0);
      const [head, gone] = [pfn(b, AT), pfn(b, AT + BLOCK)];
      const before = b.mm.frames.allocated;
      const order = listen(b);
      expect(merge(b)).toBe(0);
      // What fork has left read-only is clean, or nobody is told of the page itself: the ranges alone.
      expect(order).toEqual([
        ...[0, child].flatMap((mm) => split(mm, AT)),
        ...range(0, FIRST, PAGE),
        ...[0, child].flatMap((mm) => split(mm, AT + BLOCK)),
        ...range(0, SECOND, PAGE),
        ...entry(era, SECOND),
      ]);
      expect(pfn(b, SECOND)).toBe(head + 3);
      expect(pfn(b, SECOND, child)).toBe(gone + 5);
      expect([counts(b, head + 3), counts(b, gone + 5), counts(b, head), counts(b, gone + 511)]).toEqual([
        [3, 3],
        [1, 1],
        [2, 2],
        [2, 2],
      ]);
      expect([head, head + 3, gone + 5].map((p) => b.mm.frames.isKsm(p))).toEqual([false, true, false]);
      expect([b.mm.frames.isThp(head), b.mm.frames.isThp(gone), b.mm.frames.allocated]).toEqual([false, false, before]);
      for (const [mm, a] of [
        [0, FIRST],
        [0, SECOND],
        [child, FIRST],
        [child, SECOND],
      ] as const) {
        b.run(b.mm.hostAccess, mm, a, 8, 0, 0, 0);
        expect(b.result(1)).toBe(9);
      }
    });

    it(`one process alone: ${era}`, () => {
      const b = huge(era);
      const gone = pfn(b, AT + BLOCK);
      const before = b.mm.frames.allocated;
      const order = listen(b);
      expect(merge(b)).toBe(0);
      expect(order).toEqual([...split(0, AT), ...entry(era, FIRST), ...split(0, AT + BLOCK), ...entry(era, SECOND), ...entry(era, SECOND)]);
      expect(b.mm.frames.allocated).toBe(before - 1);
      expect(pfn(b, SECOND - PAGE)).toBe(gone + 4);
    });

    it(`two pages of one huge page: the second's reference refuses the split, which comes when it is given back: ${era}`, () => {
      const b = huge(era);
      const other = FIRST + PAGE;
      b.write(other, 9);
      const head = pfn(b, AT);
      const order = listen(b);
      expect(merge(b, FIRST, other)).toBe(-EAGAIN);
      expect(order.splice(0)).toEqual(split(0, AT));
      expect([counts(b, head + 3), counts(b, head + 4), pfn(b, other)]).toEqual([[1, 1], [1, 1], head + 4]);
      // The next round merges them.
      expect(merge(b, FIRST, other)).toBe(0);
      expect(order).toEqual([...entry(era, FIRST), ...entry(era, other), ...entry(era, other)]);
      expect(pfn(b, other)).toBe(head + 3);
    });

    it(`somebody holds a page of the huge page, or its lock: nothing is announced: ${era}`, () => {
      const b = huge(era);
      const held = b.mm.gup.gupFast(0, AT + 100 * PAGE, false);
      const order = listen(b);
      expect(merge(b)).toBe(-EAGAIN);
      expect(b.run(b.mm.huge.splitHugePage, 0, AT)).toBe(-EBUSY);
      b.mm.frames.put(held);
      const other = b.sim.agents.add("other", "kthread", 0);
      b.sim.agents.start(other, b.mm.huge.splitHugePage, 0, AT);
      b.sim.agents.step(other);
      order.length = 0;
      expect(merge(b)).toBe(-EAGAIN);
      expect(order).toEqual([]);
      expect(b.sim.agents.runToEnd(other)).toBe(true);
      expect(merge(b)).toBe(0);
    });

    it(`the second huge page cannot be split: the first page is the process's own again: ${era}`, () => {
      const b = huge(era);
      const head = pfn(b, AT);
      const held = b.mm.gup.gupFast(0, AT + BLOCK, false);
      const order = listen(b);
      expect(merge(b)).toBe(-EAGAIN);
      // The last one is break_cow.
      expect(order).toEqual([...split(0, AT), ...entry(era, FIRST), ...entry(era, FIRST)]);
      expect([b.mm.frames.isKsm(pfn(b, FIRST)), b.mm.frames.isThp(head), b.mm.frames.isThp(held)]).toEqual([false, false, true]);
      b.mm.frames.put(held);
      expect(merge(b)).toBe(0);
    });
  }

  /** ksmd, until `there`. */
  const ksmd = (b: Bench, there: () => boolean): number => {
    const agent = b.sim.agents.add("ksmd", "kthread", 0);
    b.sim.agents.start(agent, b.mm.ksm.mergeTwo, 0, FIRST, SECOND, 0);
    while (!there()) expect(b.sim.agents.step(agent)).toBe(true);
    return agent;
  };

  it("who takes a reference between the two announcements of the split keeps the huge page as it is, in every process", () => {
    for (const era of ["v5.4", "v6.12"]) {
      const b = huge(era);
      const child = b.run(b.mm.syscalls.fork, 0);
      const head = pfn(b, AT);
      const order = listen(b);
      const agent = ksmd(b, () => order.length === 5); // the child's first S
      expect([pfn(b, AT), b.mm.gup.gupFast(0, AT, false)]).toEqual([-1, -1]); // migration entries
      const held = b.mm.gup.gupFast(child, AT + 7 * PAGE, false);
      expect(held).toBe(head + 7);
      expect(b.sim.agents.runToEnd(agent)).toBe(true);
      expect(b.sim.agents.result(agent)).toBe(-EAGAIN);
      expect(order).toEqual([0, child].flatMap((mm) => split(mm, AT)));
      for (const mm of [0, child]) for (let i = 0; i < 512; i++) expect(pfn(b, AT + i * PAGE, mm)).toBe(head + i);
      expect([b.mm.frames.isThp(head), ...counts(b, head)]).toEqual([true, 1025, 1024]);
      b.mm.frames.put(held);
      expect(merge(b)).toBe(0);
    }
  });

  it("the lock of the huge page becomes that of the page which is merged", () => {
    for (const era of ["v5.4", "v6.12"]) {
      const b = huge(era);
      const order = listen(b);
      const head = pfn(b, AT);
      const agent = ksmd(b, () => !b.mm.frames.isThp(head));
      expect(b.run(b.mm.migrate.migratePage, 0, FIRST)).toBe(-EAGAIN);
      while (order.length < 5) b.sim.agents.step(agent); // until write_protect_page has begun
      expect(order.slice(4)).toEqual([`0 S ${FIRST.toString(16)}-${(FIRST + PAGE).toString(16)}`]);
      expect([FIRST, AT].map((a) => b.run(b.mm.migrate.migratePage, 0, a))).toEqual([-EAGAIN, 0]);
      expect(b.sim.agents.runToEnd(agent)).toBe(true);
      expect([b.sim.agents.result(agent), b.run(b.mm.migrate.migratePage, 0, FIRST)]).toEqual([0, 0]);
    }
  });

  it("a huge page whose page is mapped by the child alone is split there", () => {
    const b = huge("v6.12");
    const child = b.run(b.mm.syscalls.fork, 0);
    expect(b.run(b.mm.syscalls.madvise, 0, AT, BLOCK, MADV_DONTNEED)).toBe(0);
    b.write(FIRST, 9); // a huge page of its own
    const order = listen(b);
    expect(b.run(b.mm.ksm.mergeTwo, 0, FIRST, FIRST, child)).toBe(0);
    expect(order.filter((n) => n.startsWith(`${child} `))).toEqual([
      ...split(child, AT),
      ...range(child, FIRST, PAGE),
      ...range(child, FIRST, PAGE),
    ]);
    expect(pfn(b, FIRST, child)).toBe(pfn(b, FIRST));
  });

  it("the huge zero page is no candidate", () => {
    const b = new Bench("v6.12");
    b.map(AT, 2 * BLOCK, RW, ANON);
    for (const advice of [MADV_HUGEPAGE, MADV_MERGEABLE]) b.run(b.mm.syscalls.madvise, 0, AT, 2 * BLOCK, advice);
    b.write(FIRST, 0);
    b.read(AT + BLOCK);
    expect(merge(b)).toBe(-EFAULT);
  });
});

describe("decisions", () => {
  it("singlePageReclaim: the split is announced once, or for the entry and again for its pages", () => {
    const told = (era: string) => {
      const b = huge(era);
      const order = listen(b);
      return [b.run(b.mm.huge.splitHugePage, 0, AT), order];
    };
    expect([told("v4.0"), told("v4.10"), told("v4.20")]).toEqual([
      [0, range(0, AT, BLOCK)],
      [0, range(0, AT, BLOCK)],
      [0, split(0, AT)],
    ]);
  });

  it("thpSplit: two pages of one huge page are merged at once, or not", () => {
    const merged = (era: string) => {
      const b = huge(era);
      b.write(FIRST + PAGE, 9);
      const head = pfn(b, AT);
      const order = listen(b);
      return [merge(b, FIRST, FIRST + PAGE), order.slice(0, 2), b.mm.frames.isThp(head), pfn(b, FIRST + PAGE) - head];
    };
    expect([merged("v4.0"), merged("v4.10")]).toEqual([
      [0, range(0, AT, BLOCK), false, 3],
      [-EAGAIN, [], true, 4],
    ]);
  });

  it("ksmSameHugePage: two pages of one huge page stay so for ever, or only until the next round", () => {
    const rounds = (era: string) => {
      const b = huge(era);
      b.write(FIRST + PAGE, 9);
      return [1, 2].map(() => merge(b, FIRST, FIRST + PAGE));
    };
    expect([rounds("v4.10"), rounds("v4.20")]).toEqual([
      [-EAGAIN, -EAGAIN],
      [-EAGAIN, 0],
    ]);
  });

  it("a page of a huge page that somebody else holds is marked as broken and stays mapped, once, also where the huge page is split for another one", () => {
    const b = huge("v6.12");
    const held = b.mm.gup.gupFast(0, AT + PAGE, false);
    const page = pfn(b, AT);
    const poison = (at: number) => b.run(b.mm.syscalls.madvise, 0, at, PAGE, MADV_HWPOISON);
    expect([poison(AT), pfn(b, AT), b.mm.frames.isHwpoison(page), b.mm.frames.isHwpoison(page + 1)]).toEqual([
      -EHWPOISON,
      page,
      true,
      false,
    ]);
    b.mm.frames.put(held);
    expect([poison(AT), poison(AT + PAGE), pfn(b, AT), pfn(b, AT + PAGE)]).toEqual([-EHWPOISON, 0, page, -1]);
    expect([0, 1, 2].map((i) => b.mm.frames.isHwpoison(page + i))).toEqual([true, true, false]);
  });
});
