/**
 * Events: each declared once, with its fields and units. From the declaration come the type, the
 * text form, JSON and the binary formats. Names and fields follow the kernel's trace points where
 * one exists (system "kvm"); ours are in the system "faultline".
 *
 * Nobody listening: one branch and the sequence number. Otherwise the record goes as numbers into
 * a ring; streaming sinks read the ring, `on` builds a frozen object only for its event.
 */
import { EventEmitter } from "eventemitter3";
import type { Agents } from "./agents.js";
import type { Running } from "./running.js";
import type { StateRegistry } from "./state.js";
import { Texts } from "./texts.js";

/**
 * How a field is written:
 * dec, hex: one number, exact below 2^53; hex64: two numbers (high word, low word);
 * enum: index into `values`; name: a string interned with `bus.name`; bool: 0 or 1.
 */
export type FieldKind = "dec" | "hex" | "hex64" | "enum" | "name" | "bool";

export interface Field {
  readonly name: string;
  readonly kind: FieldKind;
  readonly values?: readonly string[];
  readonly unit?: string;
}

export interface EventDecl<F extends readonly Field[] = readonly Field[], N extends string = string> {
  readonly id: number;
  readonly system: "kvm" | "faultline";
  readonly name: N;
  readonly doc: string;
  readonly fields: F;
  /** Numbers that `emit` takes: one per field, two for hex64. */
  readonly words: number;
}

/** All declared events, by id. Filled while modules load, then constant. */
const catalogue: EventDecl[] = [];
const byName = new Map<string, EventDecl>();

export function declareEvent<const N extends string, const F extends readonly Field[]>(
  system: "kvm" | "faultline",
  name: N,
  doc: string,
  fields: F,
): EventDecl<F, N> {
  if (byName.has(name)) throw new Error(`event ${name} is declared twice`);
  const words = fields.reduce((n, f) => n + (f.kind === "hex64" ? 2 : 1), 0);
  if (words > MAX_WORDS) throw new Error(`event ${name} has more than ${MAX_WORDS} words`);
  const decl = Object.freeze({ id: catalogue.length, system, name, doc, fields, words });
  catalogue.push(decl);
  byName.set(name, decl);
  return decl;
}

/** Every declared event, in declaration order. */
export function eventCatalogue(): readonly EventDecl[] {
  return catalogue;
}
export function findEvent(name: string): EventDecl | undefined {
  return byName.get(name);
}

const HEAD_WORDS = 4;
const MAX_WORDS = 10;
/** One ring record: seq, time, agent, event, then MAX_WORDS words. */
export const RECORD_WORDS = HEAD_WORDS + MAX_WORDS;

/** What every event carries. */
export interface EventHead {
  readonly seq: number;
  /** Cycles of the agent's clock. */
  readonly time: number;
  readonly agent: string;
  readonly event: string;
}
/** An event as a listener gets it. Values: number, string (enum, name, hex64), boolean. */
export interface EventRecord extends EventHead {
  readonly [field: string]: number | string | boolean;
}

/** A streaming sink: gets the ring and a range of records [from, to) in it. */
export type RecordSink = (ring: Float64Array, from: number, to: number) => void;

/** An observer of the calls that agents make, told at their places between the events. `call` is a Call of src/api. */
export interface CallSink {
  began(agent: number, time: number, call: unknown): void;
  ended(agent: number, time: number, ret: number): void;
}

const RING_RECORDS = 4096;

export class EventBus {
  private readonly ring = new Float64Array(RING_RECORDS * RECORD_WORDS);
  private ringLength = 0;
  private sinks: RecordSink[] = [];
  private callSinks: CallSink[] = [];
  private readonly emitter = new EventEmitter<string>();
  /** True while somebody looks. */
  listening = false;
  private listeners = 0;
  private readonly names = new Texts();
  private agents: Agents | undefined;
  /** The event that `when` waits for, and what is called then. */
  private awaited = Infinity;
  private reached: () => void = () => undefined;

  constructor(
    state: StateRegistry,
    private readonly run: Running,
  ) {
    const pool = state.f64("events.seq", 1);
    state.tally({ store: () => pool.set(0, run.seq), load: () => this.backTo(pool.a[0]!) });
  }

  attach(agents: Agents): void {
    this.agents = agents;
  }

  /** Interns a string for a field of kind "name". Not for hot paths: keep the number. */
  name(text: string): number {
    return this.names.id(text);
  }
  nameOf(id: number): string {
    return this.names.text(id);
  }

  /** The sequence number that the next event will get. */
  get seq(): number {
    return this.run.seq;
  }

  /**
   * Emits an event; words in the order of its fields, hex64 as high then low. Nobody listens: one
   * increment and one branch, small enough to be inlined everywhere (defaults for absent words would not be).
   */
  emit(
    ev: EventDecl,
    a?: number,
    b?: number,
    c?: number,
    d?: number,
    e?: number,
    f?: number,
    g?: number,
    h?: number,
    i?: number,
    j?: number,
  ): void {
    const { run } = this;
    run.events = (run.events + 1) | 0;
    if (this.listening === true) this.write(ev, a, b, c, d, e, f, g, h, i, j);
  }

  /**
   * Counts an event of which nobody hears: its words need not be computed, which V8 does not leave out by itself where
   * that reads from pools. @returns false if somebody listens: `emit` it
   */
  unheard(): boolean {
    if (this.listening === true) return false;
    const { run } = this;
    run.events = (run.events + 1) | 0;
    return true;
  }
  /** Counts n events of which nobody hears: only while `listening` is false. */
  passOver(n: number): void {
    this.run.seq += n;
  }

  private write(ev: EventDecl, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0, i = 0, j = 0): void {
    if (this.ringLength === RING_RECORDS) this.flush();
    const r = this.ring;
    const at = this.ringLength * RECORD_WORDS;
    const agents = this.agents!;
    const agent = agents.current;
    const seq = this.run.seq;
    r[at] = seq - 1;
    r[at + 1] = agents.now;
    r[at + 2] = agent;
    r[at + 3] = ev.id;
    r[at + 4] = a;
    r[at + 5] = b;
    r[at + 6] = c;
    r[at + 7] = d;
    r[at + 8] = e;
    r[at + 9] = f;
    r[at + 10] = g;
    r[at + 11] = h;
    r[at + 12] = i;
    r[at + 13] = j;
    this.ringLength++;
    if (this.listeners > 0 && (this.emitter.listenerCount(ev.name) > 0 || this.emitter.listenerCount("*") > 0)) {
      const record = this.decode(r, at);
      this.emitter.emit(ev.name, record);
      this.emitter.emit("*", record);
    }
    if (seq > this.awaited) {
      this.awaited = Infinity;
      this.reached();
    }
  }

  /**
   * Calls `then` once, as soon as the event of this number has been emitted, in the middle of its phase: for
   * copying the state as it stood there. One at a time. @returns a function that stops waiting
   */
  when(seq: number, then: () => void): () => void {
    this.awaited = seq;
    this.reached = then;
    this.listeners++;
    this.listening = true;
    let on = true;
    return () => {
      if (!on) return;
      on = false;
      this.awaited = Infinity;
      this.listeners--;
      this.listening = this.listeners > 0 || this.sinks.length > 0;
    };
  }

  /** Takes over the names of another bus, whose state is about to be copied here. */
  adoptNames(from: EventBus): void {
    this.names.adopt(from.names);
  }

  /** Builds the frozen object of the record that starts at word `at`. */
  decode(ring: Float64Array, at: number): EventRecord {
    const ev = catalogue[ring[at + 3]!]!;
    const out: Record<string, number | string | boolean> = {
      seq: ring[at]!,
      time: ring[at + 1]!,
      agent: this.agents!.name(ring[at + 2]!),
      event: ev.name,
    };
    let w = at + HEAD_WORDS;
    for (const field of ev.fields) {
      out[field.name] = this.value(field, ring, w);
      w += field.kind === "hex64" ? 2 : 1;
    }
    return Object.freeze(out) as EventRecord;
  }
  /** One field of the record that starts at word `at`, as in its object. @throws Error for a field that the event has not */
  field(ring: Float64Array, at: number, name: string): number | string | boolean {
    const ev = catalogue[ring[at + 3]!]!;
    let w = at + HEAD_WORDS;
    for (const field of ev.fields) {
      if (field.name === name) return this.value(field, ring, w);
      w += field.kind === "hex64" ? 2 : 1;
    }
    throw new Error(`${ev.name} has no field ${name}`);
  }
  /** The field whose value begins at word w. */
  private value(field: Field, ring: Float64Array, w: number): number | string | boolean {
    const v = ring[w]!;
    switch (field.kind) {
      case "dec":
      case "hex":
        return v;
      case "hex64":
        return hex64(v, ring[w + 1]!);
      case "enum":
        return field.values?.[v] ?? String(v);
      case "name":
        return this.nameOf(v);
      case "bool":
        return v !== 0;
    }
  }

  /** Work was undone: what it emitted has not happened, and its numbers are given again. */
  private backTo(next: number): void {
    while (this.ringLength > 0 && this.ring[(this.ringLength - 1) * RECORD_WORDS]! >= next) this.ringLength--;
    this.run.seq = next;
  }
  /** Before work that may be undone: so many events of it stay in the ring. */
  room(events: number): void {
    if (this.ringLength + events > RING_RECORDS) this.flush();
  }

  /** Hands the ring's records to the sinks and empties it. */
  flush(): void {
    const n = this.ringLength;
    this.ringLength = 0;
    if (n > 0) for (const sink of this.sinks) sink(this.ring, 0, n);
  }

  /** Somebody observes the calls. */
  get callsWatched(): boolean {
    return this.callSinks.length > 0;
  }
  /** An agent begins a call. */
  callBegan(agent: number, call: unknown): void {
    if (this.callSinks.length === 0) return;
    this.flush();
    const time = this.agents!.clockOf(agent);
    for (const s of this.callSinks) s.began(agent, time, call);
  }
  /** An agent's call has returned. */
  callEnded(agent: number, ret: number): void {
    if (this.callSinks.length === 0) return;
    this.flush();
    const time = this.agents!.clockOf(agent);
    for (const s of this.callSinks) s.ended(agent, time, ret);
  }

  /** Attaches a streaming sink, and an observer of calls; call the result to flush and detach it. */
  stream(sink: RecordSink, calls?: CallSink): () => void {
    this.sinks.push(sink);
    if (calls !== undefined) this.callSinks.push(calls);
    this.listening = true;
    return () => {
      this.flush();
      this.sinks = this.sinks.filter((s) => s !== sink);
      this.callSinks = this.callSinks.filter((s) => s !== calls);
      this.listening = this.listeners > 0 || this.sinks.length > 0;
    };
  }

  /** Listens to one event, or to "*". Listeners are synchronous and cannot change the machine. */
  on(name: string, listener: (record: EventRecord) => void): () => void {
    if (name !== "*" && findEvent(name) === undefined) throw new Error(`no event named ${name}`);
    this.emitter.on(name, listener);
    this.listeners++;
    this.listening = true;
    let on = true;
    return () => {
      if (!on) return;
      on = false;
      this.emitter.off(name, listener);
      this.listeners--;
      this.listening = this.listeners > 0 || this.sinks.length > 0;
    };
  }
}

/** 0x…, 64-bit, from two words. */
export function hex64(hi: number, lo: number): string {
  const h = hi >>> 0;
  const l = (lo >>> 0).toString(16);
  return h === 0 ? `0x${l}` : `0x${h.toString(16)}${l.padStart(8, "0")}`;
}
