/**
 * What a run touched: which event followed which in which kind of step, with its small fields, and which decisions were asked.
 * Each is a bit of a map of 2^16, as in AFL. And a hash over all events: two runs of one program must give the same.
 */
import { eventCatalogue, RECORD_WORDS, type EventBus } from "../sim/events.js";

export const FEATURES = 1 << 16;
/** What takes a double's high word down: a multiplication is exact for a power of two, and cheaper. */
const HIGH = 2 ** -32;

/** Words of a record that hold an enum, a boolean or an errno: few values, each worth knowing. */
function smallWords(): readonly (readonly number[])[] {
  return eventCatalogue().map((e) => {
    const out: number[] = [];
    let w = 4;
    for (const f of e.fields) {
      if (f.kind === "enum" || f.kind === "bool" || f.name === "ret" || f.name === "errno" || f.name === "size" || f.name === "level")
        out.push(w);
      w += f.kind === "hex64" ? 2 : 1;
    }
    return out;
  });
}

export class Coverage {
  private readonly small = smallWords();
  private readonly words = eventCatalogue().map((e) => e.words);
  private readonly seen = new Uint8Array(FEATURES);
  private readonly list: number[] = [];
  private step = 0;
  private previous = 0;
  private hash = 0;
  /** Events that must never be, by number: the first one that came. */
  private forbidden = -1;
  private readonly never: ReadonlySet<number>;

  constructor(never: readonly string[]) {
    this.never = new Set(eventCatalogue().flatMap((e) => (never.includes(e.name) ? [e.id] : [])));
  }

  /** Listens to a machine's bus. Call the result to stop. */
  listen(bus: EventBus): () => void {
    return bus.stream((ring, from, to) => this.take(ring, from, to));
  }

  clear(): void {
    for (const f of this.list) this.seen[f] = 0;
    this.list.length = 0;
    this.hash = 0;
    this.previous = 0;
    this.forbidden = -1;
  }

  /** The events that follow belong to a step of this kind. */
  begin(kind: number): void {
    this.step = kind;
    this.previous = 0;
  }

  touch(feature: number): void {
    const f = feature & (FEATURES - 1);
    if (this.seen[f] !== 0) return;
    this.seen[f] = 1;
    this.list.push(f);
  }

  private take(ring: Float64Array, from: number, to: number): void {
    let { hash } = this;
    for (let n = from; n < to; n++) {
      const at = n * RECORD_WORDS;
      const id = ring[at + 3]!;
      const words = this.words[id]!;
      hash = Math.imul(hash ^ id, 0x9e3779b1);
      for (let w = at + 4; w < at + 4 + words; w++) {
        const v = ring[w]!;
        hash = Math.imul(hash ^ (v | 0) ^ Math.floor(v * HIGH), 0x85ebca6b);
        hash ^= hash >>> 15;
      }
      this.touch(Math.imul(this.previous * 131 + id, 0x9e3779b1) >>> 13);
      let mixed = Math.imul(this.step * 257 + id + 1, 0x2c1b3c6d);
      for (const w of this.small[id]!) mixed = Math.imul(mixed ^ (ring[at + w]! | 0), 0x85ebca6b) ^ (mixed >>> 11);
      this.touch(mixed >>> 9);
      this.previous = id + 1;
      if (this.never.has(id) && this.forbidden < 0) this.forbidden = id;
    }
    this.hash = hash;
  }

  get features(): readonly number[] {
    return this.list;
  }
  get trace(): number {
    return this.hash >>> 0;
  }
  /** Name of the first event that must never be, or undefined. */
  get broken(): string | undefined {
    return this.forbidden < 0 ? undefined : eventCatalogue()[this.forbidden]!.name;
  }
}
