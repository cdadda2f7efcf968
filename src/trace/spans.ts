/**
 * A run as slices on one track per agent, for Chrome's and Perfetto's viewers, where slices of a track nest:
 *
 * CALL          a call of the VMM or of a kernel thread, from its beginning to its return; KVM_RUN is one; in it
 * guest         from kvm_entry to kvm_exit
 * exit: CLASS   from kvm_exit to the next kvm_entry or the return of KVM_RUN; in it, for an abort,
 *   kvm_handle_guest_abort   from kvm_guest_fault to its return, with one slice per phase:
 *     a phase ends where the kernel has its answer (slot, VMA, table pages, pfn) and begins where the last ended
 * invalidate_range         from invalidate_range_start to invalidate_range_end, wherever it runs; in it
 *   what the subscribers do, KVM's unmapping with TLBI and DSB, until the first host entry changes; and the change itself
 *
 * Locks are slices of a second track, since they need not nest with phases. What has no length is an instant.
 * An arrow goes from the invalidate_range_start of an invalidation to the retry that it causes.
 */
import type { Call } from "../api/calls.js";
import { eventCatalogue, RECORD_WORDS, type CallSink, type EventDecl, type RecordSink } from "../sim/events.js";
import { callFields, callName, returned } from "./callslices.js";
import { Invalidations } from "./invalidations.js";
import { EXCEPTION_CLASSES, EXCEPTION_TYPES } from "./kernelformat.js";
import { Stage2Pages } from "./stage2pages.js";
import { taskName, type TraceSource } from "./sink.js";
import { TraceTime } from "./tracetime.js";

/** Tracks: an agent's own, and its locks. */
export type Track = number;
export const agentTrack = (agent: number): Track => 2 * agent;
export const lockTrack = (agent: number): Track => 2 * agent + 1;

export type Arguments = Readonly<Record<string, number | string | boolean>>;

/** The fields of an event, to be read at once: the object is used again. Numbers that people read in hexadecimal are to be written so. */
export interface EventFields {
  readonly ring: Float64Array;
  /** The word of the ring where its record begins. */
  readonly at: number;
}

export const isFields = (args: Arguments | EventFields): args is EventFields => (args as Partial<EventFields>).ring instanceof Float64Array;

/**
 * Writes slices. Times are nanoseconds. Beginnings and ends of a track come in the order of time and nest; where
 * times are equal, the order in which they are told is that of the trace.
 */
export interface SpanWriter {
  track(track: Track, name: string): void;
  begin(track: Track, time: number, name: string, args: Arguments | EventFields): void;
  /** @param args of the slice, beside those of its beginning */
  end(track: Track, time: number, args?: Arguments): void;
  /** A phase of the track's innermost slice begins, in place of one that began and had no end; its name is known at its end. */
  phaseBegin(track: Track): void;
  /** It ends. */
  phase(track: Track, from: number, to: number, name: string): void;
  /** It was none. */
  noPhase(track: Track): void;
  /** @param flow number of the arrow that ends here, 0 for none */
  instant(track: Track, time: number, name: string, args: EventFields, flow: number): void;
  /** The arrow begins here. */
  flowStart(track: Track, time: number, name: string, flow: number): void;
  counter(name: string, time: number, value: number): void;
}

/** Where a phase of the fault ends, and what it is called. */
const PHASE_ENDS: Readonly<Record<string, string>> = {
  memslot_lookup: "gfn_to_memslot",
  fault_vma: "find_vma",
  memory_cache_topup: "topup memory cache",
  pfn_lookup: "gfn to pfn",
};
/** Once a fault has its page, what follows under mmu_lock. */
const LAST_PHASE = "stage 2";
export const INVALIDATE = "invalidate_range";
/** The phases of an invalidation: they can be many events long, and are named at their beginning. */
const SUBSCRIBERS = "invalidate_range_start: subscribers";
const HOST_ENTRIES = "host page tables";
const FAULT = "kvm_handle_guest_abort";
/** As lock_acquired has them. */
const LOCK_MODES = ["read", "write"];

interface AgentState {
  /** Names of the open slices of the agent's track, outermost first. */
  readonly open: string[];
  /** Of those, how many are its call's and stay open until it returns: 0 or 1. */
  calls: number;
  /** Host address of the present fault, -1 unknown; and where among the events the fault began. */
  hva: number;
  faultSeq: number;
  readonly locks: string[];
  /** Where the present phase of the present fault began, -1 outside of a fault. */
  phase: number;
  mapped: boolean;
  /** Its last invalidate_range_end is not counted yet by its VM. */
  ended: boolean;
}

export class Spans {
  private readonly time = new TraceTime();
  private readonly agents: AgentState[] = [];
  private readonly pages = new Stage2Pages();
  private sequence = 0;
  private inProgress = 0;
  private flows = 0;
  private readonly invalidations = new Invalidations();
  /** By event id. */
  private readonly actions: ((agent: number, time: number, ring: Float64Array, at: number) => void)[];
  /** By number of the name, twice, and mode: what a lock's slice is called. */
  private readonly lockNames: string[] = [];
  private readonly fields: { ring: Float64Array; at: number } = { ring: new Float64Array(0), at: 0 };
  readonly take: RecordSink;
  /** What is told of calls. */
  readonly calls: CallSink;

  constructor(
    private readonly writer: SpanWriter,
    private readonly source: TraceSource,
  ) {
    this.actions = eventCatalogue().map((e) => this.action(e));
    this.take = (ring, from, to) => {
      for (let at = from * RECORD_WORDS; at < to * RECORD_WORDS; at += RECORD_WORDS) {
        const agent = ring[at + 2]!;
        this.actions[ring[at + 3]!]!(agent, this.time.at(agent, ring[at + 1]!), ring, at);
      }
    };
    this.calls = {
      began: (agent, time, call) => {
        const s = this.state(agent);
        const at = this.time.between(agent, time);
        // One that never returned: a budget or a crash ended it.
        this.endAll(agent, at, s, 0);
        this.begin(agent, at, s, callName(call as Call), callFields(call as Call));
        s.calls = 1;
      },
      ended: (agent, time, ret) => {
        const s = this.state(agent);
        if (s.calls === 0) return;
        const at = this.time.between(agent, time);
        this.endAll(agent, at, s, 1);
        s.open.pop();
        s.calls = 0;
        this.writer.end(agentTrack(agent), at, returned(ret));
      },
    };
  }

  private state(agent: number): AgentState {
    let s = this.agents[agent];
    if (s === undefined) {
      s = this.agents[agent] = {
        open: [],
        calls: 0,
        hva: -1,
        faultSeq: 0,
        locks: [],
        phase: -1,
        mapped: false,
        ended: false,
      };
      this.writer.track(agentTrack(agent), taskName(this.source.agents, agent));
    }
    return s;
  }

  private action(e: EventDecl): (agent: number, time: number, ring: Float64Array, at: number) => void {
    const phase = PHASE_ENDS[e.name];
    const own = this.special(e);
    return (agent, time, ring, at) => {
      const s = this.state(agent);
      if (phase !== undefined && s.phase >= 0 && s.open.at(-1) === FAULT) {
        this.writer.phase(agentTrack(agent), s.phase, time, phase);
        this.phaseBegin(agent, time, s);
        s.mapped ||= e.name === "pfn_lookup";
      }
      if (own !== undefined) own(agent, time, s, ring, at);
      else this.writer.instant(agentTrack(agent), time, e.name, this.args(ring, at), 0);
      s.ended = e.name === "mmu_notifier_invalidate_range_end";
    };
  }

  private special(e: EventDecl): ((agent: number, time: number, s: AgentState, ring: Float64Array, at: number) => void) | undefined {
    const { writer } = this;
    switch (e.name) {
      case "kvm_entry":
        return (agent, time, s, ring, at) => {
          this.endAll(agent, time, s);
          this.begin(agent, time, s, "guest", this.args(ring, at));
        };
      case "kvm_exit":
        return (agent, time, s, ring, at) => {
          this.endAll(agent, time, s);
          this.begin(agent, time, s, `exit: ${exitName(ring[at + 4]!, ring[at + 5]!)}`, this.args(ring, at));
        };
      case "kvm_userspace_exit":
        return (agent, time, s, ring, at) => {
          writer.instant(agentTrack(agent), time, e.name, this.args(ring, at), 0);
          this.endAll(agent, time, s);
        };
      case "kvm_guest_fault":
        return (agent, time, s, ring, at) => {
          this.begin(agent, time, s, FAULT, this.args(ring, at));
          this.phaseBegin(agent, time, s);
          s.mapped = false;
          s.hva = -1;
          s.faultSeq = ring[at]!;
        };
      case "memslot_lookup":
        return (agent, time, s, ring, at) => {
          s.hva = ring[at + 6]!;
          writer.instant(agentTrack(agent), time, e.name, this.args(ring, at), 0);
        };
      case "guest_abort":
        return (agent, time, s, ring, at) => {
          if (s.mapped && s.open.at(-1) === FAULT) writer.phase(agentTrack(agent), s.phase, time, LAST_PHASE);
          this.noPhase(agent, s);
          writer.instant(agentTrack(agent), time, e.name, this.args(ring, at), 0);
          this.end(agent, time, s, FAULT);
        };
      case "mmu_notifier_invalidate_range_start":
        return (agent, time, s, ring, at) => {
          this.begin(agent, time, s, INVALIDATE, this.args(ring, at));
          this.begin(agent, time, s, SUBSCRIBERS, {});
          this.invalidations.started({ agent, time, from: ring[at + 5]!, to: ring[at + 6]! });
          writer.counter("mmu_notifier invalidations in progress", time, ++this.inProgress);
        };
      case "mmu_notifier_invalidate_range_end":
        return (agent, time, s, ring, at) => {
          this.end(agent, time, s, INVALIDATE);
          this.invalidations.ended(agent, ring[at]!);
          this.inProgress = Math.max(0, this.inProgress - 1);
          writer.counter("mmu_notifier invalidations in progress", time, this.inProgress);
        };
      case "host_entry":
        return (agent, time, s, ring, at) => {
          if (s.open.at(-1) === SUBSCRIBERS) {
            this.end(agent, time, s, SUBSCRIBERS);
            this.begin(agent, time, s, HOST_ENTRIES, {});
          }
          writer.instant(agentTrack(agent), time, e.name, this.args(ring, at), 0);
        };
      case "mmu_retry":
        return (agent, time, s, ring, at) => {
          const cause = this.invalidations.causeOf(s.faultSeq, s.hva);
          const flow = cause === undefined ? 0 : ++this.flows;
          if (cause !== undefined) writer.flowStart(agentTrack(cause.agent), cause.time, "invalidate_range_start", flow);
          writer.instant(agentTrack(agent), time, "mmu_retry", this.args(ring, at), flow);
        };
      case "lock_acquired":
        return (agent, time, s, ring, at) => this.lock(agent, time, s, ring[at + 4]!, ring[at + 5]!);
      case "lock_released":
        return (agent, time, s, ring, at) => this.unlock(agent, time, s, this.source.bus.nameOf(ring[at + 4]!));
      case "stage2_entry":
        return (agent, time, _s, ring, at) => {
          const before = this.pages.total;
          this.pages.entry(ring[at + 4]!, ring[at + 6]!, ring[at + 8]!, ring[at + 9]!, ring[at + 10]!, ring[at + 11]!);
          writer.instant(agentTrack(agent), time, e.name, this.args(ring, at), 0);
          if (this.pages.total !== before) writer.counter("stage-2 pages mapped", time, this.pages.total);
        };
      default:
        return undefined;
    }
  }

  private begin(agent: number, time: number, s: AgentState, name: string, args: Arguments | EventFields): void {
    s.open.push(name);
    this.writer.begin(agentTrack(agent), time, name, args);
  }
  private phaseBegin(agent: number, time: number, s: AgentState): void {
    s.phase = time;
    this.writer.phaseBegin(agentTrack(agent));
  }
  private noPhase(agent: number, s: AgentState): void {
    if (s.phase < 0) return;
    s.phase = -1;
    this.writer.noPhase(agentTrack(agent));
  }
  /** Ends the innermost slice of that name and what is open in it. */
  private end(agent: number, time: number, s: AgentState, name: string): void {
    const at = s.open.lastIndexOf(name);
    if (at < 0) return;
    for (; s.open.length > at; s.open.pop()) this.writer.end(agentTrack(agent), time);
  }
  /** Ends what is open, but not the call around it. @param keep how many of the outermost slices stay open */
  private endAll(agent: number, time: number, s: AgentState, keep = s.calls): void {
    this.noPhase(agent, s);
    for (; s.open.length > keep; s.open.pop()) this.writer.end(agentTrack(agent), time);
  }

  /** @param id of the lock's name */
  private lock(agent: number, time: number, s: AgentState, id: number, mode: number): void {
    const lock = this.source.bus.nameOf(id);
    if (s.locks.length === 0) this.writer.track(lockTrack(agent), `${taskName(this.source.agents, agent)} locks`);
    s.locks.push(lock);
    this.writer.begin(lockTrack(agent), time, (this.lockNames[2 * id + mode] ??= `${lock} (${LOCK_MODES[mode]!})`), {});
    // kvm_mmu_notifier_invalidate_range_end counts under mmu_lock; from v5.15 only where a slot overlaps.
    if (s.ended && lock === "mmu_lock") this.writer.counter("mmu_invalidate_seq", time, ++this.sequence);
  }
  /** A lock that is not the last taken: those above it are closed and opened again. */
  private unlock(agent: number, time: number, s: AgentState, lock: string): void {
    const at = s.locks.lastIndexOf(lock);
    if (at < 0) return;
    const above = s.locks.splice(at).slice(1);
    for (let i = 0; i <= above.length; i++) this.writer.end(lockTrack(agent), time);
    for (const name of above) {
      s.locks.push(name);
      this.writer.begin(lockTrack(agent), time, name, {});
    }
  }

  private args(ring: Float64Array, at: number): EventFields {
    this.fields.ring = ring;
    this.fields.at = at;
    return this.fields;
  }

  /** Closes what is open where the run ended. */
  finish(): void {
    for (const [agent, s] of this.agents.entries()) {
      if (s === undefined) continue;
      const time = this.time.now;
      this.endAll(agent, time, s, 0);
      for (; s.locks.length > 0; s.locks.pop()) this.writer.end(lockTrack(agent), time);
    }
  }
}

const TYPES = new Map(EXCEPTION_TYPES);
const CLASSES = new Map(EXCEPTION_CLASSES);
const TRAP = 2;
/** As `perf kvm stat` names an exit: the exception class of a trap, else the type. */
export function exitName(ret: number, ec: number): string {
  if (ret === TRAP) return CLASSES.get(ec) ?? `EC 0x${ec.toString(16)}`;
  return TYPES.get(ret) ?? String(ret);
}

/** Events that this file gives a meaning by name: a test checks that each is declared. */
export const SPAN_EVENTS = [
  ...Object.keys(PHASE_ENDS),
  "kvm_entry",
  "kvm_exit",
  "kvm_userspace_exit",
  "kvm_guest_fault",
  "guest_abort",
  "mmu_notifier_invalidate_range_start",
  "mmu_notifier_invalidate_range_end",
  "host_entry",
  "mmu_retry",
  "lock_acquired",
  "lock_released",
  "stage2_entry",
] as const;
