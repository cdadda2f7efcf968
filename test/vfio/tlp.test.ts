/** Memory write requests: how the bytes of a line become TLPs, and which request may pass which. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mayPass, memoryWrites, type MemoryWrite, type TlpClass } from "../../src/vfio/tlp.js";

/** Bytes that a request writes, from its DW and byte enables alone. */
function bytesOf(w: MemoryWrite): number[] {
  const out: number[] = [];
  for (let dw = 0; dw < w.dwords; dw++) {
    const be = dw === 0 ? w.firstBe : dw === w.dwords - 1 ? w.lastBe : 15;
    for (let b = 0; b < 4; b++) if ((be >> b) & 1) out.push(w.first + 4 * dw + b);
  }
  return out;
}

const shape = (lo: number, hi: number, mps = 128) =>
  memoryWrites(lo, hi, mps).map((w) => [w.first, w.dwords, w.firstBe.toString(16), w.lastBe.toString(16)].join(" "));

describe("memory writes of a line", () => {
  it("are one request for a full line, and one for each store of 8 bytes", () => {
    expect(shape(-1, -1)).toEqual(["0 16 f f"]);
    expect(shape(0xff, 0)).toEqual(["0 2 f f"]);
    expect(shape(0xf0, 0)).toEqual(["4 1 f 0"]);
  });
  it("have holes only within an aligned quadword", () => {
    expect(shape(0b1001, 0)).toEqual(["0 1 9 0"]);
    expect(shape(0x81, 0)).toEqual(["0 2 1 8"]);
    expect(shape(0x101, 0)).toEqual(["0 1 1 0", "8 1 1 0"]);
    expect(shape(0xff0ff, 0)).toEqual(["0 2 f f", "12 2 f f"]);
  });
  it("respect Max_Payload_Size", () => {
    expect(shape(-1, -1, 32)).toEqual(["0 8 f f", "32 8 f f"]);
  });
  it("write every byte of the mask once and no other, each request within the rules of byte enables", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer(), fc.constantFrom(16, 32, 64, 128), (lo, hi, mps) => {
        const wanted = Array.from({ length: 64 }, (_, b) => b).filter((b) => (((b < 32 ? lo : hi) >>> (b & 31)) & 1) !== 0);
        const writes = memoryWrites(lo, hi, mps);
        expect(writes.flatMap(bytesOf)).toEqual(wanted);
        for (const w of writes) {
          expect(4 * w.dwords).toBeLessThanOrEqual(mps);
          expect(w.firstBe).not.toBe(0);
          if (w.dwords === 1) expect(w.lastBe).toBe(0);
          else expect(w.lastBe).not.toBe(0);
          const free = w.dwords === 1 || (w.dwords === 2 && w.first % 8 === 0);
          if (!free) expect([[15, 14, 12, 8].includes(w.firstBe), [15, 7, 3, 1].includes(w.lastBe)]).toEqual([true, true]);
        }
      }),
    );
  });
});

it("the ordering table: may the row pass the column", () => {
  const classes: TlpClass[] = [0, 1, 2, 3];
  const table = (relaxed: boolean) => classes.map((row) => classes.map((column) => mayPass(row, column, relaxed)));
  expect(table(false)).toEqual([
    ["no", "yes", "yes", "may"],
    ["no", "may", "may", "may"],
    ["no", "may", "may", "may"],
    ["no", "yes", "yes", "may"],
  ]);
  expect(table(true).map((r) => r[0])).toEqual(["may", "no", "may", "may"]);
});
