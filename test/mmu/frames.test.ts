import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Frames, ORDER_CONT_PTE, ORDER_PMD } from "../../src/mmu/frames.js";
import { Sim } from "../../src/sim/sim.js";

const nothing = { clearPage: () => {}, copyPage: () => {} };

function frames(pages: number, hugetlb = {}): { f: Frames; sim: Sim } {
  const sim = new Sim();
  sim.agents.add("vmm", "vmm", 0);
  return { f: new Frames(sim, nothing, { basePfn: 0x40000, frames: pages, hugetlb }), sim };
}

function words(sim: Sim): number {
  return sim.state.pools.filter((p) => p.name.startsWith("frames.")).reduce((n, p) => n + p.needed, 0);
}

describe("the page allocator", () => {
  it("never hands out a frame twice, and gives everything back in whatever order", () => {
    fc.assert(
      fc.property(fc.array(fc.record({ order: fc.constantFrom(0, 0, 0, ORDER_PMD), free: fc.nat() }), { maxLength: 400 }), (steps) => {
        const { f } = frames(2048);
        const idle = f.allocated;
        const held: { pfn: number; order: number }[] = [];
        const used = new Set<number>([f.zeroPfn]);
        for (const s of steps) {
          if (s.free % 3 === 0 && held.length > 0) {
            const [h] = held.splice(s.free % held.length, 1);
            f.put(h!.pfn);
            for (let i = 0; i < 1 << h!.order; i++) used.delete(h!.pfn + i);
            continue;
          }
          const pfn = f.alloc(s.order);
          if (pfn < 0) continue;
          expect(pfn % (1 << s.order)).toBe(0);
          for (let i = 0; i < 1 << s.order; i++) {
            expect(used.has(pfn + i)).toBe(false);
            used.add(pfn + i);
          }
          held.push({ pfn, order: s.order });
        }
        expect(f.allocated).toBe(used.size);
        for (const h of held) f.put(h.pfn);
        expect(f.allocated).toBe(idle);
      }),
      { numRuns: 100, seed: 7 },
    );
  });

  it("says -1 when memory is full, and 2 MiB come back when their last page does", () => {
    const { f } = frames(1024);
    expect(f.alloc(ORDER_PMD)).toBeGreaterThan(0);
    expect(f.alloc(ORDER_PMD)).toBe(-1);
    const held: number[] = [];
    for (let p = f.alloc(0); p >= 0; p = f.alloc(0)) held.push(p);
    expect(held.length).toBe(511);
    const g = frames(1536).f;
    const a = g.alloc(0);
    const others: number[] = [];
    for (let i = 0; i < 600; i++) others.push(g.alloc(0));
    expect(g.alloc(ORDER_PMD)).toBeGreaterThan(0);
    expect(g.alloc(ORDER_PMD)).toBe(-1);
    for (const p of others.filter((p) => Math.floor(p / 512) !== Math.floor(a / 512))) g.put(p);
    expect(g.alloc(ORDER_PMD)).toBeGreaterThan(0);
  });

  it("costs nothing where a terabyte is not touched, and 4 bytes where a page is", () => {
    const { f, sim } = frames(2 ** 28);
    expect(sim.state.bytes()).toBeLessThan(200_000);
    for (let i = 0; i < 100_000; i++) f.alloc(0);
    expect(words(sim) * 4).toBeLessThan(4.1 * 100_000 + 10_000);
  });

  it("takes 512 words for the pages of 2 MiB and 8 for the block", () => {
    const { f, sim } = frames(2 ** 17);
    // To the end of a block, past those that the pools begin with.
    for (let i = 1; i < 64 * 512; i++) f.alloc(0);
    const before = words(sim);
    for (let i = 0; i < 512; i++) expect(f.allocAnon()).toBeGreaterThan(0);
    expect(words(sim) - before).toBe(520);
  });

  it("keeps counts, dirtiness and poison at the head of a compound page", () => {
    const { f } = frames(4096);
    const thp = f.alloc(ORDER_PMD);
    f.get(thp + 100);
    f.setDirty(thp + 7);
    for (let i = 0; i < 5000; i++) f.get(thp + 9);
    for (let i = 0; i < 5000; i++) f.put(thp + 9);
    expect([f.refcount(thp), f.isDirty(thp + 400), f.isThp(thp + 511), f.head(thp + 511), f.orderOf(thp + 3)]).toEqual([
      2,
      true,
      true,
      thp,
      9,
    ]);
    f.splitCompound(thp);
    for (let i = 0; i < 512; i++) f.setCounts(thp + i, i < 2 ? 1 : 0, i < 2 ? 1 : 0);
    expect([f.refcount(thp), f.refcount(thp + 1), f.isThp(thp), f.isDirty(thp + 1)]).toEqual([1, 1, false, true]);
    f.setFlags(thp, 1 << 5);
    const before = f.allocated;
    f.dropMapping(thp);
    expect(f.allocated).toBe(before); // a broken page is never handed out again
  });

  it("a small page referenced 1023 times is never freed, as a saturated count in the kernel", () => {
    const { f } = frames(1024);
    const pfn = f.alloc(0);
    for (let i = 0; i < 2000; i++) f.addMapping(pfn);
    expect([f.refcount(pfn), f.mapcount(pfn)]).toEqual([1023, 1023]);
    for (let i = 0; i < 3000; i++) f.dropMapping(pfn);
    expect(f.refcount(pfn)).toBe(1023);
  });

  it("has hugetlb pools whose pages are aligned", () => {
    const { f } = frames(2 ** 20, { 4: 3, 9: 2, 18: 1 });
    const small = [
      f.hugetlbAlloc(ORDER_CONT_PTE),
      f.hugetlbAlloc(ORDER_CONT_PTE),
      f.hugetlbAlloc(ORDER_CONT_PTE),
      f.hugetlbAlloc(ORDER_CONT_PTE),
    ];
    expect(small.slice(0, 3).every((p) => p > 0 && p % 16 === 0)).toBe(true);
    expect(small[3]).toBe(-1);
    expect(f.hugetlbAlloc(18) % 2 ** 18).toBe(0);
    f.get(small[1]! + 1);
    f.setDirty(small[1]! + 15);
    expect([f.refcount(small[1]!), f.refcount(small[1]! + 7), f.isDirty(small[1]!), f.head(small[1]! + 15)]).toEqual([
      2,
      2,
      true,
      small[1],
    ]);
    f.put(small[1]! + 2);
    f.put(small[1]!);
    expect(f.hugetlbAlloc(ORDER_CONT_PTE)).toBe(small[1]);
  });

  it("knows RAM from what lies outside, with or without struct page", () => {
    const { f } = frames(1024);
    f.addRange({ pfn: 0x8000000, frames: 16, structPage: true, linear: false });
    expect([f.isRam(0x40000), f.pfnValid(0x8000001), f.isMapMemory(0x8000001), f.pfnValid(0x10000), f.isReserved(0x10000)]).toEqual([
      true,
      true,
      false,
      false,
      true,
    ]);
    f.get(0x10000);
    f.put(0x10000);
  });
});

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant("anon" as const), n: fc.integer({ min: 1, max: 200 }) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("alloc" as const), order: fc.constantFrom(0, 0, ORDER_PMD) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("hugetlb" as const) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("file" as const, "new" as const), page: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("map" as const), page: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("unmap" as const), page: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("put" as const), page: fc.nat(), n: fc.integer({ min: 1, max: 250 }) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("split" as const), page: fc.nat(), keep: fc.integer({ min: 1, max: 512 }) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

interface Page {
  readonly order: number;
  readonly refs: number;
  readonly maps: number;
}

/** One step on the frames and on the model: a page's first frame -> what is known of it. */
function apply(f: Frames, model: Map<number, Page>, s: Step): void {
  const fresh = (pfn: number, page: Page) => {
    if (pfn < 0) return;
    expect(model.has(pfn)).toBe(false);
    model.set(pfn, page);
  };
  if (s.op === "anon") for (let i = 0; i < s.n; i++) fresh(f.allocAnon(), { order: 0, refs: 1, maps: 1 });
  else if (s.op === "alloc") fresh(f.alloc(s.order), { order: s.order, refs: 1, maps: 0 });
  else if (s.op === "hugetlb") fresh(f.hugetlbAlloc(ORDER_CONT_PTE), { order: ORDER_CONT_PTE, refs: 1, maps: 0 });
  else if (s.op === "put") for (let i = 0; i < s.n && model.size > 0; i++) drop(f, model, [...model.keys()][(s.page + i) % model.size]!, 0);
  else if (model.size > 0) {
    const pfn = [...model.keys()][s.page % model.size]!;
    const page = model.get(pfn)!;
    if (s.op === "map") {
      f.addMapping(pfn + (1 << page.order) - 1);
      model.set(pfn, { ...page, refs: page.refs + 1, maps: page.maps + 1 });
    } else if (s.op === "unmap") drop(f, model, pfn, Math.min(1, page.maps));
    else if (s.op === "split") {
      if (page.order !== ORDER_PMD) return;
      f.splitCompound(pfn);
      model.delete(pfn);
      for (let i = 0; i < 512; i++) {
        f.setCounts(pfn + i, i < s.keep ? 1 : 0, 0);
        if (i < s.keep) model.set(pfn + i, { order: 0, refs: 1, maps: 0 });
      }
    } else {
      if (s.op === "file") f.setFile(pfn);
      else f.newAnon(pfn);
      model.set(pfn, { ...page, maps: page.maps + (s.op === "new" ? 1 : 0) });
    }
  }
}

function drop(f: Frames, model: Map<number, Page>, pfn: number, maps: number): void {
  const page = model.get(pfn)!;
  if (maps === 0) f.put(pfn);
  else f.dropMapping(pfn);
  if (page.refs === 1) {
    model.delete(pfn);
    if (page.order === 0) expect([f.refcount(pfn), f.mapcount(pfn), f.flags(pfn)]).toEqual([0, 0, 0]);
  } else model.set(pfn, { ...page, refs: page.refs - 1, maps: page.maps - maps });
}

function told(f: Frames, model: ReadonlyMap<number, Page>): Map<number, Page> {
  return new Map([...model.keys()].map((pfn) => [pfn, { order: f.orderOf(pfn), refs: f.refcount(pfn), maps: f.mapcount(pfn) }]));
}

describe("what the frames know of a page", () => {
  it("is what a plain map knows, through any history and back by the journal", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.array(step, { maxLength: 60 }), (steps, undone) => {
        const { f, sim } = frames(4096, { 4: 5 });
        const model = new Map<number, Page>();
        for (const s of steps) apply(f, model, s);
        expect(told(f, model)).toEqual(model);
        const before = sim.state.hash();
        sim.state.startRecording();
        const mark = sim.state.mark();
        const later = new Map(model);
        for (const s of undone) apply(f, later, s);
        expect(told(f, later)).toEqual(later);
        sim.state.rollback(mark);
        expect(told(f, model)).toEqual(model);
        expect(sim.state.hash()).toBe(before);
        sim.state.stopRecording();
        for (const s of undone) apply(f, model, s);
        expect(told(f, model)).toEqual(later);
        for (const [pfn, p] of model) for (let i = 0; i < p.refs; i++) f.put(pfn);
        expect(f.allocated).toBe(1); // the zero page
      }),
      { numRuns: 150, seed: 11 },
    );
  });
});
