import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MMAP_BASE } from "../../src/mmu/context.js";
import { MADV_DOFORK, MADV_DONTNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { VM_DONTEXPAND, VM_IO, VM_PFNMAP } from "../../src/mmu/vmflags.js";
import { MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_POPULATE, PROT_NONE, PROT_READ } from "../../src/mmu/vmflags.js";
import { MAX_MAP_COUNT } from "../../src/mmu/vmas.js";
import { EBUSY, EEXIST, EFAULT, EINVAL, ENOMEM } from "../../src/sim/errno.js";
import { ANON, BASE, FIXED, MIB, RW, SHARED, TestHost } from "./host.js";

const PAGE = 0x1000;

describe("mmap", () => {
  it("takes the highest free range below the stack when no address is given", () => {
    const h = new TestHost("v5.4");
    const a = h.mmap(0, 3 * PAGE, { flags: ANON, prot: PROT_READ });
    const b = h.mmap(0, PAGE, { flags: ANON });
    expect([a, b]).toEqual([MMAP_BASE - 3 * PAGE, MMAP_BASE - 4 * PAGE]);
    h.munmap(a + PAGE, PAGE);
    expect(h.mmap(0, PAGE, { flags: ANON })).toBe(a + PAGE);
    expect(h.mmap(0, 2 * PAGE, { flags: ANON })).toBe(b - 2 * PAGE);
  });

  it("takes the same place as a search page by page, whatever was mapped and unmapped", () => {
    const op = fc.record({ map: fc.boolean(), at: fc.integer({ min: 0, max: 40 }), pages: fc.integer({ min: 1, max: 6 }) });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 60 }), (ops) => {
        const h = new TestHost("v5.4");
        const used = new Set<number>();
        for (const { map, at, pages } of ops) {
          if (map) {
            let first = pages;
            while (Array.from({ length: pages }, (_, i) => used.has(first - i)).includes(true)) first++;
            expect(h.mmap(0, pages * PAGE, { flags: ANON, prot: at % 2 })).toBe(MMAP_BASE - first * PAGE);
            for (let i = 0; i < pages; i++) used.add(first - i);
          } else {
            h.munmap(MMAP_BASE - (at + pages) * PAGE, pages * PAGE);
            for (let i = 1; i <= pages; i++) used.delete(at + i);
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it("aligns large anonymous memory to 2 MiB where the release does", () => {
    const at = (era: string, len: number) => {
      const h = new TestHost(era);
      h.mmap(0, PAGE, { flags: ANON, prot: PROT_READ });
      return h.mmap(0, len, { flags: ANON }) % (2 * MIB);
    };
    expect([at("v6.4", 4 * MIB), at("v6.8", 4 * MIB), at("v6.12", 4 * MIB)].map((r) => r === 0)).toEqual([false, true, true]);
    expect([at("v6.8", 3 * MIB), at("v6.12", 3 * MIB)].map((r) => r === 0)).toEqual([true, false]);
  });

  it("takes the hint when it is free and honours a wish for alignment", () => {
    const h = new TestHost();
    expect(h.mmap(BASE, PAGE, { flags: ANON })).toBe(BASE);
    expect(h.mmap(BASE, PAGE, { flags: ANON })).not.toBe(BASE);
    expect(h.mmap(0, PAGE, { flags: ANON, align: 0x40000000 }) % 0x40000000).toBe(0);
  });

  it("over a mapping unmaps it first, with its event", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB, { prot: PROT_NONE, flags: ANON | FIXED | MAP_NORESERVE });
    h.quiet();
    h.mmap(BASE, 4 * MIB);
    expect(h.ranges).toEqual(["S UNMAP 0x0-0x400000", "E UNMAP 0x0-0x400000"]);
    expect(h.mmap(BASE, PAGE, { flags: ANON | MAP_FIXED_NOREPLACE })).toBe(-EEXIST);
    expect(h.mmap(BASE + 8 * MIB, PAGE, { flags: ANON | MAP_FIXED_NOREPLACE })).toBe(BASE + 8 * MIB);
  });

  it("joins what was cut out and mapped again, once it is alike", () => {
    const h = new TestHost();
    h.mmap(BASE, 4 * MIB);
    h.madvise(BASE, 4 * MIB, MADV_NOHUGEPAGE);
    h.write(BASE + PAGE, 1);
    h.munmap(BASE, PAGE);
    h.mmap(BASE, PAGE);
    expect(h.maps()).toEqual(["0x0-0x1000 rw", "0x1000-0x400000 rw NOHUGEPAGE"]);
    h.madvise(BASE, PAGE, MADV_NOHUGEPAGE);
    expect(h.maps()).toEqual(["0x0-0x400000 rw NOHUGEPAGE"]);
  });

  it("joins adjacent pieces of one file only where their offsets continue", () => {
    const h = new TestHost();
    const file = h.mm.files.createMemfd(MIB);
    const flags = SHARED | FIXED;
    h.mmap(BASE, PAGE, { flags, file });
    h.mmap(BASE + 2 * PAGE, PAGE, { flags, file, offset: 2 * PAGE });
    h.mmap(BASE + 3 * PAGE, PAGE, { flags, file, offset: 0x8000 });
    h.mmap(BASE + PAGE, PAGE, { flags, file, offset: PAGE });
    expect(h.maps()).toEqual(["0x0-0x3000 rws memfd+0x0", "0x3000-0x4000 rws memfd+0x8000"]);
  });

  it("populates on request", () => {
    const h = new TestHost();
    h.mmap(BASE, 2 * PAGE, { flags: ANON | FIXED | MAP_POPULATE });
    expect(h.mm.pt.walk(0, BASE + PAGE)).toBe(true);
  });

  it("stops at vm.max_map_count, where cutting a mapping fails too", () => {
    const h = new TestHost();
    for (let i = 0; i < MAX_MAP_COUNT; i++) h.mmap(BASE + 2 * i * PAGE, PAGE);
    expect(h.mm.vmas.count(0)).toBe(MAX_MAP_COUNT);
    const far = BASE + 1024 * 1024 * MIB;
    expect(h.mmap(far, 8 * PAGE)).toBe(far);
    expect(h.mmap(far + MIB, PAGE)).toBe(-ENOMEM);
    expect(h.munmap(far + PAGE, PAGE)).toBe(-ENOMEM);
    expect(h.mprotect(far, PAGE, PROT_READ)).toBe(-ENOMEM);
    expect(h.munmap(BASE, PAGE)).toBe(0);
    expect(h.munmap(BASE + 2 * PAGE, PAGE)).toBe(0);
    expect(h.munmap(far + PAGE, PAGE)).toBe(0);
  });

  it("refuses what the kernel refuses", () => {
    const h = new TestHost();
    expect(h.mmap(BASE, 0)).toBe(-EINVAL);
    expect(h.mmap(BASE + 1, PAGE)).toBe(-EINVAL);
    expect(h.mmap(BASE, PAGE, { flags: FIXED | 0x20 })).toBe(-EINVAL);
    expect(h.mmap(2 ** 48 - PAGE, 2 * PAGE)).toBe(-ENOMEM);
    expect(h.mmap(0, 2 ** 48, { flags: ANON })).toBe(-ENOMEM);
    expect(h.mmap(BASE, PAGE, { flags: SHARED | FIXED, file: h.mm.files.createMemfd(PAGE), offset: 1 })).toBe(-EINVAL);
  });
});

/** A driver whose mmap makes a PFN mapping, or fails. */
function device(h: TestHost, fails = false) {
  const { agents } = h.sim;
  const log: string[] = [];
  const note = (name: string) =>
    agents.activity(`test_${name}`, "test", 2, [
      [
        "run",
        (f) => {
          const v = agents.stack.a[f + 6]!;
          log.push(`${name} 0x${(h.mm.vmas.start(v) - BASE).toString(16)}-0x${(h.mm.vmas.end(v) - BASE).toString(16)}`);
          if (name !== "mmap") return agents.ret(f, 0);
          h.mm.vmas.setFlags(v, h.mm.vmas.flags(v) | VM_IO | VM_PFNMAP | VM_DONTEXPAND);
          return agents.ret(f, fails ? -EBUSY : 0);
        },
      ],
    ]);
  const file = h.mm.files.openDevice({ mmap: note("mmap"), fault: note("fault"), open: note("open"), close: note("close") });
  return { file, log };
}

describe("device mappings", () => {
  it("open and close their driver for each piece: the new one per release, before the split event", () => {
    const pieces = (era: string) => {
      const h = new TestHost(era);
      const { file, log } = device(h);
      h.mmap(BASE + 32 * MIB, PAGE);
      h.write(BASE + 32 * MIB, 1);
      h.mmap(BASE, 16 * MIB, { flags: SHARED | FIXED, file });
      log.length = 0;
      h.munmap(BASE + 3 * PAGE, PAGE);
      return log;
    };
    expect(pieces("v6.1")).toEqual(["open 0x3000-0x1000000", "open 0x3000-0x4000", "close 0x3000-0x4000"]);
    expect(pieces("v6.4")).toEqual(["open 0x3000-0x1000000", "open 0x4000-0x1000000", "close 0x3000-0x4000"]);
    expect(pieces("v6.8")).toEqual(["open 0x0-0x3000", "open 0x4000-0x1000000", "close 0x3000-0x4000"]);
  });

  it("never join, refuse DONTNEED, DOFORK and growth, and split their 2 MiB block like any other", () => {
    const h = new TestHost();
    const { file } = device(h);
    h.mmap(BASE, 4 * MIB, { flags: SHARED | FIXED, file });
    h.mmap(BASE + 4 * MIB, 4 * MIB, { flags: SHARED | FIXED, file, offset: 4 * MIB });
    expect(h.maps()).toHaveLength(2);
    expect(h.madvise(BASE, PAGE, MADV_DONTNEED)).toBe(-EINVAL);
    expect(h.madvise(BASE, PAGE, MADV_DOFORK)).toBe(-EINVAL);
    expect(h.mremap(BASE, 4 * MIB, 5 * MIB, 1)).toBe(-EFAULT);
    expect(h.madvise(BASE, 4 * MIB, MADV_HUGEPAGE)).toBe(0);
    h.mmap(BASE + 16 * MIB, PAGE);
    h.write(BASE + 16 * MIB, 1);
    h.quiet().munmap(BASE + PAGE, PAGE);
    expect(h.starts).toEqual(["CLEAR 0x0-0x200000", "UNMAP 0x1000-0x2000"]);
  });

  it("that fail to map leave nothing behind but the event of the undoing", () => {
    const h = new TestHost();
    const { file } = device(h, true);
    h.quiet();
    expect(h.mmap(BASE, 4 * MIB, { flags: SHARED | FIXED, file })).toBe(-EBUSY);
    expect(h.ranges).toEqual(["S UNMAP 0x0-0x400000", "E UNMAP 0x0-0x400000"]);
    expect(h.maps()).toEqual([]);
  });

  it("are zapped through the file's offsets, one event for each mapping, clipped", () => {
    const h = new TestHost();
    const { file } = device(h);
    h.mmap(BASE + 8 * MIB, 2 * MIB, { flags: SHARED | FIXED, file, offset: 2 * MIB });
    h.mmap(BASE, 4 * MIB, { flags: SHARED | FIXED, file });
    h.quiet();
    h.run(h.mm.unmapMappingRange, file, MIB, 3 * MIB, 1);
    expect(h.starts).toEqual(["CLEAR 0x100000-0x300000", "CLEAR 0x800000-0x900000"]);
    h.quiet();
    h.run(h.mm.zapVmaPtes, 0, BASE, BASE + 4 * MIB);
    expect(h.ranges).toEqual(["S CLEAR 0x0-0x400000", "E CLEAR 0x0-0x400000"]);
  });
});

describe("any sequence of mmap, munmap, mprotect, madvise and stores", () => {
  /** What each page should be: its protection, advice, and the last value stored (undefined: not mapped). */
  interface Page {
    prot: number;
    nohuge: boolean;
    value: number;
  }
  const PAGES = 1100;
  const page = fc.oneof(fc.integer({ min: 0, max: PAGES - 1 }), fc.constantFrom(0, 511, 512, 513, 1023, 1024));
  const len = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: PAGES }));
  const range = fc.record({ at: page, len });
  const op = fc.oneof(
    fc.record({ op: fc.constant("mmap" as const), prot: fc.constantFrom(PROT_NONE, PROT_READ, RW), r: range }),
    fc.record({ op: fc.constant("munmap" as const), prot: fc.constant(0), r: range }),
    fc.record({ op: fc.constant("mprotect" as const), prot: fc.constantFrom(PROT_NONE, PROT_READ, RW), r: range }),
    fc.record({ op: fc.constant("nohuge" as const), prot: fc.constant(0), r: range }),
    fc.record({ op: fc.constant("dontneed" as const), prot: fc.constant(0), r: range }),
    fc.record({ op: fc.constant("write" as const), prot: fc.integer({ min: 1, max: 1e9 }), r: range }),
  );

  function check(h: TestHost, model: (Page | undefined)[]): void {
    // The VMAs are exactly the maximal runs of alike pages.
    const runs: string[] = [];
    for (let i = 0; i < PAGES;) {
      const p = model[i];
      if (p === undefined) {
        i++;
        continue;
      }
      let j = i;
      while (j < PAGES && model[j] !== undefined && model[j]!.prot === p.prot && model[j]!.nohuge === p.nohuge) j++;
      const prot = (p.prot & 1 ? "r" : "") + (p.prot & 2 ? "w" : "");
      runs.push(`0x${(i * PAGE).toString(16)}-0x${(j * PAGE).toString(16)} ${prot === "" ? "-" : prot}${p.nohuge ? " NOHUGEPAGE" : ""}`);
      i = j;
    }
    expect(merged(h.maps())).toEqual(runs);
    for (const [i, p] of model.entries()) {
      const got = h.mm.pt.walk(0, BASE + i * PAGE);
      if (p === undefined) expect(got).toBe(false);
      else if ((p.prot & 1) !== 0 && (p.value !== 0 || i % 97 === 0)) expect(h.read(BASE + i * PAGE)).toBe(p.value);
    }
  }

  /** VMAs with pages of different anon_vmas may stay apart though they are alike: joined for the comparison. */
  function merged(maps: string[]): string[] {
    const out: string[] = [];
    for (const line of maps) {
      const [at, ...rest] = line.split(" ");
      const last = out[out.length - 1];
      const [start, end] = at!.split("-");
      if (last !== undefined) {
        const [lastAt, ...lastRest] = last.split(" ");
        if (lastAt!.split("-")[1] === start && lastRest.join(" ") === rest.join(" ")) {
          out[out.length - 1] = `${lastAt!.split("-")[0]}-${end} ${rest.join(" ")}`;
          continue;
        }
      }
      out.push(line);
    }
    return out;
  }

  for (const era of ["v4.0", "v5.4", "v6.1", "v6.12", "v6.18.2"]) {
    it(`leaves what a page-by-page model says, and pairs every start with its end (${era})`, () => {
      fc.assert(
        fc.property(fc.array(op, { minLength: 1, maxLength: 25 }), (ops) => {
          const h = new TestHost(era);
          const tables = h.mm.pt.tables.pagesUsed;
          const frames = h.mm.frames.allocated;
          const model: (Page | undefined)[] = new Array<Page | undefined>(PAGES).fill(undefined);
          for (const o of ops) {
            const end = Math.min(PAGES, o.r.at + o.r.len);
            const at = BASE + o.r.at * PAGE;
            const bytes = (end - o.r.at) * PAGE;
            const hole = model.slice(o.r.at, end).indexOf(undefined);
            const set = (to: number, change: (p: Page | undefined) => Page | undefined) => {
              for (let i = o.r.at; i < to; i++) model[i] = change(model[i]);
            };
            h.quiet();
            switch (o.op) {
              case "mmap":
                expect(h.mmap(at, bytes, { prot: o.prot })).toBe(at);
                set(end, () => ({ prot: o.prot, nohuge: false, value: 0 }));
                break;
              case "munmap":
                expect(h.munmap(at, bytes)).toBe(0);
                set(end, () => undefined);
                break;
              case "mprotect":
                expect(h.mprotect(at, bytes, o.prot)).toBe(hole < 0 ? 0 : -ENOMEM);
                set(hole < 0 ? end : o.r.at + hole, (p) => p && { ...p, prot: o.prot });
                break;
              case "nohuge":
                expect(h.madvise(at, bytes, MADV_NOHUGEPAGE)).toBe(hole < 0 ? 0 : -ENOMEM);
                set(end, (p) => p && { ...p, nohuge: true });
                break;
              case "dontneed":
                expect(h.madvise(at, bytes, MADV_DONTNEED)).toBe(hole < 0 ? 0 : -ENOMEM);
                set(end, (p) => p && { ...p, value: 0 });
                break;
              default: {
                const p = model[o.r.at];
                const ok = p !== undefined && (p.prot & 2) !== 0;
                expect(h.write(at, o.prot)).toBe(ok ? 0 : -11);
                if (ok) p.value = o.prot;
              }
            }
            const open: string[] = [];
            for (const r of h.ranges) {
              if (r.startsWith("S ")) open.push(r.slice(2));
              else expect(open.pop()).toBe(r.slice(2));
            }
            expect(open).toEqual([]);
          }
          check(h, model);
          h.munmap(BASE, PAGES * PAGE);
          const zeroPages = h.mm.frames.allocated - frames;
          expect(zeroPages === 0 || zeroPages === 512).toBe(true); // the huge zero page stays
          expect(h.mm.pt.tables.pagesUsed).toBe(tables);
        }),
        { numRuns: 60 },
      );
    });
  }
});
