/**
 * What hardware does of its own accord between two instructions of a guest, by a seed (weak mode): a store leaves a
 * buffer before its turn, a request on its way takes a step, an access or walk goes ahead of its turn, a TLBI takes
 * effect before its DSB. The same seed gives the same run; exploration goes through all of it instead.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { Ordering } from "./ordering.js";
import type { LookAhead } from "./orderingahead.js";
import { PC, type RegisterFile } from "./registers.js";
import type { TlbMaintenance } from "./tlbi.js";

/** Steps that one look may take: the guest is slow against its hardware. */
const STEPS = 2;

/** What is asked before every instruction of a guest in weak mode. */
export interface Hardware {
  /** Before the next instruction of vCPU v on the running CPU. */
  act(v: number): void;
}

/** An explorer or a schedule takes the steps (src/vfio/hardwaresteps.ts): only the path of the instructions is watched. */
export class HardwareByOthers implements Hardware {
  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly ordering: Ordering,
  ) {}

  act(v: number): void {
    this.ordering.early.follow(this.sim.agents.cpu, this.regs.lo(v, PC));
  }
}

export class HardwareBySeed implements Hardware {
  /** [0] random state. */
  private readonly random: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly ordering: Ordering,
    private readonly maintenance: TlbMaintenance,
    private readonly ahead: LookAhead,
    seed: number,
  ) {
    this.random = sim.state.i32("hardware.random", 1);
    this.random.set(0, seed | 0);
  }

  private next(): number {
    let x = this.random.a[0]!;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.random.set(0, x);
    return x >>> 0;
  }

  act(v: number): void {
    const { cpu } = this.sim.agents;
    this.ordering.early.follow(cpu, this.regs.lo(v, PC));
    for (let n = 0; n < STEPS; n++) this.step(v);
  }

  private step(v: number): void {
    const r = this.next();
    const { ordering } = this;
    const { buffers } = ordering;
    const { cpu } = this.sim.agents;
    const pick = r >>> 8;
    switch (r & 7) {
      case 0:
      case 1:
      case 2: {
        const of = pick % ordering.cpus;
        const count = buffers.count(of);
        if (count > 0) ordering.leave(of, (pick >>> 8) % count);
        return;
      }
      case 3:
        buffers.port.advance(pick & 3);
        return;
      case 4:
      case 5:
        this.goAhead(v, pick & 1, false);
        return;
      case 6:
        this.goAhead(v, 0, true);
        return;
      default:
        this.maintenance.takeEffect(cpu, pick & 1);
    }
  }

  /** What the access finds is kept; what its walk leaves behind is undone where nobody outside has seen it. */
  private goAhead(v: number, n: number, walk: boolean): void {
    const { state } = this.sim;
    const began = state.beginUndo();
    this.ahead.perform(v, n, walk);
    state.endUndo(began);
  }
}
