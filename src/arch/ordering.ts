/**
 * What barriers, acquire and release, and the synchronisation of TLB invalidations do to the buffers (Arm ARM B2.3,
 * B2.7, D8.14.5). One object for all CPUs; absent while buffers are not modelled.
 *
 * A DVMSync is answered by a CPU after its accesses through the old translation have completed: everything in its
 * buffers has reached the point of serialisation (not the end point), whatever barriers that CPU itself executes.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { EarlyAccesses } from "./orderingearly.js";
import type { PhysicalMemory } from "./phys.js";
import { DRAIN_BARRIER, DRAIN_DVM, DRAIN_OWN, StoreBuffers, type MemorySide } from "./storebuffer.js";

export const BUFFER_MODES = ["off", "modelled", "weak"] as const;
export type BufferMode = (typeof BUFFER_MODES)[number];

/**
 * Device and Normal-NC accesses are outer shareable, so that a barrier of the inner shareable domain need not order
 * them. Most interconnects have one domain, "merged"; "strict" tells them apart as the architecture permits.
 */
export const SHAREABILITIES = ["merged", "strict"] as const;

/** Type bits of a barrier: 1 loads, 2 stores; bits 3:2 are its domain. */
const STORES = 2;
const BOTH = 3;
const NSH = 1;
const ISH = 2;

export class Ordering {
  readonly buffers: StoreBuffers;
  readonly early: EarlyAccesses;
  /** Per CPU: READ_SERROR or READ_UNCONTAINED while a physical SError is pending. */
  private readonly serrors: I32Pool;

  constructor(
    sim: Sim,
    phys: PhysicalMemory,
    readonly cpus: number,
    readonly weak: boolean,
    /** FEAT_ETS2 or 3: a fault is ordered after the accesses before it. */
    ets: number,
    /** What is behind the buffers; RAM if absent. */
    memory?: MemorySide,
    /** Inner shareable barriers do not order Device and Normal-NC accesses. */
    readonly strict = false,
    /** Bytes of a peripheral, to which Device-nR accesses keep their order; everything behind a bridge if absent. */
    peripheralBlock?: number,
  ) {
    this.buffers = new StoreBuffers(sim, phys, cpus, weak, memory, peripheralBlock);
    this.early = new EarlyAccesses(sim, cpus, ets);
    this.serrors = sim.state.i32("buffers.serror", cpus);
  }

  raiseSerror(cpu: number, kind: number): void {
    this.serrors.set(cpu, kind);
  }
  /** Takes the pending SError of a CPU. @returns its kind, 0 if there is none */
  takeSerror(cpu: number): number {
    const kind = this.serrors.a[cpu]!;
    if (kind !== 0) this.serrors.set(cpu, 0);
    return kind;
  }

  /** DMB. With later loads in its scope earlier stores must be seen first; without, they only keep their order. */
  dmb(cpu: number, type: number): void {
    const reach = this.reach(type);
    if (reach !== NSH) {
      if ((type & BOTH) !== BOTH) {
        if ((type & STORES) !== 0) this.buffers.newEpoch(cpu, reach === ISH);
      } else if (reach === ISH) this.buffers.drainWriteBack(cpu, DRAIN_BARRIER);
      else this.buffers.drainAll(cpu, DRAIN_BARRIER);
    }
    if ((type & 1) !== 0) this.early.loadBarrier(cpu);
  }

  /** Whom a barrier orders for: NSH nobody else, ISH the holders of write-back memory, else everybody. */
  private reach(type: number): number {
    return this.strict ? (type >> 2) & 3 : 0;
  }

  /** DSB: earlier stores are complete. Whatever answers from the end of its path has answered. */
  dsb(cpu: number, type: number): void {
    const reach = this.reach(type);
    if ((type & STORES) !== 0 && reach !== NSH) {
      if (reach === ISH) this.buffers.drainWriteBack(cpu, DRAIN_BARRIER);
      else {
        this.buffers.drainAll(cpu, DRAIN_BARRIER);
        this.buffers.port.complete(cpu);
      }
    }
    this.early.dsb(cpu);
  }

  /** ISB and other context synchronisation events: nothing drains; what was done early is done again. */
  contextSync(cpu: number): void {
    this.early.drop(cpu);
  }

  /** LDAR: after a store-release that is still buffered; nothing behind it was done early. */
  acquire(cpu: number): void {
    if (this.buffers.holdsRelease(cpu)) this.buffers.drainAll(cpu, DRAIN_BARRIER);
    this.early.loadBarrier(cpu);
  }
  /** Exclusives and atomics go to the memory system themselves. */
  atomic(cpu: number): void {
    this.buffers.drainAll(cpu, DRAIN_BARRIER);
  }

  /**
   * The DVMSync of a DSB that completed broadcast invalidations: every other CPU answers.
   * @param xs false: only accesses with XS = 0 are waited for (nXS)
   */
  dvmSync(cpu: number, xs: boolean): void {
    for (let c = 0; c < this.cpus; c++) {
      // The DSB itself has drained this CPU, unless it was of a domain that does not hold its accesses.
      if (c === cpu && !this.strict) continue;
      if (xs) this.buffers.drainAll(c, DRAIN_DVM);
      else this.buffers.drainWriteBack(c, DRAIN_DVM);
      // An nGnRnE store has completed when the end of its path has answered.
      if (xs) this.buffers.port.complete(c);
    }
  }

  /** One entry leaves of its own accord: what hardware may do at any time. @returns false if it may not */
  leave(cpu: number, n: number): boolean {
    if (n >= this.buffers.count(cpu) || !this.buffers.mayLeave(cpu, n)) return false;
    this.buffers.drain(cpu, n, DRAIN_OWN);
    return true;
  }
  leaveAll(cpu: number): void {
    this.buffers.drainAll(cpu, DRAIN_OWN);
  }
}
