/**
 * Slices and arrows of a run for the page, from the same reading of the events that Chrome's and Perfetto's
 * traces have (src/trace/spans.ts), by event instead of by time. Arrows from cause to effect beside those:
 * a range that left stage 2 to the fault that brings it back or the access that still used it; a TLBI to its DSB.
 */
import type { EventRecord } from "../sim/events.js";
import { INVALIDATE, type SpanWriter, type Track } from "../trace/spans.js";
import type { Arrow, SliceColumns } from "./data.js";
import type { Interned } from "./interning.js";

interface Open {
  readonly name: string;
  readonly from: number;
}
interface Slice {
  readonly track: Track;
  readonly from: number;
  readonly to: number;
  readonly name: number;
}

/** Unmapped ranges that are remembered. */
const RANGES = 256;

export class Lanes implements SpanWriter {
  private readonly slices: Slice[] = [];
  readonly arrows: Arrow[] = [];
  /** The event that is being read. */
  private seq = 0;
  private readonly open: Open[][] = [];
  /** By track: where its present phase began, and its last invalidation. */
  private readonly phases = new Map<Track, number>();
  private readonly starts = new Map<Track, number>();
  private readonly flows = new Map<number, number>();
  private unmapped: { readonly seq: number; readonly from: number; readonly to: number }[] = [];
  private readonly tlbi = new Map<string, number[]>();

  constructor(private readonly names: Interned<string>) {}

  /** To be called before the spans take the event. */
  at(e: EventRecord): void {
    this.seq = e.seq;
    switch (e.event) {
      case "stage2_unmap":
        this.unmapped.push({ seq: e.seq, from: Number(e["ipa"]), to: Number(e["ipa"]) + Number(e["size"]) });
        if (this.unmapped.length > RANGES) this.unmapped.shift();
        break;
      case "kvm_guest_fault":
        this.fromUnmapped(Number(e["ipa"]), "unmapped, faults again");
        break;
      case "stale_translation":
        this.fromUnmapped(Number(e["ipa"]), "unmapped, still cached");
        break;
      case "tlbi":
        this.waiting(e.agent).push(e.seq);
        break;
      case "dsb":
        if (Number(e["completed"]) === 0) break;
        for (const from of this.waiting(e.agent)) this.arrows.push({ from, to: e.seq, what: "TLBI, complete" });
        this.tlbi.set(e.agent, []);
    }
  }

  private waiting(agent: string): number[] {
    const own = this.tlbi.get(agent) ?? [];
    this.tlbi.set(agent, own);
    return own;
  }

  private fromUnmapped(ipa: number, what: Arrow["what"]): void {
    const cause = this.unmapped.findLast((r) => r.from <= ipa && ipa < r.to);
    if (cause === undefined) return;
    this.arrows.push({ from: cause.seq, to: this.seq, what });
  }

  private stack(track: Track): Open[] {
    return (this.open[track] ??= []);
  }
  /** A call in which nothing happened has no place among the events. */
  private keep(track: Track, from: number, to: number, name: string): void {
    if (from === to) return;
    this.slices.push({ track, from, to, name: this.names.of(name) });
  }

  /** By track and beginning. The depth of a slice is how many of its track lie around it, so that no row has two at once. */
  get columns(): SliceColumns {
    const sorted = [...this.slices].sort((a, b) => a.track - b.track || a.from - b.from || b.to - a.to);
    const around: Slice[] = [];
    const depth = sorted.map((s) => {
      while (around.length > 0 && (around.at(-1)!.track !== s.track || around.at(-1)!.to <= s.from)) around.pop();
      return around.push(s) - 1;
    });
    return {
      agent: sorted.map((s) => s.track >> 1),
      lock: sorted.map((s) => (s.track & 1) as 0 | 1),
      depth,
      from: sorted.map((s) => s.from),
      to: sorted.map((s) => s.to),
      name: sorted.map((s) => s.name),
    };
  }

  track(): void {
    // The page knows the agents' names itself.
  }
  begin(track: Track, _time: number, name: string): void {
    this.stack(track).push({ name, from: this.seq });
    if (name === INVALIDATE) this.starts.set(track, this.seq);
  }
  end(track: Track): void {
    const o = this.stack(track).pop();
    if (o !== undefined) this.keep(track, o.from, this.seq, o.name);
  }
  phaseBegin(track: Track): void {
    this.phases.set(track, this.seq);
  }
  phase(track: Track, _from: number, _to: number, name: string): void {
    this.keep(track, this.phases.get(track) ?? this.seq, this.seq, name);
  }
  noPhase(): void {
    // The next one begins anew.
  }
  instant(_track: Track, _time: number, _name: string, _args: unknown, flow: number): void {
    const from = this.flows.get(flow);
    if (flow > 0 && from !== undefined) this.arrows.push({ from, to: this.seq, what: "invalidation, retry" });
  }
  flowStart(track: Track, _time: number, _name: string, flow: number): void {
    this.flows.set(flow, this.starts.get(track) ?? this.seq);
  }
  counter(): void {
    // Not shown.
  }
}
