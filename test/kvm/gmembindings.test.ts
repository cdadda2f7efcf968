/** In how many entries an xarray keeps a guest_memfd's bindings: what 7.2.12 showed, and what lib/xarray.c's nodes can hold. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { entriesMet } from "../../src/kvm/gmembindings.js";

const ALL = 2 ** 51;
/** Sizes of the entries of [first, last], found by widening what is walked. */
function entries(first: number, last: number): number[] {
  const sizes: number[] = [];
  let from = first;
  for (let to = first + 1; to <= last + 1; to++) {
    if (to === last + 1 || entriesMet(first, last, first, to + 1) > entriesMet(first, last, first, to)) {
      sizes.push(to - from);
      from = to;
    }
  }
  return sizes;
}

describe("entries of a binding", () => {
  it.each([
    [0, 0, [1]],
    [16, 47, [32]],
    [0, 511, [512]],
    [0, 63, [64]],
    [0, 64, [64, 1]],
    [1, 512, [63, 448, 1]],
    [512, 1023, [512]],
    [513, 1024, [63, 448, 1]],
    [0, 4094, [4032, 63]],
    [60, 70, [4, 7]],
  ] as const)("pages %i to %i", (first, last, sizes) => {
    expect(entries(first, last)).toEqual(sizes);
    expect(entriesMet(first, last, 0, ALL)).toBe(sizes.length);
  });
  it("a walk meets those that its range touches", () => {
    // As recorded on 7.2.12: a hole of the first 2 MiB meets the first two of three.
    expect([
      entriesMet(1, 512, 0, 512),
      entriesMet(1, 512, 0, 513),
      entriesMet(1, 512, 63, 64),
      entriesMet(1, 512, 64, 65),
      entriesMet(1, 512, 0, 1),
      entriesMet(1, 512, 513, 600),
    ]).toEqual([2, 3, 1, 1, 0, 0]);
  });
  it("each lies in one node: slots of one size, beginning at a slot", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: 5000 }), (first, more) => {
        const last = first + more;
        let at = first;
        for (const size of entries(first, last)) {
          const fits = [1, 64, 4096].some((unit) => {
            const node = unit * 64;
            return at % unit === 0 && size % unit === 0 && Math.floor(at / node) === Math.floor((at + size - 1) / node);
          });
          // A whole node's worth is a slot of the node above.
          expect([at, size, fits]).toEqual([at, size, true]);
          at += size;
        }
        expect(at).toBe(last + 1);
      }),
    );
  });
});
