/**
 * What a script may ask of the buffers and the fabric from outside: barriers of the VMM, what hardware does of its own
 * accord, and where a write has got to. Each is an activity of one phase on the caller's CPU.
 */
import { DRAIN_BARRIER } from "../arch/storebuffer.js";
import { DSB_SY } from "../arch/tlbi.js";
import type { Pe } from "../arch/pe.js";
import { ARG, type Activity } from "../sim/agents.js";
import type { Sim } from "../sim/sim.js";
import type { Fabric } from "./fabric.js";

/** Places of a write, from the CPU on; the values of the constants WRITE_AT_ENDPOINT, WRITE_IN_BUFFER, … of scripts. */
export const AT_ENDPOINT = 0;
export const IN_BUFFER = 1;
export const BEFORE_ROOT_COMPLEX = 2;
export const AT_ROOT_COMPLEX = 3;

export const ORDERING_OPS = [
  "dsb",
  "dmb",
  "buffer_drain",
  "fabric_deliver",
  "buffer_leave",
  "fabric_advance",
  "hand_over",
  "speculate_guest",
] as const;
export type OrderingOp = (typeof ORDERING_OPS)[number];

export class OrderingCalls {
  /** (number in ORDERING_OPS, physical CPU of the buffer or vCPU, number of the entry or VA) -> 0; buffer_leave, fabric_advance: 1 if it may */
  readonly op: Activity;

  constructor(
    sim: Sim,
    private readonly pe: Pe,
    private readonly fabric: Fabric | undefined,
  ) {
    const { agents } = sim;
    this.op = agents.activity("orderingCall", "DSB SY, DMB SY by the VMM; what hardware does of its own accord", 3, [
      [
        "now",
        (f) => {
          const s = agents.stack.a;
          return agents.ret(f, this.carryOut(s[f + ARG]!, s[f + ARG + 1]!, s[f + ARG + 2]!) ? 1 : 0);
        },
      ],
    ]);
  }

  private carryOut(op: number, cpu: number, n: number): boolean {
    switch (ORDERING_OPS[op]!) {
      case "dsb":
        this.pe.hostDsb(DSB_SY);
        return false;
      case "dmb":
        this.pe.dmb(-1, DSB_SY);
        return false;
      case "buffer_drain":
        this.pe.ordering?.leaveAll(cpu);
        return false;
      case "fabric_deliver":
        this.fabric?.pushAll();
        return false;
      case "buffer_leave":
        return this.pe.ordering?.leave(cpu, n) === true;
      case "fabric_advance":
        return this.fabric?.advance(n) === true;
      case "speculate_guest":
        return this.pe.speculateGuest(cpu, (n / 4294967296) | 0, n | 0);
      // A thread wakes another: what the one stored to memory the other sees (futex and scheduler have the barriers).
      case "hand_over":
        this.pe.ordering?.buffers.drainWriteBack(this.pe.runningCpu, DRAIN_BARRIER);
        return false;
    }
  }

  /** Where the least advanced write to a physical range is now. */
  place(pa: number, size: number): number {
    const buffers = this.pe.ordering?.buffers;
    if (buffers === undefined) return AT_ENDPOINT;
    for (let cpu = 0; cpu < buffers.cpus; cpu++) if (buffers.holdsAny(cpu, pa, size)) return IN_BUFFER;
    const place = this.fabric?.placeOf(pa, size) ?? 0;
    return place === 0 ? AT_ENDPOINT : place + 1;
  }
}
