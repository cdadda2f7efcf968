/** A page in a CPU's batch for the LRU lists has a reference more: from v5.10 to v5.15 do_wp_page copies it, later only what was shared once and may not be in a batch. */
import { describe, expect, it } from "vitest";
import { FRAME_LAZYFREE } from "../../src/mmu/frames.js";
import {
  MADV_COLD,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_HUGEPAGE,
  MADV_HWPOISON,
  MADV_PAGEOUT,
  MADV_POPULATE_WRITE,
  MADV_WILLNEED,
} from "../../src/mmu/madvise.js";
import { ANON, BASE, FIXED, MIB, RW, TestHost } from "./host.js";

const PAGE = 0x1000;
const PROT_READ = 1;
const ELSEWHERE = BASE + 0x4000_0000;
/** PAGEVEC_SIZE. */
const BATCH = 15;

/** A process that has written the first of its pages; `between`; then the page is protected and written again. */
function copies(era: string, between: (h: TestHost) => void = () => undefined): boolean {
  const h = new TestHost(era, {}, { thp: "madvise" });
  h.mmap(BASE, 64 * PAGE);
  h.mmap(ELSEWHERE, 4 * MIB);
  h.write(BASE, 1);
  between(h);
  h.mprotect(BASE, PAGE, PROT_READ);
  h.mprotect(BASE, PAGE, RW);
  const { pt } = h.mm;
  pt.walk(0, BASE);
  const before = pt.leafPfn;
  h.quiet();
  expect(h.write(BASE, 2)).toBe(0);
  pt.walk(0, BASE);
  expect(h.ranges).toEqual(pt.leafPfn === before ? [] : ["S CLEAR 0x0-0x1000", "E CLEAR 0x0-0x1000"]);
  return pt.leafPfn !== before;
}
const pfnOf = (h: TestHost): number => (h.mm.pt.walk(0, BASE), h.mm.pt.leafPfn);

/** Is the page at BASE copied by this write? */
function copiesNow(h: TestHost): boolean {
  h.mm.pt.walk(0, BASE);
  const before = h.mm.pt.leafPfn;
  expect(h.write(BASE, 2)).toBe(0);
  h.mm.pt.walk(0, BASE);
  return h.mm.pt.leafPfn !== before;
}
const write = (pages: number) => (h: TestHost) => {
  for (let i = 1; i <= pages; i++) h.write(BASE + i * PAGE, 1);
};

describe("a page that was written a moment ago, protected, and written again", () => {
  it.each(["v5.10", "v5.11", "v5.12", "v5.14", "v5.15"])("%s: is copied", (era) => expect(copies(era)).toBe(true));
  it.each(["v4.0", "v5.4", "v5.8", "v6.1", "v6.6", "v6.12"])("%s: is kept", (era) => expect(copies(era)).toBe(false));
});

describe("v5.10: what empties the batch, so that the page is kept", () => {
  it("the fifteenth page, not the fourteenth", () => {
    expect(copies("v5.10", write(BATCH - 2))).toBe(true);
    expect(copies("v5.10", write(BATCH - 1))).toBe(false);
  });
  it("a huge page", () => {
    const huge = (h: TestHost) => {
      h.madvise(ELSEWHERE, 4 * MIB, MADV_HUGEPAGE);
      h.write(ELSEWHERE, 1);
    };
    expect(copies("v5.10", huge)).toBe(false);
  });
  it("a munmap, also by MAP_FIXED, and MADV_DONTNEED and MADV_COLD, whatever they are of", () => {
    expect(copies("v5.10", (h) => h.munmap(ELSEWHERE, PAGE))).toBe(false);
    expect(copies("v5.10", (h) => h.mmap(ELSEWHERE, PAGE, { flags: ANON | FIXED }))).toBe(false);
    expect(copies("v5.10", (h) => h.madvise(ELSEWHERE, PAGE, MADV_DONTNEED))).toBe(false);
    expect(copies("v5.10", (h) => h.madvise(ELSEWHERE, PAGE, MADV_COLD))).toBe(false);
  });
  it("MADV_FREE of another page; its own page goes into a batch of those to be freed first", () => {
    expect(copies("v5.10", (h) => h.madvise(ELSEWHERE, PAGE, MADV_FREE))).toBe(false);
    expect(copies("v5.10", (h) => h.madvise(BASE, PAGE, MADV_FREE))).toBe(true);
  });
  it("not mprotect, not a read of zeroes, not a mmap where nothing was", () => {
    const others = (h: TestHost) => {
      h.mprotect(ELSEWHERE, PAGE, PROT_READ);
      h.read(ELSEWHERE);
      h.mmap(ELSEWHERE + 64 * MIB, PAGE);
    };
    expect(copies("v5.10", others)).toBe(true);
  });
});

describe("v5.10 to v5.15: a page on its list that is accessed", () => {
  const onList = (h: TestHost) => void h.madvise(ELSEWHERE, PAGE, MADV_DONTNEED);
  /** A lookup of KVM: GUP, then kvm_set_pfn_accessed and kvm_release_pfn_clean. */
  const access = (h: TestHost, lockless = true) => {
    const { frames, gup } = h.mm;
    const pfn = lockless ? gup.gupFast(0, BASE, true) : h.run(gup.getUserPagesUnlocked, 0, BASE, 0);
    expect(pfn).toBeGreaterThan(0);
    frames.accessed?.markPageAccessed(pfn);
    frames.put(pfn);
  };
  const then =
    (...steps: readonly ((h: TestHost) => void)[]) =>
    (h: TestHost) =>
      steps.forEach((s) => s(h));
  const slow = (h: TestHost) => access(h, false);

  it.each(["v5.10", "v5.15"])("%s: is on its way to the active list, and copied", (era) => {
    expect(copies(era, then(onList, access))).toBe(true);
    expect(copies(era, then(onList, slow))).toBe(true);
  });
  it.each(["v5.8", "v6.1", "v6.12.117"])("%s: is kept", (era) => expect(copies(era, then(onList, access))).toBe(false));
  it("goes there at its second access only, and once", () => {
    const once = (h: TestHost) => void h.mm.frames.accessed?.markPageAccessed(pfnOf(h));
    expect(copies("v5.10", then(onList, once))).toBe(false);
    expect(copies("v5.10", then(onList, once, once))).toBe(true);
    expect(copies("v5.10", then(onList, once, once, onList, once, once))).toBe(false);
  });
  it("becomes active in its batch of fresh pages if it is still there", () => {
    const again = then(onList, access, access);
    expect(copies("v5.10", then(access, again))).toBe(false);
  });
  it("is forgotten with the page: the next one in its frame starts anew", () => {
    const free = (h: TestHost) => {
      const pfn = pfnOf(h);
      h.madvise(BASE, PAGE, MADV_DONTNEED);
      h.write(BASE, 1);
      expect(pfnOf(h)).toBe(pfn);
    };
    expect(copies("v5.10", then(onList, access, onList, free, onList, access))).toBe(true);
  });
  it("is copied after MADV_COLD, which takes it off the active list; MADV_COLD of any other page does nothing", () => {
    const cold = (h: TestHost) => void h.madvise(BASE, PAGE, MADV_COLD);
    expect(copies("v5.10", then(onList, access, onList, cold))).toBe(true);
    expect(copies("v5.10", then(onList, cold))).toBe(false);
    expect(copies("v5.10", then(onList, access, onList, cold, onList, cold))).toBe(false);
  });
  it("is copied after MADV_PAGEOUT without swap, which puts it back among the fresh ones", () => {
    expect(
      copies(
        "v5.10",
        then(onList, (h) => h.madvise(BASE, PAGE, MADV_PAGEOUT)),
      ),
    ).toBe(true);
  });
});

describe("v5.12 to v5.14: a page that move_pages has given", () => {
  const moved = (h: TestHost) => void expect(h.run(h.mm.migrate.migratePage, 0, BASE)).toBe(0);
  it("is in a batch, and copied", () => expect(copies("v5.12", moved)).toBe(true));
  it("is on its list, and kept", () => expect(copies("v5.14", moved)).toBe(false));
});

/** Pages that a child had, which has ended; then MADV_FREE of them, or another advice. */
function freed(era: string, pages = 1, cpus = 1, advice = MADV_FREE): TestHost {
  const h = new TestHost(era, {}, { cpus });
  h.mmap(BASE, 64 * PAGE);
  h.mmap(ELSEWHERE, 64 * PAGE);
  for (let i = 0; i < pages; i++) h.write(BASE + i * PAGE, 1);
  h.run(h.mm.syscalls.exitMm, h.fork());
  expect(h.madvise(BASE, pages * PAGE, advice)).toBe(0);
  return h;
}

describe("a page that a child had, after MADV_FREE", () => {
  it.each(["v5.10", "v5.15", "v6.1", "v6.4", "v6.6", "v6.8", "v6.9", "v6.12.117", "v6.17", "v6.18.2", "v7.2.12", "v7.3.4"])(
    "%s: is copied by a write: the batch has a reference to it, and it is on a list still",
    (era) => expect(copiesNow(freed(era))).toBe(true),
  );
  it.each(["v6.12", "v6.13"])("%s: is kept: it is on no list, so that the batch is emptied first", (era) =>
    expect(copiesNow(freed(era))).toBe(false),
  );
  it.each(["v4.10", "v4.20", "v5.8"])("%s: is kept: mappings count, not references", (era) => expect(copiesNow(freed(era))).toBe(false));

  it("is kept if no child had it", () => {
    const h = new TestHost("v6.12.117");
    h.mmap(BASE, PAGE);
    h.write(BASE, 1);
    h.madvise(BASE, PAGE, MADV_FREE);
    expect(copiesNow(h)).toBe(false);
  });
  it("v6.13: is copied where another CPU's batch has it: only its own is emptied", () => {
    const h = freed("v6.13", 1, 2);
    h.sim.agents.moveTo(0, 1);
    expect(copiesNow(h)).toBe(true);
  });
  it.each([
    ["v6.8", 15],
    ["v6.9", 31],
  ] as const)("%s: is kept if it is one of %i: they fill the batch", (era, batch) => {
    expect(copiesNow(freed(era, batch - 1))).toBe(true);
    expect(copiesNow(freed(era, batch))).toBe(false);
  });
  it("is kept after a second MADV_FREE: that empties the batch, and does not take a page that is to be freed first already", () => {
    const h = freed("v6.12.117");
    h.madvise(BASE, PAGE, MADV_FREE);
    expect(h.mm.frames.lru?.held()).toEqual([]);
    expect(copiesNow(h)).toBe(false);
  });
  it("is kept after MADV_WILLNEED, MADV_POPULATE_WRITE and MADV_COLLAPSE of other memory", () => {
    for (const advice of [MADV_WILLNEED, MADV_POPULATE_WRITE]) {
      const h = freed("v6.17");
      expect(h.madvise(ELSEWHERE, PAGE, advice)).toBe(0);
      expect(copiesNow(h)).toBe(false);
    }
  });
  it("is kept after munmap, MADV_DONTNEED and the end of a process up to v6.13, copied all the same since", () => {
    const unmaps: readonly ((h: TestHost) => void)[] = [
      (h) => h.munmap(ELSEWHERE, PAGE),
      (h) => h.madvise(ELSEWHERE, PAGE, MADV_DONTNEED),
      (h) => h.run(h.mm.syscalls.exitMm, h.fork()),
    ];
    for (const [era, copied] of [
      ["v6.12.117", false],
      ["v6.17", true],
    ] as const) {
      for (const unmap of unmaps) {
        const h = freed(era);
        unmap(h);
        expect(copiesNow(h)).toBe(copied);
      }
    }
  });
  /** A write to a fresh page, which is not on a list yet, and which a child has too or has had. */
  const afterFresh = (era: string, shared: boolean) => {
    const h = freed(era);
    h.write(ELSEWHERE, 1);
    const child = h.fork();
    if (!shared) h.run(h.mm.syscalls.exitMm, child);
    h.write(ELSEWHERE, 2);
    if (shared) h.run(h.mm.syscalls.exitMm, child);
    return copiesNow(h);
  };
  it("is kept after a write to a page that is not on a list yet: that one has the batches emptied", () => {
    for (const era of ["v6.17", "v7.2.12"]) expect(afterFresh(era, true), era).toBe(false);
  });
  it("v7.3: is kept after it only if the batch alone stood in the way of keeping that page", () => {
    expect([afterFresh("v7.3.4", true), afterFresh("v7.3.4", false)]).toEqual([true, false]);
  });
  it("is kept after MADV_HWPOISON of the zero page, which empties the batches; since v7.3 it is refused before that", () => {
    const poisoned = (era: string) => {
      const h = freed(era);
      h.read(ELSEWHERE);
      expect(h.madvise(ELSEWHERE, PAGE, MADV_HWPOISON)).toBe(-16);
      return copiesNow(h);
    };
    expect([poisoned("v6.17"), poisoned("v7.2.12"), poisoned("v7.3.4")]).toEqual([false, false, true]);
  });
  it("is free once nobody maps it, and out of the batch: the next page in its frame has none of it", () => {
    const h = freed("v6.17", 3);
    const pfn = pfnOf(h);
    h.munmap(BASE, PAGE);
    expect([h.mm.frames.refcount(pfn), h.mm.frames.lru?.held().length, h.mm.frames.lru?.held().includes(pfn)]).toEqual([0, 2, false]);
  });
});

describe("a page that a child had, after MADV_COLD", () => {
  const cold = (era: string) => copiesNow(freed(era, 1, 1, MADV_COLD));
  it.each(["v6.12.117", "v7.2.12", "v7.3.4"])("%s: is copied: with generations every page goes to the oldest one", (era) =>
    expect(cold(era)).toBe(true),
  );
  it.each(["v6.1.192", "v6.6", "v6.12", "v6.17"])("%s: is kept: it was not on the active list", (era) => expect(cold(era)).toBe(false));
  it("is left alone while the child has it", () => {
    const h = new TestHost("v6.12.117");
    h.mmap(BASE, PAGE);
    h.write(BASE, 1);
    h.fork();
    h.madvise(BASE, PAGE, MADV_COLD);
    expect(h.mm.frames.lru?.held()).toEqual([]);
  });
});

describe("MADV_FREE", () => {
  it("leaves a dirty page alone that a child still has", () => {
    const h = new TestHost("v6.12.117");
    h.mmap(BASE, PAGE);
    h.write(BASE, 1);
    h.mm.pt.walk(0, BASE);
    const pfn = h.mm.pt.leafPfn;
    h.mm.frames.setDirty(pfn);
    const child = h.fork();
    h.madvise(BASE, PAGE, MADV_FREE);
    expect([h.mm.frames.isDirty(pfn), h.mm.frames.lru?.held()]).toEqual([true, []]);
    h.run(h.mm.syscalls.exitMm, child);
    h.madvise(BASE, PAGE, MADV_FREE);
    expect([h.mm.frames.isDirty(pfn), h.mm.frames.lru?.held()]).toEqual([false, [pfn]]);
  });
  it("leaves a whole huge page alone that a child still has; one that is only here empties the batch at once", () => {
    const h = new TestHost("v6.12.117", {}, { thp: "always" });
    h.mmap(BASE, 2 * MIB);
    h.write(BASE, 1);
    const child = h.fork();
    h.madvise(BASE, 2 * MIB, MADV_FREE);
    h.mm.pt.walk(0, BASE);
    expect([h.mm.pt.leafLevel, h.mm.pt.young]).toEqual([2, true]);
    h.run(h.mm.syscalls.exitMm, child);
    h.madvise(BASE, 2 * MIB, MADV_FREE);
    h.mm.pt.walk(0, BASE);
    expect([h.mm.pt.young, h.mm.frames.lru?.held()]).toEqual([false, []]);
  });
  it("marks a page once its batch is emptied (PageSwapBacked); migration keeps the mark", () => {
    const h = freed("v6.6");
    h.mm.frames.lru?.lruAddDrain();
    h.mm.pt.walk(0, BASE);
    expect(h.mm.frames.flags(h.mm.pt.leafPfn) & FRAME_LAZYFREE).toBe(FRAME_LAZYFREE);
    h.run(h.mm.migrate.migratePage, 0, BASE);
    h.mm.pt.walk(0, BASE);
    expect(h.mm.frames.flags(h.mm.pt.leafPfn) & FRAME_LAZYFREE).toBe(FRAME_LAZYFREE);
  });
});

describe("a fresh page that a child had, in the batch of another CPU than the one that writes", () => {
  const forked = (era: string, cpus: number) => {
    const h = new TestHost(era, {}, { cpus });
    h.mmap(BASE, PAGE);
    h.write(BASE, 1);
    h.sim.agents.moveTo(0, 1);
    h.run(h.mm.syscalls.exitMm, h.fork());
    return h;
  };
  it.each(["v6.1", "v6.12", "v6.17"])("%s: is copied", (era) => expect(copiesNow(forked(era, 2))).toBe(true));
  it("is kept on the CPU that has it in its batch", () => {
    const h = forked("v6.17", 2);
    h.sim.agents.moveTo(0, 0);
    expect(copiesNow(h)).toBe(false);
  });
});
