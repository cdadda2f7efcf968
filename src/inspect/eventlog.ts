/**
 * The events of a run as numbers, packed: a few words each, decoded when somebody asks for one. Of a run with more
 * than two million events the last ones are kept.
 */
import { eventCatalogue, findEvent, RECORD_WORDS, type EventBus, type EventRecord } from "../sim/events.js";

/** Events of a chunk, and chunks that are kept: of a longer run the last ones. About 70 bytes an event. */
const CHUNK = 1 << 16;
const MOST_CHUNKS = 32;
/** Words of a record before its fields: sequence number, time, agent, event. */
const HEAD = 4;

interface Chunk {
  words: Float64Array;
  used: number;
  /** Per event: where its words begin. */
  readonly starts: Int32Array;
}

export class EventLog {
  /** The number of the first event that was emitted. */
  private readonly base: number;
  /** The chunks that are kept; before them `dropped` others. */
  private readonly chunks: Chunk[] = [];
  private dropped = 0;
  private count = 0;
  private readonly scratch = new Float64Array(RECORD_WORDS);
  private readonly detach: () => void;

  constructor(private readonly bus: EventBus) {
    this.base = bus.seq;
    const sizes = eventCatalogue().map((e) => HEAD + e.words);
    this.detach = bus.stream((ring, from, to) => {
      for (let n = from; n < to; n++) this.keep(ring, n * RECORD_WORDS, sizes[ring[n * RECORD_WORDS + 3]!]!);
    });
  }

  private keep(ring: Float64Array, at: number, size: number): void {
    const n = this.count % CHUNK;
    if (n === 0) this.addChunk();
    const chunk = this.chunks[this.chunks.length - 1]!;
    if (chunk.used + size > chunk.words.length) {
      const grown = new Float64Array(chunk.words.length * 2);
      grown.set(chunk.words);
      chunk.words = grown;
    }
    chunk.starts[n] = chunk.used;
    for (let i = 0; i < size; i++) chunk.words[chunk.used + i] = ring[at + i]!;
    chunk.used += size;
    this.count++;
  }

  private addChunk(): void {
    if (this.chunks.length === MOST_CHUNKS) {
      this.chunks.shift();
      this.dropped++;
    }
    this.chunks.push({ words: new Float64Array(1 << 12), used: 0, starts: new Int32Array(CHUNK) });
  }

  private chunkOf(seq: number): Chunk {
    return this.chunks[Math.floor((seq - this.base) / CHUNK) - this.dropped]!;
  }
  /** The number of the first event that is kept. */
  get first(): number {
    return this.base + this.dropped * CHUNK;
  }

  stop(): void {
    this.detach();
  }

  /** The number of the last event; `first - 1` if there is none. */
  get last(): number {
    return this.base + this.count - 1;
  }
  has(seq: number): boolean {
    return Number.isInteger(seq) && seq >= this.first && seq <= this.last;
  }

  /** @throws RangeError for an event that is not kept */
  at(seq: number): EventRecord {
    this.copy(seq, this.scratch);
    return this.bus.decode(this.scratch, 0);
  }
  /** An event as the bus's ring has it: RECORD_WORDS numbers. @throws RangeError for an event that is not kept */
  copy(seq: number, into: Float64Array): void {
    if (!this.has(seq)) throw new RangeError(`no event ${seq}`);
    const chunk = this.chunkOf(seq);
    const from = chunk.starts[(seq - this.base) % CHUNK]!;
    into.fill(0);
    for (let i = 0; i < RECORD_WORDS && from + i < chunk.used; i++) into[i] = chunk.words[from + i]!;
  }
  /** The event's number in the catalogue: cheaper than the record. */
  kind(seq: number): number {
    return this.word(seq, 3);
  }
  /** The agent's number. */
  agent(seq: number): number {
    return this.word(seq, 2);
  }
  private word(seq: number, n: number): number {
    const chunk = this.chunkOf(seq);
    return chunk.words[chunk.starts[(seq - this.base) % CHUNK]! + n]!;
  }

  /** The first event from `from` on (or, backwards, up to it) that one of these names has and `test` likes; -1 if none. @param until the last one asked */
  find(
    names: readonly string[] | undefined,
    from: number,
    direction: 1 | -1,
    test: (e: EventRecord) => boolean = () => true,
    until = direction * Infinity,
  ): number {
    const ids = names === undefined ? undefined : new Set(names.map((n) => findEvent(n)?.id));
    for (let seq = from; this.has(seq) && (until - seq) * direction >= 0; seq += direction)
      if ((ids === undefined || ids.has(this.kind(seq))) && test(this.at(seq))) return seq;
    return -1;
  }
}
