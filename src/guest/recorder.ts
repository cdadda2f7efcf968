/**
 * Listens to a machine while a script runs: keeps the events that expectations ask for, and those
 * that the trace shows, as numbers; builds objects only when somebody reads them.
 */
import { eventCatalogue, findEvent, RECORD_WORDS, type EventBus, type EventRecord } from "../sim/events.js";
import { StepEvents } from "../trace/stepevents.js";
import { shown, telling, type Detail } from "../trace/story.js";
import { BudgetError } from "./diagnostics.js";

/** Events of one step that a trace keeps; the rest is counted. */
const TRACED_PER_STEP = 10_000;
/** Events between two groups of expectations that are kept for them. */
const KEPT_PER_WINDOW = 4_000_000;

/** Words of kvm_guest_fault and of memory_abort. */
const FAULT_WORDS = 7;
const ABORT_WORDS = 5;

const ASKED = 1;
const TRACED = 2;

/** Sequence numbers of `unkept` that are remembered at least: far more than anybody rolls back. */
const REMEMBERED = 1 << 17;

export class Recorder {
  private data = new Float64Array(4096 * RECORD_WORDS);
  private length = 0;
  /** Per event: ASKED, TRACED. */
  private readonly wanted: Uint8Array;
  /** Records of the window, by event. */
  private readonly held: Int32Array;
  /** Traced records of the present step: where they start, how many there were. */
  private stepStart = 0;
  private stepTraced = 0;
  /** How many of them are kept. */
  private stepKept = 0;
  /** Sequence numbers of the last ones that are not, so that a rollback can take them back too. */
  private unkept: number[] = [];
  private detach: () => void;
  private readonly dsbEvent: number;
  private readonly faultEvent: number;
  private readonly abortEvent: number;
  /** Guest faults so far. */
  faults = 0;
  /** Per agent: the words of its last fault, and how often it came in a row. */
  private readonly lastFault: Repeated[] = [];
  /** The same of aborts: those that the guest takes itself, and external ones, are no fault of KVM's trace point. */
  private readonly lastAbort: Repeated[] = [];

  /**
   * @param asked events that expectations count
   * @param onEvent gets every event that `detail` shows as it comes
   */
  constructor(
    private readonly bus: EventBus,
    asked: ReadonlySet<string>,
    private readonly detail: Detail,
    private readonly onEvent?: (e: EventRecord) => void,
  ) {
    const catalogue = eventCatalogue();
    this.wanted = new Uint8Array(catalogue.length);
    this.held = new Int32Array(catalogue.length);
    for (const e of catalogue) this.wanted[e.id] = (asked.has(e.name) ? ASKED : 0) | (shown(e.name, detail) ? TRACED : 0);
    this.dsbEvent = findEvent("dsb")?.id ?? -1;
    this.faultEvent = findEvent("kvm_guest_fault")?.id ?? -1;
    this.abortEvent = findEvent("memory_abort")?.id ?? -1;
    this.detach = bus.stream((ring, from, to) => this.take(ring, from, to));
  }

  private take(ring: Float64Array, from: number, to: number): void {
    this.takeBack(ring[from * RECORD_WORDS]!);
    // All are copied at once, and those that are kept move together.
    this.room(to - from);
    this.data.set(ring.subarray(from * RECORD_WORDS, to * RECORD_WORDS), this.length * RECORD_WORDS);
    const { data, wanted, held, dsbEvent, faultEvent, abortEvent } = this;
    const end = (this.length + to - from) * RECORD_WORDS;
    for (let at = this.length * RECORD_WORDS; at < end; at += RECORD_WORDS) {
      const id = data[at + 3]!;
      if (id === faultEvent) {
        if (repeated(this.lastFault, data, at, FAULT_WORDS)) this.faults++;
      } else if (id === abortEvent) repeated(this.lastAbort, data, at, ABORT_WORDS);
      const want = wanted[id]!;
      if (want === 0) continue;
      const idle = id === dsbEvent && this.isIdle(data, at);
      if (idle && (want & ASKED) === 0) continue;
      if ((want & TRACED) !== 0 && !idle) {
        this.stepTraced++;
        if (this.onEvent !== undefined) this.onEvent(this.bus.decode(data, at));
        if ((want & ASKED) === 0 && this.stepKept >= TRACED_PER_STEP) {
          this.unkept.push(data[at]!);
          if (this.unkept.length > 2 * REMEMBERED) this.unkept = this.unkept.slice(-REMEMBERED);
          continue;
        }
        this.stepKept++;
      }
      held[id]!++;
      const place = this.length++ * RECORD_WORDS;
      if (place < at) data.copyWithin(place, at, at + RECORD_WORDS);
    }
    if (this.length > KEPT_PER_WINDOW) throw new BudgetError(`more than ${KEPT_PER_WINDOW} events between two expectations`, "");
  }

  /**
   * A machine that was rolled back says the same sequence numbers again: what it said first is void. The ring itself is
   * cut back with the machine: only its first record may come again.
   */
  private takeBack(seq: number): void {
    while (this.length > 0 && this.data[(this.length - 1) * RECORD_WORDS]! >= seq) this.drop();
    while (this.unkept.length > 0 && this.unkept[this.unkept.length - 1]! >= seq) {
      this.unkept.pop();
      this.stepTraced--;
    }
  }

  /** Takes back the last record kept. */
  private drop(): void {
    const at = --this.length * RECORD_WORDS;
    const id = this.data[at + 3]!;
    this.held[id]!--;
    if ((this.wanted[id]! & TRACED) === 0 || (id === this.dsbEvent && this.isIdle(this.data, at))) return;
    this.stepKept--;
    this.stepTraced--;
  }

  /** A DSB that completed no TLBI says nothing; a thousand of them would push the rest out of the trace. */
  private isIdle(dsb: Float64Array, at: number): boolean {
    return dsb[at + 5] === 0 && this.detail !== "all";
  }

  /** How often in a row an agent's last fault came: same PC, syndrome and address. */
  sameFault(agent: number): number {
    return this.lastFault[agent]?.times ?? 0;
  }

  /** How often in a row an agent's guest had the same abort: same syndrome and address, no kvm_guest_fault in between. */
  sameAbort(agent: number): number {
    const abort = this.lastAbort[agent];
    return abort === undefined || abort.seq < (this.lastFault[agent]?.seq ?? -1) ? 0 : abort.times;
  }

  /** Makes room for n more records. */
  private room(n: number): void {
    const words = (this.length + n) * RECORD_WORDS;
    if (words <= this.data.length) return;
    const grown = new Float64Array(Math.max(words, this.data.length * 2));
    grown.set(this.data.subarray(0, this.length * RECORD_WORDS));
    this.data = grown;
  }

  /** The traced events since the last call, and how many of them were not kept. */
  step(): { events: StepEvents; dropped: number } {
    this.bus.flush();
    const { data, wanted } = this;
    const end = this.length * RECORD_WORDS;
    const words = new Float64Array(Math.min(this.length - this.stepStart, TRACED_PER_STEP) * RECORD_WORDS);
    let filled = 0;
    // Runs of traced records are copied whole: what is only asked for is rare between them.
    for (let at = this.stepStart * RECORD_WORDS, run = at; run < end && filled < words.length; at += RECORD_WORDS) {
      if (at < end && (wanted[data[at + 3]!]! & TRACED) !== 0) continue;
      const part = data.subarray(run, Math.min(at, run + words.length - filled));
      words.set(part, filled);
      filled += part.length;
      run = at + RECORD_WORDS;
    }
    const kept = filled / RECORD_WORDS;
    const dropped = Math.max(0, this.stepTraced - kept);
    this.stepStart = this.length;
    this.stepTraced = 0;
    this.stepKept = 0;
    this.unkept = [];
    return { events: new StepEvents(this.bus, words.subarray(0, filled)), dropped };
  }

  /** Starts a new window: forgets what the last one held. */
  window(): void {
    this.bus.flush();
    this.length = 0;
    this.held.fill(0);
    this.stepStart = 0;
    this.stepTraced = 0;
    this.stepKept = 0;
    this.unkept = [];
  }

  /** Calls `visit` for every event of that name in the window. */
  each(name: string, visit: (e: EventRecord) => void): void {
    this.bus.flush();
    const id = findEvent(name)?.id;
    if (id === undefined || this.held[id] === 0) return;
    for (let n = 0; n < this.length; n++) if (this.data[n * RECORD_WORDS + 3] === id) visit(this.bus.decode(this.data, n * RECORD_WORDS));
  }

  /** How many events of that name the window holds. */
  count(name: string): number {
    this.bus.flush();
    const id = findEvent(name)?.id;
    return id === undefined ? 0 : this.held[id]!;
  }

  /** The last events of the window that tell its story: what led here. */
  last(n: number): EventRecord[] {
    this.bus.flush();
    const out: EventRecord[] = [];
    for (let i = this.length - 1; i >= 0 && out.length < n; i--) {
      const [e] = telling([this.bus.decode(this.data, i * RECORD_WORDS)], this.detail);
      if (e !== undefined) out.unshift(e);
    }
    return out;
  }

  stop(): void {
    this.detach();
  }

  /** Listens again after `stop`. */
  resume(): void {
    this.detach();
    this.detach = this.bus.stream((ring, from, to) => this.take(ring, from, to));
  }
}

/** The last event of a kind that an agent had: its number and words, and how often it came in a row. */
interface Repeated {
  seq: number;
  words: number[];
  times: number;
}

/** Notes a record in the list of its agents. @returns false for one that was said again after a rollback: counted already */
function repeated(list: Repeated[], ring: Float64Array, at: number, words: number): boolean {
  const last = (list[ring[at + 2]!] ??= { seq: -1, words: [], times: 0 });
  if (ring[at]! <= last.seq) return false;
  last.seq = ring[at]!;
  let same = true;
  for (let i = 0; i < words; i++) {
    if (last.words[i] !== ring[at + 4 + i]) same = false;
    last.words[i] = ring[at + 4 + i]!;
  }
  last.times = same ? last.times + 1 : 1;
  return true;
}
