/** What every writer of a trace is, and what it knows of the run. */
import type { Agents } from "../sim/agents.js";
import type { CallSink, EventBus, RecordSink } from "../sim/events.js";

/** The run that a trace is of: nothing of the machine that runs it, no path and no clock of its own. */
export interface TraceMeta {
  readonly variant: string;
  /** Era. */
  readonly kernel: string;
  readonly cpu: string;
  readonly set: Readonly<Record<string, string>>;
}

/** Where names come from: the simulation under the machine. */
export interface TraceSource {
  readonly bus: EventBus;
  readonly agents: Agents;
}

export interface TraceSink {
  /** Takes records of the event bus's ring; for `bus.stream`. */
  readonly take: RecordSink;
  /** Is told of calls where the format shows them; for `bus.stream`. */
  readonly calls?: CallSink;
  /** The run is over: writes what is left and gives the file its name. */
  finish(): void;
  /** The run failed: leaves no file. */
  abandon(): void;
}

/** The thread's name in QEMU, which is what people filter by; other agents keep their own. */
export function taskName(agents: Agents, agent: number): string {
  const name = agents.name(agent);
  const vcpu = /^vcpu([0-9]+)$/.exec(name);
  return agents.kind(agent) === "vcpu" && vcpu !== null ? `CPU ${vcpu[1]!}/KVM` : name;
}
/** Thread ids: the VMM's is its process's. */
export const FIRST_PID = 1000;
