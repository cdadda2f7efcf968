/** Numbers that a seed decides: sfc32, small and fast, the same everywhere. */
interface Weights {
  readonly keys: readonly string[];
  readonly weights: readonly number[];
  readonly sum: number;
}
const known = new WeakMap<object, Weights>();
function addedUp(weights: Readonly<Record<string, number>>): Weights {
  return { keys: Object.keys(weights), weights: Object.values(weights), sum: Object.values(weights).reduce((n, w) => n + w, 0) };
}

export class Rng {
  private a: number;
  private b: number;
  private c: number;
  private d = 1;

  /** @param seeds whole numbers; each of them matters */
  constructor(...seeds: readonly number[]) {
    [this.a, this.b, this.c] = [0x9e3779b9, 0x243f6a88, 0xb7e15162];
    for (const s of seeds) {
      this.a ^= s >>> 0;
      this.b ^= Math.floor(s / 4294967296) >>> 0;
      for (let i = 0; i < 12; i++) this.word();
    }
  }

  /** 32 bits. */
  word(): number {
    const t = (((this.a + this.b) | 0) + this.d) | 0;
    this.d = (this.d + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (this.c << 21) | (this.c >>> 11);
    this.c = (this.c + t) | 0;
    return t >>> 0;
  }
  /** 0 to n - 1. */
  below(n: number): number {
    return Math.floor((this.word() / 4294967296) * n);
  }
  /** True once in n times. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
  /** One of the keys, as often as its weight says. @param weights constant: they are added up once */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K {
    let w = known.get(weights);
    if (w === undefined) known.set(weights, (w = addedUp(weights)));
    let at = this.below(w.sum);
    for (let i = 0; i < w.keys.length; i++) if ((at -= w.weights[i]!) < 0) return w.keys[i] as K;
    return w.keys[0] as K;
  }
}
