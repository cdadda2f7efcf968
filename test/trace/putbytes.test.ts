import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encode } from "../../src/trace/bytebuffer.js";
import { copyWords, COPY_SLACK, DECIMAL_BYTES, HEX_BYTES, hexLength, putDecimal, putDigits, putHex } from "../../src/trace/putbytes.js";

const view = new DataView(new ArrayBuffer(64));
const START = 3;
const written = (end: number): string => Buffer.from(view.buffer).toString("latin1", START, end);
const whole = fc.oneof(
  fc.maxSafeInteger(),
  fc.integer({ min: -0x1_0000_0000, max: 0x2_0000_0000 }),
  fc.integer({ min: 0, max: 15 }).map((n) => 10 ** n),
  fc.integer({ min: 1, max: 15 }).map((n) => 10 ** n - 1),
);

describe("bytes written at a place", () => {
  it("a whole number is its decimal text, and fits into DECIMAL_BYTES", () => {
    fc.assert(
      fc.property(whole, (v) => {
        const end = putDecimal(view, START, v);
        expect(written(end)).toBe(String(v));
        expect(end - START).toBeLessThanOrEqual(DECIMAL_BYTES);
      }),
    );
  });

  it("the last digits of a number have leading zeros", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 10 }), (v, count) => {
        const all = String(v).padStart(10, "0");
        expect(written(putDigits(view, START, v, count))).toBe(all.slice(10 - count));
      }),
    );
  });

  it("64 bits are their hexadecimal text with at least so many digits, of the length that hexLength tells", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.integer({ min: 0, max: 64 }),
        fc.integer({ min: 1, max: 20 }),
        (v, shift, least) => {
          const bits = v >> BigInt(shift);
          const [hi, lo] = [Number(bits >> 32n) | 0, Number(bits & 0xffff_ffffn) | 0];
          const text = bits.toString(16);
          expect(hexLength(hi, lo)).toBe(text.length);
          expect(text.length).toBeLessThanOrEqual(HEX_BYTES);
          expect(written(putHex(view, START, hi, lo, least))).toBe(text.padStart(least, "0"));
        },
      ),
    );
  });

  it("copied words are the text, and nothing farther than COPY_SLACK behind it changes", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 10 }), (s) => {
        const text = encode(s);
        for (let i = 0; i < view.byteLength; i++) view.setUint8(i, 0xee);
        const end = copyWords(view, START, text.words, 0, text.length);
        expect(Buffer.from(view.buffer).toString("utf8", START, end)).toBe(s);
        for (let i = end + COPY_SLACK; i < view.byteLength; i++) expect(view.getUint8(i)).toBe(0xee);
      }),
    );
  });
});
