/** A distribution of latencies in cycles. Virtual time gives few different values, so each is counted by itself. */
export class Distribution {
  private readonly counts = new Map<number, number>();
  /** How many there are. */
  total = 0;

  /** What `entries` gave. */
  static of(entries: readonly (readonly [number, number])[]): Distribution {
    const d = new Distribution();
    for (const [cycles, times] of entries) d.add(cycles, times);
    return d;
  }
  add(cycles: number, times = 1): void {
    if (times <= 0) return;
    this.counts.set(cycles, (this.counts.get(cycles) ?? 0) + times);
    this.total += times;
  }
  addAll(other: Distribution): void {
    for (const [cycles, times] of other.counts) this.add(cycles, times);
  }
  /** [cycles, count], ascending. */
  entries(): readonly (readonly [number, number])[] {
    return [...this.counts].sort((a, b) => a[0] - b[0]);
  }
  /** The smallest latency that this share (0 to 1) of the accesses does not exceed; 0 if there are none. */
  quantile(share: number): number {
    let left = Math.max(1, Math.ceil(share * this.total));
    let last = 0;
    for (const [cycles, times] of this.entries()) {
      last = cycles;
      left -= times;
      if (left <= 0) break;
    }
    return last;
  }
  get mean(): number {
    let sum = 0;
    for (const [cycles, times] of this.counts) sum += cycles * times;
    return this.total === 0 ? 0 : sum / this.total;
  }
}

export interface Bucket {
  /** Cycles: from inclusive, to exclusive. */
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

/** By powers of two, empty ones between left out. */
export function buckets(d: Distribution): readonly Bucket[] {
  const out: { from: number; to: number; count: number }[] = [];
  for (const [cycles, count] of d.entries()) {
    const from = cycles < 1 ? 0 : 2 ** Math.floor(Math.log2(cycles));
    const last = out.at(-1);
    if (last?.from === from) last.count += count;
    else out.push({ from, to: from === 0 ? 1 : from * 2, count });
  }
  return out;
}
