/**
 * What a script may ask of the buffers and the fabric from outside: barriers of the VMM, what hardware does of its own
 * accord, and where a write has got to. Each is an activity of one phase on the caller's CPU.
 */
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

export const ORDERING_OPS = ["dsb", "dmb", "buffer_drain", "fabric_deliver"] as const;
export type OrderingOp = (typeof ORDERING_OPS)[number];

export class OrderingCalls {
  /** (number in ORDERING_OPS, physical CPU for buffer_drain) -> 0 */
  readonly op: Activity;

  constructor(
    sim: Sim,
    private readonly pe: Pe,
    private readonly fabric: Fabric | undefined,
  ) {
    const { agents } = sim;
    this.op = agents.activity("orderingCall", "DSB SY, DMB SY by the VMM; what hardware does of its own accord", 2, [
      [
        "now",
        (f) => {
          this.carryOut(agents.stack.a[f + ARG]!, agents.stack.a[f + ARG + 1]!);
          return agents.ret(f, 0);
        },
      ],
    ]);
  }

  private carryOut(op: number, cpu: number): void {
    switch (ORDERING_OPS[op]!) {
      case "dsb":
        this.pe.hostDsb(DSB_SY);
        return;
      case "dmb":
        this.pe.dmb(-1, DSB_SY);
        return;
      case "buffer_drain":
        this.pe.ordering?.leaveAll(cpu);
        return;
      case "fabric_deliver":
        this.fabric?.pushAll();
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
