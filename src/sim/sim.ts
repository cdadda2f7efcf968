/** The ground under every model, in one value: each room's objects take it as their first argument. */
import { Agents, RETURN } from "./agents.js";
import { costTable, type CostTable } from "./costs.js";
import { declareEvent, EventBus } from "./events.js";
import { Interrupts } from "./interrupts.js";
import { Locks } from "./locks.js";
import { Rcu } from "./rcu.js";
import { Running } from "./running.js";
import { StateRegistry, type I32Pool } from "./state.js";

export const hostCrash = declareEvent("faultline", "host_crash", "the modelled host kernel crashed; every activity ends where it stands", [
  { name: "function", kind: "name" },
  { name: "reason", kind: "name" },
]);

export class Sim {
  readonly state: StateRegistry;
  readonly bus: EventBus;
  readonly agents: Agents;
  readonly costs: CostTable;
  readonly locks: Locks;
  readonly rcu: Rcu;
  readonly interrupts: Interrupts;
  /** [0] 1 after a host crash, [1] interned function, [2] interned reason. */
  private readonly crashState: I32Pool;

  /** @param watchReads as of StateRegistry */
  constructor(costs: Readonly<Record<string, number>> = {}, watchReads = false) {
    this.state = new StateRegistry(watchReads);
    const running = new Running();
    this.bus = new EventBus(this.state, running);
    this.agents = new Agents(this.state, running);
    this.costs = costTable(costs);
    this.bus.attach(this.agents);
    this.locks = new Locks(this.state, this.agents, this.bus, this.costs);
    this.rcu = new Rcu(this.state, this.agents);
    this.interrupts = new Interrupts(this.state, this.agents, this.rcu);
    this.crashState = this.state.i32("sim.crash", 3);
  }

  /** The host oopses in a kernel function: a modelled outcome. To be returned from a phase. */
  crash(where: string, reason: string): number {
    this.crashState.set(0, 1);
    this.crashState.set(1, this.bus.name(where));
    this.crashState.set(2, this.bus.name(reason));
    this.bus.emit(hostCrash, this.crashState.a[1], this.crashState.a[2]);
    for (let a = 0; a < this.agents.count; a++) this.agents.abandon(a);
    return RETURN;
  }

  /** What crashed the host, or undefined while it lives. */
  get crashed(): { readonly function: string; readonly reason: string } | undefined {
    if (this.crashState.a[0] === 0) return undefined;
    return { function: this.bus.nameOf(this.crashState.a[1]!), reason: this.bus.nameOf(this.crashState.a[2]!) };
  }
}
