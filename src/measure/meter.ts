/**
 * Counts what a run does, from its events as numbers: guest faults, TLBIs, barriers, exits, writes of BARs, and how long
 * each guest data access took, from its first TLB miss to the access that went through.
 *
 * A RAM access that hits the TLB makes no event; how many of them there were is found by a second run (measure.ts).
 */
import { findEvent, RECORD_WORDS } from "../sim/events.js";
import type { CostTable } from "../sim/costs.js";
import type { Machine } from "../machine.js";
import { Distribution } from "./latency.js";

/** What happened in a phase. */
export interface Counts {
  /** Stage-2 aborts that reached kvm_handle_guest_abort. */
  faults: number;
  /** TLBI operations, of host and guest. */
  tlbis: number;
  /** DSBs that completed a TLBI. */
  dsbs: number;
  /** Times the guest was left. */
  traps: number;
  /** KVM_RUN returned to the VMM for an access. */
  exits: number;
  /** Stores to BARs. */
  barStores: number;
  /** Write requests that carried them; what these would be if a CPU gathered stores to one 64-byte line; bytes. */
  barWrites: number;
  barLines: number;
  barBytes: number;
}
export const noCounts = (): Counts => ({
  faults: 0,
  tlbis: 0,
  dsbs: 0,
  traps: 0,
  exits: 0,
  barStores: 0,
  barWrites: 0,
  barLines: 0,
  barBytes: 0,
});

const id = (name: string): number => findEvent(name)?.id ?? -1;
const EV = {
  tlbMiss: id("tlb_miss"),
  walk: id("stage2_walk"),
  abort: id("memory_abort"),
  fault: id("kvm_guest_fault"),
  tlbi: id("tlbi"),
  dsb: id("dsb"),
  exit: id("kvm_exit"),
  entry: id("kvm_entry"),
  mmio: id("kvm_mmio"),
  read: id("device_read"),
  write: id("device_write"),
  buffered: id("store_buffered"),
  request: id("tlp_memory_write"),
};
/** First word of an event's fields in a record. */
const F = 4;
/** Exception classes of instruction aborts. */
const EC_IABT_LOW = 0x20;
const EC_IABT_CUR = 0x21;
/** Kinds of tlb_miss that are a guest's data accesses. */
const READ = 0;
const WRITE = 1;

/** A guest access on its way, one for each vCPU. */
interface Access {
  /** When it began; -1 while there is none. */
  since: number;
  vaHi: number;
  vaLo: number;
  /** When a walk last gave it a translation; -1 while none did. */
  translated: number;
  /** The VMM answers it. */
  emulated: boolean;
  /** The 64-byte line of the last store to a BAR. */
  line: number;
  /** The walk under way is of an instruction fetch. */
  fetching: boolean;
  /** Cycles of the last store that hit the TLB and went to a buffer, with the requests that left since; -1: none. */
  buffered: number;
}

export class Meter {
  counts = noCounts();
  latency = new Distribution();
  /** RAM accesses in `latency`. */
  ramAccesses = 0;
  private readonly accesses = new Map<number, Access>();
  private readonly costs: CostTable;
  private readonly detach: () => void;

  constructor(private readonly machine: Machine) {
    this.costs = machine.sim.costs;
    this.detach = machine.sim.bus.stream((ring, from, to) => this.take(ring, from, to));
  }

  /** Starts over for the next phase. */
  next(): { readonly counts: Counts; readonly latency: Distribution; readonly ramAccesses: number } {
    this.machine.sim.bus.flush();
    for (const a of this.accesses.values()) {
      this.finishRam(a);
      this.finishBuffered(a);
    }
    const { counts, latency, ramAccesses } = this;
    this.counts = noCounts();
    this.latency = new Distribution();
    this.ramAccesses = 0;
    return { counts, latency, ramAccesses };
  }

  stop(): void {
    this.detach();
  }

  private take(ring: Float64Array, from: number, to: number): void {
    for (let n = from; n < to; n++) this.record(ring, n * RECORD_WORDS);
  }

  private record(r: Float64Array, at: number): void {
    const c = this.counts;
    const time = r[at + 1]!;
    const event = r[at + 3]!;
    if (event === EV.tlbi) c.tlbis++;
    else if (event === EV.dsb) c.dsbs += r[at + F + 1]! > 0 ? 1 : 0;
    const a = this.access(r[at + 2]!);
    if (a === undefined) return;
    if (event === EV.dsb) this.finishBuffered(a);
    if (event === EV.fault) c.faults++;
    else if (event === EV.exit) c.traps++;
    else if (event === EV.tlbMiss) this.missed(a, time, r[at + F]!, r[at + F + 1]!, r[at + F + 4]!);
    else if (event === EV.walk) {
      if (a.since >= 0 && !a.fetching) a.translated = r[at + F + 5] === 0 ? time : -1;
    } else if (event === EV.abort) this.aborted(a, time, r[at + F]!, r[at + F + 1]!, r[at + F + 2]!, r[at + F + 4]!);
    else if (event === EV.read) this.device(a, time, this.costs.deviceAccess);
    else if (event === EV.write) {
      if (this.machine.fabric === undefined) this.written(a, time, r[at + F]!, r[at + F + 1]!);
    } else if (event === EV.buffered) {
      if (!this.machine.phys.isRam(r[at + F + 2]!)) this.buffered(a, time);
    } else if (event === EV.request) this.requested(a, r[at + F + 1]!, r[at + F + 2]!);
    else if (event === EV.mmio) {
      a.emulated = true;
      c.exits++;
    } else if (event === EV.entry && a.emulated) this.finish(a, time);
  }

  /** A store without buffers: a request of its own, which has arrived. */
  private written(a: Access, time: number, pa: number, size: number): void {
    const c = this.counts;
    const line = Math.floor(pa / 64);
    c.barStores++;
    c.barWrites++;
    if (line !== a.line) c.barLines++;
    a.line = line;
    c.barBytes += size;
    this.device(a, time, this.write(size));
  }

  /** What a CPU and the link take for one write request. @param bytes of it */
  private write(bytes: number): number {
    return this.costs.deviceWrite + this.costs.tlp + this.costs.tlpDword * ((bytes + 3) >> 2);
  }

  /** A store is in its CPU's buffer, which is all that the CPU waits for; what must leave for it follows. */
  private buffered(a: Access, time: number): void {
    this.counts.barStores++;
    this.finishBuffered(a);
    if (a.since >= 0 && a.translated >= 0) this.finish(a, time);
    else a.buffered = this.costs.tlbHit;
  }
  private requested(a: Access, length: number, bytes: number): void {
    this.counts.barWrites++;
    this.counts.barLines++;
    this.counts.barBytes += bytes;
    if (a.buffered >= 0) a.buffered += this.write(length);
  }
  private finishBuffered(a: Access): void {
    if (a.buffered >= 0) this.latency.add(a.buffered);
    a.buffered = -1;
  }

  /** The access of a vCPU's agent; undefined for another agent. */
  private access(agent: number): Access | undefined {
    let a = this.accesses.get(agent);
    if (a === undefined && this.machine.sim.agents.kind(agent) === "vcpu") {
      a = { since: -1, vaHi: 0, vaLo: 0, translated: -1, emulated: false, line: -1, fetching: false, buffered: -1 };
      this.accesses.set(agent, a);
    }
    return a;
  }

  private missed(a: Access, time: number, vaHi: number, vaLo: number, kind: number): void {
    a.fetching = kind !== READ && kind !== WRITE;
    if (a.fetching) return;
    if (a.since >= 0 && a.vaHi === vaHi && a.vaLo === vaLo && a.translated < 0) return;
    this.finishRam(a);
    this.begin(a, time, vaHi, vaLo);
  }

  /** An abort of a translation that the TLB had; one of a walk belongs to the access that missed. */
  private aborted(a: Access, time: number, esr: number, vaHi: number, vaLo: number, el: number): void {
    const ec = Math.floor(esr / 2 ** 26) & 0x3f;
    if (ec === EC_IABT_LOW || ec === EC_IABT_CUR) return;
    // An exception of the guest's own: the access does not go through.
    if (el === 1) {
      a.since = -1;
      return;
    }
    if (a.since >= 0 && a.vaHi === vaHi && a.vaLo === vaLo) {
      a.translated = -1;
      return;
    }
    this.finishRam(a);
    this.begin(a, time, vaHi, vaLo);
  }

  private begin(a: Access, time: number, vaHi: number, vaLo: number): void {
    a.since = time;
    a.vaHi = vaHi;
    a.vaLo = vaLo;
    a.translated = -1;
    a.emulated = false;
  }

  private device(a: Access, time: number, hit: number): void {
    if (a.since >= 0 && a.translated >= 0) this.finish(a, time);
    else this.latency.add(hit + this.costs.tlbHit);
  }

  private finish(a: Access, time: number): void {
    if (a.since >= 0) this.latency.add(time - a.since);
    a.since = -1;
    a.emulated = false;
  }

  /** A translated access that reached no device was one of RAM. */
  private finishRam(a: Access): void {
    if (a.since < 0 || a.translated < 0) return;
    this.ramAccesses++;
    this.finish(a, a.translated + this.costs.ramAccess);
  }
}
