/** The host's own entries in its CPUs' TLBs: Tlbs.dropVaRange leaves out runs in which the host has translated nothing. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { Machine } from "../../src/machine.js";

const PAGE = 4096;
/** Two mappings, far from each other; each of three blocks of 2 MiB. */
const PAGES = 3 * 512;
const PROT_RW = 3;
const ANONYMOUS = 0x22;
const ANONYMOUS_FIXED = 0x32;
const MADV_HUGEPAGE = 14;
const MADV_NOHUGEPAGE = 15;

const where = fc.record({ mapping: fc.nat(1), page: fc.nat(PAGES - 1) });
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant("store" as const), at: where }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("replace" as const), at: where, pages: fc.integer({ min: 1, max: 700 }) }) },
);

it("a load of the VMM after munmap of few or many pages meets no stale entry, whatever it has touched before", () => {
  fc.assert(
    fc.property(fc.boolean(), fc.array(step, { minLength: 1, maxLength: 12 }), (huge, steps) => {
      const machine = new Machine({ kernel: "v6.12" });
      let stale = 0;
      machine.on("stale_translation", () => stale++);
      const map = (): number => {
        const at = machine.host.mmap({ length: PAGES * PAGE, prot: PROT_RW, flags: ANONYMOUS, align: 0x200000 });
        machine.host.madvise(at, PAGES * PAGE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        return at;
      };
      const low = map();
      machine.host.mmap({ length: 2 ** 31, prot: 0, flags: ANONYMOUS });
      const bases = [low, map()];
      const values = new Map<number, bigint>();
      let next = 1n;
      for (const s of steps) {
        const base = bases[s.at.mapping]!;
        const at = base + s.at.page * PAGE;
        if (s.op === "store") {
          values.set(at, next);
          expect(machine.host.write(at, 8, next++).ret).toBe(0);
          continue;
        }
        const length = Math.min(s.pages, PAGES - s.at.page) * PAGE;
        expect(machine.host.munmap(at, length)).toBe(0);
        expect(machine.host.mmap({ addr: at, length, prot: PROT_RW, flags: ANONYMOUS_FIXED })).toBe(at);
        for (const a of values.keys()) if (a >= at && a < at + length) values.set(a, 0n);
      }
      for (const [at, value] of values) expect(machine.host.read(at, 8)).toMatchObject({ ret: 0, value });
      expect(stale).toBe(0);
    }),
    { numRuns: 60 },
  );
});
