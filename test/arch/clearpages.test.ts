/** Page descriptors that are cleared at once leave what single writes of zeros leave: words, counts, hash. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { CHANGES, LINKS, TABLE_WORDS } from "../../src/arch/tables.js";
import { Machine } from "../../src/machine.js";

/** A word pair of a descriptor: nothing, invalid, valid, only its high word. */
const descriptor = fc.constantFrom([0, 0], [2, 0], [0x4000_0703, 0], [0x4000_0403, 0x40_0000], [0, 7]);

it("clearPages does what a write of zeros to each descriptor does, recorded or not", () => {
  fc.assert(
    fc.property(
      fc.array(descriptor, { minLength: 1, maxLength: 512 }),
      fc.nat(511),
      fc.nat(511),
      fc.boolean(),
      (descriptors, a, b, recording) => {
        const from = 2 * Math.min(a, b);
        const to = 2 * Math.max(a, b);
        const [one, other] = [false, true].map((atOnce) => {
          const { mm, sim } = new Machine({ kernel: "v6.12", ram: 2 ** 24 });
          const { tables } = mm.pt;
          const table = tables.word(tables.alloc());
          descriptors.forEach(([lo, hi], i) => tables.write(table + 2 * i, 3, hi!, lo!));
          if (recording) sim.state.startRecording();
          let filled = 0;
          let valid = 0;
          if (atOnce) {
            filled = tables.clearPages(table + from, table + to);
            valid = tables.clearedValid;
          } else
            for (let w = table + from; w < table + to; w += 2) {
              const lo = tables.words.a[w]!;
              if ((lo | tables.words.a[w + 1]!) !== 0) filled++;
              valid += lo & 1;
              tables.write(w, 3, 0, 0);
            }
          const words = [...tables.words.a.subarray(table, table + TABLE_WORDS)];
          return { filled, valid, words, changes: tables.changes.a[CHANGES], links: tables.changes.a[LINKS], hash: sim.state.hash() };
        });
        expect(other).toEqual(one);
      },
    ),
    { numRuns: 60 },
  );
});
