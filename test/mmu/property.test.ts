/** Random sequences of faults, unmaps, forks and protections against a model that knows only pages and bytes. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MADV_COLLAPSE, MADV_DONTNEED, MADV_HUGEPAGE, MADV_MERGEABLE } from "../../src/mmu/madvise.js";
import { HOST_SIGSEGV } from "../../src/mmu/useraccess.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { Bench } from "./faultbench.js";

const AT = 0x20000000;
const PAGES = 1536; // three 2 MiB blocks
const SIZE = PAGES * 4096;
const RW = PROT_READ | PROT_WRITE;

type Step =
  | { op: "write"; page: number; value: number; child: boolean }
  | { op: "read"; page: number; child: boolean }
  | { op: "munmap" | "remap" | "dontneed" | "ro" | "rw"; page: number; pages: number }
  | { op: "fork" }
  | { op: "exit" }
  | { op: "collapse" | "migrate" | "reclaim" | "splitpage"; page: number }
  | { op: "merge"; page: number; other: number };

const page = fc.oneof(fc.integer({ min: 0, max: PAGES - 1 }), fc.constantFrom(0, 1, 511, 512, 513, 1023, 1024));
const pages = fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(512, 600, PAGES));
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant("write" as const), page, value: fc.integer({ min: 1, max: 0x7fffffff }), child: fc.boolean() }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant("read" as const), page, child: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constantFrom("munmap" as const, "remap" as const, "dontneed" as const, "ro" as const, "rw" as const),
      page,
      pages,
    }),
  },
  { weight: 1, arbitrary: fc.constant({ op: "fork" as const }) },
  { weight: 1, arbitrary: fc.constant({ op: "exit" as const }) },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constantFrom("collapse" as const, "migrate" as const, "reclaim" as const, "splitpage" as const), page }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("merge" as const), page, other: page }) },
);

/** One address space as the model sees it: per page absent (no VMA), or protection and contents. */
class Model {
  readonly pages: ({ writable: boolean; value: number } | undefined)[] = Array.from({ length: PAGES }, () => ({
    writable: true,
    value: 0,
  }));
  copy(): Model {
    const m = new Model();
    this.pages.forEach((p, i) => (m.pages[i] = p === undefined ? undefined : { ...p }));
    return m;
  }
}

function check(era: string, thp: boolean, steps: readonly Step[]): void {
  const b = new Bench(era, { thp: thp ? "always" : "never" });
  const idle = b.mm.frames.allocated;
  b.map(AT, SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
  if (thp) b.run(b.mm.syscalls.madvise, 0, AT, SIZE, MADV_HUGEPAGE);
  const violations = b.events("break_before_make_violation");
  const models: (Model | undefined)[] = [new Model(), undefined];
  const mms = [0, -1];
  const access = (who: number, p: number, write: boolean, value: number): void => {
    const m = models[who];
    if (m === undefined) return;
    const known = m.pages[p];
    const r = b.run(b.mm.hostAccess, mms[who]!, AT + p * 4096 + 16, 4, write ? 1 : 0, value, 0);
    if (known === undefined || (write && !known.writable)) expect(r).toBe(HOST_SIGSEGV);
    else {
      expect(r).toBe(0);
      if (write) known.value = value;
      else expect(b.result(1)).toBe(known.value);
    }
  };
  for (const s of steps) {
    switch (s.op) {
      case "write":
        access(s.child ? 1 : 0, s.page, true, s.value);
        break;
      case "read":
        access(s.child ? 1 : 0, s.page, false, 0);
        break;
      case "fork":
        if (mms[1] !== -1) break;
        mms[1] = b.run(b.mm.syscalls.fork, 0);
        models[1] = models[0]!.copy();
        break;
      case "exit":
        if (mms[1] === -1) break;
        b.run(b.mm.syscalls.exitMm, mms[1]!);
        mms[1] = -1;
        models[1] = undefined;
        break;
      case "collapse":
        b.run(b.mm.syscalls.madvise, 0, AT + Math.floor(s.page / 512) * 0x200000, 0x200000, MADV_COLLAPSE);
        break;
      case "migrate":
        b.run(b.mm.migrate.migratePage, 0, AT + s.page * 4096);
        break;
      case "reclaim":
        b.run(b.mm.reclaim.reclaimPage, 0, AT + s.page * 4096, 1);
        break;
      case "splitpage":
        b.run(b.mm.huge.splitHugePage, 0, AT + s.page * 4096);
        break;
      case "merge":
        b.run(b.mm.syscalls.madvise, 0, AT, SIZE, MADV_MERGEABLE);
        b.run(b.mm.ksm.mergeTwo, 0, AT + s.page * 4096, AT + s.other * 4096);
        break;
      default: {
        const n = Math.min(s.pages, PAGES - s.page);
        const at = AT + s.page * 4096;
        const all = models[0]!.pages.slice(s.page, s.page + n);
        const whole = all.every((p) => p !== undefined);
        if (s.op === "munmap") {
          expect(b.run(b.mm.syscalls.munmap, 0, at, n * 4096)).toBe(0);
          models[0]!.pages.fill(undefined, s.page, s.page + n);
        } else if (s.op === "remap") {
          expect(b.map(at, n * 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)).toBe(at);
          for (let i = 0; i < n; i++) models[0]!.pages[s.page + i] = { writable: true, value: 0 };
        } else if (s.op === "dontneed") {
          const r = b.run(b.mm.syscalls.madvise, 0, at, n * 4096, MADV_DONTNEED);
          expect(r).toBe(whole ? 0 : -12);
          for (const p of all) if (p !== undefined) p.value = 0;
        } else if (whole) {
          expect(b.run(b.mm.syscalls.mprotect, 0, at, n * 4096, s.op === "ro" ? PROT_READ : RW)).toBe(0);
          for (const p of all) p!.writable = s.op === "rw";
        }
      }
    }
  }
  for (const who of [0, 1]) for (let p = 0; p < PAGES; p += 7) access(who, p, false, 0);
  // Ranges that were announced are closed, nothing needed a break that did not get one, nothing leaked.
  expect(violations).toEqual([]);
  const told = b.told();
  expect(told.filter((n) => n.startsWith("S")).length).toBe(told.filter((n) => n.startsWith("E")).length);
  if (mms[1] !== -1) b.run(b.mm.syscalls.exitMm, mms[1]!);
  b.run(b.mm.syscalls.munmap, 0, AT, SIZE);
  expect(b.leaves()).toEqual([]);
  const zero = b.mm.frames.hugeZeroPfn() >= 0 ? 512 : 0;
  expect(b.mm.frames.allocated).toBe(idle + zero);
}

describe("random histories of an address space agree with a model of pages", () => {
  for (const [era, thp] of [
    ["v4.0", true],
    ["v5.4", false],
    ["v5.4", true],
    ["v5.14", true],
    ["v6.1", true],
    ["v6.12", true],
    ["v6.18.2", true],
  ] as const) {
    it(`${era}, transparent huge pages ${thp ? "always" : "never"}`, () => {
      fc.assert(
        fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), (steps) => check(era, thp, steps)),
        { numRuns: 40, seed: 42 },
      );
    });
  }
});
