/** Every event of a run as numbers, packed: a few words each, decoded when somebody asks for one. */
import { BudgetError } from "../guest/diagnostics.js";
import { eventCatalogue, findEvent, RECORD_WORDS, type EventBus, type EventRecord } from "../sim/events.js";

/** Events that are kept; about 60 bytes each. */
export const MOST_EVENTS = 4_000_000;
/** Words of a record before its fields: sequence number, time, agent, event. */
const HEAD = 4;

export class EventLog {
  /** The number of the first event. */
  readonly first: number;
  private words = new Float64Array(1 << 14);
  private used = 0;
  /** Per event: where its words begin. */
  private starts = new Int32Array(1 << 11);
  private count = 0;
  private readonly scratch = new Float64Array(RECORD_WORDS);
  private readonly detach: () => void;

  constructor(private readonly bus: EventBus) {
    this.first = bus.seq;
    const sizes = eventCatalogue().map((e) => HEAD + e.words);
    this.detach = bus.stream((ring, from, to) => {
      for (let n = from; n < to; n++) this.keep(ring, n * RECORD_WORDS, sizes[ring[n * RECORD_WORDS + 3]!]!);
    });
  }

  private keep(ring: Float64Array, at: number, size: number): void {
    if (this.count === MOST_EVENTS) throw new BudgetError(`the run has more than ${MOST_EVENTS} events, too many to look back on`, "");
    if (this.used + size > this.words.length) {
      const grown = new Float64Array(this.words.length * 2);
      grown.set(this.words);
      this.words = grown;
    }
    if (this.count === this.starts.length) {
      const grown = new Int32Array(this.starts.length * 2);
      grown.set(this.starts);
      this.starts = grown;
    }
    this.starts[this.count++] = this.used;
    for (let i = 0; i < size; i++) this.words[this.used + i] = ring[at + i]!;
    this.used += size;
  }

  stop(): void {
    this.detach();
  }

  /** The number of the last event; `first - 1` if there is none. */
  get last(): number {
    return this.first + this.count - 1;
  }
  has(seq: number): boolean {
    return Number.isInteger(seq) && seq >= this.first && seq <= this.last;
  }

  /** @throws RangeError for an event that the run does not have */
  at(seq: number): EventRecord {
    this.copy(seq, this.scratch);
    return this.bus.decode(this.scratch, 0);
  }
  /** An event as the bus's ring has it: RECORD_WORDS numbers. @throws RangeError for an event that the run does not have */
  copy(seq: number, into: Float64Array): void {
    if (!this.has(seq)) throw new RangeError(`no event ${seq}`);
    const from = this.starts[seq - this.first]!;
    into.fill(0);
    for (let i = 0; i < RECORD_WORDS && from + i < this.used; i++) into[i] = this.words[from + i]!;
  }
  /** The event's number in the catalogue: cheaper than the record. */
  kind(seq: number): number {
    return this.words[this.starts[seq - this.first]! + 3]!;
  }
  /** The agent's number. */
  agent(seq: number): number {
    return this.words[this.starts[seq - this.first]! + 2]!;
  }

  /** The first event from `from` on (or, backwards, up to it) that one of these names has and `test` likes; -1 if none. */
  find(names: readonly string[] | undefined, from: number, direction: 1 | -1, test: (e: EventRecord) => boolean = () => true): number {
    const ids = names === undefined ? undefined : new Set(names.map((n) => findEvent(n)?.id));
    for (let seq = from; this.has(seq); seq += direction)
      if ((ids === undefined || ids.has(this.kind(seq))) && test(this.at(seq))) return seq;
    return -1;
  }
}
