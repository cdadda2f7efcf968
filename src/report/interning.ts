/** Tables of what repeats: a value's number is where it was first seen. */

export class Interned<T> {
  readonly list: T[] = [];
  private readonly numbers = new Map<string, number>();

  constructor(private readonly key: (value: T) => string) {}

  of(value: T): number {
    const key = this.key(value);
    let n = this.numbers.get(key);
    if (n === undefined) {
      n = this.list.length;
      this.list.push(value);
      this.numbers.set(key, n);
    }
    return n;
  }
}

export const internedTexts = (): Interned<string> => new Interned((s) => s);
/** Rows that are equal field by field are the same row. */
export const internedRows = <R>(): Interned<R> => new Interned((r) => JSON.stringify(r));
