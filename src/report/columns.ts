/**
 * Columns of whole numbers as bytes: each number in as many as the largest needs, or its difference from the one before in
 * as many as the largest of those, where that is fewer; the lowest byte first. A page reads a column where it lies.
 */

/** Whole numbers, read and not changed, in an array of any kind. */
export interface Numbers extends ArrayLike<number>, Iterable<number> {
  slice(from?: number, to?: number): Numbers;
}

/** What a writer gave, from the beginning of its buffer. */
export type ColumnBytes = Uint8Array<ArrayBuffer>;

/** How a column is kept. */
const KINDS = { u8: Uint8Array, i16: Int16Array, i32: Int32Array, f64: Float64Array };
type Kind = keyof typeof KINDS;

/** Where a column lies: its first byte, a multiple of the size of its numbers; how many there are, and in what kind of array. */
export interface ColumnPlace {
  readonly at: number;
  readonly count: number;
  readonly kind: Kind;
  /** Where given: each number is the difference from the one before, the first from this. */
  readonly from?: number;
}

/** Columns begin at multiples of the largest number's size. */
const ALIGN = 8;

export class ColumnWriter {
  private readonly parts: Uint8Array[] = [];
  private size = 0;

  /** @param values whole numbers */
  add(values: Numbers): ColumnPlace {
    for (const v of values) if (!Number.isSafeInteger(v)) throw new RangeError(`${v} in a column of whole numbers`);
    const from = values[0] ?? 0;
    const steps = Array.from(values, (v, n) => v - (values[n - 1] ?? from));
    const [whole, step] = [kindOf(values), kindOf(steps)];
    const shorter = KINDS[step].BYTES_PER_ELEMENT < KINDS[whole].BYTES_PER_ELEMENT;
    const kind = shorter ? step : whole;
    const array = KINDS[kind].from(shorter ? steps : values);
    const part = new Uint8Array(Math.ceil(array.byteLength / ALIGN) * ALIGN);
    part.set(new Uint8Array(array.buffer));
    const at = this.size;
    this.parts.push(part);
    this.size += part.length;
    return { at, count: values.length, kind, ...(shorter ? { from } : {}) };
  }

  get bytes(): ColumnBytes {
    const all = new Uint8Array(this.size);
    let at = 0;
    for (const p of this.parts) {
      all.set(p, at);
      at += p.length;
    }
    return all;
  }
}

/** The smallest that holds all of them. */
function kindOf(values: Numbers): Kind {
  let [least, most] = [0, 0];
  for (const v of values) {
    least = Math.min(least, v);
    most = Math.max(most, v);
  }
  const fits = (from: number, to: number): boolean => least >= from && most <= to;
  return fits(0, 255) ? "u8" : fits(-(2 ** 15), 2 ** 15 - 1) ? "i16" : fits(-(2 ** 31), 2 ** 31 - 1) ? "i32" : "f64";
}

export function readColumn(bytes: ColumnBytes, { at, count, kind, from }: ColumnPlace): Numbers {
  const read = new KINDS[kind](bytes.buffer, at, count);
  if (from === undefined) return read;
  const sums = new Float64Array(count);
  for (let n = 0, now = from; n < count; n++) sums[n] = now += read[n]!;
  return sums;
}
